// SPDX-License-Identifier: BSL-1.0
#ifndef EXAMPLE_STDERR_LOG_HPP
#define EXAMPLE_STDERR_LOG_HPP

#include <ecdysis/event.hpp>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>
#include <string_view>

namespace example {

/// One line to stderr in one write, so that those of two generations do not mix:
///
///     2026-01-31T12:00:00.123456Z pid 4711: listening on 127.0.0.1:8080
inline void log_line(std::chrono::system_clock::time_point time, std::string_view who, std::string_view what)
{
    using namespace std::chrono;
    auto const seconds = system_clock::to_time_t(time);
    auto const micros = duration_cast<microseconds>(time.time_since_epoch()).count() % 1'000'000;
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    char stamp[32];
    auto const size = std::strftime(stamp, sizeof stamp, "%FT%T", &parts);
    std::snprintf(stamp + size, sizeof stamp - size, ".%06ldZ ", static_cast<long>(micros));
    std::cerr << std::string{stamp}.append(who).append(": ").append(what).append("\n");
}

inline void log(std::string_view what)
{
    auto const who = "pid " + std::to_string(ecdysis::os::number(ecdysis::os::this_process()));
    log_line(std::chrono::system_clock::now(), who, what);
}

/// An observer that writes each event to stderr.
inline void log_event(ecdysis::event const& e)
{
    auto const who = "generation " + std::to_string(e.generation) + " pid " + std::to_string(ecdysis::os::number(e.pid));
    log_line(e.time, who, e.text());
}

} // namespace example

#endif
