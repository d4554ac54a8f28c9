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
    serving,      ///< no upgrade runs; or the child has its commit, and its word that it serves is awaited
    launching,    ///< the program is being started
    handing_over, ///< the child pulls
    committing,   ///< the commit is being sent
    probation,    ///< the child serves; it must go on to for options.probation, and then answer from its loop
    announcing,   ///< the service manager is told of the new main process, then the child that the service is its own
    draining,     ///< finishing open connections
};

/// "handing over" …; the lines of control sockets have a hyphen for each space.
[[nodiscard]] constexpr char const* name(phase value) noexcept
{
    switch (value) {
    case phase::inheriting: return "inheriting";
    case phase::starting: return "starting";
    case phase::serving: return "serving";
    case phase::launching: return "launching";
    case phase::handing_over: return "handing over";
    case phase::committing: return "committing";
    case phase::probation: return "probation";
    case phase::announcing: return "announcing";
    case phase::draining: return "draining";
    }
    return "";
}

/// What an observer is told, one type a step.
namespace events {

/// A child, in its constructor: it has got all that its parent handed over, so many descriptors of every kind.
struct inherited { std::size_t descriptors; os::process_id parent; };
/// At commit: no line of this host claimed what the parent handed over, or the service manager passed, by that name;
/// closed now.
struct unclaimed { std::string name; };
/// A child: the parent died, after its commit, or where no service manager supervises it also before; this generation goes
/// on without it.
struct heir { os::process_id parent; };
/// This generation accepts: the first one at ready, a child when it is about to tell its parent so.
struct serving {};
/// The service is this generation's: the first one's at ready, a child's when its parent says so, or has died. What only
/// one process may do (a cron job, a lease) begins here.
struct yours {};
/// An upgrade begins; the events up to `upgraded` or `upgrade_failed` are its.
struct upgrade_requested { trigger by; };
/// An upgrade that was asked for and does not begin. `why`: errc::busy or errc::not_serving.
struct refused { trigger by; error_code why; };
/// The child's process exists; `program` is the absolute path that it executes. Where that fails, `upgrade_failed` says so.
struct launched { os::process_id child; std::string program; };
/// The child has been sent all.
struct handed_over { os::process_id child; std::size_t descriptors; };
/// A signal asks for an upgrade while one runs, or before the service is this generation's: one more follows, by whoever has
/// the service then.
struct postponed { trigger by; };
/// The child could serve.
struct child_ready { os::process_id child; };
/// The child may accept.
struct committed { os::process_id child; std::chrono::nanoseconds since_trigger; };
/// The child accepts. This generation accepts no more on what the child claimed, keeps it open, and watches the child for
/// options.probation.
struct child_serves { os::process_id child; };
/// A child with a commit is not to be the service: this generation accepts again, and `upgrade_failed`, which follows, says
/// why. A child that lives is set aside: it is told to end accepting, to drain and to end (options.kill_grace,
/// options.drain_timeout).
struct taken_back { os::process_id child; };
/// The service is the child's, and its service manager knows it; this generation drains.
struct upgraded { os::process_id child; std::chrono::nanoseconds since_trigger; };
/// This generation serves on. `during`: where the upgrade was when it began to fail; `why`: of
/// condition::upgrade_failed, errc::stopped, or what the system or the host's fill said; `reason`: the words that
/// whoever asked hears.
struct upgrade_failed { phase during; error_code why; std::string reason; };
/// Accepting ends, and no child follows: a stop, or the parent took the service back. `why` is what wait() gives.
struct stopping { exit why; };
/// The drain begins, with so many open connections.
struct draining { std::size_t connections; };
/// options.idle_grace later: those that wait for a next request are to be closed now. `connections`: all open ones.
struct closing_idle { std::size_t connections; };
/// The drain is over, with so many connections open still.
struct drained { std::size_t left; };
/// Something is not as it should be, and the service goes on; also the sentence of an error that a call gave as a code.
struct warning { std::string what; };

} // namespace events

/// One step, with its time and where it happened.
struct event
{
    using variant = std::variant<events::inherited, events::unclaimed, events::heir, events::serving, events::yours,
                                 events::upgrade_requested, events::refused, events::launched, events::handed_over,
                                 events::postponed, events::child_ready, events::committed, events::child_serves,
                                 events::taken_back, events::upgraded, events::upgrade_failed,
                                 events::stopping, events::draining, events::closing_idle, events::drained,
                                 events::warning>;

    std::chrono::system_clock::time_point time; ///< for people
    std::chrono::steady_clock::time_point tick; ///< for differences
    unsigned generation; ///< of the process that tells it
    os::process_id pid;  ///< of that process
    phase during;        ///< where that process is; an upgrade's own phase while one runs
    variant what;

    /// The step, if it is a `T`; else null. Valid as long as the event.
    template <class T>
    [[nodiscard]] T const* as() const noexcept
    {
        return std::get_if<T>(&what);
    }
    /// Whether a person should look: a warning, an upgrade that failed, or one that was refused.
    [[nodiscard]] bool is_warning() const noexcept
    {
        return as<events::warning>() || as<events::upgrade_failed>() || as<events::refused>();
    }
    /// One line for people, without time, generation and pid.
    [[nodiscard]] std::string text() const;
};

/// Called for each event, in order, from where the upgrader runs (the strand, or the thread in ready(), wait() or
/// drain()), or from within the call that it is about, with the lock held: never by two threads at once, and it must
/// not wait. It may call the upgrader, but for ready(), wait() and drain(). What it throws ends the process.
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
                return "the parent, " + pid_of(step.parent) + ", died; going on without it";
            else if constexpr (std::is_same_v<T, events::serving>)
                return "serving";
            else if constexpr (std::is_same_v<T, events::yours>)
                return "the service is this generation's";
            else if constexpr (std::is_same_v<T, events::upgrade_requested>)
                return "upgrade requested by " + step.by.text();
            else if constexpr (std::is_same_v<T, events::refused>)
                return "request by " + step.by.text() + " refused: " + step.why.message();
            else if constexpr (std::is_same_v<T, events::launched>)
                return "launched " + step.program + " as " + pid_of(step.child);
            else if constexpr (std::is_same_v<T, events::handed_over>)
                return "handed " + std::to_string(step.descriptors) + " descriptors to " + pid_of(step.child);
            else if constexpr (std::is_same_v<T, events::postponed>)
                return "one more upgrade follows, requested by " + step.by.text();
            else if constexpr (std::is_same_v<T, events::child_serves>)
                return pid_of(step.child) + " serves, on probation";
            else if constexpr (std::is_same_v<T, events::taken_back>)
                return "taken back from " + pid_of(step.child) + ", serving on";
            else if constexpr (std::is_same_v<T, events::child_ready>)
                return "the child, " + pid_of(step.child) + ", is ready";
            else if constexpr (std::is_same_v<T, events::committed>)
                return "committed to " + pid_of(step.child) + " after " + ms(step.since_trigger);
            else if constexpr (std::is_same_v<T, events::upgraded>)
                return "the service is that of " + pid_of(step.child) + " after " + ms(step.since_trigger);
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
