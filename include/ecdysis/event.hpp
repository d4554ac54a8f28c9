// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_EVENT_HPP
#define ECDYSIS_EVENT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/os/process.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <type_traits>
#include <variant>

namespace ecdysis {

/// Where an upgrade, or this generation, is.
enum class phase {
    inheriting,   ///< a child receives the handoff
    starting,     ///< before ready
    serving,      ///< also: committed, and the child's word that it serves is awaited
    launching,    ///< the program is being started
    handing_over, ///< the child pulls
    announcing,   ///< the service manager is told
    committing,   ///< the commit is being sent
    draining,     ///< finishing open connections
};

[[nodiscard]] constexpr char const* name(phase value) noexcept
{
    switch (value) {
    case phase::inheriting: return "inheriting";
    case phase::starting: return "starting";
    case phase::serving: return "serving";
    case phase::launching: return "launching";
    case phase::handing_over: return "handing over";
    case phase::announcing: return "announcing";
    case phase::committing: return "committing";
    case phase::draining: return "draining";
    }
    return "";
}

/// What an observer is told, one type a step.
namespace events {

/// This generation has got all that its parent handed over.
struct inherited { std::size_t descriptors; os::process_id parent; };
/// A descriptor that no line of this host claimed; closed now.
struct unclaimed { std::string name; };
/// The parent died before commit; this generation goes on without it.
struct heir { os::process_id parent; };
/// This generation may accept.
struct serving {};
struct upgrade_requested { trigger by; };
/// A request that came while none can be served: an upgrade runs, or this generation drains.
struct refused { trigger by; error_code why; };
struct launched { os::process_id child; std::string program; };
struct handed_over { os::process_id child; std::size_t descriptors; };
/// The child could serve.
struct child_ready { os::process_id child; };
/// The child may accept.
struct committed { os::process_id child; std::chrono::nanoseconds since_trigger; };
/// The child accepts; this generation has stopped to.
struct upgraded { os::process_id child; std::chrono::nanoseconds since_trigger; };
struct upgrade_failed { phase during; error_code why; std::string reason; };
struct stopping { exit why; };
struct draining { std::size_t connections; };
/// Connections that wait for a next request are to be closed now.
struct closing_idle { std::size_t connections; };
struct drained { std::size_t left; };
/// Something is not as it should be, and the service goes on.
struct warning { std::string what; };

} // namespace events

/// One step, with its time.
struct event
{
    using variant = std::variant<events::inherited, events::unclaimed, events::heir, events::serving,
                                 events::upgrade_requested, events::refused, events::launched, events::handed_over,
                                 events::child_ready, events::committed, events::upgraded, events::upgrade_failed,
                                 events::stopping, events::draining, events::closing_idle, events::drained,
                                 events::warning>;

    std::chrono::system_clock::time_point time; ///< for people
    std::chrono::steady_clock::time_point tick; ///< for differences
    unsigned generation;
    os::process_id pid;
    phase during;
    variant what;

    template <class T>
    [[nodiscard]] T const* as() const noexcept
    {
        return std::get_if<T>(&what);
    }
    [[nodiscard]] bool is_warning() const noexcept
    {
        return as<events::warning>() || as<events::upgrade_failed>() || as<events::refused>();
    }
    /// One line for people, without time, generation and pid.
    [[nodiscard]] std::string text() const;
};

/// Called for each event, in order, from where the upgrader runs (the strand, or the thread in ready(), wait() or
/// drain()), with its lock held: it must not wait. What it throws ends the process.
using observer = std::function<void(event const&)>;

inline std::string event::text() const
{
    auto const pid_of = [](os::process_id id) { return "pid " + std::to_string(os::number(id)); };
    auto const ms = [](std::chrono::nanoseconds time) {
        return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(time).count()) + " us";
    };
    return std::visit(
        [&](auto const& step) -> std::string {
            using T = std::decay_t<decltype(step)>;
            if constexpr (std::is_same_v<T, events::inherited>)
                return "inherited " + std::to_string(step.descriptors) + " descriptors from " + pid_of(step.parent);
            else if constexpr (std::is_same_v<T, events::unclaimed>)
                return "nobody claimed " + step.name + ", closed";
            else if constexpr (std::is_same_v<T, events::heir>)
                return "the parent, " + pid_of(step.parent) + ", died before commit; going on without it";
            else if constexpr (std::is_same_v<T, events::serving>)
                return "serving";
            else if constexpr (std::is_same_v<T, events::upgrade_requested>)
                return "upgrade requested by " + step.by.text();
            else if constexpr (std::is_same_v<T, events::refused>)
                return "request by " + step.by.text() + " refused: " + step.why.message();
            else if constexpr (std::is_same_v<T, events::launched>)
                return "launched " + step.program + " as " + pid_of(step.child);
            else if constexpr (std::is_same_v<T, events::handed_over>)
                return "handed " + std::to_string(step.descriptors) + " descriptors to " + pid_of(step.child);
            else if constexpr (std::is_same_v<T, events::child_ready>)
                return "the child, " + pid_of(step.child) + ", is ready";
            else if constexpr (std::is_same_v<T, events::committed>)
                return "committed to " + pid_of(step.child) + " after " + ms(step.since_trigger);
            else if constexpr (std::is_same_v<T, events::upgraded>)
                return pid_of(step.child) + " serves, after " + ms(step.since_trigger);
            else if constexpr (std::is_same_v<T, events::upgrade_failed>)
                return std::string{"the upgrade failed while "} + name(step.during) + ": " + step.reason;
            else if constexpr (std::is_same_v<T, events::stopping>)
                return std::string{step.why.text()} + " by " + step.why.by.text();
            else if constexpr (std::is_same_v<T, events::draining>)
                return "draining " + std::to_string(step.connections) + " connections";
            else if constexpr (std::is_same_v<T, events::closing_idle>)
                return "closing idle ones of " + std::to_string(step.connections) + " connections";
            else if constexpr (std::is_same_v<T, events::drained>)
                return "drained, " + std::to_string(step.left) + " connections left";
            else
                return step.what;
        },
        what);
}

} // namespace ecdysis

#endif
