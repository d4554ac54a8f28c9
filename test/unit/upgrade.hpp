// SPDX-License-Identifier: BSL-1.0
// For unit tests that upgrade in one process and a child of it, with io::sync.
#pragma once

#include <chrono>
#include <string>

/// Asks for an upgrade, runs until its end is told, and gives what was told.
template <class Upgrader>
std::string upgrade(Upgrader& up)
{
    std::string told;
    up.request_upgrade([&](std::string const& line) {
        told = line;
        up.request_partial_stop();
    });
    up.wait();
    if (told.empty()) // the child has still to say that it has taken the service over
        up.drain(std::chrono::seconds{10});
    return told;
}
