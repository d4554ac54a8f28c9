// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_STORED_NAME_HPP
#define ECDYSIS_SYSTEMD_STORED_NAME_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/handoff/socket_record.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/listener.hpp>
#include <ecdysis/os/identity.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ecdysis::systemd {

/// The longest name of the manager's store (FDNAME= in sd_notify(3)).
inline constexpr std::size_t max_stored_name = 255;

/// Percent-encodes what a name of the store cannot hold (a colon, and what is no printable ASCII), and what structures
/// ours (percent sign and space).
[[nodiscard]] inline std::string encode(std::string_view text)
{
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string result;
    for (char const c : text) {
        auto const byte = static_cast<unsigned char>(c);
        if (byte > ' ' && byte < 127 && c != ':' && c != '%')
            result += c;
        else
            (result += '%').append({digits[byte >> 4U], digits[byte & 15U]});
    }
    return result;
}

/// The same back; nothing for what `encode` does not give.
[[nodiscard]] inline std::optional<std::string> decode(std::string_view text)
{
    std::string result;
    for (; !text.empty(); text.remove_prefix(1)) {
        if (text.front() != '%') {
            result += text.front();
            continue;
        }
        unsigned byte = 0;
        auto const digits = text.substr(1, 2);
        auto const [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
        if (ec != std::errc{} || end != digits.data() + 2)
            return {};
        result += static_cast<char>(byte);
        text.remove_prefix(2);
    }
    return result;
}

/// What the manager's store calls what a handoff calls `of`: its name, and for a Unix path of ours which file that is.
/// May be longer than `max_stored_name`.
///
///     tcp 127.0.0.1%3A8080     unix /run/service.sock 41-1234     file settings
[[nodiscard]] inline std::string stored_name(handoff::record const& of)
{
    if (of.kind == handoff::descriptor_kind::connection)
        return "file " + encode(of.name);
    auto const kind = of.name.substr(0, of.name.find(' '));
    auto result = kind + ' ' + encode(of.name.substr(std::min(kind.size() + 1, of.name.size())));
    if ((of.flags & handoff::path_owned) != 0)
        result += ' ' + std::to_string(of.device) + '-' + std::to_string(of.inode);
    return result;
}

/// What is kept under that name; nothing if it is none of ours, but a socket unit's or another program's.
[[nodiscard]] inline std::optional<handoff::record> read_stored_name(std::string_view text)
{
    constexpr std::array kinds{socket_kind::tcp, socket_kind::udp, socket_kind::unix_stream,
                               socket_kind::unix_seqpacket, socket_kind::unix_datagram};
    auto const word = text.substr(0, text.find(' '));
    if (word.size() == text.size())
        return {};
    text.remove_prefix(word.size() + 1);
    auto const rest = decode(text.substr(0, text.find(' ')));
    text.remove_prefix(std::min(text.find(' '), text.size()));
    if (!rest)
        return {};
    handoff::record result{.kind = handoff::descriptor_kind::connection, .name = *rest, .flags = handoff::in_store};
    if (word == "file")
        return text.empty() ? std::optional{result} : std::nullopt;

    auto const* const kind =
        std::ranges::find(kinds, word, [](socket_kind each) { return std::string_view{name(each)}; });
    if (kind == kinds.end())
        return {};
    try {
        static_cast<void>(address{*rest});
    } catch (error const&) {
        return {};
    }
    result.kind = handoff::wire_kind(*kind);
    result.name = std::string{word} + ' ' + *rest;
    if (text.empty())
        return result;
    text.remove_prefix(1);
    auto const device = os::take_number<std::uint64_t>(text, '-');
    auto const inode = device ? os::take_number<std::uint64_t>(text, '\0') : std::nullopt;
    if (!inode || *inode == 0 || !rest->starts_with('/'))
        return {};
    result.device = *device;
    result.inode = *inode;
    result.flags = handoff::path_owned | handoff::in_store;
    return result;
}

} // namespace ecdysis::systemd

#endif
