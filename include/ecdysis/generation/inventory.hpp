// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_INVENTORY_HPP
#define ECDYSIS_GENERATION_INVENTORY_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/socket_record.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/systemd/activation.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ecdysis {

/// All sockets that this generation holds, for itself and for the next one.
template <class Io>
class inventory
{
public:
    using source_ptr = std::shared_ptr<typename Io::source>;

    /// What the service manager passed to the first generation.
    struct manager
    {
        systemd::activation& passed;
        /// What the store had and cannot be used, and why.
        std::function<void(handoff::record const&, std::string)> unused;
        std::function<void(std::string)> warn;
    };

    /// The parent's socket of that name, or the manager's that fits, verified; or a new one. Throws `error`.
    /// `from`: null when nothing can be inherited (any more). `accepting`: it may listen at once. `by`: null when
    /// nothing was passed.
    [[nodiscard]] source_ptr claim_or_open(Io& io, std::shared_ptr<open_connections> const& connections,
                                           socket_kind kind, address const& where, listen_options const& options,
                                           handoff::inheritance* from, bool accepting, manager const* by = nullptr)
    {
        auto const name = sockets::describe(kind, where);
        if (auto* const found = from != nullptr ? from->find(handoff::wire_kind(kind), name) : nullptr) {
            sockets::verify(found->fd, kind, where, options);
            auto taken = from->take(*found);
            return keep(io, connections, inherited_socket(std::move(taken.record), kind, where, options),
                        std::move(taken.fd), accepting);
        }
        if (by != nullptr)
            if (auto claimed = by->passed.claim(kind, where, options, by->unused))
                return keep(io, connections, inherited_socket(std::move(claimed->record), kind, where, options),
                            std::move(claimed->fd), accepting);
        auto fd = sockets::open(kind, where, options);
        auto const path = sockets::bind(fd, kind, where, options);
        // A listener of a child listens only after commit: connections that it was given would be reset if it failed.
        bool const listens = !from;
        if (listens && !is_datagram(kind))
            sockets::listen(fd, kind, where, options);
        socket fresh{new_record(kind, name, path), kind, where, options, {}, false, true,
                     listens ? todo::nothing : todo::listen};
        return keep(io, connections, std::move(fresh), std::move(fd), accepting);
    }

    /// At least `count` sockets on one address, between which the kernel spreads connections (SO_REUSEPORT): all that
    /// the parent has, and new ones up to `count`.
    [[nodiscard]] std::vector<source_ptr>
    claim_or_open_shards(Io& io, std::shared_ptr<open_connections> const& connections, socket_kind kind,
                         address const& where, std::size_t count, listen_options options, handoff::inheritance* from,
                         bool accepting, manager const* by = nullptr)
    {
        options.reuse_port = true;
        auto const name = sockets::describe(kind, where);
        std::vector<source_ptr> result;
        auto const inherited = [&] {
            return (from != nullptr && from->find(handoff::wire_kind(kind), name) != nullptr) ||
                   (by != nullptr && by->passed.has(kind, where, options, by->unused));
        };
        try {
            while (result.empty() || inherited()) {
                result.push_back(claim_or_open(io, connections, kind, where, options, from, accepting, by));
                sockets::set(result.back()->fd(), SOL_SOCKET, SO_REUSEPORT, 1, "set SO_REUSEPORT on " + name);
            }
            error_code ec;
            auto const bound = address::bound(result.front()->fd(), ec); // port 0 has become one for all
            if (ec)
                throw error{ec, "add a shard to " + name};
            try {
                while (result.size() < count)
                    result.push_back(add_shard(io, connections, kind, name, bound, options, from, accepting));
            } catch (error const& e) {
                // The kernel lets only sockets of one user share an address (socket(7)), and the system's manager is root.
                if (by == nullptr || e.code() != boost::system::errc::address_in_use || !is_of_unit(result.front()))
                    throw;
                by->warn("add shards to " + name + ": " + std::to_string(result.size()) + " of " + std::to_string(count) +
                         " are there; those that a socket unit passes can be joined only by sockets of the same user, so "
                         "let the unit pass all, with ReusePort=yes");
            }
        } catch (...) {
            take_back(result, from, by);
            throw;
        }
        return result;
    }

    // ---- for an upgrade

    /// All, in their order.
    [[nodiscard]] handoff::bequest bequeath()
    {
        handoff::bequest result;
        result.reserve(sockets_.size());
        for (auto const& one : sockets_)
            if (!one.failed)
                result.add(one.record, one.source->fd(), one.source);
        return result;
    }

    // ---- for the manager's store

    /// `put(record, source)` for all that it should have and was not told of: not what it has by a socket unit.
    template <class Put>
    void keep_in_store(Put&& put)
    {
        for (std::size_t i = 0, count = sockets_.size(); i != count; ++i) { // `put` may open others
            auto& one = sockets_[i];
            if (one.failed || (one.record.flags & (handoff::manager_owned | handoff::in_store)) != 0)
                continue;
            one.record.flags |= handoff::in_store;
            put(handoff::record{one.record}, one.source);
        }
    }

    /// What it was told of and is used still.
    [[nodiscard]] std::vector<handoff::record> stored() const
    {
        std::vector<handoff::record> result;
        for (auto const& one : sockets_)
            if (!one.failed && (one.record.flags & handoff::in_store) != 0)
                result.push_back(one.record);
        return result;
    }

    /// It has none of those any more.
    template <std::predicate<handoff::record const&> Which>
    void leave_store(Which which)
    {
        for (auto& one : sockets_)
            if ((one.record.flags & handoff::in_store) != 0 && which(one.record))
                one.record.flags &= static_cast<std::uint8_t>(~handoff::in_store);
    }

    // ---- life

    /// This generation may accept: what waited for that is done. What fails now can only be told. An inherited socket
    /// works on as it was; a new one is closed, for the next generation would refuse a socket that does not listen or is
    /// not bound, and with it the upgrade.
    template <class Warn>
    void open(Warn&& warn)
    {
        for (std::size_t i = 0, count = sockets_.size(); i != count; ++i) { // who is warned may open others
            auto& one = sockets_[i];
            if (one.failed)
                continue;
            try {
                if (one.left == todo::bind)
                    (void)sockets::bind(one.source->fd(), one.kind, one.where, one.options);
                if (one.left == todo::listen && !is_datagram(one.kind)) {
                    if (one.inherited)
                        apply_backlog(one, warn);
                    else
                        sockets::listen(one.source->fd(), one.kind, one.where, one.options);
                }
            } catch (error const& e) {
                give_up(one);
                warn(e.what());
                continue;
            }
            number(one);
            one.left = todo::nothing;
            one.source->open();
            if (one.inherited && one.options.mode)
                apply_mode(one, warn);
        }
    }

    /// A child serves, and must prove that it does: what it claimed accepts nothing here meanwhile.
    void pause(std::vector<handoff::record> const& records, std::vector<bool> const& claims)
    {
        for_each_claim(records, claims, [](socket& one, bool claimed) {
            if (claimed)
                one.source->pause();
        });
    }

    /// It does not: all that was paused accepts again.
    void resume()
    {
        for (auto& one : sockets_)
            if (!one.failed)
                one.source->open();
    }

    /// A child serves. What it claimed is its own now; the rest ends when its queue is empty.
    void end_claimed(std::vector<handoff::record> const& records, std::vector<bool> const& claims)
    {
        for_each_claim(records, claims, [](socket& one, bool claimed) {
            if (!claimed && one.ours)
                unlink(one);
            one.ours = false;
            one.source->end(!claimed);
        });
    }

    void end_for_stop(os::unlinked which)
    {
        for (auto& one : sockets_)
            if (one.options.at_stop == on_stop::end) {
                end(one, which);
                one.source->end(true);
            }
    }

    /// The service is the parent's, whatever becomes of it: what was inherited ends with its queue as it is, which the parent
    /// shares; what is only ours when its queue is empty.
    void end_for_parent()
    {
        for (auto& one : sockets_) {
            if (!one.inherited)
                end(one, os::unlinked::fresh);
            one.source->end(!one.inherited);
        }
    }

    /// Accepting ends everywhere, when the queues are empty.
    void end_all()
    {
        for (auto& one : sockets_)
            one.source->end(true);
    }

    void close(os::unlinked which)
    {
        for (auto& one : sockets_) {
            end(one, which);
            one.source->close();
        }
        next_index_.clear();
        sockets_.clear();
    }

private:
    enum class todo { nothing, listen, bind }; ///< at commit

    struct socket
    {
        handoff::record record;
        socket_kind kind;
        address where;
        listen_options options;
        source_ptr source;
        bool inherited; ///< and so the parent's, until it has retired; or passed by the manager
        bool ours;      ///< the path, if it has one, is for us to unlink
        todo left;
        bool failed = false; ///< to open at commit
    };

    [[nodiscard]] static socket inherited_socket(handoff::record&& what, socket_kind kind, address const& where,
                                                 listen_options const& options)
    {
        // The backlog of a socket unit's is what that says.
        auto const left = (what.flags & handoff::manager_owned) != 0 ? todo::nothing : todo::listen;
        return {std::move(what), kind, where, options, {}, true, true, left};
    }

    [[nodiscard]] bool is_of_unit(source_ptr const& source) const
    {
        auto const found = std::ranges::find(sockets_, source, &socket::source);
        return found != sockets_.end() && (found->record.flags & handoff::manager_owned) != 0;
    }

    [[nodiscard]] handoff::record new_record(socket_kind kind, std::string const& name, os::identity path)
    {
        if (name.size() > handoff::max_name)
            throw error{errc::name_too_long, "listen on " + name};
        return {.kind = handoff::wire_kind(kind),
                .name = name,
                .bytes = {},
                .device = path.device,
                .inode = path.inode,
                .flags = path ? handoff::path_owned : std::uint8_t{0}};
    }

    [[nodiscard]] source_ptr add_shard(Io& io, std::shared_ptr<open_connections> const& connections, socket_kind kind,
                                       std::string const& name, address const& bound, listen_options const& options,
                                       handoff::inheritance const* from, bool accepting)
    {
        auto fd = sockets::open(kind, bound, options);
        // A bound datagram socket gets its share of the datagrams, so in a child it is bound only after commit.
        bool const bind_now = !from || !is_datagram(kind);
        if (bind_now)
            (void)sockets::bind(fd, kind, bound, options);
        if (!from && !is_datagram(kind))
            sockets::listen(fd, kind, bound, options);
        auto const left = from == nullptr ? todo::nothing : bind_now ? todo::listen : todo::bind;
        socket shard{new_record(kind, name, {}), kind, bound, options, {}, false, true, left};
        return keep(io, connections, std::move(shard), std::move(fd), accepting);
    }

    /// The host gets none of these, the last that were made, so none may take connections: new ones go, and inherited
    /// ones can be claimed again.
    void take_back(std::vector<source_ptr> const& made, handoff::inheritance* from, manager const* by)
    {
        while (!sockets_.empty() && std::ranges::find(made, sockets_.back().source) != made.end()) {
            auto& one = sockets_.back();
            if (one.inherited) {
                error_code ec;
                os::owned_fd copy{os::call(ec, [&] { return ::fcntl(one.source->fd().get(), F_DUPFD_CLOEXEC, 3); })};
                if (ec)
                    return; // it stays, for its queue may hold connections
                if (from != nullptr)
                    from->give_back(one.record, std::move(copy));
                else if (by != nullptr)
                    by->passed.give_back(std::move(copy));
            } else {
                end(one, os::unlinked::fresh);
            }
            one.source->close();
            sockets_.pop_back();
        }
    }

    /// `f(socket, claimed)` for all that can be used; `records` are those of `bequeath`.
    template <class F>
    void for_each_claim(std::vector<handoff::record> const& records, std::vector<bool> const& claims, F&& f)
    {
        std::size_t i = 0;
        for (auto& one : sockets_) {
            if (one.failed)
                continue;
            // What the host opened during the upgrade was not handed over.
            bool const claimed = i < records.size() && claims[i] && records[i].kind == one.record.kind &&
                                 records[i].name == one.record.name && records[i].index == one.record.index;
            ++i;
            f(one, claimed);
        }
    }

    /// It cannot be used, and is handed over to nobody.
    static void give_up(socket& one)
    {
        one.failed = true;
        end(one, os::unlinked::fresh);
        one.source->close();
    }

    [[nodiscard]] source_ptr keep(Io& io, std::shared_ptr<open_connections> const& connections, socket&& made,
                                  os::owned_fd fd, bool accepting)
    {
        error_code ec;
        made.source = io.make_source(std::move(fd), connections, ec);
        if (ec) {
            if (!made.inherited)
                unlink(made);
            throw error{ec, "listen on " + made.record.name};
        }
        if (accepting)
            made.source->open();
        auto& kept = sockets_.emplace_back(std::move(made));
        if (accepting)
            number(kept);
        return kept.source;
    }

    /// Its place among those of the same name: the parent's index may have gaps. Nobody asks for it before commit.
    void number(socket& one) { one.record.index = next_index_[one.record.name]++; }

    /// The parent's may have asked for another backlog.
    template <class Warn>
    static void apply_backlog(socket const& one, Warn& warn)
    {
        error_code ec;
        os::call(ec, [&] { return ::listen(one.source->fd().get(), one.options.backlog); });
        if (ec)
            warn("set the backlog of " + one.record.name + " to " + std::to_string(one.options.backlog) + ": " +
                 ec.message() + "; the inherited listener works on with its old backlog");
    }

    /// The parent's may have asked for another mode. Not before commit, for the path is the parent's until then; and only
    /// while it is still the socket that was handed over.
    template <class Warn>
    static void apply_mode(socket const& one, Warn& warn)
    {
        auto const path = one.where.path();
        struct ::stat status{};
        if ((one.record.flags & handoff::path_owned) == 0 || ::lstat(path.c_str(), &status) != 0 ||
            os::identity_of(status) != os::identity{one.record.device, one.record.inode})
            return;
        auto const was = status.st_mode & 07777U;
        auto const wanted = *one.options.mode & 07777U;
        if (was == wanted)
            return;
        error_code ec;
        os::call(ec, [&] { return ::chmod(path.c_str(), wanted); });
        if (ec)
            warn("set the mode of " + path + ", " + octal(was) + ", to " + octal(wanted) + ": " + ec.message());
        else
            warn("the mode of " + path + " was " + octal(was) + ", and is " + octal(wanted) + " now");
    }

    [[nodiscard]] static std::string octal(::mode_t mode)
    {
        std::string digits(4, '0');
        for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, mode >>= 3)
            *digit = static_cast<char>('0' + (mode & 7));
        return digits;
    }

    static void end(socket& one, os::unlinked which) noexcept
    {
        if (one.ours && (which == os::unlinked::all || (which == os::unlinked::fresh && !one.inherited)))
            unlink(one);
        one.ours = false;
    }

    static void unlink(socket const& one) noexcept
    {
        if ((one.record.flags & handoff::path_owned) != 0)
            os::unlink_if_same(one.where.path(), {one.record.device, one.record.inode});
    }

    std::deque<socket> sockets_; ///< which never moves its elements
    std::unordered_map<std::string, std::uint16_t> next_index_; ///< by name
};

} // namespace ecdysis

#endif
