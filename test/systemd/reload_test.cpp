// SPDX-License-Identifier: BSL-1.0
// A service under a real systemd: start, reload, stop, and what goes wrong in between.
#define BOOST_TEST_MODULE systemd_reload
#include "harness.hpp"

using namespace restart;

SYSTEMD_TEST(start_and_stop)
{
    unit one{built, how};
    one.start();
    one.check_serves(0, "generation 0 serving");
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}

SYSTEMD_TEST(reload_five_times)
{
    unit one{built, how};
    one.start();
    std::set<::pid_t> served{one.check_serves(0, "generation 0 serving")};
    prober load{one.address()};
    BOOST_TEST(load.go_on());
    for (unsigned generation = 1; generation != 6; ++generation) {
        auto const reload = one.systemctl("reload");
        BOOST_TEST(reload.ok(), reload.output);
        auto const after = one.show();
        BOOST_TEST(after.at("ActiveState") == "active");
        BOOST_TEST(after.at("MainPID") == std::to_string(one.wait_for("serving", generation + 1).pid));
        BOOST_TEST(load.go_on());
        served.insert(one.check_serves(generation, "generation " + std::to_string(generation) + " serving"));
    }
    BOOST_TEST(served.size() == 6U);
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    for (auto const* complaint : {"Main process exited", "not our child", "reception only permitted"})
        for (auto const& line : one.said(complaint))
            BOOST_ERROR(line);
    BOOST_TEST(one.show("NRestarts") == "0");
}

namespace {

bool ignores_sigpipe(::pid_t pid)
{
    std::ifstream status{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("SigIgn:"))
            return (std::stoull(line.substr(line.find('\t')), nullptr, 16) >> (SIGPIPE - 1) & 1U) != 0;
    return false;
}

} // namespace

// systemd starts a service with SIGPIPE ignored, unless told otherwise. One that counts on it is not to die of it later.
SYSTEMD_TEST(a_child_ignores_sigpipe_as_the_first_generation_does)
{
    unit one{built, how};
    one.start();
    BOOST_TEST(ignores_sigpipe(one.check_serves(0, "generation 0 serving")));
    for (unsigned generation = 1; generation != 3; ++generation) {
        BOOST_TEST(one.systemctl("reload").ok());
        BOOST_TEST(ignores_sigpipe(one.check_serves(generation, "generation " + std::to_string(generation) + " serving")));
    }
}

SYSTEMD_TEST(reload_to_a_program_that_fails)
{
    unit one{built, how};
    one.start();
    auto const pid = one.check_serves(0, "generation 0 serving");
    one.behave("claimed exit 3");
    auto const reload = one.systemctl("reload");
    BOOST_TEST(reload.ok() == one.reloads_by(reload_by::signal), reload.output); // which has no way to fail
    one.wait_for("upgrade_failed");
    BOOST_TEST(one.check_serves(0, "upgrade failed: exit status 3") == pid);
    one.behave("");
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 2);
    one.check_serves(1, "generation 1 serving");
    for (auto const& line : one.said("Main process exited"))
        BOOST_ERROR(line);
}

// The child says why it cannot serve.
SYSTEMD_TEST(reason_in_the_status)
{
    unit one{built, how};
    one.start();
    one.behave("claimed fail config: no such upstream");
    static_cast<void>(one.systemctl("reload"));
    one.wait_for("upgrade_failed");
    auto const status = one.show("StatusText");
    BOOST_TEST(status.find("config: no such upstream") != status.npos, status);
    one.check_serves(0, status);
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}

namespace {

/// A stop while the child of an upgrade is at some point before commit, and stays there. Where ExecReload= runs, systemd
/// ends that too, and shows the unit as failed because of it: not the service's doing.
void stop_while_child_is(std::string const& behaviour, assembly const& built, reload_by how)
{
    unit one{built, how};
    one.start();
    one.behave(behaviour);
    auto reload = one.begin("reload");
    one.wait_for("launched");
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "reloading"; }));
    auto const stop = one.systemctl("stop");
    BOOST_TEST(stop.ok(), stop.output);
    if (how == reload_by::control)
        one.check_stopped();
    else
        one.check_stopped_well();
    BOOST_TEST(!reload.get().ok());
    BOOST_TEST(one.steps("serving").size() == 1U);
}

} // namespace

SYSTEMD_TEST(stop_while_the_child_starts)
{
    stop_while_child_is("begin hang", built, how);
}

SYSTEMD_TEST(stop_while_the_child_is_not_ready)
{
    stop_while_child_is("claimed hang", built, how);
}

SYSTEMD_TEST(killed_main_process_is_restarted)
{
    unit one{built, how, {.settings = {"Restart=on-failure", "RestartSec=0"}}};
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    auto const pid = one.wait_for("serving", 2).pid;
    BOOST_TEST(one.check_serves(1, "generation 1 serving") == pid);
    ::kill(pid, SIGKILL);
    auto const again = one.wait_for("serving", 3);
    BOOST_TEST(again.generation == 0U);
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    auto const shown = one.show();
    BOOST_TEST(shown.at("MainPID") == std::to_string(again.pid));
    BOOST_TEST(shown.at("NRestarts") == "1");
    BOOST_TEST(one.said("Main process exited, code=killed, status=9/KILL").size() == 1U);
}

namespace {

/// An upgrade by the control socket, asked for by us and not by systemd; gives the line.
std::string upgrade(unit const& one)
{
    connection asker{ecdysis::address{one.path("control")}};
    return asker.receive().value_or("no answer");
}

} // namespace

// The upgrade waits no longer for the barrier than it was told to; the manager catches up.
SYSTEMD_TEST(manager_that_stands_still)
{
    unit one{built, how, {.arguments = {"--barrier-timeout", "300"}}};
    one.start();
    auto const pid = one.check_serves(0, "generation 0 serving");
    auto const systemd = look_at(pid)->parent;
    prober load{one.address()};
    ::kill(systemd, SIGSTOP);
    auto const answer = upgrade(one);
    ::kill(systemd, SIGCONT);
    BOOST_TEST(answer.starts_with("ok generation=1 "), answer);
    one.wait_for("drained");
    BOOST_TEST(load.go_on());
    BOOST_TEST(wait_until([&] { return one.show("StatusText") == "generation 1 serving"; }, std::chrono::seconds{20}));
    one.check_serves(1, "generation 1 serving");
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
}

// The last: nothing outlives the manager.
BOOST_AUTO_TEST_CASE(end_of_the_manager, *boost::unit_test::precondition([](boost::unit_test::test_unit_id) {
    return registered_unit_test::can_run(reload_by::control);
}))
{
    unit one{{"sync", "systemd", "socketpair"}, reload_by::control};
    one.start();
    auto const pid = one.main_pid();
    BOOST_TEST(real_manager::instance().end());
    auto const left = look_at(pid); // a zombie, if whoever gets orphans is slow
    BOOST_TEST((!left || left->state == 'Z'));
}
