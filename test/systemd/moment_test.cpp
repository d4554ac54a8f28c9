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

/// An upgrade by the control socket, asked for by us and not by systemd; gives the line.
std::string upgrade(unit const& one)
{
    connection asker{ecdysis::address{one.path("control")}};
    return asker.receive().value_or("no answer");
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
