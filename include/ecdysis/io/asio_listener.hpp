// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ASIO_LISTENER_HPP
#define ECDYSIS_IO_ASIO_LISTENER_HPP

#include <ecdysis/io/asio_source.hpp>

#include <boost/asio/async_result.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/execution/executor.hpp>
#include <boost/asio/is_executor.hpp>

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace ecdysis::io {

/// A connection that `io::asio` accepted. Keep the guard as long as the socket: the drain waits for it.
template <class Protocol>
struct asio_connection
{
    typename Protocol::socket socket;
    connection_guard guard;
};

template <class T>
inline constexpr bool is_executor_v =
    boost::asio::is_executor<std::decay_t<T>>::value || boost::asio::execution::is_executor<std::decay_t<T>>::value;

/// What `asio_listener` and `asio_datagram` share: a movable handle on a source, which cancels what waits when it goes.
class asio_handle
{
public:
    using executor_type = boost::asio::any_io_executor;

    asio_handle() noexcept = default;
    explicit asio_handle(std::shared_ptr<asio_source> source) noexcept : source_{std::move(source)} {}
    asio_handle(asio_handle&&) noexcept = default;
    asio_handle& operator=(asio_handle&& other)
    {
        if (this != &other) {
            cancel();
            source_ = std::move(other.source_);
        }
        return *this;
    }
    ~asio_handle() { cancel(); }

    /// Completes all operations that wait with `operation_aborted`. Those to come are not concerned.
    void cancel()
    {
        if (source_)
            source_->cancel();
    }

    /// The upgrader's executor, on which handlers without one of their own run. Not for an empty handle.
    [[nodiscard]] executor_type get_executor() const { return source_->executor(); }

    /// Of the listener: to look at. Of the datagram socket: to send and receive with. Options are shared with the other
    /// generation. -1 when it is closed.
    [[nodiscard]] int native_handle() const noexcept { return source_ ? source_->fd().get() : -1; }

protected:
    /// Submits a new `Operation`, which can be cancelled by its handler's cancellation slot.
    template <class Operation, class Handler, class... Arguments>
    static void submit(std::shared_ptr<asio_source> const& source, Handler handler, Arguments&&... arguments)
    {
        auto added = std::make_unique<Operation>(std::move(handler), source->executor(),
                                                 std::forward<Arguments>(arguments)...);
        auto const id = source->next_id();
        added->handler.on_cancel([id, source = std::weak_ptr{source}] {
            if (auto const alive = source.lock())
                alive->cancel(id);
        });
        source->submit(id, std::move(added));
    }

    std::shared_ptr<asio_source> source_;
};

/// The host's handle on a listening socket of `io::asio`.
///
/// Thread safety: `async_accept` and `cancel` from any thread, any number at once; moving or destroying the handle
/// meanwhile is not safe.
/// Lifetimes: it may outlive its upgrader, and then accepts end at once; not its execution context. Destroying it
/// cancels the accepts that wait and does not close the socket, which is the upgrader's.
template <class Protocol>
class asio_listener : public asio_handle
{
public:
    using protocol_type = Protocol;
    using connection = asio_connection<Protocol>;
    using default_token = boost::asio::deferred_t;

    using asio_handle::asio_handle;

    /// Waits for a connection: `void(error_code, connection)`. The socket, non-blocking and close-on-exec, gets the
    /// upgrader's executor. Before this generation is committed it waits for that, too; when descriptors or memory run
    /// out it tries again, less and less often.
    ///
    /// Errors: `errc::ended` when this generation has retired or stops; `operation_aborted`; else what accept4 says of
    /// a socket that cannot be used.
    /// Completion: on the handler's associated executor, never inside this call; else on the upgrader's.
    /// Cancellation: per operation, all types. A connection is never lost by it: it stays in the queue.
    template <class Token = default_token>
        requires(!is_executor_v<Token>)
    auto async_accept(Token&& token = Token{})
    {
        return async_accept(get_executor(), std::forward<Token>(token));
    }

    /// The same, and the socket gets `executor`.
    template <class Executor, class Token = default_token>
        requires is_executor_v<Executor>
    auto async_accept(Executor const& executor, Token&& token = Token{})
    {
        return boost::asio::async_initiate<Token, void(error_code, connection)>(
            [source = source_, executor](auto&& handler) {
                using handler_type = std::decay_t<decltype(handler)>;
                submit<operation<handler_type>, handler_type>(source, std::forward<decltype(handler)>(handler),
                                                              executor, protocol_of(source->family()));
            },
            token);
    }

private:
    template <class Handler>
    class operation final : public asio_source::operation
    {
    public:
        operation(Handler&& handler_, executor_type const& own, executor_type executor, Protocol const& protocol)
            : handler{std::move(handler_), own}, executor_{std::move(executor)}, protocol_{protocol}
        {}

        attempt look(os::borrowed_fd listener, bool, connection_guard& guard, error_code& ec) override
        {
            auto const result = try_accept(listener, SOCK_NONBLOCK, accepted_, ec);
            if (result == attempt::done)
                guard_ = std::move(guard);
            return result;
        }

        void complete(way by, error_code ec) override
        {
            connection result{typename Protocol::socket{executor_}, std::move(guard_)};
            if (accepted_) {
                result.socket.assign(protocol_, accepted_.get(), ec);
                if (!ec)
                    static_cast<void>(accepted_.release());
            }
            handler.complete(by, ec, std::move(result));
        }

        waiting_handler<Handler> handler;

    private:
        executor_type executor_;
        Protocol protocol_;
        os::owned_fd accepted_;
        connection_guard guard_;
    };

    static Protocol protocol_of(int family)
    {
        if constexpr (requires { Protocol::v6(); })
            return family == AF_INET6 ? Protocol::v6() : Protocol::v4();
        else if constexpr (std::is_default_constructible_v<Protocol>)
            return Protocol{};
        else
            return Protocol{family, 0};
    }
};

/// The host's handle on a datagram socket of `io::asio`. Safety and lifetimes are those of asio_listener.
class asio_datagram : public asio_handle
{
public:
    using default_token = boost::asio::deferred_t;

    using asio_handle::asio_handle;

    /// Waits until there is something to read: `void(error_code)`. The socket never blocks, and another thread or
    /// generation may be faster: expect EAGAIN. Errors, completion and cancellation are those of
    /// asio_listener::async_accept.
    template <class Token = default_token>
    auto async_wait(Token&& token = Token{})
    {
        return boost::asio::async_initiate<Token, void(error_code)>(
            [source = source_](auto&& handler) {
                using handler_type = std::decay_t<decltype(handler)>;
                submit<operation<handler_type>, handler_type>(source, std::forward<decltype(handler)>(handler));
            },
            token);
    }

private:
    template <class Handler>
    class operation final : public asio_source::operation
    {
    public:
        operation(Handler&& handler_, executor_type const& own) : handler{std::move(handler_), own} {}

        attempt look(os::borrowed_fd socket, bool ready, connection_guard&, error_code&) override
        {
            return ready || is_readable(socket) ? attempt::done : attempt::nothing;
        }

        void complete(way by, error_code ec) override { handler.complete(by, ec); }

        waiting_handler<Handler> handler;
    };
};

} // namespace ecdysis::io

#endif
