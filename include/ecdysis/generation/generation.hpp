// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_GENERATION_HPP
#define ECDYSIS_GENERATION_GENERATION_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/drain_run.hpp>
#include <ecdysis/generation/holdings.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/generation/only_upgrader.hpp>
#include <ecdysis/generation/pid_file.hpp>
#include <ecdysis/generation/signal_triggers.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/handoff/child_side.hpp>
#include <ecdysis/handoff/parent_side.hpp>
#include <ecdysis/io/outcome.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/offer.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/systemd/activation.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// One process in the line: what `upgrader` is the facade of. It joins the two sides of the protocol with what
/// concerns the whole process: what it holds, triggers, the pid file, exits and the drain.
///
/// Every member is called with the lock of the io policy held, but for the constructor and the destructor.
template <class Io, class Notify, class Transport, class Launch>
class generation
{
public:
    using io_policy = Io;
    using notify_policy = Notify;
    using transport_policy = Transport;
    using launch_policy = Launch;
    using handle = typename Io::handle;

    struct policy_set
    {
        Io io;
        [[no_unique_address]] Notify notify;
        [[no_unique_address]] Transport transport;
        [[no_unique_address]] Launch launch;
    };

    generation(policy_set chosen, ecdysis::options options)
        : policies{std::move(chosen)}, options_{std::move(options)}
    {
        auto const hold = policies.io.lock();
        parent_side_.emplace(*this, launch::program{options_.program, options_.arguments});
        if (auto const variable = handoff::take_variable()) {
            life_ = life{false, policies.notify.supervised()};
            child_side_.emplace(*this, *variable);
            tell(events::inherited{child_side_->inheritance().size(), child_side_->parent()});
        }
        try {
            set_up();
        } catch (std::exception const& e) {
            control_.close(child_side_ ? os::unlinked::fresh : os::unlinked::all);
            fail(e.what());
            throw;
        }
    }
    generation(generation const&) = delete;
    generation& operator=(generation const&) = delete;

    ~generation()
    {
        // All that a callback could still touch goes with the lock held, and whoever waits hears that it is over.
        auto const hold = policies.io.lock();
        if (!in_fork()) {
            parent_side_->leave();
            close();
        }
        holdings_.files()->on_withdrawal(nullptr);
        parent_side_.reset();
        child_side_.reset();
        supervision_.close();
        alive_.reset();
        error_code const gone{ECANCELED, boost::system::system_category()}; // Asio's operation_aborted
        ready_.set(gone);
        exit_.set(gone);
        drained_.set(gone);
    }

    // ---- what the host does

    [[nodiscard]] unsigned number() const noexcept { return child_side_ ? child_side_->number() : 0; }
    [[nodiscard]] std::shared_ptr<open_connections> const& connections() const noexcept { return holdings_.connections(); }
    [[nodiscard]] std::shared_ptr<offered_files> const& files() const noexcept { return holdings_.files(); }
    [[nodiscard]] ecdysis::states& states() noexcept { return holdings_.states(); }
    [[nodiscard]] os::owned_fd take_parent_channel() noexcept { return holdings_.take_parent_channel(); }
    [[nodiscard]] os::owned_fd take_child_channel() noexcept { return holdings_.take_child_channel(); }

    [[nodiscard]] auto claim_or_open(socket_kind kind, address const& where, listen_options const& options)
    {
        return remembering([&] {
            check_claiming([&] { return sockets::describe(kind, where); });
            auto result = holdings_.claim_or_open(kind, where, options, life_.has_accepted());
            store_new();
            return result;
        });
    }

    [[nodiscard]] auto claim_or_open_shards(socket_kind kind, address const& where, std::size_t count,
                                            listen_options options)
    {
        return remembering([&] {
            check_claiming([&] { return sockets::describe(kind, where); });
            auto result = holdings_.claim_or_open_shards(kind, where, count, std::move(options), life_.has_accepted());
            store_new();
            return result;
        });
    }

    [[nodiscard]] std::optional<handed_over_file> claim(std::string const& name)
    {
        check_claiming([&] { return name; });
        return holdings_.claim(name);
    }

    [[nodiscard]] offer keep(std::string name, int fd)
    {
        auto result = offer_file(files(), std::move(name), fd, {}, true);
        store_new();
        return result;
    }

    [[nodiscard]] std::vector<std::string> unclaimed_files() { return holdings_.unclaimed_files(); }

    [[nodiscard]] std::optional<inherited_state> state(std::string const& name)
    {
        return states().take(name, life_.has_accepted());
    }

    [[nodiscard]] outcome<nothing>& begin_ready()
    {
        if (std::exchange(ready_begun_, true) || ready_.known())
            return ready_;
        if (child_side_ || !signals_.hears_stops()) {
            become_ready();
            return ready_;
        }
        // A stop that has come is heard within two turns of the host's loop.
        auto& io = policies.io;
        ready_turn_ = io.at(io::clock::now(), [this, &io] {
            ready_turn_ = io.at(io::clock::now(), [this] {
                ready_turn_ = {};
                if (!ready_.known())
                    become_ready();
            });
        });
        return ready_;
    }

    outcome<exit>& begin_wait()
    {
        if (child_side_ && life_.has_accepted() && !exit_.known() && !std::exchange(said_serving_, true)) {
            tell(events::serving{}); // before anybody else can say that it is so
            child_side_->serves();
        }
        return exit_;
    }

    [[nodiscard]] outcome<std::size_t>& begin_drain(std::chrono::milliseconds deadline)
    {
        if (life_.drains() || drained_.known())
            return drained_;
        tell(events::draining{connections()->count()});
        connections()->begin_draining();
        supervision_.drains([this] { return connections()->count(); }, deadline);
        drain_.emplace(policies.io, connections(), deadline, options_.idle_grace,
                       typename drain_run<Io>::calls{
                           [this] { post([this] { check_drained(); }); },
                           [this] { tell(events::closing_idle{connections()->count()}); },
                           [this] { perform(life_.on(life::event::drain_deadline, parent_side_->awaits_end())); }});
        perform(life_.on(life::event::drain_begins));
        return drained_;
    }

    void ask(request what, trigger by, requester who)
    {
        if (what != request::upgrade)
            return ask_to_stop(what, by, std::move(who));
        if (life_.may_upgrade() || life_.leaves())
            return parent_side_->upgrade(by, std::move(who));
        // From commit on the upgrade that made this generation runs until the service is its own.
        tell(events::refused{by, life_.has_accepted() ? errc::busy : errc::not_serving});
        who.answer(life_.has_accepted() ? "busy" : "failed reason=\"not serving\"");
    }

    /// `f()` from where this generation runs, if it still does by then. From any thread, without the lock.
    template <class F>
    void post(F f)
    {
        policies.io.post([alive = std::weak_ptr{alive_}, f = std::move(f)] {
            if (!alive.expired())
                f();
        });
    }

    void fail(std::string const& why, error_code ec = errc::child_failed)
    {
        if (child_side_)
            child_side_->fail(why, ec);
    }

    // ---- what both sides of the protocol need

    policy_set policies;

    [[nodiscard]] ecdysis::options const& options() const noexcept { return options_; }
    /// This is a process that the host forked: all that is here is its parent's, and its end says nothing to anybody. (A
    /// host on Asio has to see to its context itself: the epoll instance is shared, see fork(2) and notify_fork.)
    [[nodiscard]] bool in_fork() const noexcept { return os::this_process() != process_; }

    void tell(event::variant what) noexcept // what an observer throws would leave an upgrade half way
    {
        if (options_.observer)
            options_.observer(event{std::chrono::system_clock::now(), std::chrono::steady_clock::now(), number(),
                                    os::this_process(), during(), std::move(what)});
    }
    void warn(std::string what)
    {
        if (child_side_)
            child_side_->add_warning(what);
        tell(events::warning{std::move(what)});
    }

    /// Whether the stop that was asked for is a partial one.
    [[nodiscard]] bool stops_partially() const noexcept
    {
        return leaving_ && leaving_->why == exit::kind::partially_stopped;
    }

    /// Accepting ends, and nobody follows. `partially`: what the other generation was told, if it was that one.
    void begin_stop(bool partially)
    {
        perform(life_.on(life::event::stopped));
        leave(stop_kind(partially), {.from = trigger::source::handoff});
        auto const why = *leaving_;
        kept_signal_.reset();
        tell(events::stopping{why});
        say_stopping();
        holdings_.sockets().resume(); // what waits in a paused queue is accepted first
        holdings_.sockets().end_for_stop(life_.unlinks());
        drop_unread_state(handover::late);
        ready_.set(errc::stopped);
        exit_.set({}, why);
        if (why.why == exit::kind::partially_stopped)
            answer_stop_requesters();
        connections()->begin_draining();
    }

    // ---- what the parent's side needs

    [[nodiscard]] notify::supervision<Io, Notify>& supervision() noexcept { return supervision_; }
    /// The service manager is our parent process.
    [[nodiscard]] bool is_managers_child() const noexcept
    {
        return child_side_ ? child_side_->is_sibling() : policies.notify.started_us();
    }

    [[nodiscard]] handoff::bequest bequeath(os::owned_fd& channel)
    {
        auto result = holdings_.bequeath(options_.channel, channel);
        control_.bequeath(result);
        if (pid_file_.file())
            result.add({.kind = handoff::descriptor_kind::pid_file, .name = pid_file_.path(), .bytes = {}}, pid_file_.file());
        if (result.records.size() > handoff::max_descriptors)
            throw error{errc::descriptor_limit, "hand over " + std::to_string(result.records.size()) + " descriptors"};
        return result;
    }

    void fill_late_state() { states().fill_late(); }
    void undo_state()
    {
        states().undo();
        post([this] { store_new(); }); // of what was opened meanwhile the child would not have known
    }

    void pause(std::vector<handoff::record> const& records, std::vector<bool> const& claims)
    {
        holdings_.sockets().pause(records, claims);
    }
    void resume() { holdings_.sockets().resume(); }
    void pause_doors() { control_.pause(); }
    void open_doors() { watch_doors(); }

    /// The service is the child's.
    void retire(std::vector<handoff::record> const& records, std::vector<bool> const& claims, os::owned_fd channel,
                trigger by)
    {
        perform(life_.on(life::event::child_took));
        signal_delay_ = {};
        holdings_.hand_over(records, claims, std::move(channel));
        control_.hand_over(records, claims);
        drop_unread_state(handover::late);
        exit_.set({}, {exit::kind::upgraded, by});
        connections()->begin_draining();
        if (auto const late = take_signal(); late && !parent_side_->pass_signal_on())
            warn("signal " + std::to_string(late->signal) + " came too late for an upgrade");
    }

    /// A signal that came during the upgrade, once.
    [[nodiscard]] std::optional<trigger> take_signal() noexcept { return std::exchange(kept_signal_, {}); }
    void keep_signal(trigger by)
    {
        if (!std::exchange(kept_signal_, by))
            tell(events::postponed{by});
    }

    /// A child that was killed may have left its part of the pid file.
    void child_ended(os::process_id child) { pid_file_.discard_of(child); }

    /// The upgrade has failed, and this generation serves on.
    void upgrade_is_over()
    {
        if (kept_signal_)
            post([this] { begin_kept(); });
    }

    /// Either side has come further: the drain may have waited for that.
    void handoff_moved()
    {
        if (life_.drains() && !life_.drained())
            post([this] { check_drained(); });
    }

    // ---- what the child's side needs

    /// The child's commit: this generation may accept.
    void accept()
    {
        error_code ec;
        signals_.install_late(ec);
        if (ec)
            warn("handle the signals that ask for a stop: " + ec.message());
        begin_accepting();
        ready_.set({});
        if (exit_.awaited()) // since before the commit, when it could not be said
            begin_wait();
    }

    /// The service is this generation's. `signal_came`: to its parent, for an upgrade.
    void take_service(bool signal_came)
    {
        perform(life_.on(life::event::service_ours));
        began_ = io::clock::now();
        supervision_.takes_over();
        holdings_.fill_store();
        if (pid_file_)
            try {
                pid_file_.publish();
            } catch (error const& e) {
                warn(e.what());
            }
        watch_doors();
        if (signal_came)
            heed_passed_signal();
        else if (kept_signal_)
            post([this] { begin_kept(); });
    }

    /// A signal for an upgrade came to the parent, and was meant for whoever has the service.
    void heed_passed_signal()
    {
        keep_signal({.from = trigger::source::handoff});
        post([this] { begin_kept(); });
    }

    /// The service was given to a generation that stops: it ends with this one.
    void end_service()
    {
        perform(life_.on(life::event::service_ours));
        say_stopping();
    }

    void give_up(error_code why, std::string const& text)
    {
        perform(life_.on(life::event::gave_up));
        auto const what = tried(text, why);
        warn(error{why, what}.what());
        ready_.set(why, {}, what);
        exit_.set(why, {}, what);
    }

private:
    void set_up()
    {
        if (options_.socket_activation && child_side_)
            static_cast<void>(systemd::listen_variables::take()); // the parent claimed what they announced
        else if (options_.socket_activation)
            holdings_.take_passed();
        if (child_side_)
            holdings_.inherit(child_side_->inheritance());
        files()->on_withdrawal([this](std::string const& name, os::identity which) { withdrawn(name, which); });
        for (auto const& [what, where] : {std::pair{request::upgrade, options_.control.upgrade},
                                          std::pair{request::stop, options_.control.stop},
                                          std::pair{request::partial_stop, options_.control.partial_stop}})
            if (!where.empty())
                control_.open(what, where, [this](std::string const& name) {
                    return holdings_.take(handoff::descriptor_kind::control, name);
                });
        if (!options_.pid_file.empty()) {
            auto const path = pid_file::absolute(options_.pid_file);
            pid_file_ = pid_file{path, holdings_.take(handoff::descriptor_kind::pid_file, path).fd};
        }
        if (!child_side_)
            supervision_.starts(options_);
        error_code ec;
        signals_.install_early(
            policies.io, options_, child_side_ ? child_side_->blocked() : std::vector<int>{},
            [this](request what, trigger by) { on_signal(what, by); }, ec);
        if (ec)
            throw error{ec, "handle the signals that were named"};
        if (child_side_)
            child_side_->watch(ec);
        if (ec)
            throw error{ec, "watch the parent"};
        if (!child_side_)
            for (auto& sentence : policies.notify.advice())
                warn(std::move(sentence));
    }

    void become_ready()
    {
        try {
            error_code ec;
            policies.notify.check(ec);
            if (ec)
                throw error{ec, "tell the service manager"};
            if (pid_file_)
                pid_file_.prepare();
            if (!child_side_)
                first_ready();
            else
                child_side_->ready();
        } catch (error const& e) {
            ready_.set(e.code(), {}, tried(e.what(), e.code()));
            if (child_side_)
                fail(e.what(), e.code());
            else
                warn(e.what());
        }
    }

    void first_ready()
    {
        error_code ec;
        signals_.install_late(ec);
        if (ec)
            throw error{ec, "handle the signals that ask for a stop"};
        if (pid_file_)
            pid_file_.publish();
        supervision_.serves();
        begin_accepting();
        perform(life_.on(life::event::service_ours));
        began_ = io::clock::now();
        holdings_.fill_store();
        watch_doors();
        ready_.set({});
        tell(events::serving{});
        if (kept_signal_)
            post([this] { begin_kept(); });
    }

    void begin_accepting()
    {
        holdings_.accept([this](std::string const& name) { tell(events::unclaimed{name}); });
        drop_unread_state(handover::early);
        perform(life_.on(life::event::committed));
    }

    void watch_doors()
    {
        error_code ec;
        control_.start(
            policies.io,
            [this](request what, trigger by, requester who) { ask(what, by, std::move(who)); }, ec);
        if (ec)
            warn("watch the control sockets: " + ec.message() + "; trying again");
    }

    // ---- the service manager's store

    /// During an upgrade it is not told: the child would not know of it, and this generation is not heard any more when
    /// that serves.
    void store_new()
    {
        if (life_.may_upgrade() && !parent_side_->upgrading())
            holdings_.store().put_new();
    }

    /// From any thread. The host's own end is no withdrawal: then nobody runs what is posted.
    void withdrawn(std::string const& name, os::identity which) noexcept
    try {
        if (in_fork())
            return;
        post([this, name, which] {
            if (!life_.is_main() || life_.stops() || exit_.known())
                return;
            holdings_.store().withdraw(name, which);
            store_new();
        });
    } catch (...) {
        // No memory to post it: it stays in the store, as if this process had ended here.
    }

    // ---- triggers

    void on_signal(request what, trigger by)
    {
        if (what != request::upgrade)
            return ask_to_stop(what, by, {});
        if (life_.now() == life::state::retired) // whoever sent it may have read an older pid; later it is dropped
            return static_cast<void>(parent_side_->pass_signal_on());
        if (life_.leaves() || life_.stops())
            return;
        if (!life_.may_upgrade() || parent_side_->upgrading())
            return keep_signal(by);
        // Sooner than is good: all that come until then are one.
        auto const earliest = std::max(began_, parent_side_->last_ended()) + options_.signal_interval;
        if (io::clock::now() >= earliest)
            return ask(request::upgrade, by, {});
        if (!signal_delay_)
            signal_delay_ = policies.io.at(earliest, [this, by] {
                signal_delay_ = {};
                on_signal(request::upgrade, by);
            });
    }

    void begin_kept()
    {
        if (life_.may_upgrade() && !parent_side_->upgrading())
            if (auto const by = take_signal())
                ask(request::upgrade, *by, {});
    }

    void ask_to_stop(request what, trigger by, requester who)
    {
        if (who)
            stop_requesters_.push_back(std::move(who));
        bool const first = !life_.stops();
        auto const todo = life_.on(by.from == trigger::source::signal ? life::event::stop_signal : life::event::stop_request);
        if (first || (leaving_ && leaving_->by.from == trigger::source::handoff))
            leave(stop_kind(what == request::partial_stop), by);
        if (stops_partially() && life_.leaves())
            answer_stop_requesters();
        perform(todo);
    }

    void pass_stop()
    {
        kept_signal_.reset();
        signal_delay_ = {};
        bool const unheard = child_side_ && child_side_->answers_to_parent();
        if (child_side_) {
            child_side_->remember("stopped");
            child_side_->stop();
        }
        if (!unheard)
            parent_side_->stop();
    }

    void perform(life::actions const& todo)
    {
        for (auto const action : todo)
            switch (action) {
            case life::action::pass_stop: pass_stop(); break;
            case life::action::count_open: check_drained(); break;
            case life::action::arm_grace:
                drain_->extend(options_.kill_grace, [this] { perform(life_.on(life::event::grace_deadline)); });
                break;
            case life::action::finish: finish_drain(); break;
            }
    }

    /// The manager hears it from the process that it takes for the main one.
    void say_stopping()
    {
        if (!life_.is_main() || !leaving_)
            return;
        if (leaving_->why == exit::kind::stopped)
            supervision_.stops();
        else // the process lives on, and a kept duplicate would listen on
            holdings_.store().take_out_sockets();
    }

    // ---- the drain

    void check_drained()
    {
        if (!life_.drains() || life_.drained() || connections()->count() != 0 || holds_drain())
            return;
        // What stayed open during the drain ends first: it may have accepted one more just now.
        holdings_.sockets().end_all();
        if (connections()->count() == 0)
            perform(life_.on(life::event::nothing_open));
    }

    void finish_drain()
    {
        auto const left = connections()->count();
        tell(events::drained{left});
        if (!life_.leaves()) // the host has not waited for an exit, and goes: a child that serves has the service
            parent_side_->leave();
        close();
        drained_.set({}, left);
    }

    [[nodiscard]] bool holds_drain() const noexcept
    {
        return parent_side_->holds_drain() || (child_side_ && child_side_->holds_drain());
    }

    /// Lets everything go, once: what still arrives is the next generation's, or nobody's.
    void close()
    {
        drain_.reset();
        signal_delay_ = {};
        ready_turn_ = {};
        supervision_.close();
        signals_.close();
        holdings_.sockets().close(life_.unlinks());
        control_.close(life_.unlinks());
        if (life_.is_main())
            pid_file_.remove_if_names({process_, child_side_ ? child_side_->parent() : process_});
        else if (life_.now() == life::state::retired) // a child that has the same file has written it by now
            pid_file_.remove_if_ours();
        pid_file_.discard();
        parent_side_->forget_children();
        answer_stop_requesters();
    }

    [[nodiscard]] static exit::kind stop_kind(bool partially) noexcept
    {
        return partially ? exit::kind::partially_stopped : exit::kind::stopped;
    }

    /// The first stop counts; one that was passed on is that of a trigger that comes later.
    void leave(exit::kind why, trigger by)
    {
        if (!leaving_)
            leaving_ = exit{why, by};
        else if (leaving_->by.from == trigger::source::handoff)
            leaving_->by = by;
    }

    void answer_stop_requesters()
    {
        for (auto& who : std::exchange(stop_requesters_, {}))
            who.answer(std::string{"ok exit="} + (stops_partially() ? "partially-stopped" : "stopped") +
                       " connections=" + std::to_string(connections()->count()));
    }

    // ---- means

    void drop_unread_state(handover when)
    {
        for (auto const& name : states().drop_unread(when))
            tell(events::unclaimed{"state " + name});
    }

    /// What a host ran into is what the parent should hear if this generation then ends before it was ready.
    template <class F>
    auto remembering(F&& f)
    {
        try {
            return f();
        } catch (error const& e) {
            if (child_side_)
                child_side_->remember(e.what());
            throw;
        }
    }

    /// `what()` names what is claimed.
    template <class F>
    void check_claiming(F&& what) const
    {
        if (child_side_ && !life_.has_accepted() && !child_side_->claiming())
            throw error{errc::too_late, "claim " + what()};
        if (life_.leaves() || life_.stops())
            throw error{errc::not_serving, "claim " + what()};
    }

    [[nodiscard]] phase during() const noexcept
    {
        if (life_.leaves() || life_.stops())
            return phase::draining;
        if (!life_.has_accepted())
            return phase::starting;
        return parent_side_ ? parent_side_->during() : phase::serving;
    }

    os::process_id const process_ = os::this_process();
    only_upgrader only_;
    ecdysis::options options_;
    life life_{true, policies.notify.supervised()};
    bool ready_begun_ = false;
    bool said_serving_ = false;
    io::clock::time_point began_{}; ///< the service became this generation's

    std::optional<exit> leaving_; ///< the stop that was asked for, if any
    std::vector<requester> stop_requesters_;
    std::optional<trigger> kept_signal_; ///< asks for an upgrade that could not begin yet

    outcome<nothing> ready_;
    outcome<exit> exit_;
    outcome<std::size_t> drained_;

    notify::supervision<Io, Notify> supervision_{policies.io, policies.notify, [this](std::string what) { warn(std::move(what)); }};
    holdings<Io, Notify> holdings_{policies.io, policies.notify, supervision_, [this](std::string what) { warn(std::move(what)); }};
    control_server<Io> control_;
    pid_file pid_file_;
    signal_triggers<Io> signals_;
    handle signal_delay_;
    handle ready_turn_;
    std::optional<drain_run<Io>> drain_;

    std::optional<handoff::child_side<generation>> child_side_;
    std::optional<handoff::parent_side<generation>> parent_side_;

    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); ///< for what was posted and comes late
};

} // namespace ecdysis

#endif
