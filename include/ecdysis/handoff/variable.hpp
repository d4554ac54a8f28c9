// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_VARIABLE_HPP
#define ECDYSIS_HANDOFF_VARIABLE_HPP

#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/process.hpp>

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ecdysis::handoff {

/// What ECDYSIS_HANDOFF says: "<transport> <parent> <starter> <what the transport needs>".
struct variable
{
    static constexpr std::string_view name = "ECDYSIS_HANDOFF";

    std::string_view transport;
    os::process_id parent = os::process_id::none;  ///< the generation that hands over
    os::process_id starter = os::process_id::none; ///< the child's parent process, if nothing is between
    std::string_view text;

    /// The parent is not the child's parent process: they are siblings.
    [[nodiscard]] bool is_sibling() const noexcept { return parent != starter; }

    /// The whole assignment.
    [[nodiscard]] std::string assignment() const
    {
        std::string result{name};
        result.append("=").append(transport);
        for (auto const pid : {parent, starter})
            result.append(" ").append(std::to_string(os::number(pid)));
        return result.append(" ").append(text);
    }

    /// Reads a value, as far as it can be read: `parent` and `starter` are both there, or there is nothing. What it gives
    /// refers to `value`.
    [[nodiscard]] static std::optional<variable> read(std::string_view value) noexcept
    {
        variable result;
        result.transport = transport_of(value);
        value.remove_prefix(std::min(value.size(), result.transport.size() + 1));
        auto const parent = os::take_number<std::uint32_t>(value, ' ');
        auto const starter = parent ? os::take_number<std::uint32_t>(value, ' ') : std::nullopt;
        if (result.transport.empty() || !starter)
            return {};
        result.parent = os::process_id{static_cast<::pid_t>(*parent)};
        result.starter = os::process_id{static_cast<::pid_t>(*starter)};
        result.text = value;
        return result;
    }

    /// The first word, of a value that cannot be read, too.
    [[nodiscard]] static constexpr std::string_view transport_of(std::string_view value) noexcept
    {
        return value.substr(0, value.find(' '));
    }
};

} // namespace ecdysis::handoff

#endif
