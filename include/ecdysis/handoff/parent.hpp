// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_PARENT_HPP
#define ECDYSIS_HANDOFF_PARENT_HPP

#include <ecdysis/handoff/actions.hpp>

namespace ecdysis::handoff {

/// The parent's side of the protocol, from serving to retired or stopped. It takes events and gives back
/// actions; it owns no descriptor, reads no clock and makes no system call. A value: copy it to explore it.
///
/// The order is: commit, serving, probation, alive, announcement, yours. Until the service manager's socket has accepted
/// the announcement, whatever happens to the child makes this generation take the service back.
class parent
{
public:
    enum class state {
        serving,      ///< no upgrade runs
        launching,    ///< the child's program is being started
        handing_over, ///< the child pulls frames
        starting,     ///< the child has all and starts up
        reaching,     ///< the child is ready; whether the service manager hears us is found out
        committing,   ///< the commit is being sent
        committed,    ///< the child may accept; both accept until it says that it serves
        probation,    ///< the child serves, and must go on to; this generation has paused
        asking,       ///< the child was asked whether it is alive
        announcing,   ///< the service manager is told of the new main process
        confirming,   ///< its socket has accepted that: there is no way back; its confirmation is awaited
        settling,     ///< signals that came are read, and the child's end is looked for once more
        yielding,     ///< `yours` is being sent
        yielded,      ///< the service is the child's; its answer is awaited
        retired,      ///< this generation drains
        ending,       ///< the upgrade failed before commit; the child's end is awaited
        stopped,      ///< this generation drains, and no child takes over
    };

    enum class event {
        upgrade,       ///< a trigger asks for an upgrade
        stop,          ///< a trigger asks for a stop
        launched,      ///< the child's process is there, and about to execute the program
        launch_failed, ///< there is no process
        asked,         ///< frame: the child asks for the next one
        handed_over,   ///< the last frame of the handoff has been sent
        ready,         ///< frame: the child could serve
        failed,        ///< frame: the child says why it fails
        serving,       ///< frame: the child accepts
        alive,         ///< frame: the child answers from its loop
        child_stops,   ///< frame: the child has ended accepting
        taken,         ///< frame: the child has taken the service over
        garbage,       ///< what came makes no sense here
        closed,        ///< the child closed its end, all it sent was read; says nothing of its life
        child_ended,   ///< the child's pidfd says so
        nothing_left,  ///< after `read_rest`: all that the ended child had sent was read
        reached,       ///< the manager has answered
        unreachable,   ///< the manager cannot be told anything
        commit_sent,
        commit_lost,   ///< the child cannot get the commit any more
        announced,     ///< the manager's socket has accepted the announcement
        unannounced,   ///< the manager cannot be told
        confirmed,     ///< the manager has worked through the announcement
        settled,
        yours_sent,
        yours_lost,    ///< the child closed its end
        deadline,      ///< the armed time has passed, and what the child had sent by then was read
    };

    enum class action {
        tell_reloading, ///< to the service manager
        launch,         ///< answered by launched or launch_failed
        give_up_launch, ///< it is answered no more, and no child is left of it
        send_next,      ///< one frame; the last is followed by the event handed_over
        reach_manager,  ///< answered by reached or unreachable
        commit,         ///< fill and seal the late state, send commit; answered by commit_sent or commit_lost
        pause,          ///< stop accepting on what the child claimed, and keep it open
        resume,         ///< accept on it again
        ask_alive,
        announce,       ///< tell the manager that the child is the main process, and ready; answered by announced, then confirmed
        settle,         ///< answered by settled, unless the child is found to have ended
        send_yours,     ///< until it is sent; answered by yours_sent or yours_lost
        retire,         ///< stop accepting, drain
        stop,           ///< stop accepting, drain, end
        send_stop,      ///< after `yours`: tell the child that the service stops
        kill,           ///< SIGKILL to the child
        leave_alone,    ///< it was killed in vain: it is no more of this upgrade, and reaped if it ends
        set_aside,      ///< tell the child that the service was taken back; it is no more of this upgrade
        stop_child,     ///< the same, as the service stops
        read_rest,      ///< read all frames that are there, then give the event nothing_left
        reap,
        close_handoff,  ///< drop our end
        restore,        ///< undo what the upgrade changed: state, what the manager was told
        report_committed,
        report_ok,
        report_failed,
        report_manager_late,
        refuse_busy,
        refuse_not_serving,
        arm_ready, ///< one timer: arming replaces what was armed
        arm_barrier,
        arm_serving,
        arm_probation,
        arm_taken,
        arm_kill,
        disarm,
    };

    using actions = handoff::actions<action>;

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    /// An upgrade is under way.
    [[nodiscard]] constexpr bool upgrading() const noexcept
    {
        return (state_ > state::serving && state_ < state::yielded) || state_ == state::ending;
    }
    /// The child may accept, and the service is not yet its own.
    [[nodiscard]] constexpr bool has_committed_child() const noexcept
    {
        return state_ >= state::committed && state_ <= state::yielding;
    }
    /// The service manager may have been told that the child is the main process.
    [[nodiscard]] constexpr bool has_announced() const noexcept
    {
        return state_ >= state::confirming && state_ <= state::retired;
    }
    /// A stop came after the announcement: the child that gets the service is to stop, too.
    [[nodiscard]] constexpr bool stops_child() const noexcept { return stop_; }
    /// The drain may not be over yet: a child must be reaped, or hear something first.
    [[nodiscard]] constexpr bool holds_drain() const noexcept
    {
        return state_ == state::ending || (state_ >= state::confirming && state_ <= state::yielded) || child_ended_;
    }
    /// This generation accepts connections on what a child claimed.
    [[nodiscard]] constexpr bool accepting() const noexcept
    {
        return !stop_ && (state_ <= state::committed || state_ == state::ending);
    }
    /// The service stops: no other generation goes on.
    [[nodiscard]] constexpr bool ends_service() const noexcept
    {
        return state_ == state::stopped || (state_ == state::ending && stop_);
    }

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
        default:
            break;
        }
        if (child_ended_)
            return after_death(e);
        switch (state_) {
        case state::launching:
            return launching(e);
        case state::handing_over:
        case state::starting:
            return before_ready(e);
        case state::reaching:
        case state::committing:
            return before_commit(e);
        case state::committed:
        case state::probation:
        case state::asking:
        case state::announcing:
            return before_announcement(e);
        case state::confirming:
        case state::settling:
        case state::yielding:
            return before_yours(e);
        case state::yielded:
            if (e == event::taken || e == event::deadline) {
                state_ = state::retired;
                return {action::disarm, action::report_ok};
            }
            break;
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
        if (upgrading() && !stop_)
            return {action::refuse_busy};
        return {action::refuse_not_serving};
    }

    constexpr actions stop() noexcept
    {
        switch (state_) {
        case state::serving:
            state_ = state::stopped;
            return {action::stop};
        case state::launching: // its child is ended when it comes
            state_ = state::ending;
            stop_ = true;
            return {action::arm_kill, action::stop};
        case state::handing_over:
        case state::starting:
        case state::reaching:
        case state::committing:
            state_ = state::ending;
            stop_ = true;
            if (child_ended_)
                return {action::stop};
            return kill_child({action::stop});
        case state::committed:
        case state::probation:
        case state::asking:
        case state::announcing:
            if (child_ended_) {
                state_ = state::ending;
                stop_ = true;
                return {action::stop, action::disarm};
            }
            state_ = state::stopped;
            return {action::disarm, action::stop_child, action::stop, action::restore, action::report_failed};
        case state::confirming:
        case state::settling:
            return stop_after_yours();
        case state::yielding:
            stop_ = true;
            return {};
        case state::ending:
            if (stop_)
                return {};
            stop_ = true;
            if (child_ended_ || killed_ || !launched_) // one that is still being launched is ended when it comes
                return {action::stop};
            return kill_child({action::stop});
        case state::yielded:
        case state::retired:
        case state::stopped:
            break;
        }
        return {};
    }

    /// The manager may take the child for the main process by now: the service is the child's, and stops with it. A child
    /// that has ended is found first, for then the service is ours to stop.
    constexpr actions stop_after_yours() noexcept
    {
        stop_ = true;
        if (child_ended_ || state_ == state::settling)
            return {};
        state_ = state::settling;
        return {action::disarm, action::settle};
    }

    constexpr actions launching(event e) noexcept
    {
        switch (e) {
        case event::launched:
            state_ = state::handing_over;
            launched_ = true;
            return {};
        case event::launch_failed:
            return back_to_serving({action::disarm});
        case event::deadline: // its child is ended when it comes
            state_ = state::ending;
            return {action::arm_kill};
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
                state_ = state::reaching;
                return {action::arm_barrier, action::reach_manager};
            }
            return end_child();
        case event::failed:
        case event::closed:
            return let_child_end();
        case event::serving:
        case event::alive:
        case event::child_stops:
        case event::taken:
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
            return {action::report_manager_late, action::arm_serving, action::commit};
        case event::reached:
            if (state_ != state::reaching)
                return {};
            state_ = state::committing;
            return {action::arm_serving, action::commit};
        case event::unreachable: // found out here, where it harms nothing
            return state_ == state::reaching ? end_child() : actions{};
        case event::commit_sent:
            state_ = state::committed;
            launched_ = false;
            return {action::report_committed};
        case event::failed:
        case event::closed:
            return let_child_end();
        case event::commit_lost:
        case event::asked:
        case event::ready:
        case event::serving:
        case event::alive:
        case event::child_stops:
        case event::taken:
        case event::garbage:
            return end_child();
        default:
            return {};
        }
    }

    constexpr actions before_announcement(event e) noexcept
    {
        switch (e) {
        case event::serving:
            if (state_ != state::committed)
                return take_back();
            state_ = state::probation;
            return {action::pause, action::arm_probation};
        case event::alive:
            if (state_ != state::asking)
                return take_back();
            state_ = state::announcing;
            return {action::arm_barrier, action::announce};
        case event::announced:
            if (state_ != state::announcing)
                return {};
            state_ = state::confirming;
            return {};
        case event::deadline:
            if (state_ != state::probation)
                return take_back();
            state_ = state::asking;
            return {action::arm_serving, action::ask_alive};
        case event::unannounced:
            return state_ == state::announcing ? take_back() : actions{};
        case event::failed:
        case event::asked:
        case event::ready:
        case event::child_stops:
        case event::taken:
        case event::garbage:
            return take_back();
        default: // an end that is closed is not the child's: a deadline tells whether that lives
            return {};
        }
    }

    // From here on a child that is late or odd is the main process all the same: only its end makes us take back.
    constexpr actions before_yours(event e) noexcept
    {
        switch (e) {
        case event::confirmed:
            if (state_ != state::confirming)
                return {};
            state_ = state::settling;
            return {action::disarm, action::settle};
        case event::deadline:
            if (state_ != state::confirming)
                return {};
            state_ = state::settling;
            return {action::report_manager_late, action::settle};
        case event::settled:
            if (state_ != state::settling)
                return {};
            state_ = state::yielding;
            return {action::send_yours};
        case event::child_stops: // as the main process
            if (state_ != state::yielding)
                return stop_after_yours();
            stop_ = true;
            return {};
        case event::yours_sent:
            state_ = state::yielded;
            if (stop_)
                return {action::send_stop, action::retire, action::arm_taken};
            return {action::retire, action::arm_taken};
        case event::yours_lost:
            return take_back();
        default:
            return {};
        }
    }

    constexpr actions ending(event e) noexcept
    {
        switch (e) {
        case event::launched:
            launched_ = true;
            return kill_child();
        case event::deadline:
            if (!launched_)
                return back_to_serving({action::disarm, action::give_up_launch});
            return killed_ ? back_to_serving({action::disarm, action::leave_alone}) : kill_child();
        case event::launch_failed:
            return back_to_serving({action::disarm});
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

    /// The child has ended: of what it sent only why it failed matters, which stands in the frame itself, and that it
    /// was stopped as the main process.
    constexpr actions after_death(event e) noexcept
    {
        if (e == event::child_stops && state_ >= state::confirming && state_ <= state::yielding)
            stop_ = true;
        return {};
    }

    constexpr actions child_gone() noexcept
    {
        if (!child_ended_)
            return {};
        child_ended_ = false;
        switch (state_) {
        case state::committed:
        case state::probation:
        case state::asking:
        case state::announcing:
            return back_to_serving({action::disarm, action::reap, action::resume});
        case state::confirming:
        case state::settling:
        case state::yielding:
            if (!stop_)
                return back_to_serving({action::disarm, action::reap, action::resume});
            state_ = state::stopped;
            return {action::disarm, action::reap,    action::close_handoff,
                    action::stop,   action::restore, action::report_failed};
        case state::yielded: // an ordinary crash, and whoever asked should not hear `ok`
            state_ = state::retired;
            return {action::disarm, action::reap, action::close_handoff, action::report_failed};
        default:
            return back_to_serving({action::disarm, action::reap});
        }
    }

    /// A child without a commit: there is nothing that it could finish.
    constexpr actions end_child() noexcept
    {
        state_ = state::ending;
        return kill_child();
    }

    /// SIGKILL may be late or in vain: the kernel holds the process (a disk that does not answer), or it is another user's
    /// and the spawner has gone. Nobody is to wait for ever.
    constexpr actions kill_child(actions first = {}) noexcept
    {
        killed_ = true;
        first.push(action::arm_kill);
        first.push(action::kill);
        return first;
    }

    /// It is on its way out, and its exit status tells more than our signal would.
    constexpr actions let_child_end() noexcept
    {
        state_ = state::ending;
        return {action::arm_kill};
    }

    /// A child with a commit may have connections: it ends them as its host says.
    constexpr actions take_back() noexcept
    {
        if (stop_) { // only after the announcement: the service was to end with the child
            state_ = state::stopped;
            return {action::disarm, action::stop_child, action::stop, action::restore, action::report_failed};
        }
        state_ = state::serving;
        return {action::disarm, action::resume, action::set_aside, action::restore, action::report_failed};
    }

    constexpr actions back_to_serving(actions first) noexcept
    {
        first.push(action::close_handoff);
        first.push(action::restore);
        first.push(action::report_failed);
        state_ = stop_ ? state::stopped : state::serving;
        launched_ = killed_ = false;
        return first;
    }

    state state_ = state::serving;
    bool child_ended_ = false; ///< seen on its pidfd; what it sent before may still be unread
    bool launched_ = false;    ///< the child's process was started; said until commit
    bool killed_ = false;      ///< with `ending`: the child was killed
    bool stop_ = false;        ///< a stop came, with `ending`, or after the announcement
};

} // namespace ecdysis::handoff

#endif
