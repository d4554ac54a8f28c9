// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_INVENTORY_HPP
#define ECDYSIS_INVENTORY_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/listener.hpp>
#include <ecdysis/state.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ecdysis {

/// A file that the parent handed over by name, with the bytes that came beside it.
struct handed_over_file
{
    os::owned_fd fd;
    std::string bytes;
};

/// The files that a host would hand over. Shared with their handles, so that either may go first.
struct offered_files
{
    struct file
    {
        std::string name;
        std::string bytes;
        std::shared_ptr<os::owned_fd const> fd;
    };

    std::mutex mutex;
    std::map<std::uint64_t, file> all;
    std::uint64_t next = 0;
};

/// Keeps one file offered to the next generation, as long as it lives. Movable; any thread may drop it.
class offer
{
public:
    offer() = default;
    offer(std::shared_ptr<offered_files> files, offered_files::file what) : files_{std::move(files)}
    {
        std::lock_guard const hold{files_->mutex};
        key_ = files_->next++;
        files_->all.emplace(key_, std::move(what));
    }
    offer(offer&&) noexcept = default;
    offer& operator=(offer&& other) noexcept
    {
        if (this != &other) {
            withdraw();
            files_ = std::move(other.files_);
            key_ = other.key_;
        }
        return *this;
    }
    ~offer() { withdraw(); }

    /// The file is not handed over by an upgrade that starts from now on.
    void withdraw() noexcept
    {
        if (auto const files = std::exchange(files_, nullptr)) {
            std::lock_guard const hold{files->mutex};
            files->all.erase(key_);
        }
    }

private:
    std::shared_ptr<offered_files> files_;
    std::uint64_t key_ = 0;
};

/// All descriptors that this generation holds for the next one, and its state.
template <class Io>
class inventory
{
public:
    using source_ptr = std::shared_ptr<typename Io::source>;

    /// The parent's socket of that name, verified, or a new one. Throws `error`.
    /// `from`: null when nothing can be inherited (any more). `accepting`: it may listen at once.
    [[nodiscard]] source_ptr claim_or_open(Io& io, std::shared_ptr<open_connections> const& connections,
                                           socket_kind kind, address const& where, listen_options const& options,
                                           handoff::inheritance* from, bool accepting)
    {
        auto const name = sockets::describe(kind, where);
        if (auto* const found = from != nullptr ? from->find(wire_kind(kind), name) : nullptr) {
            sockets::verify(found->fd, kind, where, options);
            auto taken = from->take(*found);
            socket inherited{std::move(taken.record), kind, where, options, {}, true, true, todo::listen};
            return keep(io, connections, std::move(inherited), std::move(taken.fd), accepting);
        }
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
                         bool accepting)
    {
        options.reuse_port = true;
        auto const name = sockets::describe(kind, where);
        std::vector<source_ptr> result;
        auto const inherited = [&] { return from != nullptr && from->find(wire_kind(kind), name) != nullptr; };
        while (result.empty() || inherited()) {
            result.push_back(claim_or_open(io, connections, kind, where, options, from, accepting));
            sockets::set(result.back()->fd(), SOL_SOCKET, SO_REUSEPORT, 1, "set SO_REUSEPORT on " + name);
        }
        error_code ec;
        auto const bound = address::bound(result.front()->fd(), ec); // port 0 has become one for all
        if (ec)
            throw error{ec, "add a shard to " + name};
        try {
            while (result.size() < count)
                result.push_back(add_shard(io, connections, kind, name, bound, options, from, accepting));
        } catch (...) { // the host gets none of them, so none may take connections
            for (auto& one : sockets_)
                if (!one.inherited && std::ranges::find(result, one.source) != result.end())
                    give_up(one);
            throw;
        }
        return result;
    }

    [[nodiscard]] offer offer_file(std::string name, int fd, std::string bytes)
    {
        if (name.size() > handoff::max_name || bytes.size() > handoff::max_bytes)
            throw error{errc::name_too_long, "offer \"" + name + "\""};
        error_code ec;
        os::owned_fd copy{os::call(ec, [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 3); })};
        if (ec)
            throw error{ec, "offer \"" + name + "\", descriptor " + std::to_string(fd)};
        return {files_, {std::move(name), std::move(bytes), std::make_shared<os::owned_fd const>(std::move(copy))}};
    }

    void add_state(std::string name, handover when, state_filler fill, state_undo undo)
    {
        if (name.size() > 200) // memfd_create(2): at most 249 bytes
            throw error{errc::name_too_long, "name state \"" + name + "\""};
        if (std::ranges::any_of(states_, [&](state const& one) { return one.name == name; }))
            throw error{make_error_code(boost::system::errc::invalid_argument),
                        "name state \"" + name + "\": there is one of that name"};
        states_.push_back({std::move(name), when, std::move(fill), std::move(undo), {}, false});
    }

    void inherit_state(handoff::inheritance& from)
    {
        using kind = handoff::descriptor_kind;
        std::vector<std::pair<kind, std::string>> found;
        for (auto const& one : from.all())
            if (one.record.kind == kind::early_state || one.record.kind == kind::late_state)
                found.emplace_back(one.record.kind, one.record.name);
        for (auto const& [what, name] : found)
            inherited_states_.insert_or_assign(
                name, std::pair{from.take(what, name).fd, what == kind::early_state});
    }

    /// Once; nothing if the parent has none of that name. Throws `error`: errc::too_late's opposite,
    /// errc::not_serving, for late state before commit; errc::state_not_sealed.
    [[nodiscard]] std::optional<inherited_state> take_state(std::string const& name, bool committed)
    {
        auto const at = inherited_states_.find(name);
        if (at == inherited_states_.end())
            return {};
        auto& [file, early] = at->second;
        if (!early && !committed)
            throw error{errc::not_serving, "read late state \"" + name + "\": it is filled at commit, after ready"};
        auto result = inherited_state::map(file, name);
        inherited_states_.erase(at);
        return result;
    }

    // ---- for an upgrade

    /// Everything, the sockets first and in their order; early state is filled.
    [[nodiscard]] handoff::bequest bequeath()
    {
        using kind = handoff::descriptor_kind;
        handoff::bequest result;
        result.reserve(sockets_.size());
        for (auto const& one : sockets_)
            if (!one.failed)
                result.add(one.record, one.source->fd(), one.source);
        {
            std::lock_guard const hold{files_->mutex};
            std::map<std::string, std::uint16_t> indexes;
            for (auto const& [key, file] : files_->all)
                result.add({.kind = kind::connection, .index = indexes[file.name]++, .name = file.name, .bytes = file.bytes},
                           *file.fd, file.fd);
        }
        for (auto& state : states_) {
            error_code ec;
            auto file = make_state_file(state.name, ec);
            if (ec)
                throw error{ec, "make a file for state \"" + state.name + "\""};
            state.file = std::make_shared<os::owned_fd const>(std::move(file));
            if (state.when == handover::early)
                fill(state);
            result.add({.kind = state.when == handover::early ? kind::early_state : kind::late_state,
                        .name = state.name,
                        .bytes = {}},
                       *state.file, state.file);
        }
        return result;
    }

    void fill_late_state()
    {
        for (auto& state : states_)
            if (state.when == handover::late && state.file) // else it was named since, and is for the next upgrade
                fill(state);
    }

    /// The parent's early or late state that the host has not read goes, telling the name of each.
    template <class F>
    void drop_unread_state(handover when, F&& tell)
    {
        std::erase_if(inherited_states_, [&](auto const& one) {
            auto const& [name, state] = one;
            if (state.second != (when == handover::early))
                return false;
            tell(name);
            return true;
        });
    }

    void undo_state() noexcept
    {
        for (auto& state : states_) {
            state.file.reset();
            if (std::exchange(state.filled, false) && state.undo)
                state.undo();
        }
    }

    // ---- life

    /// This generation may accept: what waited for that is done. What fails now can only be told, and is closed: the
    /// next generation would refuse a socket that does not listen or is not bound, and with it the upgrade.
    template <class Warn>
    void open(Warn&& warn)
    {
        for (std::size_t i = 0, count = sockets_.size(); i != count; ++i) { // who is warned may open others
            auto& one = sockets_[i];
            try {
                if (one.left == todo::bind)
                    (void)sockets::bind(one.source->fd(), one.kind, one.where, one.options);
                if (one.left == todo::listen && !is_datagram(one.kind)) // again on inherited ones: the backlog is ours
                    sockets::listen(one.source->fd(), one.kind, one.where, one.options);
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

    /// A child serves. What it claimed is its own now; the rest ends when its queue is empty.
    void end_claimed(std::vector<handoff::record> const& records, std::vector<bool> const& claims)
    {
        std::size_t i = 0;
        for (auto& one : sockets_) {
            if (one.failed)
                continue;
            // What the host opened during the upgrade was not handed over.
            bool const claimed = i < records.size() && records[i] == one.record && claims[i];
            ++i;
            if (!claimed && one.ours)
                unlink(one);
            one.ours = false;
            one.source->end(!claimed);
        }
    }

    void end_for_stop(os::unlinked which)
    {
        for (auto& one : sockets_)
            if (one.options.at_stop == on_stop::end) {
                end(one, which);
                one.source->end(true);
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

    [[nodiscard]] std::shared_ptr<offered_files> const& files() const noexcept { return files_; }

private:
    enum class todo { nothing, listen, bind }; ///< at commit

    struct socket
    {
        handoff::record record;
        socket_kind kind;
        address where;
        listen_options options;
        source_ptr source;
        bool inherited; ///< and so the parent's, until it has retired
        bool ours;      ///< the path, if it has one, is for us to unlink
        todo left;
        bool failed = false; ///< to open at commit
    };

    struct state
    {
        std::string name;
        handover when;
        state_filler fill;
        state_undo undo;
        std::shared_ptr<os::owned_fd const> file;
        bool filled;
    };

    [[nodiscard]] static handoff::descriptor_kind wire_kind(socket_kind kind) noexcept
    {
        return is_datagram(kind) ? handoff::descriptor_kind::datagram : handoff::descriptor_kind::listener;
    }

    [[nodiscard]] handoff::record new_record(socket_kind kind, std::string const& name, os::identity path)
    {
        if (name.size() > handoff::max_name)
            throw error{errc::name_too_long, "listen on " + name};
        return {.kind = wire_kind(kind),
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

    static void fill(state& one)
    {
        one.filled = true;
        try {
            fill_state_file(*one.file, one.fill);
        } catch (error const&) {
            throw;
        } catch (std::exception const& e) {
            throw error{errc::state_failed, "fill state \"" + one.name + "\": " + e.what()};
        } catch (...) {
            throw error{errc::state_failed, "fill state \"" + one.name + "\": the host threw what is no exception"};
        }
    }

    /// The parent's may have asked for another mode. Not before commit, for the path is the parent's until then; and only
    /// while it is still the socket that was handed over.
    template <class Warn>
    static void apply_mode(socket const& one, Warn& warn)
    {
        auto const path = one.where.path();
        struct ::stat status{};
        if ((one.record.flags & handoff::path_owned) == 0 || ::lstat(path.c_str(), &status) != 0 ||
            os::identity{status.st_dev, status.st_ino} != os::identity{one.record.device, one.record.inode})
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
    std::unordered_map<std::string_view, std::uint16_t> next_index_; ///< by the names in `sockets_`
    std::shared_ptr<offered_files> files_ = std::make_shared<offered_files>();
    std::list<state> states_; ///< a filler may name another
    std::map<std::string, std::pair<os::owned_fd, bool>> inherited_states_;
};

} // namespace ecdysis

#endif
