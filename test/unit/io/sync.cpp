// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/sync.hpp>

#define BOOST_TEST_MODULE io/sync
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>

// What only the blocking policy has: its pump, and handlers of its own.

namespace {

using namespace test;

int descriptors()
{
    int count = 0;
    auto* const directory = ::opendir("/proc/self/fd");
    while (::readdir(directory) != nullptr)
        ++count;
    ::closedir(directory);
    return count;
}

BOOST_AUTO_TEST_CASE(wait_gives_what_the_outcome_is)
{
    io::sync io;
    outcome<int> outcome;
    auto const timer = io.at(io::clock::now(), [&] { outcome.set({}, 7); });
    error_code ec = errc::busy;
    auto const result = io.wait(outcome, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(result.value == 7);

    ecdysis::outcome<int> failed;
    failed.set(errc::stopped, 3);
    BOOST_TEST(io.wait(failed, ec).value == 3);
    BOOST_TEST(ec == errc::stopped);
    BOOST_TEST(!failed.awaited());
}

BOOST_AUTO_TEST_CASE(a_second_wait_is_refused)
{
    io::sync io;
    outcome<nothing> first;
    outcome<nothing> second;
    std::atomic<bool> inside = false;
    error_code nested;
    auto const timer = io.at(io::clock::now(), [&] {
        io.wait(second, nested);
        inside = true;
    });
    error_code ec;
    std::jthread waiter{[&] { io.wait(first, ec); }};
    while (!inside)
        std::this_thread::yield();
    BOOST_TEST(nested == errc::already_waiting);
    error_code other;
    io.wait(second, other);
    BOOST_TEST(other == errc::already_waiting);
    io.post([&] { first.set({}); });
    waiter.join();
    BOOST_TEST(!ec);
    second.set({});
    io.wait(second, other);
    BOOST_TEST(!other);
}

BOOST_AUTO_TEST_CASE(an_outcome_may_become_known_in_another_thread)
{
    io::sync io;
    outcome<nothing> outcome;
    auto waiting = std::async(std::launch::async, [&] {
        error_code ec;
        io.wait(outcome, ec);
        return ec;
    });
    BOOST_TEST(!ready(waiting));
    {
        auto const hold = io.lock();
        outcome.set(errc::stopped);
    }
    BOOST_TEST(get(waiting) == errc::stopped);
}

BOOST_AUTO_TEST_CASE(what_is_registered_in_another_thread_meanwhile_counts)
{
    io::sync io;
    pipe_pair pipe;
    pipe.write();
    outcome<nothing> outcome;
    auto waiting = std::async(std::launch::async, [&] {
        error_code ec;
        io.wait(outcome, ec);
    });
    BOOST_TEST(!ready(waiting));
    error_code ec;
    auto watch = io.watch(pipe.reader, [&] { outcome.set({}); }, ec);
    get(waiting);
    outcome.clear();
    watch = {};
    waiting = std::async(std::launch::async, [&] {
        error_code ec;
        io.wait(outcome, ec);
    });
    BOOST_TEST(!ready(waiting));
    auto const timer = io.at(io::clock::now() + 1ms, [&] { outcome.set({}); });
    get(waiting);
}

BOOST_AUTO_TEST_CASE(a_callback_that_throws_ends_the_wait)
{
    io::sync io;
    outcome<nothing> outcome;
    io.post([] { throw std::runtime_error{"host"}; });
    error_code ec;
    BOOST_CHECK_THROW(io.wait(outcome, ec), std::runtime_error);
    auto const hold = io.lock(); // the lock is free, and so is the pump
    outcome.set({});
    io.wait(outcome, ec);
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(signals_that_came_before_the_wait_are_heard)
{
    io::sync io;
    outcome<nothing> outcome;
    error_code ec;
    std::array const set{SIGUSR1};
    int got = 0;
    auto const handle = io.signals(set, [&](int signal) { got = signal, outcome.set({}); }, ec);
    ::raise(SIGUSR1);
    io.wait(outcome, ec);
    BOOST_TEST(got == SIGUSR1);
}

BOOST_AUTO_TEST_CASE(a_signal_has_one_handler)
{
    io::sync one;
    io::sync two;
    error_code ec;
    std::array const set{SIGUSR1, SIGUSR2};
    auto handle = one.signals(set, [](int) {}, ec);
    BOOST_TEST(!ec);
    std::array const overlapping{SIGHUP, SIGUSR2};
    auto other = two.signals(overlapping, [](int) {}, ec);
    BOOST_TEST(ec == boost::system::errc::device_or_resource_busy);
    BOOST_TEST(!other);
    handle = {};
    other = two.signals(overlapping, [](int) {}, ec);
    BOOST_TEST(!ec);
    std::array const beyond{NSIG};
    handle = one.signals(beyond, [](int) {}, ec);
    BOOST_TEST(ec == boost::system::errc::invalid_argument);
    std::array const none{0};
    handle = one.signals(none, [](int) {}, ec);
    BOOST_TEST(ec == boost::system::errc::invalid_argument);
}

BOOST_AUTO_TEST_CASE(the_hosts_calls_are_not_disturbed)
{
    io::sync io;
    error_code ec;
    std::array const set{SIGUSR1};
    auto const handle = io.signals(set, [](int) {}, ec);
    int ends[2];
    check(::pipe(ends)); // blocking
    os::owned_fd const reader{ends[0]};
    os::owned_fd const writer{ends[1]};
    std::atomic<bool> started = false;
    auto reading = std::async(std::launch::async, [&] {
        char byte;
        started = true;
        return ::read(reader.get(), &byte, 1);
    });
    while (!started)
        std::this_thread::yield();
    for (int i = 0; i != 100; ++i)
        ::kill(::getpid(), SIGUSR1);
    check(static_cast<int>(::write(writer.get(), "x", 1)));
    BOOST_TEST(get(reading) == 1);
}

BOOST_AUTO_TEST_CASE(a_signal_to_a_process_that_the_host_forked_is_not_ours)
{
    io::sync io;
    outcome<nothing> outcome;
    error_code ec;
    int calls = 0;
    std::array const set{SIGUSR1};
    auto const handle = io.signals(set, [&](int) { ++calls; }, ec);
    auto const child = ::fork();
    if (child == 0) {
        ::raise(SIGUSR1);
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    auto const timer = io.at(io::clock::now() + moment, [&] { outcome.set({}); });
    io.wait(outcome, ec);
    BOOST_TEST(calls == 0);
}

BOOST_AUTO_TEST_CASE(handlers_may_run_while_the_handle_goes)
{
    struct ::sigaction ignore{};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignore, nullptr);
    std::atomic<bool> stop = false;
    std::jthread storm{[&] {
        while (!stop)
            ::kill(::getpid(), SIGUSR1);
    }};
    for (int i = 0; i != 200; ++i) {
        io::sync io;
        error_code ec;
        std::array const set{SIGUSR1};
        auto const handle = io.signals(set, [](int) {}, ec);
        BOOST_TEST_REQUIRE(!ec);
    }
    stop = true;
    storm.join();
    struct ::sigaction action{};
    ::sigaction(SIGUSR1, nullptr, &action);
    BOOST_TEST(action.sa_handler == SIG_IGN);
}

BOOST_AUTO_TEST_CASE(listeners_need_no_descriptor_but_their_own)
{
    int const before = descriptors();
    {
        io::sync io;
        BOOST_TEST(descriptors() == before + 3);
        std::vector<std::shared_ptr<io::sync::source>> sources;
        error_code ec;
        for (int i = 0; i != 100; ++i) {
            sources.push_back(io.make_source(listening(), nullptr, ec));
            sources.back()->open();
        }
        BOOST_TEST(descriptors() == before + 3 + 100);
        for (auto const& source : sources)
            source->close();
        BOOST_TEST(descriptors() == before + 3);
    }
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_CASE(the_throwing_form_gives_nothing_at_the_end)
{
    io::sync io;
    error_code ec;
    auto const source = io.make_source(listening(), nullptr, ec);
    auto const broken = io.make_source(loopback(SOCK_STREAM), nullptr, ec);
    io::sync::listener listener{source};
    source->end(false);
    BOOST_TEST(!listener.accept());
    BOOST_TEST(!io::sync::listener{}.accept());
    BOOST_TEST(!io::sync::datagram{}.wait());
    broken->open();
    BOOST_CHECK_THROW(static_cast<void>(io::sync::listener{broken}.accept()), ecdysis::error);
    source->close();
    broken->close();
}

BOOST_AUTO_TEST_CASE(a_socket_is_closed_when_the_last_call_has_left)
{
    io::sync io;
    error_code ec;
    auto const source = io.make_source(listening(), nullptr, ec);
    std::optional<io::sync::source::visit> visit{std::in_place, *source};
    int const number = source->fd().get();
    source->close();
    BOOST_TEST(!source->fd());
    BOOST_TEST(::fcntl(number, F_GETFD) != -1);
    visit.reset();
    BOOST_TEST(::fcntl(number, F_GETFD) == -1);
}

BOOST_AUTO_TEST_CASE(every_waiting_thread_hears_of_each_change)
{
    // Threads on sources of their own share one gate; none may miss its own change among those of the others.
    for (int round = 0; round != 20; ++round) {
        io::sync io;
        error_code ec;
        std::vector<std::shared_ptr<io::sync::source>> sources;
        std::vector<std::future<error_code>> accepts;
        for (int i = 0; i != 16; ++i) {
            sources.push_back(io.make_source(listening(), nullptr, ec));
            accepts.push_back(std::async(std::launch::async, [source = sources.back()] {
                error_code ec;
                static_cast<void>(io::sync::listener{source}.accept(ec));
                return ec;
            }));
        }
        for (auto const& source : sources)
            source->open();
        for (auto const& source : sources)
            source->end(false);
        for (auto& accept : accepts)
            BOOST_TEST(get(accept) == errc::ended);
    }
}

} // namespace
