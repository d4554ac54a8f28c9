// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/signal_set.hpp>

#define BOOST_TEST_MODULE os_signal_set
#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <array>
#include <vector>

namespace os = ecdysis::os;

BOOST_AUTO_TEST_CASE(bits_are_those_of_the_kernel)
{
    ecdysis::error_code ec;
    os::signal_set const set{std::array{SIGHUP, SIGUSR2, 64}, ec};
    BOOST_TEST(!ec);
    BOOST_TEST(set.bits() == 0x8000'0000'0000'0801U);
    BOOST_TEST(set.has(SIGUSR2));
    BOOST_TEST(!set.has(SIGUSR1));
    BOOST_TEST((os::signal_set{set.bits()}.signals() == std::vector{SIGHUP, SIGUSR2, 64}));
    BOOST_TEST(os::signal_set{}.signals().empty());
    BOOST_TEST(!os::signal_set::all_but(SIGSYS).has(SIGSYS));
    BOOST_TEST(os::signal_set::all_but(SIGSYS).signals().size() == 63U);
}

BOOST_AUTO_TEST_CASE(a_signal_that_does_not_exist_is_an_error)
{
    for (int const none : {-1, 0, 65, 1000}) {
        ecdysis::error_code ec;
        os::signal_set const set{std::array{SIGHUP, none}, ec};
        BOOST_TEST((ec == boost::system::errc::invalid_argument), none);
        BOOST_TEST(set.bits() == 1U);
    }
}
