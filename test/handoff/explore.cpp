// SPDX-License-Identifier: BSL-1.0
// Every order of events between a parent and a child, breadth first: see world.hpp for what can happen and what
// must hold. The mutants below prove that the exploration can fail.
#define BOOST_TEST_MODULE explore
#include "world.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <iostream>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

namespace handoff = ecdysis::handoff;
using handoff::test::move;
using handoff::test::move_count;
using handoff::test::witness;

struct finding
{
    std::size_t states = 0;
    std::size_t steps = 0;
    std::string rule;  ///< the first that was broken; empty if none was
    std::string story; ///< the shortest way there
};

template <class Parent, class Child>
class exploration
{
    using world = handoff::test::world<Parent, Child>;
    using index = std::uint32_t;

public:
    /// With at most so many upgrades, one after another failed.
    finding run(std::uint8_t upgrades)
    {
        for (int i = 0; i < 8; ++i) {
            world const w{upgrades, (i & 1) != 0, (i & 2) != 0, (i & 4) != 0};
            remember(w, none, move{});
        }
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
        return i;
    }

    bool step_from(index i)
    {
        first_target_.push_back(targets_.size());
        bool terminal = true;
        for (std::size_t k = 0; k < move_count; ++k) {
            auto const m = static_cast<move>(k);
            if (!worlds_[i].enabled(m))
                continue;
            terminal = terminal && !worlds_[i].mandatory(m);
            auto next = worlds_[i];
            witness w;
            next.make(m, w);
            next.check(w);
            if (w.broken) {
                tell(i, m, w.broken);
                return false;
            }
            if (m == move::request_upgrade && next == worlds_[i]) // refused
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
            found_.story += handoff::test::move_names[static_cast<std::size_t>(*step)];
            found_.story += '\n';
            witness told{nullptr, &found_.story};
            w.make(*step, told);
            w.describe(found_.story);
        }
    }

    finding found_;
    std::vector<world> worlds_;
    std::vector<origin> origins_;
    std::vector<std::size_t> first_target_;
    std::vector<index> targets_;
    std::unordered_set<index, hash_of, same> known_{1 << 20, hash_of{&worlds_}, same{&worlds_}};
};

template <class Parent, class Child = handoff::child>
std::string broken_rule()
{
    return exploration<Parent, Child>{}.run(2).rule;
}

template <class Action>
handoff::actions<Action> without(handoff::actions<Action> list, Action unwanted)
{
    handoff::actions<Action> rest;
    for (auto const a : list)
        if (a != unwanted)
            rest.push(a);
    return rest;
}

/// A parent that never does one thing.
template <handoff::parent::action Unwanted>
struct parent_without : handoff::parent
{
    actions on(event e) { return without(parent::on(e), Unwanted); }
};

/// A parent, or a child, that never hears one thing.
template <class Machine, typename Machine::event Unheard>
struct deaf : Machine
{
    using Machine::Machine;
    typename Machine::actions on(typename Machine::event e)
    {
        return e == Unheard ? typename Machine::actions{} : Machine::on(e);
    }
};

/// A parent that in one state takes one event for another.
template <handoff::parent::state While, handoff::parent::event Heard, handoff::parent::event Taken>
struct parent_mistakes : handoff::parent
{
    actions on(event e) { return parent::on(now() == While && e == Heard ? Taken : e); }
};

/// A parent that in one state, on one event, does one thing more.
template <handoff::parent::state While, handoff::parent::event Heard, handoff::parent::action More>
struct parent_also : handoff::parent
{
    actions on(event e)
    {
        auto const hit = now() == While && e == Heard;
        auto list = parent::on(e);
        if (hit)
            list.push(More);
        return list;
    }
};

struct retires_on_ready : handoff::parent
{
    actions on(event e)
    {
        auto list = parent::on(e);
        if (now() != state::announcing || e != event::ready)
            return list;
        for (auto const next : {event::announced, event::commit_sent})
            (void)parent::on(next);
        return parent::on(event::serving);
    }
};

struct stops_accepting_at_commit : handoff::parent
{
    bool accepting() const { return parent::accepting() && now() != state::committed; }
};

/// A parent that leaves what the last generation removes to a child with a commit.
struct leaves_all_to_its_child : handoff::parent
{
    actions on(event e)
    {
        has_child = e == event::commit_sent || (has_child && e != event::nothing_left);
        return parent::on(e);
    }
    bool ends_service() const { return parent::ends_service() && !has_child; }
    friend bool operator==(leaves_all_to_its_child const&, leaves_all_to_its_child const&) = default;

    bool has_child = false;
};

/// A parent that takes what the last generation removes along when it retires.
struct removes_all_when_it_retires : handoff::parent
{
    bool ends_service() const { return parent::ends_service() || now() == state::retired; }
};

struct waits_for_serving_again : handoff::parent
{
    actions on(event e)
    {
        if (now() == state::committed && e == event::deadline)
            return {action::arm_serving};
        return parent::on(e);
    }
};

struct inherits_on_closed : handoff::child
{
    using child::child;
    actions on(event e)
    {
        if (now() == state::waiting && e == event::closed)
            e = event::nothing_left;
        return child::on(e);
    }
};

struct child_that_does_not_read_the_rest : handoff::child
{
    using child::child;
    actions on(event e)
    {
        auto list = child::on(e);
        if (e == event::parent_ended && list.size() != 0)
            return child::on(event::nothing_left);
        return list;
    }
};

struct child_that_closes_when_it_serves : handoff::child
{
    using child::child;
    actions on(event e)
    {
        auto list = child::on(e);
        if (now() == state::serving && e == event::host_serves)
            list.push(action::close_handoff);
        return list;
    }
};

struct impatient_child : handoff::child
{
    using child::child;
    actions on(event e)
    {
        auto list = child::on(e);
        if (now() == state::waiting && e == event::host_ready)
            for (auto const a : child::on(event::commit))
                list.push(a);
        return list;
    }
};

} // namespace

BOOST_AUTO_TEST_CASE(every_order_of_events_keeps_the_rules)
{
    auto const found = exploration<handoff::parent, handoff::child>{}.run(3);
    std::cout << "explored " << found.states << " states, " << found.steps << " steps\n";
    BOOST_TEST(found.rule.empty(), found.story);
}

BOOST_AUTO_TEST_CASE(a_parent_that_leaves_something_out_is_found)
{
    using action = handoff::parent::action;
    BOOST_TEST(broken_rule<parent_without<action::reap>>() == "a child is watched until it is reaped");
    BOOST_TEST(broken_rule<parent_without<action::forward_stop>>() == "a stop after commit ends the child");
    BOOST_TEST(broken_rule<parent_without<action::close_handoff>>() ==
               "a parent that serves on has dropped its end");
    BOOST_TEST(broken_rule<parent_without<action::restore>>() == "the manager hears ready again");
    BOOST_TEST(broken_rule<parent_without<action::report_failed>>() == "an upgrade that is over has been reported");
    BOOST_TEST(broken_rule<parent_without<action::report_ok>>() == "an upgrade that is over has been reported");
    BOOST_TEST(broken_rule<parent_without<action::arm_kill>>() ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule<parent_without<action::disarm>>() == "no timer runs where the parent waits for nobody");
    BOOST_TEST(broken_rule<parent_without<action::kill>>() == "a timer runs where the parent waits for the child");
    BOOST_TEST(broken_rule<parent_without<action::read_rest>>() == "every path leads to an end");
}

BOOST_AUTO_TEST_CASE(a_machine_that_is_deaf_is_found)
{
    using handoff::child;
    using handoff::parent;
    BOOST_TEST((broken_rule<deaf<parent, parent::event::nothing_left>>()) == "every path leads to an end");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::child_ended>>()) == "every path leads to an end");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::launch_failed>>()) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::deadline>>()) ==
               "a timer runs where the parent waits for the child");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::stop>>()) == "a parent that is stopped accepts no more");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::serving>>()) == "a parent hears that its child serves");
    BOOST_TEST((broken_rule<deaf<parent, parent::event::unannounced>>()) ==
               "a child that the manager was not told of gets no commit");
    BOOST_TEST((broken_rule<parent, deaf<child, child::event::parent_ended>>()) == "only an heir goes on alone");
    BOOST_TEST((broken_rule<parent, deaf<child, child::event::nothing_left>>()) == "only an heir goes on alone");
    BOOST_TEST((broken_rule<parent, deaf<child, child::event::stop_frame>>()) ==
               "a stop after commit ends the child");
    BOOST_TEST((broken_rule<parent, deaf<child, child::event::deadline>>()) == "nothing goes on forever");
}

BOOST_AUTO_TEST_CASE(a_machine_that_errs_is_found)
{
    using handoff::parent;
    using action = parent::action;
    using event = parent::event;
    using state = parent::state;
    BOOST_TEST(broken_rule<retires_on_ready>() == "the parent retires only when the child accepts");
    BOOST_TEST(broken_rule<stops_accepting_at_commit>() == "somebody accepts");
    BOOST_TEST((broken_rule<parent_mistakes<state::committed, event::closed, event::serving>>()) ==
               "the parent retires only when the child accepts");
    BOOST_TEST((broken_rule<parent_mistakes<state::ending, event::closed, event::launch_failed>>()) ==
               "a child is watched until it is reaped");
    BOOST_TEST((broken_rule<parent_also<state::committed, event::deadline, action::kill>>()) ==
               "a child with a commit is never killed");
    BOOST_TEST((broken_rule<parent_also<state::committed, event::stop, action::ask_to_end>>()) ==
               "a child with a commit is never told to end");
    BOOST_TEST((broken_rule<parent_also<state::committing, event::commit_sent, action::retire>>()) ==
               "the parent retires only when the child accepts");
    BOOST_TEST((broken_rule<parent_also<state::ending, event::nothing_left, action::reap>>()) ==
               "a child is reaped once");
    BOOST_TEST((broken_rule<parent_also<state::committed, event::deadline, action::report_failed>>()) ==
               "an upgrade is reported once");
    BOOST_TEST((broken_rule<parent_also<state::ending, event::deadline, action::commit>>()) ==
               "a commit is sent when all was said to the manager");
    BOOST_TEST(broken_rule<leaves_all_to_its_child>() == "the last generation leaves nothing behind");
    BOOST_TEST(broken_rule<removes_all_when_it_retires>() == "a generation that serves on keeps its paths");
    BOOST_TEST(broken_rule<waits_for_serving_again>() == "nothing goes on forever");
    BOOST_TEST((broken_rule<parent, inherits_on_closed>()) == "a child inherits on its parent's death only");
    BOOST_TEST((broken_rule<parent, child_that_does_not_read_the_rest>()) ==
               "an heir, or a child with a commit, takes over");
    BOOST_TEST((broken_rule<parent, child_that_closes_when_it_serves>()) == "a stop after commit ends the child");
    BOOST_TEST((broken_rule<parent, impatient_child>()) == "a child takes over with a commit");
}
