// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <thread>

namespace restart {

/// Far more than anything here takes; an event that has not come by then never will.
inline constexpr std::chrono::seconds patience{60};

/// Whether `predicate` became true in time: the one place that waits. A test waits for what it wants to see, and never
/// for some time to pass.
template <class Predicate>
[[nodiscard]] bool wait_until(Predicate&& predicate, std::chrono::milliseconds at_most = patience)
{
    using clock = std::chrono::steady_clock;
    auto const deadline = clock::now() + at_most;
    for (std::chrono::microseconds pause{200};; pause = std::min(2 * pause, std::chrono::microseconds{10'000})) {
        if (predicate())
            return true;
        if (clock::now() >= deadline)
            return false;
        std::this_thread::sleep_for(pause);
    }
}

} // namespace restart
