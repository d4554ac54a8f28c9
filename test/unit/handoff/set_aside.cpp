// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/handoff/set_aside.hpp>

#define BOOST_TEST_MODULE handoff_set_aside
#include "../../handoff/names.hpp"

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <initializer_list>
#include <vector>

using ecdysis::handoff::set_aside;
using action = set_aside::action;
using event = set_aside::event;
using state = set_aside::state;

namespace {

class conversation
{
public:
    conversation& expect(event e, std::initializer_list<action> wanted, state then)
    {
        BOOST_TEST_CONTEXT("on " << e << " while " << it_.now())
        {
            auto const got = it_.on(e);
            BOOST_TEST(std::vector<action>(got.begin(), got.end()) == std::vector<action>(wanted),
                       boost::test_tools::per_element());
            BOOST_TEST(it_.now() == then);
        }
        return *this;
    }
    conversation& told() { return expect(event::began, {action::send_stop, action::arm_grace}, state::telling); }
    conversation& draining() { return told().expect(event::child_stops, {action::arm_drain}, state::draining); }
    conversation& holds_drain(bool wanted)
    {
        BOOST_TEST(it_.holds_drain() == wanted);
        return *this;
    }
    conversation& ends() { return expect(event::child_ended, {action::disarm, action::reap}, state::gone); }
    conversation& ignores(std::initializer_list<event> events)
    {
        for (auto const e : events)
            expect(e, {}, it_.now());
        return *this;
    }

private:
    set_aside it_;
};

} // namespace

BOOST_AUTO_TEST_CASE(it_is_told_to_stop_says_so_drains_and_ends)
{
    conversation{}
        .expect(event::began, {action::send_stop, action::arm_grace}, state::telling)
        .expect(event::child_stops, {action::arm_drain}, state::draining)
        .expect(event::child_ended, {action::disarm, action::reap}, state::gone);
}

BOOST_AUTO_TEST_CASE(one_that_does_not_answer_is_killed)
{
    conversation{}.told().expect(event::deadline, {action::arm_grace, action::kill}, state::killed).ends();
}

BOOST_AUTO_TEST_CASE(one_that_drains_for_too_long_is_killed)
{
    conversation{}.draining().expect(event::deadline, {action::arm_grace, action::kill}, state::killed).ends();
}

BOOST_AUTO_TEST_CASE(one_that_ends_before_it_answers_is_reaped)
{
    conversation{}.told().ends();
}

BOOST_AUTO_TEST_CASE(at_most_one_is_set_aside)
{
    conversation{}.told().expect(event::replaced, {action::arm_grace, action::kill}, state::killed).ends();
    conversation{}.draining().expect(event::replaced, {action::arm_grace, action::kill}, state::killed).ends();
}

BOOST_AUTO_TEST_CASE(a_parent_that_ends_leaves_none_that_has_not_answered)
{
    conversation{}.told().expect(event::parent_leaves, {action::arm_grace, action::kill}, state::killed).ends();
    conversation{}.draining().ignores({event::parent_leaves}).ends();
}

BOOST_AUTO_TEST_CASE(one_that_drains_says_it_once)
{
    conversation{}.draining().ignores({event::child_stops}).ends();
}

BOOST_AUTO_TEST_CASE(it_is_killed_once_and_reaped_once)
{
    conversation{}
        .told()
        .expect(event::deadline, {action::arm_grace, action::kill}, state::killed)
        .ignores({event::replaced, event::parent_leaves, event::child_stops})
        .ends()
        .ignores({event::began, event::child_stops, event::replaced, event::deadline, event::parent_leaves,
                  event::child_ended});
}

BOOST_AUTO_TEST_CASE(one_that_does_not_end_is_left_to_itself_and_reaped_if_it_does)
{
    auto const still = {event::deadline, event::replaced, event::parent_leaves, event::child_stops};
    conversation{}
        .told()
        .expect(event::deadline, {action::arm_grace, action::kill}, state::killed)
        .holds_drain(true)
        .expect(event::deadline, {action::release_drain}, state::left_alone)
        .holds_drain(false)
        .ignores(still)
        .ends()
        .holds_drain(false);
    conversation{}.expect(event::left_alone, {}, state::left_alone).holds_drain(false).ignores(still).ends();
}
