// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_EVENTFD_HPP
#define ECDYSIS_OS_EVENTFD_HPP

#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace ecdysis::os {

/// A descriptor of our own that is readable from `notify()` until `clear()`.
class eventfd
{
public:
    explicit eventfd(error_code& ec) noexcept
        : fd_{call(ec, [] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); })}
    {}

    [[nodiscard]] borrowed_fd fd() const noexcept { return fd_; }

    void notify() const noexcept { notify(fd_.get()); }
    /// The same by number, for signal handlers: async-signal-safe, errno stays as it was.
    static void notify(int number) noexcept
    {
        int const before = errno;
        std::uint64_t const one = 1;
        // It fails only where the counter is at its maximum, and then the descriptor is readable as it should be.
        [[maybe_unused]] auto const written = ::write(number, &one, sizeof one);
        errno = before;
    }
    void clear() const noexcept
    {
        std::uint64_t count = 0;
        [[maybe_unused]] auto const read = ::read(fd_.get(), &count, sizeof count);
    }

private:
    owned_fd fd_;
};

} // namespace ecdysis::os

#endif
