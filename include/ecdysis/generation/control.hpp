// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_CONTROL_HPP
#define ECDYSIS_GENERATION_CONTROL_HPP

#include <ecdysis/exit.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/unix_path.hpp>

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// What a trigger asks for.
enum class request { upgrade, stop, partial_stop };

[[nodiscard]] constexpr char const* name(request what) noexcept
{
    switch (what) {
    case request::upgrade: return "upgrade";
    case request::stop: return "stop";
    case request::partial_stop: return "partial stop";
    }
    return "";
}

/// Whoever asked, waiting to be told how it ended. Empty for a signal.
class requester
{
public:
    requester() = default;
    explicit requester(std::function<void(std::string const&)> told) : told_{std::move(told)} {}
    explicit requester(os::owned_fd connection) : connection_{std::move(connection)} {}

    [[nodiscard]] explicit operator bool() const noexcept { return connection_ || told_; }

    /// One line, once; never waits. A client that does not read finds it in its socket, or is gone.
    void answer(std::string const& line) noexcept // what a host throws would leave an upgrade half way
    {
        if (auto const told = std::exchange(told_, nullptr))
            told(line);
        if (!connection_)
            return;
        auto const text = line + "\n";
        ::send(connection_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        // The client sees the end even if a worker that the host forked keeps a duplicate. What it has said is read
        // first: closing with it unread would turn the answer's end into ECONNRESET. It can say no more, so this ends.
        ::shutdown(connection_.get(), SHUT_RDWR);
        std::array<char, 4096> unread;
        while (::recv(connection_.get(), unread.data(), unread.size(), MSG_DONTWAIT) > 0) {}
        connection_.reset();
    }

private:
    os::owned_fd connection_;
    std::function<void(std::string const&)> told_;
};

/// The control sockets: each means one request, and to connect is to ask. Nothing a client sends is looked at.
template <class Io>
class control_server
{
public:
    using asked = std::function<void(request, trigger, requester)>;

    struct door
    {
        request what;
        address where;
        os::owned_fd socket;
        os::identity path{};
        bool inherited = false;
        typename Io::handle watch{};
    };

    /// Opens each door that is named, or the parent's: `claim(name)` gives that, if there is one. Throws `error`.
    template <class Claim>
    void open(control_sockets const& chosen, Claim&& claim)
    {
        for (auto const& [what, where] :
             {std::pair{request::upgrade, chosen.upgrade}, std::pair{request::stop, chosen.stop},
              std::pair{request::partial_stop, chosen.partial_stop}})
            if (!where.empty())
                open(what, where, claim);
    }

    /// The same of one door.
    template <class Claim>
    void open(request what, std::string const& where, Claim&& claim)
    {
        address const at{where};
        listen_options const only_us{.mode = 0600};
        handoff::inheritance::descriptor inherited = claim(descriptor_name(what, at));
        os::identity path{inherited.record.device, inherited.record.inode};
        bool const ours = !inherited.fd;
        if (!ours) {
            sockets::verify(inherited.fd, socket_kind::unix_stream, at, only_us);
        } else {
            inherited.fd = sockets::open(socket_kind::unix_stream, at, only_us);
            path = sockets::bind(inherited.fd, socket_kind::unix_stream, at, only_us);
            sockets::listen(inherited.fd, socket_kind::unix_stream, at, only_us);
        }
        doors_.push_back({what, at, std::move(inherited.fd), path, !ours, {}});
    }

    void bequeath(handoff::bequest& to) const
    {
        for (auto const& door : doors_)
            to.add({.kind = handoff::descriptor_kind::control,
                    .name = descriptor_name(door.what, door.where),
                    .bytes = {},
                    .device = door.path.device,
                    .inode = door.path.inode},
                   door.socket);
    }

    /// From now on clients are answered; those that came before wait in the queue. Does nothing for a socket that is
    /// watched already. `ec` says why some must wait on: they are tried again.
    void start(Io& io, asked tell, error_code& ec)
    {
        ec.clear();
        tell_ = std::move(tell);
        for (auto& door : doors_) {
            if (door.watch) // it was never paused, and a second watch of one descriptor is an error
                continue;
            error_code failed;
            watch(io, door, failed);
            if (!failed)
                continue;
            ec = failed;
            watch_later(io, door);
        }
    }

    /// Clients wait in the queue, until start() or for whoever shares it.
    void pause() noexcept
    {
        for (auto& door : doors_)
            door.watch = {};
    }

    /// A child answers from now on: the sockets go, and the paths of those that it did not claim.
    void hand_over(std::vector<handoff::record> const& records, std::vector<bool> const& claims) noexcept
    {
        for (std::size_t i = 0; i != records.size(); ++i)
            if (records[i].kind == handoff::descriptor_kind::control && !claims[i])
                unlink({records[i].device, records[i].inode});
        doors_.clear();
    }

    /// Nobody answers from now on, or not this generation.
    void close(os::unlinked which) noexcept
    {
        for (auto const& door : doors_)
            if (which == os::unlinked::all || (which == os::unlinked::fresh && !door.inherited))
                unlink(door.path);
        doors_.clear();
    }

    [[nodiscard]] std::list<door> const& doors() const noexcept { return doors_; }

private:
    [[nodiscard]] static std::string descriptor_name(request what, address const& where)
    {
        return std::string{name(what)} + " " + where.text();
    }

    /// The path with that identity goes.
    void unlink(os::identity path) noexcept
    {
        for (auto const& door : doors_)
            if (door.path == path)
                os::unlink_if_same(door.where.path(), path);
    }

    void watch(Io& io, door& door, error_code& ec)
    {
        door.watch = io.watch(door.socket, [this, &io, &door] { accept(io, door); }, ec);
    }

    void watch_later(Io& io, door& door)
    {
        door.watch = io.at(io::clock::now() + std::chrono::milliseconds{100}, [this, &io, &door] {
            error_code ec;
            watch(io, door, ec);
            if (ec)
                watch_later(io, door);
        });
    }

    void accept(Io& io, door& door)
    {
        os::owned_fd connection{::accept4(door.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (!connection) {
            // No descriptor or no memory is free: the client waits in the queue, and we do not spin on it.
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                watch_later(io, door);
            return;
        }
        ::ucred peer{};
        ::socklen_t size = sizeof peer;
        bool const known = ::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
        trigger const by{.from = trigger::source::control, .peer = os::process_id{peer.pid}};
        if (!known || (peer.uid != 0 && peer.uid != ::geteuid())) {
            requester{std::move(connection)}.answer("failed reason=\"uid " + std::to_string(peer.uid) +
                                                    " may not ask; only root and uid " + std::to_string(::geteuid()) +
                                                    " may\"");
            return;
        }
        auto const tell = tell_; // which may start this anew
        tell(door.what, by, requester{std::move(connection)});
    }

    // A list, for a door must stay where it is while it is watched.
    std::list<door> doors_;
    asked tell_;
};

} // namespace ecdysis

#endif
