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

    [[nodiscard]] std::size_t count() const noexcept { return count_.load() & ~draining_bit; }

    /// Requested when the drain begins: answer what is under way, and say that it is the last
    /// (`Connection: close`, GOAWAY).
    [[nodiscard]] std::stop_token draining() const noexcept { return draining_.get_token(); }

    /// Requested later in the drain: close connections that wait for a next request.
    [[nodiscard]] std::stop_token close_idle() const noexcept { return close_idle_.get_token(); }

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

/// Keeps the drain waiting for one connection, as long as it lives. Movable; may outlive the upgrader.
/// Distinct guards may be used from distinct threads.
class connection_guard
{
public:
    connection_guard() noexcept = default;
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

    [[nodiscard]] explicit operator bool() const noexcept { return connections_ != nullptr; }

    /// The drain has begun: this answer should be the connection's last.
    [[nodiscard]] bool draining() const noexcept { return connections_ && connections_->draining().stop_requested(); }

    /// When to close this connection if it waits for a next request; see open_connections::close_idle().
    [[nodiscard]] std::stop_token close_idle() const noexcept
    {
        return connections_ ? connections_->close_idle() : std::stop_token{};
    }

private:
    std::shared_ptr<open_connections> connections_;
};

} // namespace ecdysis

#endif
