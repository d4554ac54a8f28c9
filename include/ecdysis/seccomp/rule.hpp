// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_RULE_HPP
#define ECDYSIS_SECCOMP_RULE_HPP

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// Which system calls a policy makes, as data that a compiler can join. This header needs no libseccomp.
namespace ecdysis::seccomp {

/// What the lists here are for. Others are not covered: their calls have other names, and nobody has looked.
enum class architecture : std::uint8_t { x86_64 = 1, aarch64 = 2 };

inline constexpr std::array architectures{architecture::x86_64, architecture::aarch64};

/// Of one argument of a call: `(argument & mask) == value`.
struct condition
{
    unsigned argument = 0; ///< 0 to 5
    std::uint64_t mask = 0;
    std::uint64_t value = 0;

    /// Whether whatever fulfils `other` fulfils this.
    [[nodiscard]] constexpr bool holds_where(condition const& other) const noexcept
    {
        return argument == other.argument && (other.mask & mask) == mask && (other.value & mask) == value;
    }
    /// As the kernel has it.
    [[nodiscard]] constexpr bool holds(std::span<std::uint64_t const, 6> arguments) const noexcept
    {
        return (arguments[argument] & mask) == value;
    }
    friend constexpr bool operator==(condition const&, condition const&) noexcept = default;
};

/// The argument is `value`. All arguments that are checked here are int, of which the kernel reads 32 bits; what is in the
/// upper half of the register is anybody's.
[[nodiscard]] constexpr condition is(unsigned argument, std::uint64_t value) noexcept
{
    return {argument, 0xffff'ffff, value & 0xffff'ffff};
}
/// Of the bits in `mask` it has exactly those of `value`.
[[nodiscard]] constexpr condition has(unsigned argument, std::uint64_t mask, std::uint64_t value) noexcept
{
    return {argument, mask, value};
}
[[nodiscard]] constexpr condition lacks(unsigned argument, std::uint64_t bits) noexcept { return {argument, bits, 0}; }

/// One system call that is made, where all of its conditions hold.
struct rule
{
    static constexpr std::size_t max_conditions = 3;

    std::string_view call; ///< its name in the kernel
    std::string_view why;
    std::array<condition, max_conditions> where{};
    std::size_t conditions = 0;
    int answer = 0; ///< not allowed, but answered with this errno
    std::uint8_t on = static_cast<std::uint8_t>(architecture::x86_64) | static_cast<std::uint8_t>(architecture::aarch64);
    std::string_view by{};       ///< which policy makes it
    std::string_view untested{}; ///< why no test of this library makes it; empty: one does

    [[nodiscard]] constexpr rule only_on(architecture one) const noexcept
    {
        rule result = *this;
        result.on = static_cast<std::uint8_t>(one);
        return result;
    }
    [[nodiscard]] constexpr rule untested_because(std::string_view reason) const noexcept
    {
        rule result = *this;
        result.untested = reason;
        return result;
    }

    [[nodiscard]] constexpr bool is_on(architecture one) const noexcept { return (on & static_cast<std::uint8_t>(one)) != 0; }
    [[nodiscard]] constexpr std::span<condition const> all_conditions() const noexcept { return {where.data(), conditions}; }
    /// Whether this is about the call that is made with `arguments`.
    [[nodiscard]] constexpr bool holds(std::span<std::uint64_t const, 6> arguments) const noexcept
    {
        return std::ranges::all_of(all_conditions(), [&](condition const& one) { return one.holds(arguments); });
    }

    /// Whether all that `other` allows is allowed by this.
    [[nodiscard]] constexpr bool covers(rule const& other) const noexcept
    {
        // Plain loops, and the name last, which is compared letter by letter: a compiler does this for each pair of a call's rules.
        if (answer != other.answer || (on & other.on) != other.on)
            return false;
        for (std::size_t mine = 0; mine != conditions; ++mine) {
            bool is_said = false;
            for (std::size_t its = 0; its != other.conditions && !is_said; ++its)
                is_said = where[mine].holds_where(other.where[its]);
            if (!is_said)
                return false;
        }
        return call == other.call;
    }
    /// Whether this says nothing that `other` does not: of two that say the same, the one that is `first` is kept.
    [[nodiscard]] constexpr bool is_needless_beside(rule const& other, bool first) const noexcept
    {
        return other.covers(*this) && !(first && covers(other));
    }
};

/// `why`: half a sentence, for who reads the list and wonders.
///
/// One condition for each argument: of two libseccomp says no more than "Invalid argument", and in a container's profile
/// one of them would be enough. What two say of bits, `has` says. A wrong rule does not compile.
[[nodiscard]] consteval rule calls(std::string_view name, std::string_view why, std::same_as<condition> auto... where)
{
    static_assert(sizeof...(where) <= rule::max_conditions);
    rule const result{.call = name, .why = why, .where = {where...}, .conditions = sizeof...(where)};
    for (auto const& one : result.all_conditions()) {
        if (one.argument > 5)
            throw "a system call has the arguments 0 to 5";
        if (std::ranges::count(result.all_conditions(), one.argument, &condition::argument) != 1)
            throw "there are two conditions on one argument: join them in one has(argument, mask, value)";
    }
    return result;
}

/// The call is not made, and fails with `error` where somebody tries.
[[nodiscard]] consteval rule answers(std::string_view name, int error, std::string_view why)
{
    if (error <= 0)
        throw "a call is answered with an errno, as ENOSYS";
    return {.call = name, .why = why, .answer = error};
}

/// Several lists as one, nothing left out.
template <std::size_t... N>
[[nodiscard]] constexpr std::array<rule, (N + ... + 0)> join(std::array<rule, N> const&... lists) noexcept
{
    std::array<rule, (N + ... + 0)> result{};
    [[maybe_unused]] auto at = result.begin();
    ((at = std::ranges::copy(lists, at).out), ...);
    return result;
}

/// The same as made by `policy`.
template <std::size_t... N>
[[nodiscard]] constexpr auto declare(std::string_view policy, std::array<rule, N> const&... lists) noexcept
{
    auto result = join(lists...);
    for (auto& one : result)
        one.by = policy;
    return result;
}

} // namespace ecdysis::seccomp

#endif
