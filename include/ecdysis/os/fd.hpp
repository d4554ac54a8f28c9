// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_FD_HPP
#define ECDYSIS_OS_FD_HPP

#include <unistd.h>

#include <utility>

namespace ecdysis::os {

/// A file descriptor number that somebody else owns and keeps open while this is used.
class borrowed_fd
{
public:
    constexpr borrowed_fd() noexcept = default;
    constexpr explicit borrowed_fd(int number) noexcept : number_{number} {}

    [[nodiscard]] constexpr int get() const noexcept { return number_; }
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return number_ >= 0; }

    friend constexpr bool operator==(borrowed_fd, borrowed_fd) noexcept = default;

private:
    int number_ = -1;
};

/// The one owner of an open file descriptor; closes it when it goes.
class owned_fd
{
public:
    constexpr owned_fd() noexcept = default;
    /// Takes `number` over; a negative one means none.
    constexpr explicit owned_fd(int number) noexcept : number_{number} {}

    owned_fd(owned_fd&& other) noexcept : number_{other.release()} {}
    owned_fd& operator=(owned_fd&& other) noexcept
    {
        if (this != &other) {
            reset();
            number_ = other.release();
        }
        return *this;
    }
    ~owned_fd() { reset(); }

    [[nodiscard]] int get() const noexcept { return number_; }
    [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }
    operator borrowed_fd() const noexcept { return borrowed_fd{number_}; }

    /// Gives the number up without closing it; the caller owns it from now on.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

    void reset() noexcept
    {
        // close() is not tried again after EINTR: Linux has freed the number by then (close(2)).
        if (number_ >= 0)
            ::close(std::exchange(number_, -1));
    }

private:
    int number_ = -1;
};

} // namespace ecdysis::os

#endif
