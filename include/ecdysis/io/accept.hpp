// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ACCEPT_HPP
#define ECDYSIS_IO_ACCEPT_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace ecdysis::io {

inline constexpr std::array accept_calls{
    seccomp::calls("poll", "whether anything is queued").only_on(seccomp::architecture::x86_64),
    seccomp::calls("ppoll", "whether anything is queued").only_on(seccomp::architecture::aarch64),
    seccomp::calls("getsockopt", "what is queued", seccomp::is(1, SOL_SOCKET), seccomp::is(2, SO_TYPE)),
    seccomp::calls("getsockopt", "what is queued", seccomp::is(1, SOL_SOCKET), seccomp::is(2, SO_ACCEPTCONN)),
    seccomp::calls("getsockopt", "what is queued", seccomp::is(1, SOL_SOCKET), seccomp::is(2, SO_DOMAIN)),
    seccomp::calls("getsockopt", "how much may be queued", seccomp::is(1, SOL_SOCKET), seccomp::is(2, SO_RCVBUF)),
    seccomp::calls("fcntl", "whether it waits", seccomp::is(1, F_GETFL)),
    seccomp::calls("fcntl", "so that it does not wait", seccomp::is(1, F_SETFL)),
};

/// What one look at a socket gave.
enum class attempt {
    done,      ///< an accepted connection, or something to read
    nothing,   ///< the queue is empty
    exhausted, ///< no descriptors or memory left; the same may succeed later
    failed,    ///< the socket cannot be used
};

/// Takes one connection from the queue of a non-blocking `listener`. `flags` are those of accept4.
[[nodiscard]] inline attempt try_accept(os::borrowed_fd listener, int flags, os::owned_fd& connection, error_code& ec)
{
    // Some filters of system calls answer with EPERM for ever, hence a bound.
    for (int tries = 0; tries < 64; ++tries) {
        connection = os::owned_fd{::accept4(listener.get(), nullptr, nullptr, flags | SOCK_CLOEXEC)};
        if (connection) {
            ec.clear();
            return attempt::done;
        }
        switch (errno) {
        case EAGAIN:
            return attempt::nothing;
        // Errors of the connection that was next in the queue, not of the listener; accept(2) wants another try.
        case EINTR:
        case ECONNABORTED:
        case EPROTO:
        case EPERM:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH:
            continue;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            ec = os::last_error();
            return attempt::exhausted;
        default:
            ec = os::last_error();
            return attempt::failed;
        }
    }
    ec = os::last_error();
    return attempt::exhausted;
}

/// Whether reading from (or accepting on) `socket` would not wait.
[[nodiscard]] inline bool is_readable(os::borrowed_fd socket) noexcept
{
    return os::is_readable_within(socket, std::chrono::milliseconds{0});
}

/// Whether `socket` is a listening one. Its queue is of no use to a generation that has ended, so it is closed then:
/// who connects is refused at once, instead of waiting in vain. A datagram socket still sends its last answers.
[[nodiscard]] inline bool is_listening(os::borrowed_fd socket) noexcept
{
    error_code ignored;
    int listening = 0;
    ::socklen_t size = sizeof listening;
    os::call(ignored, [&] { return ::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size); });
    return listening != 0;
}

/// Whether `socket` is for datagrams. One stays open until nobody has a handle on it: its last answers are sent by
/// number, outside of any call that this library could wait for.
[[nodiscard]] inline bool is_datagram(os::borrowed_fd socket) noexcept
{
    error_code ignored;
    int type = SOCK_STREAM;
    ::socklen_t size = sizeof type;
    os::call(ignored, [&] { return ::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size); });
    return type == SOCK_DGRAM;
}

/// More datagrams than can wait in `socket`. Over IP each takes more of its buffer than 256 bytes (a sk_buff and its data,
/// Linux); the queue of a Unix socket is bounded by net.unix.max_dgram_qlen, 10 or 512 where nobody has changed it.
[[nodiscard]] inline std::size_t most_datagrams(os::borrowed_fd socket) noexcept
{
    error_code ignored;
    int domain = AF_UNIX;
    int bytes = 0;
    ::socklen_t size = sizeof domain;
    os::call(ignored, [&] { return ::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size); });
    if (domain == AF_UNIX)
        return 1U << 16;
    os::call(ignored, [&] { return ::getsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &bytes, &size); });
    return static_cast<std::size_t>(std::max(bytes, 0)) / 256;
}

/// Whether waiting for a socket failed only for now: descriptors, memory or epoll's watches have run out.
[[nodiscard]] inline bool is_passing(error_code ec) noexcept
{
    if (ec.category() != boost::system::system_category())
        return false;
    switch (ec.value()) {
    case EINTR:
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC: // fs.epoll.max_user_watches
        return true;
    default:
        return false;
    }
}

/// How long to wait when descriptors or memory have run out: 5 ms, then twice as long each time, up to 1 s.
class backoff
{
public:
    [[nodiscard]] std::chrono::milliseconds next() noexcept
    {
        auto const pause = next_;
        next_ = std::min(2 * next_, std::chrono::milliseconds{1000});
        return pause;
    }
    void reset() noexcept { next_ = first; }

private:
    static constexpr std::chrono::milliseconds first{5};
    std::chrono::milliseconds next_ = first;
};

/// How far the accepting of one source has come. It moves forward, but for a pause.
class accepting
{
public:
    enum class phase {
        waiting,  ///< before commit, or paused: calls wait
        open,     ///< calls wait for connections
        emptying, ///< what is in the queue is taken, nothing is waited for
        ended,    ///< calls end
    };

    [[nodiscard]] phase now() const noexcept { return phase_; }
    /// Whether a call may take from the queue.
    [[nodiscard]] bool may_take() const noexcept { return phase_ == phase::open || phase_ == phase::emptying; }

    void open() noexcept
    {
        if (phase_ == phase::waiting)
            phase_ = phase::open;
        opened_ = true;
    }

    void pause() noexcept
    {
        if (phase_ == phase::open)
            phase_ = phase::waiting;
    }

    /// The queue of `socket` is to be emptied first: until it is, the drain waits, for the last connections have
    /// no guards yet. An empty queue ends at once, and so does one that was never open: it is another generation's.
    /// Datagrams come as fast as they like, so of them no more are waited for than the queue can hold.
    void empty(os::borrowed_fd socket, std::shared_ptr<open_connections> connections)
    {
        if (phase_ == phase::emptying)
            return;
        connection_guard guard{std::move(connections)};
        if (opened_ && phase_ != phase::ended && is_readable(socket)) {
            phase_ = phase::emptying;
            queue_ = std::move(guard);
            left_ = is_datagram(socket) ? most_datagrams(socket) : SIZE_MAX;
        } else {
            end(guard);
        }
    }

    /// Before each look at the queue: one that has been looked at as often as it can have had entries counts as empty.
    void count_look(connection_guard& released) noexcept
    {
        if (phase_ == phase::emptying && left_-- == 0)
            end(released);
    }

    /// `released` is to be dropped where no lock is held.
    void end(connection_guard& released) noexcept
    {
        phase_ = phase::ended;
        if (queue_)
            released = std::move(queue_);
    }

private:
    phase phase_ = phase::waiting;
    bool opened_ = false; ///< even if paused since
    connection_guard queue_;
    std::size_t left_ = 0; ///< looks, while emptying
};

/// Sets O_NONBLOCK. It is the open file description's, so the other generations see it too, and want it too.
inline void set_non_blocking(os::borrowed_fd fd, error_code& ec) noexcept
{
    int const flags = os::call(ec, [&] { return ::fcntl(fd.get(), F_GETFL); });
    if (!ec && (flags & O_NONBLOCK) == 0)
        os::call(ec, [&] { return ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK); });
}

} // namespace ecdysis::io

#endif
