// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_READABLE_HPP
#define ECDYSIS_OS_READABLE_HPP

#include <ecdysis/os/fd.hpp>

#include <poll.h>

#include <cerrno>
#include <chrono>

namespace ecdysis::os {

/// Waits in line until there is something to read from `fd`, or its end; at most `time`, however many signals come: poll(2)
/// begins anew after each, and a host may have a timer that never lets it come to its end.
inline bool is_readable_within(borrowed_fd fd, std::chrono::milliseconds time) noexcept
{
    using clock = std::chrono::steady_clock;
    auto const deadline = clock::now() + time;
    for (;;) {
        auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
        ::pollfd entry{fd.get(), POLLIN, 0};
        int const ready = ::poll(&entry, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
        if (ready > 0)
            return true;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

} // namespace ecdysis::os

#endif
