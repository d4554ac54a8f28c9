// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_SET_ASIDE_HPP
#define ECDYSIS_HANDOFF_SET_ASIDE_HPP

#include <ecdysis/handoff/actions.hpp>

namespace ecdysis::handoff {

/// A child with a commit that is not to be the service: the service was taken back, or stops. It may have connections, so
/// it is told to end them as its host says, and ended only where it does not answer or takes too long. Like the two sides
/// of the handoff a machine without I/O, and a value.
class set_aside
{
public:
    enum class state {
        telling,  ///< the stop frame is being sent, or its answer awaited
        draining, ///< the child has said that it ends accepting
        killed,   ///< its end is awaited
        left_alone, ///< it has not ended though it was killed: nothing more can be done
        gone,
    };

    enum class event {
        began,
        left_alone,    ///< instead of `began`: it has no commit, and was killed in vain
        child_stops,  ///< frame: the child has ended accepting
        replaced,     ///< another child is set aside
        deadline,     ///< the armed time has passed
        parent_leaves, ///< this generation ends
        child_ended,  ///< the child's pidfd says so
    };

    enum class action {
        send_stop, ///< until it is sent
        arm_grace, ///< one timer: arming replaces what was armed
        arm_drain,
        disarm,
        release_drain, ///< the parent's drain is not held any more
        kill,      ///< SIGKILL to the child
        reap,      ///< and drop all that was kept for it
    };

    using actions = handoff::actions<action>;

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    /// The parent's drain is not over before this child's.
    [[nodiscard]] constexpr bool holds_drain() const noexcept { return state_ < state::left_alone; }

    [[nodiscard]] constexpr actions on(event e) noexcept
    {
        if (state_ == state::gone)
            return {};
        switch (e) {
        case event::began:
            return {action::send_stop, action::arm_grace};
        case event::child_stops:
            if (state_ != state::telling)
                return {};
            state_ = state::draining;
            return {action::arm_drain};
        case event::left_alone:
            state_ = state::left_alone;
            return {};
        case event::deadline:
            if (state_ != state::killed)
                return kill();
            state_ = state::left_alone;
            return {action::release_drain};
        case event::replaced:
            return kill();
        case event::parent_leaves: // nobody will see any more whether it answers
            return state_ == state::telling ? kill() : actions{};
        case event::child_ended:
            state_ = state::gone;
            return {action::disarm, action::reap};
        }
        return {};
    }

    friend constexpr bool operator==(set_aside const&, set_aside const&) noexcept = default;

private:
    constexpr actions kill() noexcept
    {
        if (state_ >= state::killed)
            return {};
        state_ = state::killed;
        return {action::arm_grace, action::kill};
    }

    state state_ = state::telling;
};

} // namespace ecdysis::handoff

#endif
