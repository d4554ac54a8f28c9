// SPDX-License-Identifier: BSL-1.0
// The moments of an upgrade at which a real systemd knows less than the generations do, or they less than it.
#define BOOST_TEST_MODULE systemd_moment
#include "harness.hpp"

using namespace restart;

namespace {

unit_wish restarting()
{
    return {.settings = {"Restart=on-failure", "RestartSec=0"}};
}

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

// The child ends with it, whatever it could have done as heir, and systemd starts the service anew. Version 257 does that
// only after TimeoutStartSec= where RELOADING=1 was said while ExecReload= ran.
SYSTEMD_TEST(parent_killed_while_the_child_starts)
{
    unit one{built, how, restarting()};
    one.start();
    auto const parent = one.check_serves(0, "generation 0 serving");
    one.behave("begin hang");
    auto reload = one.begin("reload");
    one.wait_for("launched");
    one.behave("");
    ::kill(parent, SIGKILL);
    auto const again = one.wait_for("serving", 2);
    BOOST_TEST(again.generation == 0U);
    BOOST_TEST(!reload.get().ok());
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    BOOST_TEST(one.check_serves(0, "generation 0 serving") == again.pid);
    BOOST_TEST(one.show("NRestarts") == "1");
}

// Whoever serves in the end, somebody does, and systemd knows who.
SYSTEMD_TEST(child_killed_between_commit_and_serving)
{
    unit one{built, how, restarting()};
    one.start();
    one.check_serves(0, "generation 0 serving");
    one.behave("serving kill");
    static_cast<void>(one.systemctl("reload"));
    one.behave("");
    auto const settled = [&] {
        auto const shown = one.show();
        auto const answer = connection{one.address()}.ask();
        return answer && shown.at("ActiveState") == "active" && shown.at("MainPID") == std::to_string(answer->pid);
    };
    BOOST_TEST(wait_until(settled, std::chrono::seconds{10}),
               one.show("ActiveState") << ", MainPID " << one.show("MainPID") << ", processes " << one.processes().size());
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

// The child that became the main process, and whose parent has gone, is stopped as any other.
SYSTEMD_TEST(stop_after_an_upgrade)
{
    unit one{built, how};
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 2);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
    BOOST_TEST(one.steps("drained").back().generation == 1U);
}

// It has handlers for its signals by then, and does not run.
SYSTEMD_TEST(stop_while_the_child_is_suspended)
{
    stop_while_child_is("claimed stop", built, how);
}
