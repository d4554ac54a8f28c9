// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_HOLDINGS_HPP
#define ECDYSIS_GENERATION_HOLDINGS_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/generation/inventory.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/generation/states.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/offer.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/systemd/activation.hpp>
#include <ecdysis/systemd/descriptor_store.hpp>

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// What one generation holds: sockets, files, state and the channels; where it claims them from, and what of them the
/// service manager keeps. With the lock of the io policy held.
template <class Io, class Notify>
class holdings
{
public:
    using warn = std::function<void(std::string)>;
    using source_ptr = std::shared_ptr<typename Io::source>;

    holdings(Io& io, Notify& notify, notify::supervision<Io, Notify>& supervision, warn w)
        : io_{io}, notify_{notify}, warn_{std::move(w)}, store_{notify, supervision, inventory_, *files_, warn_}
    {}
    holdings(holdings const&) = delete;
    holdings& operator=(holdings const&) = delete;

    [[nodiscard]] std::shared_ptr<open_connections> const& connections() const noexcept { return connections_; }
    [[nodiscard]] std::shared_ptr<offered_files> const& files() const noexcept { return files_; }
    [[nodiscard]] ecdysis::states& states() noexcept { return states_; }
    [[nodiscard]] inventory<Io>& sockets() noexcept { return inventory_; }
    [[nodiscard]] systemd::descriptor_store<Io, Notify>& store() noexcept { return store_; }
    [[nodiscard]] os::owned_fd take_parent_channel() noexcept { return std::move(parent_channel_); }
    [[nodiscard]] os::owned_fd take_child_channel() noexcept { return std::move(child_channel_); }

    /// The first generation: what the service manager passed.
    void take_passed() { passed_.take(warn_); }

    /// A child: what its parent handed over, until commit.
    void inherit(handoff::inheritance& from)
    {
        from_ = &from;
        parent_channel_ = from.take(handoff::descriptor_kind::channel, "channel").fd;
        states_.inherit(from);
    }

    // ---- claims

    /// `accepting`: it may listen at once.
    [[nodiscard]] source_ptr claim_or_open(socket_kind kind, address const& where, listen_options const& options,
                                           bool accepting)
    {
        auto const by = manager();
        return inventory_.claim_or_open(io_, connections_, kind, where, options, from_, accepting, &by);
    }

    [[nodiscard]] std::vector<source_ptr> claim_or_open_shards(socket_kind kind, address const& where, std::size_t count,
                                                               listen_options options, bool accepting)
    {
        auto const by = manager();
        return inventory_.claim_or_open_shards(io_, connections_, kind, where, count, std::move(options), from_, accepting,
                                               &by);
    }

    [[nodiscard]] std::optional<handed_over_file> claim(std::string const& name)
    {
        auto taken = take(handoff::descriptor_kind::connection, name);
        if (!taken.fd)
            taken.fd = passed_.claim_file(name);
        if (!taken.fd)
            return {};
        return handed_over_file{std::move(taken.fd), std::move(taken.record.bytes)};
    }

    /// What the parent hands over by name, or the manager passed, and nobody has claimed yet.
    [[nodiscard]] std::vector<std::string> unclaimed_files()
    {
        auto result = passed_.unclaimed_files();
        if (from_ != nullptr)
            for (auto const& one : from_->all())
                if (one.record.kind == handoff::descriptor_kind::connection && !one.claimed)
                    result.push_back(one.record.name);
        return result;
    }

    /// The parent's; an empty one if there is none.
    [[nodiscard]] handoff::inheritance::descriptor take(handoff::descriptor_kind kind, std::string const& name)
    {
        return from_ != nullptr ? from_->take(kind, name) : handoff::inheritance::descriptor{};
    }

    // ---- life

    /// This generation may accept. `unclaimed(name)` hears of what nobody claimed, which is closed.
    template <class Unclaimed>
    void accept(Unclaimed&& unclaimed)
    {
        came_of_store_ = store_.came(passed_, from_);
        if (auto* const from = std::exchange(from_, nullptr))
            from->close_unclaimed(unclaimed);
        passed_.close_unclaimed(unclaimed);
        inventory_.open(warn_);
    }

    /// The service is this generation's: so is the store.
    void fill_store()
    {
        store_.take_out_all_but_ours(std::exchange(came_of_store_, {}));
        store_.put_new();
    }

    /// All that is handed over in an upgrade; `channel`: our end of the one to the child, if there is to be one. Throws
    /// `error`.
    [[nodiscard]] handoff::bequest bequeath(bool with_channel, os::owned_fd& channel)
    {
        auto result = inventory_.bequeath();
        files_->bequeath(result);
        states_.bequeath(result);
        if (with_channel) {
            auto [ours, theirs] = make_channel();
            channel = std::move(ours);
            auto const kept = std::make_shared<os::owned_fd>(std::move(theirs));
            result.add({.kind = handoff::descriptor_kind::channel, .name = "channel", .bytes = {}}, *kept, kept);
        }
        return result;
    }

    /// The service is a child's.
    void hand_over(std::vector<handoff::record> const& records, std::vector<bool> const& claims, os::owned_fd channel)
    {
        child_channel_ = std::move(channel);
        inventory_.end_claimed(records, claims);
        states_.forget();
    }

private:
    [[nodiscard]] typename inventory<Io>::manager manager()
    {
        return {passed_,
                [this](handoff::record const& what, std::string why) {
                    warn_(std::move(why));
                    store_.take_out(what);
                    // It may be in the way of what is opened instead. The first generation's start is the one place that
                    // waits for the manager.
                    error_code ec;
                    auto const worked_off = notify_.barrier(ec);
                    if (!ec && worked_off)
                        static_cast<void>(os::is_readable_within(worked_off, std::chrono::seconds{1}));
                },
                warn_};
    }

    [[nodiscard]] static std::pair<os::owned_fd, os::owned_fd> make_channel()
    {
        int pair[2];
        error_code ec;
        os::call(ec, [&] { return ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair); });
        if (ec)
            throw error{ec, "make the channel"};
        return {os::owned_fd{pair[0]}, os::owned_fd{pair[1]}};
    }

    Io& io_;
    Notify& notify_;
    warn warn_;
    std::shared_ptr<open_connections> connections_ = std::make_shared<open_connections>();
    inventory<Io> inventory_;
    std::shared_ptr<offered_files> files_ = std::make_shared<offered_files>();
    ecdysis::states states_;
    systemd::activation passed_; ///< by the service manager, to the first generation, until it is ready
    systemd::descriptor_store<Io, Notify> store_;
    std::vector<handoff::record> came_of_store_; ///< what the store had of this line at commit
    handoff::inheritance* from_ = nullptr;       ///< null where nothing can be inherited, any more
    os::owned_fd parent_channel_;
    os::owned_fd child_channel_;
};

} // namespace ecdysis

#endif
