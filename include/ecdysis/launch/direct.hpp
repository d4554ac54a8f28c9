// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_DIRECT_HPP
#define ECDYSIS_LAUNCH_DIRECT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/spawn.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <utility>

namespace ecdysis::launch {

/// Starts the child from this process, by `spawn`.
///
/// Holds no state; any thread may call it, as long as no other one closes what the request borrows.
class direct
{
public:
    /// The filter is inherited: it must also allow what the new generation calls between exec and main.
    static constexpr auto system_calls =
        seccomp::join(seccomp::declare("launch::direct", spawn_calls, os::process_calls), seccomp::program_calls);

    /// Starts `what` and calls `done(ec, process)` before it returns, and before the program is executed. Errors: those of
    /// `spawn`.
    ///
    /// Exceptions: std::bad_alloc, with nothing started; and what `done` throws.
    template <class Done>
    void start(request what, Done&& done) const
    {
        error_code ec;
        auto child = spawn(std::move(what), ec);
        std::forward<Done>(done)(ec, std::move(child));
    }

    /// No start is ever under way.
    [[nodiscard]] static constexpr awaited awaits() noexcept { return {}; }
    static constexpr void go_on() noexcept {}
    static constexpr void give_up() noexcept {}

    /// It can do both.
    [[nodiscard]] static constexpr bool as_sibling(bool wanted) noexcept { return wanted; }

    /// Sends `signal` to the child; one that has ended already is no error.
    void kill(process const& child, int signal, error_code& ec) const noexcept
    {
        os::send_signal(child.pidfd, signal, ec);
    }

    /// Takes the status of an ended child; never waits (see `os::reap`).
    [[nodiscard]] os::exit_status reap(process const& child, error_code& ec) const noexcept
    {
        return os::reap(child.pidfd, ec);
    }
};

static_assert(Policy<direct>);

} // namespace ecdysis::launch

#endif
