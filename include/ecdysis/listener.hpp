// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LISTENER_HPP
#define ECDYSIS_LISTENER_HPP

#include <sys/socket.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

namespace ecdysis {

/// The sockets that a service listens on.
enum class socket_kind { tcp, udp, unix_stream, unix_seqpacket, unix_datagram };

/// What a stop does to a listener. An upgrade ends all of them in the parent, when the service is the child's.
enum class on_stop {
    end,  ///< accepting ends
    stay, ///< accepting goes on until the drain is over: a health check, a metrics page
};

/// How one socket listens. A plain aggregate; what does not concern the kind of socket is not looked at. A child gets
/// its parent's socket as that was opened, and applies its own `backlog`, `at_stop` and `mode` at commit. What then fails on
/// an inherited socket is a warning, and the socket works on as it was. For [::] its `v6_only` must equal the parent's
/// (errc::descriptor_mismatch).
struct listen_options
{
    /// The FileDescriptorName= of a systemd socket unit: of what the units passed, only a socket of that name is taken, and
    /// if that name came with other sockets only, that is errc::descriptor_mismatch. Empty: any that is of this kind and on
    /// this address. Neither `backlog` nor `mode` count for those: the unit's do, in every generation.
    std::string name{};
    int backlog = SOMAXCONN;          ///< of listen(2): at most net.core.somaxconn, which a negative value asks for
    on_stop at_stop = on_stop::end;   ///< an upgrade ends the parent's accepting in any case
    bool v6_only = false;             ///< IPv6 alone; otherwise [::] accepts IPv4 too
    bool reuse_port = false;          ///< SO_REUSEPORT; shards set it by themselves
    /// Permission bits of a Unix socket's path, which is never open to more; otherwise what the umask leaves. On an
    /// inherited path that is still the parent's socket they are set at commit, and a difference is a warning.
    std::optional<::mode_t> mode{};
    /// Sees each new socket before bind, not inherited ones. Not to keep or close it. What it throws comes out of the
    /// call that opens it.
    std::function<void(int)> setup{};
};

/// "tcp", "udp", "unix" …, the first word of a descriptor's name.
[[nodiscard]] constexpr char const* name(socket_kind kind) noexcept
{
    switch (kind) {
    case socket_kind::tcp: return "tcp";
    case socket_kind::udp: return "udp";
    case socket_kind::unix_stream: return "unix";
    case socket_kind::unix_seqpacket: return "seqpacket";
    case socket_kind::unix_datagram: return "datagram";
    }
    return "socket";
}

/// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
[[nodiscard]] constexpr int type(socket_kind kind) noexcept
{
    switch (kind) {
    case socket_kind::udp:
    case socket_kind::unix_datagram: return SOCK_DGRAM;
    case socket_kind::unix_seqpacket: return SOCK_SEQPACKET;
    case socket_kind::tcp:
    case socket_kind::unix_stream: break;
    }
    return SOCK_STREAM;
}

[[nodiscard]] constexpr bool is_datagram(socket_kind kind) noexcept { return type(kind) == SOCK_DGRAM; }

} // namespace ecdysis

#endif
