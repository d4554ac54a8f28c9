// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_PARENT_SIDE_HPP
#define ECDYSIS_HANDOFF_PARENT_SIDE_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/handoff/attempt.hpp>
#include <ecdysis/handoff/child_words.hpp>
#include <ecdysis/handoff/event_queue.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/set_aside_child.hpp>
#include <ecdysis/handoff/upgrade_steps.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/program.hpp>

#include <algorithm>
#include <chrono>
#include <list>
#include <optional>
#include <string>
#include <utility>

namespace ecdysis::handoff {

/// Drives the parent's machine: results of the policies become its events, its actions calls of the policies.
/// Everything runs with the lock of the io policy held.
///
/// `Generation` gives the policies and does what concerns the whole process; see generation/generation.hpp.
template <class Generation>
class parent_side
{
    using steps = upgrade_steps<Generation>;
    using attempt = typename steps::attempt;
    using aside = set_aside_child<typename Generation::io_policy, typename Generation::launch_policy,
                                  typename Generation::transport_policy::end>;
    using state = parent::state;
    using occurrence = parent::event; // "event" is what an observer is told
    using action = parent::action;

public:
    parent_side(Generation& generation, launch::program program)
        : generation_{generation},
          steps_{generation, std::move(program), [this](occurrence what) { feed(what); },
                 [this](occurrence what) { events_.feed_first(what, [this](occurrence next) { work_off(next); }); }}
    {}
    parent_side(parent_side const&) = delete;
    parent_side& operator=(parent_side const&) = delete;

    void upgrade(trigger by, requester who)
    {
        asking_by_ = by;
        asking_ = std::move(who);
        feed(occurrence::upgrade);
        asking_ = {};
    }

    void stop()
    {
        if (machine_.upgrading())
            fail_with("stopped", errc::stopped);
        feed(occurrence::stop);
    }

    /// A signal that came late is passed on to the child, whose service it is. False: there is no way to.
    [[nodiscard]] bool pass_signal_on()
    {
        if (!attempt_ || !attempt_->link || (machine_.now() != state::yielded && machine_.now() != state::retired))
            return false;
        attempt_->link->send(yours{true});
        return true;
    }

    /// The host ends this generation now. Before the child serves it is killed, and waited for; after that it gets the
    /// service without being waited for: it hears of it when this process has ended.
    void leave()
    {
        if (std::exchange(left_, true))
            return;
        // Nobody looks any more at how a child ends; one that is set aside and does not answer is killed.
        for (auto& one : aside_)
            one.parent_leaves();
        if (attempt_ && attempt_->link && machine_.now() == state::committed)
            attempt_->link->read(256); // it may have said that it serves
        bool const serves = machine_.now() >= state::probation && machine_.now() <= state::yielding;
        if (serves && machine_.now() < state::confirming)
            generation_.supervision().hands_over(attempt_->pid, generation_.number() + 1);
        if (serves) {
            if (machine_.now() != state::yielding)
                attempt_->link->send(yours{generation_.signals().take().has_value()});
            if (machine_.stops_child())
                attempt_->link->send(handoff::stop{stop_reason()});
            retire();
            report_ok();
        } else if (machine_.upgrading() && attempt_) {
            steps_.end_child(*attempt_);
            fail_with("the service ended during the upgrade");
            report_failed();
        } else if (machine_.now() == state::yielded) {
            report_ok(); // its answer would only have been warnings
        }
        if (attempt_)
            attempt_->unwatch();
    }

    [[nodiscard]] bool upgrading() const noexcept { return machine_.upgrading(); }
    [[nodiscard]] bool child_has_taken() const noexcept { return attempt_ && attempt_->child_has_taken; }
    [[nodiscard]] io::clock::time_point last_ended() const noexcept { return last_ended_; }

    /// The drain is not over yet: a child is to be reaped, or to hear something.
    [[nodiscard]] bool holds_drain() const noexcept
    {
        bool const unconfirmed = attempt_ && attempt_->announcement && attempt_->announcement->was_sent() &&
                                 !attempt_->announcement->is_confirmed();
        return machine_.holds_drain() || awaits_end() || unconfirmed;
    }
    /// Nor is it at its deadline: only when a child has ended.
    [[nodiscard]] bool awaits_end() const noexcept
    {
        return machine_.now() == state::ending || std::ranges::any_of(aside_, &aside::holds_drain);
    }

    [[nodiscard]] phase during() const noexcept
    {
        if (machine_.now() == state::ending && attempt_)
            return attempt_->during;
        return phase_of(machine_.now());
    }

private:
    void feed(occurrence what)
    {
        events_.feed(what, [this](occurrence next) { work_off(next); });
    }

    void work_off(occurrence what)
    {
        if (attempt_ && machine_.upgrading() && machine_.now() != state::ending)
            attempt_->during = during();
        auto const before = machine_.now();
        auto const actions = machine_.on(what);
        if (attempt_ && machine_.now() != before) {
            attempt_->reaching.reset();
            if (before == state::announcing && machine_.now() != state::confirming)
                attempt_->announcement.reset(); // what was not sent yet is not sent any more
        }
        for (auto const todo : actions)
            perform(todo);
        if (attempt_ && machine_.now() == state::serving) {
            last_ended_ = io::clock::now();
            generation_.signals().begin_kept();
        }
        if (machine_.now() == state::serving || machine_.now() == state::stopped)
            attempt_.reset();
        generation_.handoff_moved();
    }

    void perform(action todo)
    {
        auto const& options = generation_.options();
        switch (todo) {
        case action::tell_reloading: return begin();
        case action::launch: return steps_.launch(*attempt_, [this] { launched(); });
        case action::send_next: return steps_.send_next(*attempt_);
        case action::reach_manager:
            generation_.tell(events::child_ready{attempt_->pid});
            return steps_.reach_manager(*attempt_);
        case action::commit: return steps_.commit(*attempt_);
        case action::pause:
            generation_.holdings().sockets().pause(attempt_->bequest.records, attempt_->claims);
            return generation_.tell(events::child_serves{attempt_->pid});
        case action::resume:
            generation_.holdings().sockets().resume();
            return generation_.tell(events::taken_back{attempt_->pid});
        case action::ask_alive: return attempt_->link->send(alive_question{});
        case action::announce:
            generation_.doors().pause(); // who asks from now on is answered by the child, or by us if that fails
            return steps_.announce(*attempt_);
        case action::settle: return steps_.settle(*attempt_);
        case action::send_yours: return steps_.send_yours(*attempt_);
        case action::retire: return retire();
        case action::stop:
            if (machine_.ends_service())
                fail_with("stopped", errc::stopped);
            return generation_.begin_stop(attempt_ && attempt_->partial_stop);
        case action::send_stop: return attempt_->link->send(handoff::stop{stop_reason()});
        case action::kill:
            attempt_->blame_words();
            return attempt_->child->kill();
        case action::give_up_launch: return steps_.end_child(*attempt_);
        case action::leave_alone:
            generation_.warn("the child, " + attempt_->child->name() + ", was killed, and is not waited for any longer");
            attempt_->link.reset();
            return put_aside(stop_reason());
        case action::set_aside:
            attempt_->blame_words();
            return put_aside(handoff::stop::reason::taken_back);
        case action::stop_child: return put_aside(stop_reason());
        case action::read_rest:
            steps_.read_rest(*attempt_);
            return events_.add(occurrence::nothing_left);
        case action::reap:
            steps_.reap(*attempt_);
            return generation_.child_ended(attempt_->pid);
        case action::close_handoff:
            disarm();
            attempt_->link.reset();
            attempt_->later = {};
            attempt_->channel.reset();
            return;
        case action::restore: return restore();
        case action::report_committed: return generation_.tell(events::committed{attempt_->pid, attempt_->since_trigger()});
        case action::report_ok: return report_ok();
        case action::report_failed: return report_failed();
        case action::report_manager_late:
            return generation_.warn("the service manager did not confirm within " +
                                    in_ms(options.barrier_timeout) + "; going on");
        case action::refuse_busy: return refuse(errc::busy, "busy");
        case action::refuse_not_serving: return refuse(errc::not_serving, "failed reason=\"not serving\"");
        case action::arm_ready: return arm(options.ready_timeout);
        case action::arm_barrier: return arm(options.barrier_timeout);
        case action::arm_serving: return arm(options.serving_timeout);
        case action::arm_probation: return arm(options.probation);
        case action::arm_taken: return arm(std::chrono::seconds{1});
        case action::arm_kill: return arm(options.kill_grace);
        case action::disarm: return disarm();
        }
    }

    // ---- the steps, in order

    void begin()
    {
        attempt_.emplace();
        attempt_->by = asking_by_;
        attempt_->who = std::move(asking_);
        generation_.tell(events::upgrade_requested{attempt_->by});
        generation_.supervision().upgrades(attempt_->by);
    }

    void launched()
    {
        attempt_->link->tell([this](heard what, frame& said, auto&, error_code ec) { hear(what, said, ec); });
        feed(occurrence::launched);
        error_code ec;
        attempt_->child->watch([this] { feed(occurrence::child_ended); }, ec, [this] {
            if (machine_.has_committed_child()) // nobody accepts, and how the child ended may be known late
                generation_.holdings().sockets().resume();
        });
        if (!ec)
            attempt_->link->watch(ec);
        if (ec) {
            fail_with("watch the child: " + ec.message(), ec);
            feed(occurrence::garbage);
        }
    }

    void retire()
    {
        generation_.retire(attempt_->bequest.records, attempt_->claims, std::move(attempt_->channel), attempt_->by);
        attempt_->bequest.keep.clear();
        // A signal that was sent to this process is heard for a while: who sent it may have read an older pid.
        auto const end = io::after(generation_.options().signal_interval);
        attempt_->later = generation_.policies.io.at(end, [this] { close_link_if_answered(); });
    }

    void close_link_if_answered()
    {
        attempt_->later = {};
        if (machine_.now() == state::retired)
            attempt_->link.reset();
    }

    // ---- what comes from the child

    void hear(heard what, frame const& said, error_code ec)
    {
        switch (what) {
        case heard::nothing: return;
        case heard::frame:
            if (auto const meaning = interpret(said, machine_.now(), *attempt_))
                feed(*meaning);
            return;
        case heard::closed:
            if (!machine_.has_committed_child())
                fail_with("closed the handoff, and did not end", errc::child_closed);
            return feed(occurrence::closed);
        case heard::garbage:
        case heard::broken:
            fail_with("what the child said makes no sense: " + ec.message(), ec);
            return feed(occurrence::garbage);
        }
    }

    // ---- the end

    void put_aside(handoff::stop::reason why)
    {
        for (auto older = aside_.begin(); older != aside_.end() && attempt_->link; ++older)
            older->replaced();
        typename aside::times const limits{generation_.options().kill_grace, generation_.options().drain_timeout};
        auto const place = aside_.emplace(aside_.end(), generation_.policies.io, std::move(attempt_->child),
                                          std::move(attempt_->link), why, limits);
        place->begin(attempt_->child_stops, [this, place](bool gone) {
            if (gone) {
                generation_.child_ended(place->child().pid());
                aside_.erase(place);
            }
            generation_.handoff_moved();
        });
    }

    void restore()
    {
        if (attempt_->passed_on)
            generation_.signals().keep(*attempt_->passed_on);
        generation_.undo_state();
        generation_.watch_doors();
        if (machine_.now() == state::serving) // not when a stop came meanwhile
            generation_.supervision().failed(attempt_->failure());
    }

    void report_ok()
    {
        generation_.tell(events::upgraded{attempt_->pid, attempt_->since_trigger()});
        attempt_->who.answer(attempt_->ok_line(generation_.number() + 1));
        if (!attempt_->later)
            attempt_->link.reset();
    }

    void report_failed()
    {
        auto const text = attempt_->failure();
        generation_.tell(events::upgrade_failed{attempt_->during, attempt_->why, text});
        attempt_->who.answer(attempt::failed_line(attempt_->during, text));
    }

    void refuse(errc why, std::string const& line)
    {
        generation_.tell(events::refused{asking_by_, why});
        asking_.answer(line);
    }

    void fail_with(std::string reason, error_code why = errc::child_failed)
    {
        if (attempt_)
            attempt_->fail_with(std::move(reason), why);
    }

    [[nodiscard]] handoff::stop::reason stop_reason() const
    {
        return generation_.stops_partially() ? handoff::stop::reason::partial : handoff::stop::reason::service;
    }

    void arm(std::chrono::milliseconds time)
    {
        attempt_->timer =
            generation_.policies.io.at(io::after(time), [this, mine = ++attempt_->armed] { is_due(mine); });
    }

    void disarm()
    {
        ++attempt_->armed;
        attempt_->timer = {};
    }

    /// After a pause of this process or the machine both may be due, the time and what the child had said before.
    void is_due(unsigned mine)
    {
        if (attempt_->link && attempt_->child && *attempt_->child)
            attempt_->link->read(256);
        if (!attempt_ || attempt_->armed != mine)
            return;
        bool const unreachable = machine_.now() == state::reaching && !attempt_->reaching->was_sent();
        attempt_->explain_deadline(machine_.now(), generation_.options());
        feed(unreachable ? occurrence::unreachable : occurrence::deadline);
    }

    Generation& generation_;
    steps steps_;
    parent machine_;
    std::optional<attempt> attempt_;
    std::list<aside> aside_; ///< at most one that was not killed
    trigger asking_by_;      ///< the upgrade event's, while it is fed
    requester asking_;
    event_queue<occurrence> events_;
    io::clock::time_point last_ended_{};
    bool left_ = false;
};

} // namespace ecdysis::handoff

#endif
