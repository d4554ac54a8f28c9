// SPDX-License-Identifier: BSL-1.0
// A stop at each step of an upgrade and of a drain: the table of stops in the manual, under a real systemd.
#define BOOST_TEST_MODULE systemd_stop
#include "harness/moment.hpp"

using namespace restart;

namespace {

constexpr char const *control_group = "control-group", *mixed = "mixed";

unit_wish killed_by(std::string const& mode, std::vector<std::string> arguments = {})
{
    return {.settings = {"KillMode=" + mode}, .arguments = std::move(arguments)};
}

/// A request that is being answered, until finish(). The generation that does so must have been told `slow until DIRECTORY/slow`.
class slow_request
{
public:
    explicit slow_request(unit const& one) : unit_{one}, connection_{std::in_place, one.address()}
    {
        connection_->send("slow");
        BOOST_REQUIRE(wait_until([&] { return std::filesystem::exists(unit_.path("slow.awaited")); }));
    }
    /// And was the connection's last: nothing is left to wait for.
    void check_is_answered(::pid_t by)
    {
        std::ofstream{unit_.path("slow")};
        auto const answer = connection_->receive();
        BOOST_REQUIRE_MESSAGE(answer.has_value(), "the request was cut, result " << static_cast<int>(connection_->state()));
        BOOST_TEST(reply{*answer}.pid == by);
        connection_.reset();
    }

private:
    unit const& unit_;
    std::optional<connection> connection_;
};

/// What is held while the manager stops a service: it has sent its second SIGTERM, to all that is left, when it shows this.
void wait_for_second_signal(unit const& one)
{
    BOOST_TEST(wait_until([&] { return one.show("MainPID") == "0"; }));
}

/// In probation: both may have connections. Gives the child.
::pid_t wait_for_probation(unit const& one)
{
    one.wait_for("child_serves");
    return one.launched();
}

void check_drained_last(unit const& one, unsigned generation)
{
    auto const drained = one.steps("drained");
    BOOST_REQUIRE(!drained.empty());
    BOOST_TEST(drained.back().generation == generation);
}

} // namespace

// ---- before the first generation is ready

SYSTEMD_TEST_OF_HALF(stop_of_a_first_generation_that_hangs_in_its_start)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how, {.settings = {"TimeoutSec=90"}}};
            one.hold_at(point);
            auto start = one.begin("start");
            one.awaits_go();
            auto stop = begin_stop(one);
            BOOST_TEST((stop.wait_for(std::chrono::seconds{5}) == std::future_status::ready));
            auto const stopped = stop.get();
            BOOST_TEST(stopped.ok(), stopped.output);
            BOOST_TEST(!start.get().ok());
            BOOST_TEST(one.processes().empty());
            BOOST_TEST(one.show("ActiveState") == "inactive");
            BOOST_TEST(one.show("Result") == "success");
        }
}

// ---- before the commit: the child has accepted nothing, and is ended

namespace {

void stop_before_commit(std::string const& point, std::string const& mode, assembly const& built, reload_by how)
{
    BOOST_TEST_CONTEXT(point << ", KillMode=" << mode)
    {
        unit one{built, how, killed_by(mode)};
        one.start();
        connection open{one.address()};
        BOOST_TEST(open.ask().has_value());
        one.hold_at(point); // never goes on
        auto reload = begin_upgrade(one);
        one.awaits_go();
        auto const child = one.launched();
        auto stop = begin_stop(one);
        one.wait_for("draining");
        BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); }, std::chrono::seconds{5}));
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
        stop_before_commit(point, control_group, built, how);
}

SYSTEMD_TEST_OF_HALF(stop_before_commit_of_the_main_process)
{
    for (auto const* point : {"begin", "constructed", "claimed"})
        stop_before_commit(point, mixed, built, how);
}

// systemd sends SIGCONT as well.
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

// ---- from commit to announcement: both drain, and the main process ends last

namespace {

void stop_after_commit(std::string const& point, std::string const& mode, assembly const& built, reload_by how)
{
    BOOST_TEST_CONTEXT(point << ", KillMode=" << mode)
    {
        unit one{built, how, killed_by(mode)};
        one.start();
        auto const parent = one.main_pid();
        connection open{one.address()};
        BOOST_TEST(open.ask().has_value());
        one.hold_at(point);
        auto reload = begin_upgrade(one);
        one.awaits_go();
        one.wait_for("committed");
        BOOST_TEST(one.main_pid() == parent);
        auto stop = begin_stop(one);
        one.wait_for("draining");
        one.go();
        check_drains(open);
        auto const stopped = stop.get();
        BOOST_TEST(stopped.ok(), stopped.output);
        one.check_stopped_well();
        check_drained_last(one, 0);
        BOOST_TEST(!reload.get().ok());
    }
}

} // namespace

SYSTEMD_TEST_OF_HALF(stop_after_commit_of_the_control_group)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting"})
        stop_after_commit(point, control_group, built, how);
}

SYSTEMD_TEST_OF_HALF(stop_after_commit_of_the_main_process)
{
    for (auto const* point : {"said-ready", "may-accept", "accepting"})
        stop_after_commit(point, mixed, built, how);
}

SYSTEMD_TEST_OF_HALF(stop_in_probation)
{
    for (auto const* mode : {control_group, mixed})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, killed_by(mode, {"--probation 60000"})};
            one.start();
            connection old{one.address()};
            BOOST_TEST(old.ask()->generation == 0U);
            auto reload = begin_upgrade(one);
            auto const child = wait_for_probation(one);
            connection now{one.address()};
            BOOST_TEST(now.ask()->pid == child);
            auto stop = begin_stop(one);
            one.wait_for("draining", 2);
            check_drains(old);
            BOOST_TEST(one.show("ActiveState") == "deactivating");
            check_drains(now);
            BOOST_TEST(stop.get().ok());
            one.check_stopped_well();
            check_drained_last(one, 0);
            auto const reloaded = reload.get();
            BOOST_TEST(!reloaded.ok(), reloaded.output);
        }
}

// One that hangs is not waited for longer than it may take.
SYSTEMD_TEST_OF_HALF(stop_in_probation_of_a_child_that_hangs)
{
    for (auto const* mode : {control_group, mixed})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, killed_by(mode, {"--probation 60000", "--kill-grace 300"})};
            one.start();
            one.behave("serving hang");
            auto reload = begin_upgrade(one);
            one.wait_for("committed");
            BOOST_TEST(wait_until([&] { return one.steps("serving").size() == 2; }));
            auto const began = std::chrono::steady_clock::now();
            BOOST_TEST(one.systemctl("stop").ok());
            BOOST_TEST((std::chrono::steady_clock::now() - began < std::chrono::seconds{10})); // the unit's own is 20
            one.check_stopped_well();
            static_cast<void>(reload.get());
        }
}

// Its own, and no stop of the service: that is taken back.
SYSTEMD_TEST_OF_HALF(stop_signal_at_the_child_in_probation)
{
    unit one{built, how, {.arguments = {"--probation 60000"}}};
    one.start();
    auto const parent = one.main_pid();
    auto reload = one.begin("reload");
    auto const child = wait_for_probation(one);
    connection open{one.address()};
    BOOST_TEST(open.ask()->pid == child);
    ::kill(child, SIGTERM);
    BOOST_TEST(reload.get().ok() == one.reloads_by(reload_by::signal));
    BOOST_TEST(one.ask().pid == parent);
    check_drains(open);
    check_serves_on(one, parent, "it was stopped");
}

// ---- during the barrier: the child is the main process, or is about to be

SYSTEMD_TEST_OF_HALF(stop_signal_during_the_barrier)
{
    unit one{built, how, restarting({}, pausable())};
    one.start();
    connection old{one.address()};
    BOOST_TEST(old.ask()->generation == 0U);
    std::optional<connection> now;
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t parent, ::pid_t child) {
        now.emplace(one.address());
        BOOST_TEST(now->ask()->pid == child);
        ::kill(parent, SIGTERM);
        one.wait_for("draining", 2);
    });
    check_drains(*now);
    check_drains(old);
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "inactive"; }));
    one.check_stopped_well();
    BOOST_TEST(one.show("NRestarts") == "0");
    static_cast<void>(answer);
}

// ---- what drains when a stop comes, and is not the main process

namespace {

/// Generation 1 serves, and generation 0 answers a request still.
struct two_generations
{
    unit one;
    ::pid_t before = 0;
    std::optional<slow_request> old{};
    std::optional<connection> now{};

    two_generations(assembly const& built, reload_by how, std::string const& mode) : one{built, how, killed_by(mode)}
    {
        one.behave("slow until " + one.path("slow"));
        one.start();
        before = one.main_pid();
        old.emplace(one);
        one.behave("");
        BOOST_TEST(one.systemctl("reload").ok());
        one.wait_for("draining");
        now.emplace(one.address());
        BOOST_TEST(now->ask()->generation == 1U);
        BOOST_TEST(one.processes().size() == 2U);
    }
};

} // namespace

SYSTEMD_TEST_OF_HALF(stop_and_restart_while_the_parent_drains)
{
    for (std::string const verb : {"stop", "restart"})
        BOOST_TEST_CONTEXT(verb)
        {
            two_generations both{built, how, control_group};
            auto stop = begin_stop(both.one, verb);
            both.one.wait_for("draining", 2);
            check_drains(*both.now);
            wait_for_second_signal(both.one);
            both.old->check_is_answered(both.before);
            BOOST_TEST(stop.get().ok());
            check_drained_last(both.one, 0);
            if (verb == "stop")
                both.one.check_stopped_well();
            else
                both.one.check_serves(0, "generation 0 serving");
            BOOST_TEST(both.one.show("Result") == "success");
            for (auto const& line : both.one.said("SIGKILL"))
                BOOST_ERROR(line);
        }
}

// The old one is left alone as long as the new one drains.
SYSTEMD_TEST_OF_HALF(stop_of_the_main_process_while_the_parent_drains)
{
    two_generations both{built, how, mixed};
    auto stop = begin_stop(both.one);
    both.one.wait_for("draining", 2);
    both.old->check_is_answered(both.before);
    both.one.wait_for("drained");
    check_drained_last(both.one, 0);
    BOOST_TEST(both.one.show("ActiveState") == "deactivating");
    check_drains(*both.now);
    BOOST_TEST(stop.get().ok());
    both.one.check_stopped_well();
}

// And killed when the new one has ended.
SYSTEMD_TEST_OF_HALF(stop_of_the_main_process_that_ends_before_the_parent)
{
    two_generations both{built, how, mixed};
    auto stop = begin_stop(both.one);
    both.one.wait_for("draining", 2);
    check_drains(*both.now);
    BOOST_TEST(stop.get().ok());
    BOOST_TEST(both.one.processes().empty());
    BOOST_TEST(both.one.show("Result") == "success");
    BOOST_TEST(!both.one.said("SIGKILL").empty());
}

// They are none of this one: systemd sends them to all, and so may anybody.
SYSTEMD_TEST_OF_HALF(signals_at_a_parent_that_drains)
{
    two_generations both{built, how, control_group};
    auto const serving = both.now->ask()->pid;
    for (int i = 0; i != 3; ++i)
        ::kill(both.before, SIGTERM);
    BOOST_TEST(both.one.ask().pid == serving);
    BOOST_TEST(both.one.processes().size() == 2U);
    both.old->check_is_answered(both.before);
    both.one.wait_for("drained");
    both.one.check_serves(1, "generation 1 serving");
}

// It says that the drain is over.
SYSTEMD_TEST_OF_HALF(call_at_a_parent_that_drains)
{
    unit one{built, how};
    one.start();
    connection asking{one.address()}, other{one.address()};
    BOOST_TEST(asking.ask()->generation == 0U);
    BOOST_TEST(other.ask()->generation == 0U);
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("draining");
    BOOST_TEST(asking.ask("stop")->generation == 0U);
    one.wait_for("drained");
    BOOST_TEST(!other.receive().has_value());
    one.check_serves(1, "generation 1 serving");
}

// The same for a child from which the service was taken back.
SYSTEMD_TEST_OF_HALF(stop_and_restart_while_a_child_that_was_set_aside_drains)
{
    for (std::string const verb : {"stop", "restart"})
        for (auto const* mode : {control_group, mixed})
            BOOST_TEST_CONTEXT(verb << ", KillMode=" << mode)
            {
                unit one{built, how, killed_by(mode, {"--probation 60000"})};
                one.start();
                auto const parent = one.main_pid();
                one.behave("slow until " + one.path("slow"));
                auto reload = one.begin("reload");
                auto const child = wait_for_probation(one);
                slow_request held{one};
                one.behave("");
                static_cast<void>(connection{one.address()}.ask("unfit"));
                BOOST_TEST(reload.get().ok() == one.reloads_by(reload_by::signal));
                BOOST_TEST(one.ask().pid == parent);
                auto stop = begin_stop(one, verb);
                one.wait_for("draining", 2);
                held.check_is_answered(child);
                BOOST_TEST(stop.get().ok());
                BOOST_TEST(one.show("Result") == "success");
                if (verb == "stop") {
                    one.check_stopped_well();
                    check_drained_last(one, 0);
                } else {
                    one.check_serves(0, "generation 0 serving");
                }
                for (auto const& line : one.said("SIGKILL"))
                    BOOST_ERROR(line);
            }
}

// ---- a stop after a stop

SYSTEMD_TEST_OF_HALF(stop_after_an_upgrade)
{
    for (std::string const mode : {control_group, mixed})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, killed_by(mode)};
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
            check_drained_last(one, 1);
            BOOST_TEST(one.steps("drained").back().text.find('0') != std::string::npos, one.steps("drained").back().text);
        }
}

// systemd sends one signal, however often it is asked.
SYSTEMD_TEST_OF_HALF(stop_while_a_stop_drains)
{
    for (std::string const mode : {control_group, mixed})
        BOOST_TEST_CONTEXT(mode)
        {
            unit one{built, how, killed_by(mode)};
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

SYSTEMD_TEST_OF_HALF(second_signal_ends_the_drain_of_the_main_process)
{
    unit one{built, how};
    one.start();
    connection open{one.address()};
    BOOST_TEST(open.ask().has_value());
    auto stop = begin_stop(one);
    one.wait_for("draining");
    BOOST_TEST(one.systemctl("kill", "--signal=TERM").ok());
    BOOST_TEST((stop.wait_for(std::chrono::seconds{5}) == std::future_status::ready)); // idle ones are closed after 10 s
    BOOST_TEST(stop.get().ok());
    BOOST_TEST(!open.ask().has_value());
    one.check_stopped_well();
}
