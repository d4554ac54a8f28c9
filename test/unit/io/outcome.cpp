// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/outcome.hpp>

#define BOOST_TEST_MODULE outcome
#include <boost/test/unit_test.hpp>

#include <memory>
#include <string>

using ecdysis::errc;
using ecdysis::outcome;

BOOST_AUTO_TEST_CASE(the_first_word_counts)
{
    outcome<int> o;
    BOOST_TEST(!o.known());
    o.set({}, 1);
    o.set(errc::busy, 2);
    BOOST_TEST(o.known());
    BOOST_TEST(!o.get().ec);
    BOOST_TEST(o.get().value == 1);
}

BOOST_AUTO_TEST_CASE(a_waiter_is_called_once_when_it_is_known)
{
    outcome<int> o;
    int calls = 0;
    o.await([&] {
        ++calls;
        BOOST_TEST(o.known());
        BOOST_TEST(!o.awaited());
        BOOST_TEST((o.get().ec == errc::stopped));
    });
    BOOST_TEST(o.awaited());
    BOOST_TEST(calls == 0);
    o.set(errc::stopped);
    o.set({}, 5);
    BOOST_TEST(calls == 1);
    BOOST_TEST(o.get().value == 0);
}

BOOST_AUTO_TEST_CASE(a_waiter_that_was_forgotten_is_not_called)
{
    outcome<ecdysis::nothing> o;
    o.await([] { BOOST_ERROR("called"); });
    o.forget_waiter();
    BOOST_TEST(!o.awaited());
    o.set({});
    BOOST_TEST(o.known());
}

BOOST_AUTO_TEST_CASE(it_can_be_cleared_and_known_again_also_by_its_waiter)
{
    outcome<int> o;
    o.await([&] { o.clear(); });
    o.set({}, 1);
    BOOST_TEST(!o.known());
    o.set(errc::busy, 2);
    BOOST_TEST(o.get().value == 2);
    BOOST_TEST((o.get().ec == errc::busy));
}

BOOST_AUTO_TEST_CASE(a_waiter_and_what_it_holds_go_after_the_call)
{
    outcome<int> o;
    auto const held = std::make_shared<int>(0);
    o.await([held] {});
    BOOST_TEST(held.use_count() == 2);
    o.set({}, 1);
    BOOST_TEST(held.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(a_sentence_comes_with_the_error_it_explains)
{
    outcome<int> o;
    o.set(errc::busy, {}, "upgrade");
    BOOST_TEST(o.get().tried == "upgrade");
    o.clear();
    o.set({}, 1);
    BOOST_TEST(o.get().tried.empty());
}

BOOST_AUTO_TEST_CASE(what_the_code_says_is_not_said_twice)
{
    ecdysis::error_code const ec = errc::busy;
    ecdysis::error const thrown{ec, "upgrade"};
    BOOST_TEST(ecdysis::tried(thrown.what(), ec) == "upgrade");
    BOOST_TEST(ecdysis::tried(thrown.what() + (": " + ec.message()), ec) == "upgrade");
    BOOST_TEST(ecdysis::tried("upgrade", ec) == "upgrade");
    BOOST_TEST(ecdysis::tried("", ec) == "");
    BOOST_TEST(ecdysis::tried(thrown.what(), errc::stopped) == thrown.what());
}
