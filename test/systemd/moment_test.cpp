// SPDX-License-Identifier: BSL-1.0
// The moments of an upgrade at which a real systemd knows less than the generations do, or they less than it.
#define BOOST_TEST_MODULE systemd_moment
#include "harness.hpp"

using namespace restart;

namespace {

unit_wish restarting(std::string behave = {})
{
    return {.settings = {"Restart=on-failure", "RestartSec=0"}, .behave = std::move(behave)};
}

/// An upgrade by the control socket, asked for by us and not by systemd; gives the line.
std::string upgrade(unit const& one)
{
    connection asker{ecdysis::address{one.path("control")}};
    return asker.receive().value_or("no answer");
}

/// The same meanwhile; or a reload, where that is a signal. A stop ends what ExecReload= runs too, and then shows the unit
/// as failed: not the service's doing.
std::future<outcome> begin_upgrade(unit const& one)
{
    if (one.reloads_by(reload_by::signal))
        return one.begin("reload");
    return std::async(std::launch::async, [&one] {
        auto const line = upgrade(one);
        return outcome{line.starts_with("ok ") ? 0 : 1, line};
    });
}

std::future<outcome> begin_stop(unit const& one)
{
    auto stop = one.begin("stop");
    BOOST_TEST(wait_until([&] {
        auto const state = one.show("ActiveState");
        return state == "deactivating" || state == "inactive" || state == "failed";
    }));
    return stop;
}

/// A request on a connection that was there before: it is answered, and then there is no more.
void check_drains(connection& open)
{
    auto const answer = open.ask();
    BOOST_REQUIRE_MESSAGE(answer.has_value(), "an open connection was cut, result " << static_cast<int>(open.state()));
    BOOST_TEST(answer->last);
}

/// Who answers is who systemd takes for the main process, and nothing else is there.
void check_settles(unit const& one)
{
    auto const settled = [&] {
        auto const shown = one.show();
        auto const answer = connection{one.address()}.ask();
        return answer && shown.at("ActiveState") == "active" && shown.at("MainPID") == std::to_string(answer->pid) &&
               one.processes() == std::vector{answer->pid};
    };
    BOOST_TEST(wait_until(settled, std::chrono::seconds{15}),
               one.show("ActiveState") << ", MainPID " << one.show("MainPID") << ", processes " << one.processes().size());
}

} // namespace

// ---- systemctl stop at each step

namespace {

// Until the child has its commit, the parent is the main process, or is told at once that the one that is has ended.
void stop_before_commit(std::string const& point, std::string const& mode, assembly const& built, reload_by how)
{
    BOOST_TEST_CONTEXT(point << ", KillMode=" << mode)
    {
        unit one{built, how, {.settings = {"KillMode=" + mode}}};
        one.start();
        connection open{one.address()};
        BOOST_TEST(open.ask().has_value());
        one.hold_at(point);
        auto reload = begin_upgrade(one);
        one.awaits_go();
        auto stop = begin_stop(one);
        one.wait_for("draining");
        one.go();
        check_drains(open);
        auto const stopped = stop.get();
        BOOST_TEST(stopped.ok(), stopped.output);
        one.check_stopped_well();
        BOOST_TEST(!reload.get().ok());
        BOOST_TEST(one.steps("serving").size() == 1U);
    }
}

} // namespace

SYSTEMD_TEST_OF_HALF(stop_before_commit_of_the_control_group)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        stop_before_commit(point, "control-group", built, how);
}

SYSTEMD_TEST_OF_HALF(stop_before_commit_of_the_main_process)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        stop_before_commit(point, "mixed", built, how);
}

namespace {

/// From commit on the child is the main process, and both may have connections.
void stop_after_commit(std::string const& point, std::string const& mode, assembly const& built, reload_by how)
{
    BOOST_TEST_CONTEXT(point << ", KillMode=" << mode)
    {
        unit one{built, how, {.settings = {"KillMode=" + mode}}};
        one.start();
        one.hold_at(point);
        auto reload = begin_upgrade(one);
        one.awaits_go();
        one.wait_for("committed");
        BOOST_TEST(one.main_pid() == one.launched());
        auto stop = begin_stop(one);
        one.go();
        auto const stopped = stop.get();
        BOOST_TEST(stopped.ok(), stopped.output);
        BOOST_TEST(one.processes().empty());
        BOOST_TEST(one.show("Result") == "success");
        BOOST_TEST(one.show("ActiveState") == "inactive");
        if (mode == "control-group")
            one.check_stopped_well();
        static_cast<void>(reload.get());
    }
}

} // namespace

SYSTEMD_TEST_OF_HALF(stop_after_commit_of_the_control_group)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting"})
        stop_after_commit(point, "control-group", built, how);
}

SYSTEMD_TEST_OF_HALF(stop_after_commit_of_the_main_process)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting"})
        stop_after_commit(point, "mixed", built, how);
}

// It has handlers for its signals by then, and does not run. systemd sends SIGCONT as well.
SYSTEMD_TEST(stop_while_the_child_is_suspended)
{
    unit one{built, how};
    one.start();
    one.behave("claimed stop");
    auto reload = begin_upgrade(one);
    one.wait_for("launched");
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
    BOOST_TEST(!reload.get().ok());
    BOOST_TEST(one.steps("serving").size() == 1U);
}

// ---- stops, and what is open then

SYSTEMD_TEST_OF_HALF(stop_after_an_upgrade)
{
    for (std::string const mode : {"control-group", "mixed"})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, {.settings = {"KillMode=" + mode}}};
            one.start();
            BOOST_TEST(one.systemctl("reload").ok());
            one.wait_for("serving", 2);
            one.check_serves(1, "generation 1 serving");
            connection open{one.address()}, other{one.address()};
            BOOST_TEST(open.ask().has_value());
            BOOST_TEST(other.ask().has_value());
            auto stop = begin_stop(one);
            one.wait_for("draining", 2);
            check_drains(open);
            BOOST_TEST(one.show("ActiveState") == "deactivating");
            check_drains(other);
            BOOST_TEST(stop.get().ok());
            one.check_stopped_well();
            BOOST_TEST(one.steps("drained").back().generation == 1U);
            BOOST_TEST(one.steps("drained").back().text.find('0') != std::string::npos, one.steps("drained").back().text);
        }
}

namespace {

/// Generation 1 serves and generation 0 has an open connection still.
struct two_generations
{
    unit one;
    std::optional<connection> old{}, now{};

    two_generations(assembly const& built, reload_by how, std::string const& mode)
        : one{built, how, {.settings = {"KillMode=" + mode}}}
    {
        one.start();
        old.emplace(one.address());
        BOOST_TEST(old->ask()->generation == 0U);
        BOOST_TEST(one.systemctl("reload").ok());
        one.wait_for("draining");
        now.emplace(one.address());
        BOOST_TEST(now->ask()->generation == 1U);
        BOOST_TEST(one.processes().size() == 2U);
    }
};

} // namespace

// The old one hears the stop as well, and that ends its drain; the new one drains.
SYSTEMD_TEST(stop_of_the_control_group_while_the_parent_drains)
{
    two_generations both{built, how, "control-group"};
    auto stop = begin_stop(both.one);
    both.one.wait_for("draining", 2);
    both.one.wait_for("drained");
    BOOST_TEST(both.one.steps("drained").back().generation == 0U);
    BOOST_TEST(!both.old->ask().has_value());
    check_drains(*both.now);
    BOOST_TEST(stop.get().ok());
    both.one.check_stopped_well();
}

// The old one is left alone as long as the new one drains.
SYSTEMD_TEST(stop_of_the_main_process_while_the_parent_drains)
{
    two_generations both{built, how, "mixed"};
    auto stop = begin_stop(both.one);
    both.one.wait_for("draining", 2);
    check_drains(*both.old);
    both.one.wait_for("drained");
    BOOST_TEST(both.one.steps("drained").back().generation == 0U);
    BOOST_TEST(both.one.show("ActiveState") == "deactivating");
    check_drains(*both.now);
    BOOST_TEST(stop.get().ok());
    both.one.check_stopped_well();
}

// And killed when the new one has ended.
SYSTEMD_TEST(stop_of_the_main_process_that_ends_before_the_parent)
{
    two_generations both{built, how, "mixed"};
    auto stop = begin_stop(both.one);
    both.one.wait_for("draining", 2);
    check_drains(*both.now);
    BOOST_TEST(stop.get().ok());
    BOOST_TEST(!both.old->ask().has_value());
    BOOST_TEST(both.one.processes().empty());
    BOOST_TEST(both.one.show("Result") == "success");
    BOOST_TEST(!both.one.said("SIGKILL").empty());
}

// systemd sends one signal, however often it is asked.
SYSTEMD_TEST_OF_HALF(stop_while_a_stop_drains)
{
    for (std::string const mode : {"control-group", "mixed"})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, {.settings = {"KillMode=" + mode}}};
            one.start();
            connection open{one.address()};
            BOOST_TEST(open.ask().has_value());
            auto first = begin_stop(one);
            one.wait_for("draining");
            auto second = one.begin("stop");
            BOOST_TEST(wait_until([&] { return one.show("StatusText").starts_with("draining: 1 connection, "); }));
            check_drains(open);
            BOOST_TEST(first.get().ok());
            BOOST_TEST(second.get().ok());
            one.check_stopped_well();
        }
}

SYSTEMD_TEST(second_signal_ends_the_drain)
{
    unit one{built, how};
    one.start();
    connection open{one.address()};
    BOOST_TEST(open.ask().has_value());
    auto stop = begin_stop(one);
    one.wait_for("draining");
    BOOST_TEST(one.systemctl("kill", "--signal=TERM").ok());
    BOOST_TEST(stop.get().ok());
    BOOST_TEST(!open.ask().has_value());
    one.check_stopped_well();
}

// ---- the child killed from MAINPID to serving

// Whoever serves in the end, somebody does, and systemd knows who.
SYSTEMD_TEST_OF_HALF(child_killed_between_commit_and_serving)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting", "serving"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting()};
            one.start();
            one.check_serves(0, "generation 0 serving");
            one.hold_at(point);
            auto reload = one.begin("reload");
            one.awaits_go();
            one.wait_for("committed");
            auto const child = one.launched();
            BOOST_TEST(one.main_pid() == child);
            one.behave("");
            ::kill(child, SIGKILL);
            static_cast<void>(reload.get());
            one.wait_for("serving", point == std::string{"serving"} ? 3 : 2);
            check_settles(one);
            BOOST_TEST(one.show("NRestarts") == "1");
        }
}

namespace {

/// An upgrade by the control socket while the manager stands still; `during` is called when it has been told of the child.
template <class F>
std::string upgrade_past_the_manager(unit const& one, F during)
{
    auto const systemd = look_at(one.main_pid())->parent;
    ::kill(systemd, SIGSTOP);
    auto asked = std::async(std::launch::async, [&one] { return upgrade(one); });
    auto const announced = wait_until([&] { return !one.steps("child_ready").empty(); });
    if (announced)
        during();
    ::kill(systemd, SIGCONT);
    BOOST_TEST(announced);
    return asked.get();
}

} // namespace

// A manager takes no dead process for the main one: it is the parent still.
SYSTEMD_TEST(child_killed_during_the_barrier)
{
    unit one{built, how, restarting()};
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    auto const answer = upgrade_past_the_manager(one, [&] {
        ::kill(one.launched(), SIGKILL);
        BOOST_TEST(wait_until([&] { return !one.steps("upgrade_failed").empty(); }));
    });
    BOOST_TEST(answer.starts_with("failed phase=announcing "), answer);
    check_settles(one);
    auto const status = one.show("StatusText");
    BOOST_TEST(status.starts_with("upgrade failed: "), status);
    BOOST_TEST(one.check_serves(0, status) == parent);
    BOOST_TEST(one.show("NRestarts") == "0");
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 2);
    one.check_serves(1, "generation 1 serving");
}

// ---- the parent killed

// The child ends with it, whatever it could have done as heir, and systemd starts the service anew.
SYSTEMD_TEST_OF_HALF(parent_killed_while_the_child_starts)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, restarting()};
            one.start();
            auto const parent = one.check_serves(0, "generation 0 serving");
            one.hold_at(point);
            auto reload = one.begin("reload");
            one.awaits_go();
            one.behave("");
            ::kill(parent, SIGKILL);
            BOOST_TEST(wait_until([&] { return one.main_pid() != parent; }));
            one.go();
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

// The child is the main process, but has no commit and must not go on without.
SYSTEMD_TEST(parent_killed_during_the_barrier)
{
    unit one{built, how, restarting()};
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    auto const answer = upgrade_past_the_manager(one, [&] { ::kill(parent, SIGKILL); });
    BOOST_TEST(answer == "no answer");
    auto const again = one.wait_for("serving", 2);
    BOOST_TEST(again.generation == 0U);
    check_settles(one);
    BOOST_TEST(one.show("NRestarts") == "1");
}

// With its commit it goes on: nothing of the service's has failed for the manager.
SYSTEMD_TEST(parent_killed_after_commit)
{
    unit one{built, how, restarting("committed kill")};
    one.start();
    one.behave("");
    auto const reload = one.systemctl("reload");
    BOOST_TEST(reload.ok() == one.reloads_by(reload_by::signal), reload.output); // who asks the parent gets no answer
    one.wait_for("serving", 2);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.show("NRestarts") == "0");
}

// ---- the manager

// Not longer than the upgrade waits for it; reload_test.cpp has one that stands still.
SYSTEMD_TEST(manager_that_pauses_during_the_barrier)
{
    unit one{built, how, {.arguments = {"--barrier-timeout", "60000"}}};
    one.start();
    one.check_serves(0, "generation 0 serving");
    prober load{one.address()};
    auto const answer = upgrade_past_the_manager(one, [&] {
        BOOST_TEST(load.go_on(200));
        BOOST_TEST(one.steps("committed").empty());
    });
    BOOST_TEST(answer.starts_with("ok generation=1 "), answer);
    one.wait_for("drained");
    BOOST_TEST(load.go_on());
    one.check_serves(1, "generation 1 serving");
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST(one.steps("warning").empty());
}

SYSTEMD_TEST(reload_returns_when_the_new_generation_serves)
{
    unit one{built, how};
    one.start();
    for (unsigned generation = 1; generation != 6; ++generation) {
        BOOST_TEST(one.systemctl("reload").ok());
        auto const serving = one.steps("serving"); // before anything else
        BOOST_REQUIRE(!serving.empty());
        BOOST_TEST(serving.back().generation == generation);
        one.wait_for("serving", generation + 1);
        one.wait_for("drained", generation);
    }
}
