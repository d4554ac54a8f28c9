// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/notify/none.hpp>

#define BOOST_TEST_MODULE notify_none
#include <boost/test/unit_test.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <type_traits>
#include <utility>

namespace notify = ecdysis::notify;

static_assert(notify::Policy<notify::none>);
static_assert(std::is_empty_v<notify::none>);
static_assert(!notify::none::supervised());
static_assert(!notify::none::stores());
static_assert(noexcept(std::declval<notify::none const&>().check(std::declval<ecdysis::error_code&>())));
static_assert(noexcept(std::declval<notify::none&>().send({}, std::declval<ecdysis::error_code&>())));
static_assert(noexcept(std::declval<notify::none&>().barrier(std::declval<ecdysis::error_code&>())));

BOOST_AUTO_TEST_CASE(every_call_succeeds_and_does_nothing)
{
    notify::none none;
    ecdysis::error_code ec = ecdysis::errc::busy;
    none.check(ec);
    BOOST_TEST(!ec);

    ec = ecdysis::errc::busy;
    none.send({.what = notify::step::kind::handing_over}, ec);
    BOOST_TEST(!ec);

    ec = ecdysis::errc::busy;
    BOOST_TEST(!none.barrier(ec));
    BOOST_TEST(!ec);
    BOOST_TEST(!none.supervised());
}

BOOST_AUTO_TEST_CASE(advises_to_tell_systemd_where_that_executed_this_process)
{
    ::unsetenv("SYSTEMD_EXEC_PID");
    BOOST_TEST(notify::none::advice().empty());
    ::setenv("SYSTEMD_EXEC_PID", std::to_string(::getppid()).c_str(), 1);
    BOOST_TEST(notify::none::advice().empty());
    ::setenv("SYSTEMD_EXEC_PID", std::to_string(::getpid()).c_str(), 1);
    auto const advice = notify::none::advice();
    BOOST_TEST_REQUIRE(advice.size() == 1U);
    BOOST_TEST(advice[0].find("use notify::systemd") != advice[0].npos, advice[0]);
    ::unsetenv("SYSTEMD_EXEC_PID");
}
