// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/raw_call.hpp>

#define BOOST_TEST_MODULE os_raw_call
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

using ecdysis::os::raw_call;

BOOST_AUTO_TEST_CASE(gives_what_the_call_gives)
{
    BOOST_TEST(raw_call(SYS_getppid, 0) == ::getppid());
    long const file = raw_call(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/dev/zero"), O_RDONLY | O_CLOEXEC, 0);
    BOOST_TEST_REQUIRE(file >= 0);
    char bytes[8];
    std::memset(bytes, 'x', sizeof bytes);
    BOOST_TEST(raw_call(SYS_read, file, reinterpret_cast<long>(bytes), 4) == 4);
    BOOST_TEST(std::memcmp(bytes, "\0\0\0\0xxxx", sizeof bytes) == 0);
    BOOST_TEST(raw_call(SYS_close, file) == 0);
    unsigned long mask = 0; // the fourth argument counts: the size of a set
    BOOST_TEST(raw_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, reinterpret_cast<long>(&mask), sizeof mask) == 0);
    BOOST_TEST(raw_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, reinterpret_cast<long>(&mask), sizeof mask - 1) == -EINVAL);
}

BOOST_AUTO_TEST_CASE(gives_an_error_and_leaves_errno)
{
    errno = 4711;
    long const closed = raw_call(SYS_close, -1);
    long const copied = raw_call(SYS_dup3, -1, 5, 0);
    int const left = errno;
    BOOST_TEST(closed == -EBADF);
    BOOST_TEST(copied == -EBADF);
    BOOST_TEST((!ecdysis::os::raw_calls_leave_errno || left == 4711));
}
