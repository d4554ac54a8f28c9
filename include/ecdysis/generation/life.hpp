// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_LIFE_HPP
#define ECDYSIS_GENERATION_LIFE_HPP

#include <ecdysis/handoff/actions.hpp>
#include <ecdysis/os/unix_path.hpp>

#include <utility>

namespace ecdysis {

/// The life of one process, from its start to the end of its drain: what it may do, what a stop means to it, when its
/// drain is over, and what it removes. A machine without I/O and a value, as the two sides of the handoff are.
class life
{
public:
    enum class state {
        starting,  ///< before ready; nothing is accepted
        accepting, ///< a child with its commit: the service is its parent's still
        serving,   ///< the service is this generation's
        retired,   ///< the service is a child's
        stopping,  ///< accepting has ended, and no child follows
        given_up,  ///< a child that must not serve
    };

    enum class event {
        committed,        ///< this generation may accept
        service_ours,     ///< the parent said so, or has died; in the first generation: ready
        child_took,       ///< the service is the child's
        stopped,          ///< accepting ends: a machine of the handoff says so
        gave_up,
        stop_signal,      ///< a signal asks for a stop
        stop_request,     ///< a call or a control socket does
        drain_begins,     ///< the host calls drain()
        nothing_open,     ///< no connection is left, or nothing of the handoff holds the drain any more
        drain_deadline,   ///< the host's deadline has passed
        grace_deadline,   ///< kill_grace later
    };

    enum class action {
        pass_stop,   ///< to the machines of the handoff, which give `stopped`
        count_open,  ///< answered by nothing_open, if that is so
        arm_grace,   ///< the host's deadline has passed, and a child's end is awaited
        finish,      ///< the drain is over: let everything go
    };

    using actions = handoff::actions<action>;

    /// `first`: no parent; the service is its own from the start. `supervised`: by a service manager.
    constexpr life(bool first, bool supervised) noexcept : ours_{first}, supervised_{supervised} {}

    [[nodiscard]] constexpr state now() const noexcept { return state_; }
    /// Accepting has begun, at some time.
    [[nodiscard]] constexpr bool has_accepted() const noexcept { return accepted_; }
    /// An upgrade may begin.
    [[nodiscard]] constexpr bool may_upgrade() const noexcept { return state_ == state::serving && !stop_passed_; }
    /// Accepting has ended.
    [[nodiscard]] constexpr bool leaves() const noexcept
    {
        return state_ == state::retired || state_ == state::stopping || state_ == state::given_up;
    }
    /// A stop is under way, or over.
    [[nodiscard]] constexpr bool stops() const noexcept { return stop_passed_ || state_ == state::stopping; }
    [[nodiscard]] constexpr bool drains() const noexcept { return drain_ != drain::not_begun; }
    /// Its deadline has passed, and it is not over: only a child's end is awaited.
    [[nodiscard]] constexpr bool drains_late() const noexcept { return drain_ == drain::late; }
    [[nodiscard]] constexpr bool drained() const noexcept { return drain_ == drain::over; }

    /// The service manager takes this process for the main one: it hears what this one says.
    [[nodiscard]] constexpr bool is_main() const noexcept { return ours_ && state_ != state::retired; }

    /// What this generation unlinks when it ends: paths, control sockets.
    [[nodiscard]] constexpr os::unlinked unlinks() const noexcept
    {
        switch (state_) {
        case state::starting: // what the first generation found in the manager's store is for the one that is started next
        case state::accepting:
        case state::given_up:
            return os::unlinked::fresh;
        case state::retired:
            return os::unlinked::none;
        case state::serving:
            break;
        case state::stopping:
            return ours_ ? os::unlinked::all : os::unlinked::fresh;
        }
        return os::unlinked::all;
    }

    /// `held`: a child's end or word is awaited.
    [[nodiscard]] constexpr actions on(event e, bool held = false) noexcept
    {
        switch (e) {
        case event::committed:
            if (state_ == state::starting) {
                state_ = state::accepting;
                accepted_ = true;
            }
            return {};
        case event::service_ours:
            return service_ours();
        case event::child_took:
            if (state_ == state::serving)
                state_ = state::retired;
            return {};
        case event::stopped:
            if (!leaves())
                state_ = state::stopping;
            return {};
        case event::gave_up:
            if (state_ == state::starting)
                state_ = state::given_up;
            return {};
        case event::stop_signal:
            return stop_signal();
        case event::stop_request:
            return stop_request();
        case event::drain_begins:
            if (drains())
                return {};
            drain_ = over_early_ ? drain::over : drain::running;
            if (over_early_)
                return {action::finish};
            return {action::count_open};
        case event::nothing_open:
            if ((drain_ != drain::running && drain_ != drain::late) || held)
                return {};
            return finish();
        case event::drain_deadline:
            if (drain_ != drain::running)
                return {};
            if (!held)
                return finish();
            drain_ = drain::late;
            return {action::arm_grace};
        case event::grace_deadline:
            return drain_ == drain::late ? finish() : actions{};
        }
        return {};
    }

    friend constexpr bool operator==(life const&, life const&) noexcept = default;

private:
    enum class drain { not_begun, running, late, over };

    constexpr actions service_ours() noexcept
    {
        ours_ = true;
        accepted_ = true;
        if (state_ == state::starting || state_ == state::accepting)
            state_ = state::serving;
        return {};
    }

    constexpr actions stop_signal() noexcept
    {
        // A stop that the other generation passed on and the signal are one.
        bool const again = std::exchange(signal_heard_, true) || stop_passed_;
        switch (state_) {
        case state::starting:
        case state::accepting:
        case state::serving:
            if (std::exchange(stop_passed_, true))
                return {};
            return {action::pass_stop};
        case state::retired:
        case state::stopping:
            break;
        case state::given_up:
            return {};
        }
        // systemd sends a second one to all that is left, 1 to 2 ms after the main process has ended (252 and 257, seen): it
        // must not cut a drain.
        if (!again || (supervised_ && !is_main()))
            return {};
        return end_drain();
    }

    constexpr actions stop_request() noexcept
    {
        if (leaves())
            return end_drain();
        if (std::exchange(stop_passed_, true))
            return {};
        return {action::pass_stop};
    }

    constexpr actions end_drain() noexcept
    {
        if (drain_ == drain::not_begun) {
            over_early_ = true;
            return {};
        }
        return drain_ == drain::over ? actions{} : finish();
    }

    constexpr actions finish() noexcept
    {
        drain_ = drain::over;
        return {action::finish};
    }

    state state_ = state::starting;
    drain drain_ = drain::not_begun;
    bool ours_;
    bool supervised_;
    bool accepted_ = false;
    bool stop_passed_ = false;
    bool signal_heard_ = false; ///< one stop signal at least
    bool over_early_ = false;   ///< the drain is to end as soon as it begins
};

} // namespace ecdysis

#endif
