// SPDX-License-Identifier: BSL-1.0
// Signals that ask for an upgrade while one runs, just after one, and before the first generation serves: none is lost, and
// however many come they are one more upgrade, whose program is the newest.
#define BOOST_TEST_MODULE restart_signal
#include "harness.hpp"

using namespace restart;

RESTART_TEST(several_signals_during_an_upgrade_are_one_more)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    interrupted upgrade{one, "claimed"};
    for (int i = 0; i != 5; ++i) {
        one.signal(SIGHUP);
        one.wait_for("postponed");
        BOOST_TEST(one.ask().generation == 0U);
    }
    std::filesystem::copy_file(built.path(), one.path("newest"));
    one.run_next(one.path("newest"));
    upgrade.go_on();
    BOOST_TEST(one.heard(upgrade.line()).starts_with("ok generation=1 "));
    one.expect_generation(2);
    auto const runs = [&] { return std::filesystem::read_symlink("/proc/" + std::to_string(one.pid()) + "/exe").string(); };
    BOOST_TEST(runs() == one.path("newest"));
    BOOST_TEST(one.upgrade().starts_with("ok generation=3 ")); // and none was in between
    BOOST_TEST(one.steps("upgrade_requested").size() == 3U);
    BOOST_TEST(one.steps("refused").empty());
    one.check_succeeded(before);
    one.stop();
}

// One by the control socket fails, and the signal that came is the next.
RESTART_TEST(a_signal_during_an_upgrade_that_fails)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    interrupted upgrade{one, "claimed"};
    one.signal(SIGHUP);
    one.wait_for("postponed"); // one, for those that are heard after this upgrade's end are one more
    ::kill(upgrade.child, SIGKILL);
    BOOST_TEST(upgrade.line() == "failed phase=starting reason=\"killed by signal 9 (Killed)\"");
    one.expect_generation(1);
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    BOOST_TEST(one.steps("upgrade_requested").size() == 3U);
    one.check_succeeded(before);
    if (built.has_manager()) { // the reload that it asked for begins when it is told that the service is ready
        std::vector<std::string> words;
        for (auto const& each : one.manager().messages())
            words.push_back(each.text.substr(0, each.text.find('\n')));
        auto const begun = std::ranges::find(words, "RELOADING=1");
        BOOST_TEST_REQUIRE((begun != words.end() && begun != words.begin()));
        BOOST_TEST(*std::prev(begun) == "READY=1");
    }
    one.stop();
}

// One that fails takes one signal: there is no endless loop.
RESTART_TEST(a_signal_during_each_of_two_upgrades_that_fail)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    begun upgrade{one, "claimed until " + one.path("go") + "\nclaimed exit 3"};
    one.signal(SIGHUP);
    one.wait_for("postponed");
    one.write("go", "");
    BOOST_TEST(upgrade.line() == "failed phase=starting reason=\"exit status 3\"");
    one.wait_for("upgrade_failed", 2);
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"exit status 3\"");
    BOOST_TEST(one.steps("upgrade_requested").size() == 3U);
    one.check_unharmed(before);
    one.stop();
}

// Whoever sent it had read the pid of the parent.
RESTART_TEST(a_signal_to_the_old_pid)
{
    service one{built, {.arguments = {"--signal-interval", "60000"}, .probed = answers_all}};
    auto const first = one.pid();
    connection kept{one.address()};
    BOOST_TEST(kept.ask().value().pid == first);
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    auto const second = one.pid();
    ::kill(first, SIGHUP);
    one.expect_generation(2);
    service::check_ended_well(second);
    BOOST_TEST(one.steps("refused").empty());
    BOOST_TEST(kept.ask().value().pid == first);
    service::check_ended_well(first);
    one.stop();
}

RESTART_TEST(a_signal_before_the_first_generation_is_ready)
{
    service one{built, {.behave = "claimed until GO", .awaited = false}};
    auto const go = one.path("GO");
    BOOST_REQUIRE(wait_until([&] { return std::filesystem::exists(go + ".awaited"); }));
    one.behave("");
    one.signal(SIGHUP);
    BOOST_TEST(look_at(one.pid()).has_value());
    one.write("GO", "");
    one.expect_generation(0);
    one.expect_generation(1);
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.stop();
}

// Whoever asks while the manager takes in who the main process is, asks that one.
RESTART_TEST(a_request_during_the_barrier)
{
    if (!built.has_manager())
        return;
    service one{built, {.probed = answers_all}};
    interrupted upgrade{one, "may-accept"};
    one.wait_for("committed");
    one.manager().hold_barriers(true);
    upgrade.go_on();
    BOOST_REQUIRE(wait_until([&] { return one.manager().heard("MAINPID=" + std::to_string(upgrade.child)); }));
    std::vector<connection> askers;
    for (int i = 0; i != 3; ++i)
        askers.push_back(one.at_control());
    BOOST_TEST(!has_answer(askers[0]));
    one.manager().hold_barriers(false);
    BOOST_TEST(one.heard(upgrade.line()).starts_with("ok generation=1 "));
    auto const line = one.heard(askers[0].receive().value_or("no answer"));
    BOOST_TEST(line.starts_with("ok generation=2 "), line);
    for (int i = 1; i != 3; ++i) { // the child's, for its own upgrade runs, or that one's
        auto const other = askers[static_cast<std::size_t>(i)].receive().value_or("no answer");
        BOOST_TEST((other == "busy" || other.starts_with("ok generation=")), other);
    }
    for (auto const& each : one.steps("refused"))
        BOOST_TEST(each.pid != one.first());
    service::check_ended_well(one.first());
    one.stop();
}
