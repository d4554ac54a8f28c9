// SPDX-License-Identifier: BSL-1.0
// Upgrades that fail after the commit, under a real systemd: the unit is as if nothing had been, but for the reason.
#define BOOST_TEST_MODULE systemd_taken_back
#include "harness/moment.hpp"

using namespace restart;

namespace {

/// A reload fails with these words, where it has a way to.
void check_fails(outcome const& reload, unit const& one, std::string_view words)
{
    if (one.reloads_by(reload_by::signal)) {
        BOOST_TEST(reload.ok(), reload.output);
        return;
    }
    BOOST_TEST(!reload.ok());
    auto const said = one.read("output");
    BOOST_TEST(said.find(words) != said.npos, said);
}

/// A reload to a child that behaves so fails; the old generation serves on meanwhile, and the child ends.
void check_taken_back(unit const& one, std::string const& behave, std::string_view words)
{
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    prober load{one.address()};
    BOOST_TEST(load.go_on());
    one.behave(behave);
    auto const reload = one.systemctl("reload");
    check_fails(reload, one, words);
    one.wait_for("taken_back");
    auto const child = one.launched();
    BOOST_TEST(load.is_answered_again());
    BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); }));
    static_cast<void>(load.stop());
    check_serves_on(one, parent, words);
    check_next_reload(one);
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}

std::vector<std::string> impatient()
{
    return {"--serving-timeout 500", "--kill-grace 500", "--drain-timeout 500"};
}

} // namespace

// It is filled when the child is ready, by the parent: there is no commit.
SYSTEMD_TEST_OF_HALF(late_state_that_cannot_be_filled)
{
    unit one{built, how, restarting("late throw no room for it", {"--state"})};
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    for (std::size_t failures = 1; failures != 4; ++failures) {
        auto const reload = one.systemctl("reload");
        check_fails(reload, one, "no room for it");
        one.wait_for("upgrade_failed", failures);
        check_serves_on(one, parent, "no room for it");
    }
    BOOST_TEST(one.steps("serving").size() == 1U);
    BOOST_TEST(one.steps("committed").empty());
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}

// ---- the child hangs after its commit

SYSTEMD_TEST_OF_HALF(child_that_is_suspended_after_its_commit)
{
    for (auto const* point : {"may-accept", "accepting"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting({}, impatient())};
            check_taken_back(one, std::string{point} + " stop", "no word that it serves within 500 ms");
        }
}

SYSTEMD_TEST_OF_HALF(child_that_hangs_after_its_commit)
{
    for (auto const* point : {"may-accept", "accepting"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting({}, impatient())};
            check_taken_back(one, std::string{point} + " hang", "no word that it serves within 500 ms");
        }
}

// Its last word was that it serves.
SYSTEMD_TEST_OF_HALF(child_that_is_suspended_in_probation)
{
    unit one{built, how, restarting({}, {"--probation 500", "--serving-timeout 500", "--kill-grace 500"})};
    one.start();
    auto const parent = one.main_pid();
    auto reload = one.begin("reload");
    one.wait_for("child_serves");
    auto const child = one.launched();
    ::kill(child, SIGSTOP);
    check_fails(reload.get(), one, "no answer from its loop within 500 ms");
    BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); }));
    check_serves_on(one, parent, "no answer from its loop within 500 ms");
    check_next_reload(one);
}

// ---- the child proves to be none

namespace {

constexpr auto long_probation = "--probation 60000";

/// `ends(child)` in the child's probation makes the service be taken back, for that reason.
template <class F>
void check_probation(unit const& one, std::string const& words, F ends)
{
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    one.behave("leave exit 0");
    auto reload = one.begin("reload");
    one.wait_for("child_serves");
    auto const child = one.launched();
    BOOST_TEST(one.ask().pid == child);
    BOOST_TEST(one.main_pid() == parent);
    BOOST_TEST(one.show("ActiveState") == "reloading");
    ends(child);
    check_fails(reload.get(), one, words);
    BOOST_TEST(one.ask().pid == parent);
    BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); }));
    check_serves_on(one, parent, words);
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}

} // namespace

SYSTEMD_TEST_OF_HALF(child_killed_in_probation)
{
    unit one{built, how, restarting({}, {long_probation})};
    check_probation(one, "killed by signal 9 (Killed)", [](::pid_t child) { ::kill(child, SIGKILL); });
}

SYSTEMD_TEST_OF_HALF(child_that_exits_in_probation)
{
    unit one{built, how, restarting({}, {long_probation})};
    check_probation(one, "exit status 0", [&](::pid_t) { static_cast<void>(connection{one.address()}.ask("leave")); });
}

SYSTEMD_TEST_OF_HALF(child_that_fails_in_probation)
{
    unit one{built, how, restarting({}, {long_probation})};
    check_probation(one, "a health check failed", [&](::pid_t) { static_cast<void>(connection{one.address()}.ask("unfit")); });
}

// What it has accepted it answers to the end.
SYSTEMD_TEST_OF_HALF(connections_of_a_child_that_fails)
{
    unit one{built, how, {.arguments = {long_probation}}};
    one.start();
    auto const parent = one.main_pid();
    auto reload = one.begin("reload");
    one.wait_for("child_serves");
    auto const child = one.launched();
    connection open{one.address()}, other{one.address()};
    BOOST_TEST(open.ask()->pid == child);
    BOOST_TEST(other.ask("unfit")->pid == child);
    check_fails(reload.get(), one, "a health check failed");
    BOOST_TEST(one.ask().pid == parent);
    BOOST_TEST(one.show("ActiveState") == "active");
    BOOST_TEST(one.processes().size() == 2U); // and this one is not busy:
    one.behave("claimed exit 3");
    check_fails(one.systemctl("reload"), one, "exit status 3");
    check_drains(open);
    check_drains(other);
    BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); }));
    check_serves_on(one, parent, "exit status 3");
}

// The parent feeds the watchdog meanwhile, and then the child.
SYSTEMD_TEST_OF_HALF(probation_that_is_longer_than_the_watchdog_waits)
{
    unit one{built, how,
             {.settings = {"WatchdogSec=2", "Restart=on-failure", "RestartSec=0", "LimitCORE=0"},
              .arguments = {"--watchdog", "--probation 5000"}}};
    one.start();
    auto const reload = one.systemctl("reload");
    BOOST_TEST(reload.ok(), reload.output);
    one.wait_for("upgraded");
    auto const pid = one.check_serves(1, "generation 1 serving");
    auto const is_killed = [&] { return one.show("ActiveState") != "active" || one.main_pid() != pid; };
    BOOST_TEST(!wait_until(is_killed, std::chrono::seconds{3}));
    BOOST_TEST(one.show("NRestarts") == "0");
    for (auto const* complaint : {"Watchdog", "Main process exited"})
        for (auto const& line : one.said(complaint))
            BOOST_ERROR(line);
}
