// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TRANSPORT_SOCKETPAIR_HPP
#define ECDYSIS_TRANSPORT_SOCKETPAIR_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/message.hpp>
#include <ecdysis/seccomp/rule.hpp>
#include <ecdysis/transport/concept.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <climits>
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

    static constexpr auto system_calls = seccomp::declare(
        "transport::socketpair", os::message_calls,
        std::array{
            seccomp::calls("socketpair", "the handoff", seccomp::is(0, AF_UNIX),
                           seccomp::is(1, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)),
            seccomp::calls("newfstatat", "which socket it is"),
            seccomp::calls("fstat", "which socket it is").untested_because("glibc calls newfstatat from 2.33 to 2.38"),
            seccomp::calls("fcntl", "the child's end is not for its own children", seccomp::is(1, F_SETFD)),
        });

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
    os::send_message(socket_, frame, fds, MSG_DONTWAIT, ec);
    using namespace boost::system::errc;
    if (ec == no_buffer_space)
        ec = make_error_code(resource_unavailable_try_again);
    else if (ec == connection_reset || ec == not_connected || ec == connection_refused)
        ec = make_error_code(broken_pipe);
}

inline received socketpair::end::receive(std::span<std::byte> buffer, std::vector<os::owned_fd>& fds, error_code& ec)
{
    std::vector<os::owned_fd> arrived;
    auto const got = os::receive_message(socket_, buffer, arrived, MSG_DONTWAIT, ec);
    if (ec == boost::system::errc::resource_unavailable_try_again) {
        ec.clear();
        return {received::kind::again};
    }
    if (ec)
        return {};
    if (got.end)
        return {received::kind::closed};

    auto const head = handoff::peek_header(buffer.first(got.size), ec);
    if (ec || got.cut || head.length != got.size || head.descriptors != arrived.size()) {
        ec = errc::corrupt_handoff;
        return {};
    }
    std::ranges::move(arrived, std::back_inserter(fds));
    return {received::kind::frame, got.size};
}

static_assert(Policy<socketpair>, "transport::socketpair must offer what transport/concept.hpp asks for");

} // namespace ecdysis::transport

#endif
