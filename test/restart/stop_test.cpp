// SPDX-License-Identifier: BSL-1.0
// Each row of the design's table of stops that trigger_test.cpp has not: in a start, between commit and announcement, during
// the barrier, and while draining.
#define BOOST_TEST_MODULE restart_stop
#include "harness.hpp"

using namespace restart;

namespace {

std::string const long_time = "600000";

/// How a process of ours ended.
int status_of(::pid_t pid)
{
    std::optional<int> status;
    BOOST_TEST(wait_until([&] { return (status = family::instance().ended(pid)).has_value(); }));
    return status.value_or(0);
}

/// The last answer of a connection that was open when its process began to drain.
void check_last(connection& open, ::pid_t from)
{
    auto const answer = open.ask();
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST(answer->pid == from);
    BOOST_TEST(answer->last);
}

/// Who has said that the service stops.
std::vector<::pid_t> who_stops(service& it)
{
    std::vector<::pid_t> result;
    for (auto const& each : it.manager().messages())
        if (each.says("STOPPING=1"))
            result.push_back(each.sender);
    return result;
}

} // namespace

// What has accepted nothing has nothing to drain, and what hangs in its start hears nothing else.
RESTART_TEST(a_signal_in_the_start_ends_it_at_once)
{
    for (int const signal : {SIGTERM, SIGUSR1}) {
        service one{built, {.behave = "claimed until GO", .awaited = false}};
        BOOST_REQUIRE(wait_until([&] { return std::filesystem::exists(one.path("GO.awaited")); }));
        one.signal(signal);
        auto const status = status_of(one.pid());
        BOOST_TEST(WIFSIGNALED(status));
        BOOST_TEST(WTERMSIG(status) == signal);
    }
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    begun upgrade{one, "claimed until " + one.path("GO")};
    BOOST_REQUIRE(wait_until([&] { return std::filesystem::exists(one.path("GO.awaited")); }));
    ::kill(upgrade.child, SIGTERM);
    BOOST_TEST(upgrade.line() == "failed phase=starting reason=\"killed by signal 15 (Terminated)\"");
    one.check_unharmed(before);
    one.stop();
}

// Both have clients. The parent, as the main process, ends last, though it has none any more.
RESTART_TEST(a_stop_on_probation)
{
    for (bool const by_signal : {true, false}) {
        service one{built, {.arguments = {"--probation", long_time}}};
        connection old{one.address()};
        BOOST_TEST(old.ask().value().pid == one.pid());
        on_probation upgrade{one};
        connection fresh{one.address()};
        BOOST_TEST(fresh.ask().value().pid == upgrade.child);
        std::optional<connection> stopper;
        if (by_signal)
            one.signal(SIGTERM);
        else
            stopper = one.at_control("stop");
        BOOST_TEST(upgrade.line() == "failed phase=probation reason=\"stopped\"");
        one.wait_for("draining", 2);
        BOOST_TEST(refuses(one.address()));
        check_last(old, one.pid());
        BOOST_TEST(!old.receive().has_value());
        BOOST_TEST(!family::instance().ended(one.pid()).has_value());
        check_last(fresh, upgrade.child);
        if (stopper)
            BOOST_TEST(stopper->receive().value_or("no answer") == "ok exit=stopped connections=0");
        check_over(one);
        BOOST_TEST(gone(upgrade.child));
        auto const ends = one.steps("drained");
        BOOST_TEST_REQUIRE(ends.size() == 2U);
        BOOST_TEST(ends[0].pid == upgrade.child);
        BOOST_TEST(ends[1].pid == one.pid());
        if (built.has_manager())
            BOOST_TEST(who_stops(one) == std::vector{one.pid()}, boost::test_tools::per_element());
    }
}

// One that does not end is no reason to live for ever: the host's deadline, and a little more.
RESTART_TEST(a_stop_with_a_child_that_does_not_end)
{
    service one{built, {.arguments = {"--probation", long_time, "--kill-grace", "300", "--drain", "300"}}};
    on_probation upgrade{one};
    ::kill(upgrade.child, SIGSTOP);
    BOOST_REQUIRE(paused(upgrade.child));
    one.signal(SIGTERM);
    BOOST_TEST(upgrade.line() == "failed phase=probation reason=\"stopped\"");
    BOOST_TEST(gone(upgrade.child));
    check_over(one);
}

// The manager may take the child for the main process: the service is the child's, and stops with it.
RESTART_TEST(a_stop_during_the_barrier)
{
    if (!built.has_manager())
        return;
    service one{built};
    connection old{one.address()};
    BOOST_TEST(old.ask().value().pid == one.pid());
    interrupted upgrade{one, "may-accept"};
    one.wait_for("committed");
    one.manager().hold_barriers(true);
    upgrade.go_on();
    BOOST_REQUIRE(wait_until([&] { return one.manager().heard("MAINPID=" + std::to_string(upgrade.child)); }));
    connection fresh{one.address()};
    BOOST_TEST(fresh.ask().value().pid == upgrade.child);
    one.signal(SIGTERM);
    BOOST_TEST(upgrade.line().starts_with("ok generation=1 "));
    BOOST_TEST(one.wait_for("stopping").pid == upgrade.child);
    one.wait_for("draining", 2);
    check_last(old, one.pid());
    check_last(fresh, upgrade.child);
    one.manager().hold_barriers(false);
    service::check_ended_well(upgrade.child);
    check_over(one);
    BOOST_TEST(who_stops(one) == std::vector{upgrade.child}, boost::test_tools::per_element());
}

RESTART_TEST(a_second_stop_of_the_main_process_ends_its_drain)
{
    for (unsigned const generation : {0U, 1U}) {
        service one{built};
        if (generation == 1) {
            BOOST_TEST(one.upgrade().starts_with("ok "));
            service::check_ended_well(one.first());
        }
        connection kept{one.address()};
        BOOST_TEST(kept.ask().value().generation == generation);
        auto const drains = one.steps("draining").size();
        one.signal(SIGTERM);
        one.wait_for("draining", drains + 1);
        BOOST_TEST(!family::instance().ended(one.pid()).has_value());
        one.signal(SIGTERM);
        BOOST_TEST(one.wait_for("drained", drains + 1).text == "drained, 1 connections left");
        check_over(one);
    }
}

// A manager sends its stop to all processes, and once more to those that are left.
RESTART_TEST(stop_signals_to_a_child_that_was_taken_back)
{
    service one{built, {.arguments = {"--probation", long_time}}};
    auto const before = one.settled();
    on_probation upgrade{one};
    std::vector<connection> open;
    for (int i = 0; i != 3; ++i) {
        open.emplace_back(one.address());
        BOOST_TEST(open.back().ask().value().pid == upgrade.child);
    }
    BOOST_TEST(one.ask("unfit").pid == upgrade.child);
    BOOST_TEST(upgrade.line().starts_with("failed phase=probation "));
    one.wait_for("draining");
    for (auto& each : open) {
        if (built.has_manager() || &each == &open.front())
            ::kill(upgrade.child, SIGTERM);
        check_last(each, upgrade.child);
    }
    service::check_ended_well(upgrade.child);
    BOOST_TEST(one.wait_for("drained").text == "drained, 0 connections left");
    open.clear();
    one.check_unharmed(before);
    one.stop();
}

// ---- what is left when a parent ends in mid-upgrade

RESTART_TEST(a_parent_that_is_killed_on_probation)
{
    service one{built, {.arguments = {"--probation", "3000"}, .probed = refuses_none}};
    auto before = one.settled();
    on_probation upgrade{one};
    one.signal(SIGKILL);
    BOOST_TEST(gone(before.pid));
    one.wait_for("heir");
    one.expect_generation(1);
    BOOST_TEST(one.pid() == upgrade.child);
    BOOST_TEST(wait_until([&] { return one.read("pid") == std::to_string(upgrade.child) + "\n"; }));
    before.pid = one.pid();
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.check_succeeded(before);
    one.stop();
}

// One that returns from main(): its destructor gives the service to a child that serves, and ends one that does not.
RESTART_TEST(a_parent_that_returns_on_probation)
{
    if (built.is_sync()) // whose host is in wait() as long as an upgrade can run
        return;
    service one{built, {.arguments = {"--probation", long_time}}};
    auto const before = one.settled();
    connection old{one.address()};
    BOOST_TEST(old.ask().value().pid == before.pid);
    on_probation upgrade{one};
    old.send("leave");
    BOOST_TEST(one.heard(upgrade.line()).starts_with("ok generation=1 "));
    service::check_ended_well(before.pid);
    BOOST_TEST(wait_until([&] { return one.read("pid") == std::to_string(upgrade.child) + "\n"; }));
    BOOST_TEST(one.ask().pid == upgrade.child);
    if (built.has_manager())
        BOOST_TEST(one.manager().heard("MAINPID=" + std::to_string(upgrade.child), before.pid));
    one.check_descriptors(one.pid(), before.descriptors);
    one.stop();
}

RESTART_TEST(a_parent_that_returns_before_its_child_serves)
{
    if (built.is_sync())
        return;
    for (auto const* point : {"claimed", "may-accept"}) {
        service one{built};
        connection old{one.address()};
        BOOST_TEST(old.ask().value().pid == one.pid());
        interrupted upgrade{one, point};
        old.send("leave");
        auto const line = upgrade.line();
        BOOST_TEST(line.ends_with(" reason=\"the service ended during the upgrade\""), line);
        check_over(one);
        BOOST_TEST(gone(upgrade.child));
    }
}
