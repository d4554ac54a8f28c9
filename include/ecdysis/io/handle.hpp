// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_HANDLE_HPP
#define ECDYSIS_IO_HANDLE_HPP

#include <memory>
#include <utility>

namespace ecdysis::io {

/// One thing that a policy waits for on behalf of somebody.
class registration
{
public:
    registration() = default;
    registration(registration const&) = delete;
    registration& operator=(registration const&) = delete;
    virtual ~registration() = default;

    /// Called once. Takes the policy's lock: when it returns, the callback runs in no other thread and is never called.
    virtual void cancel() noexcept = 0;
};

/// Owns a registration: cancels it when it goes. May outlive its policy.
class handle
{
public:
    handle() noexcept = default;
    explicit handle(std::shared_ptr<registration> owned) noexcept : registration_{std::move(owned)} {}
    handle(handle&&) noexcept = default;
    handle& operator=(handle&& other) noexcept
    {
        if (this != &other) {
            reset();
            registration_ = std::move(other.registration_);
        }
        return *this;
    }
    ~handle() { reset(); }

    void reset() noexcept
    {
        if (auto const gone = std::exchange(registration_, nullptr))
            gone->cancel();
    }

    [[nodiscard]] explicit operator bool() const noexcept { return registration_ != nullptr; }

private:
    std::shared_ptr<registration> registration_;
};

} // namespace ecdysis::io

#endif
