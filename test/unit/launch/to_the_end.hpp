// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_UNIT_LAUNCH_TO_THE_END_HPP
#define ECDYSIS_TEST_UNIT_LAUNCH_TO_THE_END_HPP

#include <poll.h>

#include <algorithm>
#include <chrono>

/// Goes on with the start that is under way, as an upgrader would, until `done` was called.
inline void to_the_end(auto& launch)
{
    using namespace std::chrono;
    while (auto const next = launch.awaits()) {
        auto const left = next.until ? ceil<milliseconds>(*next.until - steady_clock::now()).count() : -1;
        ::pollfd one{next.readable.get(), POLLIN, 0};
        ::poll(&one, 1, static_cast<int>(std::max<decltype(left)>(left, next.until ? 0 : -1)));
        launch.go_on();
    }
}

#endif
