// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_FORMATS_HPP
#define ECDYSIS_SECCOMP_FORMATS_HPP

#include <ecdysis/seccomp/rule.hpp>

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <vector>

/// Lists of rules as text: for people, for container runtimes, for systemd. This header needs no libseccomp, and a list may
/// be for another architecture than this process's.
namespace ecdysis::seccomp {

namespace formats {

/// Those of `rules` that are on `wanted`, in the order of their calls.
[[nodiscard]] inline std::vector<rule> on(std::span<rule const> rules, architecture wanted)
{
    std::vector<rule> result;
    for (auto const& one : rules)
        if (one.is_on(wanted))
            result.push_back(one.only_on(wanted));
    std::ranges::stable_sort(result, {}, [](rule const& one) { return std::tuple{one.call, one.answer}; });
    return result;
}

[[nodiscard]] inline bool says_the_same(rule const& one, rule const& other) noexcept
{
    return one.covers(other) && other.covers(one);
}

/// The same without those that another one covers. What the host allows altogether is not answered: so does libseccomp
/// have it, which a host's own filter is made with.
[[nodiscard]] inline std::vector<rule> needed(std::span<rule const> rules, architecture wanted)
{
    auto const all = on(rules, wanted);
    std::vector<rule> result;
    for (auto one = all.begin(); one != all.end(); ++one) {
        auto allowed = *one;
        allowed.answer = 0;
        bool is_needed = true;
        for (auto other = all.begin(); other != all.end() && is_needed; ++other)
            is_needed = !(one->answer != 0 && other->answer == 0 && other->covers(allowed)) &&
                        (one == other || !one->is_needless_beside(*other, one < other));
        if (is_needed)
            result.push_back(*one);
    }
    return result;
}

[[nodiscard]] inline std::string hexadecimal(std::uint64_t number)
{
    std::string result;
    do
        result.insert(result.begin(), "0123456789abcdef"[number & 0xf]);
    while ((number >>= 4) != 0);
    return "0x" + result;
}

[[nodiscard]] inline std::string in_words(condition const& one)
{
    auto const argument = "argument " + std::to_string(one.argument);
    if (one == is(one.argument, one.value))
        return argument + " == " + hexadecimal(one.value);
    return argument + " & " + hexadecimal(one.mask) + " == " + hexadecimal(one.value);
}

inline void append(std::string& to, std::string_view what, std::string_view separator)
{
    if (!to.empty())
        to += separator;
    to += what;
}

[[nodiscard]] inline std::string names(std::span<rule const> rules, std::string_view before, std::string_view separator)
{
    std::string result;
    std::string_view last;
    for (auto const& one : rules) {
        if (one.call != last)
            append(result, std::string{before}.append(one.call).append(before), separator);
        last = one.call;
    }
    return result;
}

} // namespace formats

/// For people: a line for each call and what its arguments must be, and after it who makes it and why. All that is
/// declared is there; so give it `declarations`, not `allowlist`, which has left out what is said twice.
///
///     fcntl, argument 1 == 0x406 -- upgrader: copies of what is handed over; launch::spawner: not at 0 to 2
///
/// Throws what a std::string throws, as the others do.
[[nodiscard]] inline std::string text(std::span<rule const> rules, architecture on)
{
    auto const all = formats::on(rules, on);
    std::vector<bool> is_told(all.size());
    std::string result;
    for (std::size_t i = 0; i != all.size(); ++i) {
        if (is_told[i])
            continue;
        result += all[i].call;
        for (auto const& one : all[i].all_conditions())
            result += ", " + formats::in_words(one);
        if (all[i].answer != 0)
            result += ", is answered: " + std::generic_category().message(all[i].answer);
        std::vector<std::string> reasons;
        for (std::size_t j = i; j != all.size() && all[j].call == all[i].call; ++j) {
            if (!formats::says_the_same(all[i], all[j]))
                continue;
            is_told[j] = true;
            auto reason = std::string{all[j].by}.append(": ").append(all[j].why);
            if (std::ranges::find(reasons, reason) == reasons.end())
                reasons.push_back(std::move(reason));
        }
        for (std::size_t j = 0; j != reasons.size(); ++j)
            result += (j == 0 ? " -- " : "; ") + reasons[j];
        result += '\n';
    }
    return result;
}

/// What runc, which is Docker's runtime, calls between loading a filter and executing the program; crun calls nothing more.
/// Seen with runc 1.1.
inline constexpr auto container_calls = declare(
    "runc", std::array{
                calls("openat", "the FIFO at which a created container waits to be started", is(2, O_WRONLY | O_CLOEXEC)),
                calls("write", "that it is started"),
                calls("close", "what the program must not have"),
                calls("execve", "the program"),
            });

/// For container runtimes: the object `linux.seccomp` of an OCI runtime's config.json, which is also what Docker and
/// Podman take as `--security-opt seccomp=FILE`. What is not in the list ends the process.
///
/// The filter is there before main, and before the runtime has executed the program: give it `allowlist_from_start`, and
/// `container_calls` where the runtime is runc. The container must have `noNewPrivileges` (`--security-opt
/// no-new-privileges`): without it a runtime loads the filter before it has given up its own privileges, which takes more.
[[nodiscard]] inline std::string oci(std::span<rule const> rules, architecture on)
{
    auto const all = formats::needed(rules, on);
    std::vector<rule> whole;
    std::string entries;
    for (auto const& one : all) {
        if (one.conditions == 0 && one.answer == 0) {
            whole.push_back(one);
            continue;
        }
        std::string arguments;
        // SCMP_CMP_MASKED_EQ takes the mask first.
        for (auto const& which : one.all_conditions())
            formats::append(arguments,
                            "{\"index\": " + std::to_string(which.argument) + ", \"value\": " + std::to_string(which.mask) +
                                ", \"valueTwo\": " + std::to_string(which.value) + ", \"op\": \"SCMP_CMP_MASKED_EQ\"}",
                            ", ");
        auto entry = "{\"names\": [\"" + std::string{one.call} + "\"], \"action\": ";
        if (one.answer == 0)
            entry += "\"SCMP_ACT_ALLOW\"";
        else
            entry += "\"SCMP_ACT_ERRNO\", \"errnoRet\": " + std::to_string(one.answer);
        if (!arguments.empty())
            entry += ", \"args\": [" + arguments + "]";
        formats::append(entries, "    " + entry + "}", ",\n");
    }
    if (!whole.empty())
        formats::append(entries, "    {\"names\": [" + formats::names(whole, "\"", ", ") + "], \"action\": \"SCMP_ACT_ALLOW\"}", ",\n");
    return std::string{"{\n"
                       "  \"defaultAction\": \"SCMP_ACT_KILL_PROCESS\",\n"
                       "  \"architectures\": [\""} +
           (on == architecture::x86_64 ? "SCMP_ARCH_X86_64" : "SCMP_ARCH_AARCH64") + "\"],\n  \"syscalls\": [\n" + entries + "\n  ]\n}\n";
}

/// For systemd: a drop-in of a service. It takes the place of what the unit has as SystemCallFilter=, for systemd would
/// join the two. What is not in the list ends the service, unless the unit has another SystemCallErrorNumber=.
///
/// systemd checks no arguments, so each call is allowed with any; and it allows some without being asked, as execve(2)
/// (`systemd-analyze syscall-filter @default`). What a rule answers is allowed, too: of a list of what is allowed, version
/// 252 can answer a call with ENOSYS (`SystemCallFilter=~clone3:ENOSYS`), but 257 then does not start the service. To be
/// turned away it is not, for glibc calls clone only where clone3 is not implemented.
///
/// The filter is there before main, and for ExecReload= and the like, too: give it `allowlist_from_start`.
[[nodiscard]] inline std::string system_call_filter(std::span<rule const> rules, architecture on)
{
    auto const all = formats::needed(rules, on);
    std::string answered;
    for (auto const& one : all)
        if (one.answer != 0)
            answered += "# " + std::string{one.call} + " is allowed, which a filter of the service's own would answer with \"" +
                        std::generic_category().message(one.answer) + "\", as systemd cannot: " + std::string{one.why} + ".\n";
    return std::string{"# What the service calls on "} + (on == architecture::x86_64 ? "x86_64" : "aarch64") +
           ". systemd cannot check the arguments.\n" + answered +
           "[Service]\nSystemCallArchitectures=native\n"
           "# Not besides what the unit has.\nSystemCallFilter=\n"
           "SystemCallFilter=" +
           formats::names(all, "", " ") + "\n";
}

} // namespace ecdysis::seccomp

#endif
