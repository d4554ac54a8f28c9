// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SYNC_SOURCE_HPP
#define ECDYSIS_IO_SYNC_SOURCE_HPP

#include <ecdysis/io/accept.hpp>
#include <ecdysis/os/eventfd.hpp>

#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace ecdysis::io {

/// Wakes every thread that waits in a handle of `io::sync` when any source changes. Shared by all sources of one
/// policy, so that a thousand listeners need two more descriptors and not a thousand: an eventfd stays readable until
/// all who waited on it have left, while the other serves those who come after.
class sync_gate
{
public:
    explicit sync_gate(error_code& ec) noexcept : sides_{side{ec}, side{ec}} {}

    [[nodiscard]] std::unique_lock<std::mutex> lock() { return std::unique_lock{mutex_}; }

    // With the lock held:

    void changed() noexcept
    {
        sides_[current_].wake.notify();
        stale_ = true;
    }

    /// Waits until `fd` is readable (a negative one never is), any source changes, or `timeout` is over.
    void wait(std::unique_lock<std::mutex>& lock, os::borrowed_fd fd, std::optional<std::chrono::milliseconds> timeout)
    {
        auto const other = 1 - current_;
        // Where some have yet to leave the other side they are awake: poll returns at once, and the caller tries again.
        if (stale_ && sides_[other].waiting == 0) {
            current_ = other;
            sides_[current_].wake.clear();
            stale_ = false;
        }
        auto& here = sides_[current_];
        ++here.waiting;
        lock.unlock();
        std::array<::pollfd, 2> entries{{{here.wake.fd().get(), POLLIN, 0}, {fd.get(), POLLIN, 0}}};
        ::poll(entries.data(), entries.size(), timeout ? static_cast<int>(timeout->count()) : -1);
        lock.lock();
        --here.waiting;
    }

private:
    struct side
    {
        explicit side(error_code& ec) noexcept : wake{ec} {}

        os::eventfd wake;
        std::size_t waiting = 0;
    };

    std::mutex mutex_;
    std::array<side, 2> sides_;
    std::size_t current_ = 0;
    bool stale_ = false;
};

/// The shared state of one listening or datagram socket of `io::sync`. The policy's user calls `open`, `pause`,
/// `end` and `close`, with the policy's lock held or not; the host's handles make visits. All from any thread.
class sync_source
{
public:
    /// Takes the socket over and makes it non-blocking. `connections` may be null.
    sync_source(std::shared_ptr<sync_gate> gate, os::owned_fd socket, std::shared_ptr<open_connections> connections,
                error_code& ec)
        : gate_{std::move(gate)}, connections_{std::move(connections)}, socket_{std::move(socket)}
    {
        set_non_blocking(socket_, ec);
        number_ = socket_.get();
    }

    /// Valid until `close()`, and none after; a datagram socket's as long as this lives.
    [[nodiscard]] os::borrowed_fd fd() const noexcept { return os::borrowed_fd{number_}; }

    /// From now on calls complete; before, they wait.
    void open()
    {
        auto const lock = gate_->lock();
        accepting_.open();
        gate_->changed();
    }

    /// No call that begins after this takes a connection, until `open()`: it waits. One that has begun has counted its
    /// guard.
    void pause()
    {
        auto const lock = gate_->lock();
        accepting_.pause();
        gate_->changed();
    }

    /// No call that begins after this takes a connection; one that has begun has counted its guard. With `empty_first`
    /// calls go on, without waiting, until the queue is empty, and until then the source itself holds a guard. A
    /// listening socket is closed as soon as accepting has ended and the last call in flight has left.
    void end(bool empty_first)
    {
        connection_guard released;
        auto const lock = gate_->lock();
        if (empty_first && !closing_)
            accepting_.empty(socket_, connections_);
        else
            accepting_.end(released);
        close_if_left();
        gate_->changed();
    }

    /// Ends, and closes the socket when the last call in flight has left, but for a datagram socket.
    void close()
    {
        connection_guard released;
        auto const lock = gate_->lock();
        accepting_.end(released);
        closing_ = !is_datagram(socket_);
        if (closing_)
            number_ = -1;
        close_if_left();
        gate_->changed();
    }

    /// One call of the host in flight.
    class visit
    {
    public:
        explicit visit(sync_source& source) : source_{source}
        {
            auto const lock = source_.gate_->lock();
            ++source_.visits_;
        }
        visit(visit const&) = delete;
        visit& operator=(visit const&) = delete;
        ~visit()
        {
            auto const lock = source_.gate_->lock();
            --source_.visits_;
            source_.close_if_left();
        }

        /// How far the source is; if it may be taken from, `guard` counts from this very moment, so that a drain that
        /// begins after `end()` cannot miss what this call is about to accept.
        [[nodiscard]] accepting::phase look(connection_guard& guard)
        {
            connection_guard released;
            auto const lock = source_.gate_->lock();
            source_.accepting_.count_look(released);
            seen_ = source_.accepting_.now();
            if (source_.accepting_.may_take())
                guard = connection_guard{source_.connections_};
            return seen_;
        }

        /// The queue was found empty: emptying is over.
        void emptied()
        {
            connection_guard released;
            auto const lock = source_.gate_->lock();
            source_.accepting_.end(released);
            source_.gate_->changed();
        }

        /// Returns when the source may have changed since the last look, or `fd` is readable, or after `timeout`;
        /// perhaps earlier.
        void wait(os::borrowed_fd fd, std::optional<std::chrono::milliseconds> timeout = {})
        {
            auto lock = source_.gate_->lock();
            if (source_.accepting_.now() == seen_)
                source_.gate_->wait(lock, fd, timeout);
        }

        [[nodiscard]] os::borrowed_fd socket() const noexcept { return source_.socket_; }

    private:
        sync_source& source_;
        accepting::phase seen_ = accepting::phase::waiting;
    };

private:
    void close_if_left() noexcept
    {
        bool const ended = accepting_.now() == accepting::phase::ended;
        if (visits_ != 0 || !(closing_ || (ended && is_listening(socket_))))
            return;
        number_ = -1;
        socket_.reset();
    }

    std::shared_ptr<sync_gate> gate_;
    std::shared_ptr<open_connections> connections_;
    os::owned_fd socket_;
    std::atomic<int> number_{-1}; // of the socket, for those who only look
    accepting accepting_;
    std::size_t visits_ = 0;
    bool closing_ = false;
};

} // namespace ecdysis::io

#endif
