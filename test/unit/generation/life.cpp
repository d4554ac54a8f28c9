// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/life.hpp>

#define BOOST_TEST_MODULE generation_life
#include "../../handoff/names.hpp"

#include <boost/test/unit_test.hpp>

#include <initializer_list>
#include <vector>

using ecdysis::life;
using action = life::action;
using event = life::event;
using state = life::state;
using ecdysis::os::unlinked;

namespace {

constexpr bool supervised = true;

class story
{
public:
    explicit story(life l) : life_{l} {}

    story& expect(event e, std::initializer_list<action> wanted, state then, bool held = false)
    {
        BOOST_TEST_CONTEXT("on " << e << " while " << life_.now())
        {
            auto const got = life_.on(e, held);
            BOOST_TEST(std::vector<action>(got.begin(), got.end()) == std::vector<action>(wanted),
                       boost::test_tools::per_element());
            BOOST_TEST(life_.now() == then);
        }
        return *this;
    }
    story& after(std::initializer_list<event> events)
    {
        for (auto const e : events)
            (void)life_.on(e);
        return *this;
    }
    story& ignores(std::initializer_list<event> events)
    {
        for (auto const e : events) {
            auto const before = life_;
            BOOST_TEST_CONTEXT(e << " while " << life_.now())
            {
                BOOST_TEST(life_.on(e).size() == 0u);
                BOOST_TEST((life_ == before));
            }
        }
        return *this;
    }
    story& unlinks(unlinked wanted)
    {
        BOOST_TEST((life_.unlinks() == wanted));
        return *this;
    }
    story& drained(bool wanted)
    {
        BOOST_TEST(life_.drained() == wanted);
        return *this;
    }
    story& is_main(bool wanted)
    {
        BOOST_TEST(life_.is_main() == wanted);
        return *this;
    }
    story& may_upgrade(bool wanted)
    {
        BOOST_TEST(life_.may_upgrade() == wanted);
        return *this;
    }
    story& leaves(bool wanted)
    {
        BOOST_TEST(life_.leaves() == wanted);
        return *this;
    }
    story& has_accepted(bool wanted)
    {
        BOOST_TEST(life_.has_accepted() == wanted);
        return *this;
    }

private:
    life life_;
};

story first(bool by_a_manager = supervised) { return story{life{true, by_a_manager}}; }
story child(bool by_a_manager = supervised) { return story{life{false, by_a_manager}}; }
story serving(bool by_a_manager = supervised) { return first(by_a_manager).after({event::service_ours}); }
story stopped(bool by_a_manager = supervised)
{
    return serving(by_a_manager).after({event::stop_signal, event::stopped});
}
story retired(bool by_a_manager = supervised) { return serving(by_a_manager).after({event::child_took}); }
story taken_back(bool by_a_manager = supervised)
{
    return child(by_a_manager).after({event::committed, event::stopped});
}

} // namespace

BOOST_AUTO_TEST_SUITE(its_way)

BOOST_AUTO_TEST_CASE(of_the_first_generation_until_a_child_takes_over)
{
    first()
        .has_accepted(false)
        .may_upgrade(false)
        .is_main(true)
        .expect(event::service_ours, {}, state::serving)
        .has_accepted(true)
        .may_upgrade(true)
        .leaves(false)
        .expect(event::child_took, {}, state::retired)
        .may_upgrade(false)
        .leaves(true)
        .is_main(false)
        .expect(event::drain_begins, {action::count_open}, state::retired)
        .drained(false)
        .expect(event::nothing_open, {action::finish}, state::retired)
        .drained(true)
        .ignores({event::nothing_open, event::drain_deadline, event::grace_deadline, event::drain_begins});
}

BOOST_AUTO_TEST_CASE(of_a_child_that_becomes_the_service)
{
    child()
        .is_main(false)
        .expect(event::committed, {}, state::accepting)
        .has_accepted(true)
        .may_upgrade(false)
        .is_main(false)
        .expect(event::service_ours, {}, state::serving)
        .may_upgrade(true)
        .is_main(true)
        .ignores({event::committed, event::gave_up});
}

BOOST_AUTO_TEST_CASE(of_a_child_that_must_not_serve)
{
    child()
        .expect(event::gave_up, {}, state::given_up)
        .leaves(true)
        .has_accepted(false)
        .ignores({event::committed, event::stopped, event::child_took})
        .expect(event::stop_signal, {}, state::given_up);
    child().after({event::committed}).ignores({event::gave_up});
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(stop)

BOOST_AUTO_TEST_CASE(the_machines_of_the_handoff_say_what_it_means)
{
    for (auto const e : {event::stop_signal, event::stop_request}) {
        serving()
            .expect(e, {action::pass_stop}, state::serving)
            .may_upgrade(false)
            .expect(event::stopped, {}, state::stopping);
        child().after({event::committed}).expect(e, {action::pass_stop}, state::accepting);
        child().expect(e, {action::pass_stop}, state::starting);
    }
}

BOOST_AUTO_TEST_CASE(is_passed_on_once)
{
    serving()
        .expect(event::stop_signal, {action::pass_stop}, state::serving)
        .expect(event::stop_signal, {}, state::serving)
        .expect(event::stop_request, {}, state::serving);
}

BOOST_AUTO_TEST_CASE(a_second_signal_ends_the_drain_of_the_main_process_or_where_no_manager_is)
{
    for (bool const by_a_manager : {false, true})
        stopped(by_a_manager)
            .after({event::drain_begins})
            .expect(event::stop_signal, {action::finish}, state::stopping);
    for (auto& it : {retired(false), taken_back(false)})
        story{it}
            .after({event::drain_begins, event::stop_signal})
            .drained(false)
            .after({event::stop_signal})
            .drained(true);
}

BOOST_AUTO_TEST_CASE(a_managers_second_signal_to_all_that_is_left_cuts_no_drain)
{
    for (auto& it : {retired(), taken_back()})
        story{it}
            .after({event::drain_begins})
            .after({event::stop_signal, event::stop_signal, event::stop_signal})
            .drained(false)
            .after({event::nothing_open})
            .drained(true);
}

BOOST_AUTO_TEST_CASE(by_frame_and_by_signal_is_one_stop)
{
    for (bool const by_a_manager : {false, true})
        child(by_a_manager)
            .after({event::committed, event::stopped, event::drain_begins})
            .expect(event::stop_signal, {}, state::stopping)
            .drained(false);
}

BOOST_AUTO_TEST_CASE(a_request_ends_any_drain_now)
{
    for (auto& it : {stopped(), retired(), taken_back()})
        story{it}.after({event::drain_begins, event::stop_request}).drained(true);
}

BOOST_AUTO_TEST_CASE(a_drain_that_is_to_end_before_it_begins_is_over_when_it_does)
{
    stopped()
        .expect(event::stop_signal, {}, state::stopping)
        .drained(false)
        .expect(event::drain_begins, {action::finish}, state::stopping)
        .drained(true);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(drain)

BOOST_AUTO_TEST_CASE(does_not_end_while_a_child_is_awaited)
{
    stopped()
        .after({event::drain_begins})
        .expect(event::nothing_open, {}, state::stopping, true)
        .drained(false)
        .expect(event::nothing_open, {action::finish}, state::stopping)
        .drained(true);
}

BOOST_AUTO_TEST_CASE(ends_at_its_deadline)
{
    retired()
        .after({event::drain_begins})
        .expect(event::drain_deadline, {action::finish}, state::retired)
        .drained(true);
}

BOOST_AUTO_TEST_CASE(that_is_held_ends_a_grace_after_its_deadline)
{
    stopped()
        .after({event::drain_begins})
        .ignores({event::grace_deadline})
        .expect(event::drain_deadline, {action::arm_grace}, state::stopping, true)
        .drained(false)
        .expect(event::drain_deadline, {}, state::stopping, true)
        .expect(event::grace_deadline, {action::finish}, state::stopping, true)
        .drained(true);
    stopped()
        .after({event::drain_begins})
        .expect(event::drain_deadline, {action::arm_grace}, state::stopping, true)
        .expect(event::nothing_open, {action::finish}, state::stopping);
}

BOOST_AUTO_TEST_CASE(does_not_end_before_it_has_begun)
{
    stopped().ignores({event::nothing_open, event::drain_deadline, event::grace_deadline}).drained(false);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(what_it_unlinks)

BOOST_AUTO_TEST_CASE(the_last_generation_leaves_nothing_behind)
{
    serving().unlinks(unlinked::all);
    stopped().unlinks(unlinked::all);
    child().after({event::committed, event::service_ours, event::stop_signal, event::stopped}).unlinks(unlinked::all);
}

BOOST_AUTO_TEST_CASE(what_a_child_has_taken_over_is_its_own)
{
    retired().unlinks(unlinked::none);
}

BOOST_AUTO_TEST_CASE(a_child_takes_along_what_it_bound_and_nothing_of_its_parents)
{
    child().unlinks(unlinked::fresh);
    child().after({event::gave_up}).unlinks(unlinked::fresh);
    child().after({event::committed}).unlinks(unlinked::fresh);
    taken_back().unlinks(unlinked::fresh);
}

BOOST_AUTO_TEST_CASE(a_child_that_hears_after_its_stop_that_it_was_the_last_leaves_nothing_behind)
{
    taken_back().expect(event::service_ours, {}, state::stopping).unlinks(unlinked::all);
}

BOOST_AUTO_TEST_CASE(what_the_first_generation_found_when_it_failed_to_start_is_for_the_next)
{
    first().unlinks(unlinked::fresh);
}

BOOST_AUTO_TEST_SUITE_END()
