// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_FILTER_HPP
#define ECDYSIS_SECCOMP_FILTER_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/seccomp/allowlist.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <boost/system/errc.hpp>

#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

/// Puts the allowlist into a filter of libseccomp's, which the host makes, owns and loads.
namespace ecdysis::seccomp {

/// The architecture of this process, if the lists cover it.
[[nodiscard]] inline std::optional<architecture> this_architecture() noexcept
{
    switch (::seccomp_arch_native()) {
    case SCMP_ARCH_X86_64: return architecture::x86_64;
    case SCMP_ARCH_AARCH64: return architecture::aarch64;
    }
    return {};
}

namespace filters {

/// A filter for others too would let their calls in by names that mean something else there.
[[nodiscard]] inline bool has_only_ours(::scmp_filter_ctx filter) noexcept
{
    std::uint32_t const other_of_ours = this_architecture() == architecture::x86_64 ? SCMP_ARCH_AARCH64 : SCMP_ARCH_X86_64;
    std::initializer_list<std::uint32_t> const others{
        SCMP_ARCH_X86,      SCMP_ARCH_X32,         SCMP_ARCH_ARM,   SCMP_ARCH_MIPS,    SCMP_ARCH_MIPS64,  SCMP_ARCH_MIPS64N32, SCMP_ARCH_MIPSEL,
        SCMP_ARCH_MIPSEL64, SCMP_ARCH_MIPSEL64N32, SCMP_ARCH_PPC,   SCMP_ARCH_PPC64,   SCMP_ARCH_PPC64LE, SCMP_ARCH_S390,      SCMP_ARCH_S390X,
        SCMP_ARCH_PARISC,   SCMP_ARCH_PARISC64,    SCMP_ARCH_RISCV64,
        // Since libseccomp 2.6.
#ifdef SCMP_ARCH_LOONGARCH64
        SCMP_ARCH_LOONGARCH64,
#endif
#ifdef SCMP_ARCH_M68K
        SCMP_ARCH_M68K,
#endif
#ifdef SCMP_ARCH_SH
        SCMP_ARCH_SH,
#endif
#ifdef SCMP_ARCH_SHEB
        SCMP_ARCH_SHEB,
#endif
        other_of_ours};
    return std::ranges::none_of(others, [&](auto one) { return ::seccomp_arch_exist(filter, one) == 0; });
}

[[nodiscard]] inline int add(::scmp_filter_ctx filter, rule const& one) noexcept
{
    int const number = ::seccomp_syscall_resolve_name(one.call.data()); // a literal: it ends with a zero
    if (number == __NR_SCMP_ERROR)
        return -EOPNOTSUPP;
    std::array<::scmp_arg_cmp, rule::max_conditions> compared{};
    for (std::size_t i = 0; i != one.conditions; ++i)
        compared[i] = {one.where[i].argument, SCMP_CMP_MASKED_EQ, one.where[i].mask, one.where[i].value};
    auto const action = one.answer == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(static_cast<std::uint16_t>(one.answer));
    int const result = ::seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(one.conditions), compared.data());
    // What the host has said of the call already stays. And a default that is the same answer needs no rule.
    return result == -EEXIST || (result == -EACCES && one.answer != 0) ? 0 : result;
}

/// What libseccomp says of `one`, in words of errno.
inline bool allow(::scmp_filter_ctx filter, std::span<rule const> rules, rule const*& failed, error_code& ec) noexcept
{
    failed = nullptr;
    if (filter == nullptr) { // libseccomp looks into it
        ec = make_error_code(boost::system::errc::invalid_argument);
        return false;
    }
    auto const here = this_architecture();
    if (!here || !has_only_ours(filter)) {
        ec = errc::seccomp_architecture;
        return false;
    }
    for (auto const& one : rules) {
        if (!one.is_on(*here))
            continue;
        if (int const result = add(filter, one); result != 0) {
            failed = &one;
            ec = result == -EACCES ? make_error_code(errc::seccomp_allows_all) : error_code{-result, boost::system::system_category()};
            return false;
        }
    }
    ec.clear();
    return true;
}

template <class Upgrader>
concept NeedsNothingBefore = std::default_initializable<typename Upgrader::launch_policy>;

} // namespace filters

/// Adds `rules` to `filter`, which stays the host's: it adds what else it calls, before or after, and loads it.
///
///     ::scmp_filter_ctx const filter = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
///     ecdysis::seccomp::allow(filter, ecdysis::seccomp::threads);
///     ecdysis::seccomp::allow<upgrader>(filter, launch);
///     int const loaded = ::seccomp_load(filter);
///     ::seccomp_release(filter);
///     if (loaded != 0)
///         return 1; // not without a filter
///
/// Errors: `errc::seccomp_architecture` where this process, or something else that the filter is for, is neither x86_64
/// nor aarch64; `errc::seccomp_allows_all` for a filter whose default is SCMP_ACT_ALLOW; `invalid_argument` for a null one;
/// `operation_not_supported` for a call that this libseccomp does not know; what seccomp_rule_add(3) says. The rules before
/// the one that failed stay.
inline void allow(::scmp_filter_ctx filter, std::span<rule const> rules, error_code& ec) noexcept
{
    rule const* failed = nullptr;
    filters::allow(filter, rules, failed, ec);
}
/// Throws `error`.
inline void allow(::scmp_filter_ctx filter, std::span<rule const> rules)
{
    error_code ec;
    rule const* failed = nullptr;
    if (!filters::allow(filter, rules, failed, ec))
        throw error{ec, failed == nullptr ? std::string{"add the allowlist to the seccomp filter"}
                                          : "allow " + std::string{failed->call} + " in the seccomp filter, for " + std::string{failed->by}};
}

/// The allowlist of `Upgrader`, whose launch policy needs nothing before the filter.
template <class Upgrader>
void allow(::scmp_filter_ctx filter, error_code& ec) noexcept
{
    static_assert(filters::NeedsNothingBefore<Upgrader>,
                  "this launch policy must be there before the filter is: give its object too, as allow<upgrader>(filter, launch)");
    allow(filter, allowlist<Upgrader>, ec);
}
template <class Upgrader>
void allow(::scmp_filter_ctx filter)
{
    static_assert(filters::NeedsNothingBefore<Upgrader>,
                  "this launch policy must be there before the filter is: give its object too, as allow<upgrader>(filter, launch)");
    allow(filter, allowlist<Upgrader>);
}
/// The same where the launch policy has something to do before the filter is loaded, which forbids it: by `launch` it is
/// seen to be done. Errors also: `errc::spawner_gone`, which one that was moved from is, too.
template <class Upgrader>
void allow(::scmp_filter_ctx filter, typename Upgrader::launch_policy const& launch, error_code& ec) noexcept
{
    if constexpr (requires { launch.is_there(); })
        if (!launch.is_there()) {
            ec = errc::spawner_gone;
            return;
        }
    allow(filter, allowlist<Upgrader>, ec);
}
template <class Upgrader>
void allow(::scmp_filter_ctx filter, typename Upgrader::launch_policy const& launch)
{
    if constexpr (requires { launch.is_there(); })
        if (!launch.is_there())
            throw error{errc::spawner_gone, "add the allowlist to the seccomp filter, for a launch policy whose helper has ended or that was moved from"};
    allow(filter, allowlist<Upgrader>);
}

} // namespace ecdysis::seccomp

#endif
