// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SIGNAL_DISPOSITION_HPP
#define ECDYSIS_IO_SIGNAL_DISPOSITION_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>

namespace ecdysis::io {

inline constexpr std::array signal_calls{
    seccomp::calls("rt_sigaction", "handlers of the signals that are named in options"),
    seccomp::calls("rt_sigprocmask", "which signals are let through"),
    seccomp::calls("rt_sigtimedwait", "takes away a signal that came while it was blocked"),
    seccomp::calls("kill", "gives a signal that came meanwhile to who had a handler before")
        .untested_because("it has to come in the moment in which the upgrader's handler goes"),
    seccomp::calls("getpid", "gives a signal that came meanwhile to who had a handler before"),
};

/// Lets `signals` through in this thread; a generation is started with some of them blocked.
inline void unblock(std::span<int const> signals) noexcept
{
    ::sigset_t set;
    ::sigemptyset(&set);
    for (int const signal : signals)
        ::sigaddset(&set, signal);
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

/// Takes away those of `signals` that have come while they were blocked in this thread, and says whether there were
/// any. Never waits.
inline bool discard(std::span<int const> signals) noexcept
{
    ::sigset_t set;
    ::sigemptyset(&set);
    for (int const signal : signals)
        ::sigaddset(&set, signal);
    ::timespec const at_once{};
    bool any = false;
    for (int taken; (taken = ::sigtimedwait(&set, nullptr, &at_once)) > 0 || errno == EINTR;)
        any = any || taken > 0;
    return any;
}

/// What a signal did before a handler of ours was installed, to be brought back when ours goes.
class signal_disposition
{
public:
    signal_disposition(int signal, error_code& ec) noexcept : signal_{signal}
    {
        os::call(ec, [&] { return ::sigaction(signal_, nullptr, &previous_); });
    }

    [[nodiscard]] int signal() const noexcept { return signal_; }

    /// To be called once ours is in place.
    void installed() noexcept { ours_ = current(); }

    /// Brings the previous disposition back, unless somebody has replaced ours since.
    void bring_back() const noexcept
    {
        pending_is_ours([&] {
            if (same(current(), ours_))
                ::sigaction(signal_, &previous_, nullptr);
        });
    }

    /// The same where `remove` takes our handler away and leaves the default: a replacement by somebody else survives
    /// that, and a handler that others share stays.
    template <class F>
    void bring_back_after(F&& remove) const
    {
        pending_is_ours([&] {
            auto const before = current();
            remove();
            if (!same(before, ours_))
                ::sigaction(signal_, &before, nullptr);
            else if (!same(current(), ours_))
                ::sigaction(signal_, &previous_, nullptr);
        });
    }

private:
    /// What has come and was not delivered yet (its thread waits for a processor) was meant for our handler: by the
    /// default it would end the process. Whoever else has a handler then, gets it.
    template <class F>
    void pending_is_ours(F&& change) const
    {
        ::sigset_t set;
        ::sigset_t before;
        ::sigemptyset(&set);
        ::sigaddset(&set, signal_);
        ::pthread_sigmask(SIG_BLOCK, &set, &before);
        bool came = discard({&signal_, 1});
        change();
        came = discard({&signal_, 1}) || came;
        if (came && current().sa_handler != SIG_DFL)
            ::kill(::getpid(), signal_);
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    [[nodiscard]] struct ::sigaction current() const noexcept
    {
        struct ::sigaction action{};
        ::sigaction(signal_, nullptr, &action);
        return action;
    }
    // sa_handler and sa_sigaction share their place.
    static bool same(struct ::sigaction const& a, struct ::sigaction const& b) noexcept
    {
        return a.sa_handler == b.sa_handler;
    }

    int signal_;
    struct ::sigaction previous_{};
    struct ::sigaction ours_{};
};

} // namespace ecdysis::io

#endif
