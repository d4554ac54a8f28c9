// SPDX-License-Identifier: BSL-1.0
// Children that have their commit and are not to be the service: they end, hang, fail or cannot be announced. The parent
// takes the service back at once, and nobody outside sees more of it than the connections of a process that was killed.
#define BOOST_TEST_MODULE restart_taken_back
#include "harness.hpp"

using namespace restart;

namespace {

/// Longer than anything here takes.
std::string const long_time = "600000";

/// The parent serves as if nothing had been, and the next upgrade succeeds.
void check_taken_back(service& it, footprint const& before, std::size_t times = 1)
{
    auto const steps = it.steps("taken_back");
    BOOST_TEST(steps.size() == times);
    for (auto const& each : steps)
        BOOST_TEST(each.pid == before.pid);
    it.check_nothing_left(); // until the child has heard of it, both accept
    it.check_unharmed(before);
    BOOST_TEST(it.steps("upgraded").empty());
    if (it.built().has_manager()) {
        auto const ready = [&] {
            auto const all = it.manager().messages();
            return !all.empty() && all.back().says("READY=1") && all.back().sender == before.pid;
        };
        BOOST_TEST(wait_until(ready));
        for (auto const& each : it.manager().messages()) {
            BOOST_TEST(each.text.find("MAINPID=") == each.text.npos, each.text);
            BOOST_TEST(each.sender == before.pid, each.text);
        }
    }
    it.run_next_well();
    auto const line = it.upgrade();
    BOOST_TEST(line.starts_with("ok generation=1 "), line);
    it.check_succeeded(before);
    it.stop();
}

std::string failed(std::string const& phase, std::string const& reason)
{
    return "failed phase=" + phase + " reason=\"" + reason + "\"";
}

wish for_probation(std::string const& probation, probing who = refuses_none)
{
    return {.arguments = {"--probation", probation, "--serving-timeout", "1000", "--kill-grace", "300"}, .probed = who};
}

} // namespace

// ---- it ends

RESTART_TEST(a_child_that_ends_before_it_serves)
{
    for (auto const& [how, why] : {std::pair{"kill", "killed by signal 9 (Killed)"}, std::pair{"exit 0", "exit status 0"}})
        for (std::string const point : {"may-accept ", "accepting "}) {
            service one{built, {.probed = refuses_none}};
            auto const before = one.settled();
            one.behave(point + how);
            BOOST_TEST(one.upgrade() == failed("serving", why));
            check_taken_back(one, before);
        }
}

RESTART_TEST(a_child_that_ends_on_probation)
{
    for (bool const killed : {true, false}) {
        service one{built, {.arguments = {"--probation", "2000"}, .probed = refuses_none}};
        auto const before = one.settled();
        on_probation upgrade{one, "die exit 0"};
        if (killed)
            ::kill(upgrade.child, SIGKILL);
        else
            connection{one.address()}.send("die");
        BOOST_TEST(upgrade.line() == failed("probation", killed ? "killed by signal 9 (Killed)" : "exit status 0"));
        check_taken_back(one, before);
    }
}

RESTART_TEST(a_child_that_ends_when_it_is_asked)
{
    service one{built, {.arguments = {"--probation", "100"}, .probed = refuses_none}};
    auto const before = one.settled();
    on_probation upgrade{one};
    ::kill(upgrade.child, SIGSTOP);
    auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds{200};
    BOOST_TEST(wait_until([&] { return std::chrono::steady_clock::now() > end; })); // most likely it is asked by now
    ::kill(upgrade.child, SIGKILL);
    auto const line = upgrade.line();
    if (!line.starts_with("ok ")) // else it had answered before it stood still
        BOOST_TEST(line == failed("probation", "killed by signal 9 (Killed)"));
    check_taken_back(one, before);
}

// ---- it hangs

RESTART_TEST(a_child_that_hangs_before_it_serves)
{
    for (auto const* point : {"may-accept", "accepting"}) {
        service one{built, for_probation("0")};
        auto const before = one.settled();
        interrupted upgrade{one, point};
        BOOST_TEST(upgrade.line() == failed("serving", "no word that it serves within 1000 ms"));
        BOOST_TEST(gone(upgrade.child)); // it did not answer
        check_taken_back(one, before);
    }
}

// Whoever came while the child stood still waits in a queue that both have, and the parent accepts from again.
RESTART_TEST(a_child_that_hangs_on_probation)
{
    service one{built, for_probation("500")};
    auto const before = one.settled();
    on_probation upgrade{one};
    ::kill(upgrade.child, SIGSTOP);
    BOOST_REQUIRE(paused(upgrade.child));
    std::vector<connection> came;
    for (int i = 0; i != 10; ++i) {
        came.emplace_back(one.address());
        came.back().send("who");
    }
    BOOST_TEST(upgrade.line() == failed("probation", "no answer from its loop within 1000 ms"));
    for (auto& each : came) {
        auto const answer = each.receive();
        BOOST_REQUIRE(answer.has_value());
        BOOST_TEST(reply{*answer}.pid == before.pid);
    }
    BOOST_TEST(gone(upgrade.child));
    came.clear();
    check_taken_back(one, before);
}

// After a pause of the machine both are due, the deadline and what the child had said before: that counts.
RESTART_TEST(a_parent_that_stood_still)
{
    service one{built, {.arguments = {"--serving-timeout", "500"}, .behave = "committed stop", .probed = answers_all}};
    one.run_next_well();
    auto const before = one.settled();
    auto asker = one.at_control();
    BOOST_REQUIRE(paused(before.pid));
    one.wait_for("serving", 2);
    auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds{600};
    BOOST_TEST(wait_until([&] { return std::chrono::steady_clock::now() > end; }));
    one.signal(SIGCONT);
    auto const line = one.heard(asker.receive().value_or("no answer"));
    BOOST_TEST(line.starts_with("ok generation=1 "), line);
    one.check_succeeded(before);
    one.stop();
}

// ---- it says that it fails

RESTART_TEST(a_child_that_fails_before_it_serves)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    one.behave("may-accept unfit no such upstream");
    BOOST_TEST(one.upgrade() == failed("serving", "the new generation gave up: no such upstream"));
    check_taken_back(one, before);
}

RESTART_TEST(a_health_check_that_fails)
{
    service one{built, for_probation(long_time, answers_all)};
    auto const before = one.settled();
    on_probation upgrade{one};
    BOOST_TEST(one.ask("unfit").pid == upgrade.child);
    BOOST_TEST(upgrade.line() == failed("probation", "the new generation gave up: a health check failed"));
    service::check_ended_well(upgrade.child);
    one.check_unharmed(before);
    BOOST_TEST(one.steps("taken_back").size() == 1U);
    one.stop();
}

// ---- what it has accepted is its own

RESTART_TEST(connections_of_a_child_that_is_set_aside)
{
    service one{built, for_probation(long_time, answers_all)};
    auto const before = one.settled();
    connection old{one.address()};
    BOOST_TEST(old.ask().value().pid == before.pid);
    on_probation upgrade{one};
    connection held{one.address()};
    BOOST_TEST(held.ask().value().pid == upgrade.child);
    BOOST_TEST(one.ask("unfit").pid == upgrade.child);
    BOOST_TEST(upgrade.line().starts_with("failed phase=probation "));
    BOOST_TEST(one.wait_for("draining").pid == upgrade.child); // until it has heard that, both accept
    BOOST_TEST(one.ask().pid == before.pid);
    auto const answer = held.ask();
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST(answer->pid == upgrade.child);
    BOOST_TEST(answer->last);
    service::check_ended_well(upgrade.child);
    BOOST_TEST(one.wait_for("drained").text == "drained, 0 connections left");
    auto const other = old.ask();
    BOOST_REQUIRE(other.has_value());
    BOOST_TEST(other->pid == before.pid);
    BOOST_TEST(!other->last);
    old.abandon();
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST(a_second_take_back_ends_the_first)
{
    service one{built, for_probation(long_time, refuses_none)};
    auto const before = one.settled();
    std::vector<::pid_t> children;
    std::vector<connection> held;
    for (int i = 0; i != 2; ++i) {
        on_probation upgrade{one};
        children.push_back(upgrade.child);
        held.emplace_back(one.address());
        BOOST_TEST(held.back().ask().value().pid == upgrade.child);
        BOOST_TEST(one.ask("unfit").pid == upgrade.child);
        BOOST_TEST(upgrade.line().starts_with("failed phase=probation "));
        one.wait_for("draining", children.size());
        BOOST_TEST(look_at(upgrade.child).has_value());
    }
    BOOST_TEST(gone(children[0]));
    BOOST_TEST(!held[0].receive().has_value());
    auto const answer = held[1].ask();
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST(answer->pid == children[1]);
    BOOST_TEST(answer->last);
    BOOST_TEST(gone(children[1]));
    held.clear();
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST(a_child_that_does_not_end_its_connections)
{
    auto how = for_probation(long_time, refuses_none);
    how.arguments.insert(how.arguments.end(), {"--drain-timeout", "300"}); // its host would take 20 s
    service one{built, how};
    auto const before = one.settled();
    on_probation upgrade{one};
    connection held{one.address()};
    BOOST_TEST(held.ask().value().pid == upgrade.child);
    BOOST_TEST(one.ask("unfit").pid == upgrade.child);
    BOOST_TEST(upgrade.line().starts_with("failed phase=probation "));
    BOOST_TEST(gone(upgrade.child));
    BOOST_TEST(!held.receive().has_value());
    BOOST_TEST(one.steps("drained").empty()); // it was killed
    one.check_unharmed(before);
    one.stop();
}

// ---- how soon

RESTART_TEST(the_parent_answers_at_once)
{
    service one{built, {.arguments = {"--probation", long_time}}};
    auto const before = one.settled();
    using clock = std::chrono::steady_clock;
    std::vector<clock::duration> took;
    for (int i = 0; i != 7; ++i) {
        on_probation upgrade{one};
        ::kill(upgrade.child, SIGSTOP);
        BOOST_REQUIRE(paused(upgrade.child));
        connection came{one.address()};
        came.send("who");
        auto const start = clock::now();
        ::kill(upgrade.child, SIGKILL);
        auto const answer = came.receive();
        took.push_back(clock::now() - start);
        BOOST_REQUIRE(answer.has_value());
        BOOST_TEST(reply{*answer}.pid == before.pid);
        BOOST_TEST(upgrade.line() == failed("probation", "killed by signal 9 (Killed)"));
    }
    std::ranges::sort(took);
    auto const ms = [](clock::duration time) { return std::chrono::duration<double, std::milli>{time}.count(); };
    BOOST_TEST_MESSAGE("from the child's end to the parent's answer: median " << ms(took[took.size() / 2]) << " ms, at most "
                                                                               << ms(took.back()) << " ms");
    BOOST_TEST(ms(took[took.size() / 2]) < 500.0);
    one.check_unharmed(before);
    one.stop();
}

// ---- state

RESTART_TEST(late_state_that_cannot_be_filled)
{
    service one{built, {.arguments = {"--state"}, .behave = "late throw the cache is locked", .probed = answers_all}};
    one.behave("");
    auto const before = one.settled();
    for (int i = 0; i != 2; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("failed phase=committing reason=\"fill state 'late': the cache is locked"), line);
        one.check_unharmed(before);
    }
    BOOST_TEST(one.steps("committed").empty());
    BOOST_TEST(one.steps("taken_back").empty());
    if (built.has_manager()) {
        BOOST_TEST(one.manager().messages().back().says("READY=1"));
        for (auto const& each : one.manager().messages())
            BOOST_TEST(each.text.find("MAINPID=") == each.text.npos, each.text);
    }
    one.stop();
}

// ---- the service manager

namespace {

/// Makes it deaf, and whole again.
void set_deaf(service& it, bool full, bool deaf)
{
    if (full)
        it.manager().stand_still(deaf);
    else if (deaf)
        std::filesystem::rename(it.path("notify"), it.path("notify.away"));
    else
        std::filesystem::rename(it.path("notify.away"), it.path("notify"));
}

} // namespace

RESTART_TEST(a_manager_that_goes_deaf_before_the_commit)
{
    if (!built.has_manager())
        return;
    for (bool const full : {true, false}) {
        service one{built, {.arguments = {"--barrier-timeout", "300"}, .probed = answers_all}};
        auto const before = one.settled();
        interrupted upgrade{one, "claimed"};
        set_deaf(one, full, true);
        upgrade.go_on();
        BOOST_TEST(upgrade.line() == failed("committing", full ? "the service manager could not be told anything within 300 ms"
                                                               : "tell the service manager: No such file or directory"));
        BOOST_TEST(gone(upgrade.child));
        BOOST_TEST(one.steps("committed").empty());
        one.check_unharmed(before);
        set_deaf(one, full, false);
        auto const last = [&] { return one.manager().messages().back(); };
        if (full) // and not gone
            BOOST_TEST(wait_until([&] { return last().text.starts_with("READY=1\nSTATUS=upgrade failed: "); }));
        for (auto const& each : one.manager().messages())
            BOOST_TEST(each.text.find("MAINPID=") == each.text.npos, each.text);
        BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
        one.check_succeeded(before);
        one.stop();
    }
}

RESTART_TEST(a_manager_that_goes_deaf_before_the_announcement)
{
    if (!built.has_manager())
        return;
    for (bool const full : {true, false}) {
        service one{built, {.arguments = {"--barrier-timeout", "300"}, .probed = answers_all}};
        auto const before = one.settled();
        interrupted upgrade{one, "may-accept"};
        one.wait_for("committed");
        set_deaf(one, full, true);
        upgrade.go_on();
        BOOST_TEST(upgrade.line() ==
                   failed("announcing", full ? "the service manager could not be told of the new main process within 300 ms"
                                             : "tell the service manager of the new main process: No such file or directory"));
        BOOST_TEST(one.wait_for("taken_back").pid == before.pid);
        service::check_ended_well(upgrade.child); // which has drained
        one.check_unharmed(before);
        set_deaf(one, full, false);
        if (full)
            BOOST_TEST(wait_until([&] {
                return one.manager().messages().back().text.starts_with("READY=1\nSTATUS=upgrade failed: ");
            }));
        for (auto const& each : one.manager().messages())
            BOOST_TEST(each.text.find("MAINPID=") == each.text.npos, each.text);
        BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
        one.check_succeeded(before);
        one.stop();
    }
}

// Told that it reloads, a manager waits for the word that this is over.
RESTART_TEST(a_reload_that_is_taken_back_is_over)
{
    if (!built.has_manager())
        return;
    service one{built, {.probed = refuses_none}};
    auto const before = one.settled();
    one.behave("may-accept kill");
    one.signal(SIGHUP);
    one.wait_for("upgrade_failed");
    std::vector<std::string> words;
    for (auto const& each : one.manager().messages())
        words.push_back(each.text.substr(0, each.text.find('\n')));
    std::vector<std::string> const expected{"EXTEND_TIMEOUT_USEC=60000000", "READY=1", "RELOADING=1",
                                            "STATUS=the new generation is ready", "BARRIER=1", "READY=1"};
    BOOST_TEST(words == expected, boost::test_tools::per_element());
    check_taken_back(one, before);
}

// A manager that has accepted the word of a main process which is dead takes that for none: the parent is the service, says
// so again, and never more.
RESTART_TEST(a_child_that_ends_during_the_barrier)
{
    if (!built.has_manager())
        return;
    service one{built, {.probed = refuses_none}};
    auto const before = one.settled();
    interrupted upgrade{one, "may-accept"};
    one.wait_for("committed");
    one.manager().hold_barriers(true);
    upgrade.go_on();
    BOOST_REQUIRE(wait_until([&] { return one.manager().heard("MAINPID=" + std::to_string(upgrade.child)); }));
    ::kill(upgrade.child, SIGKILL);
    BOOST_TEST(upgrade.line() == failed("announcing", "killed by signal 9 (Killed)"));
    one.manager().hold_barriers(false);
    one.check_unharmed(before);
    auto const last = one.manager().messages().back();
    BOOST_TEST(last.says("READY=1"), last.text);
    BOOST_TEST(last.sender == before.pid);
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}
