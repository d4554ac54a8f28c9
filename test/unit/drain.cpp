// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/drain.hpp>

#define BOOST_TEST_MODULE drain
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <memory>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using ecdysis::connection_guard;
using ecdysis::open_connections;

static_assert(!std::is_copy_constructible_v<connection_guard>);
static_assert(std::is_nothrow_move_constructible_v<connection_guard>);
static_assert(std::is_nothrow_move_assignable_v<connection_guard>);

BOOST_AUTO_TEST_CASE(a_guard_counts_once_wherever_it_is_moved)
{
    auto const open = std::make_shared<open_connections>();
    connection_guard first{open};
    BOOST_TEST(open->count() == 1U);
    connection_guard second{std::move(first)};
    BOOST_TEST(open->count() == 1U);
    BOOST_TEST(!first);
    first = std::move(second);
    BOOST_TEST(open->count() == 1U);
    BOOST_TEST(bool{first});
    first = connection_guard{open}; // the old one is released
    BOOST_TEST(open->count() == 1U);
    auto& self = first;
    first = std::move(self);
    BOOST_TEST(open->count() == 1U);
    connection_guard other;
    other.swap(first);
    BOOST_TEST(bool{other});
    other.reset();
    other.reset();
    BOOST_TEST(open->count() == 0U);
}

BOOST_AUTO_TEST_CASE(an_empty_guard_counts_nothing)
{
    connection_guard const empty;
    connection_guard const null{nullptr};
    BOOST_TEST(!empty);
    BOOST_TEST(!null);
    BOOST_TEST(!empty.draining());
    BOOST_TEST(!empty.close_idle().stop_possible());
}

BOOST_AUTO_TEST_CASE(on_empty_is_called_at_zero_and_only_there)
{
    auto const open = std::make_shared<open_connections>();
    int calls = 0;
    {
        connection_guard const before{open};
    }
    connection_guard a{open};
    connection_guard b{open};
    open->watch([&] {
        ++calls;
        BOOST_TEST(open->count() == 0U);
    });
    BOOST_TEST(calls == 0);
    BOOST_TEST(open->count() == 2U);
    a.reset();
    BOOST_TEST(calls == 0);
    b.reset();
    BOOST_TEST(calls == 1);
    connection_guard{open}.reset(); // an accept in flight that came to nothing
    BOOST_TEST(calls == 2);
    open->unwatch();
    connection_guard{open}.reset();
    BOOST_TEST(calls == 2);
    open->watch([&] { calls += 10; });
    connection_guard{open}.reset();
    BOOST_TEST(calls == 12);
}

BOOST_AUTO_TEST_CASE(tokens_tell_guards_that_are_there_and_that_come)
{
    auto const open = std::make_shared<open_connections>();
    connection_guard const early{open};
    bool told = false;
    std::stop_callback const closing{early.close_idle(), [&] { told = true; }};
    BOOST_TEST(!early.draining());
    open->begin_draining();
    open->begin_draining();
    BOOST_TEST(early.draining());
    BOOST_TEST(connection_guard{open}.draining());
    BOOST_TEST(!early.close_idle().stop_requested());
    BOOST_TEST(!told);
    open->begin_closing_idle();
    BOOST_TEST(told);
    BOOST_TEST(connection_guard{open}.close_idle().stop_requested());
}

BOOST_AUTO_TEST_CASE(a_guard_may_outlive_everybody_else)
{
    auto open = std::make_shared<open_connections>();
    std::weak_ptr<open_connections> const seen = open;
    connection_guard last{std::move(open)};
    BOOST_TEST(!seen.expired());
    BOOST_TEST(!last.draining());
    last.reset();
    BOOST_TEST(seen.expired());
}

BOOST_AUTO_TEST_CASE(guards_of_many_threads_end_in_one_call)
{
    for (int round = 0; round != 200; ++round) {
        auto const open = std::make_shared<open_connections>();
        std::atomic<int> calls{0};
        std::vector<connection_guard> guards;
        for (int i = 0; i != 4; ++i)
            guards.emplace_back(open);
        open->watch([&] { ++calls; });
        std::vector<std::jthread> threads;
        for (auto& guard : guards)
            threads.emplace_back([held = std::move(guard)]() mutable { held.reset(); });
        threads.clear();
        BOOST_REQUIRE(calls == 1);
        BOOST_REQUIRE(open->count() == 0U);
    }
}

BOOST_AUTO_TEST_CASE(no_drain_that_looks_after_watching_misses_the_last_guard)
{
    for (int round = 0; round != 500; ++round) {
        auto const open = std::make_shared<open_connections>();
        std::atomic<int> calls{0};
        std::jthread thread{[held = connection_guard{open}]() mutable { held.reset(); }};
        open->watch([&] { ++calls; });
        bool const empty = open->count() == 0;
        thread.join();
        BOOST_REQUIRE((empty || calls == 1));
    }
}

BOOST_AUTO_TEST_CASE(after_unwatch_on_empty_is_not_called_any_more)
{
    auto const open = std::make_shared<open_connections>();
    std::atomic<bool> done{false};
    std::vector<std::jthread> threads;
    for (int i = 0; i != 3; ++i)
        threads.emplace_back([&] {
            while (!done)
                connection_guard{open}.reset();
        });
    for (int round = 0; round != 1000; ++round) {
        // Not atomic: a call after unwatch() would be a race, and after the block a use of what is gone.
        auto calls = std::make_unique<int>(0);
        open->watch([&] { ++*calls; });
        open->unwatch();
        *calls = -1;
    }
    done = true;
}
