// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/handoff/child.hpp>

#define BOOST_TEST_MODULE handoff_child
#include "../../handoff/names.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <initializer_list>
#include <utility>
#include <vector>

using ecdysis::handoff::child;
using action = child::action;
using event = child::event;
using state = child::state;

namespace {

constexpr std::size_t event_count = ecdysis::handoff::child_events.size();

constexpr child then(child c, std::initializer_list<event> events)
{
    for (auto const e : events)
        (void)c.on(e);
    return c;
}
constexpr child receiving(bool heir = true) { return then(child{heir}, {event::began}); }
constexpr child starting(bool heir = true) { return then(receiving(heir), {event::frame, event::end}); }
constexpr child waiting(bool heir = true) { return then(starting(heir), {event::host_ready}); }
constexpr child committed(bool heir = true) { return then(waiting(heir), {event::commit}); }
constexpr child serving(bool heir = true) { return then(committed(heir), {event::host_serves}); }
constexpr child in_charge(bool heir = true) { return then(serving(heir), {event::yours}); }
constexpr child stopping(bool heir = true) { return then(serving(heir), {event::stop}); }
constexpr child given_up() { return then(starting(), {event::garbage}); }
constexpr child stopped() { return then(starting(), {event::stop}); }

/// Every machine that some order of events leads to; a list of actions that overflows does not compile.
constexpr auto reachable(bool heir)
{
    std::pair<std::array<child, 64>, std::size_t> found{
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            return std::array{((void)I, child{heir})...};
        }(std::make_index_sequence<64>{}),
        1};
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
constexpr std::array all{reachable(false), reachable(true)};
static_assert(all[0].second > 7 && all[1].second > 7);

class conversation
{
public:
    conversation(child c) : c_{c} {}

    conversation& expect(event e, std::initializer_list<action> wanted, state then)
    {
        BOOST_TEST_CONTEXT("on " << e << " while " << c_.now())
        {
            auto const got = c_.on(e);
            BOOST_TEST(std::vector<action>(got.begin(), got.end()) == std::vector<action>(wanted),
                       boost::test_tools::per_element());
            BOOST_TEST(c_.now() == then);
        }
        return *this;
    }
    conversation& may_accept(bool wanted)
    {
        BOOST_TEST(c_.may_accept() == wanted);
        return *this;
    }
    conversation& holds_drain(bool wanted)
    {
        BOOST_TEST(c_.holds_drain() == wanted);
        return *this;
    }
    conversation& ignores(std::initializer_list<event> events)
    {
        for (auto const e : events) {
            auto const before = c_;
            BOOST_TEST_CONTEXT(e << " while " << c_.now())
            {
                BOOST_TEST(c_.on(e).size() == 0u);
                BOOST_TEST((c_ == before));
            }
        }
        return *this;
    }
    /// It must not serve, and hears nothing more.
    conversation& gives_up(event e)
    {
        return expect(e, {action::give_up, action::close_handoff}, state::given_up).may_accept(false).is_over();
    }
    conversation& is_over()
    {
        return ignores({event::began, event::frame, event::end, event::commit, event::alive_asked, event::yours,
                        event::stop_frame, event::garbage, event::closed, event::nothing_left, event::deadline,
                        event::host_ready, event::host_failed, event::host_serves, event::stop});
    }

private:
    child c_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(success)

BOOST_AUTO_TEST_CASE(a_handoff_from_the_first_frame_until_the_service_is_its_own)
{
    for (bool const heir : {false, true})
        conversation{child{heir}}
            .expect(event::began, {action::ask}, state::receiving)
            .expect(event::frame, {action::ask}, state::receiving)
            .expect(event::frame, {action::ask}, state::receiving)
            .expect(event::end, {}, state::starting)
            .may_accept(false)
            .expect(event::host_ready, {action::send_ready}, state::waiting)
            .may_accept(false)
            .expect(event::commit, {action::accept}, state::committed)
            .may_accept(true)
            .expect(event::host_serves, {action::send_serving}, state::serving)
            .expect(event::alive_asked, {action::send_alive}, state::serving)
            .expect(event::yours, {action::take_service, action::send_taken}, state::in_charge)
            .may_accept(true)
            .expect(event::closed, {action::close_handoff}, state::in_charge);
}

BOOST_AUTO_TEST_CASE(a_signal_that_came_late_to_the_parent_is_heeded)
{
    conversation{in_charge()}.expect(event::yours, {action::heed_signals}, state::in_charge);
    conversation{in_charge()}
        .expect(event::parent_ended, {action::read_rest}, state::in_charge)
        .expect(event::yours, {action::heed_signals}, state::in_charge);
}

BOOST_AUTO_TEST_CASE(the_handoff_is_dropped_with_the_parent_even_if_its_workers_hold_its_end)
{
    conversation{in_charge()}
        .expect(event::parent_ended, {action::read_rest}, state::in_charge)
        .expect(event::nothing_left, {action::close_handoff}, state::in_charge)
        .may_accept(true);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(stop)

BOOST_AUTO_TEST_CASE(of_its_own_before_commit)
{
    conversation{receiving()}.gives_up(event::stop);
    for (auto const& c : {starting(), waiting()})
        conversation{c}
            .expect(event::stop, {action::send_fail, action::stop, action::close_handoff}, state::stopped)
            .may_accept(false)
            .is_over();
}

BOOST_AUTO_TEST_CASE(of_its_own_after_commit_is_told_and_the_parent_takes_back)
{
    for (auto const& c : {committed(), serving()})
        conversation{c}
            .holds_drain(false)
            .expect(event::stop, {action::stop, action::send_stopping}, state::stopping)
            .may_accept(false)
            .holds_drain(true)
            .ignores({event::stop, event::alive_asked, event::closed, event::host_serves, event::host_failed})
            .expect(event::stop_frame, {action::close_handoff}, state::stopped)
            .holds_drain(false)
            .is_over();
}

BOOST_AUTO_TEST_CASE(of_its_own_where_it_was_announced_before_its_parent_heard_ends_the_service)
{
    conversation{stopping()}
        .expect(event::yours, {action::end_service, action::send_taken, action::close_handoff}, state::stopped)
        .is_over();
}

BOOST_AUTO_TEST_CASE(of_its_own_where_its_parent_has_died_ends_the_service)
{
    conversation{stopping()}
        .expect(event::parent_ended, {action::read_rest}, state::stopping)
        .expect(event::nothing_left, {action::end_service, action::close_handoff}, state::stopped)
        .is_over();
    conversation{stopping()}
        .expect(event::parent_ended, {action::read_rest}, state::stopping)
        .expect(event::stop_frame, {action::close_handoff}, state::stopped);
}

BOOST_AUTO_TEST_CASE(of_its_own_as_the_service_is_its_own_parents_sides_to_carry_out)
{
    conversation{in_charge()}.expect(event::stop, {action::close_handoff}, state::stopped).is_over();
}

BOOST_AUTO_TEST_CASE(by_frame_ends_accepting_and_is_answered)
{
    for (auto const& c : {committed(), serving()})
        conversation{c}
            .expect(event::stop_frame, {action::stop, action::send_stopping, action::close_handoff}, state::stopped)
            .may_accept(false)
            .is_over();
}

BOOST_AUTO_TEST_CASE(by_frame_after_yours_is_the_services)
{
    conversation{in_charge()}
        .expect(event::stop_frame, {action::stop, action::close_handoff}, state::stopped)
        .may_accept(false)
        .is_over();
}

BOOST_AUTO_TEST_CASE(by_frame_of_a_parent_that_then_died)
{
    conversation{waiting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .expect(event::commit, {action::accept}, state::committed)
        .expect(event::stop_frame, {action::stop, action::send_stopping, action::close_handoff}, state::stopped)
        .is_over();
}

BOOST_AUTO_TEST_CASE(by_frame_before_commit_makes_no_sense)
{
    for (auto const& c : {receiving(), starting(), waiting()})
        conversation{c}.gives_up(event::stop_frame);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(failure_before_commit)

BOOST_AUTO_TEST_CASE(the_host_says_why_it_cannot)
{
    for (auto const& c : {receiving(), starting(), waiting()})
        conversation{c}
            .expect(event::host_failed, {action::send_fail, action::give_up}, state::given_up)
            .may_accept(false)
            .is_over();
}

BOOST_AUTO_TEST_CASE(the_handoff_takes_too_long)
{
    conversation{receiving()}.gives_up(event::deadline);
    for (auto const& c : {starting(), waiting(), committed(), serving()})
        conversation{c}.ignores({event::deadline});
}

BOOST_AUTO_TEST_CASE(what_the_parent_says_makes_no_sense)
{
    for (auto const& [c, e] : {std::pair{receiving(), event::garbage},
                               std::pair{receiving(), event::commit},
                               std::pair{receiving(), event::alive_asked},
                               std::pair{receiving(), event::yours},
                               std::pair{starting(), event::alive_asked},
                               std::pair{starting(), event::yours},
                               std::pair{waiting(), event::alive_asked},
                               std::pair{waiting(), event::yours},
                               std::pair{starting(), event::garbage},
                               std::pair{starting(), event::frame},
                               std::pair{starting(), event::end},
                               std::pair{starting(), event::commit},
                               std::pair{waiting(), event::garbage},
                               std::pair{waiting(), event::frame},
                               std::pair{waiting(), event::end}})
        conversation{c}.gives_up(e);
}

BOOST_AUTO_TEST_CASE(the_parent_closes_its_end_in_the_middle)
{
    conversation{receiving()}.gives_up(event::closed);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_child_with_a_commit_cannot_be_talked_out_of_it)
{
    for (auto const& c : {committed(), serving(), in_charge()})
        conversation{c}
            .ignores({event::began, event::frame, event::end, event::commit, event::garbage, event::deadline,
                      event::host_ready})
            .may_accept(true);
}

BOOST_AUTO_TEST_CASE(a_health_check_after_commit_may_fail_and_the_child_accepts_until_it_is_taken_back)
{
    for (auto const& c : {committed(), serving()})
        conversation{c}.expect(event::host_failed, {action::send_fail}, c.now()).may_accept(true);
    conversation{then(serving(), {event::host_failed})}
        .expect(event::stop_frame, {action::stop, action::send_stopping, action::close_handoff}, state::stopped);
}

BOOST_AUTO_TEST_CASE(a_failure_that_was_said_before_the_parents_death_is_void)
{
    conversation{then(serving(), {event::host_failed})}
        .expect(event::parent_ended, {action::read_rest}, state::serving)
        .expect(event::nothing_left, {action::take_service, action::close_handoff}, state::in_charge)
        .may_accept(true);
    conversation{in_charge()}.ignores({event::host_failed});
}

BOOST_AUTO_TEST_SUITE(death)

BOOST_AUTO_TEST_CASE(the_end_of_file_alone_makes_no_heir)
{
    for (auto const& c : {starting(), waiting()})
        conversation{c}.ignores({event::closed}).may_accept(false);
}

BOOST_AUTO_TEST_CASE(the_end_of_file_alone_gives_no_service)
{
    for (auto const& c : {committed(), serving(), stopping()})
        conversation{c}.ignores({event::closed});
}

BOOST_AUTO_TEST_CASE(in_the_middle_of_the_handoff)
{
    for (bool const heir : {false, true}) {
        conversation{receiving(heir)}
            .expect(event::parent_ended, {action::read_rest}, state::receiving)
            .expect(event::frame, {}, state::receiving)
            .expect(event::closed, {}, state::receiving)
            .gives_up(event::nothing_left);
        conversation{receiving(heir)}.gives_up(event::closed).expect(event::parent_ended, {}, state::given_up);
    }
}

BOOST_AUTO_TEST_CASE(when_the_handoff_is_complete_but_unread)
{
    conversation{receiving(true)}
        .expect(event::parent_ended, {action::read_rest}, state::receiving)
        .expect(event::frame, {}, state::receiving)
        .expect(event::end, {}, state::starting)
        .expect(event::nothing_left, {}, state::starting)
        .may_accept(false)
        .expect(event::host_ready, {action::be_heir, action::take_service, action::close_handoff}, state::in_charge)
        .may_accept(true)
        .ignores({event::host_serves, event::parent_ended});
    conversation{receiving(false)}
        .expect(event::parent_ended, {action::read_rest}, state::receiving)
        .expect(event::end, {}, state::starting)
        .gives_up(event::nothing_left);
}

BOOST_AUTO_TEST_CASE(while_the_program_starts)
{
    conversation{starting(true)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .ignores({event::parent_ended, event::closed, event::nothing_left})
        .may_accept(false)
        .expect(event::host_ready, {action::be_heir, action::take_service, action::close_handoff}, state::in_charge);
    conversation{starting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .gives_up(event::nothing_left);
}

BOOST_AUTO_TEST_CASE(while_the_program_starts_and_the_host_is_faster_than_the_reading)
{
    conversation{starting(true)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .expect(event::host_ready, {action::be_heir, action::take_service, action::close_handoff}, state::in_charge);
    conversation{starting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .gives_up(event::host_ready);
}

BOOST_AUTO_TEST_CASE(while_it_waits_for_the_commit)
{
    conversation{waiting(true)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .may_accept(false)
        .expect(event::nothing_left, {action::be_heir, action::take_service, action::close_handoff}, state::in_charge)
        .may_accept(true);
    conversation{waiting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .gives_up(event::nothing_left);
}

BOOST_AUTO_TEST_CASE(commit_then_death_is_read_as_such_and_the_service_is_its_own)
{
    for (bool const heir : {false, true})
        conversation{waiting(heir)}
            .expect(event::parent_ended, {action::read_rest}, state::waiting)
            .expect(event::commit, {action::accept}, state::committed)
            .expect(event::nothing_left, {action::take_service, action::close_handoff}, state::in_charge)
            .may_accept(true);
}

BOOST_AUTO_TEST_CASE(after_commit_gives_it_the_service_when_all_that_the_parent_said_was_read)
{
    for (bool const heir : {false, true})
        conversation{committed(heir)}
            .expect(event::parent_ended, {action::read_rest}, state::committed)
            .expect(event::host_serves, {action::send_serving}, state::serving)
            .expect(event::nothing_left, {action::take_service, action::close_handoff}, state::in_charge)
            .may_accept(true);
    conversation{serving()}
        .expect(event::parent_ended, {action::read_rest}, state::serving)
        .expect(event::yours, {action::take_service, action::send_taken}, state::in_charge)
        .expect(event::nothing_left, {action::close_handoff}, state::in_charge);
}

BOOST_AUTO_TEST_CASE(is_no_news_to_a_child_that_is_over)
{
    for (auto const& c : {given_up(), stopped()})
        conversation{c}.is_over().expect(event::parent_ended, {}, c.now());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_child_accepts_only_by_commit_or_as_heir)
{
    for (auto const& [machines, count] : all)
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t e = 0; e < event_count; ++e) {
                auto next = machines[i];
                if (next.may_accept())
                    continue;
                bool told = false;
                for (auto const a : next.on(static_cast<event>(e)))
                    told = told || a == action::accept || a == action::be_heir;
                BOOST_TEST(next.may_accept() == told,
                           "on " << static_cast<event>(e) << " while " << machines[i].now());
            }
}

BOOST_AUTO_TEST_CASE(a_child_of_a_supervised_parent_is_never_heir)
{
    auto const& [machines, count] = all[0];
    for (std::size_t i = 0; i < count; ++i)
        for (std::size_t e = 0; e < event_count; ++e) {
            auto next = machines[i];
            for (auto const a : next.on(static_cast<event>(e)))
                BOOST_TEST(a != action::be_heir);
        }
}

BOOST_AUTO_TEST_CASE(a_child_takes_the_service_by_yours_or_by_its_parents_death)
{
    for (auto const& [machines, count] : all)
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t e = 0; e < event_count; ++e) {
                auto next = machines[i];
                auto const by = static_cast<event>(e);
                for (auto const a : next.on(by)) {
                    bool const takes = a == action::take_service || a == action::end_service;
                    bool const may = by == event::yours || by == event::nothing_left || by == event::host_ready;
                    BOOST_TEST((!takes || may), "on " << by << " while " << machines[i].now());
                }
            }
}
