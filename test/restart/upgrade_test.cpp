// SPDX-License-Identifier: BSL-1.0
// Upgrades, and all the ways in which one fails: the service answers on as if nothing had been.
#define BOOST_TEST_MODULE restart_upgrade
#include "harness.hpp"

using namespace restart;

namespace {

/// An upgrade under load that must fail with a line that `is_right`, and show nowhere.
template <class Check>
void fails(service& under_test, Check&& is_right)
{
    auto const before = under_test.look();
    prober load{under_test.address()};
    auto const line = under_test.upgrade();
    BOOST_TEST(is_right(line), line);
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    under_test.check_unharmed(before);
    if (under_test.built().has_manager()) // and what the manager heard last is that it is ready
        BOOST_TEST(wait_until([&] {
            auto const heard = under_test.manager().messages();
            return !heard.empty() && heard.back().says("READY=1") && heard.back().sender == before.pid;
        }));
}

void fails_with(service& under_test, std::string const& expected)
{
    fails(under_test, [&](std::string const& line) { return line == expected; });
}

/// The next attempt, with a good program, succeeds.
void recovers(service& under_test)
{
    under_test.run_next_well();
    auto const before = under_test.settled();
    auto const line = under_test.upgrade();
    BOOST_TEST(line.starts_with("ok generation="), line);
    under_test.check_succeeded(before);
    under_test.stop();
}

bool begins(std::string const& line, std::string const& start)
{
    return line.starts_with(start);
}

} // namespace

RESTART_TEST(upgrade)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 pid="));
    one.check_succeeded(before);
    if (built.has_manager()) {
        // The word of the new main process is one datagram, and nobody but the parent has said anything by then.
        std::vector<std::string> of_the_parent;
        for (auto const& each : one.manager().messages()) {
            BOOST_TEST(each.sender == before.pid, each.text);
            of_the_parent.push_back(each.text.substr(0, each.text.find("\nMONOTONIC")));
        }
        std::vector<std::string> const expected{
            "EXTEND_TIMEOUT_USEC=60000000",
            "READY=1\nSTATUS=generation 0 serving",
            "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=upgrading",
            "STATUS=the new generation is ready", // before the commit, where a failure harms nothing
            "BARRIER=1",
            "MAINPID=" + std::to_string(one.pid()) + "\nREADY=1\nSTATUS=generation 1 serving",
            "BARRIER=1",
        };
        BOOST_TEST(of_the_parent == expected, boost::test_tools::per_element());
    }
    one.stop();
    if (built.has_manager()) {
        auto const last = one.manager().messages().back();
        BOOST_TEST(last.says("STOPPING=1"));
        BOOST_TEST(last.sender == one.pid());
    }
}

RESTART_TEST(chain)
{
    service one{built};
    auto const before = one.look();
    prober load{one.address()};
    for (unsigned i = 1; i <= 20; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("ok generation=" + std::to_string(i) + " "), line);
        BOOST_TEST_REQUIRE(load.go_on());
    }
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST(counts.generations.size() > 10U);
    BOOST_TEST_MESSAGE(counts.text());
    one.check_succeeded(before);
    one.stop();
    BOOST_TEST(one.steps("warning").empty());
    BOOST_TEST(one.steps("error").empty());
}

RESTART_TEST(crash_before_hello)
{
    service one{built};
    one.behave("begin exit 7");
    fails_with(one, "failed phase=handing-over reason=\"exit status 7\"");
    recovers(one);
}

RESTART_TEST(crash_while_starting)
{
    service one{built};
    one.behave("claimed abort");
    fails_with(one, "failed phase=starting reason=\"killed by signal 6 (Aborted)\"");
    one.behave("claimed exit 0");
    fails_with(one, "failed phase=starting reason=\"exit status 0\"");
    recovers(one);
}

RESTART_TEST(fail_with_words)
{
    service one{built};
    one.behave("claimed fail config: no such upstream");
    fails_with(one, "failed phase=starting reason=\"exit status 3: config: no such upstream\"");
    recovers(one);
}

RESTART_TEST(exit_right_after_ready)
{
    service one{built};
    one.behave("said-ready exit 5");
    fails(one, [](std::string const& line) { // wherever the parent was when it saw it
        return begins(line, "failed phase=") && line.ends_with(" reason=\"exit status 5\"");
    });
    recovers(one);
}

RESTART_TEST(killed_before_the_commit_is_sent)
{
    service one{built, {.behave = "child_ready stop", .probed = answers_all}};
    one.behave("said-ready stop");
    auto const before = one.settled();
    auto asking = one.at_control();
    // Both stand still between ready and commit: when the parent sends it, the child is dead, and it has not seen that.
    auto const child = one.child();
    for (auto const pid : {before.pid, child})
        BOOST_TEST_REQUIRE(wait_until([&] {
            auto const found = look_at(pid);
            return found && found->state == 'T';
        }));
    ::kill(child, SIGKILL);
    BOOST_TEST_REQUIRE(wait_until([&] {
        auto const killed = look_at(child);
        return killed && killed->state == 'Z';
    }));
    one.signal(SIGCONT);
    auto const line = asking.receive().value_or("");
    BOOST_TEST(begins(line, "failed phase="), line);
    BOOST_TEST(line.ends_with(" reason=\"killed by signal 9 (Killed)\""), line);
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST(crash_after_commit)
{
    service one{built};
    one.behave("may-accept kill");
    fails_with(one, "failed phase=serving reason=\"killed by signal 9 (Killed)\"");
    recovers(one);
}

RESTART_TEST(never_ready)
{
    service one{built, {.arguments = {"--ready-timeout", "300", "--kill-grace", "200"}}};
    one.behave("claimed hang"); // it does not hear SIGTERM
    fails_with(one, "failed phase=starting reason=\"not ready within 300 ms\"");
    one.behave("begin hang");
    fails_with(one, "failed phase=handing-over reason=\"not ready within 300 ms\"");
    one.run_next_well();
    one.stop();
}

RESTART_TEST(never_serving)
{
    service one{built,
                {.arguments = {"--serving-timeout", "300", "--threads", "4", "--kill-grace", "300", "--drain-timeout", "300"},
                 .probed = refuses_none}}; // some may fail with the child, when it is killed
    auto const before = one.settled();
    auto const written = std::filesystem::last_write_time(one.path("pid"));
    one.behave("accepting hang");
    auto asker = one.at_control();
    auto const child = one.child();
    auto const line = asker.receive().value_or("no answer");
    BOOST_TEST(line == "failed phase=serving reason=\"no word that it serves within 300 ms\"");
    BOOST_TEST(one.wait_for("taken_back").pid == before.pid);
    one.behave("claimed exit 3");
    BOOST_TEST(one.upgrade().starts_with("failed phase=starting ")); // not busy, though the child may live on
    BOOST_TEST(gone(child)); // and it does not for long
    one.check_unharmed(before);
    BOOST_TEST((std::filesystem::last_write_time(one.path("pid")) == written));
    recovers(one);
}

RESTART_TEST(program_missing)
{
    service one{built};
    one.run_next(one.path("nothing"));
    fails_with(one, "failed phase=launching reason=\"start " + one.program() + ": No such file or directory\"");
    recovers(one);
}

RESTART_TEST(program_not_executable)
{
    service one{built};
    one.run_next_script("exit 0", 0644);
    fails_with(one, "failed phase=launching reason=\"start " + one.program() + ": Permission denied\"");
    recovers(one);
}

RESTART_TEST_OF_OTHER_PROGRAMS(script_that_forks)
{
    service one{built};
    one.run_next_script("\"$HOST\" \"$@\" &\nwait");
    fails(one, [](std::string const& line) {
        return begins(line, "failed phase=handing-over reason=\"pid ") &&
               line.find("started through a wrapper that forks; use exec in it") != line.npos;
    });
    recovers(one);
}

RESTART_TEST_OF_OTHER_PROGRAMS(script_that_executes)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    one.run_next_script("exec \"$HOST\" \"$@\"");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_OF_OTHER_PROGRAMS(no_program_of_ours)
{
    service one{built, {.arguments = {"--ready-timeout", "300", "--kill-grace", "300"}}};
    one.run_next_script("exec sleep \"$@\" 2>/dev/null"); // which does not know our arguments
    fails_with(one, "failed phase=handing-over reason=\"exit status 1\"");
    one.run_next_script("exec sleep 1000");
    fails_with(one, "failed phase=handing-over reason=\"not ready within 300 ms\"");
    // One that closes everything it did not open.
    one.run_next_script("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-\nexec sleep 1000");
    fails(one, [](std::string const& line) { return begins(line, "failed phase=handing-over reason=\""); });
    one.run_next_well();
    one.stop();
}

RESTART_TEST(closes_3_and_up)
{
    service one{built};
    one.behave("begin close-from 3");
    fails_with(one, "failed phase=handing-over reason=\"exit status 1\"");
    recovers(one);
}

RESTART_TEST(other_transport)
{
    service one{built};
    one.run_next(built.with_other_transport().path());
    fails(one, [](std::string const& line) {
        return begins(line, "failed phase=handing-over reason=\"exit status 1");
    });
    auto const error = one.wait_for("error");
    BOOST_TEST(error.pid != one.pid());
    auto const both = "take over by " + built.with_other_transport().transport + " from a parent that hands over by " +
                      built.transport;
    BOOST_TEST(error.text.find(both) != error.text.npos, error.text);
    recovers(one);
}
