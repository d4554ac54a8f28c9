// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_NOTIFY_CONCEPT_HPP
#define ECDYSIS_NOTIFY_CONCEPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <chrono>
#include <concepts>
#include <string>
#include <string_view>
#include <vector>

namespace ecdysis::notify {

/// What happens, as a service manager would hear it.
struct step
{
    enum class kind {
        ready,        ///< this generation serves
        reloading,    ///< an upgrade begins
        handing_over, ///< `child` is the main process from now on, and serves
        failed,       ///< the upgrade failed, this generation serves on, as the main process; `status` says why
        stopping,     ///< the service stops
        status,       ///< only words: `status`
        extend,       ///< only a time: `extra`
        watchdog,     ///< this process is alive
        store,        ///< keep a duplicate of `descriptor` under `name` for when this service is started again
        unstore,      ///< let go of all that is kept under `name`
    };
    kind what = kind::status;
    std::string_view status{};                     ///< for people, one line; empty: none
    os::process_id child = os::process_id::none;   ///< for handing_over; for failed: this process, if it had handed over
    std::chrono::microseconds extra{};             ///< starting, reloading or stopping takes up to so much longer from now
    std::string_view name{};                       ///< for store and unstore
    os::borrowed_fd descriptor{};                  ///< for store
    std::chrono::steady_clock::time_point when = std::chrono::steady_clock::now(); ///< for reloading: when it began
};

/// What a policy of the axis `notify` must offer: telling the service manager what happens. Nothing waits.
///
/// | expression           | result   | meaning                                                                   |
/// | -------------------- | -------- | ------------------------------------------------------------------------- |
/// | `n.check(ec)`        | void     | an error if the manager cannot be told at all; asked before ready         |
/// | `n.send(step, ec)`   | void     | one message; `resource_unavailable_try_again` if the manager's queue is full |
/// | `n.barrier(ec)`      | owned_fd | readable once the manager has worked through all sent so far; empty: nothing to wait for |
/// | `n.supervised()`     | bool     | a manager watches this process: a child must not go on as heir            |
/// | `n.advice()`         | strings  | what in the manager's settings cannot work, a sentence each: the first generation's warnings, before ready |
/// | `n.stores()`         | bool     | the manager is to keep descriptors for when this service is started again |
/// | `n.started_us()`     | bool     | the manager is this process's parent process, and should be the child's too |
/// | `n.watchdog_interval()` | microseconds | within which each `watchdog` step is expected; zero: none is         |
///
/// For seccomp::allowlist it also says which system calls it makes: a `static constexpr` array `system_calls`, see seccomp/rule.hpp.
template <class T>
concept Policy = requires(T& n, T const& c, step const& s, error_code& ec) {
    { c.check(ec) } -> std::same_as<void>;
    { n.send(s, ec) } -> std::same_as<void>;
    { n.barrier(ec) } -> std::same_as<os::owned_fd>;
    { c.supervised() } noexcept -> std::same_as<bool>;
    { c.advice() } -> std::same_as<std::vector<std::string>>;
    { c.stores() } noexcept -> std::same_as<bool>;
    { c.started_us() } noexcept -> std::same_as<bool>;
    { c.watchdog_interval() } noexcept -> std::same_as<std::chrono::microseconds>;
};

} // namespace ecdysis::notify

#endif
