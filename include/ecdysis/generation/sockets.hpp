// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_SOCKETS_HPP
#define ECDYSIS_GENERATION_SOCKETS_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/listener.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/unix_path.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdint>
#include <string>

namespace ecdysis {

/// The sockets as descriptors: making new ones, and verifying inherited ones. All throw `error` with a sentence.
namespace sockets {

[[nodiscard]] inline std::string describe(socket_kind kind, address const& where)
{
    return std::string{name(kind)} + " " + where.text();
}

template <class F>
void demand(F&& f, std::string const& what)
{
    error_code ec;
    os::call(ec, f);
    if (ec)
        throw error{ec, what};
}

inline void set(os::borrowed_fd socket, int level, int option, int value, std::string const& what)
{
    demand([&] { return ::setsockopt(socket.get(), level, option, &value, sizeof value); }, what);
}

[[nodiscard]] inline int get(os::borrowed_fd socket, int level, int option, error_code& ec) noexcept
{
    int value = 0;
    ::socklen_t size = sizeof value;
    os::call(ec, [&] { return ::getsockopt(socket.get(), level, option, &value, &size); });
    return value;
}

/// A new socket with its options, not yet bound. Raw, never through Asio: what Asio open()ed stays registered
/// in epoll while a duplicate of it lives (measured, Boost 1.81).
[[nodiscard]] inline os::owned_fd open(socket_kind kind, address const& where, listen_options const& options)
{
    auto const what = describe(kind, where);
    bool const is_unix = kind != socket_kind::tcp && kind != socket_kind::udp;
    if (is_unix != (where.family() == AF_UNIX))
        throw error{errc::invalid_address, "open " + what + ": that address is not of this kind"};
    os::owned_fd socket{::socket(where.family(), type(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket)
        throw error{os::last_error(), "open " + what};
    if (kind == socket_kind::tcp)
        set(socket, SOL_SOCKET, SO_REUSEADDR, 1, "set SO_REUSEADDR on " + what);
    if (where.family() == AF_INET6)
        set(socket, IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only ? 1 : 0, "set IPV6_V6ONLY on " + what);
    if (options.reuse_port)
        set(socket, SOL_SOCKET, SO_REUSEPORT, 1, "set SO_REUSEPORT on " + what);
    if (options.setup)
        options.setup(socket.get());
    return socket;
}

/// Binds; a Unix path that a process which has gone left behind is replaced. Gives the path's identity, for the unlink.
[[nodiscard]] inline os::identity bind(os::borrowed_fd socket, socket_kind kind, address const& where,
                                            listen_options const& options)
{
    auto const bind_once = [&](error_code& ec) {
        os::call(ec, [&] { return ::bind(socket.get(), where.data(), where.size()); });
    };
    auto const path = where.path();
    // Before bind, so that the path is never open to more than it should be (Linux takes the mode from the socket).
    if (options.mode && !path.empty())
        demand([&] { return ::fchmod(socket.get(), *options.mode); }, "set the mode of " + path);
    error_code ec;
    bind_once(ec);
    if (ec == boost::system::errc::address_in_use && !path.empty()) {
        auto const found = os::identify(path);
        if (os::is_stale_socket(path, where.data(), where.size())) {
            os::unlink_if_same(path, found);
            bind_once(ec);
        } else {
            throw error{errc::address_in_use, "bind " + describe(kind, where) +
                                                  ": stop what answers there, or remove the file if it is not a socket"};
        }
    }
    if (ec)
        throw error{ec, "bind " + describe(kind, where)};
    if (path.empty())
        return {};
    if (options.mode) // again, for the bits that the umask took
        demand([&] { return ::chmod(path.c_str(), *options.mode); }, "set the mode of " + path);
    return os::identify(path);
}

inline void listen(os::borrowed_fd socket, socket_kind kind, address const& where, listen_options const& options)
{
    demand([&] { return ::listen(socket.get(), options.backlog); }, "listen on " + describe(kind, where));
}

/// Whether `socket` is TCP's and listens, found out in one call.
[[nodiscard]] inline bool is_listening_tcp(os::borrowed_fd socket) noexcept
{
    // The kernel gives as much of tcp_info as fits, and the state is its first byte (tcp(7)).
    std::uint8_t state = 0;
    ::socklen_t size = sizeof state;
    return ::getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &state, &size) == 0 && size == sizeof state &&
           state == TCP_LISTEN;
}

/// Refuses an inherited socket that is not what was asked for, naming what was expected and what came.
inline void verify(os::borrowed_fd socket, socket_kind kind, address const& asked, listen_options const& options)
{
    auto const refuse = [&](std::string const& came) {
        throw error{errc::descriptor_mismatch,
                    "claim " + describe(kind, asked) + ": expected a " + (is_datagram(kind) ? "bound" : "listening") +
                        " " + name(kind) + " socket on " + asked.text() + ", came " + came};
    };
    error_code ec;
    bool const listens = kind == socket_kind::tcp && is_listening_tcp(socket);
    if (!listens) {
        int const came_type = get(socket, SOL_SOCKET, SO_TYPE, ec);
        if (ec)
            refuse("no socket (" + ec.message() + ")");
        if (came_type != type(kind))
            refuse("a socket of type " + std::to_string(came_type) + " where " + std::to_string(type(kind)) + " is asked");
    }
    auto const where = address::bound(socket, ec);
    if (ec || !where.satisfies(asked))
        refuse(ec ? ec.message() : "one on " + where.text());
    if (where.family() != AF_UNIX && where.port() == 0) // else it would satisfy whoever asks for any port
        refuse("one that is not bound");
    if (!listens && !is_datagram(kind) && get(socket, SOL_SOCKET, SO_ACCEPTCONN, ec) == 0)
        refuse("one that does not listen");
    // Of one address the option says nothing: bind(2) sets it for all but [::] (Linux, net/ipv6/af_inet6.c).
    if (asked.is_any_v6() && (get(socket, IPPROTO_IPV6, IPV6_V6ONLY, ec) != 0) != options.v6_only)
        refuse(options.v6_only ? "one that accepts IPv4 too" : "one that accepts IPv6 alone");
}

} // namespace sockets

} // namespace ecdysis

#endif
