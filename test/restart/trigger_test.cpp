// SPDX-License-Identifier: BSL-1.0
// What asks for an upgrade or a stop, at every moment: signals, control sockets and calls, each row of the design's
// trigger table, exits, drains, the pid file, heirs, and what a service manager hears.
#define BOOST_TEST_MODULE restart_trigger
#include "harness.hpp"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

using namespace restart;

namespace {

/// What `f()` gives as another user. The kernel has credentials for each thread. Only root can.
template <class F>
auto as_user(::uid_t id, F f)
{
    std::optional<decltype(f())> result;
    std::thread{[&] {
        if (::syscall(SYS_setresuid, -1, id, -1) == 0)
            result = f();
    }}.join();
    BOOST_REQUIRE(result.has_value());
    return *result;
}

std::string own_user()
{
    return std::to_string(::geteuid());
}

} // namespace

// ---- signals

RESTART_TEST(several_signals_for_each)
{
    service one{built,
                {.arguments = {"--upgrade-on", std::to_string(SIGUSR2), "--stop-on", std::to_string(SIGINT)}, .probed = answers_all}};
    auto const before = one.settled();
    one.signal(SIGHUP);
    one.expect_generation(1);
    one.check_succeeded(before);
    one.signal(SIGUSR2); // perhaps sooner than signal_interval: it is put off, not lost
    one.expect_generation(2);
    one.check_succeeded(before);
    one.end_prober();
    one.signal(SIGINT);
    check_over(one);
    BOOST_TEST(one.steps("leaving").back().text == "stopped by signal " + std::to_string(SIGINT));

    service another{built, {.arguments = {"--partial-stop-on", std::to_string(SIGWINCH)}}};
    another.signal(SIGWINCH);
    check_over(another);
    BOOST_TEST(another.wait_for("leaving").text == "partially stopped by signal " + std::to_string(SIGWINCH));
}

// The child starts with its parent's upgrade signals blocked. One that has no use for them has them as any process has,
// and none is left over from then.
RESTART_TEST_OF_OTHER_PROGRAMS(upgrade_signals_that_the_child_does_not_name)
{
    service one{built, {.arguments = {"--upgrade-on", std::to_string(SIGWINCH)}}}; // which does nothing by default
    one.run_next_script("words=()\nfor word in \"$@\"; do [[ $word = " + std::to_string(SIGWINCH) +
                        " ]] && word=" + std::to_string(SIGUSR2) + "; words+=(\"$word\"); done\nexec \"$HOST\" \"${words[@]}\"");
    auto const status = [](::pid_t pid, std::string const& name) {
        std::ifstream file{"/proc/" + std::to_string(pid) + "/status"};
        for (std::string line; std::getline(file, line);)
            if (line.starts_with(name + ":"))
                return std::stoull(line.substr(line.find('\t')), nullptr, 16);
        return 0ULL;
    };
    interrupted upgrade{one, "begin"};
    BOOST_TEST(status(upgrade.child, "SigBlk") == (1ULL << (SIGHUP - 1) | 1ULL << (SIGWINCH - 1)));
    ::kill(upgrade.child, SIGWINCH);
    upgrade.go_on();
    BOOST_TEST(one.heard(upgrade.line()).starts_with("ok generation=1 "));
    BOOST_TEST(wait_until([&] { return status(one.pid(), "SigBlk") == 0U; })); // Asio's are all blocked now and then
    BOOST_TEST(status(one.pid(), "ShdPnd") == 0U);
    one.stop();
}

RESTART_TEST(calls)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    BOOST_TEST(one.ask("upgrade").generation == 0U);
    one.expect_generation(1);
    BOOST_TEST(one.wait_for("told").text.starts_with("ok generation=1 pid="));
    one.check_succeeded(before);
    one.end_prober();
    static_cast<void>(one.ask("stop"));
    check_over(one);
    BOOST_TEST(one.wait_for("told", 2).text.starts_with("ok exit=stopped connections="));

    service another{built};
    static_cast<void>(another.ask("partial-stop"));
    check_over(another);
    BOOST_TEST(another.wait_for("told").text.starts_with("ok exit=partially-stopped connections="));
}

RESTART_TEST(storm)
{
    constexpr unsigned rounds = 200;
    service one{built};
    auto const before = one.look();
    prober load{one.address()};
    for (unsigned i = 0; i != rounds; ++i) {
        // To every process of it, as pkill does: old ones, and one that has no handler yet.
        for (auto const& each : family::instance().living())
            ::kill(each.pid, SIGHUP);
        BOOST_TEST_REQUIRE(load.go_on(1));
    }
    // A last one may be on its way, or put off, or passed on: two upgrades that have none between them have seen the end.
    std::vector<unsigned> generations{0};
    BOOST_TEST(wait_until([&] {
        if (one.upgrade().starts_with("ok "))
            generations.push_back(one.generation());
        return generations.size() > 2 && generations.back() == *(generations.end() - 2) + 1;
    }));
    BOOST_TEST(wait_until([] { return std::ranges::count_if(family::instance().living(), std::not_fn(is_helper)) == 1; }));
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST(one.generation() >= 2U);
    BOOST_TEST(one.generation() <= rounds / 2); // those that come during an upgrade are one more
    BOOST_TEST(one.steps("upgrade_failed").empty());
    one.check_descriptors(one.pid(), before.descriptors);
    one.check_nothing_left();
    one.stop();
}

// ---- the trigger table

RESTART_TEST(stop_before_commit)
{
    for (auto const* point : {"begin", "constructed", "claimed"}) {
        service one{built};
        interrupted upgrade{one, point};
        one.signal(SIGTERM);
        service::check_ended_well(one.pid());
        BOOST_TEST(gone(upgrade.child));
        auto const line = upgrade.line();
        BOOST_TEST(line.starts_with("failed phase="), line);
        BOOST_TEST(line.ends_with(" reason=\"stopped\""), line);
        one.check_gone();
        if (built.has_manager()) {
            BOOST_TEST(one.manager().heard("STOPPING=1", one.pid()));
            BOOST_TEST(!one.manager().heard("MAINPID=" + std::to_string(upgrade.child)));
        }
    }
}

RESTART_TEST(stop_before_commit_ends_a_child_while_draining)
{
    service one{built, {.arguments = {"--kill-grace", "100"}}};
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    one.behave("claimed hang"); // it does not hear SIGTERM
    auto asker = one.at_control();
    one.wait_for("handed_over");
    auto const child = one.child();
    one.signal(SIGTERM);
    BOOST_TEST(gone(child)); // not only at the end
    BOOST_TEST(asker.receive().value_or("") == "failed phase=starting reason=\"stopped\"");
    BOOST_TEST(kept.ask().value().last);
    check_over(one);
}

RESTART_TEST(stop_while_the_manager_is_told)
{
    if (!built.has_manager())
        return;
    service one{built};
    one.manager().hold_barriers(true); // of the question whether it hears us
    auto asker = one.at_control();
    BOOST_REQUIRE(wait_until([&] { return one.manager().holds_one(); }));
    auto const child = one.child();
    one.signal(SIGTERM);
    BOOST_TEST(gone(child));
    service::check_ended_well(one.pid());
    BOOST_TEST(asker.receive().value_or("") == "failed phase=committing reason=\"stopped\"");
    BOOST_TEST(!one.manager().heard("MAINPID=" + std::to_string(child)));
    one.check_gone();
}

RESTART_TEST(stop_after_commit_is_forwarded)
{
    for (auto const* point : {"may-accept", "accepting"}) {
        service one{built};
        connection kept{one.address()};
        BOOST_TEST(kept.ask().has_value());
        interrupted upgrade{one, point};
        one.wait_for("committed");
        one.signal(SIGTERM);
        BOOST_TEST(upgrade.line() == "failed phase=serving reason=\"stopped\"");
        BOOST_TEST(one.wait_for("stopping").pid == one.pid());
        upgrade.go_on();
        BOOST_TEST(gone(upgrade.child));
        BOOST_TEST(kept.ask().value().last); // the parent drains
        check_over(one);
        BOOST_TEST(one.steps("stopping").back().text == "stopped by the other generation");
        if (built.has_manager()) { // it is the parent whom the manager listens to
            BOOST_TEST(one.manager().heard("STOPPING=1", one.pid()));
            BOOST_TEST(!one.manager().heard("STOPPING=1", upgrade.child));
        }
    }
}

RESTART_TEST(a_partial_stop_after_commit_is_forwarded_as_one)
{
    service one{built};
    interrupted upgrade{one, "may-accept"};
    one.wait_for("committed");
    one.signal(SIGUSR1);
    one.wait_for("stopping");
    BOOST_TEST(upgrade.line() == "failed phase=serving reason=\"stopped\"");
    upgrade.go_on();
    BOOST_TEST(gone(upgrade.child));
    check_over(one);
    auto const stops = one.steps("stopping");
    BOOST_TEST(stops.size() == 2U);
    for (auto const& each : stops)
        BOOST_TEST(each.text.starts_with("partially stopped by "), each.text);
    if (built.has_manager())
        BOOST_TEST(!one.manager().heard("STOPPING=1"));
}

// It is not the main process: whoever means the service stops that.
RESTART_TEST(stop_of_the_child_before_the_announcement_is_its_own)
{
    for (int const signal : {SIGTERM, SIGUSR1})
        for (auto const* point : {"may-accept", "accepting"}) {
            service one{built, {.arguments = {"--probation", "600000"}, .probed = answers_all}};
            auto const before = one.settled();
            interrupted upgrade{one, point};
            one.wait_for("committed");
            ::kill(upgrade.child, signal);
            upgrade.go_on();
            auto const line = upgrade.line();
            BOOST_TEST(line.starts_with("failed phase="), line);
            BOOST_TEST(line.ends_with(" reason=\"it was stopped\""), line); // it may have said before that it serves
            BOOST_TEST(one.wait_for("taken_back").pid == one.pid());
            service::check_ended_well(upgrade.child);
            one.check_unharmed(before);
            BOOST_TEST(one.steps("stopping").size() == 1U);
            if (built.has_manager())
                BOOST_TEST(!one.manager().heard("STOPPING=1"));
            one.stop();
        }
}

RESTART_TEST(stop_of_all_processes_at_once)
{
    for (auto const* point : {"begin", "constructed", "claimed", "may-accept", "accepting"}) {
        service one{built};
        interrupted upgrade{one, point};
        ::kill(one.pid(), SIGTERM);
        ::kill(upgrade.child, SIGTERM);
        upgrade.go_on();
        BOOST_TEST(gone(upgrade.child));
        check_over(one);
    }
}

// As `systemctl stop` does: the same stop reaches each generation by its own signal, and by the other one.
RESTART_TEST(a_stop_of_all_processes_is_one_stop)
{
    service one{built, {.behave = "committed stop"}};
    connection old{one.address()};
    BOOST_TEST(old.ask().has_value());
    one.behave("");
    auto asker = one.at_control();
    one.wait_for("serving", 2); // which the parent has not read
    BOOST_TEST(wait_until([&] { // and it accepts until it stands still
        auto const now = look_at(one.pid());
        return now && now->state == 'T';
    }));
    auto const child = one.child();
    connection fresh{one.address()};
    BOOST_TEST(fresh.ask().value().pid == child);
    ::kill(child, SIGTERM);
    one.signal(SIGTERM);
    one.wait_for("draining");
    one.signal(SIGCONT);
    one.wait_for("draining", 2);
    auto const answer = fresh.ask(); // it is not cut
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST(answer->last);
    BOOST_TEST(old.ask().value().last);
    BOOST_TEST(gone(child));
    check_over(one);
    BOOST_TEST(one.steps("upgraded").empty());
    BOOST_TEST(one.steps("drained").size() == 2U);
    for (auto const& each : one.steps("drained"))
        BOOST_TEST(each.text == "drained, 0 connections left");
    BOOST_TEST(one.steps("drained").back().pid == one.pid()); // the main process ends last
}

RESTART_TEST(stop_while_draining_ends_the_drain)
{
    service one{built};
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    auto asker = one.at_control("stop");
    one.wait_for("draining");
    BOOST_TEST(!has_answer(asker));
    one.signal(SIGTERM);
    BOOST_TEST(one.wait_for("drained").text == "drained, 1 connections left");
    BOOST_TEST(asker.receive().value_or("") == "ok exit=stopped connections=1");
    check_over(one);
}

// The stop signal that comes first counts as the service's. A manager sends one more to all that is left when the main
// process has ended: those cut no drain. Where there is no manager a person sends it, and means it.
RESTART_TEST(stop_while_draining_after_an_upgrade_leaves_the_child)
{
    service one{built};
    auto const before = one.look();
    std::vector<connection> kept;
    for (int i = 0; i != 4; ++i) {
        kept.emplace_back(one.address());
        BOOST_TEST(kept.back().ask().value().pid == before.pid);
    }
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.wait_for("draining");
    ::kill(before.pid, SIGTERM);
    BOOST_TEST(kept[0].ask().value().last);
    if (built.has_manager()) {
        for (int i = 1; i != 4; ++i) {
            ::kill(before.pid, SIGTERM);
            BOOST_TEST(kept[static_cast<std::size_t>(i)].ask().value().last);
        }
        BOOST_TEST(one.wait_for("drained").text == "drained, 0 connections left");
    } else {
        ::kill(before.pid, SIGUSR1); // another, for two of one kind that come at once may be one
        auto const text = one.wait_for("drained").text; // the one that was answered may not be closed yet
        BOOST_TEST((text == "drained, 3 connections left" || text == "drained, 4 connections left"), text);
    }
    one.check_succeeded(before);
    BOOST_TEST(one.steps("stopping").empty());
    one.stop();
}

RESTART_TEST(upgrade_while_one_runs_is_busy)
{
    service one{built, {.probed = refuses_none}}; // a child that is killed may have accepted
    auto const before = one.settled();
    for (auto const* point : {"begin", "claimed", "accepting"}) {
        interrupted upgrade{one, point};
        BOOST_TEST(one.ask_control() == "busy");
        BOOST_TEST(one.ask_control() == "busy");
        ::kill(upgrade.child, SIGKILL);
        auto const line = upgrade.line();
        BOOST_TEST(line.ends_with(" reason=\"killed by signal 9 (Killed)\""), line);
        one.check_unharmed(before);
    }
    BOOST_TEST(one.steps("refused").size() == 6U);
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before);
    one.stop();
}

// One thread runs the whole host: were it to wait anywhere, nobody would get an answer. All that could end the wait is
// put off for longer than a client is patient.
RESTART_TEST(nothing_blocks_the_host_while_an_upgrade_runs)
{
    std::string const long_time = "600000";
    service one{built,
                {.arguments = {"--threads", "1", "--ready-timeout", long_time, "--serving-timeout", long_time,
                               "--barrier-timeout", long_time, "--handoff-timeout", long_time}}};
    auto const before = one.settled();
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    auto const goes_on = [&](unsigned generation) {
        for (int i = 0; i != 5; ++i) {
            BOOST_TEST(one.ask().generation == generation);
            auto const answer = kept.ask();
            BOOST_TEST_REQUIRE(answer.has_value());
            BOOST_TEST(answer->generation == generation);
            BOOST_TEST(!answer->last);
        }
        BOOST_TEST(one.ask_control() == "busy");
    };
    std::size_t failed = 0;
    for (auto const* point : {"begin", "claimed", "may-accept"}) {
        BOOST_TEST_CONTEXT("the child stands still at " << point)
        {
            interrupted upgrade{one, point};
            goes_on(0);
            BOOST_TEST(one.steps("upgrade_failed").size() == failed++); // it runs still
            BOOST_TEST(look_at(upgrade.child).value().state == 'T');
            BOOST_TEST(!has_answer(upgrade.asker));
            ::kill(upgrade.child, SIGKILL);
            auto const line = upgrade.line();
            BOOST_TEST(line.ends_with(" reason=\"killed by signal 9 (Killed)\""), line);
        }
    }
    connection asker = [&] {
        if (built.has_manager())
            one.manager().hold_barriers(true);
        return one.at_control();
    }();
    if (built.has_manager()) { // that of the question whether it hears us
        BOOST_REQUIRE(wait_until([&] { return one.manager().holds_one(); }));
        goes_on(0);
        BOOST_TEST(one.manager().holds_one());
        BOOST_TEST(one.steps("child_ready").size() == 2U); // of the one that may accept, and this one
        BOOST_TEST(one.steps("committed").size() == 1U);
        BOOST_TEST(!has_answer(asker));
        one.manager().hold_barriers(false);
    }
    BOOST_TEST(one.heard(asker.receive().value_or("no answer")).starts_with("ok generation=1 "));
    BOOST_TEST(kept.ask().value().last);
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST(upgrade_while_draining_is_refused)
{
    service one{built, {.probed = answers_all}};
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    auto const first = one.pid();
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    auto const last = kept.ask("upgrade"); // of one that drains
    BOOST_TEST(last.value().pid == first);
    BOOST_TEST(last.value().last);
    BOOST_TEST(one.wait_for("told").text == "failed reason=\"not serving\"");
    BOOST_TEST(one.wait_for("refused").pid == first);
    service::check_ended_well(first);

    connection other{one.address()};
    BOOST_TEST(other.ask().has_value());
    one.end_prober();
    auto stopper = one.at_control("stop");
    one.wait_for("stopping");
    BOOST_TEST(one.ask_control() == "failed reason=\"not serving\"");
    BOOST_TEST(other.ask().value().last);
    BOOST_TEST(stopper.receive().value_or("") == "ok exit=stopped connections=0");
    check_over(one);
}

// ---- control sockets

RESTART_TEST(control_sockets_by_path)
{
    service one{built, {.probed = answers_all}};
    auto const inode = [&](char const* name) {
        struct ::stat found{};
        BOOST_TEST(::stat(one.path(name).c_str(), &found) == 0);
        BOOST_TEST((found.st_mode & 0777) == 0600U);
        return found.st_ino;
    };
    auto const names = {"control", "stop", "partial"};
    std::vector<::ino_t> before, after;
    for (auto const* name : names)
        before.push_back(inode(name));
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 pid="));
    auto const line = one.upgrade();
    BOOST_TEST(line.starts_with("ok generation=2 pid=" + std::to_string(one.pid()) + " took_ms="), line);
    for (auto const* name : names)
        after.push_back(inode(name));
    BOOST_TEST(before == after, boost::test_tools::per_element());

    one.end_prober();
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    auto stopper = one.at_control("stop");
    one.wait_for("draining", 3);
    BOOST_TEST(!has_answer(stopper)); // but when the drain is over
    BOOST_TEST(kept.ask().value().last);
    BOOST_TEST(stopper.receive().value_or("") == "ok exit=stopped connections=0");
    check_over(one);
    BOOST_TEST(one.steps("leaving").back().text == "stopped by control socket, pid " + std::to_string(::getpid()));
}

namespace {

/// Control sockets that have no path, for any user to reach.
struct abstract_control
{
    std::string prefix;

    explicit abstract_control(restart::assembly const& built)
        : prefix{"@ecdysis-test-" + std::to_string(::getpid()) + "-" + built.name() + "-"}
    {}
    [[nodiscard]] wish how() const
    {
        return {.arguments = {"--control", prefix + "upgrade", "--control-stop", prefix + "stop", "--control-partial",
                              prefix + "partial"}};
    }
    [[nodiscard]] std::string ask(std::string const& what) const
    {
        return connection{ecdysis::address{prefix + what}}.receive().value_or("no answer");
    }
};

} // namespace

RESTART_TEST(control_sockets_without_a_path)
{
    abstract_control const control{built};
    service one{built, control.how()};
    auto const before = one.look();
    auto const line = one.heard(control.ask("upgrade"));
    BOOST_TEST(line.starts_with("ok generation=1 pid="), line);
    one.check_succeeded(before);
    BOOST_TEST(control.ask("stop") == "ok exit=stopped connections=0");
    check_over(one);
    BOOST_TEST((connection{ecdysis::address{control.prefix + "stop"}}.state() == result::refused));

    service another{built, control.how()};
    auto const told = control.ask("partial"); // whose answer comes at once, not when the drain is over
    BOOST_TEST(told.starts_with("ok exit=partially-stopped connections="), told);
    check_over(another);
}

RESTART_TEST_AS_ROOT(control_sockets_without_a_path_refuse_others)
{
    abstract_control const control{built};
    service one{built, control.how()};
    auto const before = one.look();
    for (auto const* what : {"upgrade", "stop", "partial"})
        BOOST_TEST(as_user(65534, [&] { return control.ask(what); }) ==
                   "failed reason=\"uid 65534 may not ask; only root and uid " + own_user() + " may\"");
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST_AS_ROOT(control_sockets_by_path_are_closed_to_others)
{
    service one{built};
    auto const before = one.look();
    for (auto const* name : {"control", "stop", "partial"}) {
        auto const state = as_user(65534, [&] { return connection{ecdysis::address{one.path(name)}}.state(); });
        BOOST_TEST((state == result::refused), name);
    }
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST_AS_ROOT(the_service_s_own_user_and_root_may_ask)
{
    abstract_control const control{built};
    auto how = control.how();
    how.arguments.insert(how.arguments.end(), {"--pid-file", ""});
    how.behave = "constructed user 65534";
    service one{built, how};
    one.run_next_for_anybody();
    std::filesystem::permissions(one.path("log"), std::filesystem::perms::all);
    one.behave("claimed fail of test");
    auto const refused = as_user(65533, [&] { return control.ask("upgrade"); });
    BOOST_TEST(refused == "failed reason=\"uid 65533 may not ask; only root and uid 65534 may\"");
    auto const line = as_user(65534, [&] { return control.ask("upgrade"); });
    BOOST_TEST(line == "failed phase=starting reason=\"exit status 3: of test\"");
    BOOST_TEST(control.ask("upgrade") == line);
    one.behave("");
    auto const first = one.pid();
    BOOST_TEST(one.heard(as_user(65534, [&] { return control.ask("upgrade"); })).starts_with("ok generation=1 "));
    service::check_ended_well(first);
    BOOST_TEST(one.ask().pid == one.pid());
    if (built.has_manager()) {
        BOOST_TEST(one.manager().heard("READY=1", first));
        BOOST_TEST(one.manager().heard("MAINPID=" + std::to_string(one.pid()), first));
    }
    for (auto const& each : one.steps("warning")) // by the children that failed
        BOOST_TEST(each.text.starts_with("of test: the new generation failed"), each.text);
    one.stop();
}

// ---- exits and drains

RESTART_TEST(partial_stop)
{
    service one{built};
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    BOOST_TEST(one.ask_control("partial") == "ok exit=partially-stopped connections=1"); // at once
    BOOST_TEST(refuses(one.address()));
    BOOST_TEST(one.ask_control() == "failed reason=\"not serving\"");
    BOOST_TEST(kept.ask().value().last);
    check_over(one);
    auto const why = one.wait_for("leaving").text;
    BOOST_TEST(why.starts_with("partially stopped by control socket, pid "), why);
    if (built.has_manager()) {
        auto const heard = one.manager().messages();
        BOOST_TEST(heard.size() == 2U);
        BOOST_TEST(heard.back().says("READY=1"));
    }
}

// The library tells the manager nothing of it: the host does, with the upgrader's own notifier.
RESTART_TEST(a_host_that_tells_the_manager_of_its_partial_stop)
{
    service one{built, {.behave = "leaving tell-manager"}};
    BOOST_TEST(one.upgrade().starts_with("ok "));
    service::check_ended_well(one.first());
    auto const stopping = [&] {
        return std::ranges::count_if(one.manager().messages(), [](auto const& each) { return each.says("STOPPING=1"); });
    };
    if (built.has_manager())
        BOOST_TEST(stopping() == 0);
    BOOST_TEST(one.ask_control("partial") == "ok exit=partially-stopped connections=0");
    check_over(one);
    BOOST_TEST(one.steps("error").empty());
    if (built.has_manager()) {
        BOOST_TEST(wait_until([&] { return one.manager().heard("STOPPING=1", one.pid()); }));
        BOOST_TEST(one.manager().messages().back().text == "STOPPING=1\nSTATUS=the host stops");
        BOOST_TEST(stopping() == 1);
    }
}

RESTART_TEST(a_listener_that_stays_accepts_while_draining)
{
    for (auto const* how : {"stop", "partial"}) {
        service one{built, {.listens = {"127.0.0.1:0", "stay:127.0.0.1:0"}}};
        connection kept{one.address()};
        BOOST_TEST(kept.ask().has_value());
        auto asker = one.at_control(how);
        one.wait_for("draining");
        BOOST_TEST(refuses(one.address(0)));
        BOOST_TEST(connection{one.address(1)}.ask().has_value());
        BOOST_TEST(connection{one.address(1)}.ask().has_value());
        BOOST_TEST(kept.ask().value().last);
        check_over(one);
        BOOST_TEST(refuses(one.address(1)));
    }
    // An upgrade ends all of them: the child has them.
    service one{built, {.listens = {"127.0.0.1:0", "stay:127.0.0.1:0"}, .probed = answers_all}};
    connection kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    BOOST_TEST(one.upgrade().starts_with("ok "));
    for (int i = 0; i != 20; ++i)
        BOOST_TEST(one.ask("who", 1).generation == 1U);
    BOOST_TEST(kept.ask().value().last);
    one.stop();
}

RESTART_TEST(a_drain_waits_for_a_request_to_be_finished)
{
    service one{built};
    auto const first = one.pid();
    connection busy{one.address()}, kept{one.address()};
    BOOST_TEST(kept.ask().has_value());
    BOOST_TEST(busy.ask().has_value());
    BOOST_TEST(::send(busy.native_handle(), "wh", 2, MSG_NOSIGNAL) == 2);
    BOOST_TEST(one.upgrade().starts_with("ok "));
    BOOST_TEST(one.wait_for("draining").text == "draining 2 connections");
    auto const last = kept.ask();
    BOOST_REQUIRE(last.has_value());
    BOOST_TEST(last->last);
    BOOST_TEST(last->pid == first);
    BOOST_TEST(!kept.receive().has_value());
    BOOST_TEST(!family::instance().ended(first).has_value());
    auto const finished = busy.ask("o");
    BOOST_REQUIRE(finished.has_value());
    BOOST_TEST(finished->last);
    BOOST_TEST(finished->pid == first);
    service::check_ended_well(first);
    BOOST_TEST(one.wait_for("drained").text == "drained, 0 connections left");
    one.stop();
}

RESTART_TEST(a_drain_ends_at_its_deadline)
{
    service one{built, {.arguments = {"--drain", "100"}}};
    auto const first = one.pid();
    connection kept{one.address()}, other{one.address()};
    BOOST_TEST(kept.ask().has_value());
    BOOST_TEST(other.ask().has_value());
    BOOST_TEST(one.upgrade().starts_with("ok "));
    BOOST_TEST(one.wait_for("drained").text == "drained, 2 connections left");
    service::check_ended_well(first);
    connection last{one.address()};
    BOOST_TEST(last.ask().has_value());
    BOOST_TEST(one.ask_control("stop") == "ok exit=stopped connections=1");
    check_over(one);
}

RESTART_TEST(a_drain_closes_idle_connections)
{
    service one{built, {.arguments = {"--idle-grace", "50"}}};
    auto const first = one.pid();
    connection idle{one.address()};
    BOOST_TEST(idle.ask().has_value());
    BOOST_TEST(one.upgrade().starts_with("ok "));
    BOOST_TEST(!idle.receive().has_value()); // closed, not left to the deadline
    BOOST_TEST((idle.state() == result::cut));
    service::check_ended_well(first);
    BOOST_TEST(one.wait_for("closing_idle").text == "closing idle ones of 1 connections");
    BOOST_TEST(one.wait_for("drained").text == "drained, 0 connections left");
    one.stop();
}

RESTART_TEST(waiting_for_datagrams_ends)
{
    service one{built, {.listens = {"127.0.0.1:0", "udp:127.0.0.1:0"}, .arguments = {"--acceptors", "3"}, .probed = answers_all}};
    auto const before = one.settled();
    connection client{one.address(1), SOCK_DGRAM};
    BOOST_TEST(client.ask().value().generation == 0U);
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before); // it has ended
    BOOST_TEST(client.ask().value().generation == 1U);
    one.stop();
}

// ---- the pid file

RESTART_TEST(pid_file)
{
    service one{built, {.probed = refuses_none}}; // a child that is killed may have accepted
    auto before = one.settled();
    auto const names = [&](::pid_t pid) { return one.read("pid") == std::to_string(pid) + "\n"; };
    BOOST_TEST(names(one.pid()));
    for (int i = 0; i != 3; ++i) {
        BOOST_TEST(one.upgrade().starts_with("ok "));
        BOOST_TEST(names(one.pid()));
    }
    // What fails does not touch it.
    before.generation = one.generation();
    before.pid = one.pid();
    struct ::stat first{}, second{};
    ::stat(one.path("pid").c_str(), &first);
    one.behave("claimed exit 3");
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"exit status 3\"");
    ::stat(one.path("pid").c_str(), &second);
    BOOST_TEST(first.st_ino == second.st_ino);
    {
        interrupted upgrade{one, "accepting"};
        BOOST_TEST(names(one.pid())); // it is the child's when the service is
        ::stat(one.path("pid").c_str(), &second);
        BOOST_TEST(first.st_ino == second.st_ino);
        ::kill(upgrade.child, SIGKILL);
        BOOST_TEST(upgrade.line() == "failed phase=serving reason=\"killed by signal 9 (Killed)\"");
    }
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST(pid_file_of_somebody_else_stays)
{
    service one{built};
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.write("pid", "1\n");
    one.signal(SIGTERM);
    service::check_ended_well(one.pid());
    BOOST_TEST(one.read("pid") == "1\n");
}

// ---- heirs: where nobody supervises, a child that has all goes on without its parent

RESTART_TEST(parent_killed_at_each_step)
{
    enum class then { nothing, heir, child };
    for (auto const& [step, unsupervised, supervised] : {
             std::tuple{"upgrade_requested", then::nothing, then::nothing},
             std::tuple{"launched", then::nothing, then::nothing},
             std::tuple{"handed_over", then::heir, then::nothing},
             std::tuple{"child_ready", then::heir, then::nothing},
             std::tuple{"committed", then::heir, then::heir},
             std::tuple{"child_serves", then::heir, then::heir},
             std::tuple{"upgraded", then::child, then::child},
         }) {
        BOOST_TEST_CONTEXT("killed when it told of " << step)
        {
            auto const expected = built.has_manager() ? supervised : unsupervised;
            service one{built, {.behave = std::string{step} + " kill",
                                .probed = expected == then::nothing ? probing{} : refuses_none}};
            one.behave("");
            auto before = one.settled();
            auto asker = one.at_control();
            BOOST_TEST(gone(before.pid));
            if (expected == then::nothing) {
                BOOST_TEST(wait_until([] { return family::instance().living().empty(); }));
                BOOST_TEST(one.steps("heir").empty());
                BOOST_TEST(one.steps("serving").size() == 1U);
                BOOST_TEST(std::filesystem::is_empty(one.temporary()));
                continue;
            }
            auto const answer = connection{one.address()}.ask(); // no connection is refused meanwhile
            BOOST_REQUIRE(answer.has_value());
            BOOST_TEST(answer->generation == 1U);
            one.expect_generation(1);
            before.pid = one.pid();
            BOOST_TEST(wait_until([&] { return one.read("pid") == std::to_string(one.pid()) + "\n"; }));
            BOOST_TEST(one.steps("heir").size() == (expected == then::heir ? 1U : 0U));
            BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
            one.check_succeeded(before);
            one.stop();
        }
    }
}

RESTART_TEST(parent_killed_while_the_child_starts)
{
    service one{built};
    interrupted upgrade{one, "claimed"};
    one.signal(SIGKILL);
    BOOST_TEST(gone(one.pid()));
    connection waiting{one.address()}; // in the queue, which the child holds
    BOOST_TEST((waiting.state() == result::answered));
    upgrade.go_on();
    if (built.has_manager()) {
        BOOST_TEST(gone(upgrade.child));
        BOOST_TEST(family::instance().ended(upgrade.child).value_or(0) != 0);
        auto const why = one.wait_for("error").text;
        BOOST_TEST(why.find("the parent ended before this generation could take over") != why.npos, why);
        return;
    }
    auto const answer = waiting.ask("quit");
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST(answer->pid == upgrade.child);
    one.expect_generation(1);
    one.stop();
}

RESTART_TEST(parent_killed_while_the_manager_is_told)
{
    if (!built.has_manager())
        return;
    { // whether it hears us
        service one{built};
        one.manager().hold_barriers(true);
        auto asker = one.at_control();
        BOOST_REQUIRE(wait_until([&] { return one.manager().holds_one(); }));
        auto const child = one.child();
        one.signal(SIGKILL);
        BOOST_TEST(gone(child));
        BOOST_TEST(one.steps("serving").size() == 1U);
    }
    // Of the new main process: that goes on.
    service one{built, {.probed = refuses_none}};
    interrupted upgrade{one, "may-accept"};
    one.wait_for("committed");
    one.manager().hold_barriers(true);
    upgrade.go_on();
    BOOST_REQUIRE(wait_until([&] { return one.manager().heard("MAINPID=" + std::to_string(upgrade.child)); }));
    one.signal(SIGKILL);
    BOOST_TEST(gone(one.pid()));
    one.expect_generation(1);
    BOOST_TEST(wait_until([&] { return one.read("pid") == std::to_string(upgrade.child) + "\n"; }));
    one.manager().hold_barriers(false);
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.stop();
}

// ---- what a service manager hears

RESTART_TEST(a_manager_hears_everything_in_order)
{
    if (!built.has_manager())
        return;
    auto const now = [] {
        ::timespec time{};
        ::clock_gettime(CLOCK_MONOTONIC, &time);
        return static_cast<long long>(time.tv_sec) * 1'000'000 + time.tv_nsec / 1000;
    };
    auto const start = now();
    service one{built};
    auto const parent = one.pid();
    one.behave("claimed fail config: no such upstream");
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"exit status 3: config: no such upstream\"");
    one.behave("");
    one.manager().hold_barriers(true);
    auto asker = one.at_control();
    BOOST_REQUIRE(wait_until([&] { return one.manager().holds_one(); }));
    BOOST_TEST(one.steps("committed").empty());
    BOOST_TEST(one.ask().generation == 0U);
    one.manager().hold_barriers(false);
    BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
    service::check_ended_well(parent);
    auto const child = one.pid();
    one.stop();

    std::vector<std::string> heard;
    std::vector<::pid_t> senders;
    for (auto const& each : one.manager().messages()) {
        auto text = each.text;
        if (auto const at = text.find("MONOTONIC_USEC="); at != text.npos) {
            auto const value = std::stoll(text.substr(at + 15));
            BOOST_TEST(value >= start);
            BOOST_TEST(value <= now());
            text.replace(at + 15, std::to_string(value).size(), "TIME");
        }
        heard.push_back(text);
        senders.push_back(each.sender);
    }
    std::vector<std::string> const expected{
        "EXTEND_TIMEOUT_USEC=60000000",
        "READY=1\nSTATUS=generation 0 serving",
        "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=upgrading",
        "READY=1\nSTATUS=upgrade failed: exit status 3: config: no such upstream",
        "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=upgrading",
        "STATUS=the new generation is ready",
        "BARRIER=1",
        "MAINPID=" + std::to_string(child) + "\nREADY=1\nSTATUS=generation 1 serving",
        "BARRIER=1",
        "STOPPING=1\nSTATUS=stopping",
    };
    BOOST_TEST(heard == expected, boost::test_tools::per_element());
    std::vector<::pid_t> const from{parent, parent, parent, parent, parent, parent, parent, parent, parent, child};
    BOOST_TEST(senders == from, boost::test_tools::per_element());
}

RESTART_TEST(a_manager_that_does_not_confirm)
{
    if (!built.has_manager())
        return;
    service one{built, {.arguments = {"--barrier-timeout", "100"}}};
    auto const before = one.settled();
    one.manager().hold_barriers(true);
    prober load{one.address()};
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(one.wait_for("warning").text == "the service manager did not confirm within 100 ms; going on");
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    // Nothing holds the drain but the barrier: a main process that the manager does not know yet must not be alone.
    one.wait_for("draining");
    BOOST_TEST(one.ask().generation == 1U);
    BOOST_TEST(one.steps("drained").empty());
    BOOST_TEST(!family::instance().ended(before.pid).has_value());
    one.manager().hold_barriers(false);
    one.check_succeeded(before);
    one.stop();
}

// One that knows nothing of the child would take the service for dead at the parent's end.
RESTART_TEST(a_manager_that_cannot_be_told)
{
    if (!built.has_manager())
        return;
    service one{built};
    auto const before = one.look();
    std::filesystem::rename(one.path("notify"), one.path("notify.away"));
    auto const line = one.upgrade();
    BOOST_TEST(line == "failed phase=committing reason=\"tell the service manager: No such file or directory\"", line);
    BOOST_TEST(one.steps("committed").empty());
    one.check_unharmed(before);
    std::filesystem::rename(one.path("notify.away"), one.path("notify"));
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_OF_OTHER_PROGRAMS(a_child_without_a_manager)
{
    if (!built.has_manager())
        return;
    service one{built};
    auto const before = one.look();
    one.run_next_script("unset NOTIFY_SOCKET\nexec \"$HOST\" \"$@\"");
    auto const line = one.upgrade();
    BOOST_TEST(line == "failed phase=starting reason=\"exit status 1: tell the service manager: NOTIFY_SOCKET is not "
                       "set; run under systemd with Type=notify, or let it be optional [ecdysis:27]\"", line);
    BOOST_TEST(one.steps("child_ready").empty());
    one.check_unharmed(before);
    one.run_next_script("unset NOTIFY_SOCKET\nexec \"$HOST\" --manager-optional \"$@\"");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.stop();
}
