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
        return ignores({event::began, event::frame, event::end, event::commit, event::stop_frame, event::garbage,
                        event::closed, event::nothing_left, event::deadline, event::host_ready, event::host_failed,
                        event::host_serves, event::stop});
    }

private:
    child c_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(success)

BOOST_AUTO_TEST_CASE(a_handoff_from_the_first_frame_to_serving)
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
            .expect(event::commit, {action::take_over}, state::committed)
            .may_accept(true)
            .expect(event::host_serves, {action::send_serving}, state::serving)
            .may_accept(true)
            .expect(event::closed, {action::close_handoff}, state::serving)
            .expect(event::parent_ended, {}, state::serving)
            .ignores({event::nothing_left, event::closed, event::stop_frame})
            .may_accept(true);
}

BOOST_AUTO_TEST_CASE(the_handoff_is_dropped_with_the_parent_even_if_its_workers_hold_its_end)
{
    conversation{serving()}
        .expect(event::parent_ended, {action::read_rest}, state::serving)
        .expect(event::nothing_left, {action::close_handoff}, state::serving)
        .ignores({event::closed})
        .may_accept(true);
}

BOOST_AUTO_TEST_CASE(a_parent_that_closed_before_the_host_serves)
{
    conversation{committed()}
        .expect(event::closed, {}, state::committed)
        .expect(event::host_serves, {action::send_serving, action::close_handoff}, state::serving);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(stop)

BOOST_AUTO_TEST_CASE(of_its_own_before_commit)
{
    conversation{receiving()}.gives_up(event::stop);
    for (auto const& c : {starting(), waiting()})
        conversation{c}
            .expect(event::stop, {action::stop, action::close_handoff}, state::stopped)
            .may_accept(false)
            .is_over();
}

BOOST_AUTO_TEST_CASE(of_its_own_after_commit_is_the_services)
{
    conversation{committed()}
        .expect(event::stop, {action::send_stop, action::stop, action::close_handoff}, state::stopped)
        .may_accept(false)
        .is_over();
}

BOOST_AUTO_TEST_CASE(of_its_own_while_serving_is_told_to_a_parent_that_may_not_know_that_it_serves)
{
    conversation{serving()}
        .expect(event::stop, {action::send_stop}, state::serving)
        .expect(event::closed, {action::close_handoff}, state::serving)
        .ignores({event::stop});
}

BOOST_AUTO_TEST_CASE(forwarded_by_the_parent)
{
    conversation{committed()}
        .expect(event::stop_frame, {action::stop, action::close_handoff}, state::stopped)
        .may_accept(false)
        .is_over();
}

BOOST_AUTO_TEST_CASE(forwarded_by_the_parent_while_the_word_that_we_serve_is_on_its_way)
{
    conversation{serving()}
        .expect(event::stop_frame, {action::stop, action::close_handoff}, state::stopped)
        .may_accept(false)
        .is_over();
    conversation{serving()}
        .expect(event::parent_ended, {action::read_rest}, state::serving)
        .expect(event::stop_frame, {action::stop, action::close_handoff}, state::stopped)
        .is_over();
}

BOOST_AUTO_TEST_CASE(forwarded_by_a_parent_that_then_died)
{
    conversation{waiting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .expect(event::commit, {action::take_over}, state::committed)
        .expect(event::stop_frame, {action::stop, action::close_handoff}, state::stopped);
}

BOOST_AUTO_TEST_CASE(forwarded_before_commit_makes_no_sense)
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
    for (auto const& c : {committed(), serving()})
        conversation{c}
            .ignores({event::began, event::frame, event::end, event::commit, event::garbage, event::deadline,
                      event::host_ready, event::host_failed})
            .may_accept(true);
}

BOOST_AUTO_TEST_CASE(a_child_may_be_taken_back_from_commit_until_it_serves_or_is_alone)
{
    for (auto const& c : {receiving(), starting(), waiting(), serving(), given_up(), stopped()})
        BOOST_TEST(!c.may_be_taken_back());
    BOOST_TEST(committed().may_be_taken_back());
    BOOST_TEST(!then(committed(), {event::stop}).may_be_taken_back());
    BOOST_TEST(!then(committed(), {event::parent_ended, event::nothing_left}).may_be_taken_back());
    BOOST_TEST(!then(waiting(), {event::parent_ended, event::nothing_left}).may_be_taken_back());
}

BOOST_AUTO_TEST_SUITE(death)

BOOST_AUTO_TEST_CASE(the_end_of_file_alone_makes_no_heir)
{
    for (auto const& c : {starting(), waiting()})
        conversation{c}.ignores({event::closed}).may_accept(false);
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
        .expect(event::host_ready, {action::become_heir}, state::committed)
        .may_accept(true)
        .expect(event::host_serves, {action::send_serving, action::close_handoff}, state::serving)
        .ignores({event::parent_ended, event::closed});
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
        .expect(event::host_ready, {action::become_heir}, state::committed);
    conversation{starting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .gives_up(event::nothing_left);
}

BOOST_AUTO_TEST_CASE(while_the_program_starts_and_the_host_is_faster_than_the_reading)
{
    conversation{starting(true)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .expect(event::host_ready, {action::become_heir}, state::committed)
        .ignores({event::nothing_left})
        .expect(event::host_serves, {action::send_serving, action::close_handoff}, state::serving);
    conversation{starting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::starting)
        .gives_up(event::host_ready);
}

BOOST_AUTO_TEST_CASE(while_it_waits_for_the_commit)
{
    conversation{waiting(true)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .may_accept(false)
        .expect(event::nothing_left, {action::become_heir}, state::committed)
        .may_accept(true);
    conversation{waiting(false)}
        .expect(event::parent_ended, {action::read_rest}, state::waiting)
        .gives_up(event::nothing_left);
}

BOOST_AUTO_TEST_CASE(commit_then_exit_is_read_as_such)
{
    for (bool const heir : {false, true})
        conversation{waiting(heir)}
            .expect(event::parent_ended, {action::read_rest}, state::waiting)
            .expect(event::commit, {action::take_over}, state::committed)
            .expect(event::nothing_left, {}, state::committed)
            .may_accept(true)
            .expect(event::host_serves, {action::send_serving, action::close_handoff}, state::serving);
}

BOOST_AUTO_TEST_CASE(after_commit_changes_nothing)
{
    for (bool const heir : {false, true})
        conversation{committed(heir)}
            .expect(event::parent_ended, {action::read_rest}, state::committed)
            .expect(event::host_serves, {action::send_serving}, state::serving)
            .expect(event::nothing_left, {action::close_handoff}, state::serving)
            .may_accept(true);
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
                    told = told || a == action::take_over || a == action::become_heir;
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
                BOOST_TEST(a != action::become_heir);
        }
}
