// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_NOTIFY_NONE_HPP
#define ECDYSIS_NOTIFY_NONE_HPP

#include <ecdysis/notify/concept.hpp>
#include <ecdysis/seccomp/rule.hpp>
#include <ecdysis/systemd/executed.hpp>

#include <string>
#include <type_traits>
#include <vector>

namespace ecdysis::notify {

/// No service manager: nothing is told to anybody. For services under a container's init, runit, tini
/// or a shell. An empty type that makes no system call but for `advice`; no other call fails or throws, and all of them
/// may be made from several threads at once.
struct none
{
    static constexpr auto system_calls = seccomp::declare("notify::none", std::array{seccomp::calls("getpid", "whether systemd started it")});

    /// Clears `ec`: there is nobody who could not be told.
    void check(error_code& ec) const noexcept { ec.clear(); }

    /// Sends nothing; clears `ec`.
    void send(step const& /*what*/, error_code& ec) noexcept { ec.clear(); }

    /// Gives no descriptor: there is nothing to wait for. Clears `ec`.
    [[nodiscard]] os::owned_fd barrier(error_code& ec) noexcept
    {
        ec.clear();
        return {};
    }

    /// Always false.
    [[nodiscard]] static constexpr bool supervised() noexcept { return false; }

    /// One sentence where systemd executed this process, which is found out from SYSTEMD_EXEC_PID and getpid(2).
    [[nodiscard]] static std::vector<std::string> advice()
    {
        std::vector<std::string> result;
        if (ecdysis::systemd::executed_this_process())
            result.push_back("systemd started this process, and notify::none tells it of no upgrade: unless the unit says "
                             "ExitType=cgroup, systemd takes the end of this generation for that of the service, and ends the "
                             "new one with it (with KillMode=process it loses sight of it); use notify::systemd, and "
                             "Type=notify-reload (systemd 253) or Type=notify in the unit");
        return result;
    }

    /// Always false.
    [[nodiscard]] static constexpr bool stores() noexcept { return false; }

    /// Always false.
    [[nodiscard]] static constexpr bool started_us() noexcept { return false; }

    /// Always zero.
    [[nodiscard]] static constexpr std::chrono::microseconds watchdog_interval() noexcept { return {}; }
};

static_assert(Policy<none>, "notify::none must offer all that notify/concept.hpp asks for");
static_assert(std::is_empty_v<none>, "notify::none must cost nothing: give it no members");

} // namespace ecdysis::notify

#endif
