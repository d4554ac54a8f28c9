// SPDX-License-Identifier: BSL-1.0
// The moments of an upgrade at which a real systemd knows less than the generations do, or they less than it: processes
// that are killed, and a manager that does not run.
#define BOOST_TEST_MODULE systemd_moment
#include "harness/moment.hpp"

using namespace restart;

// ---- the child killed from commit to yours

// Nothing has been said of it to systemd.
SYSTEMD_TEST_OF_HALF(child_killed_between_commit_and_announcement)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting", "serving"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting()};
            one.start();
            auto const parent = one.check_serves(0, "generation 0 serving");
            one.hold_at(point);
            auto reload = one.begin("reload");
            one.awaits_go();
            one.wait_for("committed");
            BOOST_TEST(one.main_pid() == parent);
            BOOST_TEST(one.show("ActiveState") == "reloading");
            ::kill(one.launched(), SIGKILL);
            BOOST_TEST(reload.get().ok() == one.reloads_by(reload_by::signal)); // which has no way to fail
            one.wait_for("taken_back");
            check_serves_on(one, parent, "killed by signal 9 (Killed)");
            check_next_reload(one);
        }
}

// systemd takes no dead process for the main one: that is the parent still. READY=1 of the same message counts.
SYSTEMD_TEST_OF_HALF(child_killed_between_announcement_and_yours)
{
    unit one{built, how, restarting({}, pausable())};
    one.start();
    auto const pid = one.check_serves(0, "generation 0 serving");
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t, ::pid_t child) {
        ::kill(child, SIGKILL);
        one.wait_for("upgrade_failed");
    });
    BOOST_TEST(answer.ok() == one.reloads_by(reload_by::signal));
    if (!one.reloads_by(reload_by::signal))
        BOOST_TEST(answer.output.starts_with("failed phase=announcing "), answer.output);
    check_serves_on(one, pid, "ended, its status is not known"); // the manager did not run, and could not reap it
    check_next_reload(one);
}

// From `yours` on it is the main process, and its end an ordinary crash.
SYSTEMD_TEST_OF_HALF(child_killed_while_the_parent_drains)
{
    unit one{built, how, restarting()};
    one.start();
    connection open{one.address()};
    BOOST_TEST(open.ask().has_value());
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("upgraded");
    ::kill(one.main_pid(), SIGKILL);
    check_drains(open);
    BOOST_TEST(one.wait_for("serving", 3).generation == 0U);
    check_settles(one);
    BOOST_TEST(one.show("NRestarts") == "1");
}

// ---- the parent killed

// The child ends with it, whatever it could have done as heir, and systemd starts the service anew.
SYSTEMD_TEST_OF_HALF(parent_killed_while_the_child_starts)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        BOOST_TEST_CONTEXT(point)
        {
            // The default times. What hangs in its start ends by the signal that systemd sends it.
            unit one{built, how, {.settings = {"Restart=on-failure", "TimeoutSec=90"}}};
            one.start();
            auto const parent = one.check_serves(0, "generation 0 serving");
            one.hold_at(point);
            auto reload = one.begin("reload");
            one.awaits_go();
            auto const child = one.launched();
            one.behave("");
            ::kill(parent, SIGKILL);
            BOOST_TEST(wait_until([&] { return one.steps("serving").size() == 2; }, std::chrono::seconds{5}));
            BOOST_TEST(!look_at(child).has_value());
            auto const again = one.wait_for("serving", 2);
            BOOST_TEST(again.generation == 0U);
            BOOST_TEST(!reload.get().ok());
            check_settles(one);
            BOOST_TEST(one.check_serves(0, "generation 0 serving") == again.pid);
            BOOST_TEST(one.show("NRestarts") == "1");
        }
}

SYSTEMD_TEST_OF_HALF(parent_killed_at_each_of_its_steps)
{
    for (std::string const point : {"upgrade_requested", "launched", "handed_over", "child_ready"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting(point + " kill")};
            one.start();
            one.behave("");
            auto const reload = one.systemctl("reload");
            BOOST_TEST(!reload.ok(), reload.output);
            auto const again = one.wait_for("serving", 2);
            BOOST_TEST(again.generation == 0U);
            check_settles(one);
            BOOST_TEST(one.check_serves(0, "generation 0 serving") == again.pid);
            BOOST_TEST(one.show("NRestarts") == "1");
        }
}

// The child has the service by that, and drains when systemd stops what is left of it.
SYSTEMD_TEST_OF_HALF(parent_killed_in_probation)
{
    unit one{built, how, restarting({}, {"--probation 60000"})};
    one.start();
    auto const parent = one.main_pid();
    auto reload = one.begin("reload");
    one.wait_for("child_serves");
    auto const child = one.launched();
    connection open{one.address()};
    BOOST_TEST(open.ask()->pid == child);
    ::kill(parent, SIGKILL);
    one.wait_for("draining"); // as heir, unless it hears systemd's SIGTERM before it sees the end of its parent
    BOOST_TEST(one.steps("serving").size() == 2U); // its drain is awaited
    check_drains(open);
    BOOST_TEST(!reload.get().ok());
    BOOST_TEST(one.wait_for("serving", 3).generation == 0U);
    check_settles(one);
    BOOST_TEST(one.show("NRestarts") == "1");
    for (auto const& line : one.said("SIGKILL"))
        BOOST_ERROR(line);
}

// Its last words were heard.
SYSTEMD_TEST_OF_HALF(parent_killed_between_announcement_and_yours)
{
    unit one{built, how, restarting({}, pausable())};
    one.start();
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t parent, ::pid_t) {
        ::kill(parent, SIGKILL);
        one.wait_for("heir");
    });
    BOOST_TEST(answer.ok() == one.reloads_by(reload_by::signal)); // who asks the parent gets no answer
    check_settles(one);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.show("NRestarts") == "0");
}

SYSTEMD_TEST_OF_HALF(parent_killed_while_it_drains)
{
    unit one{built, how, restarting()};
    one.start();
    auto const parent = one.main_pid();
    connection open{one.address()};
    BOOST_TEST(open.ask().has_value());
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("upgraded");
    ::kill(parent, SIGKILL);
    check_settles(one);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.show("NRestarts") == "0");
}

// ---- the manager

// Not longer than the upgrade waits for it; reload_test.cpp has one that stands still.
SYSTEMD_TEST(manager_that_pauses_before_the_commit)
{
    unit one{built, how, {.arguments = {"--barrier-timeout", "60000"}}};
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    prober load{one.address()};
    one.hold_at("claimed");
    auto asked = begin_upgrade(one);
    one.awaits_go();
    {
        paused_manager const paused{parent};
        one.go();
        one.wait_for("child_ready");
        BOOST_TEST(load.go_on(200));
        BOOST_TEST(one.steps("committed").empty());
    }
    one.behave("");
    auto const answer = asked.get();
    BOOST_TEST(answer.ok(), answer.output);
    one.wait_for("drained");
    BOOST_TEST(load.go_on());
    one.check_serves(1, "generation 1 serving");
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST(one.steps("warning").empty());
}

// The child serves meanwhile; the parent has paused, and its open connections go on.
SYSTEMD_TEST(manager_that_pauses_during_the_announcement)
{
    unit one{built, how, {.arguments = pausable()}};
    one.start();
    prober load{one.address()};
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t, ::pid_t) {
        BOOST_TEST(load.go_on(200));
        BOOST_TEST(one.steps("upgraded").empty());
    });
    BOOST_TEST(answer.ok(), answer.output);
    one.wait_for("drained");
    BOOST_TEST(load.go_on());
    one.check_serves(1, "generation 1 serving");
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST(one.steps("warning").empty());
}

// It is told later than the child has the service.
SYSTEMD_TEST_OF_HALF(manager_that_does_not_confirm_the_announcement)
{
    unit one{built, how, {.arguments = pausable("300")}};
    one.start();
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t, ::pid_t) {
        one.wait_for("upgraded");
        BOOST_TEST(one.processes().size() == 2U); // the drain is not over before that is heard
        BOOST_TEST(one.steps("drained").empty());
    });
    BOOST_TEST(answer.ok(), answer.output);
    one.wait_for("drained");
    one.check_serves(1, "generation 1 serving");
    auto const warning = one.wait_for("warning").text;
    BOOST_TEST(warning == "the service manager did not confirm within 300 ms; going on");
}

SYSTEMD_TEST(reload_returns_when_the_new_generation_serves)
{
    unit one{built, how};
    one.start();
    auto const parent = one.main_pid();
    one.hold_at("may-accept");
    auto reload = one.begin("reload");
    one.awaits_go();
    one.wait_for("committed");
    BOOST_TEST(one.main_pid() == parent); // nothing is announced before it serves
    BOOST_TEST(one.show("ActiveState") == "reloading");
    BOOST_TEST((reload.wait_for(std::chrono::seconds{0}) == std::future_status::timeout));
    one.go();
    one.behave("");
    BOOST_TEST(reload.get().ok());
    for (unsigned generation = 1; generation != 6; ++generation) {
        if (generation != 1)
            BOOST_TEST(one.systemctl("reload").ok());
        auto const serving = one.steps("serving"); // before anything else
        BOOST_REQUIRE(!serving.empty());
        BOOST_TEST(serving.back().generation == generation);
        BOOST_TEST(one.main_pid() == serving.back().pid);
        one.wait_for("drained", generation);
    }
}
