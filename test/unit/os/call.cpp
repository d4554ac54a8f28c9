// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/call.hpp>

#define BOOST_TEST_MODULE os_call
#include <boost/test/unit_test.hpp>

namespace os = ecdysis::os;

BOOST_AUTO_TEST_CASE(an_interrupted_call_is_made_again)
{
    int calls = 0;
    ecdysis::error_code ec = ecdysis::errc::busy;
    BOOST_TEST(os::call(ec, [&] {
                   errno = EINTR;
                   return ++calls < 3 ? -1 : 7;
               }) == 7);
    BOOST_TEST(calls == 3);
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(an_error_is_its_errno)
{
    int calls = 0;
    ecdysis::error_code ec;
    BOOST_TEST(os::call(ec, [&] {
                   ++calls;
                   errno = EAGAIN;
                   return -1L;
               }) == -1L);
    BOOST_TEST(calls == 1);
    BOOST_TEST((ec == boost::system::errc::resource_unavailable_try_again));
    BOOST_TEST((ec.category() == boost::system::system_category()));
}
