// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_UNIT_CHECK_HPP
#define ECDYSIS_SYSTEMD_UNIT_CHECK_HPP

#include <ecdysis/os/process.hpp>
#include <ecdysis/systemd/executed.hpp>
#include <ecdysis/systemd/unit_files.hpp>

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ecdysis::systemd {

/// What a process can find out about the unit that it is, without asking anybody.
struct unit_facts
{
    bool executed = false;      ///< systemd itself executed this process; nothing else counts where it did not, but
    os::process_id wrapper = os::process_id::none; ///< the process that it executed instead, and that tells it of this one
    bool notify_socket = false; ///< NOTIFY_SOCKET is set
    bool keeps = false;         ///< FDSTORE is (systemd 254): the manager would keep descriptors
    bool waits = false;         ///< WATCHDOG_USEC is: the manager waits for WATCHDOG=1
    std::string unit{};         ///< its name, where that is known
    std::optional<unit_settings> settings{}; ///< where its files were found
};

/// What the host chose of notify::systemd, and needs of the unit.
struct unit_needs
{
    bool store = false;
    bool watchdog = false;
};

/// What in the unit's settings cannot work, a sentence each: what is wrong, what will happen, and what to write. Nothing
/// about what is not known. Each consequence was seen with systemd 252 and 257.
[[nodiscard]] inline std::vector<std::string> advice(unit_facts const& facts, unit_needs const& needs)
{
    std::vector<std::string> result;
    if (facts.wrapper != os::process_id::none)
        result.push_back("systemd executed pid " + std::to_string(os::number(facts.wrapper)) +
                         " and not this process: it may miss the end of a generation that is not its own child, and takes "
                         "the end of that process for the service's; let the wrapper start this program by exec, or name it "
                         "in ExecStart= itself");
    if (!facts.executed)
        return result;
    auto const unit = facts.unit.empty() ? std::string{"the unit"} : facts.unit;
    auto const mode = facts.settings ? facts.settings->kill_mode : std::string{};
    auto const type = facts.settings ? facts.settings->type : std::string{};
    bool const leaves = mode == "process" || mode == "none";

    // With ExitType=cgroup a service lives as long as one of its processes.
    if (!facts.notify_socket && !(facts.settings && facts.settings->exit_type == "cgroup")) {
        auto const* const then = leaves ? "loses sight of the new one: the unit is inactive, and a stop ends nothing; "
                                 : facts.settings ? "ends the new one with it; "
                                                  : "ends the new one with it (or loses sight of it, with KillMode=process); ";
        auto text = "NOTIFY_SOCKET is not set, so that systemd cannot be told of a new generation: it takes the end of "
                    "this one, at an upgrade, for that of the service, and " + std::string{then};
        if (type == "notify-reload")
            text += "Type=notify-reload in " + unit + " is ignored by systemd before 253, write Type=notify";
        else if (type == "notify")
            text += unit + " has Type=notify already, so let no UnsetEnvironment= and no wrapper take the variable out";
        else
            text += "write Type=notify-reload (systemd 253) or Type=notify in [Service] of " + unit;
        result.push_back(std::move(text));
    }
    auto const warn_of_mode = [&](char const* then) {
        result.push_back("KillMode=" + mode + ": " + then + "; take it out of " + unit + ", the default is control-group");
    };
    if (mode == "process")
        warn_of_mode("a stop ends only the main process, and a generation that still drains goes on, outside the unit");
    else if (mode == "none")
        warn_of_mode("a stop ends no generation, and all go on, outside the unit");
    else if (mode == "mixed")
        warn_of_mode("a stop is told to the main process alone, and a generation that still drains is killed as soon as "
                     "that has ended, whatever it is answering");
    if (needs.store && !facts.keeps && facts.settings && facts.settings->store_max == 0)
        result.push_back("notify::systemd is to store the listeners, but " + unit +
                         " lets systemd keep none, and they are lost when the service is killed; write "
                         "FileDescriptorStoreMax= in [Service], at least the number of listeners");
    if (needs.watchdog && !facts.waits)
        result.push_back("notify::systemd is to feed the watchdog, but WATCHDOG_USEC is not set, and a service that stands "
                         "still is not found out; write WatchdogSec= in [Service] of " + unit);
    if (!needs.watchdog && facts.waits)
        result.push_back("systemd waits for the watchdog of " + unit +
                         " to be fed, and notify::systemd was not told to: if the host does not send WATCHDOG=1 by itself, "
                         "the service is killed for its silence; choose {.watchdog = true}, or take WatchdogSec= out");
    return result;
}

/// The facts of this process: from its environment, and where systemd executed it, from /proc/self/cgroup and the unit's
/// files. No other process is asked or started, and at most a few hundred small files are read.
///
/// Exception safety: throws std::bad_alloc only; what cannot be read is not known.
[[nodiscard]] inline unit_facts find_unit_facts()
{
    auto const is_set = [](char const* name) {
        char const* const value = std::getenv(name);
        return value != nullptr && *value != '\0';
    };
    unit_facts result;
    result.executed = executed_this_process();
    result.notify_socket = is_set("NOTIFY_SOCKET");
    if (!result.executed && result.notify_socket)
        result.wrapper = executed_process();
    if (!result.executed)
        return result;
    result.keeps = is_set("FDSTORE");
    result.waits = is_set("WATCHDOG_USEC");
    error_code ec;
    result.unit = unit_of(read_file("/proc/self/cgroup", 64 * 1024, ec));
    if (!result.unit.empty())
        result.settings = read_unit(result.unit, unit_path());
    return result;
}

} // namespace ecdysis::systemd

#endif
