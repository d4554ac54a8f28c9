// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/eventfd.hpp>

#define BOOST_TEST_MODULE os_eventfd
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>

namespace os = ecdysis::os;

BOOST_AUTO_TEST_CASE(it_is_readable_from_notify_until_clear)
{
    ecdysis::error_code ec;
    os::eventfd const event{ec};
    BOOST_REQUIRE(!ec);
    auto const readable = [&] {
        ::pollfd entry{event.fd().get(), POLLIN, 0};
        return ::poll(&entry, 1, 0) == 1;
    };
    BOOST_TEST(!readable());
    event.clear(); // does not wait
    event.notify();
    event.notify();
    BOOST_TEST(readable());
    BOOST_TEST(readable());
    event.clear();
    BOOST_TEST(!readable());
    BOOST_TEST((::fcntl(event.fd().get(), F_GETFD) & FD_CLOEXEC) != 0);
}

BOOST_AUTO_TEST_CASE(a_signal_handler_that_notifies_leaves_errno_alone)
{
    errno = EXDEV;
    os::eventfd::notify(-1);
    BOOST_TEST(errno == EXDEV);
}
