// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_HANDOFF_WORLD_HPP
#define ECDYSIS_TEST_HANDOFF_WORLD_HPP

#include "facts.hpp"
#include "names.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace ecdysis::handoff::test {

/// The machines that are explored.
struct machines
{
    using parent = handoff::parent;
    using child = handoff::child;
    using set_aside = handoff::set_aside;
    using life = ecdysis::life;
};

/// What sets one world apart from another.
struct premises
{
    bool supervised = false;
    bool parent_workers = false;
    bool child_workers = false;
    bool hangs = false;
    bool others = false;
    std::uint8_t upgrades = 1; ///< asked for, or by a signal during one
    std::uint8_t stops = 2;
};

/// A parent, its child, one that it has set aside, what lies between them, the service manager, and a driver for each
/// that does what the machines want.
template <class Machines>
class world
{
    using Parent = typename Machines::parent;
    using Child = typename Machines::child;
    using SetAside = typename Machines::set_aside;
    using Life = typename Machines::life;

public:
    explicit world(premises const& p)
        : life_{true, p.supervised}, childs_{no_child(p.supervised), no_child(p.supervised)}
    {
        is.supervised = p.supervised;
        is.parent_workers = p.parent_workers;
        is.child_workers = p.child_workers;
        is.others = p.others;
        is.upgrades_left = p.upgrades;
        is.stops_left = p.stops;
        is.hangs_left = p.hangs ? 1 : 0;
        (void)life_.on(Life::event::service_ours);
    }

    friend bool operator==(world const& a, world const& b) noexcept
    {
        return std::memcmp(&a.is, &b.is, sizeof(facts)) == 0 && a.parent_ == b.parent_ && a.life_ == b.life_ &&
               a.childs_ == b.childs_ && a.set_aside_ == b.set_aside_;
    }
    std::size_t hash() const noexcept
    {
        auto h = is.hash();
        auto const mix = [&](auto it) { h = h * 31 + static_cast<std::size_t>(it); };
        mix(parent_.now());
        mix(set_aside_.now());
        for (auto const& l : {life_, childs_[0].life, childs_[1].life}) {
            mix(l.now());
            mix((l.drains() ? 1 : 0) + (l.drained() ? 2 : 0) + (l.stops() ? 4 : 0));
        }
        for (auto const& c : childs_)
            mix(c.machine.now());
        return h;
    }

    /// Whether the move will come at last, where nothing else does.
    bool mandatory(move m) const noexcept
    {
        if (m.kind == what::end_child)
            return is.child[m.slot].doomed;
        return m.kind > what::end_child || m.kind == what::launch_fails;
    }

    bool enabled(move m) const noexcept
    {
        return m.kind >= what::signal_to_child && m.kind != what::launched && !is_the_parents_alone(m.kind)
                   ? child_can(m.kind, m.slot)
                   : m.slot == 0 && parent_can(m.kind);
    }

    void make(move m, witness& w)
    {
        auto& c = is.child[m.slot];
        switch (m.kind) {
        case what::request_upgrade:
            request(w);
            break;
        case what::signal_to_parent:
            --is.upgrades_left;
            // A parent that has yielded passes it on.
            if (life_.now() == Life::state::retired)
                send_down(frame::yours_again, w);
            else
                is.again = true;
            break;
        case what::signal_parent_to_stop:
            stop_parent(Life::event::stop_signal, w);
            break;
        case what::ask_parent_to_stop:
            stop_parent(Life::event::stop_request, w);
            break;
        case what::kill_parent:
            is.parent_killed = true;
            is.crashed = true;
            parent_ends();
            break;
        case what::reached:
        case what::unreachable:
            is.to_reach = false;
            parent(m.kind == what::reached ? Parent::event::reached : Parent::event::unreachable, w);
            break;
        case what::announced:
            is.to_announce = false;
            is.child[0].announced = true;
            is.stale = static_cast<std::uint8_t>(is.manager.size() - count(message::ready) - count(message::reloading));
            is.confirmed = false;
            tell_manager(is.child[0].alive ? message::child_is_main : message::dead_is_main, w);
            parent(Parent::event::announced, w);
            break;
        case what::unannounced:
            is.to_announce = false;
            parent(Parent::event::unannounced, w);
            break;
        case what::manager_works:
            manager_works();
            break;
        case what::launch_ours:
            comes_to_life(program::ours);
            child(0, Child::event::began, w);
            break;
        case what::launch_other:
            comes_to_life(program::other);
            c.others_frames = 7;
            break;
        case what::launch_fails:
            c.launch = launching::none;
            parent(Parent::event::launch_failed, w);
            break;
        case what::launched:
            c.launch = launching::none;
            c.watched = true;
            parent(Parent::event::launched, w);
            break;
        case what::commit_into_the_void:
            commit(w);
            break;
        case what::signal_to_child:
            --is.upgrades_left;
            c.again = true;
            break;
        case what::signal_child_to_stop:
            stop_child(m.slot, w);
            break;
        case what::child_hangs:
            --is.hangs_left;
            c.hung = true;
            break;
        case what::host_ready:
            child(m.slot, Child::event::host_ready, w);
            break;
        case what::host_failed:
            c.failed = true;
            child(m.slot, Child::event::host_failed, w);
            break;
        case what::host_serves:
            child(m.slot, Child::event::host_serves, w);
            break;
        case what::other_asks:
            other_sends(frame::asked, w);
            break;
        case what::other_ready:
            other_sends(frame::ready, w);
            break;
        case what::other_fails:
            other_sends(frame::failed, w);
            break;
        case what::other_serves:
            c.has_served = true;
            other_sends(frame::serving, w);
            break;
        case what::other_lives:
            other_sends(frame::alive, w);
            break;
        case what::other_stops:
            c.stopped = true;
            if (c.announced)
                is.stopped = true;
            other_sends(frame::stopping, w);
            break;
        case what::other_takes:
            other_sends(frame::taken, w);
            break;
        case what::other_sends_garbage:
            other_sends(frame::garbage, w);
            break;
        case what::other_closes:
            c.open = false;
            break;
        case what::end_child:
            child_ends(m.slot, true);
            break;
        case what::send_goes_out:
            is.to_send = false;
            ++c.sent;
            send_down(c.sent == 2 ? frame::end : frame::part, w);
            if (c.sent == 2)
                parent(Parent::event::handed_over, w);
            break;
        case what::commit_goes_out:
            if (!c.open) {
                is.to_commit = false;
                parent(Parent::event::commit_lost, w);
                break;
            }
            send_down(frame::commit, w);
            commit(w);
            break;
        case what::yours_goes_out:
            yours_goes_out(w);
            break;
        case what::parent_settles:
            is.to_settle = false;
            if (!c.alive) {
                c.saw_end = true;
                parent(Parent::event::child_ended, w);
                break;
            }
            parent(Parent::event::settled, w);
            break;
        case what::parent_hears_confirmation:
            is.confirmed = false;
            parent(Parent::event::confirmed, w);
            break;
        case what::parent_deadline:
            is.armed = timer::none;
            parent(Parent::event::deadline, w);
            break;
        case what::parent_drained:
            parents_life(Life::event::nothing_open, false, w);
            break;
        case what::parent_drain_deadline:
            parents_life(Life::event::drain_deadline, held_for_a_child(), w);
            break;
        case what::parent_grace:
            is.cut_short = true;
            parents_life(Life::event::grace_deadline, true, w);
            break;
        case what::killed_child_ends:
            --is.dying;
            expect_reaped(killed_one(), w);
            break;
        case what::parent_reads:
            parent_reads(m.slot, w);
            break;
        case what::parent_sees_closed:
            c.saw_closed = true;
            parent(Parent::event::closed, w);
            break;
        case what::parent_sees_end:
            c.saw_end = true;
            if (m.slot == aside) {
                child_set_aside(SetAside::event::child_ended, w);
                break;
            }
            parent(Parent::event::child_ended, w);
            break;
        case what::parent_has_read_rest:
            c.parent_reads_rest = false;
            parent(Parent::event::nothing_left, w);
            break;
        case what::set_aside_deadline:
            c.armed = timer::none;
            child_set_aside(SetAside::event::deadline, w);
            break;
        case what::serving_goes_out:
            c.to_say_serving = false;
            c.has_served = true;
            child_sends(m.slot, frame::serving, w);
            break;
        case what::child_reads:
            child_reads(m.slot, w);
            break;
        case what::child_sees_closed:
            c.saw_parent_closed = true;
            child(m.slot, Child::event::closed, w);
            break;
        case what::child_sees_end:
            c.saw_parent_end = true;
            child(m.slot, Child::event::parent_ended, w);
            break;
        case what::child_has_read_rest:
            c.reads_rest = false;
            c.parents_death_read = true;
            child(m.slot, Child::event::nothing_left, w);
            break;
        case what::child_deadline:
            c.late = true;
            child(m.slot, Child::event::deadline, w);
            break;
        case what::child_drained:
            childs_life(m.slot, Life::event::nothing_open, w);
            break;
        case what::child_exits:
            child_exits(m.slot, w);
            break;
        }
    }

    /// What must hold at every moment.
    void check(witness& w) const
    {
        check_somebody_accepts(w);
        check_who_is_in_charge(w);
        if (!is.parent_alive)
            return;
        check_timers(w);
        w.expect(parent_.accepting() == parent_accepts(), "a parent accepts when its machine says so");
        auto const& c = is.child[0];
        auto const p = parent_.now();
        if (p == Parent::state::serving) {
            w.expect(!is.owed, "an upgrade that is over has been reported");
            w.expect(!is.reloading || is.child_is_main || is.manager.has(message::ready) ||
                         is.manager.has(message::child_is_main) || is.manager.has(message::child_aside_is_main) ||
                         is.manager.has(message::dead_is_main),
                     "the manager hears ready again");
            w.expect(!c.parent_open && !c.watched, "a parent that serves on has dropped its end");
            w.expect(c.kind == program::nobody && c.launch == launching::none, "a parent that serves on has no child");
            w.expect(!is.again, "a signal that came during an upgrade begins one more");
        }
        if (p == Parent::state::retired || p == Parent::state::stopped)
            w.expect(!is.owed, "an upgrade that is over has been reported");
        check_what_is_said(w);
    }

    /// What must hold where nothing more needs to happen.
    void check_terminal(witness& w) const
    {
        for (std::size_t i = 0; i != slots; ++i)
            check_terminal(i, w);
        if (is.stopped && !is.parent_killed)
            w.expect(!is.parent_alive && (is.child[0].kind != program::ours || !is.child[0].alive || is.child[0].hung),
                     "a stop ends everything");
        if (!is.parent_alive && !is.child[0].alive && !is.child[1].alive && !is.crashed)
            w.expect(!is.path, "the last generation leaves nothing behind");
        if (!is.parent_alive)
            return;
        w.expect(parent_.now() == Parent::state::serving && life_.now() == Life::state::serving,
                 "every path leads to an end");
        w.expect(is.child[0].kind == program::nobody && is.child[1].kind == program::nobody && is.dying == 0,
                 "a parent that serves on has no child for ever");
    }

    Parent const& the_parent() const noexcept { return parent_; }
    Life const& the_parents_life() const noexcept { return life_; }
    Child const& the_child() const noexcept { return childs_[0].machine; }
    Life const& the_childs_life() const noexcept { return childs_[0].life; }
    SetAside const& the_one_set_aside() const noexcept { return set_aside_; }

    void introduce(std::string& out) const
    {
        out += is.supervised ? "a manager supervises the parent" : "no manager supervises the parent";
        if (is.parent_workers)
            out += ", its workers hold its end";
        if (is.child_workers)
            out += ", the child's workers hold the child's end";
        out += '\n';
    }

    void describe(std::string& out) const
    {
        out += "    parent: ";
        out += !is.parent_alive ? (is.parent_killed ? "dead" : "gone") : name(parent_.now());
        if (is.parent_alive) {
            out += ", ";
            out += name(life_.now());
        }
        out += "; child: ";
        describe(0, out);
        if (is.child[aside].kind != program::nobody) {
            out += "; set aside, ";
            out += name(set_aside_.now());
            out += ": ";
            describe(aside, out);
        }
        out += '\n';
    }

private:
    struct child_machines
    {
        Child machine;
        Life life;
        friend bool operator==(child_machines const&, child_machines const&) noexcept = default;
    };

    static constexpr char const* room = "few frames are ever unread";

    static child_machines no_child(bool supervised) { return {Child{!supervised}, Life{false, supervised}}; }

    static constexpr bool is_the_parents_alone(what k) noexcept
    {
        switch (k) {
        case what::launched:
        case what::send_goes_out:
        case what::commit_goes_out:
        case what::yours_goes_out:
        case what::parent_settles:
        case what::parent_hears_confirmation:
        case what::parent_deadline:
        case what::parent_drained:
        case what::parent_drain_deadline:
        case what::parent_grace:
        case what::killed_child_ends:
            return true;
        default:
            return false;
        }
    }

    bool parent_can(what k) const noexcept
    {
        if (!is.parent_alive)
            return false;
        auto const& c = is.child[0];
        auto const p = parent_.now();
        auto const draining = life_.drains() && !life_.drained();
        switch (k) {
        case what::request_upgrade:
            // A main process that has died ends the unit.
            return p != Parent::state::serving || (is.upgrades_left > 0 && life_.may_upgrade() && !is.child_is_main);
        case what::signal_to_parent:
            if (is.upgrades_left == 0)
                return false;
            if (life_.now() == Life::state::retired)
                return c.parent_open && c.open && c.down.size() < 3;
            return p != Parent::state::serving && life_.may_upgrade() && !is.again;
        case what::signal_parent_to_stop:
        case what::ask_parent_to_stop:
            return is.stops_left > 0;
        case what::kill_parent:
            return true;
        case what::reached:
        case what::unreachable:
            return is.to_reach;
        case what::announced:
        case what::unannounced:
            return is.to_announce && !c.saw_end; // of a child that is seen to have ended nothing more is said
        case what::manager_works:
            return !is.manager.empty();
        case what::launch_ours:
        case what::launch_fails:
            return c.launch == launching::pending;
        case what::launch_other:
            return c.launch == launching::pending && is.others;
        case what::commit_into_the_void:
            return is.to_commit && !c.open;
        case what::launched:
            return c.launch == launching::born;
        case what::send_goes_out:
            return is.to_send;
        case what::commit_goes_out:
            return is.to_commit;
        case what::yours_goes_out: // what the child said before it closed its end comes first
            return is.to_yours && !c.saw_end && (c.open || is.child_workers || c.up.empty());
        case what::parent_settles:
            return is.to_settle;
        case what::parent_hears_confirmation:
            return is.confirmed;
        case what::parent_deadline: // all that the child had sent by then was read
            return is.armed != timer::none && c.up.empty();
        case what::parent_drained:
            return draining && !held();
        case what::parent_drain_deadline:
            return draining && held() && !late();
        case what::parent_grace:
            return draining && late() && held();
        case what::killed_child_ends:
            return is.dying > 0;
        default:
            return false;
        }
    }

    bool child_can(what k, std::size_t slot) const noexcept
    {
        auto const& c = is.child[slot];
        if (c.kind == program::nobody)
            return false;
        auto const current = slot == 0;
        auto const ours = c.kind == program::ours && c.alive && !c.hung;
        auto const other = c.kind == program::other && current && (c.alive || is.child_workers) && c.parent_open &&
                           c.open && c.others_frames > 0 && c.up.size() < 2;
        auto const s = childs_[slot].machine.now();
        auto const& l = childs_[slot].life;
        auto const over = s == Child::state::given_up || s == Child::state::stopped;
        // What befalls one that was set aside is nothing to the next upgrade, so it does before that begins, or never.
        auto const may_befall = current || !is.parent_alive || !parent_.upgrading();
        switch (k) {
        case what::signal_to_child: // one that is taken back drops it
            return ours && current && is.upgrades_left > 0 && !c.again && c.committed && !c.stopped && !over &&
                   s != Child::state::in_charge;
        case what::signal_child_to_stop:
            return ours && is.stops_left > 0 && may_befall;
        case what::child_hangs:
            return ours && is.hangs_left > 0 && c.accepts && may_befall;
        case what::host_ready:
            return ours && s == Child::state::starting;
        case what::host_failed:
            return ours && current && !c.failed && !over && s != Child::state::in_charge;
        case what::host_serves:
            return ours && current && s == Child::state::committed;
        case what::other_asks:
        case what::other_ready:
        case what::other_fails:
        case what::other_serves:
        case what::other_lives:
        case what::other_stops:
        case what::other_takes:
        case what::other_sends_garbage:
            return other;
        case what::other_closes:
            return c.kind == program::other && current && c.alive && c.open && c.parent_open;
        case what::end_child:
            return c.alive && (may_befall || c.doomed);
        case what::parent_reads:
            // A driver reads no further ask while it still owes the frame of the last one.
            return is.parent_alive && c.watched && c.parent_open && !c.up.empty() &&
                   (!current || !is.to_send || c.parent_reads_rest);
        case what::parent_sees_closed:
            return current && is.parent_alive && c.watched && c.parent_open && c.up.empty() && !c.saw_closed &&
                   !c.open && !is.child_workers;
        case what::parent_sees_end:
            return is.parent_alive && c.watched && !c.alive && !c.saw_end;
        case what::parent_has_read_rest:
            return is.parent_alive && c.parent_reads_rest && c.up.empty();
        case what::set_aside_deadline:
            return is.parent_alive && c.armed != timer::none && c.up.empty();
        case what::serving_goes_out:
            return ours && c.to_say_serving;
        case what::child_reads:
            return ours && c.open && !c.down.empty();
        case what::child_sees_closed:
            return ours && c.open && c.down.empty() && !c.saw_parent_closed && !c.parent_open && !is.parent_workers;
        case what::child_sees_end:
            return ours && !over && !is.parent_alive && !c.saw_parent_end;
        case what::child_has_read_rest:
            return ours && c.reads_rest && c.down.empty();
        case what::child_deadline:
            return ours && s == Child::state::receiving;
        case what::child_drained: // a parent that lives answers in less time than the grace
            return ours && l.drains() && !l.drained() && !childs_[slot].machine.holds_drain();
        case what::child_exits:
            return ours && (l.drained() || l.now() == Life::state::given_up);
        default:
            return false;
        }
    }

    // What is judged.

    bool parent_accepts() const noexcept { return is.parent_alive && !is.paused && !is.ended_accepting; }
    bool child_accepts(std::size_t slot) const noexcept
    {
        auto const& c = is.child[slot];
        if (!c.alive || c.hung)
            return false;
        if (c.kind == program::other)
            return c.has_served;
        return childs_[slot].machine.may_accept() && !childs_[slot].life.leaves();
    }
    bool child_in_charge(std::size_t slot) const noexcept
    {
        return is.child[slot].alive && is.child[slot].kind == program::ours &&
               childs_[slot].life.now() == Life::state::serving;
    }

    void check_somebody_accepts(witness& w) const
    {
        char const* const rule = "somebody accepts";
        auto const& c = is.child[0];
        if (is.stopped || parent_accepts() || child_accepts(0))
            return;
        if (!is.parent_alive) { // an heir is judged at the end, and a crash after the upgrade is not the upgrade's
            w.expect(is.parent_killed || is.crashed || c.hung || c.stopped || c.kind != program::ours, rule);
            return;
        }
        // The parent takes back what it left to a child that fails: it may not have seen that yet.
        auto const left_to_the_child = is.paused || is.ended_accepting;
        auto const lost = !c.alive || c.hung || c.stopped || c.kind == program::other;
        w.expect(left_to_the_child && parent_.now() != Parent::state::serving && lost, rule);
    }

    void check_who_is_in_charge(witness& w) const
    {
        auto const parents = is.parent_alive && life_.now() == Life::state::serving;
        auto const n = (parents ? 1 : 0) + (child_in_charge(0) ? 1 : 0) + (child_in_charge(aside) ? 1 : 0);
        w.expect(n <= 1, "one generation is in charge");
    }

    /// What one of them has said is heard, or on its way.
    void check_what_is_said(witness& w) const
    {
        auto const& c = is.child[0];
        if (c.kind != program::ours || !c.alive || c.hung || c.saw_end)
            return;
        auto const p = parent_.now();
        auto const s = childs_[0].machine.now();
        if (p == Parent::state::committed)
            w.expect(s != Child::state::serving || c.to_say_serving || c.up.has(frame::serving),
                     "a parent hears that its child serves");
        if (p == Parent::state::asking)
            w.expect(c.stopped || c.down.has(frame::alive_question) || c.up.has(frame::alive),
                     "a parent hears that its child is alive");
        if (p == Parent::state::yielded)
            w.expect(!c.yours_read || c.up.has(frame::taken), "a parent hears that its child has taken the service");
    }

    void check_timers(witness& w) const
    {
        auto const& c = is.child[0];
        auto const armed = [&](timer t) { return is.armed == t || c.saw_end; };
        char const* const rule = "a timer runs where the parent waits for the child";
        switch (parent_.now()) {
        case Parent::state::launching:
            w.expect(c.launch != launching::none, "a launch that has failed is heard of");
            [[fallthrough]];
        case Parent::state::handing_over:
        case Parent::state::starting:
            w.expect(armed(timer::ready), rule);
            break;
        case Parent::state::committing:
        case Parent::state::committed:
        case Parent::state::asking:
            w.expect(armed(timer::serving), rule);
            w.expect(parent_.now() != Parent::state::asking || c.asked_alive,
                     "an answer that is awaited was asked for");
            break;
        case Parent::state::probation:
            w.expect(armed(timer::probation), rule);
            break;
        case Parent::state::reaching:
        case Parent::state::announcing:
        case Parent::state::confirming:
            w.expect(armed(timer::barrier), rule);
            break;
        case Parent::state::settling:
            w.expect(is.to_settle || c.saw_end, rule);
            break;
        case Parent::state::yielding:
            w.expect(is.to_yours || c.saw_end, rule);
            break;
        case Parent::state::yielded:
            w.expect(armed(timer::taken), rule);
            break;
        case Parent::state::ending:
            w.expect(armed(timer::kill), rule);
            break;
        case Parent::state::serving:
        case Parent::state::retired:
        case Parent::state::stopped:
            w.expect(is.armed == timer::none, "no timer runs where the parent waits for nobody");
            break;
        }
        auto const& other = is.child[aside];
        if (other.kind == program::nobody || other.doomed || !other.alive)
            return;
        auto const drains = set_aside_.now() == SetAside::state::draining;
        w.expect(other.armed == (drains ? timer::drain : timer::grace), "a child that was set aside is ended at last");
        w.expect(drains || !other.heard_stopping, "a child that says that it stops has the time to");
    }

    void check_terminal(std::size_t slot, witness& w) const
    {
        auto const& c = is.child[slot];
        auto const s = childs_[slot].machine.now();
        auto const ours = c.kind == program::ours && c.alive && !c.hung;
        if (ours) {
            auto const in_charge = s == Child::state::in_charge;
            auto const may_be_heir = s == Child::state::starting && !is.supervised && !is.parent_alive;
            w.expect(in_charge || may_be_heir, "a child is in charge, or ends");
            w.expect(!in_charge || !c.again, "a signal that came late is heeded");
            w.expect(!in_charge || !c.open || c.parent_open || (is.parent_alive && is.parent_workers),
                     "a child that is in charge drops its end when its parent has");
        }
        if (c.hung && c.alive)
            w.expect(is.parent_killed || c.announced || c.parents_death_read || childs_[slot].life.leaves(),
                     "a child that hangs is ended");
        if (is.parent_killed && slot == 0 && c.kind == program::ours && parent_.now() != Parent::state::retired &&
            parent_.now() != Parent::state::yielded) {
            auto const promised = c.committed || (!is.supervised && c.sent == 2);
            auto const prevented = c.given_up || c.stopped || (c.failed && !c.accepts) || c.late || c.told_stop ||
                                   c.hung || !c.alive;
            auto const kept = ours && (child_in_charge(slot) || (s == Child::state::starting && !c.committed));
            w.expect(!promised || prevented || kept, "an heir, or a child with a commit, takes over");
        }
    }

    void describe(std::size_t slot, std::string& out) const
    {
        auto const& c = is.child[slot];
        out += c.kind == program::nobody ? "none"
               : !c.alive                ? "dead"
               : c.hung                  ? "hangs, "
               : c.doomed                ? "killed, "
                                         : "";
        if (c.alive)
            out += c.kind == program::other ? "not ours" : name(childs_[slot].machine.now());
    }

    // The parent's driver.

    bool awaits_confirmation() const noexcept
    {
        return is.confirmed || is.manager.has(message::child_is_main) || is.manager.has(message::child_aside_is_main) ||
               is.manager.has(message::dead_is_main);
    }
    /// A stopped parent ends after its children.
    bool held_for_a_child() const noexcept
    {
        return parent_.holds_drain() ||
               (parent_.ends_service() && is.child[aside].kind != program::nobody && set_aside_.holds_drain());
    }
    bool held() const noexcept { return held_for_a_child() || (awaits_confirmation() && !late()); }
    bool late() const noexcept
    {
        auto probe = life_;
        return probe.on(Life::event::grace_deadline).size() != 0;
    }

    void parent(typename Parent::event e, witness& w)
    {
        auto const list = parent_.on(e);
        w.tell("    parent: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        w.expect(list.size() <= 8, "a list of actions fits");
        for (auto const a : list)
            perform(a, w);
        drop_what_is_not_wanted();
        // Where no manager is, nothing is to be awaited of it.
        for (auto const a : list) {
            if (is.supervised)
                break;
            if (a == Parent::action::reach_manager)
                parent(Parent::event::reached, w);
            if (a == Parent::action::announce) {
                is.child[0].announced = true;
                parent(Parent::event::announced, w);
                parent(Parent::event::confirmed, w);
            }
        }
        if (life_.stops())
            is.again = false;
        if (parent_.now() == Parent::state::serving && is.again && is.parent_alive) {
            is.again = false;
            begin_upgrade(w);
        }
    }

    /// What could not go out yet is dropped with the state that wanted it.
    void drop_what_is_not_wanted() noexcept
    {
        auto const p = parent_.now();
        is.to_send = is.to_send && p == Parent::state::handing_over;
        is.to_reach = is.to_reach && p == Parent::state::reaching;
        is.to_commit = is.to_commit && p == Parent::state::committing;
        is.to_announce = is.to_announce && p == Parent::state::announcing;
        is.to_settle = is.to_settle && p == Parent::state::settling;
        is.to_yours = is.to_yours && p == Parent::state::yielding;
    }

    void request(witness& w)
    {
        auto const before = parent_;
        if (before.now() == Parent::state::serving) {
            --is.upgrades_left;
            begin_upgrade(w);
            return;
        }
        auto const list = parent_.on(Parent::event::upgrade);
        auto const answer = life_.may_upgrade() && !is.child[0].stopped ? Parent::action::refuse_busy
                            : life_.may_upgrade()                       ? *list.begin()
                                                                        : Parent::action::refuse_not_serving;
        w.expect(list.size() == 1 && *list.begin() == answer, "an upgrade that cannot be is refused at once");
        w.expect(parent_ == before, "a refusal changes nothing");
    }

    void begin_upgrade(witness& w)
    {
        is.owed = true;
        parent(Parent::event::upgrade, w);
        w.expect(is.child[0].launch == launching::pending, "an upgrade that is accepted launches");
    }

    void stop_parent(typename Life::event e, witness& w)
    {
        --is.stops_left;
        auto const main = life_.is_main();
        auto const list = life_.on(e);
        w.tell("    parent's life: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        for (auto const a : list) {
            if (a == Life::action::pass_stop) {
                is.stopped = true;
                is.again = false;
                parent(Parent::event::stop, w);
            }
            if (a == Life::action::finish) {
                w.expect(e != Life::event::stop_signal || main || !is.supervised,
                         "a signal does not end the drain of one that is not the main process");
                is.cut_short = true;
                parent_exits(w);
            }
        }
    }

    void parents_life(typename Life::event e, bool held, witness& w)
    {
        for (auto const a : life_.on(e, held))
            if (a == Life::action::finish)
                parent_exits(w);
    }

    void parent_leaves_the_service(typename Life::event e, witness& w)
    {
        is.ended_accepting = true;
        parents_life(e, false, w);
        parents_life(Life::event::drain_begins, false, w);
    }

    void perform(typename Parent::action a, witness& w)
    {
        using action = typename Parent::action;
        auto& c = is.child[0];
        switch (a) {
        case action::tell_reloading:
            tell_manager(message::reloading, w);
            break;
        case action::launch:
            w.expect(c.kind == program::nobody && c.launch == launching::none, "one child at a time");
            c.launch = launching::pending;
            c.parent_open = true;
            break;
        case action::give_up_launch:
            w.expect(c.launch != launching::none, "only a launch that is under way is given up");
            c = child_facts{}; // one that has come to life meanwhile is ended by whoever started it
            c.parent_open = true;
            childs_[0] = no_child(is.supervised);
            break;
        case action::send_next:
            w.expect(c.sent < 2 && !is.to_send, "nothing is sent after the end of the handoff");
            is.to_send = true;
            break;
        case action::reach_manager:
            is.to_reach = is.supervised;
            break;
        case action::commit:
            w.expect(!c.committed && !is.to_commit, "a child is committed once");
            w.expect(parent_.now() == Parent::state::committing, "a commit is sent when the manager was reached");
            is.to_commit = true;
            break;
        case action::pause:
            w.expect(c.heard_serving, "the parent pauses only when the child accepts");
            is.paused = true;
            break;
        case action::resume:
            is.paused = false;
            break;
        case action::ask_alive:
            c.asked_alive = true;
            send_down(frame::alive_question, w);
            break;
        case action::announce:
            w.expect(c.committed && c.heard_serving && c.heard_alive,
                     "the manager is told of a child that has said serving and alive");
            is.to_announce = is.supervised;
            break;
        case action::settle:
            is.to_settle = true;
            break;
        case action::send_yours:
            w.expect(c.announced, "the service is the child's when the manager's socket knows");
            is.to_yours = true;
            break;
        case action::retire:
            w.expect(c.announced && c.yours_sent, "the parent retires when the service is the child's");
            parent_leaves_the_service(Life::event::child_took, w);
            break;
        case action::stop:
            w.expect(is.stopped, "the parent stops only when it is told to");
            parent_leaves_the_service(Life::event::stopped, w);
            break;
        case action::send_stop:
            w.expect(c.yours_sent, "a stop follows `yours`");
            c.told_stop = true;
            send_down(frame::stop, w);
            break;
        case action::kill:
            w.expect(!c.committed, "a child with a commit is told to stop before it is killed");
            c.given_up = true;
            c.doomed = c.alive;
            w.expect(c.watched, "only a child that was launched is killed");
            break;
        case action::leave_alone:
            w.expect(c.doomed || !c.alive, "only a child that was killed is left alone");
            w.expect(!c.reaped, "a child that was reaped is gone");
            expect_reaped(left_alone(), w);
            forget(0);
            ++is.dying;
            break;
        case action::set_aside:
        case action::stop_child:
            w.expect(c.committed, "only a child with a commit is set aside");
            w.expect(!c.announced || !c.open, "what the manager's socket has accepted is not taken back");
            move_aside(w);
            break;
        case action::read_rest:
            w.expect(c.saw_end, "the rest is read after a death");
            c.parent_reads_rest = true;
            break;
        case action::reap:
            w.expect(c.saw_end, "only a child that ended is reaped");
            w.expect(!c.reaped, "a child is reaped once");
            w.expect(!is.owed || c.up.empty(), "what a dead child said is read before it is judged");
            c.reaped = true;
            break;
        case action::close_handoff:
            w.expect(c.kind == program::nobody || c.reaped, "a child is watched until it is reaped");
            forget(0);
            break;
        case action::restore:
            tell_manager(message::ready, w);
            break;
        case action::report_committed:
            w.expect(c.committed && !is.told_committed, "a commit is reported once");
            is.told_committed = true;
            break;
        case action::report_ok:
        case action::report_failed:
            w.expect(is.owed, "an upgrade is reported once");
            w.expect(a == action::report_failed || parent_.now() == Parent::state::retired,
                     "an upgrade is reported as it ended");
            is.owed = is.told_committed = false;
            break;
        case action::report_manager_late:
            break;
        case action::refuse_busy:
        case action::refuse_not_serving:
            w.expect(false, "only a request is refused");
            break;
        case action::arm_ready:
            is.armed = timer::ready;
            break;
        case action::arm_barrier:
            is.armed = timer::barrier;
            break;
        case action::arm_serving:
            is.armed = timer::serving;
            break;
        case action::arm_probation:
            is.armed = timer::probation;
            break;
        case action::arm_taken:
            is.armed = timer::taken;
            break;
        case action::arm_kill:
            c.given_up = true;
            is.armed = timer::kill;
            break;
        case action::disarm:
            is.armed = timer::none;
            break;
        }
    }

    void parent_reads(std::size_t slot, witness& w)
    {
        using event = typename Parent::event;
        auto& c = is.child[slot];
        auto const f = c.up.pop();
        w.tell("    parent <- ", frame_names[static_cast<std::size_t>(f)], "\n");
        if (slot == aside) {
            if (f != frame::stopping)
                return;
            c.heard_stopping = true;
            child_set_aside(SetAside::event::child_stops, w);
            return;
        }
        switch (f) {
        case frame::asked:
            return parent(event::asked, w);
        case frame::ready:
            return parent(event::ready, w);
        case frame::failed:
            return parent(event::failed, w);
        case frame::serving:
            c.heard_serving = c.committed;
            return parent(event::serving, w);
        case frame::alive:
            c.heard_alive = c.heard_serving;
            return parent(event::alive, w);
        case frame::taken:
            return parent(event::taken, w);
        case frame::stopping: // as the main process, if the manager may know of it
            is.stopped = is.stopped || c.announced;
            return parent(event::child_stops, w);
        default:
            return parent(event::garbage, w);
        }
    }

    void commit(witness& w)
    {
        auto& c = is.child[0];
        w.expect(!c.given_up, "a child that was given up gets no commit");
        is.to_commit = false;
        c.committed = true;
        parent(Parent::event::commit_sent, w);
    }

    void yours_goes_out(witness& w)
    {
        auto& c = is.child[0];
        is.to_yours = false;
        if (!c.open && !is.child_workers)
            return parent(Parent::event::yours_lost, w);
        send_down(is.again ? frame::yours_again : frame::yours, w);
        is.again = false;
        c.yours_sent = true;
        parent(Parent::event::yours_sent, w);
    }

    void send_down(frame f, witness& w)
    {
        if (is.child[0].open && is.child[0].kind == program::ours)
            w.expect(is.child[0].down.push(f), room);
    }

    void parent_exits(witness& w)
    {
        auto const& c = is.child[0];
        if (!is.cut_short) {
            w.expect(c.kind == program::nobody || c.committed,
                     "a child without a commit is reaped before the drain is over");
            w.expect(!life_.is_main() || is.child[aside].kind == program::nobody || !set_aside_.holds_drain(),
                     "the main process ends last");
            w.expect(!is.owed, "an upgrade that is over has been reported");
        }
        if (is.child[aside].kind != program::nobody)
            child_set_aside(SetAside::event::parent_leaves, w);
        switch (life_.unlinks()) {
        case os::unlinked::all:
            for (std::size_t i = 0; i != slots; ++i) {
                auto const& each = is.child[i];
                auto const ends = each.told_stop || each.doomed || each.kind != program::ours;
                w.expect(!child_accepts(i) || ends, "a generation that serves on keeps its paths");
            }
            is.path = false;
            break;
        case os::unlinked::fresh:
        case os::unlinked::none:
            break;
        }
        parent_ends();
    }

    void parent_ends()
    {
        is.parent_alive = false;
        is.to_send = is.to_reach = is.to_commit = is.to_announce = is.to_settle = is.to_yours = false;
        is.again = is.confirmed = false;
        is.armed = timer::none;
        is.dying = 0;
        is.stale = 0;
        is.owed = false;
        is.reloading = false;
        is.manager.clear();
        for (std::size_t i = 0; i != slots; ++i) {
            auto& c = is.child[i];
            c.parent_open = c.watched = c.parent_reads_rest = c.saw_end = c.saw_closed = false;
            c.armed = timer::none;
            c.launch = launching::none;
            c.up.clear();
            if (!c.alive)
                forget(i);
        }
    }

    // Children that were set aside.

    void move_aside(witness& w)
    {
        if (is.child[aside].kind != program::nobody) {
            child_set_aside(SetAside::event::replaced, w);
            w.expect(is.child[aside].doomed || !is.child[aside].alive, "one child that lives is set aside");
            is.manager.replace(message::child_aside_is_main, message::dead_is_main);
            ++is.dying;
        }
        is.child[aside] = to_set_aside(is.child[0]);
        childs_[aside] = childs_[0];
        set_aside_ = SetAside{};
        is.manager.replace(message::child_is_main, message::child_aside_is_main);
        forget(0);
        child_set_aside(SetAside::event::began, w);
    }

    /// What is left to be known of it: all that it says but `stopping` is ignored.
    static child_facts to_set_aside(child_facts const& c)
    {
        child_facts rest;
        rest.kind = c.kind;
        rest.alive = c.alive;
        rest.hung = c.hung;
        rest.doomed = c.doomed;
        rest.open = c.open;
        rest.parent_open = c.parent_open;
        rest.watched = c.watched;
        rest.committed = true;
        rest.accepts = c.accepts;
        rest.announced = c.announced;
        rest.stopped = c.stopped;
        rest.down = c.down;
        if (c.up.has(frame::stopping))
            (void)rest.up.push(frame::stopping);
        return rest;
    }

    static SetAside killed_one()
    {
        SetAside it;
        (void)it.on(SetAside::event::began);
        (void)it.on(SetAside::event::replaced);
        return it;
    }
    static SetAside left_alone()
    {
        SetAside it;
        (void)it.on(SetAside::event::left_alone);
        return it;
    }
    void expect_reaped(SetAside it, witness& w)
    {
        auto const list = it.on(SetAside::event::child_ended);
        auto reaped = false;
        for (auto const a : list)
            reaped = reaped || a == SetAside::action::reap;
        w.expect(reaped, "a child that ended is reaped");
    }

    void child_set_aside(typename SetAside::event e, witness& w)
    {
        using action = typename SetAside::action;
        auto& c = is.child[aside];
        auto const list = set_aside_.on(e);
        w.tell("    set aside: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        for (auto const a : list)
            switch (a) {
            case action::send_stop:
                c.told_stop = true;
                if (c.open && c.kind == program::ours)
                    w.expect(c.down.push(frame::stop), room);
                break;
            case action::arm_grace:
                c.armed = timer::grace;
                break;
            case action::arm_drain:
                c.armed = timer::drain;
                break;
            case action::disarm:
                c.armed = timer::none;
                break;
            case action::release_drain:
                w.expect(c.doomed || !c.alive, "the drain waits for a child that may still end");
                break;
            case action::kill:
                w.expect(c.told_stop, "a child with a commit is told to stop before it is killed");
                c.doomed = c.alive;
                break;
            case action::reap:
                w.expect(c.saw_end && !c.reaped, "a child is reaped once");
                forget(aside);
                return;
            }
    }

    // The service manager.

    std::size_t count(message m) const noexcept
    {
        auto rest = is.manager;
        std::size_t n = 0;
        while (!rest.empty())
            n += rest.pop() == m ? 1 : 0;
        return n;
    }

    void tell_manager(message m, witness& w)
    {
        if (!is.supervised)
            return;
        // What is said while nothing else is on its way is worked through at once, but for an announcement.
        if (is.manager.empty() && (m == message::reloading || m == message::ready)) {
            if (!is.child_is_main)
                is.reloading = m == message::reloading;
            return;
        }
        w.expect(is.manager.push(m), "few words to the manager are ever on their way");
    }

    void manager_works()
    {
        auto const m = is.manager.pop();
        switch (m) {
        case message::none:
            break;
        case message::reloading:
        case message::ready:
            if (!is.child_is_main) // it heeds the main process only
                is.reloading = m == message::reloading;
            break;
        case message::child_is_main:
        case message::child_aside_is_main:
        case message::dead_is_main: // is refused, and yet ready
            if (!is.child_is_main)
                is.reloading = false;
            is.child_is_main = is.child_is_main || m != message::dead_is_main;
            if (is.stale > 0)
                --is.stale;
            else
                is.confirmed = true;
            break;
        }
    }

    // The child's driver.

    void comes_to_life(program kind)
    {
        auto& c = is.child[0];
        c.launch = launching::born;
        c.kind = kind;
        c.alive = c.open = true;
        childs_[0] = no_child(is.supervised);
    }

    void forget(std::size_t slot)
    {
        is.child[slot] = child_facts{};
        childs_[slot] = no_child(is.supervised);
        if (slot == aside)
            set_aside_ = SetAside{};
    }

    void child_ends(std::size_t slot, bool killed)
    {
        auto& c = is.child[slot];
        if (killed && (c.announced || c.yours_sent || child_in_charge(slot)))
            is.crashed = true;
        is.manager.replace(slot == 0 ? message::child_is_main : message::child_aside_is_main, message::dead_is_main);
        c.alive = c.open = c.reads_rest = c.hung = c.doomed = c.to_say_serving = c.again = false;
        c.saw_parent_end = c.saw_parent_closed = false;
        c.down.clear();
        if (!is.child_workers)
            c.others_frames = 0;
        if (!is.parent_alive)
            forget(slot);
    }

    void child(std::size_t slot, typename Child::event e, witness& w)
    {
        auto const list = childs_[slot].machine.on(e);
        w.tell("    child: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        w.expect(list.size() <= 8, "a list of actions fits");
        for (auto const a : list)
            perform(slot, a, w);
        w.expect(!childs_[slot].machine.may_accept() || is.child[slot].accepts,
                 "a child accepts only when it was told that it may");
    }

    void perform(std::size_t slot, typename Child::action a, witness& w)
    {
        using action = typename Child::action;
        auto& c = is.child[slot];
        auto& l = childs_[slot].life;
        auto const may_take = c.yours_read || c.parents_death_read;
        char const* const taken_by = "a child takes the service by `yours`, or by its parent's death";
        switch (a) {
        case action::ask:
            return child_sends(slot, frame::asked, w);
        case action::send_ready:
            return child_sends(slot, frame::ready, w);
        case action::send_fail:
            return child_sends(slot, frame::failed, w);
        case action::send_serving:
            w.expect(c.accepts, "a child serves only when it was told that it may");
            c.to_say_serving = true;
            break;
        case action::send_alive:
            return child_sends(slot, frame::alive, w);
        case action::send_taken:
            return child_sends(slot, frame::taken, w);
        case action::send_stopping:
            return child_sends(slot, frame::stopping, w);
        case action::accept:
            w.expect(c.committed && !c.given_up, "a child accepts with a commit");
            w.expect(!c.accepts, "a child is told once that it may accept");
            c.accepts = true;
            (void)l.on(Life::event::committed);
            break;
        case action::be_heir:
            w.expect(!is.supervised, "a child that a manager ends with its parent inherits nothing");
            w.expect(!is.parent_alive && c.saw_parent_end, "a child inherits on its parent's death only");
            w.expect(c.sent == 2, "an heir has the whole handoff");
            w.expect(c.down.empty(), "an heir has read the rest");
            w.expect(!c.accepts, "a child is told once that it may accept");
            c.accepts = true;
            (void)l.on(Life::event::committed);
            break;
        case action::take_service:
            w.expect(may_take || (!is.parent_alive && c.saw_parent_end && c.down.empty()), taken_by);
            w.expect(c.accepts, "a child that takes the service accepts");
            (void)l.on(Life::event::service_ours);
            begin_again(c, w);
            break;
        case action::heed_signals:
            begin_again(c, w);
            break;
        case action::give_up:
            w.expect(!c.accepts, "a child that accepts does not give up");
            (void)l.on(Life::event::gave_up);
            break;
        case action::stop:
            w.expect(c.stopped || c.told_stop, "a child stops only when it is told to");
            child_leaves_the_service(slot);
            break;
        case action::end_service:
            w.expect(may_take, taken_by);
            (void)l.on(Life::event::service_ours);
            break;
        case action::read_rest:
            w.expect(c.saw_parent_end, "the rest is read after a death");
            c.reads_rest = true;
            break;
        case action::close_handoff:
            c.open = false;
            c.reads_rest = false;
            c.to_say_serving = false;
            c.down.clear();
            break;
        }
    }

    /// Begins the upgrade that signals during this one have asked for: how that goes is another world's.
    void begin_again(child_facts& c, witness& w)
    {
        if (!c.again)
            return;
        w.expect(c.yours_read || c.parents_death_read || !is.parent_alive,
                 "a child begins an upgrade at `yours`, never before");
        c.again = false;
        c.begun_again = true;
    }

    void child_leaves_the_service(std::size_t slot)
    {
        auto& l = childs_[slot].life;
        (void)l.on(Life::event::stopped);
        (void)l.on(Life::event::drain_begins);
    }

    void stop_child(std::size_t slot, witness& w)
    {
        auto& c = is.child[slot];
        auto& l = childs_[slot].life;
        --is.stops_left;
        auto const in_charge = child_in_charge(slot);
        auto const main = l.is_main();
        auto const list = l.on(Life::event::stop_signal);
        w.tell("    child's life: stop_signal ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        for (auto const a : list) {
            if (a == Life::action::pass_stop) {
                c.stopped = true;
                c.again = false;
                if (in_charge || (c.announced && c.accepts))
                    is.stopped = true;
                child(slot, Child::event::stop, w);
                if (in_charge) // its own parent's side says so
                    child_leaves_the_service(slot);
            }
            if (a == Life::action::finish) {
                w.expect(main || !is.supervised, "a signal does not end the drain of one that is not the main process");
                // Who wants it to end now does not want it to hear whether it was the last one.
                is.crashed = is.crashed || childs_[slot].machine.holds_drain();
            }
        }
    }

    void childs_life(std::size_t slot, typename Life::event e, witness& w)
    {
        for (auto const a : childs_[slot].life.on(e, childs_[slot].machine.holds_drain()))
            if (a == Life::action::finish)
                child_exits(slot, w);
    }

    void child_exits(std::size_t slot, witness& w)
    {
        auto const serves_on = is.parent_alive && !life_.leaves();
        switch (childs_[slot].life.unlinks()) {
        case os::unlinked::all:
            w.expect(!serves_on, "a generation that serves on keeps its paths");
            is.path = false;
            break;
        case os::unlinked::fresh: // what it bound
            break;
        case os::unlinked::none:
            w.expect(false, "a child that ends takes along what it bound");
            break;
        }
        child_ends(slot, false);
    }

    void child_reads(std::size_t slot, witness& w)
    {
        using event = typename Child::event;
        auto& c = is.child[slot];
        auto const f = c.down.pop();
        w.tell("    child <- ", frame_names[static_cast<std::size_t>(f)], "\n");
        switch (f) {
        case frame::part:
            return child(slot, event::frame, w);
        case frame::end:
            return child(slot, event::end, w);
        case frame::commit:
            return child(slot, event::commit, w);
        case frame::alive_question:
            return child(slot, event::alive_asked, w);
        case frame::yours_again:
            c.again = !c.stopped;
            [[fallthrough]];
        case frame::yours:
            c.yours_read = true;
            return child(slot, event::yours, w);
        case frame::stop:
            c.again = false;
            return child(slot, event::stop_frame, w);
        default:
            return child(slot, event::garbage, w);
        }
    }

    void child_sends(std::size_t slot, frame f, witness& w)
    {
        auto& c = is.child[slot];
        if (c.parent_open && c.open && (slot == 0 || f == frame::stopping))
            w.expect(c.up.push(f), room);
    }

    void other_sends(frame f, witness& w)
    {
        --is.child[0].others_frames;
        w.expect(is.child[0].up.push(f), room);
    }

    Parent parent_;
    Life life_;
    std::array<child_machines, slots> childs_;
    SetAside set_aside_;
    facts is;
};

} // namespace ecdysis::handoff::test

#endif
