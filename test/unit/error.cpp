// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/error.hpp>

#define BOOST_TEST_MODULE error
#include <boost/system/errc.hpp>
#include <boost/test/unit_test.hpp>

#include <set>
#include <string>

using ecdysis::condition;
using ecdysis::errc;
using ecdysis::error_code;

BOOST_AUTO_TEST_CASE(every_value_has_words_of_its_own)
{
    std::set<std::string> seen;
    for (int value = 1; value <= static_cast<int>(errc::manager_timeout); ++value) {
        error_code const ec = static_cast<errc>(value);
        BOOST_TEST_CONTEXT("errc " << value)
        {
            BOOST_TEST(!ec.message().empty());
            BOOST_TEST(ec.message() != "unknown error");
            BOOST_TEST(seen.insert(ec.message()).second);
            BOOST_TEST(ec.failed());
        }
    }
    BOOST_TEST(ecdysis::category().message(0) == "unknown error");
    BOOST_TEST(ecdysis::category().message(static_cast<int>(errc::spawner_silent) + 1) == "unknown error");
    BOOST_TEST(ecdysis::category().name() == "ecdysis");
}

BOOST_AUTO_TEST_CASE(conditions_group_what_a_caller_tests_together)
{
    for (auto const value : {errc::stale_handoff, errc::wrong_parent, errc::descriptor_mismatch, errc::parent_gone})
        BOOST_TEST((error_code{value} == condition::bad_handoff));
    for (auto const value : {errc::child_failed, errc::ready_timeout, errc::program_unknown, errc::descriptor_limit,
                             errc::state_failed, errc::spawner_gone, errc::spawner_silent, errc::spawner_program})
        BOOST_TEST((error_code{value} == condition::upgrade_failed));
    for (auto const value : {errc::busy, errc::not_serving, errc::already_waiting})
        BOOST_TEST((error_code{value} == condition::retryable));

    BOOST_TEST((error_code{errc::busy} != condition::bad_handoff));
    BOOST_TEST((error_code{errc::busy} != condition::upgrade_failed));
    BOOST_TEST((error_code{errc::stale_handoff} != condition::retryable));
    BOOST_TEST((error_code{} != condition::retryable));
    for (int value = 1; value <= 3; ++value)
        BOOST_TEST(ecdysis::condition_category().message(value) != "unknown condition");
    BOOST_TEST(ecdysis::condition_category().message(4) == "unknown condition");
}

BOOST_AUTO_TEST_CASE(the_same_number_in_another_category_is_another_error)
{
    auto const number = static_cast<int>(errc::busy);
    error_code const of_the_system{number, boost::system::system_category()};
    BOOST_TEST((of_the_system != error_code{errc::busy}));
    BOOST_TEST((of_the_system != condition::retryable));
    BOOST_TEST((error_code{errc::address_in_use} != boost::system::errc::address_in_use));
    BOOST_TEST((error_code{EADDRINUSE, boost::system::system_category()} == boost::system::errc::address_in_use));
}

BOOST_AUTO_TEST_CASE(what_is_thrown_says_what_was_tried_and_what_came_back)
{
    ecdysis::error const e{errc::busy, "upgrade"};
    BOOST_TEST(std::string{e.what()}.starts_with("upgrade: an upgrade is under way already"));
    BOOST_TEST((e.code() == errc::busy));
}
