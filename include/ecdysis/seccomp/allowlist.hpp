// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_ALLOWLIST_HPP
#define ECDYSIS_SECCOMP_ALLOWLIST_HPP

#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ecdysis::seccomp {

/// A policy that says which system calls it makes, as a `static constexpr` array of rules named `system_calls`.
template <class Policy>
concept Declares = requires { std::span<rule const>{Policy::system_calls}; };

/// Some policies make more before a host loads a filter, or in a process of their own; only a filter that is there before
/// the process is has to allow those. They name them `system_calls_from_start`.
template <class Policy>
concept DeclaresStart = requires { std::span<rule const>{Policy::system_calls_from_start}; };

namespace unions {

template <class Policy>
[[nodiscard]] constexpr auto start_of() noexcept
{
    if constexpr (DeclaresStart<Policy>)
        return Policy::system_calls_from_start;
    else
        return std::array<rule, 0>{};
}

} // namespace unions

/// All that is said of the parts of an assembly, each with its part's name. The same call may be there several times.
template <class Upgrader>
struct declarations;

template <template <class...> class Upgrader, class... Policies>
struct declarations<Upgrader<Policies...>>
{
    static_assert((Declares<Policies> && ...),
                  "each policy of the upgrader must say which system calls it makes: a static constexpr array `system_calls`, see seccomp/rule.hpp");

    /// From the line on where a host loads its filter: after launch::spawner::fork(), before the upgrader is constructed.
    static constexpr auto in_main = join(core_calls, Policies::system_calls...);
    /// From exec on: for a filter that a container or a service manager has loaded, which the spawner's helper has, too.
    static constexpr auto from_start = join(in_main, program_calls, unions::start_of<Policies>()...);
};

namespace unions {

/// Differs where two names do, or nearly: how long a compiler calculates is limited (clang: 1,048,576 steps,
/// -fconstexpr-steps), and only what has the same mark is compared.
[[nodiscard]] constexpr std::uint64_t mark_of(std::string_view name) noexcept
{
    std::uint64_t result = name.size();
    for (char const c : name)
        result = result * 31 + static_cast<unsigned char>(c);
    return result;
}

/// Which of `rules` no other one covers; of several that say the same, the first.
template <std::size_t N>
[[nodiscard]] constexpr std::array<bool, N> needed(std::array<rule, N> const& rules) noexcept
{
    std::array<bool, N> result{};
    std::array<std::uint64_t, N> all{};
    std::ranges::transform(rules, all.begin(), [](rule const& one) { return mark_of(one.call); });
    auto const* const marks = all.data();
    std::array<std::size_t, N> by_mark{};
    for (std::size_t i = 0; i != N; ++i)
        by_mark[i] = i;
    std::sort(by_mark.begin(), by_mark.end(), [=](std::size_t one, std::size_t other) { return marks[one] < marks[other]; });
    auto const* const order = by_mark.data();
    for (std::size_t first = 0, last = 0; first != N; first = last) {
        while (last != N && marks[order[last]] == marks[order[first]])
            ++last;
        for (std::size_t a = first; a != last; ++a) {
            auto const i = order[a];
            bool alone = true;
            for (std::size_t b = first; b != last && alone; ++b) {
                auto const j = order[b];
                alone = i == j || !rules[i].is_needless_beside(rules[j], i < j);
            }
            result[i] = alone;
        }
    }
    return result;
}

template <auto const& Rules>
[[nodiscard]] consteval auto of() noexcept
{
    constexpr auto wanted = needed(Rules);
    std::array<rule, std::ranges::count(wanted, true)> result{};
    for (std::size_t i = 0, to = 0; i != Rules.size(); ++i)
        if (wanted[i])
            result[to++] = Rules[i];
    return result;
}

} // namespace unions

/// The system calls that an upgrader of this type makes in a process whose filter the host itself loads, after
/// launch::spawner::fork() and before it constructs the upgrader; for launch::direct also those of the new generation from
/// exec on, for it has the filter, too. What the host does besides is the host's to add: see `threads`.
template <class Upgrader>
inline constexpr auto allowlist = unions::of<declarations<Upgrader>::in_main>();

/// The same for a filter that is there before main: of a container, or of a unit's SystemCallFilter=. With
/// launch::spawner it has what the helper needs, and a new generation has that filter, too.
template <class Upgrader>
inline constexpr auto allowlist_from_start = unions::of<declarations<Upgrader>::from_start>();

} // namespace ecdysis::seccomp

#endif
