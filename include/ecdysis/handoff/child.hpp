// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_HPP
#define ECDYSIS_HANDOFF_CHILD_HPP

#include <ecdysis/handoff/actions.hpp>

namespace ecdysis::handoff {

/// The child's side of the protocol, from its first frame until the service is its own. It takes events and gives back
/// actions; it owns no descriptor, reads no clock and makes no system call. A value: copy it to explore it.
class child
{
public:
    enum class state {
        receiving, ///< pulling the handoff
        starting,  ///< has all; the program starts up
        waiting,   ///< said ready
        committed, ///< may accept
        serving,   ///< said serving; the service is the parent's still
        in_charge, ///< the service is this generation's
        stopping,  ///< stopped by a trigger of its own after commit; what that means is the parent's to say
        given_up,  ///< must not serve
        stopped,   ///< drains, and has nothing more to hear
    };

    enum class event {
        began,        ///< the handoff is open
        frame,        ///< hello, descriptors
        end,          ///< frame: the handoff is complete
        commit,       ///< frame: the child may accept
        alive_asked,  ///< frame: does the host's loop run?
        yours,        ///< frame: the service is the child's; again: signals that came late
        stop_frame,   ///< frame: the service stops, or was taken back
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
        ask,           ///< for the next frame
        send_ready,    ///< with what was claimed
        send_fail,
        send_serving,
        send_alive,
        send_taken,
        send_stopping, ///< accepting has ended
        accept,        ///< committed: the host may accept
        be_heir,       ///< the parent died before commit: accept, and take the service without it
        take_service,  ///< pid file, store, watchdog, control sockets
        heed_signals,  ///< a signal for an upgrade came to the parent
        give_up,       ///< ready fails; the process should end
        stop,          ///< end accepting, drain, end
        end_service,   ///< the service is ours, and has stopped: what the last generation removes, go
        read_rest,     ///< read all frames that are there, then give the event nothing_left
        close_handoff,
    };

    using actions = handoff::actions<action>;

    /// `heir_allowed`: no service manager supervises the parent, so its death does not end this process.
    constexpr explicit child(bool heir_allowed) noexcept : heir_allowed_{heir_allowed} {}

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    [[nodiscard]] constexpr bool may_accept() const noexcept
    {
        return state_ == state::committed || state_ == state::serving || state_ == state::in_charge;
    }

    /// The drain may not be over yet: the parent says whether the service has ended with this generation.
    [[nodiscard]] constexpr bool holds_drain() const noexcept { return state_ == state::stopping; }

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
        case state::serving:
            return accepting(e);
        case state::in_charge:
            return in_charge(e);
        case state::stopping:
            return stopping(e);
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
            return fail();
        case event::closed:
            // An ended parent is judged when the rest was read.
            if (parent_ended_)
                return {};
            return give_up();
        case event::nothing_left:
        case event::garbage:
        case event::deadline:
        case event::commit:
        case event::alive_asked:
        case event::yours:
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
                return be_heir();
            }
            state_ = state::waiting;
            return {action::send_ready};
        case event::host_failed:
            return fail();
        case event::nothing_left:
            if (heir_allowed_)
                return {};
            return give_up();
        case event::stop:
            return stop_before_commit();
        case event::frame:
        case event::end:
        case event::commit:
        case event::alive_asked:
        case event::yours:
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
            return {action::accept};
        case event::nothing_left:
            if (!heir_allowed_)
                return give_up();
            return be_heir();
        case event::stop:
            return stop_before_commit();
        case event::host_failed:
            return fail();
        case event::frame:
        case event::end:
        case event::alive_asked:
        case event::yours:
        case event::stop_frame:
        case event::garbage:
            return give_up();
        default:
            return {};
        }
    }

    /// The service is the parent's, and with its death ours.
    constexpr actions accepting(event e) noexcept
    {
        switch (e) {
        case event::host_serves:
            if (state_ != state::committed)
                return {};
            state_ = state::serving;
            return {action::send_serving};
        case event::alive_asked:
            return {action::send_alive};
        case event::yours:
            state_ = state::in_charge;
            return {action::take_service, action::send_taken};
        case event::nothing_left:
            state_ = state::in_charge;
            return {action::take_service, action::close_handoff};
        case event::host_failed: // the parent takes the service back, or has died, and then it is ours all the same
            return {action::send_fail};
        case event::stop_frame:
            state_ = state::stopped;
            return {action::stop, action::send_stopping, action::close_handoff};
        case event::stop:
            state_ = state::stopping;
            return {action::stop, action::send_stopping};
        default:
            return {};
        }
    }

    constexpr actions in_charge(event e) noexcept
    {
        switch (e) {
        case event::yours:
            return {action::heed_signals};
        case event::stop_frame:
            state_ = state::stopped;
            return {action::stop, action::close_handoff};
        case event::stop: // how the service stops is the parent's machine's to say
            state_ = state::stopped;
            return {action::close_handoff};
        case event::closed:
        case event::nothing_left:
            return {action::close_handoff};
        default:
            return {};
        }
    }

    /// The parent takes back, or stops too; or it had announced us before it heard, and then the service has ended.
    constexpr actions stopping(event e) noexcept
    {
        switch (e) {
        case event::stop_frame:
            state_ = state::stopped;
            return {action::close_handoff};
        case event::yours:
            state_ = state::stopped;
            return {action::end_service, action::send_taken, action::close_handoff};
        case event::nothing_left:
            state_ = state::stopped;
            return {action::end_service, action::close_handoff};
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
        case state::given_up:
        case state::stopped:
            return {};
        default:
            return {action::read_rest};
        }
    }

    constexpr actions be_heir() noexcept
    {
        state_ = state::in_charge;
        return {action::be_heir, action::take_service, action::close_handoff};
    }

    constexpr actions stop_before_commit() noexcept
    {
        state_ = state::stopped;
        return {action::send_fail, action::stop, action::close_handoff};
    }

    constexpr actions fail() noexcept
    {
        state_ = state::given_up;
        return {action::send_fail, action::give_up};
    }

    constexpr actions give_up() noexcept
    {
        state_ = state::given_up;
        return {action::give_up, action::close_handoff};
    }

    state state_ = state::receiving;
    bool parent_ended_ = false; ///< seen on its pidfd; what it sent before may still be unread
    bool heir_allowed_;
};

} // namespace ecdysis::handoff

#endif
