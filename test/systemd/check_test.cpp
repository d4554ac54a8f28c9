// SPDX-License-Identifier: BSL-1.0
// What is said at the start of settings that cannot work, and that they do not: each warning with what it foretells.
#define BOOST_TEST_MODULE systemd_check
#include "harness.hpp"

#include <fstream>

using namespace restart;
namespace ut = boost::unit_test;

#define CHECK_TEST(name, how)                                                                                          \
    BOOST_AUTO_TEST_CASE(name, *ut::precondition([](ut::test_unit_id) { return registered_unit_test::can_run(how); }))

namespace {

assembly const systemd_host{"sync", "systemd", "socketpair"}, none_host{"sync", "none", "socketpair"};

std::vector<std::string> warnings(unit const& one)
{
    std::vector<std::string> result;
    for (auto& step : one.steps("warning"))
        result.push_back(std::move(step.text));
    return result;
}

/// The one warning has these words.
void check_warning(unit const& one, std::string_view words)
{
    auto const all = warnings(one);
    BOOST_TEST_REQUIRE(all.size() == 1U, "expected: " << words);
    BOOST_TEST(all.front().find(words) != all.front().npos, all.front());
}

/// An upgrade, asked for at the control socket; gives the new generation's number in the line.
void upgrade(unit const& one, unsigned generation)
{
    connection asker{ecdysis::address{one.path("control")}};
    auto const answer = asker.receive().value_or("no answer");
    BOOST_TEST(answer.starts_with("ok generation=" + std::to_string(generation) + " "), answer);
}

/// Those that systemd has left, and would leave to the machine.
void end_the_left(unit const& one)
{
    for (auto const pid : one.processes())
        ::kill(pid, SIGKILL);
    BOOST_TEST(wait_until([&] { return one.processes().empty(); }));
}

bool is_over(unit const& one)
{
    return wait_until([&] { return one.show("ActiveState") == "inactive"; });
}

/// A service of two generations, of which the first drains, as long as `held` is open.
struct draining
{
    explicit draining(char const* kill_mode)
        : one{systemd_host, reload_by::control, {.settings = {std::string{"KillMode="} + kill_mode}}}
    {
        one.start();
        check_warning(one, std::string{"KillMode="} + kill_mode + ": a stop ");
        held.emplace(one.address());
        BOOST_TEST(held->ask().has_value());
        before = one.main_pid();
        upgrade(one, 1);
        now = one.main_pid();
        BOOST_TEST(one.processes().size() == 2U);
        BOOST_TEST(warnings(one).size() == 1U); // not the new one's
    }
    [[nodiscard]] bool is_left(::pid_t pid) const
    {
        auto const all = one.processes();
        return std::ranges::find(all, pid) != all.end();
    }

    unit one;
    std::optional<connection> held{};
    ::pid_t before = 0, now = 0;
};

} // namespace

SYSTEMD_TEST(nothing_about_a_right_unit)
{
    unit one{built, how};
    one.start();
    upgrade(one, 1);
    one.wait_for("drained");
    for (auto const& line : warnings(one))
        BOOST_ERROR(line);
}

CHECK_TEST(type_that_tells_nothing, reload_by::control)
{
    unit one{systemd_host, reload_by::control, {.settings = {"Type=exec"}, .arguments = {"--manager-optional"}}};
    one.start();
    one.wait_for("serving");
    check_warning(one, "write Type=notify-reload (systemd 253) or Type=notify in [Service] of " + one.name());
    check_warning(one, "and ends the new one with it; ");
    upgrade(one, 1);
    BOOST_TEST(is_over(one));
    BOOST_TEST(one.processes().empty());
}

CHECK_TEST(type_that_tells_nothing_and_kill_mode_process, reload_by::control)
{
    unit one{systemd_host,
             reload_by::control,
             {.settings = {"Type=exec", "KillMode=process"}, .arguments = {"--manager-optional"}}};
    one.start();
    one.wait_for("serving");
    auto const all = warnings(one);
    BOOST_TEST_REQUIRE(all.size() == 2U);
    BOOST_TEST(all[0].find("loses sight of the new one: the unit is inactive, and a stop ends nothing") != all[0].npos, all[0]);
    upgrade(one, 1);
    BOOST_TEST(is_over(one));
    BOOST_TEST(one.systemctl("stop").ok());
    BOOST_TEST(one.ask().generation == 1U);
    end_the_left(one);
}

CHECK_TEST(notify_none, reload_by::control)
{
    unit one{none_host, reload_by::control, {.settings = {"Type=exec"}}};
    one.start();
    one.wait_for("serving");
    check_warning(one, "use notify::systemd");
    upgrade(one, 1);
    BOOST_TEST(is_over(one));
    BOOST_TEST(one.processes().empty());
}

// As long as one of its processes lives, so does the service.
CHECK_TEST(exit_type_cgroup_needs_nobody_told, reload_by::control)
{
    unit one{systemd_host, reload_by::control, {.settings = {"Type=exec", "ExitType=cgroup"}, .arguments = {"--manager-optional"}}};
    one.start();
    one.wait_for("serving");
    BOOST_TEST(warnings(one).empty());
    upgrade(one, 1);
    one.wait_for("drained");
    BOOST_TEST(wait_until([&] { return one.show("MainPID") == "0"; }));
    BOOST_TEST(one.show("ActiveState") == "active");
    BOOST_TEST(one.ask().generation == 1U);
}

CHECK_TEST(notify_reload_before_it_was_known, reload_by::control)
{
    if (real_manager::version() >= 253)
        return;
    unit one{systemd_host, reload_by::control, {.settings = {"Type=exec", "Type=notify-reload"}, .arguments = {"--manager-optional"}}};
    one.start();
    one.wait_for("serving");
    check_warning(one, "Type=notify-reload in " + one.name() + " is ignored by systemd before 253, write Type=notify");
}

CHECK_TEST(variable_that_is_taken_out, reload_by::control)
{
    unit one{systemd_host,
             reload_by::control,
             {.settings = {"Type=notify", "NotifyAccess=all", "UnsetEnvironment=NOTIFY_SOCKET",
                           "ExecStartPost=/bin/systemd-notify --ready"},
              .arguments = {"--manager-optional"}}};
    auto const starting = one.begin("start");
    one.wait_for("warning");
    check_warning(one, one.name() + " has Type=notify already, so let no UnsetEnvironment= and no wrapper take the variable out");
    BOOST_TEST(one.systemctl("stop").ok());
}

CHECK_TEST(kill_mode_process_leaves_the_one_that_drains, reload_by::control)
{
    draining two{"process"};
    BOOST_TEST(two.one.systemctl("stop").ok());
    BOOST_TEST(two.one.show("ActiveState") == "inactive");
    BOOST_TEST(two.is_left(two.before));
    BOOST_TEST(two.held->ask().has_value());
    end_the_left(two.one);
}

CHECK_TEST(kill_mode_none_leaves_all, reload_by::control)
{
    draining two{"none"};
    BOOST_TEST(two.one.systemctl("stop").ok());
    BOOST_TEST(two.one.show("ActiveState") == "inactive");
    BOOST_TEST(two.is_left(two.before));
    BOOST_TEST(two.is_left(two.now));
    end_the_left(two.one);
}

CHECK_TEST(kill_mode_mixed_kills_the_one_that_drains, reload_by::control)
{
    draining two{"mixed"};
    BOOST_TEST(two.one.systemctl("stop").ok());
    BOOST_TEST(two.one.processes().empty());
    BOOST_TEST(!two.held->ask().has_value());
    BOOST_TEST(two.one.said("Killing process " + std::to_string(two.before) + " ").size() == 1U);
}

CHECK_TEST(watchdog_that_nobody_feeds, reload_by::control)
{
    unit one{systemd_host, reload_by::control, {.settings = {"WatchdogSec=60"}}};
    one.start();
    check_warning(one, "if the host does not send WATCHDOG=1 by itself, the service is killed for its silence");
}

// What systemd reads of a unit is read here: the drop-ins too.
CHECK_TEST(drop_in, reload_by::control)
{
    unit one{systemd_host, reload_by::control};
    auto const directory = unit::manager().path("units/" + one.name() + ".d");
    std::filesystem::create_directory(directory);
    std::ofstream{directory + "/mode.conf"} << "[Service]\nKillMode=mixed\n";
    BOOST_TEST(unit::manager().systemctl("daemon-reload").ok());
    one.start();
    BOOST_TEST(one.show("KillMode") == "mixed");
    check_warning(one, "KillMode=mixed: ");
    std::filesystem::remove_all(directory);
}
