// SPDX-License-Identifier: BSL-1.0
// The new process is there, and its program is not executed yet: a disk that is slow or does not answer.
#define BOOST_TEST_MODULE restart_exec
#include "harness.hpp"
#include "harness/exec_gate.hpp"

using namespace restart;

namespace {

/// An upgrade whose child is in execve(2).
struct in_exec
{
    explicit in_exec(service& it) : gate{next(it)}, asker{it.at_control()}, child{gate.held()}
    {
        BOOST_TEST_REQUIRE(child != 0, "nobody executes the next program");
    }
    [[nodiscard]] std::string answer() { return asker.receive().value_or("no answer"); }

    exec_gate gate;
    connection asker;
    ::pid_t child;

private:
    static std::string next(service& it)
    {
        if (!std::filesystem::exists(it.path("copy")))
            it.run_next_for_anybody();
        return it.path("copy");
    }
};

} // namespace

RESTART_TEST_(exec_that_is_slow_holds_nobody, exec_gate::is_possible)
{
    service one{built, {.arguments = {"--threads", "1"}, .probed = answers_all}};
    auto const before = one.settled();
    in_exec upgrade{one};
    for (int i = 0; i != 20; ++i)
        BOOST_TEST(one.ask().pid == before.pid);
    BOOST_TEST(one.ask_control().starts_with("busy"));
    upgrade.gate.open();
    auto const line = one.heard(upgrade.answer());
    BOOST_TEST(line.starts_with("ok generation=1 pid=" + std::to_string(upgrade.child) + " "), line);
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_(exec_that_does_not_end_is_ended_at_the_deadline, exec_gate::is_possible)
{
    service one{built, {.arguments = {"--ready-timeout", "1000"}, .probed = answers_all}};
    auto const before = one.settled();
    {
        in_exec upgrade{one};
        auto const line = upgrade.answer();
        BOOST_TEST(line == "failed phase=handing-over reason=\"not ready within 1000 ms\"");
        BOOST_TEST(gone(upgrade.child));
    }
    one.check_unharmed(before);
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_(exec_that_is_refused_says_why, exec_gate::is_possible)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    {
        in_exec upgrade{one};
        upgrade.gate.refuse();
        auto const line = upgrade.answer();
        BOOST_TEST(line == "failed phase=launching reason=\"start " + one.program() + ": Operation not permitted\"");
    }
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST_(a_stop_while_the_child_is_in_exec, exec_gate::is_possible)
{
    service one{built, {.probed = probing{}}};
    in_exec upgrade{one};
    one.wait_for("launched");
    one.stop();
    BOOST_TEST(upgrade.answer() == "failed phase=handing-over reason=\"stopped\"");
}

// It goes on in memory that was the parent's, and then finds that nobody hands anything over.
RESTART_TEST_(the_parent_is_killed_while_the_child_is_in_exec, exec_gate::is_possible)
{
    service one{built, {.probed = probing{}}};
    in_exec upgrade{one};
    one.signal(SIGKILL);
    BOOST_TEST(gone(one.pid()));
    upgrade.gate.open();
    BOOST_TEST(gone(upgrade.child));
}
