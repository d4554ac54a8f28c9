// SPDX-License-Identifier: BSL-1.0
#ifndef EXAMPLE_SANDBOX_HPP
#define EXAMPLE_SANDBOX_HPP

// What the sandboxed HTTP examples give up before they serve, and what the server itself calls.
#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <boost/system/errc.hpp>

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace example {

/// What http_connection.hpp and stderr_log.hpp call. What the upgrader calls is not repeated here, for it may change.
inline constexpr auto http_calls = ecdysis::seccomp::declare(
    "the server",
    std::array{
        ecdysis::seccomp::calls("recvmsg", "requests", ecdysis::seccomp::is(2, 0)),
        ecdysis::seccomp::calls("sendmsg", "responses", ecdysis::seccomp::is(2, MSG_NOSIGNAL)),
        ecdysis::seccomp::calls("ioctl", "whether a request has come", ecdysis::seccomp::is(1, FIONREAD)),
        ecdysis::seccomp::calls("shutdown", "the end of a connection", ecdysis::seccomp::is(1, SHUT_WR)),
        ecdysis::seccomp::calls("write", "the log", ecdysis::seccomp::is(0, STDERR_FILENO)),
        ecdysis::seccomp::calls("lseek", "the log's time: gmtime reads /etc/localtime", ecdysis::seccomp::is(2, SEEK_CUR)),
    });

inline void demand(bool done, std::string const& what)
{
    if (!done)
        throw ecdysis::error{ecdysis::os::last_error(), what};
}

/// Of root's capabilities only that to bind low ports stays. By system call: glibc has no function for it.
inline void keep_low_ports()
{
    ::__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<::__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    demand(::syscall(SYS_capget, &header, sets.data()) == 0, "read the capabilities");
    auto const kept = sets[0].permitted & CAP_TO_MASK(CAP_NET_BIND_SERVICE); // a container may not have it
    sets = {};
    sets[0].permitted = sets[0].effective = kept;
    demand(::syscall(SYS_capset, &header, sets.data()) == 0, "give up the capabilities");
}

/// Becomes `name` for good if this is root; no program that is executed from now on gets privileges of its file.
///
/// Call it before threads are started: the capabilities are each thread's own.
inline void drop_privileges(std::string const& name)
{
    if (::geteuid() == 0) {
        errno = 0; // getpwnam leaves it as it is where there is no such user
        ::passwd const* const user = ::getpwnam(name.c_str());
        if (user == nullptr && errno == 0)
            errno = ENOENT;
        demand(user != nullptr, "find the user " + name);
        demand(::setgroups(0, nullptr) == 0, "leave root's groups");
        demand(::setresgid(user->pw_gid, user->pw_gid, user->pw_gid) == 0, "become the group of " + name);
        demand(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "keep the capability to bind low ports");
        demand(::setresuid(user->pw_uid, user->pw_uid, user->pw_uid) == 0, "become " + name);
        keep_low_ports();
        if (::setresuid(0, 0, 0) == 0)
            throw ecdysis::error{make_error_code(boost::system::errc::invalid_argument),
                                 "give up root: " + name + " is root, or can become it again"};
    }
    demand(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs");
}

} // namespace example

#endif
