// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TRANSPORT_SOCKETPAIR_HPP
#define ECDYSIS_TRANSPORT_SOCKETPAIR_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/transport/concept.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis::transport {

/// A pair of Unix sockets that keep messages apart (SOCK_SEQPACKET, unix(7)): a frame is one message, and its
/// descriptors travel with it. The child inherits one socket, its number 3, and nothing else.
class socketpair
{
public:
    static constexpr std::string_view name = "socketpair";

    class end;

    /// The text is "<number> <device>:<inode>".
    [[nodiscard]] offer<end> make(std::span<os::borrowed_fd const> descriptors, error_code& ec) const;
    [[nodiscard]] end adopt(std::string_view text, error_code& ec) const;
};

class socketpair::end
{
public:
    end() = default;

    [[nodiscard]] os::borrowed_fd fd() const noexcept { return socket_; }

    /// Errors: as the concept says. `resource_unavailable_try_again` is also too many descriptors in flight for this
    /// user (ETOOMANYREFS: his other processes count) and a lack of buffers. `invalid_argument` if `frame` is not one
    /// whole frame of `fds.size()` descriptors.
    void send(std::span<std::byte const> frame, std::span<os::borrowed_fd const> fds, error_code& ec);

    /// `errc::corrupt_handoff` is also a frame whose descriptors did not all arrive. If this process may open no
    /// more (EMFILE), or a security module keeps one back, the kernel says no more than that (MSG_CTRUNC).
    received receive(std::span<std::byte> buffer, std::vector<os::owned_fd>& fds, error_code& ec);

private:
    friend class socketpair;
    explicit end(os::owned_fd socket) noexcept : socket_{std::move(socket)} {}

    /// Room for what travels beside a message.
    struct control
    {
        alignas(::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * handoff::max_frame_descriptors)> bytes{};
    };

    /// Owns what arrived beside `message`, whatever becomes of the message. `into` has room for it.
    static void take_descriptors(::msghdr& message, std::vector<os::owned_fd>& into) noexcept;

    os::owned_fd socket_;
};

inline offer<socketpair::end> socketpair::make(std::span<os::borrowed_fd const>, error_code& ec) const
{
    std::array<int, 2> pair{-1, -1};
    os::call(ec, [&] { return ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()); });
    os::owned_fd ours{pair[0]};
    os::owned_fd theirs{pair[1]};
    if (ec)
        return {};
    auto const status = os::status_of(theirs, ec);
    if (ec)
        return {};
    offer<end> result;
    result.ours = end{std::move(ours)};
    result.inherited.push_back(theirs);
    result.theirs.push_back(std::move(theirs));
    result.text = "3 " + os::identity_of(status).text();
    return result;
}

inline socketpair::end socketpair::adopt(std::string_view text, error_code& ec) const
{
    auto const number = os::take_number<unsigned>(text, ' ');
    auto const identity = number ? os::take_identity(text, '\0') : std::nullopt;
    if (!identity || *number > INT_MAX) {
        ec = errc::handoff_variable;
        return {};
    }
    os::borrowed_fd const fd{static_cast<int>(*number)};
    auto const status = os::status_of(fd, ec);
    if (ec || !S_ISSOCK(status.st_mode) || os::identity_of(status) != *identity) {
        ec = errc::stale_handoff;
        return {};
    }
    if (os::call(ec, [&] { return ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC); }) == -1)
        return {};
    return end{os::owned_fd{fd.get()}};
}

inline void socketpair::end::send(std::span<std::byte const> frame, std::span<os::borrowed_fd const> fds, error_code& ec)
{
    auto const head = handoff::peek_header(frame, ec);
    if (ec || head.length != frame.size() || head.descriptors != fds.size()) {
        ec = make_error_code(boost::system::errc::invalid_argument);
        return;
    }
    // sendmsg() only reads the bytes; struct iovec, which serves both ways, cannot say so.
    ::iovec bytes{const_cast<std::byte*>(frame.data()), frame.size()};
    ::msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    control beside;
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
    os::call(ec, [&] { return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT); });
    using namespace boost::system::errc;
    if (ec.value() == ETOOMANYREFS || ec == no_buffer_space)
        ec = make_error_code(resource_unavailable_try_again);
    else if (ec == connection_reset || ec == not_connected || ec == connection_refused)
        ec = make_error_code(broken_pipe);
}

inline received socketpair::end::receive(std::span<std::byte> buffer, std::vector<os::owned_fd>& fds, error_code& ec)
{
    std::vector<os::owned_fd> arrived;
    arrived.reserve(handoff::max_frame_descriptors);
    ::iovec bytes{buffer.data(), buffer.size()};
    control beside;
    ::msghdr message{};
    auto const receive_once = [&] {
        message = {};
        message.msg_iov = &bytes;
        message.msg_iovlen = 1;
        message.msg_control = beside.bytes.data();
        message.msg_controllen = beside.bytes.size();
        return os::call(ec, [&] { return ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
    };
    auto got = receive_once();
    // The other side closed with a frame of ours unread. The kernel says so once, before what it sent itself.
    if (ec == boost::system::errc::connection_reset)
        got = receive_once();
    if (ec == boost::system::errc::resource_unavailable_try_again) {
        ec.clear();
        return {received::kind::again};
    }
    if (ec)
        return {};
    take_descriptors(message, arrived);
    auto const cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    if (got == 0 && arrived.empty() && !cut)
        return {received::kind::closed};

    auto const size = static_cast<std::size_t>(got);
    auto const head = handoff::peek_header(buffer.first(size), ec);
    if (ec || cut || head.length != size || head.descriptors != arrived.size()) {
        ec = errc::corrupt_handoff;
        return {};
    }
    std::ranges::move(arrived, std::back_inserter(fds));
    return {received::kind::frame, size};
}

inline void socketpair::end::take_descriptors(::msghdr& message, std::vector<os::owned_fd>& into) noexcept
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

static_assert(Policy<socketpair>, "transport::socketpair must offer what transport/concept.hpp asks for");

} // namespace ecdysis::transport

#endif
