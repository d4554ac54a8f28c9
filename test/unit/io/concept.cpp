// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/concept.hpp>

#define BOOST_TEST_MODULE io/concept
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <boost/mpl/list.hpp>

#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <thread>

// Every row of the table, for both policies.

namespace {

using namespace test;
using worlds = boost::mpl::list<sync_pumped, asio_pumped>;

BOOST_AUTO_TEST_CASE_TEMPLATE(watch_calls_as_long_as_it_is_readable, World, worlds)
{
    World world;
    pipe_pair pipe;
    int calls = 0;
    error_code ec;
    auto const watch = world.io.watch(pipe.reader, [&] { ++calls; }, ec);
    BOOST_TEST(!ec);
    world.settle();
    BOOST_TEST(calls == 0);
    pipe.write();
    BOOST_TEST(world.until([&] { return calls >= 3; }));
    pipe.read();
    world.settle();
    int const before = calls;
    world.settle();
    BOOST_TEST(calls == before);
    pipe.write();
    BOOST_TEST(world.until([&] { return calls > before; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(watch_calls_at_the_end, World, worlds)
{
    World world;
    pipe_pair pipe;
    bool called = false;
    error_code ec;
    auto const watch = world.io.watch(pipe.reader, [&] { called = true; }, ec);
    pipe.writer.reset();
    BOOST_TEST(world.until([&] { return called; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(watch_never_calls_from_inside_the_registration, World, worlds)
{
    World world;
    pipe_pair pipe;
    pipe.write();
    bool called = false;
    error_code ec;
    auto const watch = world.io.watch(pipe.reader, [&] { called = true; }, ec);
    auto const timer = world.io.at(io::clock::now() - 1s, [&] { called = true; });
    world.io.post([&] { called = true; });
    BOOST_TEST(!called);
    BOOST_TEST(world.until([&] { return called; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(watch_can_be_made_again_once_dropped, World, worlds)
{
    World world;
    pipe_pair pipe;
    pipe.write();
    error_code ec;
    int first = 0;
    auto watch = world.io.watch(pipe.reader, [&] { ++first; }, ec);
    watch = {};
    bool second = false;
    watch = world.io.watch(pipe.reader, [&] { second = true; }, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(world.until([&] { return second; }));
    BOOST_TEST(first == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(watch_may_be_dropped_in_its_own_callback, World, worlds)
{
    World world;
    pipe_pair pipe;
    pipe.write();
    int calls = 0;
    error_code ec;
    typename World::policy::handle watch;
    watch = world.io.watch(
        pipe.reader,
        [&, kept = std::make_shared<int>(7)] {
            watch = {};
            pipe.reader.reset(); // handles go before their descriptors
            calls += *kept;      // what it captured is still there
        },
        ec);
    BOOST_TEST(world.until([&] { return calls != 0; }));
    world.settle();
    BOOST_TEST(calls == 7);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_dropped_handle_never_calls_even_if_due, World, worlds)
{
    World world;
    pipe_pair one;
    pipe_pair two;
    one.write();
    two.write();
    int calls = 0;
    error_code ec;
    typename World::policy::handle first;
    typename World::policy::handle second;
    // Both are due in the same round, and whichever comes first drops the other.
    first = world.io.watch(one.reader, [&] { ++calls, one.read(), second = {}; }, ec);
    second = world.io.watch(two.reader, [&] { ++calls, two.read(), first = {}; }, ec);
    BOOST_TEST(world.until([&] { return calls != 0; }));
    world.settle();
    BOOST_TEST(calls == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(at_calls_once_not_early_and_in_order, World, worlds)
{
    World world;
    auto const now = io::clock::now();
    std::vector<int> order;
    io::clock::time_point when;
    auto const later = world.io.at(now + 20ms, [&] { order.push_back(2), when = io::clock::now(); });
    auto const sooner = world.io.at(now + 10ms, [&] { order.push_back(1); });
    auto dropped = world.io.at(now + 5ms, [&] { order.push_back(0); });
    dropped = {};
    BOOST_TEST(world.until([&] { return order.size() == 2; }));
    BOOST_TEST((when >= now + 20ms));
    world.settle();
    BOOST_TEST(order == (std::vector{1, 2}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(at_may_replace_its_own_handle, World, worlds)
{
    World world;
    int calls = 0;
    typename World::policy::handle timer;
    std::function<void()> tick = [&] {
        if (++calls != 3)
            timer = world.io.at(io::clock::now(), tick);
    };
    timer = world.io.at(io::clock::now(), tick);
    BOOST_TEST(world.until([&] { return calls == 3; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(due_timers_may_drop_each_other, World, worlds)
{
    World world;
    int calls = 0;
    typename World::policy::handle first;
    typename World::policy::handle second;
    first = world.io.at(io::clock::now(), [&] { ++calls, second = {}; });
    second = world.io.at(io::clock::now(), [&] { ++calls, first = {}; });
    BOOST_TEST(world.until([&] { return calls != 0; }));
    world.settle();
    BOOST_TEST(calls == 1);
}

struct disposition
{
    explicit disposition(int signal, void (*handler)(int)) : number{signal}
    {
        struct ::sigaction action{};
        action.sa_handler = handler;
        ::sigaction(number, &action, &before);
    }
    ~disposition() { ::sigaction(number, &before, nullptr); }
    static void (*of(int signal))(int)
    {
        struct ::sigaction action{};
        ::sigaction(signal, nullptr, &action);
        return action.sa_handler;
    }

    int number;
    struct ::sigaction before{};
};

void hosts_handler(int) {}

BOOST_AUTO_TEST_CASE_TEMPLATE(signals_call_and_bring_dispositions_back, World, worlds)
{
    disposition const hangup{SIGHUP, &hosts_handler};
    disposition const user{SIGUSR1, SIG_IGN};
    World world;
    std::vector<int> got;
    error_code ec;
    std::array const set{SIGHUP, SIGUSR1};
    auto handle = world.io.signals(set, [&](int signal) { got.push_back(signal); }, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(disposition::of(SIGHUP) != &hosts_handler);
    BOOST_TEST(disposition::of(SIGUSR1) != SIG_IGN);
    ::raise(SIGUSR1);
    BOOST_TEST(world.until([&] { return got.size() == 1; }));
    ::raise(SIGHUP);
    BOOST_TEST(world.until([&] { return got.size() == 2; }));
    BOOST_TEST(got == (std::vector{SIGUSR1, SIGHUP}), boost::test_tools::per_element());
    handle = {};
    BOOST_TEST(disposition::of(SIGHUP) == &hosts_handler);
    BOOST_TEST(disposition::of(SIGUSR1) == SIG_IGN);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(signals_leave_a_later_handler_of_the_host_alone, World, worlds)
{
    disposition const restore{SIGUSR2, SIG_DFL};
    World world;
    error_code ec;
    std::array const set{SIGUSR2};
    auto handle = world.io.signals(set, [](int) {}, ec);
    struct ::sigaction action{};
    action.sa_handler = &hosts_handler;
    ::sigaction(SIGUSR2, &action, nullptr);
    handle = {};
    BOOST_TEST(disposition::of(SIGUSR2) == &hosts_handler);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(signals_that_were_blocked_arrive, World, worlds)
{
    ::sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGHUP);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::raise(SIGHUP); // before there is a handler, as in a new generation
    World world;
    int calls = 0;
    error_code ec;
    std::array const signals{SIGHUP};
    auto const handle = world.io.signals(signals, [&](int) { ++calls; }, ec);
    BOOST_TEST(world.until([&] { return calls == 1; }));
    ::sigset_t now;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &now);
    BOOST_TEST(::sigismember(&now, SIGHUP) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_storm_of_signals_is_survived, World, worlds)
{
    World world;
    int calls = 0;
    error_code ec;
    std::array const set{SIGHUP};
    auto handle = world.io.signals(set, [&](int) { ++calls; }, ec);
    for (int i = 0; i != 10'000; ++i)
        ::raise(SIGHUP);
    BOOST_TEST(world.until([&] { return calls != 0; }));
    world.settle();
    BOOST_TEST(calls <= 10'000);
    if constexpr (World::policy::blocking)
        BOOST_TEST(calls == 1);
    int const before = calls;
    ::raise(SIGHUP);
    BOOST_TEST(world.until([&] { return calls == before + 1; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(signals_may_be_dropped_in_the_callback, World, worlds)
{
    disposition const hangup{SIGHUP, SIG_IGN};
    disposition const user{SIGUSR1, SIG_IGN};
    World world;
    int calls = 0;
    error_code ec;
    typename World::policy::handle handle;
    std::array const set{SIGHUP, SIGUSR1};
    handle = world.io.signals(set, [&](int) { ++calls, handle = {}; }, ec);
    ::raise(SIGHUP);
    ::raise(SIGUSR1);
    BOOST_TEST(world.until([&] { return calls != 0; }));
    world.settle();
    BOOST_TEST(calls == 1);
    BOOST_TEST(disposition::of(SIGHUP) == SIG_IGN);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_set_with_an_impossible_signal_installs_nothing, World, worlds)
{
    disposition const restore{SIGUSR1, SIG_IGN};
    World world;
    error_code ec;
    std::array const set{SIGUSR1, SIGKILL};
    auto const handle = world.io.signals(set, [](int) {}, ec);
    BOOST_TEST(ec);
    BOOST_TEST(!handle);
    BOOST_TEST(disposition::of(SIGUSR1) == SIG_IGN);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(post_calls_from_any_thread_in_order, World, worlds)
{
    World world;
    std::vector<int> order;
    std::jthread{[&] {
        for (int i = 0; i != 100; ++i)
            world.io.post([&order, i] { order.push_back(i); });
    }};
    BOOST_TEST(world.until([&] { return order.size() == 100; }));
    BOOST_TEST(std::ranges::is_sorted(order));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(posting_needs_no_lock, World, worlds)
{
    World world;
    bool called = false;
    {
        auto const hold = world.io.lock();
        std::jthread{[&] { world.io.post([&] { called = true; }); }};
    }
    BOOST_TEST(world.until([&] { return called; }));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(post_after_the_end_does_nothing, World, worlds)
{
    bool called = false;
    typename World::policy::poster poster;
    poster([&] { called = true; });
    {
        World world;
        poster = world.io.get_poster();
        poster([&] { called = true; });
        BOOST_TEST(world.until([&] { return called; }));
        called = false;
        {
            auto const gone = std::move(world.io);
            gone.get_poster()([&] { called = true; });
        }
        poster([&] { called = true; });
        if constexpr (!World::policy::blocking)
            world.settle();
    }
    poster([&] { called = true; });
    BOOST_TEST(!called);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(handles_may_outlive_their_policy, World, worlds)
{
    pipe_pair pipe;
    disposition const restore{SIGHUP, SIG_IGN};
    World world;
    std::vector<typename World::policy::handle> handles;
    {
        auto const gone = std::make_unique<typename World::policy>(std::move(world.io));
        error_code ec;
        handles.push_back(gone->watch(pipe.reader, [] {}, ec));
        handles.push_back(gone->at(io::clock::now(), [] {}));
        handles.push_back(gone->signals(std::array{SIGHUP}, [](int) {}, ec));
    }
    handles.clear();
    BOOST_TEST(disposition::of(SIGHUP) == SIG_IGN);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_call_has_the_lock, World, worlds)
{
    World world;
    pipe_pair pipe;
    pipe.write();
    error_code ec;
    int calls = 0;
    std::atomic<int> others = 0;
    std::vector<std::jthread> threads;
    auto const probe = [&] {
        ++calls;
        auto const before = others.load();
        threads.emplace_back([&] {
            auto const hold = world.io.lock();
            ++others;
        });
        auto const until = io::clock::now() + 5ms;
        while (io::clock::now() < until) {}
        BOOST_TEST(others == before);
    };
    typename World::policy::handle watch;
    watch = world.io.watch(pipe.reader, [&] { probe(), watch = {}; }, ec);
    auto const timer = world.io.at(io::clock::now(), probe);
    world.io.post(probe);
    BOOST_TEST(world.until([&] { return calls == 3; }));
    threads.clear();
    BOOST_TEST(others == 3);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nothing_runs_while_the_lock_is_held, World, worlds)
{
    World world;
    bool called = false;
    std::atomic<bool> stop = false;
    auto hold = world.io.lock();
    world.io.post([&] { called = true; });
    std::jthread pump{[&] { world.until([&] { return stop.load(); }); }};
    auto const until = io::clock::now() + moment;
    while (io::clock::now() < until)
        BOOST_TEST_REQUIRE(!called);
    hold.unlock();
    auto const limit = io::clock::now() + deadline;
    for (bool seen = false; !seen && io::clock::now() < limit;) {
        auto const look = world.io.lock();
        seen = called;
    }
    stop = true;
    pump.join();
    BOOST_TEST(called);
}

} // namespace
