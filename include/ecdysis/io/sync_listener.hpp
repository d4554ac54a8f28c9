// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SYNC_LISTENER_HPP
#define ECDYSIS_IO_SYNC_LISTENER_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/io/sync_source.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace ecdysis::io {

/// A connection that `io::sync` accepted. The socket is blocking and close-on-exec. Keep the guard as long as the
/// socket: the drain waits for it.
struct sync_connection
{
    os::owned_fd socket;
    connection_guard guard;
};

/// The host's handle on a listening socket of `io::sync`.
///
/// Thread safety: `accept` in as many threads as the host likes; moving or destroying the handle meanwhile is not safe.
/// Lifetimes: it may outlive its upgrader, and then `accept` gives nothing. Destroying it does not close the socket,
/// which is the upgrader's.
class sync_listener
{
public:
    sync_listener() noexcept = default;
    explicit sync_listener(std::shared_ptr<sync_source> source) noexcept : source_{std::move(source)} {}

    /// Waits for a connection. Before this generation is committed it waits for that, too; when descriptors or memory
    /// run out it tries again, less and less often.
    ///
    /// Gives nothing when accepting has ended: this generation has retired or stops.
    /// Errors: `errc::ended` with nothing; else what accept4 says of a socket that cannot be used.
    /// Cancellation: none of its own; it ends when the generation does.
    [[nodiscard]] std::optional<sync_connection> accept(error_code& ec)
    {
        ec = errc::ended;
        if (!source_)
            return {};
        auto const source = source_;
        sync_source::visit visit{*source};
        for (backoff pause;;) {
            connection_guard guard;
            auto const phase = visit.look(guard);
            if (phase == accepting::phase::ended) {
                ec = errc::ended;
                return {};
            }
            if (phase == accepting::phase::waiting) {
                visit.wait({});
                continue;
            }
            os::owned_fd connection;
            auto const result = try_accept(visit.socket(), 0, connection, ec);
            if (result == attempt::done)
                return sync_connection{std::move(connection), std::move(guard)};
            guard.reset();
            if (result == attempt::exhausted)
                visit.wait({}, pause.next());
            else if (phase == accepting::phase::emptying)
                visit.emptied();
            else if (result == attempt::nothing)
                visit.wait(visit.socket());
            if (result == attempt::failed)
                return {};
        }
    }

    /// The same; nothing when accepting has ended, and throws `error` for other errors.
    [[nodiscard]] std::optional<sync_connection> accept()
    {
        error_code ec;
        auto connection = accept(ec);
        if (ec && ec != errc::ended)
            throw error{ec, "accept on " + where(native_handle())};
        return connection;
    }

    /// To look at; every change of the socket's options is seen by the other generation. -1 when it is closed.
    [[nodiscard]] int native_handle() const noexcept { return source_ ? source_->fd().get() : -1; }

private:
    [[nodiscard]] static std::string where(int socket)
    {
        error_code ec;
        auto const bound = address::bound(os::borrowed_fd{socket}, ec);
        return ec ? "descriptor " + std::to_string(socket) : bound.text();
    }

    std::shared_ptr<sync_source> source_;
};

/// The host's handle on a datagram socket of `io::sync`. Safety and lifetimes are those of sync_listener.
class sync_datagram
{
public:
    sync_datagram() noexcept = default;
    explicit sync_datagram(std::shared_ptr<sync_source> source) noexcept : source_{std::move(source)} {}

    /// Waits until there is something to read; before commit it waits for that, too. The socket never blocks, and
    /// another thread or generation may be faster: expect EAGAIN.
    ///
    /// Gives false when this generation has retired or stops, with `errc::ended`.
    [[nodiscard]] bool wait(error_code& ec)
    {
        ec = errc::ended;
        if (!source_)
            return false;
        auto const source = source_;
        sync_source::visit visit{*source};
        for (;;) {
            connection_guard guard;
            auto const phase = visit.look(guard);
            guard.reset(); // a datagram is not a connection: the drain does not wait for its answer
            if (phase == accepting::phase::ended) {
                ec = errc::ended;
                return false;
            }
            if (phase == accepting::phase::waiting) {
                visit.wait({});
            } else if (is_readable(visit.socket())) {
                ec.clear();
                return true;
            } else if (phase == accepting::phase::emptying) {
                visit.emptied();
            } else {
                visit.wait(visit.socket());
            }
        }
    }

    /// The same; false when this generation has ended.
    [[nodiscard]] bool wait()
    {
        error_code ec;
        return wait(ec);
    }

    /// To send and receive with. Its options and flags are shared with the other generation. -1 when it is closed.
    [[nodiscard]] int native_handle() const noexcept { return source_ ? source_->fd().get() : -1; }

private:
    std::shared_ptr<sync_source> source_;
};

} // namespace ecdysis::io

#endif
