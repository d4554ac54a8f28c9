// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_DESCRIPTOR_STORE_HPP
#define ECDYSIS_SYSTEMD_DESCRIPTOR_STORE_HPP

#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/inventory.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/offer.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/systemd/activation.hpp>
#include <ecdysis/systemd/stored_name.hpp>

#include <functional>
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

    /// Of files all go: those that are kept on are stored anew, for the store would have one more of that name.
    void take_out_all_but_ours(std::vector<handoff::record> const& came)
    {
        if (!notify_.stores())
            sockets_.leave_store();
        std::set<std::string> gone; // the store knows names, and shards have one for all
        for (auto const& one : came)
            if (!sockets_.has_stored(one))
                gone.insert(stored_name(one));
        for (auto const& name : gone)
            take_out(name);
    }

    /// What it was not told of yet.
    void put_new()
    {
        if (!notify_.stores())
            return;
        sockets_.keep_in_store([this](handoff::record const& what, os::borrowed_fd fd) { put(what, fd); });
        for (auto const& file : files_.take_unstored())
            put(file_record(file.name), *file.fd);
    }

    /// It is of no use.
    void take_out(handoff::record const& what) { take_out(stored_name(what)); }

    /// A file that was kept is kept no more; others of that name are new again.
    void withdraw(std::string const& file)
    {
        take_out(file_record(file));
        files_.took_out_of_store(file);
    }

private:
    void put(handoff::record const& what, os::borrowed_fd fd)
    {
        auto const name = stored_name(what);
        if (name.size() <= max_stored_name)
            manager_.say({.what = notify::step::kind::store, .name = name, .descriptor = fd});
        else
            warn_("keep " + what.name + " in the service manager's store: its name there, " + name + ", is longer than " +
                  std::to_string(max_stored_name) + " bytes; it is not kept");
    }

    void take_out(std::string const& name)
    {
        if (name.size() <= max_stored_name) // else it was not put in
            manager_.say({.what = notify::step::kind::unstore, .name = name});
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
