// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_PARENT_HPP
#define ECDYSIS_HANDOFF_PARENT_HPP

#include <ecdysis/handoff/actions.hpp>

namespace ecdysis::handoff {

/// The parent's side of the protocol, from serving to retired or stopped. It takes events and gives back
/// actions; it owns no descriptor, reads no clock and makes no system call. A value: copy it to explore it.
class parent
{
public:
    enum class state {
        serving,      ///< no upgrade runs
        launching,    ///< the child's program is being started
        handing_over, ///< the child pulls frames
        starting,     ///< the child has all and starts up
        announcing,   ///< the child is ready; the service manager is told
        committing,   ///< the commit is being sent
        committed,    ///< the child may accept; we accept until it says that it serves
        ending,       ///< the upgrade failed before commit; the child's end is awaited
        retired,      ///< the child serves; this generation drains
        stopped,      ///< this generation drains, and no child takes over
    };

    enum class event {
        upgrade,       ///< a trigger asks for an upgrade
        stop,          ///< a trigger asks for a stop
        launched,      ///< the child's process runs
        launch_failed, ///< the program could not be started
        asked,         ///< frame: the child asks for the next one
        handed_over,   ///< the last frame of the handoff has been sent
        ready,         ///< frame: the child could serve
        failed,        ///< frame: the child says why it fails
        serving,       ///< frame: the child accepts
        child_stopped, ///< frame: the committed child was told to stop, and with it the service
        garbage,       ///< what came makes no sense here
        closed,        ///< the child closed its end, all it sent was read; says nothing of its life
        child_ended,   ///< the child's pidfd says so
        nothing_left,  ///< after `read_rest`: all that the ended child had sent was read
        announced,     ///< the manager has worked through what it was told
        unannounced,   ///< the manager cannot be told
        commit_sent,
        commit_lost,   ///< the child cannot get the commit any more
        deadline,      ///< the armed time has passed
    };

    enum class action {
        tell_reloading, ///< to the service manager
        launch,         ///< answered by launched or launch_failed
        send_next,      ///< one frame; the last is followed by the event handed_over
        announce,       ///< tell the manager that the child takes over; answered by announced
        commit,         ///< fill and seal the late state, send commit; answered by commit_sent or commit_lost
        retire,         ///< stop accepting, drain
        stop,           ///< stop accepting, drain, end
        forward_stop,   ///< tell the child to stop
        end_drain,      ///< the drain ends now
        ask_to_end,     ///< SIGTERM to the child
        kill,           ///< SIGKILL to the child
        read_rest,      ///< read all frames that are there, then give the event nothing_left
        reap,
        close_handoff,  ///< drop our end and the watch on the child
        restore,        ///< undo what the upgrade changed: state, pid file, what the manager was told
        report_committed,
        report_ok,
        report_failed,
        report_barrier_late,
        report_serving_late,
        refuse_busy,
        refuse_not_serving,
        arm_ready, ///< one timer: arming replaces what was armed
        arm_barrier,
        arm_serving,
        arm_kill,
        disarm,
    };

    using actions = handoff::actions<action>;

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    /// An upgrade is under way that could still fail.
    [[nodiscard]] constexpr bool upgrading() const noexcept
    {
        return state_ != state::serving && state_ != state::retired && state_ != state::stopped;
    }
    /// This generation accepts connections.
    [[nodiscard]] constexpr bool accepting() const noexcept
    {
        return state_ != state::retired && state_ != state::stopped && !stop_;
    }

    /// The service stops: no other generation goes on. A child that has its commit was told to stop too, and may be
    /// stopped before it reads either; so what the last generation removes, both remove.
    [[nodiscard]] constexpr bool ends_service() const noexcept { return state_ == state::stopped || stop_; }

    [[nodiscard]] constexpr actions on(event e) noexcept
    {
        switch (e) {
        case event::upgrade:
            return upgrade();
        case event::stop:
            return stop();
        case event::child_ended:
            return child_ended();
        case event::nothing_left:
            return child_gone();
        case event::child_stopped:
            if (state_ == state::committed)
                return child_stopped();
            break;
        default:
            break;
        }
        // Of a child that has ended, only why it failed matters, and that stands in the frame itself.
        if (child_ended_)
            return {};
        switch (state_) {
        case state::launching:
            return launching(e);
        case state::handing_over:
        case state::starting:
            return before_ready(e);
        case state::announcing:
        case state::committing:
            return before_commit(e);
        case state::committed:
            return committed(e);
        case state::ending:
            return ending(e);
        case state::serving:
        case state::retired:
        case state::stopped:
            break;
        }
        return {};
    }

    friend constexpr bool operator==(parent const&, parent const&) noexcept = default;

private:
    constexpr actions upgrade() noexcept
    {
        if (state_ == state::serving) {
            state_ = state::launching;
            return {action::tell_reloading, action::arm_ready, action::launch};
        }
        if (accepting())
            return {action::refuse_busy};
        return {action::refuse_not_serving};
    }

    constexpr actions stop() noexcept
    {
        switch (state_) {
        case state::serving:
            state_ = state::stopped;
            return {action::stop};
        case state::launching:
            state_ = state::ending;
            stop_ = true;
            return {action::disarm, action::stop};
        case state::handing_over:
        case state::starting:
        case state::announcing:
        case state::committing:
            stop_ = true;
            state_ = state::ending;
            if (child_ended_)
                return {action::stop};
            return {action::stop, action::ask_to_end, action::arm_kill};
        case state::committed:
            state_ = state::stopped;
            if (child_ended_)
                return {action::stop, action::disarm};
            return {action::forward_stop, action::stop, action::disarm, action::report_failed};
        case state::ending:
            if (!stop_) {
                stop_ = true;
                return {action::stop};
            }
            return {action::end_drain};
        case state::retired:
        case state::stopped:
            break;
        }
        return {action::end_drain};
    }

    constexpr actions launching(event e) noexcept
    {
        switch (e) {
        case event::launched:
            state_ = state::handing_over;
            return {};
        case event::launch_failed:
            return back_to_serving({action::disarm});
        case event::deadline: // a launch that is not inline; its child will be ended when it comes
            state_ = state::ending;
            return {};
        default:
            return {};
        }
    }

    constexpr actions before_ready(event e) noexcept
    {
        switch (e) {
        case event::asked:
            if (state_ == state::handing_over)
                return {action::send_next};
            return end_child();
        case event::handed_over:
            state_ = state::starting;
            return {};
        case event::ready:
            if (state_ == state::starting) {
                state_ = state::announcing;
                return {action::arm_barrier, action::announce};
            }
            return end_child();
        case event::failed:
        case event::closed:
            return let_child_end();
        case event::serving:
        case event::child_stopped:
        case event::garbage:
        case event::deadline:
            return end_child();
        default:
            return {};
        }
    }

    constexpr actions before_commit(event e) noexcept
    {
        switch (e) {
        case event::deadline:
            // The manager may be slow; a commit that cannot be sent is the child's fault.
            if (state_ == state::committing)
                return end_child();
            state_ = state::committing;
            return {action::report_barrier_late, action::arm_serving, action::commit};
        case event::announced:
            if (state_ != state::announcing)
                return {};
            state_ = state::committing;
            return {action::arm_serving, action::commit};
        case event::unannounced: // it would take the service for dead when this generation ends
            return state_ == state::announcing ? end_child() : actions{};
        case event::commit_sent:
            state_ = state::committed;
            return {action::report_committed};
        case event::failed:
        case event::closed:
            return let_child_end();
        case event::commit_lost:
        case event::asked:
        case event::ready:
        case event::serving:
        case event::child_stopped:
        case event::garbage:
            return end_child();
        default:
            return {};
        }
    }

    // From here on the child is never killed for being late or odd: it may be serving.
    constexpr actions committed(event e) noexcept
    {
        switch (e) {
        case event::serving:
            state_ = state::retired;
            return {action::disarm, action::retire, action::report_ok};
        case event::deadline:
            return {action::report_serving_late};
        default:
            return {};
        }
    }

    // The child was the service by then, so its stop is the service's: it is not taken back, not even when the child
    // has ended meanwhile.
    constexpr actions child_stopped() noexcept
    {
        state_ = state::stopped;
        if (child_ended_)
            return {action::stop, action::disarm};
        return {action::stop, action::disarm, action::report_failed};
    }

    constexpr actions ending(event e) noexcept
    {
        switch (e) {
        case event::launched:
            return {action::ask_to_end, action::arm_kill};
        case event::launch_failed:
            return back_to_serving({});
        case event::deadline:
            return {action::kill};
        default:
            return {};
        }
    }

    constexpr actions child_ended() noexcept
    {
        if (child_ended_)
            return {};
        switch (state_) {
        case state::serving:
        case state::launching:
            return {};
        case state::retired:
        case state::stopped:
            return {action::reap, action::close_handoff};
        default:
            child_ended_ = true;
            return {action::read_rest};
        }
    }

    constexpr actions child_gone() noexcept
    {
        if (!child_ended_)
            return {};
        child_ended_ = false;
        if (state_ == state::stopped) // a stop came while the rest was read
            return {action::reap, action::close_handoff, action::report_failed};
        return back_to_serving({action::disarm, action::reap});
    }

    constexpr actions end_child() noexcept
    {
        state_ = state::ending;
        return {action::ask_to_end, action::arm_kill};
    }

    /// It is on its way out, and its exit status tells more than our signal would.
    constexpr actions let_child_end() noexcept
    {
        state_ = state::ending;
        return {action::arm_kill};
    }

    constexpr actions back_to_serving(actions first) noexcept
    {
        first.push(action::close_handoff);
        first.push(action::restore);
        first.push(action::report_failed);
        state_ = stop_ ? state::stopped : state::serving;
        return first;
    }

    state state_ = state::serving;
    bool child_ended_ = false; ///< seen on its pidfd; what it sent before may still be unread
    bool stop_ = false;        ///< a stop came; only with `ending`, and kept by `stopped`
};

} // namespace ecdysis::handoff

#endif
