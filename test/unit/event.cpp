// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/event.hpp>

#define BOOST_TEST_MODULE event
#include <boost/test/unit_test.hpp>

#include <set>
#include <string>
#include <utility>

using namespace ecdysis;
using namespace std::chrono_literals;

namespace {

event of(event::variant what) { return {{}, {}, 1, os::process_id{10}, phase::serving, std::move(what)}; }
std::string text(event::variant what) { return of(std::move(what)).text(); }

constexpr os::process_id pid{4711};
trigger const hup{.from = trigger::source::signal, .signal = 1};
trigger const asked{.from = trigger::source::control, .peer = pid};

} // namespace

BOOST_AUTO_TEST_CASE(each_event_says_in_a_line_what_happened)
{
    BOOST_TEST(text(events::inherited{3, pid}) == "inherited 3 descriptors from pid 4711");
    BOOST_TEST(text(events::unclaimed{"tcp 127.0.0.1:80"}) == "nobody claimed tcp 127.0.0.1:80, closed");
    BOOST_TEST(text(events::heir{pid}) == "the parent, pid 4711, died; going on without it");
    BOOST_TEST(text(events::serving{}) == "serving");
    BOOST_TEST(text(events::upgrade_requested{hup}) == "upgrade requested by signal 1");
    BOOST_TEST(text(events::refused{asked, errc::busy}) ==
               "request by control socket, pid 4711 refused: an upgrade is under way already");
    BOOST_TEST(text(events::launched{pid, "/bin/service"}) == "launched /bin/service as pid 4711");
    BOOST_TEST(text(events::handed_over{pid, 4}) == "handed 4 descriptors to pid 4711");
    BOOST_TEST(text(events::postponed{hup}) == "one more upgrade follows, requested by signal 1");
    BOOST_TEST(text(events::child_ready{pid}) == "the child, pid 4711, is ready");
    BOOST_TEST(text(events::committed{pid, 1500us}) == "committed to pid 4711 after 1500 us");
    BOOST_TEST(text(events::child_serves{pid}) == "pid 4711 serves, on probation");
    BOOST_TEST(text(events::taken_back{pid}) == "taken back from pid 4711, serving on");
    BOOST_TEST(text(events::upgraded{pid, 2ms}) == "the service is that of pid 4711 after 2000 us");
    BOOST_TEST(text(events::upgrade_failed{phase::handing_over, errc::child_failed, "exit status 3"}) ==
               "the upgrade failed while handing over: exit status 3");
    BOOST_TEST(text(events::stopping{{ecdysis::exit::kind::stopped, hup}}) == "stopped by signal 1");
    BOOST_TEST(text(events::draining{7}) == "draining 7 connections");
    BOOST_TEST(text(events::closing_idle{5}) == "closing idle ones of 5 connections");
    BOOST_TEST(text(events::drained{0}) == "drained, 0 connections left");
    BOOST_TEST(text(events::warning{"beware"}) == "beware");
    static_assert(std::variant_size_v<event::variant> == 20, "say what the new event's text is");
}

BOOST_AUTO_TEST_CASE(an_event_is_what_it_is)
{
    auto const one = of(events::drained{2});
    BOOST_REQUIRE(one.as<events::drained>() != nullptr);
    BOOST_TEST(one.as<events::drained>()->left == 2U);
    BOOST_TEST(one.as<events::draining>() == nullptr);
    BOOST_TEST(!one.is_warning());
    BOOST_TEST(of(events::warning{""}).is_warning());
    BOOST_TEST(of(events::refused{hup, errc::busy}).is_warning());
    BOOST_TEST(of(events::upgrade_failed{phase::starting, errc::child_failed, ""}).is_warning());
    BOOST_TEST(!of(events::serving{}).is_warning());
}

BOOST_AUTO_TEST_CASE(each_phase_has_a_name_of_its_own)
{
    std::set<std::string> seen;
    for (int value = 0; value <= static_cast<int>(phase::draining); ++value) {
        std::string const word = name(static_cast<phase>(value));
        BOOST_TEST(!word.empty());
        BOOST_TEST(seen.insert(word).second);
    }
}
