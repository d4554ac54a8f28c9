// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_MESSAGE_HPP
#define ECDYSIS_OS_MESSAGE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace ecdysis::os {

/// SCM_MAX_FD: the most descriptors that one message carries (unix(7)).
inline constexpr std::size_t max_message_descriptors = 253;

/// One message of a Unix socket that keeps messages apart, with the descriptors beside it.
struct received_message
{
    std::size_t size = 0;
    bool cut = false; ///< not all of it has arrived: the buffer is too small, or this process may open no more (MSG_CTRUNC)
    bool end = false; ///< there is none: the other side has closed its end
};

inline constexpr std::array send_calls{
    seccomp::calls("sendmsg", "messages and the descriptors beside them", seccomp::has(2, MSG_NOSIGNAL, MSG_NOSIGNAL)),
};
inline constexpr auto message_calls = seccomp::join(
    send_calls,
    std::array{
        seccomp::calls("recvmsg", "messages and the descriptors beside them", seccomp::has(2, MSG_CMSG_CLOEXEC, MSG_CMSG_CLOEXEC)),
    });

namespace messages {

/// Room for what travels beside a message.
struct control
{
    alignas(::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_message_descriptors)> bytes{};
};

/// Owns what arrived beside `message`, whatever becomes of the message. `into` has room for it.
inline void take_descriptors(::msghdr& message, std::vector<owned_fd>& into) noexcept
{
    for (auto* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(part) + at, sizeof(int));
            into.emplace_back(number);
        }
    }
}

} // namespace messages

/// Sends one message, without SIGPIPE. `to`: the address, for a socket that is not connected; else null.
///
/// Errors: `invalid_argument` for more than `max_message_descriptors`; what sendmsg(2) says, and
/// `resource_unavailable_try_again` also for too many descriptors of this user in flight (ETOOMANYREFS, unix(7)).
inline void send_message(borrowed_fd socket, std::span<std::byte const> bytes, std::span<borrowed_fd const> fds, int flags,
                         error_code& ec, ::sockaddr const* to = nullptr, ::socklen_t to_size = 0) noexcept
{
    if (fds.size() > max_message_descriptors) {
        ec = make_error_code(boost::system::errc::invalid_argument);
        return;
    }
    // sendmsg() only reads these; struct iovec and msghdr, which serve both ways, cannot say so.
    ::iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
    ::msghdr message{};
    message.msg_name = const_cast<::sockaddr*>(to);
    message.msg_namelen = to_size;
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    messages::control beside;
    if (!fds.empty()) {
        message.msg_control = beside.bytes.data();
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        auto* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        for (std::size_t i = 0; i != fds.size(); ++i) {
            int const number = fds[i].get();
            std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &number, sizeof(int));
        }
    }
    call(ec, [&] { return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL | flags); });
    if (ec.value() == ETOOMANYREFS)
        ec = make_error_code(boost::system::errc::resource_unavailable_try_again);
}

/// Receives one message; its descriptors, close-on-exec, are appended to `fds`. Errors: what recvmsg(2) says.
/// Exceptions: std::bad_alloc, with nothing received.
inline received_message receive_message(borrowed_fd socket, std::span<std::byte> buffer, std::vector<owned_fd>& fds,
                                        int flags, error_code& ec)
{
    fds.reserve(fds.size() + max_message_descriptors);
    ::iovec data{buffer.data(), buffer.size()};
    messages::control beside;
    ::msghdr message{};
    auto const receive_once = [&] {
        message = {};
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = beside.bytes.data();
        message.msg_controllen = beside.bytes.size();
        return call(ec, [&] { return ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | flags); });
    };
    auto got = receive_once();
    // The other side closed with a message of ours unread. The kernel says so once, before what it sent itself.
    if (ec == boost::system::errc::connection_reset)
        got = receive_once();
    if (ec)
        return {};
    auto const before = fds.size();
    messages::take_descriptors(message, fds);
    bool const cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    return {static_cast<std::size_t>(got), cut, got == 0 && fds.size() == before && !cut};
}

} // namespace ecdysis::os

#endif
