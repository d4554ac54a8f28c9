// SPDX-License-Identifier: BSL-1.0
// What makes the rarer of the system calls that the allowlist has, see seccomp/coverage_test.cpp. Each without a prober,
// whose descriptors come and go.
#define BOOST_TEST_MODULE restart_call
#include "harness.hpp"

using namespace restart;

RESTART_TEST(an_address_with_an_interface)
{
    service one{built, {.listens = {"127.0.0.1:0", "[::1%lo]:0"}}};
    auto const before = one.settled();
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST(datagrams_that_wait_at_a_stop)
{
    service one{built, {.listens = {"127.0.0.1:0", "udp:127.0.0.1:0"}, .behave = "accept late"}};
    connection client{one.address(1), SOCK_DGRAM};
    constexpr int count = 100;
    for (int i = 0; i != count; ++i)
        client.send("who");
    one.signal(SIGTERM);
    int answered = 0;
    while (answered != count && client.receive())
        ++answered;
    BOOST_TEST(answered == count);
    service::check_ended_well(one.pid());
    one.check_gone();
}

namespace {

/// Stops a process where it waits, a few times: the system call goes on as restart_syscall(2).
void interrupt(::pid_t pid)
{
    auto const is = [pid](char state) {
        return wait_until([&] {
            auto const found = look_at(pid);
            return found && found->state == state;
        });
    };
    for (int i = 0; i != 3; ++i) {
        BOOST_TEST_REQUIRE(is('S'));
        ::kill(pid, SIGSTOP);
        BOOST_TEST_REQUIRE(is('T'));
        ::kill(pid, SIGCONT);
    }
    BOOST_TEST_REQUIRE(is('S'));
}

} // namespace

RESTART_TEST(a_child_that_is_stopped_while_it_waits_for_its_parent)
{
    service one{built, {.behave = "launched stop"}};
    one.run_next_well();
    auto const before = one.settled();
    auto asking = one.at_control();
    interrupt(one.child());
    one.signal(SIGCONT);
    BOOST_TEST(one.heard(asking.receive().value_or("")).starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST(a_loader_that_complains)
{
    service one{built, {.environment = {"LD_PRELOAD=/nowhere/at/all.so"}}};
    auto const before = one.settled();
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before);
    std::string const complaint = "ld.so: object '/nowhere/at/all.so' from LD_PRELOAD cannot be preloaded";
    auto const output = one.read("output");
    BOOST_TEST(output.find(complaint) != output.rfind(complaint), output); // each generation's
    one.write("output", "");
    one.stop();
}

RESTART_TEST(no_number_left_for_what_watches_the_child)
{
    // At each attempt one more is free.
    service one{built, {.behave = "begin nofile 200\nupgrade_requested exhaust 0\nupgrade_failed release"}};
    auto const before = one.settled();
    std::string line;
    for (int failed = 0; failed != 40 && !(line = one.upgrade()).starts_with("ok "); ++failed) {
        BOOST_TEST(line.starts_with("failed phase="), line);
        one.check_unharmed(before);
    }
    one.check_succeeded(before);
    one.stop();
}
