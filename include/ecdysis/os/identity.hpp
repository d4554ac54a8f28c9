// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_IDENTITY_HPP
#define ECDYSIS_OS_IDENTITY_HPP

#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>

#include <sys/stat.h>

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ecdysis::os {

/// Which file it is, whatever its name or number; zero: none. As long as it is open somewhere, no other file has the same.
struct identity
{
    std::uint64_t device = 0;
    std::uint64_t inode = 0;

    [[nodiscard]] explicit operator bool() const noexcept { return inode != 0; }
    friend bool operator==(identity const&, identity const&) = default;

    /// "<device>:<inode>"
    [[nodiscard]] std::string text() const { return std::to_string(device) + ':' + std::to_string(inode); }
};

[[nodiscard]] inline identity identity_of(struct ::stat const& file) noexcept
{
    return {file.st_dev, file.st_ino};
}

/// fstat(2).
[[nodiscard]] inline struct ::stat status_of(borrowed_fd fd, error_code& ec) noexcept
{
    struct ::stat result{};
    call(ec, [&] { return ::fstat(fd.get(), &result); });
    return result;
}

/// Takes a decimal number and the character after it off the front of `text`; '\0' stands for the end of it.
/// Gives nothing if that is not what `text` starts with.
template <std::unsigned_integral N>
[[nodiscard]] std::optional<N> take_number(std::string_view& text, char after) noexcept
{
    N number{};
    auto const [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{})
        return {};
    text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
    if (after == '\0' ? !text.empty() : !text.starts_with(after))
        return {};
    text.remove_prefix(after == '\0' ? 0 : 1);
    return number;
}

/// The same for an identity.
[[nodiscard]] inline std::optional<identity> take_identity(std::string_view& text, char after) noexcept
{
    auto const device = take_number<std::uint64_t>(text, ':');
    auto const inode = device ? take_number<std::uint64_t>(text, after) : std::nullopt;
    if (!inode)
        return {};
    return identity{*device, *inode};
}

} // namespace ecdysis::os

#endif
