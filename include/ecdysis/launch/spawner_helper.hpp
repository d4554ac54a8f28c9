// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWNER_HELPER_HPP
#define ECDYSIS_LAUNCH_SPAWNER_HELPER_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/launch/spawn.hpp>
#include <ecdysis/launch/spawner_wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/message.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/os/signal_set.hpp>

#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis::launch {

/// The helper process of launch::spawner: a fork of the service from the first line of its main, that starts what was
/// fixed then and nothing else. It has nothing of the service's but its end of their socket and the directory of the
/// start, hears no signal, and ends when the service has.
class spawner_helper
{
public:
    /// `environment`: of each child, but for the handoff's variable. `exec_errors`: see spawner_wire.
    spawner_helper(os::owned_fd socket, program what, std::vector<std::string> environment, std::shared_ptr<int volatile[]> exec_errors)
        : socket_{std::move(socket)}, program_{std::move(what)}, environment_{std::move(environment)},
          exec_errors_{std::move(exec_errors)}
    {}

    /// The rest of the process's life.
    [[noreturn]] void run() noexcept
    try {
        let_go_of_the_service();
        while (serve_one()) {}
        ::_exit(0);
    } catch (...) { // no memory: an upgrade then fails, and the service serves on
        ::_exit(1);
    }

private:
    void let_go_of_the_service()
    {
        // By system call: glibc's function leaves out two signals. A stop of the whole control group reaches this process
        // too, which the service may still need.
        os::signal_set const all{~std::uint64_t{0}};
        ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, nullptr, sizeof all);
        ::prctl(PR_SET_NAME, "ecdysis-spawner");
        for (int number = 0; number != 3; ++number)
            open_null(number);
        std::array kept{socket_.get(), program_.directory().get()};
        std::ranges::sort(kept);
        int next = 3;
        for (int const number : kept) {
            if (number > next)
                ::syscall(SYS_close_range, next, number - 1, 0);
            next = std::max(next, number + 1);
        }
        ::syscall(SYS_close_range, next, UINT_MAX, 0);
    }

    static void open_null(int number) noexcept
    {
        error_code ec;
        os::owned_fd null{os::call(ec, [] { return ::open("/dev/null", O_RDWR | O_CLOEXEC); })};
        if (null.get() == number) // it was closed
            (void)null.release();
        else if (null)
            ::dup2(null.get(), number);
        else
            ::close(number);
    }

    /// Whether the service is there still.
    bool serve_one()
    {
        std::array<std::byte, sizeof(spawner_wire::request) + spawner_wire::max_text> buffer;
        std::vector<os::owned_fd> none;
        error_code ec;
        auto const got = os::receive_message(socket_, buffer, none, 0, ec);
        if (ec || got.end)
            return false;
        spawner_wire::request request;
        if (got.cut || got.size < sizeof request || !none.empty())
            return answer(make_error_code(boost::system::errc::invalid_argument), 0);
        std::memcpy(&request, buffer.data(), sizeof request);
        std::string_view const text{reinterpret_cast<char const*>(buffer.data()) + sizeof request, got.size - sizeof request};
        if (request.what == spawner_wire::verb::spawn)
            return spawn(request, text);
        return signal(request) || answer(make_error_code(boost::system::errc::invalid_argument), request.start);
    }

    /// Whether it was such a request. Nobody waits for an answer to it: a child that lives on is seen to.
    bool signal(spawner_wire::request const& what) const noexcept
    {
        using spawner_wire::verb;
        if (what.what != verb::kill && what.what != verb::give_up)
            return false;
        error_code ignored;
        for (auto const& one : children_)
            if (what.what == verb::kill ? what.pid == os::number(one.is.pid) : what.start == one.start)
                os::send_signal(one.is.pidfd, what.what == verb::kill ? what.signal : SIGKILL, ignored);
        return true;
    }

    bool spawn(spawner_wire::request const& what, std::string_view text)
    {
        error_code ec;
        std::erase_if(children_, [](auto const& one) { return os::is_readable_within(one.is.pidfd, std::chrono::milliseconds{0}); });
        raise_descriptor_limit(what.descriptor_limit);
        std::vector<os::owned_fd> received;
        while (received.size() < what.descriptors) {
            if (!answer(ec, what.start)) // to what came so far
                return false;
            switch (receive_some(what.start, received, ec)) {
            case came::some: break;
            case came::end: return false;
            case came::withdrawal: return true;
            }
            if (ec)
                return answer(ec, what.start);
        }
        auto const streams = take_streams(what.streams, received);
        std::vector<os::borrowed_fd> inherited{received.begin() + static_cast<std::ptrdiff_t>(streams), received.end()};
        auto const blocked = os::signal_set{what.blocked}.signals();
        auto const ignored = os::signal_set{what.ignored}.signals();
        bool gone = false;
        request asked{.program = program_.path(),
                      .arguments = program_.arguments(),
                      .environment = environment_,
                      .directory = program_.directory_or_root(gone),
                      .inherited = inherited,
                      .blocked = blocked,
                      .ignored = ignored,
                      .as_sibling = true}; // of this process: a child of the service, or of the service's own parent
        if (gone && !asked.arguments.empty())
            asked.arguments.front() = program_.path();
        if (!text.empty())
            asked.environment.push_back(std::string{handoff::variable::name} + "=" + std::string{text.substr(0, text.find('\0'))});
        children_.reserve(children_.size() + 1); // so that none is lost
        auto child = launch::spawn(std::move(asked), ec, {exec_errors_, &exec_errors_[what.start % spawner_wire::exec_errors]});
        bool const is_there = tell_of(child, ec, what.start);
        if (child.pidfd)
            children_.push_back({std::move(child), what.start});
        // Only now, for to close a file may wait, where it is on a file system that does not answer.
        for (int number = 0; number != 3; ++number)
            open_null(number);
        return is_there;
    }

    /// Of the child, which is killed if the service cannot hear of it.
    bool tell_of(process const& child, error_code why, std::uint32_t start) noexcept
    {
        error_code ec;
        if (answer(why, start, child.pid, child.pidfd, ec))
            return true;
        error_code ignored;
        if (child.pidfd)
            os::send_signal(child.pidfd, SIGKILL, ignored);
        // Its pidfd is one descriptor too many in flight, of this user's: the service can still reap it.
        return ec == boost::system::errc::resource_unavailable_try_again &&
               answer({ETOOMANYREFS, boost::system::system_category()}, start, child.pid, {}, ignored);
    }

    enum class came {
        some,
        withdrawal, ///< the spawn is given up
        end,        ///< the service is not there any more
    };

    /// A message of one byte, and what comes beside it.
    came receive_some(std::uint32_t start, std::vector<os::owned_fd>& into, error_code& ec)
    {
        for (;;) {
            std::array<std::byte, sizeof(spawner_wire::request)> buffer;
            auto const before = into.size();
            auto const got = os::receive_message(socket_, buffer, into, 0, ec);
            if (got.end)
                return came::end;
            if (!ec && !got.cut && got.size == buffer.size() && into.size() == before) {
                spawner_wire::request other;
                std::memcpy(&other, buffer.data(), sizeof other);
                if (other.what == spawner_wire::verb::give_up && other.start == start)
                    return came::withdrawal;
                if (signal(other))
                    continue;
            }
            if (!ec && (got.cut || got.size != 1))
                ec = make_error_code(boost::system::errc::too_many_files_open);
            else if (!ec && buffer[0] != spawner_wire::some_descriptors)
                ec = make_error_code(boost::system::errc::operation_canceled);
            return came::some;
        }
    }

    /// Puts the service's standard streams where a child finds them. Gives how many there were.
    static std::size_t take_streams(std::uint32_t which, std::span<os::owned_fd const> received) noexcept
    {
        std::size_t taken = 0;
        for (int number = 0; number != 3; ++number) {
            if ((which >> number & 1U) != 0 && taken != received.size())
                ::dup2(received[taken++].get(), number);
            else
                ::fcntl(number, F_SETFD, FD_CLOEXEC); // /dev/null, which spawn opens anew
        }
        return taken;
    }

    /// So that it can hold what the service holds. Its children get what it has.
    static void raise_descriptor_limit(std::uint64_t to) noexcept
    {
        ::rlimit limit{};
        if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
            return;
        limit.rlim_cur = std::min<::rlim_t>(to, limit.rlim_max);
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }

    bool answer(error_code why, std::uint32_t start) noexcept
    {
        error_code ignored;
        return answer(why, start, os::process_id::none, {}, ignored);
    }

    bool answer(error_code why, std::uint32_t start, os::process_id pid, os::borrowed_fd pidfd, error_code& ec) noexcept
    {
        auto said = spawner_wire::answer_of(why, start);
        said.pid = os::number(pid);
        os::send_message(socket_, std::as_bytes(std::span{&said, 1}), std::span{&pidfd, pidfd ? 1U : 0U}, 0, ec);
        return !ec;
    }

    os::owned_fd socket_;
    program program_;
    std::vector<std::string> environment_;
    std::shared_ptr<int volatile[]> exec_errors_;
    struct child
    {
        process is;
        std::uint32_t start;
    };
    std::vector<child> children_; ///< those that may be killed: that live, or did at the last start
};

} // namespace ecdysis::launch

#endif
