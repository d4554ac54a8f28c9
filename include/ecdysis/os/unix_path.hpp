// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_UNIX_PATH_HPP
#define ECDYSIS_OS_UNIX_PATH_HPP

#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace ecdysis::os {

/// Which of its Unix paths a generation unlinks when it goes.
enum class unlinked {
    none,  ///< another generation has them
    fresh, ///< what it bound itself; what it inherited is its parent's still
    all,   ///< nobody follows
};

/// The identity of what `path` names, symlinks not followed; none if nothing is there.
[[nodiscard]] inline identity identify(std::string const& path) noexcept
{
    struct ::stat status{};
    if (::lstat(path.c_str(), &status) != 0)
        return {};
    return identity_of(status);
}

[[nodiscard]] inline identity identify(borrowed_fd fd) noexcept
{
    error_code ec;
    auto const status = status_of(fd, ec);
    return ec ? identity{} : identity_of(status);
}

/// Unlinks `path` only while it is still the file that `identity` names: it may be a newer process's by now.
inline void unlink_if_same(std::string const& path, identity expected) noexcept
{
    if (expected && identify(path) == expected)
        ::unlink(path.c_str());
}

/// Whether a Unix socket path is left over from a process that has gone: no socket is bound there any more.
/// Nobody notices the question: to connect a datagram socket tells the other side nothing.
[[nodiscard]] inline bool is_stale_socket(std::string const& path, ::sockaddr const* address, ::socklen_t size) noexcept
{
    struct ::stat status{};
    if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode))
        return false;
    owned_fd const probe{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!probe)
        return false;
    // Never with the type that is there: a connection would be a request at a control socket, and a socket that is bound
    // but does not listen yet says ECONNREFUSED. With another type each living one says EPROTOTYPE (unix(7)).
    return ::connect(probe.get(), address, size) != 0 && errno == ECONNREFUSED;
}

} // namespace ecdysis::os

#endif
