// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/handoff/parent.hpp>

#define BOOST_TEST_MODULE handoff_parent
#include "../../handoff/names.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

using ecdysis::handoff::parent;
using action = parent::action;
using event = parent::event;
using state = parent::state;

namespace {

constexpr std::size_t event_count = ecdysis::handoff::parent_events.size();

constexpr parent after(std::initializer_list<event> events)
{
    parent p;
    for (auto const e : events)
        (void)p.on(e);
    return p;
}

constexpr parent launching() { return after({event::upgrade}); }
constexpr parent handing_over() { return after({event::upgrade, event::launched}); }
constexpr parent starting() { return after({event::upgrade, event::launched, event::asked, event::handed_over}); }
constexpr parent then(parent p, std::initializer_list<event> events)
{
    for (auto const e : events)
        (void)p.on(e);
    return p;
}
constexpr parent announcing() { return then(starting(), {event::ready}); }
constexpr parent committing() { return then(announcing(), {event::announced}); }
constexpr parent committed() { return then(committing(), {event::commit_sent}); }
constexpr parent retired() { return then(committed(), {event::serving}); }
constexpr parent stopped() { return after({event::stop}); }

/// Every machine that some order of events leads to; a list of actions that overflows does not compile.
constexpr auto reachable()
{
    std::pair<std::array<parent, 64>, std::size_t> found{{}, 1};
    auto& [list, count] = found;
    for (std::size_t i = 0; i < count; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = list[i];
            (void)next.on(static_cast<event>(e));
            bool known = false;
            for (std::size_t k = 0; k < count; ++k)
                known = known || list[k] == next;
            if (!known)
                list[count++] = next;
        }
    return found;
}
constexpr auto all = reachable();
static_assert(all.second > 10);

/// A machine that is stepped through one conversation.
class conversation
{
public:
    conversation(parent p = {}) : p_{p} {}

    conversation& expect(event e, std::initializer_list<action> wanted, state then)
    {
        BOOST_TEST_CONTEXT("on " << e << " while " << p_.now())
        {
            auto const got = p_.on(e);
            BOOST_TEST(std::vector<action>(got.begin(), got.end()) == std::vector<action>(wanted),
                       boost::test_tools::per_element());
            BOOST_TEST(p_.now() == then);
        }
        return *this;
    }
    conversation& accepting(bool wanted)
    {
        BOOST_TEST(p_.accepting() == wanted);
        return *this;
    }
    conversation& upgrading(bool wanted)
    {
        BOOST_TEST(p_.upgrading() == wanted);
        return *this;
    }
    conversation& ignores(std::initializer_list<event> events)
    {
        for (auto const e : events) {
            auto const before = p_;
            BOOST_TEST_CONTEXT(e << " while " << p_.now())
            {
                BOOST_TEST(p_.on(e).size() == 0u);
                BOOST_TEST((p_ == before));
            }
        }
        return *this;
    }
    /// The child dies, and the parent serves on.
    conversation& child_dies_and_parent_serves_on()
    {
        return expect(event::child_ended, {action::read_rest}, p_.now())
            .accepting(true)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::serving)
            .accepting(true)
            .upgrading(false)
            .expect(event::upgrade, {action::tell_reloading, action::arm_ready, action::launch}, state::launching);
    }
    /// The same where a stop came meanwhile.
    conversation& child_dies_and_parent_stops()
    {
        return expect(event::child_ended, {action::read_rest}, p_.now())
            .accepting(false)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::stopped)
            .accepting(false)
            .upgrading(false)
            .expect(event::upgrade, {action::refuse_not_serving}, state::stopped);
    }

private:
    parent p_;
};

constexpr std::initializer_list<event> of_a_child{event::asked,  event::handed_over, event::ready,
                                                  event::failed, event::serving,     event::garbage,
                                                  event::closed};

} // namespace

BOOST_AUTO_TEST_SUITE(success)

BOOST_AUTO_TEST_CASE(an_upgrade_from_trigger_to_retirement)
{
    conversation{}
        .accepting(true)
        .upgrading(false)
        .expect(event::upgrade, {action::tell_reloading, action::arm_ready, action::launch}, state::launching)
        .upgrading(true)
        .expect(event::launched, {}, state::handing_over)
        .expect(event::asked, {action::send_next}, state::handing_over)
        .expect(event::asked, {action::send_next}, state::handing_over)
        .expect(event::handed_over, {}, state::starting)
        .expect(event::ready, {action::arm_barrier, action::announce}, state::announcing)
        .expect(event::announced, {action::arm_serving, action::commit}, state::committing)
        .expect(event::commit_sent, {action::report_committed}, state::committed)
        .accepting(true)
        .upgrading(true)
        .expect(event::serving, {action::disarm, action::retire, action::report_ok}, state::retired)
        .accepting(false)
        .upgrading(false)
        .expect(event::child_ended, {action::reap, action::close_handoff}, state::retired);
}

BOOST_AUTO_TEST_CASE(a_manager_that_is_slow_delays_the_commit_but_does_not_prevent_it)
{
    conversation{announcing()}
        .expect(event::deadline, {action::report_barrier_late, action::arm_serving, action::commit}, state::committing)
        .ignores({event::announced})
        .expect(event::commit_sent, {action::report_committed}, state::committed);
}

BOOST_AUTO_TEST_CASE(a_child_that_is_late_to_serve_is_reported_and_never_killed)
{
    conversation{committed()}
        .expect(event::deadline, {action::report_serving_late}, state::committed)
        .accepting(true)
        .ignores({event::asked, event::ready, event::failed, event::garbage, event::closed, event::announced,
                  event::handed_over, event::commit_lost})
        .expect(event::serving, {action::disarm, action::retire, action::report_ok}, state::retired);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(triggers)

BOOST_AUTO_TEST_CASE(stop_while_no_upgrade_runs)
{
    conversation{}.expect(event::stop, {action::stop}, state::stopped).accepting(false).upgrading(false);
}

BOOST_AUTO_TEST_CASE(stop_before_commit_kills_the_child)
{
    for (auto const& p : {handing_over(), starting(), announcing(), committing()})
        conversation{p}
            .expect(event::stop, {action::stop, action::ask_to_end, action::arm_kill}, state::ending)
            .accepting(false)
            .upgrading(true)
            .ignores(of_a_child)
            .ignores({event::announced, event::commit_lost, event::commit_sent})
            .expect(event::deadline, {action::kill}, state::ending)
            .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_launching_ends_the_child_when_it_comes)
{
    conversation{launching()}
        .expect(event::stop, {action::disarm, action::stop}, state::ending)
        .accepting(false)
        .expect(event::launched, {action::ask_to_end, action::arm_kill}, state::ending)
        .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_launching_and_the_launch_fails)
{
    conversation{launching()}
        .expect(event::stop, {action::disarm, action::stop}, state::ending)
        .expect(event::launch_failed, {action::close_handoff, action::restore, action::report_failed}, state::stopped)
        .accepting(false);
}

BOOST_AUTO_TEST_CASE(stop_while_a_failed_child_ends)
{
    conversation{then(starting(), {event::garbage})}
        .expect(event::stop, {action::stop}, state::ending)
        .accepting(false)
        .expect(event::stop, {action::end_drain}, state::ending)
        .expect(event::upgrade, {action::refuse_not_serving}, state::ending)
        .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_before_commit_while_the_rest_of_a_dead_child_is_read)
{
    for (auto const& p : {handing_over(), starting(), announcing(), committing()})
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .expect(event::stop, {action::stop}, state::ending)
            .accepting(false)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::stopped);
}

BOOST_AUTO_TEST_CASE(stop_after_commit_is_forwarded)
{
    conversation{committed()}
        .expect(event::stop, {action::forward_stop, action::stop, action::disarm, action::report_failed},
                state::stopped)
        .accepting(false)
        .ignores(of_a_child)
        .expect(event::child_ended, {action::reap, action::close_handoff}, state::stopped);
}

BOOST_AUTO_TEST_CASE(stop_after_commit_while_the_rest_of_a_dead_child_is_read)
{
    conversation{committed()}
        .expect(event::child_ended, {action::read_rest}, state::committed)
        .expect(event::stop, {action::stop, action::disarm}, state::stopped)
        .ignores(of_a_child)
        .expect(event::nothing_left, {action::reap, action::close_handoff, action::report_failed}, state::stopped)
        .ignores({event::nothing_left});
}

BOOST_AUTO_TEST_CASE(stop_while_draining_ends_the_drain)
{
    conversation{retired()}.expect(event::stop, {action::end_drain}, state::retired);
    conversation{stopped()}.expect(event::stop, {action::end_drain}, state::stopped);
    conversation{then(committed(), {event::stop})}.expect(event::stop, {action::end_drain}, state::stopped);
}

BOOST_AUTO_TEST_CASE(upgrade_while_an_upgrade_runs_is_busy)
{
    for (auto const& p : {launching(), handing_over(), starting(), announcing(), committing(), committed(),
                          then(starting(), {event::garbage}), then(starting(), {event::child_ended})}) {
        conversation{p}.expect(event::upgrade, {action::refuse_busy}, p.now());
        auto asked = p;
        (void)asked.on(event::upgrade);
        BOOST_TEST((asked == p));
    }
}

BOOST_AUTO_TEST_CASE(upgrade_while_draining_is_not_serving)
{
    for (auto const& p : {retired(), stopped(), then(committed(), {event::stop}), then(starting(), {event::stop})})
        conversation{p}.expect(event::upgrade, {action::refuse_not_serving}, p.now());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(failure_before_commit)

BOOST_AUTO_TEST_CASE(the_program_cannot_be_started)
{
    conversation{launching()}
        .expect(event::launch_failed,
                {action::disarm, action::close_handoff, action::restore, action::report_failed}, state::serving)
        .accepting(true)
        .expect(event::upgrade, {action::tell_reloading, action::arm_ready, action::launch}, state::launching);
}

BOOST_AUTO_TEST_CASE(a_launch_that_takes_too_long_and_comes)
{
    conversation{launching()}
        .expect(event::deadline, {}, state::ending)
        .accepting(true)
        .expect(event::launched, {action::ask_to_end, action::arm_kill}, state::ending)
        .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(a_launch_that_takes_too_long_and_fails)
{
    conversation{launching()}
        .expect(event::deadline, {}, state::ending)
        .expect(event::launch_failed, {action::close_handoff, action::restore, action::report_failed}, state::serving)
        .accepting(true);
}

BOOST_AUTO_TEST_CASE(the_child_dies)
{
    for (auto const& p : {handing_over(), starting(), announcing(), committing()})
        conversation{p}.child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(the_child_says_why_it_fails_or_closes_its_end)
{
    for (auto const& p : {handing_over(), starting(), announcing(), committing()})
        for (auto const e : {event::failed, event::closed}) {
            conversation{p}.expect(e, {action::arm_kill}, state::ending).child_dies_and_parent_serves_on();
            conversation{p}
                .expect(e, {action::arm_kill}, state::ending)
                .ignores(of_a_child)
                .expect(event::deadline, {action::kill}, state::ending)
                .child_dies_and_parent_serves_on();
        }
}

BOOST_AUTO_TEST_CASE(what_the_child_says_makes_no_sense)
{
    for (auto const& [p, e] : {std::pair{handing_over(), event::garbage},
                               std::pair{handing_over(), event::ready},
                               std::pair{handing_over(), event::serving},
                               std::pair{starting(), event::garbage},
                               std::pair{starting(), event::asked},
                               std::pair{starting(), event::serving},
                               std::pair{announcing(), event::garbage},
                               std::pair{announcing(), event::asked},
                               std::pair{announcing(), event::ready},
                               std::pair{announcing(), event::serving},
                               std::pair{committing(), event::garbage},
                               std::pair{committing(), event::asked},
                               std::pair{committing(), event::ready},
                               std::pair{committing(), event::serving}})
        conversation{p}
            .expect(e, {action::ask_to_end, action::arm_kill}, state::ending)
            .accepting(true)
            .expect(event::deadline, {action::kill}, state::ending)
            .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(the_child_is_late)
{
    for (auto const& p : {handing_over(), starting(), committing()})
        conversation{p}
            .expect(event::deadline, {action::ask_to_end, action::arm_kill}, state::ending)
            .expect(event::deadline, {action::kill}, state::ending)
            .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(the_commit_is_lost)
{
    conversation{committing()}
        .expect(event::commit_lost, {action::ask_to_end, action::arm_kill}, state::ending)
        .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(death)

BOOST_AUTO_TEST_CASE(a_child_that_dies_between_commit_and_serving_costs_nothing)
{
    conversation{committed()}.child_dies_and_parent_serves_on();
    conversation{then(committed(), {event::deadline})}.child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(what_a_dead_child_said_last_changes_nothing)
{
    for (auto const& p : {handing_over(), starting(), announcing(), committing(), committed()})
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .ignores(of_a_child)
            .ignores({event::child_ended, event::deadline, event::announced, event::commit_lost})
            .accepting(true)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::serving);
}

BOOST_AUTO_TEST_CASE(the_end_of_file_alone_ends_nothing)
{
    conversation{starting()}.expect(event::closed, {action::arm_kill}, state::ending).upgrading(true);
    conversation{committed()}.ignores({event::closed}).upgrading(true);
    conversation{retired()}.ignores({event::closed});
}

BOOST_AUTO_TEST_CASE(nothing_left_means_nothing_without_a_death)
{
    for (auto const& p : {parent{}, launching(), handing_over(), starting(), announcing(), committing(), committed(),
                          retired(), stopped()})
        conversation{p}.ignores({event::nothing_left});
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_parent_that_serves_hears_no_child)
{
    conversation{}
        .ignores(of_a_child)
        .ignores({event::launched, event::launch_failed, event::child_ended, event::nothing_left, event::announced,
                  event::commit_sent, event::commit_lost, event::deadline});
}

BOOST_AUTO_TEST_CASE(no_event_in_any_state_tells_a_child_to_end_after_commit)
{
    for (std::size_t i = 0; i < all.second; ++i) {
        auto const& p = all.first[i];
        if (p.now() != state::committed && p.now() != state::retired)
            continue;
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = p;
            for (auto const a : next.on(static_cast<event>(e)))
                BOOST_TEST((a != action::ask_to_end && a != action::kill), "on " << static_cast<event>(e));
        }
    }
}

BOOST_AUTO_TEST_CASE(a_parent_stops_accepting_only_to_retire_or_to_stop)
{
    for (std::size_t i = 0; i < all.second; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = all.first[i];
            if (!next.accepting())
                continue;
            auto const list = next.on(static_cast<event>(e));
            bool told = false;
            for (auto const a : list)
                told = told || a == action::retire || a == action::stop;
            BOOST_TEST(next.accepting() != told, "on " << static_cast<event>(e) << " while " << all.first[i].now());
        }
}
