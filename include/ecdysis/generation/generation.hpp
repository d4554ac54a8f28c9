// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_GENERATION_HPP
#define ECDYSIS_GENERATION_GENERATION_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/generation/belongings.hpp>
#include <ecdysis/generation/claims.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/drainage.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/generation/only_upgrader.hpp>
#include <ecdysis/generation/stop_requests.hpp>
#include <ecdysis/generation/upgrade_signals.hpp>
#include <ecdysis/handoff/child_side.hpp>
#include <ecdysis/handoff/parent_side.hpp>
#include <ecdysis/io/outcome.hpp>
#include <ecdysis/io/turns.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/systemd/activation.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// One process in the line: what `upgrader` is the facade of. It joins the two sides of the protocol with what belongs to
/// the whole process, with its triggers, its exits and the drain.
///
/// Every member is called with the lock of the io policy held, but for the constructor and the destructor.
template <class Io, class Notify, class Transport, class Launch>
class generation : public belongings<Io, Notify, Transport, Launch>
{
    using base = belongings<Io, Notify, Transport, Launch>;
    using base::connections, base::life_;

public:
    using typename base::policy_set;
    using base::holdings;
    using base::in_fork;
    using base::options;
    using base::policies;
    using base::post;
    using base::supervision;
    using base::tell;

    generation(policy_set chosen, ecdysis::options options)
        : base{std::move(chosen), std::move(options), [this] { return typename base::place{number(), during()}; },
               [this](std::string what) { warn(std::move(what)); }}
    {
        auto const hold = policies.io.lock();
        parent_side_.emplace(*this, launch::program{this->options().program, this->options().arguments});
        if (auto const variable = handoff::take_variable()) {
            life_ = life{false, policies.notify.supervised()};
            child_side_.emplace(*this, *variable);
            tell(events::inherited{child_side_->inheritance().size(), child_side_->parent()});
        }
        try {
            set_up();
        } catch (std::exception const& e) {
            this->doors().close(child_side_ ? os::unlinked::fresh : os::unlinked::all);
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
        if (!in_fork())
            close();
        holdings().files()->on_withdrawal(nullptr);
        parent_side_.reset();
        child_side_.reset();
        supervision().close();
        this->end_posts();
        error_code const gone{ECANCELED, boost::system::system_category()}; // Asio's operation_aborted
        ready_.set(gone);
        exit_.set(gone);
        drain_.give_up(gone);
    }

    // ---- what the host does

    [[nodiscard]] unsigned number() const noexcept { return child_side_ ? child_side_->number() : 0; }
    [[nodiscard]] ecdysis::claims<Io, Notify>& claims() noexcept { return claims_; }

    [[nodiscard]] outcome<nothing>& begin_ready()
    {
        if (std::exchange(ready_begun_, true) || ready_.known())
            return ready_;
        if (child_side_ || !this->hears_early_stops())
            become_ready();
        else
            io::after_two_turns(policies.io, ready_turn_, [this] { become_ready(); });
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

    [[nodiscard]] outcome<std::size_t>& begin_drain(std::chrono::milliseconds after) { return drain_.begin(after); }

    void ask(request what, trigger by, requester who)
    {
        if (what != request::upgrade)
            return stop_.ask(what, by, std::move(who));
        if (life_.may_upgrade())
            return parent_side_->upgrade(by, std::move(who));
        // From commit on the upgrade that made this generation runs until the service is its own.
        bool const busy = life_.has_accepted() && !life_.leaves();
        tell(events::refused{by, busy ? errc::busy : errc::not_serving});
        who.answer(busy ? "busy" : "failed reason=\"not serving\"");
    }

    void fail(std::string const& why, error_code ec = errc::child_failed)
    {
        if (child_side_)
            child_side_->fail(why, ec);
    }

    void perform(life::actions const& todo) { drain_.perform(todo); }

    void pass_stop()
    {
        upgrade_signals_.clear();
        bool const unheard = child_side_ && child_side_->answers_to_parent();
        if (child_side_) {
            child_side_->remember("stopped");
            child_side_->stop();
        }
        if (!unheard)
            parent_side_->stop();
    }

    [[nodiscard]] bool holds_drain() const noexcept
    {
        return parent_side_->holds_drain() || (child_side_ && child_side_->holds_drain());
    }

    /// Lets everything go, once: what still arrives is the next generation's, or nobody's.
    void close()
    {
        parent_side_->leave(); // first: a child may be given the service
        if (child_side_)
            child_side_->leave(life_.drains());
        drain_.close();
        ready_turn_ = {};
        upgrade_signals_.clear();
        this->leave_all(child_side_ ? child_side_->parent() : this->process(), parent_side_->child_has_taken());
        stop_.answer();
    }

    [[nodiscard]] handoff::parent_side<generation>& parent_side() noexcept { return *parent_side_; }
    [[nodiscard]] io::clock::time_point earliest_upgrade() const noexcept
    {
        return std::max(this->began(), parent_side_->last_ended()) + options().signal_interval;
    }

    // ---- what both sides of the protocol need

    void warn(std::string what)
    {
        if (child_side_)
            child_side_->add_warning(what);
        tell(events::warning{std::move(what)});
    }

    [[nodiscard]] bool stops_partially() const noexcept { return stop_.is_partial(); }

    /// Accepting ends, and nobody follows. `partially`: what the other generation was told, if it was that one.
    void begin_stop(bool partially)
    {
        perform(life_.on(life::event::stopped));
        stop_.note(partially, {.from = trigger::source::handoff});
        auto const why = *stop_.why();
        upgrade_signals_.clear();
        tell(events::stopping{why});
        this->say_stopping(stop_.is_partial());
        this->end_accepting();
        ready_.set(errc::stopped);
        exit_.set({}, why);
        if (stop_.is_partial())
            stop_.answer();
        connections().begin_draining();
    }

    // ---- what the parent's side needs

    /// The service manager is our parent process.
    [[nodiscard]] bool is_managers_child() const noexcept
    {
        return child_side_ ? child_side_->is_sibling() : policies.notify.started_us();
    }

    void undo_state()
    {
        holdings().states().undo();
        post([this] { store_new(); }); // of what was opened meanwhile the child would not have known
    }

    /// The service is the child's.
    void retire(std::vector<handoff::record> const& records, std::vector<bool> const& claims, os::owned_fd channel,
                trigger by)
    {
        this->hand_over(records, claims, std::move(channel));
        exit_.set({}, {exit::kind::upgraded, by});
        if (stop_.is_partial())
            stop_.answer();
        connections().begin_draining();
        if (upgrade_signals_.take())
            static_cast<void>(parent_side_->pass_signal_on());
    }

    [[nodiscard]] upgrade_signals<generation>& signals() noexcept { return upgrade_signals_; }

    /// Either side has come further: the drain may have waited for that.
    void handoff_moved()
    {
        if (life_.drains() && !life_.drained())
            post([this] { drain_.check(); });
    }

    // ---- what the child's side needs

    void accept()
    {
        this->or_warn([this] { this->hear_stop_signals(); });
        this->begin_accepting();
        ready_.set({});
        if (exit_.awaited()) // since before the commit, when it could not be said
            begin_wait();
    }

    /// The service is this generation's. `signal_came`: to its parent, for an upgrade.
    void take_service(bool signal_came)
    {
        supervision().takes_over(); // first: the watchdog waits
        this->begin_service();
        this->or_warn([this] { this->publish_pid_file(); });
        watch_doors();
        tell(events::yours{});
        if (signal_came)
            return heed_passed_signal();
        upgrade_signals_.begin_kept();
    }

    /// A signal for an upgrade came to the parent, and was meant for whoever has the service.
    void heed_passed_signal()
    {
        upgrade_signals_.keep({.from = trigger::source::handoff});
        upgrade_signals_.begin_kept();
    }

    /// A frame says so, or a trigger of our own before the service was ours. An upgrade of our own may run by then.
    void stop_by_parent(bool partially)
    {
        if (life_.leaves())
            return;
        stop_.note(partially, {.from = trigger::source::handoff});
        life_.is_main() ? parent_side_->stop() : begin_stop(partially);
    }

    /// The service was given to a generation that stops: it ends with this one.
    void end_service()
    {
        perform(life_.on(life::event::service_ours));
        this->say_stopping(stop_.is_partial());
        watch_doors();
    }

    void give_up(error_code why, std::string const& text)
    {
        perform(life_.on(life::event::gave_up));
        auto const what = tried(text, why);
        warn(error{why, what}.what());
        ready_.set(why, {}, what);
        exit_.set(why, {}, what);
    }

    /// The control sockets are this generation's to answer.
    void watch_doors()
    {
        this->answer_doors([this](request what, trigger by, requester who) { ask(what, by, std::move(who)); });
    }

private:
    void set_up()
    {
        if (child_side_) {
            if (options().socket_activation)
                static_cast<void>(systemd::listen_variables::take()); // the parent claimed what they announced
            holdings().inherit(child_side_->inheritance());
        } else {
            if (options().socket_activation)
                holdings().take_passed();
            supervision().starts(options());
        }
        holdings().files()->on_withdrawal([this](std::string const& name, os::identity which) {
            this->withdrawn(name, which, [this] { store_new(); });
        });
        this->open_named();
        this->hear_early_signals(child_side_ ? child_side_->blocked() : std::vector<int>{}, [this](request what, trigger by) {
            what == request::upgrade ? upgrade_signals_.came(by) : stop_.ask(what, by, {});
        });
        if (child_side_)
            child_side_->watch();
        else
            for (auto& sentence : policies.notify.advice())
                warn(std::move(sentence));
    }

    void become_ready()
    try {
        if (ready_.known()) // a stop came first
            return;
        error_code ec;
        policies.notify.check(ec);
        if (ec)
            throw error{ec, "tell the service manager"};
        this->prepare_pid_file();
        child_side_ ? child_side_->ready() : first_ready();
    } catch (error const& e) {
        ready_.set(e.code(), {}, tried(e.what(), e.code()));
        child_side_ ? fail(e.what(), e.code()) : warn(e.what());
    }

    void first_ready()
    {
        this->hear_stop_signals();
        this->publish_pid_file();
        supervision().serves();
        this->begin_accepting();
        this->begin_service();
        watch_doors();
        ready_.set({});
        tell(events::serving{});
        tell(events::yours{});
        upgrade_signals_.begin_kept();
    }

    /// During an upgrade the manager's store is not told: the child would not know of it.
    void store_new()
    {
        if (life_.may_upgrade() && !parent_side_->upgrading())
            holdings().store().put_new();
    }

    [[nodiscard]] phase during() const noexcept
    {
        if (life_.leaves() || life_.stops())
            return phase::draining;
        if (!life_.has_accepted())
            return phase::starting;
        return parent_side_ ? parent_side_->during() : phase::serving;
    }

    only_upgrader only_;
    bool ready_begun_ = false;
    bool said_serving_ = false;

    outcome<nothing> ready_;
    outcome<exit> exit_;

    ecdysis::claims<Io, Notify> claims_{
        holdings(), life_,
        {[this] { return child_side_ && !child_side_->claiming(); },
         [this](std::string const& why) {
             if (child_side_)
                 child_side_->remember(why);
         },
         [this] { store_new(); }}};
    stop_requests<generation> stop_{*this, life_};
    upgrade_signals<generation> upgrade_signals_{*this, life_};
    typename Io::handle ready_turn_;
    drainage<generation> drain_{*this, life_};

    std::optional<handoff::child_side<generation>> child_side_;
    std::optional<handoff::parent_side<generation>> parent_side_;
};

} // namespace ecdysis

#endif
