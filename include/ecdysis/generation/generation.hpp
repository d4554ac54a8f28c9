// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_GENERATION_HPP
#define ECDYSIS_GENERATION_GENERATION_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/inventory.hpp>
#include <ecdysis/generation/only_upgrader.hpp>
#include <ecdysis/generation/pid_file.hpp>
#include <ecdysis/generation/signal_triggers.hpp>
#include <ecdysis/generation/states.hpp>
#include <ecdysis/handoff/child_side.hpp>
#include <ecdysis/handoff/parent_side.hpp>
#include <ecdysis/io/outcome.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/offer.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/systemd/activation.hpp>
#include <ecdysis/systemd/descriptor_store.hpp>


#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// One process in the line: what `upgrader` is the facade of. It joins the two sides of the protocol with what
/// concerns the whole process: descriptors, triggers, the pid file, exits and the drain.
///
/// Every member is called with the lock of the io policy held, but for the constructor and the destructor.
template <class Io, class Notify, class Transport, class Launch>
class generation
{
public:
    using io_policy = Io;
    using notify_policy = Notify;
    using transport_policy = Transport;
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
            child_side_.emplace(*this, *variable);
            tell(events::inherited{child_side_->inheritance().size(), child_side_->parent()});
            try {
                set_up();
            } catch (std::exception const& e) {
                control_.close(os::unlinked::fresh);
                fail(e.what());
                throw;
            }
        } else {
            try {
                set_up();
            } catch (...) {
                control_.close(os::unlinked::all);
                throw;
            }
        }
    }
    generation(generation const&) = delete;
    generation& operator=(generation const&) = delete;

    ~generation()
    {
        // All that a callback could still touch goes with the lock held, and whoever waits hears that it is over.
        auto const hold = policies.io.lock();
        if (!in_fork())
            close();
        files_->on_withdrawal(nullptr);
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
    [[nodiscard]] std::shared_ptr<open_connections> const& connections() const noexcept { return connections_; }
    [[nodiscard]] std::shared_ptr<offered_files> const& files() const noexcept { return files_; }
    [[nodiscard]] ecdysis::states& states() noexcept { return states_; }
    [[nodiscard]] os::owned_fd take_parent_channel() noexcept { return std::move(parent_channel_); }
    [[nodiscard]] os::owned_fd take_child_channel() noexcept { return std::move(child_channel_); }

    [[nodiscard]] std::shared_ptr<typename Io::source> claim_or_open(socket_kind kind, address const& where,
                                                                     listen_options const& options)
    {
        return remembering([&] {
            check_claiming([&] { return sockets::describe(kind, where); });
            auto const by = manager();
            auto result = inventory_.claim_or_open(policies.io, connections_, kind, where, options, inheritance(),
                                                   accepting_, &by);
            store_new();
            return result;
        });
    }

    [[nodiscard]] std::vector<std::shared_ptr<typename Io::source>>
    claim_or_open_shards(socket_kind kind, address const& where, std::size_t count, listen_options options)
    {
        return remembering([&] {
            check_claiming([&] { return sockets::describe(kind, where); });
            auto const by = manager();
            auto result = inventory_.claim_or_open_shards(policies.io, connections_, kind, where, count,
                                                          std::move(options), inheritance(), accepting_, &by);
            store_new();
            return result;
        });
    }

    [[nodiscard]] std::optional<handed_over_file> claim(std::string const& name)
    {
        check_claiming([&] { return name; });
        auto* const from = inheritance();
        auto taken = from != nullptr ? from->take(handoff::descriptor_kind::connection, name)
                                     : handoff::inheritance::descriptor{};
        if (!taken.fd)
            taken.fd = passed_.claim_file(name);
        if (!taken.fd)
            return {};
        return handed_over_file{std::move(taken.fd), std::move(taken.record.bytes)};
    }

    [[nodiscard]] offer keep(std::string name, int fd)
    {
        auto result = offer_file(files_, std::move(name), fd, {}, true);
        store_new();
        return result;
    }

    /// What the parent hands over by name, or the manager passed, and nobody has claimed yet.
    [[nodiscard]] std::vector<std::string> unclaimed_files()
    {
        auto result = passed_.unclaimed_files();
        if (auto* const from = inheritance())
            for (auto const& one : from->all())
                if (one.record.kind == handoff::descriptor_kind::connection && !one.claimed)
                    result.push_back(one.record.name);
        return result;
    }

    [[nodiscard]] std::optional<inherited_state> state(std::string const& name)
    {
        return states_.take(name, accepting_);
    }

    [[nodiscard]] outcome<nothing>& begin_ready()
    {
        if (ready_begun_ || ready_.known())
            return ready_;
        ready_begun_ = true;
        try {
            error_code ec;
            policies.notify.check(ec);
            if (ec)
                throw error{ec, "tell the service manager"};
            if (pid_file_)
                pid_file_.check();
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
        return ready_;
    }

    outcome<exit>& begin_wait()
    {
        if (child_side_ && !serving_ && child_side_->may_accept() && !exit_.known()) {
            serving_ = true;
            began_serving_ = io::clock::now();
            tell(events::serving{}); // before anybody else can say that it is so
            supervision_.takes_over(number());
            child_side_->serves();
        }
        return exit_;
    }

    [[nodiscard]] outcome<std::size_t>& begin_drain(std::chrono::milliseconds deadline)
    {
        if (draining_ || drained_.known())
            return drained_;
        draining_ = true;
        announce_draining();
        supervision_.drains([this] { return connections_->count(); }, deadline);
        auto& io = policies.io;
        connections_->watch([this] { post([this] { check_drained(); }); });
        drain_deadline_ = io.at(ecdysis::io::after(deadline), [this] { finish_drain(); });
        if (options_.idle_grace < deadline)
            close_idle_ = io.at(ecdysis::io::after(options_.idle_grace), [this] {
                tell(events::closing_idle{connections_->count()});
                connections_->begin_closing_idle();
            });
        check_drained();
        return drained_;
    }

    void ask(request what, trigger by, requester who)
    {
        if (what == request::upgrade) {
            if (!serving_ && !retired_ && !leaving_) { // else the machine says the same
                // From commit to serving both generations answer, and for both the upgrade between them still runs.
                tell(events::refused{by, accepting_ ? errc::busy : errc::not_serving});
                who.answer(accepting_ ? "busy" : "failed reason=\"not serving\"");
                return;
            }
            return parent_side_->upgrade(by, std::move(who));
        }
        if (who)
            stop_requesters_.push_back(std::move(who));
        // The same stop may come twice, by the other generation and by a signal to all processes: the second does not
        // end the drain.
        if (leaving_ && leaving_->by.from == trigger::source::handoff) {
            leaving_->by = by;
            if (stops_partially())
                answer_stop_requesters();
            return;
        }
        leave(stop_kind(what == request::partial_stop), by);
        stop();
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

    // ---- what the two sides of the protocol need

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
    void warn(std::string what) { tell(events::warning{std::move(what)}); }

    [[nodiscard]] notify::supervision<Io, Notify>& supervision() noexcept { return supervision_; }
    /// The service manager is our parent process.
    [[nodiscard]] bool is_managers_child() const noexcept
    {
        return child_side_ ? child_side_->is_sibling() : policies.notify.started_us();
    }

    [[nodiscard]] handoff::bequest bequeath(os::owned_fd& channel)
    {
        auto result = inventory_.bequeath();
        files_->bequeath(result);
        states_.bequeath(result);
        using kind = handoff::descriptor_kind;
        for (auto const& door : control_.doors())
            result.add({.kind = kind::control,
                        .name = door_name(door.what, door.where),
                        .bytes = {},
                        .device = door.path.device,
                        .inode = door.path.inode},
                       door.socket);
        if (pid_file_.file())
            result.add({.kind = kind::pid_file, .name = pid_file_.path(), .bytes = {}}, pid_file_.file());
        if (options_.channel) {
            auto [ours, theirs] = make_channel();
            channel = std::move(ours);
            auto const kept = std::make_shared<os::owned_fd>(std::move(theirs));
            result.add({.kind = kind::channel, .name = "channel", .bytes = {}}, *kept, kept);
        }
        if (result.records.size() > handoff::max_descriptors)
            throw error{errc::descriptor_limit, "hand over " + std::to_string(result.records.size()) + " descriptors"};
        return result;
    }

    void fill_late_state() { states_.fill_late(); }
    void undo_state()
    {
        states_.undo();
        post([this] { store_new(); }); // of what was opened meanwhile the child would not have known
    }

    void take_pid_file_back()
    {
        if (!pid_file_ || pid_file_.is_ours())
            return;
        try {
            pid_file_.write();
        } catch (error const& e) {
            warn(e.what());
        }
    }

    /// The parent's end: a child serves.
    void retire(std::vector<handoff::record> const& records, std::vector<bool> const& claims, os::owned_fd channel,
                trigger by)
    {
        retired_ = true;
        serving_ = false;
        child_channel_ = std::move(channel);
        inventory_.end_claimed(records, claims);
        close_doors(records, claims);
        drop_unread_state(handover::late);
        exit_.set({}, {exit::kind::upgraded, by});
        connections_->begin_draining();
    }

    /// The child's side was stopped: so is the service, whose life is the parent's machine's to know.
    void stop_serving(bool partially)
    {
        if (retired_)
            return; // it is the child's to hear, and the drain's end only by a stop of our own
        leave(stop_kind(partially), {.from = trigger::source::handoff});
        if (!exit_.known()) // else it stops already
            parent_side_->stop();
    }

    /// Whether the stop that was asked for is a partial one.
    [[nodiscard]] bool stops_partially() const noexcept
    {
        return leaving_ && leaving_->why == exit::kind::partially_stopped;
    }

    /// Accepting ends, and nobody follows. `partially`: what the other generation was told, if it was that one.
    void begin_stop(bool partially)
    {
        leave(stop_kind(partially), {.from = trigger::source::handoff});
        auto const why = *leaving_;
        serving_ = false;
        tell(events::stopping{why});
        // The manager listens to the child that it was told of.
        if (why.why == exit::kind::stopped && is_last() && !parent_side_->has_committed_child())
            supervision_.stops();
        if (why.why == exit::kind::partially_stopped) // the process lives on, and a kept duplicate would listen on
            store_.take_out_sockets();
        inventory_.end_for_stop(paths_to_unlink());
        drop_unread_state(handover::late);
        ready_.set(errc::stopped);
        exit_.set({}, why);
        if (why.why == exit::kind::partially_stopped)
            answer_stop_requesters();
        connections_->begin_draining();
    }

    void end_drain()
    {
        if (draining_)
            finish_drain();
        else
            drain_is_over_ = true;
    }

    /// The child's commit: this generation may accept.
    void take_over()
    {
        auto const stored = store_.came(passed_, inheritance());
        auto const tell_unclaimed = [this](std::string const& name) { tell(events::unclaimed{name}); };
        if (auto* const from = inheritance())
            from->close_unclaimed(tell_unclaimed);
        passed_.close_unclaimed(tell_unclaimed);
        drop_unread_state(handover::early);
        accepting_ = true;
        if (child_side_)
            supervision_.begins();
        inventory_.open([this](std::string what) { warn(std::move(what)); });
        store_.take_out_all_but_ours(stored);
        store_new();
        if (pid_file_ && child_side_)
            take_pid_file_back();
        error_code ec;
        control_.start(
            policies.io,
            [this](request what, trigger by, requester who) { ask(what, by, std::move(who)); }, ec);
        if (ec)
            warn("watch the control sockets: " + ec.message());
        ready_.set({});
        if (exit_.awaited()) // since before the commit, when it could not be said
            begin_wait();
    }

    void give_up(error_code why, std::string const& text)
    {
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
            passed_.take([this](std::string what) { warn(std::move(what)); });
        files_->on_withdrawal([this](std::string const& name, os::identity which) { withdrawn(name, which); });
        for (auto const& [what, where] : {std::pair{request::upgrade, options_.control.upgrade},
                                          std::pair{request::stop, options_.control.stop},
                                          std::pair{request::partial_stop, options_.control.partial_stop}})
            if (!where.empty())
                open_door(what, where);
        if (!options_.pid_file.empty()) {
            auto const path = pid_file::absolute(options_.pid_file);
            pid_file_ = pid_file{path, take(handoff::descriptor_kind::pid_file, path).fd};
        }
        parent_channel_ = take(handoff::descriptor_kind::channel, "channel").fd;
        if (auto* const from = inheritance())
            states_.inherit(*from);
        if (!child_side_)
            supervision_.starts(options_);
        error_code ec;
        signals_.install(
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

    void first_ready()
    {
        if (pid_file_)
            pid_file_.write();
        supervision_.serves();
        serving_ = true;
        began_serving_ = io::clock::now();
        take_over();
        tell(events::serving{});
    }

    // ---- the service manager's store

    [[nodiscard]] typename inventory<Io>::manager manager()
    {
        return {passed_,
                [this](handoff::record const& what, std::string why) {
                    warn(std::move(why));
                    store_.take_out(what);
                    // It may be in the way of what is opened instead. The first generation's start is the one place that
                    // waits for the manager.
                    error_code ec;
                    auto const worked_off = policies.notify.barrier(ec);
                    if (!ec && worked_off)
                        static_cast<void>(os::is_readable_within(worked_off, std::chrono::seconds{1}));
                },
                [this](std::string what) { warn(std::move(what)); }};
    }

    /// During an upgrade it is not told: the child would not know of it, and this generation is not heard any more when
    /// that serves.
    void store_new()
    {
        if (accepting_ && !retired_ && !leaving_ && !parent_side_->upgrading())
            store_.put_new();
    }

    /// From any thread. The host's own end is no withdrawal: then nobody runs what is posted.
    void withdrawn(std::string const& name, os::identity which) noexcept
    try {
        if (in_fork())
            return;
        post([this, name, which] {
            if (retired_ || leaving_ || exit_.known())
                return;
            store_.withdraw(name, which);
            store_new();
        });
    } catch (...) {
        // No memory to post it: it stays in the store, as if this process had ended here.
    }

    // ---- triggers

    void on_signal(request what, trigger by)
    {
        auto const earliest = std::max(began_serving_, parent_side_->last_ended()) + options_.signal_interval;
        if (what != request::upgrade || !serving_ || parent_side_->upgrading() || io::clock::now() >= earliest)
            return ask(what, by, {});
        // Sooner than is good: all that come until then are one.
        signal_delay_ = policies.io.at(earliest, [this, by] { ask(request::upgrade, by, {}); });
    }

    void stop()
    {
        bool const unheard = child_side_ && !child_side_->given_up() && !retired_ && !exit_.known();
        if (unheard)
            child_side_->stop();
        if (!unheard || serving_)
            parent_side_->stop();
    }

    // ---- the drain

    void announce_draining()
    {
        tell(events::draining{connections_->count()});
        connections_->begin_draining();
    }

    void check_drained()
    {
        if (!draining_ || drained_.known())
            return;
        // What stayed open during the drain ends first: it may have accepted one more just now.
        if (connections_->count() == 0 && !drain_is_over_)
            inventory_.end_all();
        if (connections_->count() == 0 || drain_is_over_)
            finish_drain();
    }

    void finish_drain()
    {
        if (drained_.known())
            return;
        auto const left = connections_->count();
        tell(events::drained{left});
        close();
        drained_.set({}, left);
    }

    /// Lets everything go, once: what still arrives is the next generation's, or nobody's.
    void close()
    {
        connections_->unwatch();
        drain_deadline_ = {};
        close_idle_ = {};
        signal_delay_ = {};
        supervision_.close();
        signals_.close();
        inventory_.close(paths_to_unlink());
        control_.close(paths_to_unlink());
        if (is_last() || retired_) // a child that has the same file has written it by now
            pid_file_.remove_if_ours();
        parent_side_->forget_child();
        answer_stop_requesters();
    }

    /// No other generation serves or will: paths, control sockets and the pid file end with this one, or with a child
    /// that stops with it.
    [[nodiscard]] bool is_last() const noexcept
    {
        return !retired_ && (!parent_side_->has_committed_child() || parent_side_->ends_service()) &&
               (!child_side_ || (accepting_ && !child_side_->may_be_taken_back()));
    }

    [[nodiscard]] os::unlinked paths_to_unlink() const noexcept
    {
        // A first generation that fails before it was ready leaves the paths of what it found in the manager's store to
        // the one that is started next.
        if (is_last())
            return child_side_ || accepting_ || leaving_ ? os::unlinked::all : os::unlinked::fresh;
        return retired_ || parent_side_->has_committed_child() ? os::unlinked::none : os::unlinked::fresh;
    }

    [[nodiscard]] static exit::kind stop_kind(bool partially) noexcept
    {
        return partially ? exit::kind::partially_stopped : exit::kind::stopped;
    }

    /// The first stop counts.
    void leave(exit::kind why, trigger by)
    {
        if (!leaving_)
            leaving_ = exit{why, by};
    }

    void answer_stop_requesters()
    {
        for (auto& who : std::exchange(stop_requesters_, {}))
            who.answer(std::string{"ok exit="} + (leaving_->why == exit::kind::stopped ? "stopped" : "partially-stopped") +
                       " connections=" + std::to_string(connections_->count()));
    }

    // ---- means

    void drop_unread_state(handover when)
    {
        for (auto const& name : states_.drop_unread(when))
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

    [[nodiscard]] handoff::inheritance* inheritance() noexcept
    {
        return child_side_ && !accepting_ ? &child_side_->inheritance() : nullptr;
    }

    [[nodiscard]] handoff::inheritance::descriptor take(handoff::descriptor_kind kind, std::string const& name)
    {
        auto* const from = inheritance();
        return from != nullptr ? from->take(kind, name) : handoff::inheritance::descriptor{};
    }

    /// `what()` names what is claimed.
    template <class F>
    void check_claiming(F&& what) const
    {
        if (child_side_ && !accepting_ && !child_side_->claiming())
            throw error{errc::too_late, "claim " + what()};
        if (retired_ || leaving_)
            throw error{errc::not_serving, "claim " + what()};
    }

    [[nodiscard]] static std::string door_name(request what, address const& where)
    {
        return std::string{name(what)} + " " + where.text();
    }

    void open_door(request what, std::string const& where)
    {
        auto inherited = take(handoff::descriptor_kind::control, door_name(what, address{where}));
        os::identity const path{inherited.record.device, inherited.record.inode};
        control_.open(what, where, std::move(inherited.fd), path);
    }

    /// A door that the child claimed is the child's; the path of one that it did not goes with us.
    void close_doors(std::vector<handoff::record> const& records, std::vector<bool> const& claims)
    {
        for (std::size_t i = 0; i != records.size(); ++i)
            if (records[i].kind == handoff::descriptor_kind::control && !claims[i])
                control_.unlink({records[i].device, records[i].inode});
        control_.hand_over();
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

    [[nodiscard]] phase during() const noexcept
    {
        if (retired_ || leaving_)
            return phase::draining;
        if (!accepting_)
            return phase::starting;
        return parent_side_ ? parent_side_->during() : phase::serving;
    }

    os::process_id const process_ = os::this_process();
    only_upgrader only_;
    ecdysis::options options_;
    std::shared_ptr<open_connections> connections_ = std::make_shared<open_connections>();
    inventory<Io> inventory_;
    std::shared_ptr<offered_files> files_ = std::make_shared<offered_files>();
    ecdysis::states states_;
    systemd::activation passed_; ///< by the service manager, to the first generation, until it is ready
    control_server<Io> control_;
    pid_file pid_file_;
    os::owned_fd parent_channel_;
    os::owned_fd child_channel_;

    bool ready_begun_ = false;
    bool accepting_ = false;     ///< committed, or the first generation is ready
    bool serving_ = false;       ///< and has said so; upgrades can be asked for
    bool retired_ = false;
    bool draining_ = false;
    bool drain_is_over_ = false; ///< told before the drain began
    std::optional<exit> leaving_; ///< the stop that was asked for, if any
    std::vector<requester> stop_requesters_;
    io::clock::time_point began_serving_{};

    outcome<nothing> ready_;
    outcome<exit> exit_;
    outcome<std::size_t> drained_;

    notify::supervision<Io, Notify> supervision_{policies.io, policies.notify, [this](std::string what) { warn(std::move(what)); }};
    systemd::descriptor_store<Io, Notify> store_{policies.notify, supervision_, inventory_, *files_,
                                                 [this](std::string what) { warn(std::move(what)); }};
    signal_triggers<Io> signals_;
    handle signal_delay_;
    handle drain_deadline_;
    handle close_idle_;

    std::optional<handoff::child_side<generation>> child_side_;
    std::optional<handoff::parent_side<generation>> parent_side_;

    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); ///< for what was posted and comes late
};

} // namespace ecdysis

#endif
