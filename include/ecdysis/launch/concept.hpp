// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_CONCEPT_HPP
#define ECDYSIS_LAUNCH_CONCEPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ecdysis::launch {

/// What to start. All that it borrows is needed until `done` is called, or the start is given up.
struct request
{
    std::string program;                        ///< an absolute path, symlinks not resolved
    std::vector<std::string> arguments;         ///< argv, argv[0] included
    std::vector<std::string> environment;       ///< NAME=value, all of it
    os::borrowed_fd directory;                  ///< the working directory
    std::span<os::borrowed_fd const> inherited; ///< become the child's 3, 4, 5 …; all other numbers are closed
    std::span<int const> blocked;               ///< the signals that start blocked; all others are unblocked
    std::span<int const> ignored{};             ///< the signals that start ignored; all others have their default
    /// The new process becomes a child of our own parent process, which is the service manager: to systemd a main process
    /// that is not its own child is one whose end it may miss, and which it does not wait for at a stop.
    bool as_sibling = false;
};

/// A started child, not yet reaped. It is there before its program is: executing that may take long (a disk that is slow or
/// does not answer), and nobody waits for it.
struct process
{
    os::process_id pid = os::process_id::none;
    os::owned_fd pidfd;
    std::shared_ptr<int volatile const> exec_errno{}; ///< where the new process says why not; 0 until then, or `in_root`

    static constexpr int in_root = -1;

    /// Of one that has ended: why its program could not be executed (ENOENT, EACCES, EBADF for a descriptor that is not
    /// open, …). None: it was executed, or the process was killed before.
    [[nodiscard]] error_code exec_error() const noexcept
    {
        int const why = exec_errno ? *exec_errno : 0;
        return {why == in_root ? 0 : why, boost::system::system_category()};
    }
    /// Of one whose program runs: it must not enter its working directory, and was started in /.
    [[nodiscard]] bool starts_in_root() const noexcept { return exec_errno && *exec_errno == in_root; }
};

/// What a start that is under way waits for: a descriptor that becomes readable, a time, or whichever comes first.
struct awaited
{
    os::borrowed_fd readable{};
    std::optional<std::chrono::steady_clock::time_point> until{};

    /// None: no start is under way.
    [[nodiscard]] explicit operator bool() const noexcept { return readable.get() != -1 || until; }
};

/// What a policy of the axis `launch` must offer: starting the child's program with exactly the descriptors named.
///
/// | expression                | result      | meaning                                                          |
/// | ------------------------- | ----------- | ---------------------------------------------------------------- |
/// | `l.start(request, done)`  | void        | never waits: calls `done(ec, process)` once, here or in `go_on()`; what exec says comes later, as the process's `exec_error()`. One start at a time |
/// | `l.awaits()`              | awaited     | when to call `go_on()`; none where no start is under way         |
/// | `l.go_on()`               | void        | goes on with the start that is under way, if any; never waits    |
/// | `l.give_up()`             | void        | the start that is under way is none any more: its `done` is not called, and no child is left of it |
/// | `l.as_sibling(wanted)`    | bool        | whether it will start a sibling, where one is wanted or not; what `request::as_sibling` must be |
/// | `l.kill(process, signal, ec)` | void    | never waits; one that has ended already is no error              |
/// | `l.reap(process, ec)`     | exit_status | after its pidfd became readable; takes this child's status and no other's; `resource_unavailable_try_again` until whoever is its parent has |
///
/// For seccomp::allowlist it also says which system calls it makes: a `static constexpr` array `system_calls`, see seccomp/rule.hpp.
template <class T>
concept Policy = requires(T& l, request const& r, std::function<void(error_code, process)> done, process const& p, int signal, error_code& ec) {
    { l.start(r, done) } -> std::same_as<void>;
    { l.awaits() } noexcept -> std::same_as<awaited>;
    { l.go_on() } -> std::same_as<void>;
    { l.give_up() } noexcept -> std::same_as<void>;
    { l.as_sibling(true) } noexcept -> std::same_as<bool>;
    { l.kill(p, signal, ec) } -> std::same_as<void>;
    { l.reap(p, ec) } -> std::same_as<os::exit_status>;
};

} // namespace ecdysis::launch

#endif
