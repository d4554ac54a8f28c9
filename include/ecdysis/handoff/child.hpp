// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_HPP
#define ECDYSIS_HANDOFF_CHILD_HPP

#include <ecdysis/handoff/actions.hpp>

namespace ecdysis::handoff {

/// The child's side of the protocol, from its first frame to serving. It takes events and gives back actions;
/// it owns no descriptor, reads no clock and makes no system call. A value: copy it to explore it.
class child
{
public:
    enum class state {
        receiving, ///< pulling the handoff
        starting,  ///< has all; the program starts up
        waiting,   ///< said ready
        committed, ///< may accept
        serving,   ///< said serving, or has nobody left to say it to; hears a stop that crossed it on the way
        given_up,  ///< must not serve
        stopped,
    };

    enum class event {
        began,        ///< the handoff is open
        frame,        ///< hello, descriptors
        end,          ///< frame: the handoff is complete
        commit,       ///< frame: the child may accept
        stop_frame,   ///< frame: the parent was told to stop
        garbage,      ///< what came makes no sense here
        closed,       ///< the parent closed its end, all it sent was read; says nothing of its life
        parent_ended, ///< the parent's pidfd says so
        nothing_left, ///< after `read_rest`: all that the ended parent had sent was read
        deadline,     ///< the armed time has passed
        host_ready,   ///< the host could serve
        host_failed,  ///< the host says why it cannot
        host_serves,  ///< the host accepts
        stop,         ///< a trigger of our own asks for a stop
    };

    enum class action {
        ask,          ///< for the next frame
        send_ready,   ///< with what was claimed
        send_fail,
        send_serving,
        send_stop,    ///< the service stops
        take_over,    ///< committed: the host may accept
        become_heir,  ///< the parent died before commit: take over without it
        give_up,      ///< ready fails; the process should end
        stop,
        read_rest,    ///< read all frames that are there, then give the event nothing_left
        close_handoff,
    };

    using actions = handoff::actions<action>;

    /// `heir_allowed`: no service manager supervises the parent, so its death does not end this process.
    constexpr explicit child(bool heir_allowed) noexcept : heir_allowed_{heir_allowed} {}

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    [[nodiscard]] constexpr bool may_accept() const noexcept
    {
        return state_ == state::committed || state_ == state::serving;
    }
    /// The parent has not heard that we serve, and serves on if we end.
    [[nodiscard]] constexpr bool may_be_taken_back() const noexcept { return state_ == state::committed && !silent_; }

    [[nodiscard]] constexpr actions on(event e) noexcept
    {
        if (e == event::parent_ended)
            return parent_ended();
        switch (state_) {
        case state::receiving:
            return receiving(e);
        case state::starting:
            return starting(e);
        case state::waiting:
            return waiting(e);
        case state::committed:
            return committed(e);
        case state::serving:
            return serving(e);
        case state::given_up:
        case state::stopped:
            break;
        }
        return {};
    }

    friend constexpr bool operator==(child const&, child const&) noexcept = default;

private:
    constexpr actions receiving(event e) noexcept
    {
        switch (e) {
        case event::began:
        case event::frame:
            if (parent_ended_)
                return {};
            return {action::ask};
        case event::end:
            state_ = state::starting;
            return {};
        case event::host_failed: // what came cannot be used, and the parent hears why
            state_ = state::given_up;
            return {action::send_fail, action::give_up};
        case event::closed:
            // An ended parent is judged when the rest was read.
            if (parent_ended_)
                return {};
            return give_up();
        case event::nothing_left:
        case event::garbage:
        case event::deadline:
        case event::commit:
        case event::stop_frame:
        case event::stop:
            return give_up();
        default:
            return {};
        }
    }

    constexpr actions starting(event e) noexcept
    {
        switch (e) {
        case event::host_ready:
            if (parent_ended_) {
                if (!heir_allowed_) // the host was faster than nothing_left
                    return give_up();
                return become_heir();
            }
            state_ = state::waiting;
            return {action::send_ready};
        case event::host_failed:
            state_ = state::given_up;
            return {action::send_fail, action::give_up};
        case event::nothing_left:
            if (heir_allowed_)
                return {};
            return give_up();
        case event::stop:
            state_ = state::stopped;
            return {action::stop, action::close_handoff};
        case event::frame:
        case event::end:
        case event::commit:
        case event::stop_frame:
        case event::garbage:
            return give_up();
        default:
            return {};
        }
    }

    constexpr actions waiting(event e) noexcept
    {
        switch (e) {
        case event::commit:
            state_ = state::committed;
            return {action::take_over};
        case event::nothing_left:
            if (!heir_allowed_)
                return give_up();
            return become_heir();
        case event::stop:
            state_ = state::stopped;
            return {action::stop, action::close_handoff};
        case event::host_failed:
            state_ = state::given_up;
            return {action::send_fail, action::give_up};
        case event::frame:
        case event::end:
        case event::stop_frame:
        case event::garbage:
            return give_up();
        default:
            return {};
        }
    }

    constexpr actions committed(event e) noexcept
    {
        switch (e) {
        case event::host_serves:
            state_ = state::serving;
            if (silent_)
                return {action::send_serving, action::close_handoff};
            return {action::send_serving};
        case event::closed:
        case event::nothing_left:
            silent_ = true;
            return {};
        case event::stop_frame:
            state_ = state::stopped;
            return {action::stop, action::close_handoff};
        case event::stop:
            // This generation is the service now: its stop is the service's, so the parent must not take it back.
            state_ = state::stopped;
            return {action::send_stop, action::stop, action::close_handoff};
        default:
            return {};
        }
    }

    // A parent that is stopped before it reads that we serve has forwarded the stop: it must not be lost.
    constexpr actions serving(event e) noexcept
    {
        if (silent_)
            return {};
        switch (e) {
        case event::stop_frame:
            state_ = state::stopped;
            return {action::stop, action::close_handoff};
        case event::stop:
            // The parent may not have read yet that we serve; with our end it would take back what was stopped.
            return {action::send_stop};
        case event::closed:
        case event::nothing_left:
            silent_ = true;
            return {action::close_handoff};
        default:
            return {};
        }
    }

    constexpr actions parent_ended() noexcept
    {
        if (parent_ended_)
            return {};
        parent_ended_ = true;
        switch (state_) {
        case state::receiving:
        case state::starting:
        case state::waiting:
        case state::committed:
        case state::serving:
            if (silent_)
                return {};
            return {action::read_rest};
        default:
            return {};
        }
    }

    constexpr actions become_heir() noexcept
    {
        state_ = state::committed;
        silent_ = true;
        return {action::become_heir};
    }

    constexpr actions give_up() noexcept
    {
        state_ = state::given_up;
        return {action::give_up, action::close_handoff};
    }

    state state_ = state::receiving;
    bool parent_ended_ = false; ///< seen on its pidfd; what it sent before may still be unread
    bool silent_ = false;       ///< with `committed` and `serving`: nothing more can come from the parent
    bool heir_allowed_;
};

} // namespace ecdysis::handoff

#endif
