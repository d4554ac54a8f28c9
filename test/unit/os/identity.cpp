// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/identity.hpp>

#define BOOST_TEST_MODULE os_identity
#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <cstdint>
#include <string_view>

namespace os = ecdysis::os;

BOOST_AUTO_TEST_CASE(numbers_are_taken_off_the_front)
{
    std::string_view text = "12:034 18446744073709551615";
    BOOST_TEST(*os::take_number<std::uint64_t>(text, ':') == 12U);
    BOOST_TEST(*os::take_number<std::uint16_t>(text, ' ') == 34U);
    BOOST_TEST(*os::take_number<std::uint64_t>(text, '\0') == UINT64_MAX);
    BOOST_TEST(text.empty());
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_none)
{
    for (std::string_view const garbage : {"", ":", "-1:", "+1:", " 1:", "0x1:", "1", "1;", "65536:", "a:"}) {
        auto text = garbage;
        BOOST_TEST(!os::take_number<std::uint16_t>(text, ':').has_value(), "taken: " << garbage);
    }
    std::string_view rest = "1 ";
    BOOST_TEST(!os::take_number<std::uint16_t>(rest, '\0').has_value());
}

BOOST_AUTO_TEST_CASE(an_identity_is_read_as_it_is_written)
{
    os::identity const some{UINT64_MAX, 7};
    auto const written = some.text() + ",";
    std::string_view text = written;
    BOOST_TEST((os::take_identity(text, ',') == some));
    BOOST_TEST(text.empty());
    for (std::string_view const garbage : {"", "1", "1:", ":1", "1:2", "1:2:", "18446744073709551616:1,"}) {
        text = garbage;
        BOOST_TEST(!os::take_identity(text, ',').has_value());
    }
}

BOOST_AUTO_TEST_CASE(a_file_has_one_identity_by_whatever_number)
{
    os::owned_fd const one{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    os::owned_fd const two{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
    os::owned_fd const other{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
    ecdysis::error_code ec;
    auto const of = [&](os::borrowed_fd fd) { return os::identity_of(os::status_of(fd, ec)); };
    BOOST_TEST((of(one) == of(two)));
    BOOST_TEST((of(one) != of(other)));
    BOOST_TEST(!ec);
    (void)os::status_of(os::borrowed_fd{}, ec);
    BOOST_TEST((ec == boost::system::errc::bad_file_descriptor));
}
