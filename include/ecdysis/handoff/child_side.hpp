// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_SIDE_HPP
#define ECDYSIS_HANDOFF_CHILD_SIDE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/handoff/child.hpp>
#include <ecdysis/handoff/conversation.hpp>
#include <ecdysis/handoff/event_queue.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/signal_set.hpp>
#include <ecdysis/transport/concept.hpp>

#include <poll.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ecdysis::handoff {

/// Takes ECDYSIS_HANDOFF out of the environment, so that it does not leak to the service's own children.
/// Not safe while another thread uses the environment.
[[nodiscard]] inline std::optional<std::string> take_variable()
{
    char const* const value = ::getenv("ECDYSIS_HANDOFF");
    if (value == nullptr)
        return {};
    std::string text = value;
    ::unsetenv("ECDYSIS_HANDOFF");
    return text;
}

/// Drives the child's machine. Its constructor is the one place that reads the handoff in line, with a deadline;
/// afterwards everything runs through the io policy, with its lock held.
template <class Generation>
class child_side
{
    using io_policy = typename Generation::io_policy;
    using transport_policy = typename Generation::transport_policy;
    using handle = typename io_policy::handle;
    using state = child::state;
    using occurrence = child::event; // "event" is what an observer is told
    using action = child::action;

public:
    /// Receives the whole handoff. Throws `error` (condition::bad_handoff), having told the parent why where it
    /// still could.
    child_side(Generation& generation, std::string const& value)
        : generation_{generation}, machine_{!generation.policies.notify.supervised()}
    {
        adopt(value);
        receive();
        received_ = true;
    }
    child_side(child_side const&) = delete;
    child_side& operator=(child_side const&) = delete;

    [[nodiscard]] unsigned number() const noexcept { return number_; }
    [[nodiscard]] os::process_id parent() const noexcept { return parent_; }
    /// The parent started us as a child of its own parent process.
    [[nodiscard]] bool is_sibling() const noexcept { return parent_ != our_parent_process_; }
    /// The signals that this process was started with blocked.
    [[nodiscard]] std::vector<int> blocked() const { return blocked_.signals(); }
    [[nodiscard]] handoff::inheritance& inheritance() noexcept { return inheritance_; }

    /// Descriptors can be claimed.
    [[nodiscard]] bool claiming() const noexcept { return machine_.now() == state::starting; }
    /// The service is the parent's still, so a stop is told to that.
    [[nodiscard]] bool answers_to_parent() const noexcept { return machine_.now() < state::in_charge; }

    [[nodiscard]] bool holds_drain() const noexcept { return machine_.holds_drain(); }

    /// From now on the parent is heard through the io policy. Throws `error`.
    void watch()
    {
        auto& io = generation_.policies.io;
        error_code ec;
        parent_watch_ = io.watch(parent_fd_, [this] { parent_ended(); }, ec);
        if (!ec)
            link_->watch(ec);
        if (ec)
            throw error{ec, "watch the parent"};
    }

    void ready() { feed(occurrence::host_ready); }
    void serves() { feed(occurrence::host_serves); }
    void stop() { feed(occurrence::stop); }
    /// The host ends this generation, and has not stopped it. `lives_on`: its process does, so the end of that says nothing.
    void leave(bool lives_on)
    {
        if (lives_on && (machine_.now() == state::committed || machine_.now() == state::serving))
            stop();
        else if (received_ && machine_.now() < state::committed)
            fail(words_.empty() ? "ended before it was committed" : std::string{words_}, errc::stopped);
    }
    /// What is said if this generation ends without a word of its own.
    void remember(std::string_view why) { words_ = why; }
    /// What the service's requester should hear, when the service is ours.
    void add_warning(std::string const& what)
    {
        if (machine_.may_accept() && warnings_.size() < max_reason)
            warnings_ += (warnings_.empty() ? "" : "; ") + what;
    }
    void fail(std::string_view why, error_code ec)
    {
        words_ = why;
        blame(ec, words_);
        feed(occurrence::host_failed);
    }

private:
    void adopt(std::string const& value)
    {
        our_parent_process_ = os::parent_process();

        auto const transport = variable::transport_of(value);
        if (!transport.empty() && transport != transport_policy::name)
            throw error{errc::transport_mismatch, "take over by " + std::string{transport_policy::name} +
                                                      " from a parent that hands over by " + std::string{transport}};
        auto const said = variable::read(value);
        if (!said)
            throw error{errc::handoff_variable, "read ECDYSIS_HANDOFF=\"" + value + "\""};
        error_code ec;
        auto end = generation_.policies.transport.adopt(said->text, ec);
        if (ec)
            throw error{ec, "take over by ECDYSIS_HANDOFF=\"" + value + "\""};
        link_.emplace(generation_.policies.io, std::move(end));
        link_->tell([this](heard what, frame& frame, auto& fds, error_code failed) { hear(what, frame, fds, failed); });
        watch_parent(said->parent, said->starter);
    }

    /// Before a single frame is read: a second process that inherited the handoff (a wrapper that forks) must not take
    /// from the right one what is its own, the commit least of all. It asks, so that the parent hears that it is there.
    ///
    /// The pid cannot have become another's unnoticed: hello is the parent's answer to what we ask from here on.
    void watch_parent(os::process_id parent, os::process_id starter)
    {
        parent_ = parent;
        error_code ec;
        parent_fd_ = os::open_pidfd(parent, ec);
        if (ec && ec != boost::system::errc::no_such_process)
            throw error{ec, "watch the parent, pid " + std::to_string(os::number(parent))};
        if (parent_fd_ && our_parent_process_ == starter)
            return;
        send(more{os::this_process()});
        throw error{parent_fd_ ? errc::wrong_parent : errc::parent_gone,
                    "take over from pid " + std::to_string(os::number(parent)) + "; our parent process is pid " +
                        std::to_string(os::number(our_parent_process_))};
    }

    // ---- the handoff, in line

    void receive()
    {
        auto const deadline = io::after(generation_.options().handoff_timeout);
        feed(occurrence::began);
        while (machine_.now() == state::receiving) {
            ::pollfd ready[] = {{link_->fd().get(), POLLIN, 0}, {parent_fd_.get(), POLLIN, 0}};
            auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - io::clock::now()).count();
            if (left <= 0) { // also where a parent floods
                blame(errc::handoff_timeout, "receive the handoff from pid " + std::to_string(os::number(parent_)));
                feed(occurrence::deadline);
                continue;
            }
            if (!link_->all_sent()) // no timer runs here
                link_->flush();
            auto const pause = link_->all_sent() ? std::min<decltype(left)>(left, INT_MAX) : retry_pause.count();
            int const count = ::poll(ready, 2, static_cast<int>(pause));
            if (count < 0 && errno != EINTR)
                throw error{os::last_error(), "wait for the handoff"};
            if (count > 0 && ready[0].revents != 0)
                link_->read(1);
            else if (count > 0)
                feed(occurrence::parent_ended);
        }
        if (machine_.now() == state::given_up) {
            blame(errc::parent_gone, "receive the handoff from pid " + std::to_string(os::number(parent_)));
            throw error{why_, blame_};
        }
    }

    // ---- events

    void feed(occurrence what)
    {
        events_.feed(what, [this](occurrence next) {
            for (auto const todo : machine_.on(next))
                perform(todo);
            generation_.handoff_moved();
        });
    }

    void perform(action todo)
    {
        switch (todo) {
        case action::ask: return send(more{os::this_process()});
        case action::send_ready: return send(handoff::ready{inheritance_.claims()});
        case action::send_fail: return say_failed(words_);
        case action::send_serving: return send(handoff::serving{});
        case action::send_alive: return send(handoff::alive{});
        case action::send_taken: return send(handoff::taken{std::exchange(warnings_, {})});
        case action::send_stopping: return send(handoff::stopping{generation_.stops_partially()});
        case action::accept: return generation_.accept();
        case action::be_heir: return generation_.accept();
        case action::take_service:
            if (parent_has_ended_)
                generation_.tell(events::heir{parent_});
            return generation_.take_service(signal_came_);
        case action::heed_signals: return generation_.heed_passed_signal();
        case action::give_up: return give_up();
        case action::stop: return generation_.stop_by_parent(partial_stop_);
        case action::end_service: return generation_.end_service();
        case action::read_rest:
            link_->read(256);
            link_->unwatch();
            return events_.add(occurrence::nothing_left);
        case action::close_handoff:
            if (std::exchange(closing_, true))
                return;
            parent_watch_ = {};
            parent_fd_.reset();
            link_->unwatch();
            return close_when_sent();
        }
    }

    void parent_ended()
    {
        parent_watch_ = {};
        parent_has_ended_ = true;
        feed(occurrence::parent_ended);
    }

    void hear(heard what, frame& said, std::vector<os::owned_fd>& fds, error_code ec)
    {
        switch (what) {
        case heard::nothing: return;
        case heard::frame:
            if (auto const meaning = interpret(said, fds))
                feed(*meaning);
            return;
        case heard::closed:
            if (machine_.now() == state::receiving)
                blame(errc::handoff_closed, "receive the handoff from pid " + std::to_string(os::number(parent_)));
            return feed(occurrence::closed);
        case heard::garbage:
        case heard::broken:
            blame(ec, "read the handoff");
            return feed(occurrence::garbage);
        }
    }

    [[nodiscard]] std::optional<occurrence> interpret(frame& said, std::vector<os::owned_fd>& fds)
    {
        if (auto const* greeting = std::get_if<hello>(&said))
            return check(*greeting);
        if (auto* list = std::get_if<descriptors>(&said)) {
            if (!said_hello_ || list->records.size() != fds.size())
                return nonsense("descriptors");
            for (std::size_t i = 0; i != fds.size(); ++i)
                inheritance_.add(std::move(list->records[i]), std::move(fds[i]));
            return occurrence::frame;
        }
        if (std::holds_alternative<handoff::end>(said))
            return said_hello_ ? occurrence::end : nonsense("end");
        if (std::holds_alternative<handoff::commit>(said))
            return occurrence::commit;
        if (std::holds_alternative<alive_question>(said))
            return occurrence::alive_asked;
        if (auto const* given = std::get_if<yours>(&said)) {
            signal_came_ = given->again;
            return occurrence::yours;
        }
        if (auto const* told = std::get_if<handoff::stop>(&said)) {
            partial_stop_ = told->why == handoff::stop::reason::partial;
            return occurrence::stop_frame;
        }
        if (std::holds_alternative<unknown>(said)) {
            // Of a later version. While it hands over, it awaits our asking all the same.
            if (machine_.now() == state::receiving)
                return occurrence::frame;
            return {};
        }
        return nonsense("a frame that only a child sends");
    }

    [[nodiscard]] occurrence check(hello const& greeting)
    {
        if (said_hello_)
            return nonsense("a second hello");
        said_hello_ = true;
        if (greeting.version != protocol_version) {
            blame(errc::version_mismatch, "take over: the parent speaks version " + std::to_string(greeting.version) +
                                              ", this program version " + std::to_string(protocol_version));
            return occurrence::garbage;
        }
        number_ = greeting.generation;
        blocked_ = os::signal_set{greeting.blocked};
        return occurrence::frame;
    }

    [[nodiscard]] occurrence nonsense(std::string const& what)
    {
        blame(errc::corrupt_handoff, "read the handoff: " + what + " came out of turn");
        return occurrence::garbage;
    }

    // ---- means

    /// The first cause is the one to tell.
    void blame(error_code why, std::string text)
    {
        if (why_)
            return;
        why_ = why;
        blame_ = std::move(text);
    }

    // A parent that has gone is noticed by its pidfd, so an error is not looked at here.
    void send(frame what)
    {
        if (link_)
            link_->send(std::move(what), [this](error_code) { close_when_sent(); });
    }

    /// The link may be in a call of this, so it goes later.
    void close_when_sent()
    {
        if (!closing_ || !link_ || !link_->all_sent())
            return;
        if (received_)
            generation_.post([this] { link_.reset(); });
    }

    void give_up()
    {
        blame(errc::parent_gone, "wait for the parent, pid " + std::to_string(os::number(parent_)));
        auto const text = blame_ + ": " + why_.message();
        say_failed(text);
        if (received_) // otherwise the constructor throws
            generation_.give_up(why_, text);
    }

    void say_failed(std::string const& why)
    {
        if (!std::exchange(said_failed_, true))
            send(handoff::fail{why});
    }

    Generation& generation_;
    child machine_;
    std::optional<conversation<io_policy, typename transport_policy::end>> link_;
    os::process_id parent_ = os::process_id::none;
    os::process_id our_parent_process_ = os::process_id::none;
    os::owned_fd parent_fd_;
    unsigned number_ = 0;
    os::signal_set blocked_;
    bool parent_has_ended_ = false;
    bool partial_stop_ = false; ///< what the parent was told is one
    bool signal_came_ = false;  ///< to the parent, for an upgrade
    handoff::inheritance inheritance_;

    bool received_ = false;
    bool said_hello_ = false;
    bool said_failed_ = false;
    std::string words_;
    std::string warnings_;
    error_code why_;
    std::string blame_;

    bool closing_ = false; ///< when all is sent
    event_queue<occurrence> events_;
    handle parent_watch_;
};

} // namespace ecdysis::handoff

#endif
