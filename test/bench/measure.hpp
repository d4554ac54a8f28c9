// SPDX-License-Identifier: BSL-1.0
// What the benchmarks have in common.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

using clock_type = std::chrono::steady_clock;
using microseconds = std::chrono::duration<double, std::micro>;
using nanoseconds = std::chrono::duration<double, std::nano>;

[[nodiscard]] inline double median(std::vector<double> all)
{
    auto const middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::nth_element(all.begin(), middle, all.end());
    return all.empty() ? 0 : *middle;
}

inline void must(bool done, char const* what)
{
    if (!done)
        throw std::runtime_error{std::string{what} + ": " + std::strerror(errno)};
}

/// Memory that is resident, in pages of 4 KiB, of which there are the most to copy.
class resident
{
public:
    explicit resident(std::size_t mebibytes) : size_{mebibytes << 20}
    {
        if (size_ == 0)
            return;
        at_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(at_ != MAP_FAILED, "mmap");
        ::madvise(at_, size_, MADV_NOHUGEPAGE);
        for (std::size_t page = 0; page < size_; page += 4096)
            static_cast<char volatile*>(at_)[page] = 1;
    }
    resident(resident const&) = delete;
    resident& operator=(resident const&) = delete;
    ~resident()
    {
        if (at_ != nullptr)
            ::munmap(at_, size_);
    }

private:
    std::size_t size_;
    void* at_ = nullptr;
};

} // namespace bench
