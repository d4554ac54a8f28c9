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

constexpr parent then(parent p, std::initializer_list<event> events)
{
    for (auto const e : events)
        (void)p.on(e);
    return p;
}
constexpr parent launching() { return after({event::upgrade}); }
constexpr parent handing_over() { return then(launching(), {event::launched}); }
constexpr parent starting() { return then(handing_over(), {event::asked, event::handed_over}); }
constexpr parent reaching() { return then(starting(), {event::ready}); }
constexpr parent committing() { return then(reaching(), {event::reached}); }
constexpr parent committed() { return then(committing(), {event::commit_sent}); }
constexpr parent probation() { return then(committed(), {event::serving}); }
constexpr parent asking() { return then(probation(), {event::deadline}); }
constexpr parent announcing() { return then(asking(), {event::alive}); }
constexpr parent confirming() { return then(announcing(), {event::announced}); }
constexpr parent settling() { return then(confirming(), {event::confirmed}); }
constexpr parent yielding() { return then(settling(), {event::settled}); }
constexpr parent yielded() { return then(yielding(), {event::yours_sent}); }
constexpr parent retired() { return then(yielded(), {event::taken}); }
constexpr parent stopped() { return after({event::stop}); }

constexpr std::array before_commit{handing_over(), starting(), reaching(), committing()};
constexpr std::array before_announcement{committed(), probation(), asking(), announcing()};
constexpr std::array before_yours{confirming(), settling(), yielding()};

/// Every machine that some order of events leads to; a list of actions that overflows does not compile.
constexpr auto reachable()
{
    std::pair<std::array<parent, 96>, std::size_t> found{{}, 1};
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
static_assert(all.second > 20);

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
    conversation& announced(bool wanted)
    {
        BOOST_TEST(p_.has_announced() == wanted);
        return *this;
    }
    conversation& holds_drain(bool wanted)
    {
        BOOST_TEST(p_.holds_drain() == wanted);
        return *this;
    }
    conversation& ends_service(bool wanted)
    {
        BOOST_TEST(p_.ends_service() == wanted);
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
    conversation& can_begin_another()
    {
        return accepting(true).upgrading(false).expect(
            event::upgrade, {action::tell_reloading, action::arm_ready, action::launch}, state::launching);
    }
    /// The child, which has no commit, dies, and the parent serves on.
    conversation& child_dies_and_parent_serves_on()
    {
        return expect(event::child_ended, {action::read_rest}, p_.now())
            .accepting(true)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::serving)
            .can_begin_another();
    }
    /// The same where a stop came meanwhile.
    conversation& child_dies_and_parent_stops()
    {
        return expect(event::child_ended, {action::read_rest}, p_.now())
            .accepting(false)
            .holds_drain(true)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::stopped)
            .accepting(false)
            .holds_drain(false)
            .upgrading(false)
            .expect(event::upgrade, {action::refuse_not_serving}, state::stopped);
    }
    /// The child dies with its commit, and the parent accepts again.
    conversation& child_dies_and_parent_accepts_again()
    {
        return expect(event::child_ended, {action::read_rest}, p_.now())
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::resume, action::close_handoff, action::restore,
                     action::report_failed},
                    state::serving)
            .can_begin_another();
    }
    conversation& takes_back(event e)
    {
        return expect(e,
                      {action::disarm, action::resume, action::set_aside, action::restore, action::report_failed},
                      state::serving)
            .announced(false)
            .can_begin_another();
    }

private:
    parent p_;
};

constexpr std::initializer_list<event> of_a_child{event::asked,  event::handed_over, event::ready, event::failed,
                                                  event::serving, event::alive,      event::taken, event::garbage,
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
        .expect(event::ready, {action::arm_barrier, action::reach_manager}, state::reaching)
        .expect(event::reached, {action::arm_serving, action::commit}, state::committing)
        .expect(event::commit_sent, {action::report_committed}, state::committed)
        .accepting(true)
        .expect(event::serving, {action::pause, action::arm_probation}, state::probation)
        .accepting(false)
        .expect(event::deadline, {action::arm_serving, action::ask_alive}, state::asking)
        .expect(event::alive, {action::arm_barrier, action::announce}, state::announcing)
        .announced(false)
        .expect(event::announced, {}, state::confirming)
        .announced(true)
        .expect(event::confirmed, {action::disarm, action::settle}, state::settling)
        .expect(event::settled, {action::send_yours}, state::yielding)
        .upgrading(true)
        .expect(event::yours_sent, {action::retire, action::arm_taken}, state::yielded)
        .upgrading(false)
        .holds_drain(true)
        .expect(event::taken, {action::disarm, action::report_ok}, state::retired)
        .accepting(false)
        .holds_drain(false)
        .ends_service(false)
        .expect(event::child_ended, {action::reap, action::close_handoff}, state::retired);
}

BOOST_AUTO_TEST_CASE(a_manager_that_is_slow_delays_the_commit_but_does_not_prevent_it)
{
    conversation{reaching()}
        .expect(event::deadline, {action::report_manager_late, action::arm_serving, action::commit}, state::committing)
        .ignores({event::reached, event::unreachable})
        .expect(event::commit_sent, {action::report_committed}, state::committed);
}

BOOST_AUTO_TEST_CASE(a_manager_that_does_not_confirm_what_it_was_told_is_said_so)
{
    conversation{confirming()}
        .expect(event::deadline, {action::report_manager_late, action::settle}, state::settling)
        .ignores({event::confirmed, event::deadline})
        .expect(event::settled, {action::send_yours}, state::yielding)
        .ignores({event::confirmed, event::deadline});
    for (auto const& p : {parent{}, yielded(), retired(), committed()})
        conversation{p}.ignores({event::confirmed});
}

BOOST_AUTO_TEST_CASE(a_child_that_does_not_say_taken_has_the_service_all_the_same)
{
    conversation{yielded()}.expect(event::deadline, {action::disarm, action::report_ok}, state::retired);
}

BOOST_AUTO_TEST_CASE(once_announced_a_child_that_is_odd_is_the_main_process_all_the_same)
{
    for (auto const& p : before_yours)
        conversation{p}.ignores(of_a_child).announced(true);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(triggers)

BOOST_AUTO_TEST_CASE(stop_while_no_upgrade_runs)
{
    conversation{}
        .expect(event::stop, {action::stop}, state::stopped)
        .accepting(false)
        .upgrading(false)
        .ends_service(true);
}

BOOST_AUTO_TEST_CASE(stop_before_commit_kills_the_child_at_once)
{
    for (auto const& p : before_commit)
        conversation{p}
            .expect(event::stop, {action::stop, action::arm_kill, action::kill}, state::ending)
            .accepting(false)
            .upgrading(true)
            .holds_drain(true)
            .ends_service(true)
            .ignores(of_a_child)
            .ignores({event::stop, event::reached, event::commit_lost, event::commit_sent})
            .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_launching_ends_the_child_when_it_comes)
{
    conversation{launching()}
        .expect(event::stop, {action::arm_kill, action::stop}, state::ending)
        .accepting(false)
        .holds_drain(true)
        .expect(event::launched, {action::arm_kill, action::kill}, state::ending)
        .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_a_launch_takes_too_long)
{
    conversation{then(launching(), {event::deadline})}
        .expect(event::stop, {action::stop}, state::ending)
        .expect(event::launched, {action::arm_kill, action::kill}, state::ending)
        .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_launching_and_the_launch_fails)
{
    conversation{launching()}
        .expect(event::stop, {action::arm_kill, action::stop}, state::ending)
        .expect(event::launch_failed,
                {action::disarm, action::close_handoff, action::restore, action::report_failed}, state::stopped)
        .accepting(false);
}

BOOST_AUTO_TEST_CASE(stop_while_launching_and_nothing_comes)
{
    conversation{launching()}
        .expect(event::stop, {action::arm_kill, action::stop}, state::ending)
        .expect(event::deadline,
                {action::disarm, action::give_up_launch, action::close_handoff, action::restore, action::report_failed},
                state::stopped)
        .holds_drain(false);
}

BOOST_AUTO_TEST_CASE(stop_while_a_failed_child_ends)
{
    conversation{then(starting(), {event::failed})}
        .expect(event::stop, {action::stop, action::arm_kill, action::kill}, state::ending)
        .accepting(false)
        .ignores({event::stop})
        .expect(event::upgrade, {action::refuse_not_serving}, state::ending)
        .child_dies_and_parent_stops();
}

BOOST_AUTO_TEST_CASE(stop_while_the_rest_of_a_dead_child_is_read)
{
    for (auto const& p : before_commit)
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .expect(event::stop, {action::stop}, state::ending)
            .accepting(false)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::stopped);
    for (auto const& p : before_announcement)
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .expect(event::stop, {action::stop, action::disarm}, state::ending)
            .accepting(false)
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::restore, action::report_failed},
                    state::stopped);
    for (auto const& p : before_yours)
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .expect(event::stop, {}, p.now())
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::stop, action::restore, action::report_failed},
                    state::stopped)
            .ends_service(true);
}

BOOST_AUTO_TEST_CASE(stop_from_commit_to_the_announcement_stops_both)
{
    for (auto const& p : before_announcement)
        conversation{p}
            .expect(event::stop,
                    {action::disarm, action::stop_child, action::stop, action::restore, action::report_failed},
                    state::stopped)
            .accepting(false)
            .ends_service(true)
            .ignores(of_a_child)
            .ignores({event::announced, event::deadline});
}

BOOST_AUTO_TEST_CASE(stop_during_the_barrier_says_yours_and_then_stop)
{
    conversation{confirming()}
        .expect(event::stop, {action::disarm, action::settle}, state::settling)
        .expect(event::upgrade, {action::refuse_not_serving}, state::settling)
        .expect(event::settled, {action::send_yours}, state::yielding)
        .expect(event::yours_sent, {action::send_stop, action::retire, action::arm_taken}, state::yielded)
        .ends_service(false)
        .expect(event::taken, {action::disarm, action::report_ok}, state::retired);
    for (auto const& p : {settling(), yielding()})
        conversation{p}.expect(event::stop, {}, p.now()).ignores({event::stop});
    conversation{then(yielding(), {event::stop})}
        .expect(event::yours_sent, {action::send_stop, action::retire, action::arm_taken}, state::yielded);
}

BOOST_AUTO_TEST_CASE(stop_during_the_barrier_of_a_child_that_has_ended_is_the_parents)
{
    conversation{then(confirming(), {event::stop})}
        .expect(event::child_ended, {action::read_rest}, state::settling)
        .expect(event::nothing_left,
                {action::disarm, action::reap, action::close_handoff, action::stop, action::restore, action::report_failed},
                state::stopped)
        .ends_service(true);
}

BOOST_AUTO_TEST_CASE(a_child_that_is_stopped_as_the_main_process_ends_the_service)
{
    conversation{confirming()}
        .expect(event::child_stops, {action::disarm, action::settle}, state::settling)
        .expect(event::settled, {action::send_yours}, state::yielding)
        .expect(event::yours_sent, {action::send_stop, action::retire, action::arm_taken}, state::yielded);
    for (auto const& p : before_yours)
        conversation{then(p, {event::child_ended})}
            .expect(event::child_stops, {}, p.now())
            .expect(event::nothing_left,
                    {action::disarm, action::reap, action::close_handoff, action::stop, action::restore, action::report_failed},
                    state::stopped);
    conversation{then(yielding(), {event::child_stops})}
        .expect(event::yours_lost,
                {action::disarm, action::stop_child, action::stop, action::restore, action::report_failed},
                state::stopped);
}

BOOST_AUTO_TEST_CASE(stop_while_draining_is_not_the_handoffs)
{
    for (auto const& p : {yielded(), retired(), stopped()})
        conversation{p}.ignores({event::stop});
}

BOOST_AUTO_TEST_CASE(upgrade_while_an_upgrade_runs_is_busy)
{
    for (auto const& p : {launching(), handing_over(), starting(), reaching(), committing(), committed(), probation(),
                          asking(), announcing(), confirming(), settling(), yielding(),
                          then(starting(), {event::garbage}), then(starting(), {event::child_ended})}) {
        conversation{p}.expect(event::upgrade, {action::refuse_busy}, p.now());
        BOOST_TEST((then(p, {event::upgrade}) == p));
    }
}

BOOST_AUTO_TEST_CASE(upgrade_while_draining_is_not_serving)
{
    for (auto const& p : {yielded(), retired(), stopped(), then(committed(), {event::stop}),
                          then(starting(), {event::stop})})
        conversation{p}.expect(event::upgrade, {action::refuse_not_serving}, p.now());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(failure_before_commit)

BOOST_AUTO_TEST_CASE(the_program_cannot_be_started)
{
    conversation{launching()}
        .expect(event::launch_failed,
                {action::disarm, action::close_handoff, action::restore, action::report_failed}, state::serving)
        .can_begin_another();
}

BOOST_AUTO_TEST_CASE(a_launch_that_takes_too_long_and_comes)
{
    conversation{launching()}
        .expect(event::deadline, {action::arm_kill}, state::ending)
        .accepting(true)
        .expect(event::launched, {action::arm_kill, action::kill}, state::ending)
        .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(a_launch_that_takes_too_long_and_fails)
{
    conversation{launching()}
        .expect(event::deadline, {action::arm_kill}, state::ending)
        .expect(event::launch_failed,
                {action::disarm, action::close_handoff, action::restore, action::report_failed}, state::serving)
        .accepting(true);
}

BOOST_AUTO_TEST_CASE(a_launch_of_which_nothing_is_heard)
{
    conversation{launching()}
        .expect(event::deadline, {action::arm_kill}, state::ending)
        .expect(event::deadline,
                {action::disarm, action::give_up_launch, action::close_handoff, action::restore, action::report_failed},
                state::serving)
        .accepting(true)
        .can_begin_another();
}

BOOST_AUTO_TEST_CASE(the_child_dies)
{
    for (auto const& p : before_commit)
        conversation{p}.child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(the_child_says_why_it_fails_or_closes_its_end)
{
    for (auto const& p : before_commit)
        for (auto const e : {event::failed, event::closed}) {
            conversation{p}.expect(e, {action::arm_kill}, state::ending).child_dies_and_parent_serves_on();
            conversation{p}
                .expect(e, {action::arm_kill}, state::ending)
                .ignores(of_a_child)
                .expect(event::deadline, {action::arm_kill, action::kill}, state::ending)
                .child_dies_and_parent_serves_on();
        }
}

BOOST_AUTO_TEST_CASE(what_the_child_says_makes_no_sense)
{
    for (auto const& p : before_commit)
        for (auto const e : {event::garbage, event::ready, event::asked, event::serving, event::alive, event::taken,
                             event::child_stops}) {
            if ((p == handing_over() && e == event::asked) || (p == starting() && e == event::ready))
                continue;
            conversation{p}
                .expect(e, {action::arm_kill, action::kill}, state::ending)
                .accepting(true)
                .child_dies_and_parent_serves_on();
        }
}

BOOST_AUTO_TEST_CASE(the_child_is_late)
{
    for (auto const& p : {handing_over(), starting(), committing()})
        conversation{p}
            .expect(event::deadline, {action::arm_kill, action::kill}, state::ending)
            .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(a_child_that_was_killed_and_does_not_end)
{
    auto const left = {action::disarm, action::leave_alone, action::close_handoff, action::restore, action::report_failed};
    for (auto const& p : before_commit)
        conversation{p}
            .expect(event::garbage, {action::arm_kill, action::kill}, state::ending)
            .expect(event::deadline, left, state::serving)
            .can_begin_another();
    conversation{then(starting(), {event::garbage})}
        .expect(event::stop, {action::stop}, state::ending)
        .expect(event::deadline, left, state::stopped)
        .holds_drain(false);
    conversation{then(starting(), {event::stop})}.expect(event::deadline, left, state::stopped);
}

BOOST_AUTO_TEST_CASE(the_manager_cannot_be_reached)
{
    conversation{reaching()}
        .expect(event::unreachable, {action::arm_kill, action::kill}, state::ending)
        .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_CASE(the_commit_is_lost)
{
    conversation{committing()}
        .expect(event::commit_lost, {action::arm_kill, action::kill}, state::ending)
        .child_dies_and_parent_serves_on();
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(taken_back)

BOOST_AUTO_TEST_CASE(a_child_that_is_not_serving_alive_or_announced_in_time)
{
    for (auto const& p : {committed(), asking(), announcing()})
        conversation{p}.takes_back(event::deadline);
}

BOOST_AUTO_TEST_CASE(a_child_that_says_why_it_fails_or_that_it_stops)
{
    for (auto const& p : before_announcement)
        for (auto const e : {event::failed, event::child_stops})
            conversation{p}.takes_back(e);
}

BOOST_AUTO_TEST_CASE(a_child_that_makes_no_sense)
{
    for (auto const& p : before_announcement)
        for (auto const e : {event::garbage, event::asked, event::ready, event::taken, event::serving, event::alive}) {
            if ((p == committed() && e == event::serving) || (p == asking() && e == event::alive))
                continue;
            conversation{p}.takes_back(e);
        }
}

BOOST_AUTO_TEST_CASE(a_manager_that_cannot_be_told)
{
    conversation{announcing()}.takes_back(event::unannounced);
}

BOOST_AUTO_TEST_CASE(a_child_that_cannot_hear_that_the_service_is_its_own)
{
    conversation{yielding()}.takes_back(event::yours_lost);
}

BOOST_AUTO_TEST_CASE(what_it_says_afterwards_is_ignored)
{
    conversation{then(committed(), {event::deadline})}
        .ignores(of_a_child)
        .ignores({event::child_stops, event::child_ended});
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(death)

BOOST_AUTO_TEST_CASE(a_child_that_dies_between_commit_and_yours_costs_nothing)
{
    for (auto const& p : before_announcement)
        conversation{p}.child_dies_and_parent_accepts_again();
    for (auto const& p : before_yours)
        conversation{p}.child_dies_and_parent_accepts_again();
}

BOOST_AUTO_TEST_CASE(a_child_that_dies_with_the_service_has_crashed)
{
    conversation{yielded()}
        .expect(event::child_ended, {action::read_rest}, state::yielded)
        .ignores({event::taken, event::deadline})
        .expect(event::nothing_left, {action::disarm, action::reap, action::close_handoff, action::report_failed},
                state::retired);
}

BOOST_AUTO_TEST_CASE(what_a_dead_child_said_last_changes_nothing)
{
    for (auto const& p : before_commit)
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .ignores(of_a_child)
            .ignores({event::child_ended, event::deadline, event::reached, event::commit_lost})
            .accepting(true);
    for (auto const& p : before_announcement)
        conversation{p}
            .expect(event::child_ended, {action::read_rest}, p.now())
            .ignores(of_a_child)
            .ignores({event::child_ended, event::child_stops, event::deadline, event::announced, event::unannounced})
            .accepting(p == committed());
}

BOOST_AUTO_TEST_CASE(the_end_of_file_alone_ends_nothing)
{
    conversation{starting()}.expect(event::closed, {action::arm_kill}, state::ending).upgrading(true);
    for (auto const& p : before_announcement)
        conversation{p}.ignores({event::closed}).upgrading(true);
    for (auto const& p : {yielded(), retired()})
        conversation{p}.ignores({event::closed});
}

BOOST_AUTO_TEST_CASE(nothing_left_means_nothing_without_a_death)
{
    for (std::size_t i = 0; i != all.second; ++i)
        if (then(all.first[i], {event::child_ended}) != all.first[i] || all.first[i].now() == state::serving)
            conversation{all.first[i]}.ignores({event::nothing_left});
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_parent_that_serves_hears_no_child)
{
    conversation{}
        .ignores(of_a_child)
        .ignores({event::launched, event::launch_failed, event::child_ended, event::nothing_left, event::reached,
                  event::announced, event::confirmed, event::settled, event::commit_sent, event::commit_lost,
                  event::yours_sent, event::yours_lost, event::child_stops, event::deadline});
}

BOOST_AUTO_TEST_CASE(no_event_in_any_state_kills_a_child_with_a_commit)
{
    for (std::size_t i = 0; i < all.second; ++i) {
        if (!all.first[i].has_committed_child())
            continue;
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = all.first[i];
            for (auto const a : next.on(static_cast<event>(e)))
                BOOST_TEST(a != action::kill, "on " << static_cast<event>(e) << " while " << all.first[i].now());
        }
    }
}

BOOST_AUTO_TEST_CASE(nothing_but_an_answer_that_it_is_alive_leads_to_an_announcement)
{
    for (std::size_t i = 0; i < all.second; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = all.first[i];
            auto const answered = all.first[i].now() == state::asking && static_cast<event>(e) == event::alive;
            for (auto const a : next.on(static_cast<event>(e)))
                BOOST_TEST((a != action::announce || answered));
        }
}

BOOST_AUTO_TEST_CASE(a_parent_stops_accepting_only_to_let_its_child_accept_or_to_stop)
{
    for (std::size_t i = 0; i < all.second; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = all.first[i];
            if (!next.accepting())
                continue;
            auto const list = next.on(static_cast<event>(e));
            bool told = false;
            for (auto const a : list)
                told = told || a == action::pause || a == action::stop;
            BOOST_TEST(next.accepting() != told, "on " << static_cast<event>(e) << " while " << all.first[i].now());
        }
}

BOOST_AUTO_TEST_CASE(a_parent_that_paused_accepts_again_only_by_resuming)
{
    for (std::size_t i = 0; i < all.second; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = all.first[i];
            if (next.accepting())
                continue;
            auto const list = next.on(static_cast<event>(e));
            bool told = false;
            for (auto const a : list)
                told = told || a == action::resume;
            BOOST_TEST(next.accepting() == told, "on " << static_cast<event>(e) << " while " << all.first[i].now());
        }
}
