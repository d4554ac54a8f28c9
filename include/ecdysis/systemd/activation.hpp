// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_ACTIVATION_HPP
#define ECDYSIS_SYSTEMD_ACTIVATION_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/handoff/socket_record.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/unix_path.hpp>
#include <ecdysis/systemd/stored_name.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ecdysis::systemd {

/// The environment's word on what the service manager passed to this process (sd_listen_fds(3)).
struct listen_variables
{
    std::optional<std::string> pid, pidfd_inode, count, names;

    /// Takes them out of the environment, so that nothing that is spawned believes them. Not safe while another thread
    /// uses the environment.
    [[nodiscard]] static listen_variables take()
    {
        return {take("LISTEN_PID"), take("LISTEN_PIDFDID"), take("LISTEN_FDS"), take("LISTEN_FDNAMES")};
    }

private:
    [[nodiscard]] static std::optional<std::string> take(char const* name)
    {
        char const* const value = ::getenv(name);
        if (value == nullptr)
            return {};
        std::string text = value;
        ::unsetenv(name);
        return text;
    }
};

/// What the service manager passed to the first generation, until it is claimed: sockets of socket units, files that
/// they opened, and what this service had in the manager's store when it ended.
///
/// What the variables say that is not so is a warning in words, never an error, and costs no more time for being large.
class activation
{
public:
    /// A socket that was claimed, as a handoff would describe it.
    struct claimed_socket
    {
        handoff::record record;
        os::owned_fd fd;
    };

    /// The first number that is passed (SD_LISTEN_FDS_START).
    static constexpr int first = 3;
    /// No more are looked at, for no more could be handed over.
    static constexpr int most = static_cast<int>(handoff::max_descriptors);

    /// Takes the variables, and the descriptors if they are this process's: close-on-exec from then on, sockets
    /// non-blocking. `warn(sentence)` is told of what is not as it should be.
    template <class Warn>
    void take(Warn&& warn)
    {
        auto const said = listen_variables::take();
        if (!is_for_this_process(said, warn) || !said.count)
            return;
        auto const count = read_count(*said.count, warn);
        if (count == 0)
            return;
        auto const names = read_names(said.names, count, warn);
        missing not_open, ours;
        for (int number = first; auto const& name : names) {
            int const flags = ::fcntl(number, F_GETFD);
            if (flags < 0)
                not_open.add(number);
            else if ((flags & FD_CLOEXEC) != 0) // it has not come through exec: the host opened it, and would miss it
                ours.add(number);
            else
                all_.push_back(look_at(os::owned_fd{number}, name, warn));
            ++number;
        }
        not_open.tell(warn, count, "not open");
        ours.tell(warn, count, "this process's own (close-on-exec)");
    }

    /// The socket that is to be used for `where`, verified; nothing where it is to be opened. In this order:
    ///
    /// - With `options.name`, the one of that name that is of this kind and on this address. Throws `error`
    ///   (errc::descriptor_mismatch) if that name was passed, but none such, saying what came.
    /// - What was kept in the store for this kind and address, as it was asked for: port 0 keeps its port. What cannot
    ///   be used, because its path leads elsewhere or it is not as asked, is closed: `unused(record, sentence)`.
    /// - Without `options.name`, any that is of this kind and on this address; none for port 0, which could be any of them.
    template <class Unused>
    [[nodiscard]] std::optional<claimed_socket> claim(socket_kind kind, address const& where,
                                                      listen_options const& options, Unused&& unused)
    {
        auto* const found = find(kind, where, options, unused);
        if (found == nullptr) {
            refuse_other_of_that_name(kind, where, options);
            return {};
        }
        auto record = found->stored.value_or(handoff::record{});
        if (!found->stored) {
            sockets::verify(found->fd, kind, where, options);
            record = {.kind = handoff::wire_kind(kind),
                      .name = sockets::describe(kind, where),
                      .bytes = {},
                      .flags = handoff::manager_owned};
        }
        found->claimed = true;
        return claimed_socket{std::move(record), std::move(found->fd)};
    }

    /// Whether `claim` would take one.
    template <class Unused>
    [[nodiscard]] bool has(socket_kind kind, address const& where, listen_options const& options, Unused&& unused)
    {
        return find(kind, where, options, unused) != nullptr;
    }

    /// A duplicate of what was claimed and is not used: it can be claimed again.
    void give_back(os::owned_fd fd)
    {
        auto const same = os::identify(fd);
        for (auto& one : all_)
            if (one.claimed && one.file == same) {
                one.claimed = false;
                one.fd = std::move(fd);
                return;
            }
    }

    /// The next of that name that is no listener and no datagram socket: a FIFO, a special file, a connection
    /// (Accept=yes), or a file that was kept in the store.
    [[nodiscard]] os::owned_fd claim_file(std::string_view name)
    {
        for (auto& one : all_)
            if (is_unclaimed_file(one) && one.name == name) {
                one.claimed = true;
                return std::move(one.fd);
            }
        return {};
    }
    /// The names of those, one for each.
    [[nodiscard]] std::vector<std::string> unclaimed_files() const
    {
        std::vector<std::string> result;
        for (auto const& one : all_)
            if (is_unclaimed_file(one))
                result.push_back(one.name);
        return result;
    }

    /// What came from the store, claimed or not.
    [[nodiscard]] std::vector<handoff::record> stored() const
    {
        std::vector<handoff::record> result;
        for (auto const& one : all_)
            if (one.stored)
                result.push_back(*one.stored);
        return result;
    }

    /// Closes what was not claimed, telling the name of each, and forgets all. Paths of sockets from the store go.
    template <class Tell>
    void close_unclaimed(Tell&& tell)
    {
        for (auto& one : std::exchange(all_, {})) { // who is told may claim, in vain
            if (!one.fd)
                continue;
            auto const what = one.stored ? one.name : one.name + " (" + describe(one) + ")";
            close(one);
            tell(what);
        }
    }

private:
    struct endpoint
    {
        socket_kind kind;
        address where;
    };
    struct descriptor
    {
        std::string name; ///< as the manager said; decoded if it is from the store
        os::owned_fd fd;
        os::identity file{};
        std::optional<handoff::record> stored{}; ///< if this line kept it there
        std::optional<endpoint> serves{};        ///< if it is a listener or a datagram socket
        bool claimed = false;
    };

    /// Numbers that were announced and are not to be had, for one sentence.
    struct missing
    {
        int count = 0;
        int lowest = 0;

        void add(int number) noexcept
        {
            if (count++ == 0)
                lowest = number;
        }
        template <class Warn>
        void tell(Warn& warn, std::int64_t of, char const* what) const
        {
            if (count != 0)
                warn("LISTEN_FDS announces " + std::to_string(of) + " descriptors, but " + std::to_string(count) +
                     " of them, the first is number " + std::to_string(lowest) + ", " +
                     (count == 1 ? "is " : "are ") + what + "; skipped");
        }
    };

    // ---- reading

    template <std::integral N>
    [[nodiscard]] static std::optional<N> number(std::string_view text) noexcept
    {
        N result{};
        auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), result);
        if (ec != std::errc{} || end != text.data() + text.size())
            return {};
        return result;
    }

    template <class Warn>
    [[nodiscard]] static bool is_for_this_process(listen_variables const& said, Warn& warn)
    {
        if (!said.pid)
            return false;
        auto const pid = number<std::int64_t>(*said.pid);
        if (!pid)
            warn("LISTEN_PID=\"" + *said.pid + "\" is no process id; what LISTEN_FDS announces is not taken");
        if (pid != os::number(os::this_process()))
            return false;
        if (!said.pidfd_inode)
            return true;
        // A pid may have been used again; the inode of a pidfd on pidfs never is, as far as it fits in st_ino.
        auto const inode = number<std::uint64_t>(*said.pidfd_inode);
        if (!inode)
            warn("LISTEN_PIDFDID=\"" + *said.pidfd_inode + "\" is no number; LISTEN_PID alone is believed");
        auto const own = own_pidfd_inode();
        return !inode || !own || inode == own;
    }

    [[nodiscard]] static std::optional<std::uint64_t> own_pidfd_inode() noexcept
    {
        constexpr auto pidfs = 0x50494446; // PID_FS_MAGIC of linux/magic.h, Linux 6.9
        error_code ec;
        auto const self = os::open_pidfd(os::this_process(), ec);
        struct ::statfs system{};
        if (ec || sizeof(::ino_t) < 8 || ::fstatfs(self.get(), &system) != 0 || system.f_type != pidfs)
            return {};
        auto const status = os::status_of(self, ec);
        return ec ? std::nullopt : std::optional<std::uint64_t>{status.st_ino};
    }

    template <class Warn>
    [[nodiscard]] static std::int64_t read_count(std::string const& text, Warn& warn)
    {
        auto const count = number<std::int64_t>(text);
        if (!count || *count < 0)
            warn("LISTEN_FDS=\"" + text + "\" is no number of descriptors; none is taken");
        else if (*count > most)
            warn("LISTEN_FDS=" + text + ": only " + std::to_string(most) + " are looked at");
        return std::max<std::int64_t>(count.value_or(0), 0);
    }

    /// One for each that is looked at; "unknown" as in sd_listen_fds_with_names(3).
    template <class Warn>
    [[nodiscard]] static std::vector<std::string> read_names(std::optional<std::string> const& text,
                                                             std::int64_t count, Warn& warn)
    {
        auto const looked_at = static_cast<std::size_t>(std::min<std::int64_t>(count, most));
        std::vector<std::string> result;
        result.reserve(looked_at);
        std::int64_t said = 0;
        for (std::size_t begin = 0; text && begin <= text->size(); ++said) {
            auto const end = std::min(text->find(':', begin), text->size());
            if (result.size() != looked_at)
                result.emplace_back(end == begin ? "unknown" : text->substr(begin, end - begin));
            begin = end + 1;
        }
        if (text && said != count)
            warn("LISTEN_FDNAMES has " + std::to_string(said) + " names for the " + std::to_string(count) +
                 " descriptors that LISTEN_FDS announces" + (said < count ? "; the rest is \"unknown\"" : ""));
        result.resize(looked_at, "unknown");
        return result;
    }

    template <class Warn>
    [[nodiscard]] static descriptor look_at(os::owned_fd fd, std::string const& name, Warn& warn)
    {
        error_code ec;
        os::call(ec, [&] { return ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC); });
        auto const status = os::status_of(fd, ec);
        descriptor result{
            .name = name, .fd = std::move(fd), .file = os::identity_of(status), .stored = read_stored_name(name)};
        if (result.stored)
            result.name = result.stored->name;
        if (!S_ISSOCK(status.st_mode))
            return result;
        int const flags = os::call(ec, [&] { return ::fcntl(result.fd.get(), F_GETFL); });
        if (!ec)
            os::call(ec, [&] { return ::fcntl(result.fd.get(), F_SETFL, flags | O_NONBLOCK); });
        if (ec)
            warn("make descriptor " + std::to_string(result.fd.get()) + ", \"" + name +
                 "\", non-blocking: " + ec.message());
        auto const kind = kind_of(result.fd);
        auto const bound = address::bound(result.fd, ec);
        if (kind && !ec)
            result.serves = endpoint{*kind, bound};
        return result;
    }

    /// Which kind of listener or datagram socket; nothing for any other socket, connected ones too.
    [[nodiscard]] static std::optional<socket_kind> kind_of(os::borrowed_fd socket) noexcept
    {
        error_code ec;
        int const family = sockets::get(socket, SOL_SOCKET, SO_DOMAIN, ec);
        int const type = sockets::get(socket, SOL_SOCKET, SO_TYPE, ec);
        int const protocol = sockets::get(socket, SOL_SOCKET, SO_PROTOCOL, ec);
        ::sockaddr_storage peer;
        ::socklen_t size = sizeof peer;
        bool const is_service = type == SOCK_DGRAM
                                    ? ::getpeername(socket.get(), reinterpret_cast<::sockaddr*>(&peer), &size) != 0
                                    : sockets::get(socket, SOL_SOCKET, SO_ACCEPTCONN, ec) != 0;
        if (ec || !is_service)
            return {};
        constexpr int mptcp = 262; // IPPROTO_MPTCP, glibc 2.32
        bool const is_internet = family == AF_INET || family == AF_INET6;
        if (is_internet && type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == mptcp))
            return socket_kind::tcp;
        if (is_internet && type == SOCK_DGRAM && protocol == IPPROTO_UDP)
            return socket_kind::udp;
        if (family != AF_UNIX)
            return {};
        return type == SOCK_STREAM      ? socket_kind::unix_stream
               : type == SOCK_SEQPACKET ? socket_kind::unix_seqpacket
                                        : socket_kind::unix_datagram;
    }

    // ---- finding

    [[nodiscard]] static bool is_file(descriptor const& one) noexcept
    {
        return one.stored ? one.stored->kind == handoff::descriptor_kind::connection : !one.serves;
    }
    [[nodiscard]] static bool is_unclaimed_file(descriptor const& one) noexcept { return one.fd && is_file(one); }

    template <class Unused>
    [[nodiscard]] descriptor* find(socket_kind kind, address const& where, listen_options const& options,
                                   Unused& unused)
    {
        if (all_.empty()) // as in most processes
            return nullptr;
        bool const any_name = options.name.empty();
        if (!any_name)
            if (auto* const found = find_of_units(kind, where, &options.name))
                return found;
        if (any_name || !is_left(options.name))
            if (auto* const found = find_stored(kind, where, options, unused))
                return found;
        bool const says_which = where.family() == AF_UNIX || where.port() != 0;
        return any_name && says_which ? find_of_units(kind, where, nullptr) : nullptr;
    }

    [[nodiscard]] descriptor* find_of_units(socket_kind kind, address const& where, std::string const* name)
    {
        auto const found = std::ranges::find_if(all_, [&](descriptor const& one) {
            return one.fd && !one.stored && one.serves && one.serves->kind == kind &&
                   (name == nullptr || one.name == *name) && one.serves->where.satisfies(where);
        });
        return found == all_.end() ? nullptr : &*found;
    }

    template <class Unused>
    [[nodiscard]] descriptor* find_stored(socket_kind kind, address const& where, listen_options const& options,
                                          Unused& unused)
    {
        auto const name = sockets::describe(kind, where);
        auto const path = where.path();
        for (auto& one : all_) {
            if (!one.fd || !one.stored || one.stored->kind != handoff::wire_kind(kind) || one.name != name)
                continue;
            std::string why;
            if (!path.empty() && (!path_of(one) || os::identify(path) != path_of(one))) {
                why = "claim " + name + " from the store: that path " +
                      (os::identify(path) ? "leads to another file by now" : "is gone");
            } else {
                try {
                    sockets::verify(one.fd, kind, where, options);
                    return &one;
                } catch (error const& e) {
                    why = e.what();
                }
            }
            close(one);
            unused(*one.stored, why + "; it is opened anew");
        }
        return nullptr;
    }

    /// Of a socket unit, and not claimed.
    [[nodiscard]] bool is_left(std::string_view name) const
    {
        return std::ranges::any_of(all_, [&](descriptor const& one) { return one.fd && !one.stored && one.name == name; });
    }

    void refuse_other_of_that_name(socket_kind kind, address const& where, listen_options const& options) const
    {
        std::string came;
        for (auto const& one : all_)
            if (!options.name.empty() && !one.stored && one.name == options.name)
                came += (came.empty() ? "" : ", ") + describe(one) + (one.claimed ? " (claimed)" : "");
        if (!came.empty())
            throw error{errc::descriptor_mismatch, "claim \"" + options.name + "\": expected a " +
                                                       (is_datagram(kind) ? "bound" : "listening") + " socket, " +
                                                       sockets::describe(kind, where) + ", came " + came};
    }

    // ---- one

    /// The path that it was bound to, if that is ours.
    [[nodiscard]] static os::identity path_of(descriptor const& one) noexcept
    {
        return {one.stored->device, one.stored->inode};
    }

    /// Nobody uses it: then nobody answers at its path.
    static void close(descriptor& one)
    {
        one.fd.reset();
        if (one.stored && (one.stored->flags & handoff::path_owned) != 0)
            os::unlink_if_same(one.name.substr(one.name.find(' ') + 1), path_of(one));
    }

    [[nodiscard]] static std::string describe(descriptor const& one)
    {
        return one.serves ? sockets::describe(one.serves->kind, one.serves->where) : "a file";
    }

    std::deque<descriptor> all_; ///< which never moves its elements
};

} // namespace ecdysis::systemd

#endif
