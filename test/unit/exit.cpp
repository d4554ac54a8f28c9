// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/exit.hpp>

#define BOOST_TEST_MODULE exit
#include <boost/test/unit_test.hpp>

#include <set>
#include <string>

using namespace ecdysis;

BOOST_AUTO_TEST_CASE(each_trigger_says_what_asked)
{
    BOOST_TEST(trigger{}.text() == "call");
    BOOST_TEST((trigger{.from = trigger::source::signal, .signal = 15}.text() == "signal 15"));
    BOOST_TEST(
        (trigger{.from = trigger::source::control, .peer = os::process_id{7}}.text() == "control socket, pid 7"));
    BOOST_TEST(trigger{.from = trigger::source::handoff}.text() == "the other generation");
}

BOOST_AUTO_TEST_CASE(each_exit_says_why)
{
    BOOST_TEST(std::string{ecdysis::exit{}.text()} == "stopped");
    BOOST_TEST(!ecdysis::exit{}.upgraded());
    BOOST_TEST(ecdysis::exit{ecdysis::exit::kind::upgraded}.upgraded());
    BOOST_TEST(std::string{ecdysis::exit{ecdysis::exit::kind::upgraded}.text()} == "upgraded");
    BOOST_TEST(std::string{ecdysis::exit{ecdysis::exit::kind::partially_stopped}.text()} == "partially stopped");
}
