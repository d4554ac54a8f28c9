// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWNER_START_HPP
#define ECDYSIS_LAUNCH_SPAWNER_START_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/spawner_wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/message.hpp>
#include <ecdysis/os/process.hpp>

#include <boost/system/errc.hpp>

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::launch {

/// What a service says to the helper of launch::spawner to start one child, and hears from it; never waits.
class spawner_start
{
public:
    /// `socket` is to outlive it. The descriptors are to stay open until it is over.
    ///
    /// Exceptions: std::bad_alloc, with nothing said; later there are none, for one between a message and its answer would
    /// leave both sides out of step.
    spawner_start(os::borrowed_fd socket, bool siblings, spawner_wire::request const& asked, std::string const& text,
                  std::vector<os::borrowed_fd> fds)
        : socket_{socket}, siblings_{siblings}, number_{asked.start}, request_{reinterpret_cast<char const*>(&asked), sizeof asked}, fds_{std::move(fds)}
    {
        request_ += text;
        strays_.reserve(8);
        came_.reserve(1 + os::max_message_descriptors); // one comes, and receive_message wants so much room
    }

    /// Whether it is over, and then how it went.
    [[nodiscard]] bool go_on(error_code& ec)
    {
        switch (where_) {
        case step::answer: hear(); break;
        case step::room: send_next(); break;
        case step::end: reap_without_pidfd(); break;
        }
        ec = result_.value_or(error_code{});
        return result_.has_value();
    }

    [[nodiscard]] awaited awaits() const noexcept
    {
        return {.readable = where_ == step::answer ? socket_ : os::borrowed_fd{}, .until = until_};
    }

    [[nodiscard]] process take_child() noexcept { return std::move(child_); }
    /// Adds the children of earlier starts, that were given up: killed, and to be reaped.
    void move_strays(std::vector<process>& to)
    {
        std::ranges::move(strays_, std::back_inserter(to));
        strays_.clear();
    }

    /// What comes of it later is another start's to ignore. Errors: as of `ask_to_kill`.
    void give_up(error_code& ec) const noexcept
    {
        if (asked_)
            tell(socket_, {.what = spawner_wire::verb::give_up, .start = number_}, ec);
    }

    /// Without an answer, and so without a wait. Errors: what sendmsg(2) says; `errc::spawner_gone`.
    static void ask_to_kill(os::borrowed_fd socket, os::process_id pid, int signal, error_code& ec) noexcept
    {
        tell(socket, {.what = spawner_wire::verb::kill, .signal = signal, .pid = os::number(pid)}, ec);
    }

    /// A child of ours that has not ended; one that has is reaped.
    [[nodiscard]] static bool is_there(os::process_id pid) noexcept
    {
        ::siginfo_t info{};
        error_code ec;
        os::call(ec, [&] { return ::waitid(P_PID, static_cast<::id_t>(os::number(pid)), &info, WEXITED | WNOHANG); });
        return !ec && info.si_pid == 0;
    }

private:
    static void tell(os::borrowed_fd socket, spawner_wire::request const& what, error_code& ec) noexcept
    {
        os::send_message(socket, std::as_bytes(std::span{&what, 1}), {}, MSG_DONTWAIT, ec);
        if (ec == boost::system::errc::broken_pipe || ec == boost::system::errc::connection_reset)
            ec = errc::spawner_gone;
    }

    using clock = std::chrono::steady_clock;

    /// What it waits for.
    enum class step {
        answer,
        room, ///< for a message, or for descriptors in flight of this user: no descriptor tells when there is some
        end,  ///< of a child for whose pidfd no number was free
    };

    static constexpr std::chrono::seconds patience{10}; ///< with a helper that says nothing
    static constexpr std::chrono::seconds trying{1};    ///< to send one message, or to see the end of a child
    static constexpr std::chrono::milliseconds pause{1};

    /// The request, and at each answer some descriptors.
    void send_next()
    {
        using namespace boost::system::errc;
        error_code ec;
        auto const some = std::span<os::borrowed_fd const>{fds_}.subspan(sent_).first(
            asked_ && !withdrawn_ ? std::min(fds_.size() - sent_, os::max_message_descriptors) : 0);
        if (!asked_)
            os::send_message(socket_, std::as_bytes(std::span{request_}), {}, MSG_DONTWAIT, ec);
        else // where they cannot be sent the helper must not wait for them
            os::send_message(socket_, {withdrawn_ ? &spawner_wire::no_descriptors : &spawner_wire::some_descriptors, 1}, some,
                             MSG_DONTWAIT, ec);
        bool const there = ec != broken_pipe && ec != connection_reset;
        if (ec == resource_unavailable_try_again) {
            if (clock::now() < no_longer_than_)
                return wait(step::room, pause);
            ec = asked_ ? error_code{ETOOMANYREFS, boost::system::system_category()} : errc::spawner_silent;
        }
        if (!ec) {
            sent_ += some.size();
            asked_ = true;
            return wait(step::answer, patience);
        }
        if (!asked_ && there) // nothing was said
            return finish(ec);
        if (!there)
            return helper_gone();
        if (withdrawn_)
            return finish(errc::spawner_silent);
        withdrawn_ = ec;
        no_longer_than_ = clock::now() + trying;
        send_next();
    }

    void hear()
    {
        using namespace boost::system::errc;
        error_code ec;
        spawner_wire::answer said;
        auto const got = os::receive_message(socket_, std::as_writable_bytes(std::span{&said, 1}), came_, MSG_DONTWAIT, ec);
        if (ec == resource_unavailable_try_again)
            return clock::now() < until_ ? void() : finish(errc::spawner_silent);
        if (!ec && !got.end && got.size == sizeof said && said.start != number_) { // of one that was given up
            if (said.pid > 0 && strays_.size() != strays_.capacity())
                strays_.push_back({.pid = os::process_id{said.pid}, .pidfd = came_.empty() ? os::owned_fd{} : std::move(came_.front())});
            came_.clear();
            return;
        }
        if (!ec && (got.cut || (!got.end && got.size == sizeof said && said.pid > 0 && came_.empty()))) {
            without_pidfd_ = os::process_id{said.pid};
            why_without_pidfd_ = got.cut ? make_error_code(too_many_files_open) : spawner_wire::error_of(said);
            ask_to_kill(socket_, without_pidfd_, SIGKILL, ec);
            no_longer_than_ = clock::now() + trying;
            return reap_without_pidfd();
        }
        if (ec || got.end || got.size != sizeof said)
            return helper_gone();
        ec = spawner_wire::error_of(said);
        if (withdrawn_)
            return ec == operation_canceled ? finish(withdrawn_) : helper_gone();
        if (ec)
            return finish(ec);
        if (sent_ != fds_.size()) {
            no_longer_than_ = clock::now() + trying;
            return send_next();
        }
        if (came_.empty()) // no child either
            return helper_gone();
        child_ = {.pid = os::process_id{said.pid}, .pidfd = std::move(came_.front())};
        finish({});
    }

    /// It must not be left behind.
    void reap_without_pidfd()
    {
        bool const waits = !siblings_ && without_pidfd_ > os::process_id{0} && is_there(without_pidfd_);
        if (waits && clock::now() < no_longer_than_)
            return wait(step::end, pause);
        finish(why_without_pidfd_);
    }

    void wait(step where, clock::duration time) noexcept
    {
        where_ = where;
        until_ = clock::now() + time;
    }

    /// It has ended, or makes no sense.
    void helper_gone() { finish(errc::spawner_gone); }

    void finish(error_code how) noexcept { result_ = how; }

    os::borrowed_fd socket_;
    bool siblings_;
    std::uint32_t number_;
    std::string request_;
    std::vector<os::borrowed_fd> fds_;
    std::vector<os::owned_fd> came_;
    bool asked_ = false;     ///< the request is sent
    std::size_t sent_ = 0;   ///< of the descriptors
    error_code withdrawn_{}; ///< why it is, where descriptors cannot be sent that the helper waits for
    step where_ = step::room;
    clock::time_point until_{};
    clock::time_point no_longer_than_ = clock::now() + trying;
    os::process_id without_pidfd_ = os::process_id::none;
    error_code why_without_pidfd_{};
    process child_;
    std::vector<process> strays_;
    std::optional<error_code> result_;
};

} // namespace ecdysis::launch

#endif
