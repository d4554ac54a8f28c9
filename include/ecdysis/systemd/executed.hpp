// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_EXECUTED_HPP
#define ECDYSIS_SYSTEMD_EXECUTED_HPP

#include <ecdysis/os/process.hpp>

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <system_error>

namespace ecdysis::systemd {

/// The process that systemd itself executed: this one, or what has started it (SYSTEMD_EXEC_PID, systemd 248,
/// systemd.exec(5)). None under an older systemd, which does not set it, or without one.
[[nodiscard]] inline os::process_id executed_process() noexcept
{
    char const* const variable = std::getenv("SYSTEMD_EXEC_PID");
    if (variable == nullptr)
        return os::process_id::none;
    std::string_view const digits = variable;
    ::pid_t pid = 0;
    auto const* const end = digits.data() + digits.size();
    auto const [stop, ec] = std::from_chars(digits.data(), end, pid);
    return ec == std::errc{} && stop == end && pid > 0 ? os::process_id{pid} : os::process_id::none;
}

/// Whether systemd itself executed this process. The variable is inherited: in what a shell of the service starts it names
/// another process; a later generation does not have it. False also for a daemon that has forked (Type=forking).
[[nodiscard]] inline bool executed_this_process() noexcept
{
    return executed_process() == os::this_process();
}

/// Whether systemd is this process's parent process, and can be its child's: not in a pid namespace of its own
/// (PrivatePIDs=), whose first process cannot be given siblings (clone(2)).
[[nodiscard]] inline bool is_our_parent_process() noexcept
{
    return executed_this_process() && os::number(os::parent_process()) != 0;
}

} // namespace ecdysis::systemd

#endif
