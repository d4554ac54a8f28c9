// SPDX-License-Identifier: BSL-1.0
// What takes longer than the manager waits by itself, and its watchdog. Reloads that come meanwhile: queue_test.cpp.
#define BOOST_TEST_MODULE systemd_time
#include "harness.hpp"

using namespace restart;

namespace {

using clock = std::chrono::steady_clock;

/// One second is the shortest that these tests give the manager; by then it has acted, if it was to.
constexpr std::chrono::milliseconds longer_than_a_second{1'600};

/// The one wait for a time: for the manager's own.
void outlast(clock::time_point since)
{
    std::this_thread::sleep_until(since + longer_than_a_second);
}

void check_in_time(unit const& one)
{
    for (auto const* complaint : {"timed out", "Main process exited", "Watchdog"})
        for (auto const& line : one.said(complaint))
            BOOST_ERROR(line);
}

} // namespace

// ---- starts, upgrades and stops

SYSTEMD_TEST_OF_IO(start_that_takes_longer_than_the_manager_waits)
{
    unit one{built, how, {.settings = {"TimeoutStartSec=1"}}};
    one.hold_at("claimed");
    auto const began = clock::now();
    auto start = one.begin("start");
    one.awaits_go();
    outlast(began);
    BOOST_TEST(one.show("ActiveState") == "activating");
    one.go();
    BOOST_TEST(start.get().ok());
    one.check_serves(0, "generation 0 serving");
    check_in_time(one);
}

SYSTEMD_TEST_OF_HALF(upgrade_that_takes_longer_than_the_manager_waits)
{
    unit one{built, how, {.settings = {"TimeoutStartSec=1"}}};
    one.start();
    prober load{one.address()};
    one.hold_at("claimed");
    auto const began = clock::now();
    auto reload = one.begin("reload");
    one.awaits_go();
    outlast(began);
    BOOST_TEST(one.show("ActiveState") == "reloading");
    one.go();
    auto const reloaded = reload.get();
    BOOST_TEST(reloaded.ok(), reloaded.output);
    one.wait_for("drained");
    one.check_serves(1, "generation 1 serving");
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    check_in_time(one);
}

namespace {

/// The seconds in `draining: 12 connections, 8 s left`; 0 if it is not that.
int seconds_left(std::string const& status, std::string const& before)
{
    return status.starts_with(before) && status.ends_with(" s left") ? std::atoi(status.c_str() + before.size()) : 0;
}

/// The status with its seconds, when it begins so.
int wait_for_seconds_left(unit const& one, std::string const& before)
{
    int left = 0;
    BOOST_TEST(wait_until([&] { return (left = seconds_left(one.show("StatusText"), before)) != 0; }, std::chrono::seconds{10}),
               one.show("StatusText"));
    return left;
}

} // namespace

SYSTEMD_TEST_OF_IO(drain_that_takes_longer_than_the_manager_waits)
{
    unit one{built, how, {.settings = {"TimeoutStopSec=1"}, .arguments = {"--drain", "15000"}}};
    one.start();
    connection first{one.address()}, second{one.address()};
    BOOST_TEST(first.ask().has_value());
    BOOST_TEST(second.ask().has_value());
    auto stop = one.begin("stop");
    auto const left = wait_for_seconds_left(one, "draining: 2 connections, ");
    auto const began = clock::now();
    BOOST_TEST(left <= 15);
    BOOST_TEST(left >= 12); // it has just begun
    BOOST_TEST(first.ask().value_or(reply{""}).last);
    auto const later = wait_for_seconds_left(one, "draining: 1 connection, ");
    BOOST_TEST(later < left);
    outlast(began);
    BOOST_TEST(one.show("ActiveState") == "deactivating");
    BOOST_TEST(second.ask().value_or(reply{""}).last);
    BOOST_TEST(stop.get().ok());
    one.check_stopped_well();
    check_in_time(one);
}

// ---- the watchdog

namespace {

unit_wish watched(std::vector<std::string> arguments, std::string behave = {})
{
    return {.settings = {"WatchdogSec=1", "Restart=on-watchdog", "RestartSec=0", "LimitCORE=0"},
            .arguments = std::move(arguments),
            .behave = std::move(behave)};
}

} // namespace

SYSTEMD_TEST_OF_HALF(watchdog_that_is_fed)
{
    unit one{built, how, watched({"--watchdog"})};
    one.start();
    auto const began = clock::now();
    one.check_serves(0, "generation 0 serving");
    one.hold_at("claimed");
    auto reload = one.begin("reload");
    one.awaits_go();
    outlast(began); // the parent feeds it
    one.go();
    BOOST_TEST(reload.get().ok());
    auto const pid = one.wait_for("serving", 2).pid;
    outlast(clock::now() + std::chrono::milliseconds{800}); // two intervals and more
    BOOST_TEST(one.check_serves(1, "generation 1 serving") == pid);
    BOOST_TEST(one.show("NRestarts") == "0");
    check_in_time(one);
}

SYSTEMD_TEST_OF_IO(watchdog_of_a_loop_that_stands_still)
{
    unit one{built, how, watched({"--watchdog"}, "upgrade_requested hang")};
    one.start();
    one.behave("");
    auto const pid = one.main_pid();
    ::kill(pid, SIGHUP);
    auto const again = one.wait_for("serving", 2);
    BOOST_TEST(again.generation == 0U);
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    BOOST_TEST(one.main_pid() == again.pid);
    BOOST_TEST(one.show("NRestarts") == "1");
    BOOST_TEST(!one.said("Watchdog timeout").empty());
}

// The child has got no WATCHDOG_PID, and is the main process.
SYSTEMD_TEST_OF_HALF(watchdog_of_a_child_that_stands_still)
{
    unit one{built, how, watched({"--watchdog"})};
    one.start();
    one.behave("upgrade_requested hang");
    BOOST_TEST(one.systemctl("reload").ok());
    auto const child = one.wait_for("serving", 2);
    one.behave("");
    one.wait_for("drained");
    ::kill(child.pid, SIGHUP);
    auto const again = one.wait_for("serving", 3);
    BOOST_TEST(again.generation == 0U);
    BOOST_TEST(!one.said("Watchdog timeout").empty());
}

SYSTEMD_TEST_OF_IO(watchdog_without_the_option)
{
    unit one{built, how, watched({})};
    one.start();
    auto const pid = one.main_pid();
    BOOST_TEST(one.wait_for("serving", 2).pid != pid);
    BOOST_TEST(!one.said("Watchdog timeout").empty());
}
