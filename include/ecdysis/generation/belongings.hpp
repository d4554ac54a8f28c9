// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_BELONGINGS_HPP
#define ECDYSIS_GENERATION_BELONGINGS_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/generation/context.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/holdings.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/generation/pid_file.hpp>
#include <ecdysis/generation/signal_triggers.hpp>
#include <ecdysis/generation/states.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/process.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// What belongs to one generation, according to its life: what it holds, its doors, its pid file, and what the service
/// manager hears of it.
template <class Io, class Notify, class Transport, class Launch>
class belongings : public context<Io, Notify, Transport, Launch>
{
    using base = context<Io, Notify, Transport, Launch>;

public:
    using base::options;
    using base::policies;
    using base::tell;
    using warn = std::function<void(std::string)>;

    belongings(typename base::policy_set chosen, ecdysis::options options, std::function<typename base::place()> where,
               warn w)
        : base{std::move(chosen), std::move(options), std::move(where)}, warn_{std::move(w)}
    {}

    [[nodiscard]] notify::supervision<Io, Notify>& supervision() noexcept { return supervision_; }
    [[nodiscard]] ecdysis::holdings<Io, Notify>& holdings() noexcept { return holdings_; }
    [[nodiscard]] ecdysis::holdings<Io, Notify> const& holdings() const noexcept { return holdings_; }
    [[nodiscard]] control_server<Io>& doors() noexcept { return control_; }

    /// All that is handed over in an upgrade. Throws `error`.
    [[nodiscard]] handoff::bequest bequeath(os::owned_fd& channel)
    {
        auto result = holdings_.bequeath(options().channel, channel);
        control_.bequeath(result);
        if (pid_file_.file())
            result.add({.kind = handoff::descriptor_kind::pid_file, .name = pid_file_.path(), .bytes = {}},
                       pid_file_.file());
        if (result.records.size() > handoff::max_descriptors)
            throw error{errc::descriptor_limit, "hand over " + std::to_string(result.records.size()) + " descriptors"};
        return result;
    }

    /// A child that was killed may have left its part of the pid file.
    void child_ended(os::process_id child) { pid_file_.discard_of(child); }

protected:
    // ---- what this generation takes

    /// What the options name: opened, or claimed from the parent. Throws `error`.
    void open_named()
    {
        control_.open(options().control, [this](std::string const& name) {
            return holdings_.take(handoff::descriptor_kind::control, name);
        });
        if (options().pid_file.empty())
            return;
        auto const path = pid_file::absolute(options().pid_file);
        pid_file_ = pid_file{path, holdings_.take(handoff::descriptor_kind::pid_file, path).fd};
    }

    /// Upgrade signals, and those stop signals that would not end this process (signal_triggers.hpp). Throws `error`.
    void hear_early_signals(std::vector<int> blocked, typename signal_triggers<Io>::asked f)
    {
        error_code ec;
        signals_.install_early(policies.io, options(), std::move(blocked), std::move(f), ec);
        if (ec)
            throw error{ec, "handle the signals that were named"};
    }
    [[nodiscard]] bool hears_early_stops() const noexcept { return signals_.hears_stops(); }
    /// The others, from ready or commit on. Throws `error`.
    void hear_stop_signals()
    {
        error_code ec;
        signals_.install_late(ec);
        if (ec)
            throw error{ec, "handle the signals that ask for a stop"};
    }

    /// The control sockets are this generation's to answer.
    void answer_doors(typename control_server<Io>::asked f)
    {
        error_code ec;
        control_.start(policies.io, std::move(f), ec);
        if (ec)
            warn_("watch the control sockets: " + ec.message() + "; trying again");
    }

    /// Where it is too late to fail.
    template <class F>
    void or_warn(F f)
    {
        try {
            f();
        } catch (error const& e) {
            warn_(e.what());
        }
    }

    /// Before ready: so that only a rename is left that can fail. Throws `error`.
    void prepare_pid_file()
    {
        if (pid_file_)
            pid_file_.prepare();
    }
    void publish_pid_file()
    {
        if (pid_file_)
            pid_file_.publish();
    }

    void begin_accepting()
    {
        holdings_.accept([this](std::string const& name) { tell(events::unclaimed{name}); });
        drop_unread_state(handover::early);
        static_cast<void>(life_.on(life::event::committed));
    }

    /// The service is this generation's.
    void begin_service()
    {
        static_cast<void>(life_.on(life::event::service_ours));
        began_ = io::clock::now();
        holdings_.fill_store();
    }
    [[nodiscard]] io::clock::time_point began() const noexcept { return began_; }

    // ---- what it leaves

    /// The service is a child's.
    void hand_over(std::vector<handoff::record> const& records, std::vector<bool> const& claims, os::owned_fd channel)
    {
        static_cast<void>(life_.on(life::event::child_took));
        holdings_.hand_over(records, claims, std::move(channel));
        control_.hand_over(records, claims);
        drop_unread_state(handover::late);
    }

    /// Accepting ends, and nobody follows.
    void end_accepting()
    {
        if (life_.is_main())
            holdings_.sockets().end_for_stop(life_.unlinks());
        else
            holdings_.sockets().end_for_parent();
        drop_unread_state(handover::late);
    }

    /// The manager hears it from the process that it takes for the main one.
    void say_stopping(bool partially)
    {
        if (!life_.is_main())
            return;
        if (!partially)
            return supervision_.stops();
        supervision_.stops_partially();
        holdings_.store().take_out_sockets(); // the process lives on, and a kept duplicate would listen on
    }

    /// What still arrives is the next generation's, or nobody's. `parent`: the pid file may still name it. `child_has_taken`:
    /// the child has said that it has the service.
    void leave_all(os::process_id parent, bool child_has_taken)
    {
        signals_.close();
        supervision_.close();
        holdings_.sockets().close(life_.unlinks());
        control_.close(life_.unlinks());
        if (life_.is_main())
            pid_file_.remove_if_names({this->process(), parent});
        else if (child_has_taken) // one that has the same file has written it by now; else it may do so between look and unlink
            pid_file_.remove_if_ours();
        pid_file_.discard();
    }

    // ---- the service manager's store

    /// A kept file was withdrawn, from any thread. The host's own end is no withdrawal: then nobody runs what is posted.
    /// `store_new` puts what is new there.
    template <class F>
    void withdrawn(std::string const& name, os::identity which, F store_new) noexcept
    try {
        if (this->in_fork())
            return;
        this->post([this, name, which, store_new] {
            if (!life_.is_main() || life_.stops())
                return;
            holdings_.store().withdraw(name, which);
            store_new();
        });
    } catch (...) {
        // No memory to post it: it stays in the store, as if this process had ended here.
    }

    [[nodiscard]] open_connections& connections() const noexcept { return *holdings_.connections(); }

    life life_{true, policies.notify.supervised()};

private:
    void drop_unread_state(handover when)
    {
        for (auto const& name : holdings_.states().drop_unread(when))
            tell(events::unclaimed{"state " + name});
    }

    warn warn_;
    notify::supervision<Io, Notify> supervision_{policies.io, policies.notify, warn_};
    ecdysis::holdings<Io, Notify> holdings_{policies.io, policies.notify, supervision_, warn_};
    control_server<Io> control_;
    pid_file pid_file_;
    signal_triggers<Io> signals_;
    io::clock::time_point began_{}; ///< the service became this generation's
};

} // namespace ecdysis

#endif
