// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ASIO_SOURCE_HPP
#define ECDYSIS_IO_ASIO_SOURCE_HPP

#include <ecdysis/io/accept.hpp>
#include <ecdysis/io/completion.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ecdysis::io {

/// The shared state of one listening or datagram socket of `io::asio`: the operations that wait, in their order, and
/// one wait in the reactor for all of them. The policy's user calls `open`, `pause`, `end` and `close`, with the
/// policy's lock held or not; the host's handles submit operations. All from any thread: a mutex of its own, held for
/// a few calls that do not wait, does what a strand would without sending each accept through a queue.
///
/// Lifetimes: it may outlive its policy, not the execution context. Close it before the context goes: operations that
/// wait, and so the coroutines that wait for them, are kept alive by it.
class asio_source : public std::enable_shared_from_this<asio_source>
{
public:
    /// What waits for its turn.
    class operation
    {
    public:
        operation() = default;
        operation(operation const&) = delete;
        operation& operator=(operation const&) = delete;
        virtual ~operation() = default;

        /// Tries now, without waiting; `ready`: the reactor has just found the socket readable. When it accepts it
        /// takes `guard`, which counts already.
        virtual attempt look(os::borrowed_fd socket, bool ready, connection_guard& guard, error_code& ec) = 0;
        virtual void complete(way by, error_code ec) = 0;
    };

    /// Takes the socket over and makes it non-blocking. `connections` may be null.
    asio_source(boost::asio::any_io_executor const& executor, os::owned_fd socket,
                std::shared_ptr<open_connections> connections, error_code& ec)
        : connections_{std::move(connections)}, socket_{std::move(socket)}, descriptor_{executor}, timer_{executor}
    {
        set_non_blocking(socket_, ec);
        number_ = socket_.get();
    }

    /// Valid until `close()`, and none after; a datagram socket's as long as this lives.
    [[nodiscard]] os::borrowed_fd fd() const noexcept { return os::borrowed_fd{number_}; }
    /// The address family of the socket, AF_INET for instance.
    [[nodiscard]] int family() noexcept
    {
        if (family_ == AF_UNSPEC) {
            error_code ignored;
            int family = AF_UNSPEC;
            ::socklen_t size = sizeof family;
            os::call(ignored, [&] { return ::getsockopt(fd().get(), SOL_SOCKET, SO_DOMAIN, &family, &size); });
            family_ = family;
        }
        return family_;
    }
    [[nodiscard]] boost::asio::any_io_executor executor() { return timer_.get_executor(); }

    /// From now on operations complete; before, they wait.
    void open()
    {
        round now{*this};
        accepting_.open();
        now.serve();
    }

    /// When it returns nothing is accepted until `open()`, and each connection that was has its guard. A wait in the
    /// reactor that was under way may still complete, and is not begun anew.
    void pause()
    {
        round const now{*this};
        accepting_.pause();
    }

    /// When it returns nothing is accepted any more, and each connection that was has its guard. With `empty_first`
    /// operations go on, without waiting, until the queue is empty, and until then the source itself holds a guard.
    /// A listening socket is closed as soon as accepting has ended.
    void end(bool empty_first)
    {
        round now{*this};
        if (empty_first && fd())
            accepting_.empty(fd(), connections_);
        else
            accepting_.end(now.released);
        now.serve();
    }

    /// Ends, and closes the socket, but for a datagram socket, which only leaves the reactor.
    void close()
    {
        round now{*this};
        accepting_.end(now.released);
        now.serve();
        close_socket();
    }

    /// A name for an operation to come.
    [[nodiscard]] std::uint64_t next_id() noexcept { return ++last_id_; }

    void submit(std::uint64_t id, std::unique_ptr<operation> added)
    {
        round now{*this};
        queue_.push_back({id, std::move(added)});
        // Where a wait is under way it serves this one, too.
        if (accepting_.now() != accepting::phase::open || (!armed_ && !resting_))
            now.serve();
    }

    /// Completes one operation with `operation_aborted`, or none if it has completed.
    void cancel(std::uint64_t id)
    {
        round now{*this};
        for (auto place = queue_.begin(); place != queue_.end(); ++place)
            if (place->id == id) {
                now.finish(std::move(place->what), boost::asio::error::operation_aborted);
                queue_.erase(place);
                break;
            }
        calm();
    }

    void cancel()
    {
        round now{*this};
        now.finish_all(boost::asio::error::operation_aborted);
        calm();
    }

private:
    struct entry
    {
        std::uint64_t id;
        std::unique_ptr<operation> what;
    };

    /// One passage with the lock held. What must not happen under the lock comes at its end.
    class round
    {
    public:
        explicit round(asio_source& source, way last_by = way::post)
            : source_{source}, last_by_{last_by}, lock_{source.mutex_}
        {}
        round(round const&) = delete;
        round& operator=(round const&) = delete;
        ~round() noexcept(false) // a dispatched handler may throw, which the context's run() passes on
        {
            lock_.unlock();
            guard_.reset();
            released.reset();
            if (last_)
                std::exchange(last_, nullptr)->complete(last_by_, last_error_);
        }

        /// Serves what waits, as far as that goes without waiting.
        void serve(bool ready = false)
        {
            auto& queue = source_.queue_;
            while (!queue.empty() && source_.accepting_.now() != accepting::phase::waiting) {
                source_.accepting_.count_look(released);
                if (source_.accepting_.now() == accepting::phase::ended) {
                    finish_all(errc::ended);
                    break;
                }
                if (!guard_)
                    guard_ = connection_guard{source_.connections_};
                error_code ec;
                switch (queue.front().what->look(source_.fd(), ready, guard_, ec)) {
                case attempt::exhausted:
                    source_.rest();
                    return;
                case attempt::nothing:
                    if (source_.accepting_.now() == accepting::phase::open) {
                        source_.arm(ec);
                        if (ec)
                            not_armed(ec);
                        return;
                    }
                    source_.accepting_.end(released);
                    break;
                case attempt::failed:
                    if (source_.accepting_.now() == accepting::phase::emptying)
                        source_.accepting_.end(released);
                    [[fallthrough]];
                case attempt::done:
                    source_.backoff_.reset();
                    finish_first(ec);
                }
            }
            source_.calm();
            if (source_.accepting_.now() == accepting::phase::ended && is_listening(source_.fd()))
                source_.close_socket();
        }

        /// The reactor cannot wait for the socket. Where that may pass, nobody needs to hear of it.
        void not_armed(error_code ec)
        {
            if (!is_passing(ec))
                finish_all(ec);
            else if (!source_.queue_.empty())
                source_.rest();
        }

        /// The last to finish may be dispatched, the others would have to wait for its handler.
        void finish(std::unique_ptr<operation> finished, error_code ec)
        {
            if (last_)
                last_->complete(way::post, last_error_);
            last_ = std::move(finished);
            last_error_ = ec;
        }

        void finish_all(error_code ec)
        {
            for (auto& each : std::exchange(source_.queue_, {}))
                finish(std::move(each.what), ec);
        }

        connection_guard released;

    private:
        void finish_first(error_code ec)
        {
            auto first = std::move(source_.queue_.front().what);
            source_.queue_.erase(source_.queue_.begin());
            finish(std::move(first), ec);
        }

        asio_source& source_;
        way last_by_;
        connection_guard guard_;
        std::unique_ptr<operation> last_;
        error_code last_error_;
        std::unique_lock<std::mutex> lock_; // goes first
    };

    // With the lock held:

    /// The first time, the socket goes to the reactor: not sooner, for a child with a thousand listeners may never
    /// be committed. It is not opened by Asio, so close() takes it out of epoll.
    void arm(error_code& ec)
    {
        if (socket_) {
            descriptor_.assign(socket_.get(), ec);
            if (ec)
                return;
            static_cast<void>(socket_.release());
        }
        if (std::exchange(armed_, true))
            return;
        descriptor_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                               [self = shared_from_this()](error_code failed) {
                                   round now{*self, way::dispatch};
                                   self->armed_ = false;
                                   if (failed && failed != boost::asio::error::operation_aborted)
                                       now.not_armed(failed);
                                   else
                                       now.serve(!failed);
                               });
    }

    void close_socket()
    {
        error_code ignored;
        if (is_datagram(fd())) {
            if (descriptor_.is_open())
                socket_ = os::owned_fd{descriptor_.release()};
            return;
        }
        number_ = -1;
        descriptor_.close(ignored);
        socket_.reset();
    }

    void rest()
    {
        if (std::exchange(resting_, true))
            return;
        timer_.expires_after(backoff_.next());
        timer_.async_wait([self = shared_from_this()](error_code) {
            round now{*self, way::dispatch};
            self->resting_ = false;
            now.serve();
        });
    }

    /// Nobody waits: neither does the source, so that the context may run out of work.
    void calm()
    {
        if (!queue_.empty())
            return;
        error_code ignored;
        if (armed_)
            descriptor_.cancel(ignored);
        if (resting_)
            timer_.cancel();
    }

    std::mutex mutex_;
    std::shared_ptr<open_connections> connections_;
    os::owned_fd socket_; // until the descriptor owns it
    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer timer_;
    std::atomic<int> number_{-1}; // the socket's, for those who only look
    std::atomic<int> family_{AF_UNSPEC};
    std::atomic<std::uint64_t> last_id_{0};
    std::vector<entry> queue_; // short, and without memory of its own where nobody waits
    accepting accepting_;
    backoff backoff_;
    bool armed_ = false;   // a wait is in the reactor
    bool resting_ = false; // the timer runs, for descriptors or memory had run out
};

} // namespace ecdysis::io

#endif
