// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SIGNAL_RELAY_HPP
#define ECDYSIS_IO_SIGNAL_RELAY_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/eventfd.hpp>

#include <signal.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace ecdysis::io {

/// From a signal handler to the pump of `io::sync`. The one place of the library with static state, for a handler is
/// given nothing but its number: a slot for each signal holds the eventfd to write to and whether it was raised. The
/// flag and not the eventfd tells that a signal came: a process that the host forked shares the eventfd, but not the
/// flag. Signals that come again before they are taken are one.
class signal_relay
{
public:
    /// Installs the handler. A signal that has one of ours already gives `device_or_resource_busy`.
    static void install(int signal, os::eventfd const& wake, error_code& ec) noexcept
    {
        if (signal < 1 || static_cast<std::size_t>(signal) >= slots_.size()) {
            ec = make_error_code(boost::system::errc::invalid_argument);
            return;
        }
        auto& slot = slots_[static_cast<std::size_t>(signal)];
        int nobody = none;
        if (!slot.wake.compare_exchange_strong(nobody, wake.fd().get())) {
            ec = make_error_code(boost::system::errc::device_or_resource_busy);
            return;
        }
        slot.raised = false;
        struct ::sigaction action{};
        action.sa_handler = &relay;
        action.sa_flags = SA_RESTART; // the host's system calls are not disturbed; the eventfd ends the pump's poll
        ::sigfillset(&action.sa_mask);
        os::call(ec, [&] { return ::sigaction(signal, &action, nullptr); });
        if (ec)
            slot.wake = none;
    }

    /// To be called when the handler is no longer installed; afterwards the eventfd may be closed.
    static void forget(int signal) noexcept
    {
        slots_[static_cast<std::size_t>(signal)].wake = none;
        // A handler in another thread may have read the number just now. It makes one write and never waits.
        while (running_ != 0)
            ::sched_yield();
    }

    /// Whether `signal` came since the last call.
    [[nodiscard]] static bool take(int signal) noexcept
    {
        return slots_[static_cast<std::size_t>(signal)].raised.exchange(false);
    }

private:
    static constexpr int none = -1;
    struct slot
    {
        std::atomic<int> wake;
        std::atomic<bool> raised;

        slot() noexcept : wake{none}, raised{false} {}
    };
    static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

    static void relay(int signal) noexcept
    {
        ++running_;
        auto& slot = slots_[static_cast<std::size_t>(signal)];
        slot.raised = true;
        if (int const wake = slot.wake; wake != none)
            os::eventfd::notify(wake);
        --running_;
    }

    static inline std::array<slot, NSIG> slots_;
    static inline std::atomic<int> running_{0};
};

} // namespace ecdysis::io

#endif
