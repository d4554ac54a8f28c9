// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_DESCRIPTOR_STORE_HPP
#define ECDYSIS_SYSTEMD_DESCRIPTOR_STORE_HPP

#include <ecdysis/generation/inventory.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/offer.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/systemd/activation.hpp>
#include <ecdysis/systemd/stored_name.hpp>

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::systemd {

/// What the service manager keeps for when this service is started again: all that it listens on, but for what socket units
/// have, and the files that the host keeps. With the lock of the io policy held.
template <class Io, class Notify>
class descriptor_store
{
public:
    using warn = std::function<void(std::string)>;

    descriptor_store(Notify const& notify, notify::supervision<Io, Notify>& manager, inventory<Io>& sockets,
                     offered_files& files, warn w)
        : notify_{notify}, manager_{manager}, sockets_{sockets}, files_{files}, warn_{std::move(w)}
    {}
    descriptor_store(descriptor_store const&) = delete;
    descriptor_store& operator=(descriptor_store const&) = delete;

    /// What it has of this line, as this generation got it. `from`: null in the first one.
    [[nodiscard]] static std::vector<handoff::record> came(activation const& passed, handoff::inheritance const* from)
    {
        auto result = passed.stored();
        if (from != nullptr)
            for (auto const& one : from->all())
                if ((one.record.flags & handoff::in_store) != 0)
                    result.push_back(one.record);
        return result;
    }

    /// The store knows names, and shards have one for all: a name of which one is not ours any more goes, and what is ours
    /// of it is new again. So do all files: those that are kept on would be there twice.
    void take_out_all_but_ours(std::vector<handoff::record> const& came)
    {
        if (!notify_.stores())
            sockets_.leave_store([](auto const&) { return true; });
        std::map<std::string, std::ptrdiff_t> not_ours;
        for (auto const& one : came)
            ++not_ours[stored_name(one)];
        for (auto const& one : sockets_.stored())
            if (auto const found = not_ours.find(stored_name(one)); found != not_ours.end())
                --found->second;
        std::erase_if(not_ours, [](auto const& one) { return one.second <= 0; });
        for (auto const& [name, count] : not_ours)
            take_out(name);
        if (!not_ours.empty())
            sockets_.leave_store([&](handoff::record const& one) { return not_ours.contains(stored_name(one)); });
    }

    /// The sockets go, and the service goes on: a partial stop.
    void take_out_sockets()
    {
        std::set<std::string> names;
        for (auto const& one : sockets_.stored())
            names.insert(stored_name(one));
        for (auto const& name : names)
            take_out(name);
        sockets_.leave_store([](auto const&) { return true; });
    }

    /// What it was not told of yet. What cannot be sent is new again, and tried the next time.
    void put_new()
    {
        if (!notify_.stores())
            return;
        sockets_.keep_in_store([this](handoff::record const& what, auto const& source) {
            put(what, [source] { return source->fd(); },
                [this, what] { sockets_.leave_store([&](handoff::record const& one) { return is_same(one, what); }); });
        });
        for (auto const& file : files_.take_unstored())
            put(file_record(file.name), [fd = file.fd]() -> os::borrowed_fd { return *fd; },
                [this, name = file.name, which = file.which] { files_.took_out_of_store(name, which); });
    }

    /// It is of no use.
    void take_out(handoff::record const& what) { take_out(stored_name(what)); }

    /// A file that was kept is kept no more; others of that name are new again.
    void withdraw(std::string const& file, os::identity which)
    {
        take_out(file_record(file));
        files_.took_out_of_store(file, which);
    }

private:
    template <class Lender, class NotPut>
    void put(handoff::record const& what, Lender&& descriptor, NotPut not_put)
    {
        auto const name = stored_name(what);
        auto const done = [this, not_put = std::move(not_put)](error_code ec) {
            if (ec)
                not_put();
            if (ec != boost::system::errc::bad_file_descriptor) // closed before there was room for it
                manager_.warn_of(ec);
        };
        if (name.size() <= max_stored_name && !manager_.messages().handed_over())
            (void)manager_.messages().add({.what = notify::step::kind::store, .name = name}, done,
                                          std::forward<Lender>(descriptor));
        else if (name.size() > max_stored_name)
            warn_("keep " + what.name + " in the service manager's store: its name there, " + name + ", is longer than " +
                  std::to_string(max_stored_name) + " bytes; it is not kept");
    }

    void take_out(std::string const& name)
    {
        if (name.size() <= max_stored_name) // else it was not put in
            manager_.say({.what = notify::step::kind::unstore, .name = name});
    }

    [[nodiscard]] static bool is_same(handoff::record const& one, handoff::record const& other) noexcept
    {
        return one.kind == other.kind && one.name == other.name && one.index == other.index;
    }

    [[nodiscard]] static handoff::record file_record(std::string name)
    {
        return {.kind = handoff::descriptor_kind::connection, .name = std::move(name), .bytes = {}};
    }

    Notify const& notify_;
    notify::supervision<Io, Notify>& manager_;
    inventory<Io>& sockets_;
    offered_files& files_;
    warn warn_;
};

} // namespace ecdysis::systemd

#endif
