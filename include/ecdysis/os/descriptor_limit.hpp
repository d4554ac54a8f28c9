// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_DESCRIPTOR_LIMIT_HPP
#define ECDYSIS_OS_DESCRIPTOR_LIMIT_HPP

#include <ecdysis/os/call.hpp>

#include <sys/resource.h>

#include <cstddef>

namespace ecdysis::os {

/// What the dynamic loader and the start of a program need: one whose table is full dies in the loader.
inline constexpr std::size_t descriptor_headroom = 64;

/// Whether a child of ours, which has our limits, could hold `inherited` descriptors and have some to itself.
/// Errors: `errc::descriptor_limit`.
inline void check_descriptor_limit(std::size_t inherited, error_code& ec) noexcept
{
    ::rlimit limit{};
    call(ec, [&] { return ::getrlimit(RLIMIT_NOFILE, &limit); });
    if (!ec && inherited + descriptor_headroom > limit.rlim_cur)
        ec = errc::descriptor_limit;
}

} // namespace ecdysis::os

#endif
