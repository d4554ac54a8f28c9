// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/fd.hpp>

#define BOOST_TEST_MODULE os_fd
#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <type_traits>
#include <utility>

namespace os = ecdysis::os;

static_assert(!std::is_copy_constructible_v<os::owned_fd>);
static_assert(std::is_nothrow_move_constructible_v<os::owned_fd>);
static_assert(!std::is_convertible_v<int, os::owned_fd>);
static_assert(!std::is_convertible_v<int, os::borrowed_fd>);

namespace {

os::owned_fd any() { return os::owned_fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}; }
bool is_open(int number) { return ::fcntl(number, F_GETFD) != -1; }

} // namespace

BOOST_AUTO_TEST_CASE(the_last_owner_closes)
{
    int number = -1;
    {
        auto first = any();
        number = first.get();
        os::owned_fd const second{std::move(first)};
        BOOST_TEST(!first);
        BOOST_TEST(second.get() == number);
        BOOST_TEST(is_open(number));
    }
    BOOST_TEST(!is_open(number));
}

BOOST_AUTO_TEST_CASE(assignment_closes_what_was_there_and_survives_itself)
{
    auto first = any();
    auto second = any();
    int const old = first.get();
    int const kept = second.get();
    first = std::move(second);
    BOOST_TEST(!is_open(old));
    BOOST_TEST(first.get() == kept);
    auto& self = first;
    first = std::move(self);
    BOOST_TEST(is_open(kept));
    first.reset();
    first.reset();
    BOOST_TEST(!is_open(kept));
}

BOOST_AUTO_TEST_CASE(what_is_released_or_borrowed_stays_open)
{
    auto owner = any();
    os::borrowed_fd const borrowed = owner;
    int const number = owner.release();
    BOOST_TEST(!owner);
    BOOST_TEST(borrowed.get() == number);
    BOOST_TEST(is_open(number));
    os::owned_fd{number}.reset();
    BOOST_TEST(!os::borrowed_fd{});
    BOOST_TEST(!os::owned_fd{});
}
