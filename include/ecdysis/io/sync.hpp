// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SYNC_HPP
#define ECDYSIS_IO_SYNC_HPP

#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/handle.hpp>
#include <ecdysis/io/outcome.hpp>
#include <ecdysis/io/sync_listener.hpp>
#include <ecdysis/io/sync_pump.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <sys/eventfd.h>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>

namespace ecdysis::io {

/// The policy of hosts without a reactor: everything happens in the thread that calls `wait`, which polls. No thread is
/// started, and no signal has a handler but those named to `signals`.
///
/// Thread safety: all members may be called from any thread; `f` runs in the thread inside `wait`.
/// Lifetimes: handles, sources and posters may outlive it.
class sync
{
public:
    static constexpr std::string_view name = "sync";
    static constexpr bool blocking = true;

    using handle = io::handle;
    using source = sync_source;
    using listener = sync_listener;
    using tcp_listener = listener;
    using unix_listener = listener;
    using seqpacket_listener = listener;
    using datagram = sync_datagram;
    using connection = sync_connection;

    class poster;

    static constexpr auto system_calls = seccomp::declare(
        "io::sync", accept_calls, signal_calls,
        std::array{
            seccomp::calls("accept4", "connections", seccomp::is(3, SOCK_CLOEXEC)),
            seccomp::calls("ppoll", "waits"),
            seccomp::calls("poll", "accept() waits").only_on(seccomp::architecture::x86_64),
            seccomp::calls("eventfd2", "wakes who waits", seccomp::is(1, EFD_CLOEXEC | EFD_NONBLOCK)),
            seccomp::calls("read", "events between threads"),
            seccomp::calls("write", "events between threads"),
        });

    /// Takes three descriptors. Throws `error` when there are none left.
    sync() : pump_{std::make_shared<sync_pump>()} {}
    sync(sync&&) noexcept = default;
    sync& operator=(sync&&) = delete;
    ~sync()
    {
        if (pump_)
            pump_->gone = true;
    }

    [[nodiscard]] std::unique_lock<std::recursive_mutex> lock() const { return std::unique_lock{pump_->mutex}; }

    [[nodiscard]] handle watch(os::borrowed_fd fd, std::function<void()> f, error_code& ec)
    {
        ec.clear();
        auto const hold = lock();
        return pump_->add(pump_->watches, std::make_shared<sync_pump::watching>(pump_, fd, std::move(f)));
    }

    [[nodiscard]] handle at(clock::time_point time, std::function<void()> f)
    {
        auto const hold = lock();
        return pump_->add(pump_->timers, std::make_shared<sync_pump::timing>(pump_, time, std::move(f)));
    }

    /// One handler for each signal of `set`, with SA_RESTART. A signal that has one of ours already gives
    /// `device_or_resource_busy`, and none of the set is taken. Signals that come again before `f` ran are one.
    [[nodiscard]] handle signals(std::span<int const> set, std::function<void(int)> f, error_code& ec)
    {
        ec.clear();
        auto const hold = lock();
        auto added = std::make_shared<sync_pump::signalling>(pump_, std::move(f));
        added->install(set, ec);
        if (ec)
            return {};
        auto result = pump_->add(pump_->signals, std::move(added));
        unblock(set);
        return result;
    }

    void post(std::function<void()> f) { pump_->post(std::move(f)); }
    [[nodiscard]] poster get_poster() const noexcept;

    [[nodiscard]] std::shared_ptr<source> make_source(os::owned_fd socket,
                                                      std::shared_ptr<open_connections> connections, error_code& ec)
    {
        auto made = std::make_shared<source>(pump_->gate, std::move(socket), std::move(connections), ec);
        return ec ? nullptr : made;
    }

    /// Runs callbacks until `o` is known, and gives what it is. `o` is looked at with the lock held. One thread at a
    /// time; another, or a call from inside a callback, gets `errc::already_waiting`.
    template <class T>
    typename outcome<T>::result wait(outcome<T>& o, error_code& ec)
    {
        auto const pump = pump_; // a callback may be the policy's end
        auto hold = lock();
        if (pump->waiting || o.awaited()) {
            ec = errc::already_waiting;
            return {ec, T{}};
        }
        struct turns
        {
            turns(sync_pump& on, outcome<T>& what) : pump{on}, awaited{what}
            {
                pump.waiting = true;
                // It may become known in another thread.
                if (!awaited.known())
                    awaited.await([wake = pump.wake] { wake->notify(); });
            }
            turns(turns const&) = delete;
            turns& operator=(turns const&) = delete;
            ~turns()
            {
                pump.waiting = false;
                awaited.forget_waiter();
            }

            sync_pump& pump;
            outcome<T>& awaited;
        } const turns{*pump, o};
        while (!o.known())
            pump->turn(hold);
        ec = o.get().ec;
        return o.get();
    }

private:
    std::shared_ptr<sync_pump> pump_;
};

/// Posts to the policy it came from, from any thread, also after that policy has gone: then nothing happens.
class sync::poster
{
public:
    poster() noexcept = default;
    void operator()(std::function<void()> f) const
    {
        if (auto const to = pump_.lock(); to && !to->gone)
            to->post(std::move(f));
    }

private:
    friend class sync;
    explicit poster(std::weak_ptr<sync_pump> to) noexcept : pump_{std::move(to)} {}

    std::weak_ptr<sync_pump> pump_;
};

inline sync::poster sync::get_poster() const noexcept
{
    return poster{pump_};
}

static_assert(Policy<sync>);

} // namespace ecdysis::io

#endif
