// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_DRAIN_HPP
#define ECDYSIS_DRAIN_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

namespace ecdysis {

/// Counts what must be finished before the process may end. Shared by the upgrader and every guard, so that
/// either may go first. All members may be called from any thread.
class open_connections
{
public:
    open_connections() = default;
    open_connections(open_connections const&) = delete;
    open_connections& operator=(open_connections const&) = delete;

    /// How many guards there are now, accepts in flight included.
    [[nodiscard]] std::size_t count() const noexcept { return count_.load() & ~draining_bit; }

    /// Requested when this generation retires or stops, at the latest when the drain begins, and stays so: answer what
    /// is under way, and say that it is the last (`Connection: close`, GOAWAY). A std::stop_callback on it runs where
    /// the upgrader runs, with its lock held: it must neither wait nor throw.
    [[nodiscard]] std::stop_token draining() const noexcept { return draining_.get_token(); }

    /// Requested options.idle_grace later, if the drain lasts so long: close connections that wait for a next request.
    /// Callbacks as for draining().
    [[nodiscard]] std::stop_token close_idle() const noexcept { return close_idle_.get_token(); }

    // For the upgrader:

    /// From now on `on_empty` is called whenever the count falls to zero, from the thread that dropped the last guard.
    /// It must not call watch or unwatch.
    void watch(std::function<void()> on_empty)
    {
        {
            std::lock_guard const hold{mutex_};
            on_empty_ = std::move(on_empty);
        }
        count_.fetch_or(draining_bit);
    }
    /// After it returns, `on_empty` is not called any more.
    void unwatch() noexcept
    {
        count_.fetch_and(~draining_bit);
        std::lock_guard const hold{mutex_};
        on_empty_ = nullptr;
    }

    /// Runs what was registered on the tokens, in this thread.
    void begin_draining() { draining_.request_stop(); }
    void begin_closing_idle() { close_idle_.request_stop(); }

private:
    friend class connection_guard;

    static constexpr std::size_t draining_bit = ~(SIZE_MAX >> 1);

    void enter() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void leave() noexcept
    {
        // The plain case costs one atomic subtraction; only the last one out while draining takes the lock.
        if (count_.fetch_sub(1, std::memory_order_acq_rel) != (draining_bit | 1))
            return;
        std::lock_guard const hold{mutex_};
        if (on_empty_)
            on_empty_();
    }

    std::atomic<std::size_t> count_{0};
    std::mutex mutex_;
    std::function<void()> on_empty_;
    std::stop_source draining_;
    std::stop_source close_idle_;
};

/// Keeps the drain waiting for one connection, as long as it lives. Accepted connections bring theirs; a host makes
/// others for what it counts itself: `connection_guard{up.connections()}`.
///
/// Thread safety: distinct guards may be used from distinct threads. Lifetimes: movable; may outlive the upgrader.
/// Nothing here throws.
class connection_guard
{
public:
    /// Guards nothing, as one that was moved from does.
    connection_guard() noexcept = default;
    /// Counts one more in `connections`, unless that is null.
    explicit connection_guard(std::shared_ptr<open_connections> connections) noexcept
        : connections_{std::move(connections)}
    {
        if (connections_)
            connections_->enter();
    }
    connection_guard(connection_guard&&) noexcept = default;
    connection_guard& operator=(connection_guard&& other) noexcept
    {
        connection_guard{std::move(other)}.swap(*this);
        return *this;
    }
    ~connection_guard() { reset(); }

    /// Counts the connection as finished now.
    void reset() noexcept
    {
        if (auto const connections = std::exchange(connections_, nullptr))
            connections->leave();
    }
    void swap(connection_guard& other) noexcept { connections_.swap(other.connections_); }

    /// Whether it guards anything.
    [[nodiscard]] explicit operator bool() const noexcept { return connections_ != nullptr; }

    /// This generation retires or stops: this answer should be the connection's last. False when it guards nothing.
    [[nodiscard]] bool draining() const noexcept { return connections_ && connections_->draining().stop_requested(); }

    /// When to close this connection if it waits for a next request; see open_connections::close_idle(). Without a stop
    /// state when it guards nothing.
    [[nodiscard]] std::stop_token close_idle() const noexcept
    {
        return connections_ ? connections_->close_idle() : std::stop_token{};
    }

private:
    std::shared_ptr<open_connections> connections_;
};

} // namespace ecdysis

#endif
