// SPDX-License-Identifier: BSL-1.0
// Every order of events between a parent, its child, one that it has set aside and a service manager, breadth first:
// see world.hpp for what can happen and what must hold. The mutants below prove that the exploration can fail.
#define BOOST_TEST_MODULE explore
#include "world.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <iterator>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

namespace handoff = ecdysis::handoff;
using ecdysis::life;
using handoff::test::machines;
using handoff::test::move;
using handoff::test::move_count;
using handoff::test::premises;
using handoff::test::what;
using handoff::test::witness;

struct finding
{
    std::size_t states = 0;
    std::size_t steps = 0;
    std::string rule;  ///< the first that was broken; empty if none was
    std::string story; ///< the shortest way there
};

/// What was come across, so that a rule does not hold only because nothing ever happens.
struct reached
{
    std::array<bool, handoff::test::what_names.size()> moves{};
    std::array<bool, handoff::parent_states.size()> parents{};
    std::array<bool, handoff::child_states.size()> children{};
    std::array<bool, handoff::set_aside_states.size() - 1> set_aside{}; // one that is gone is forgotten
    std::array<bool, ecdysis::life_states.size()> lives{};
};

template <class Machines>
class exploration
{
    using world = handoff::test::world<Machines>;
    using index = std::uint32_t;

public:
    finding run(std::vector<premises> const& starts, reached* all = nullptr)
    {
        all_ = all;
        for (auto const& p : starts)
            remember(world{p}, none, move{});
        for (index i = 0; i < worlds_.size(); ++i)
            if (!step_from(i))
                return std::move(found_);
        look_for_cycle();
        found_.states = worlds_.size();
        found_.steps = targets_.size();
        return std::move(found_);
    }

private:
    static constexpr index none = ~index{};

    struct origin
    {
        index from;
        move by;
    };
    struct hash_of
    {
        std::vector<world> const* worlds;
        std::size_t operator()(index i) const { return (*worlds)[i].hash(); }
    };
    struct same
    {
        std::vector<world> const* worlds;
        bool operator()(index a, index b) const { return (*worlds)[a] == (*worlds)[b]; }
    };

    index remember(world const& w, index from, move by)
    {
        auto const i = static_cast<index>(worlds_.size());
        worlds_.push_back(w);
        auto const [place, fresh] = known_.insert(i);
        if (!fresh) {
            worlds_.pop_back();
            return *place;
        }
        origins_.push_back({from, by});
        if (all_)
            note(w);
        return i;
    }

    void note(world const& w)
    {
        auto const mark = [](auto& seen, auto it) { seen[static_cast<std::size_t>(it)] = true; };
        mark(all_->parents, w.the_parent().now());
        mark(all_->children, w.the_child().now());
        mark(all_->set_aside, w.the_one_set_aside().now());
        mark(all_->lives, w.the_parents_life().now());
        mark(all_->lives, w.the_childs_life().now());
    }

    bool step_from(index i)
    {
        first_target_.push_back(targets_.size());
        bool terminal = true;
        for (std::size_t k = 0; k < move_count; ++k) {
            auto const m = handoff::test::move_of(k);
            if (!worlds_[i].enabled(m))
                continue;
            terminal = terminal && !worlds_[i].mandatory(m);
            if (all_)
                all_->moves[static_cast<std::size_t>(m.kind)] = true;
            auto next = worlds_[i];
            witness w;
            next.make(m, w);
            next.check(w);
            if (w.broken) {
                tell(i, m, w.broken);
                return false;
            }
            if (m.kind == what::request_upgrade && next == worlds_[i]) // refused
                continue;
            targets_.push_back(remember(next, i, m));
        }
        if (terminal) {
            witness w;
            worlds_[i].check_terminal(w);
            if (w.broken) {
                tell(origins_[i].from, origins_[i].by, w.broken);
                return false;
            }
        }
        return true;
    }

    /// Whoever is left when all that nobody leads to has been taken away, again and again, is on a cycle or behind it.
    void look_for_cycle()
    {
        first_target_.push_back(targets_.size());
        std::vector<index> sources(worlds_.size(), 0);
        for (auto const t : targets_)
            ++sources[t];
        std::vector<index> free;
        for (index i = 0; i < worlds_.size(); ++i)
            if (sources[i] == 0)
                free.push_back(i);
        std::size_t taken = 0;
        while (!free.empty()) {
            auto const i = free.back();
            free.pop_back();
            ++taken;
            for (auto k = first_target_[i]; k < first_target_[i + 1]; ++k)
                if (--sources[targets_[k]] == 0)
                    free.push_back(targets_[k]);
        }
        if (taken == worlds_.size())
            return;
        std::vector<index> before(worlds_.size(), none);
        index at = none;
        for (index i = 0; i < worlds_.size(); ++i)
            for (auto k = first_target_[i]; sources[i] != 0 && k < first_target_[i + 1]; ++k) {
                before[targets_[k]] = i;
                at = i;
            }
        for (std::size_t n = 0; n < worlds_.size(); ++n) // backwards, until surely on the cycle
            at = before[at];
        tell(origins_[at].from, origins_[at].by, "nothing goes on forever");
    }

    void tell(index last, move m, char const* rule)
    {
        std::vector<move> way{m};
        auto i = last;
        while (i != none && origins_[i].from != none) {
            way.push_back(origins_[i].by);
            i = origins_[i].from;
        }
        auto w = worlds_[i == none ? 0 : i];
        found_.states = worlds_.size();
        found_.steps = targets_.size();
        found_.rule = rule;
        found_.story = std::string{"expected: "} + rule + "\n";
        w.introduce(found_.story);
        for (auto step = way.rbegin(); step != way.rend(); ++step) {
            found_.story += step->slot == handoff::test::aside ? "set aside: " : "";
            found_.story += handoff::test::what_names[static_cast<std::size_t>(step->kind)];
            found_.story += '\n';
            witness told{nullptr, &found_.story};
            w.make(*step, told);
            w.describe(found_.story);
        }
    }

    finding found_;
    reached* all_ = nullptr;
    std::vector<world> worlds_;
    std::vector<origin> origins_;
    std::vector<std::size_t> first_target_;
    std::vector<index> targets_;
    std::unordered_set<index, hash_of, same> known_{1 << 20, hash_of{&worlds_}, same{&worlds_}};
};

/// One upgrade, in worlds of every kind.
std::vector<premises> every_kind()
{
    std::vector<premises> all;
    for (unsigned i = 0; i != 16; ++i)
        all.push_back({.supervised = (i & 1) != 0, .parent_workers = (i & 2) != 0, .child_workers = (i & 4) != 0,
                       .hangs = (i & 8) == 0, .others = (i & 8) != 0});
    return all;
}

/// More of them, one after another: what one leaves to the next.
std::vector<premises> one_after_another()
{
    return {{.hangs = true, .upgrades = 2, .stops = 1},
            {.supervised = true, .hangs = true, .upgrades = 2, .stops = 1},
            {.upgrades = 3, .stops = 1}};
}

template <class Machine>
using step = std::function<typename Machine::actions(Machine&, typename Machine::event)>;

/// Machines that err, and how.
struct mutant
{
    std::tuple<step<handoff::parent>, step<handoff::child>, step<handoff::set_aside>> steps{};
    std::function<bool(handoff::parent const&)> accepting{};
    std::function<bool(handoff::parent const&)> parent_holds_drain{};
    std::function<bool(handoff::parent const&)> ends_service{};
    std::function<bool(handoff::child const&)> child_holds_drain{};
    std::function<ecdysis::os::unlinked(life const&)> unlinks{};
    bool obeys_twice = false; ///< a drain ends at a second signal, as if no manager sent one to all that is left
};

/// One type for them all, since each would have its own world to be compiled.
mutant now_tried;

template <class Machine>
struct altered : Machine
{
    using Machine::Machine;
    typename Machine::actions on(typename Machine::event e)
    {
        auto const& changed = std::get<step<Machine>>(now_tried.steps);
        return changed ? changed(*this, e) : Machine::on(e);
    }
};

struct altered_machines : machines
{
    struct parent : altered<handoff::parent>
    {
        bool accepting() const
        {
            return now_tried.accepting ? now_tried.accepting(*this) : handoff::parent::accepting();
        }
        bool holds_drain() const
        {
            return now_tried.parent_holds_drain ? now_tried.parent_holds_drain(*this) : handoff::parent::holds_drain();
        }
        bool ends_service() const
        {
            return now_tried.ends_service ? now_tried.ends_service(*this) : handoff::parent::ends_service();
        }
    };
    struct child : altered<handoff::child>
    {
        using altered::altered;
        bool holds_drain() const
        {
            return now_tried.child_holds_drain ? now_tried.child_holds_drain(*this) : handoff::child::holds_drain();
        }
    };
    using set_aside = altered<handoff::set_aside>;
    struct life : ecdysis::life
    {
        life(bool first, bool supervised) : ecdysis::life{first, supervised && !now_tried.obeys_twice} {}
        ecdysis::os::unlinked unlinks() const
        {
            return now_tried.unlinks ? now_tried.unlinks(*this) : ecdysis::life::unlinks();
        }
    };
};

std::string broken_rule(mutant m)
{
    now_tried = std::move(m);
    auto starts = every_kind();
    starts.push_back(one_after_another().front());
    for (auto const& p : starts)
        if (auto const found = exploration<altered_machines>{}.run({p}); !found.rule.empty())
            return found.rule;
    return {};
}

template <class Machine>
mutant stepping(step<Machine> s)
{
    mutant m;
    std::get<step<Machine>>(m.steps) = std::move(s);
    return m;
}

template <class Actions, class Action>
Actions all_but(Action unwanted, Actions const& list)
{
    Actions rest;
    for (auto const a : list)
        if (a != unwanted)
            rest.push(a);
    return rest;
}

/// It never does one thing.
template <class Machine>
mutant without(typename Machine::action unwanted)
{
    return stepping<Machine>([=](Machine& m, typename Machine::event e) { return all_but(unwanted, m.on(e)); });
}

/// It never hears one thing.
template <class Machine>
mutant deaf_to(typename Machine::event unheard)
{
    return stepping<Machine>([=](Machine& m, typename Machine::event e) {
        return e == unheard ? typename Machine::actions{} : m.on(e);
    });
}

/// In one state it takes one event for another.
template <class Machine>
mutant mistaking(typename Machine::state where, typename Machine::event heard, typename Machine::event taken)
{
    return stepping<Machine>(
        [=](Machine& m, typename Machine::event e) { return m.on(m.now() == where && e == heard ? taken : e); });
}

/// In one state, on one event, it does one thing more.
template <class Machine>
mutant adding(typename Machine::state where, typename Machine::event heard, typename Machine::action more)
{
    return stepping<Machine>([=](Machine& m, typename Machine::event e) {
        auto const hit = m.now() == where && e == heard;
        auto list = m.on(e);
        if (hit)
            list.push(more);
        return list;
    });
}

/// In one state, on one event, it leaves out to ask, and takes the answer to have come.
template <class Machine>
mutant assuming(typename Machine::state where, typename Machine::event heard, typename Machine::action question,
                typename Machine::event answer)
{
    return stepping<Machine>([=](Machine& m, typename Machine::event e) {
        if (m.now() != where || e != heard)
            return m.on(e);
        auto list = all_but(question, m.on(e));
        for (auto const a : m.on(answer))
            list.push(a);
        return list;
    });
}

/// In one state it does on one event only what it is told here.
template <class Machine>
mutant answering(typename Machine::state where, typename Machine::event heard, typename Machine::actions answer)
{
    return stepping<Machine>([=](Machine& m, typename Machine::event e) {
        return m.now() == where && e == heard ? answer : m.on(e);
    });
}

/// A parent that stops during the barrier as it does before the announcement.
mutant stops_as_if_it_had_not_announced()
{
    return stepping<handoff::parent>([](handoff::parent& p, handoff::parent::event e) {
        using event = handoff::parent::event;
        if (p.now() == handoff::parent::state::confirming && e == event::stop) {
            p = {};
            for (auto const past : {event::upgrade, event::launched, event::handed_over, event::ready, event::reached,
                                    event::commit_sent, event::serving})
                (void)p.on(past);
        }
        return p.on(e);
    });
}

mutant unlinking_when(life::state where, ecdysis::os::unlinked what)
{
    return {.unlinks = [=](life const& l) { return l.now() == where ? what : l.unlinks(); }};
}

} // namespace

BOOST_AUTO_TEST_CASE(every_order_of_events_keeps_the_rules)
{
    auto starts = every_kind();
    std::ranges::copy(one_after_another(), std::back_inserter(starts));
#ifdef __SANITIZE_ADDRESS__
    starts.resize(4); // a share, for it takes several times as long
#endif
    reached all;
    finding sum;
    for (auto const& p : starts) {
        auto const found = exploration<machines>{}.run({p}, &all);
        sum.states += found.states;
        sum.steps += found.steps;
        BOOST_TEST(found.rule.empty(), found.story);
    }
    std::cout << "explored " << sum.states << " states, " << sum.steps << " steps\n";

    bool const is_all = starts.size() == every_kind().size() + one_after_another().size();
    auto const each = [is_all](auto const& seen, auto const& names) {
        for (std::size_t i = 0; i != seen.size(); ++i)
            BOOST_TEST((seen[i] || !is_all), names[i] << " never came");
    };
    each(all.moves, handoff::test::what_names);
    each(all.parents, handoff::parent_states);
    each(all.children, handoff::child_states);
    each(all.set_aside, handoff::set_aside_states);
    each(all.lives, ecdysis::life_states);
}

BOOST_AUTO_TEST_CASE(a_parent_that_leaves_something_out_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    using action = parent::action;
    BOOST_TEST(broken_rule(without<parent>(action::reap)) == "a child is watched until it is reaped");
    BOOST_TEST(broken_rule(without<parent>(action::close_handoff)) == "a parent that serves on has dropped its end");
    BOOST_TEST(broken_rule(without<parent>(action::restore)) == "the manager hears ready again");
    BOOST_TEST(broken_rule(without<parent>(action::report_failed)) == "an upgrade that is over has been reported");
    BOOST_TEST(broken_rule(without<parent>(action::report_ok)) == "an upgrade that is over has been reported");
    BOOST_TEST(broken_rule(without<parent>(action::arm_kill)) == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::arm_serving)) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::arm_taken)) == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::disarm)) == "no timer runs where the parent waits for nobody");
    BOOST_TEST(broken_rule(without<parent>(action::kill)) == "only a child that was killed is left alone");
    BOOST_TEST(broken_rule(without<parent>(action::leave_alone)) == "a child is watched until it is reaped");
    BOOST_TEST(broken_rule(without<parent>(action::read_rest)) == "every path leads to an end");
    BOOST_TEST(broken_rule(without<parent>(action::pause)) == "a parent accepts when its machine says so");
    BOOST_TEST(broken_rule(without<parent>(action::resume)) == "somebody accepts");
    BOOST_TEST(broken_rule(without<parent>(action::ask_alive)) == "an answer that is awaited was asked for");
    BOOST_TEST(broken_rule(without<parent>(action::settle)) == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::send_yours)) == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::send_stop)) == "a stop ends everything");
    BOOST_TEST(broken_rule(without<parent>(action::retire)) == "an upgrade that cannot be is refused at once");
    BOOST_TEST(broken_rule(without<parent>(action::set_aside)) == "a parent that serves on has dropped its end");
    BOOST_TEST(broken_rule(without<parent>(action::stop_child)) == "a generation that serves on keeps its paths");
}

BOOST_AUTO_TEST_CASE(a_child_that_leaves_something_out_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    using action = child::action;
    BOOST_TEST(broken_rule(without<child>(action::send_serving)) == "a parent hears that its child serves");
    BOOST_TEST(broken_rule(without<child>(action::send_alive)) == "a parent hears that its child is alive");
    BOOST_TEST(broken_rule(without<child>(action::send_taken)) ==
               "a parent hears that its child has taken the service");
    BOOST_TEST(broken_rule(without<child>(action::send_stopping)) == "a stop ends everything");
    BOOST_TEST(broken_rule(without<child>(action::take_service)) == "an heir, or a child with a commit, takes over");
    BOOST_TEST(broken_rule(without<child>(action::end_service)) == "the last generation leaves nothing behind");
    BOOST_TEST(broken_rule(without<child>(action::heed_signals)) == "a signal that came late is heeded");
    BOOST_TEST(broken_rule(without<child>(action::close_handoff)) ==
               "a child that is in charge drops its end when its parent has");
    BOOST_TEST(broken_rule(without<child>(action::read_rest)) == "a child is in charge, or ends");
}

BOOST_AUTO_TEST_CASE(what_is_forgotten_of_a_child_that_was_set_aside_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    BOOST_TEST(broken_rule(without<set_aside>(set_aside::action::kill)) ==
               "the drain waits for a child that may still end");
    BOOST_TEST(broken_rule(without<set_aside>(set_aside::action::send_stop)) ==
               "a child with a commit is told to stop before it is killed");
    BOOST_TEST(broken_rule(without<set_aside>(set_aside::action::arm_grace)) ==
               "a child that was set aside is ended at last");
    BOOST_TEST(broken_rule(without<set_aside>(set_aside::action::arm_drain)) ==
               "a child that was set aside is ended at last");
    BOOST_TEST(broken_rule(without<set_aside>(set_aside::action::reap)) == "a child that ended is reaped");
    BOOST_TEST(broken_rule(deaf_to<set_aside>(set_aside::event::child_ended)) == "a child that ended is reaped");
    BOOST_TEST(broken_rule(deaf_to<set_aside>(set_aside::event::deadline)) ==
               "a child that was set aside is ended at last");
    BOOST_TEST(broken_rule(deaf_to<set_aside>(set_aside::event::replaced)) == "one child that lives is set aside");
    BOOST_TEST(broken_rule(deaf_to<set_aside>(set_aside::event::parent_leaves)) == "a child that hangs is ended");
    BOOST_TEST(broken_rule(deaf_to<set_aside>(set_aside::event::child_stops)) ==
               "a child that says that it stops has the time to");
}

BOOST_AUTO_TEST_CASE(a_machine_that_is_deaf_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::nothing_left)) == "every path leads to an end");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::child_ended)) == "every path leads to an end");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::launch_failed)) == "a launch that has failed is heard of");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::deadline)) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::stop)) == "a stop ends everything");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::serving)) == "a parent hears that its child serves");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::alive)) == "a parent hears that its child is alive");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::child_stops)) == "a stop ends everything");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::yours_sent)) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(deaf_to<parent>(parent::event::yours_lost)) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::parent_ended)) == "a child is in charge, or ends");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::nothing_left)) == "a child is in charge, or ends");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::stop_frame)) == "a stop ends everything");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::deadline)) == "nothing goes on forever");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::alive_asked)) == "a parent hears that its child is alive");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::yours)) ==
               "a parent hears that its child has taken the service");
    BOOST_TEST(broken_rule(deaf_to<child>(child::event::stop)) == "a stop ends everything");
}

BOOST_AUTO_TEST_CASE(a_parent_that_errs_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    using action = parent::action;
    using event = parent::event;
    using state = parent::state;
    // A `fill` that throws then ends the unit.
    BOOST_TEST(broken_rule(adding<parent>(state::starting, event::ready, action::announce)) ==
               "the manager is told of a child that has said serving and alive");
    // A helper that hangs would hold a service that stops.
    BOOST_TEST(broken_rule(stepping<parent>([](parent& p, event e) {
                   auto const hit = p.now() == state::launching && (e == event::stop || e == event::deadline);
                   auto const list = p.on(e);
                   return hit ? all_but(action::arm_kill, list) : list;
               })) == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(without<parent>(action::give_up_launch)) == "a child is watched until it is reaped");
    // A child that hangs after its commit is left alone.
    BOOST_TEST(broken_rule(answering<parent>(state::committed, event::deadline, {action::report_manager_late})) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule(answering<parent>(state::committed, event::deadline, {action::arm_serving})) ==
               "nothing goes on forever");
    BOOST_TEST(broken_rule(assuming<parent>(state::settling, event::settled, action::send_yours, event::yours_sent)) ==
               "the parent retires when the service is the child's");
    BOOST_TEST(broken_rule(stops_as_if_it_had_not_announced()) ==
               "what the manager's socket has accepted is not taken back");
    BOOST_TEST(broken_rule(assuming<parent>(state::confirming, event::stop, action::settle, event::settled)) ==
               "the last generation leaves nothing behind");
    BOOST_TEST(broken_rule(mistaking<parent>(state::confirming, event::deadline, event::yours_lost)) ==
               "what the manager's socket has accepted is not taken back");
    BOOST_TEST(broken_rule(assuming<parent>(state::probation, event::deadline, action::ask_alive, event::alive)) ==
               "the manager is told of a child that has said serving and alive");
    auto const until_commit = [](parent const& p) { return p.accepting() && p.now() != state::committed; };
    BOOST_TEST(broken_rule(mutant{.accepting = until_commit}) ==
               "a parent accepts when its machine says so");
    BOOST_TEST(broken_rule(mutant{.parent_holds_drain = [](parent const&) { return false; }}) ==
               "an upgrade that is over has been reported");
    BOOST_TEST(broken_rule(mutant{.ends_service = [](parent const&) { return false; }}) ==
               "the main process ends last");
    BOOST_TEST(broken_rule(mistaking<parent>(state::committed, event::closed, event::serving)) ==
               "the parent pauses only when the child accepts");
    BOOST_TEST(broken_rule(mistaking<parent>(state::ending, event::closed, event::launch_failed)) ==
               "a child is watched until it is reaped");
    BOOST_TEST(broken_rule(answering<parent>(state::committed, event::deadline, {action::kill})) ==
               "a child with a commit is told to stop before it is killed");
    BOOST_TEST(broken_rule(adding<parent>(state::committing, event::commit_sent, action::retire)) ==
               "the parent retires when the service is the child's");
    BOOST_TEST(broken_rule(adding<parent>(state::committing, event::commit_sent, action::pause)) ==
               "the parent pauses only when the child accepts");
    BOOST_TEST(broken_rule(adding<parent>(state::ending, event::nothing_left, action::reap)) ==
               "only a child that ended is reaped");
    BOOST_TEST(broken_rule(adding<parent>(state::committed, event::deadline, action::report_failed)) ==
               "an upgrade is reported once");
    BOOST_TEST(broken_rule(adding<parent>(state::ending, event::deadline, action::commit)) ==
               "a commit is sent when the manager was reached");
}

BOOST_AUTO_TEST_CASE(a_child_that_errs_is_found)
{
    using handoff::parent;
    using handoff::child;
    using handoff::set_aside;
    using action = child::action;
    using event = child::event;
    using state = child::state;
    BOOST_TEST(broken_rule(mistaking<child>(state::serving, event::closed, event::nothing_left)) ==
               "a child takes the service by `yours`, or by its parent's death");
    BOOST_TEST(broken_rule(mistaking<child>(state::waiting, event::closed, event::nothing_left)) ==
               "a child inherits on its parent's death only");
    BOOST_TEST(broken_rule(assuming<child>(state::waiting, event::parent_ended, action::read_rest,
                                           event::nothing_left)) ==
               "an heir has read the rest");
    BOOST_TEST(broken_rule(assuming<child>(state::serving, event::parent_ended, action::read_rest,
                                           event::nothing_left)) ==
               "a child takes the service by `yours`, or by its parent's death");
    BOOST_TEST(broken_rule(assuming<child>(state::starting, event::host_ready, action::read_rest, event::commit)) ==
               "a child accepts with a commit");
    BOOST_TEST(broken_rule(adding<child>(state::committed, event::host_serves, action::close_handoff)) ==
               "a parent hears that its child serves");
    BOOST_TEST(broken_rule(mutant{.child_holds_drain = [](child const&) { return false; }}) ==
               "the last generation leaves nothing behind");
}

BOOST_AUTO_TEST_CASE(a_life_that_errs_is_found)
{
    namespace os = ecdysis::os;
    using state = life::state;
    BOOST_TEST(broken_rule(mutant{.obeys_twice = true}) ==
               "a signal does not end the drain of one that is not the main process");
    BOOST_TEST(broken_rule(unlinking_when(state::stopping, os::unlinked::all)) ==
               "a generation that serves on keeps its paths");
    BOOST_TEST(broken_rule(unlinking_when(state::retired, os::unlinked::all)) ==
               "a generation that serves on keeps its paths");
    BOOST_TEST(broken_rule(unlinking_when(state::stopping, os::unlinked::fresh)) ==
               "the last generation leaves nothing behind");
}
