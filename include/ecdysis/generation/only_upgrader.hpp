// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_ONLY_UPGRADER_HPP
#define ECDYSIS_GENERATION_ONLY_UPGRADER_HPP

#include <ecdysis/error.hpp>

#include <atomic>

namespace ecdysis {

/// At most one upgrader lives in a process: signals, the variable and the parent's role are the process's own.
class only_upgrader
{
public:
    /// Throws `error`, errc::second_upgrader.
    only_upgrader()
    {
        if (exists().exchange(true))
            throw error{errc::second_upgrader, "construct an upgrader"};
    }
    only_upgrader(only_upgrader const&) = delete;
    only_upgrader& operator=(only_upgrader const&) = delete;
    ~only_upgrader() { exists() = false; }

private:
    static std::atomic<bool>& exists() noexcept
    {
        static std::atomic<bool> flag{false};
        return flag;
    }
};

} // namespace ecdysis

#endif
