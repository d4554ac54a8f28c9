// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_CALL_HPP
#define ECDYSIS_OS_CALL_HPP

#include <ecdysis/error.hpp>

#include <cerrno>

namespace ecdysis::os {

/// The error_code of the errno that the last failed call left.
[[nodiscard]] inline error_code last_error() noexcept
{
    return {errno, boost::system::system_category()};
}

/// Calls `f()` until it is not interrupted by a signal; its -1 becomes `ec`, anything else clears it.
template <class F>
auto call(error_code& ec, F&& f)
{
    auto result = f();
    while (result == -1 && errno == EINTR)
        result = f();
    if (result == -1)
        ec = last_error();
    else
        ec.clear();
    return result;
}

} // namespace ecdysis::os

#endif
