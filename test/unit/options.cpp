// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/options.hpp>

#define BOOST_TEST_MODULE options
#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <type_traits>

static_assert(std::is_aggregate_v<ecdysis::options>);

BOOST_AUTO_TEST_CASE(a_host_names_only_what_it_wants)
{
    ecdysis::options const chosen{.upgrade_on = {SIGHUP}, .control = {.stop = "@stop"}, .observer = [](auto const&) {}};
    BOOST_TEST(chosen.upgrade_on.size() == 1U);
    BOOST_TEST(chosen.stop_on.empty());
    BOOST_TEST(chosen.control.stop == "@stop");
    BOOST_TEST(chosen.control.upgrade.empty());
    BOOST_TEST(chosen.pid_file.empty());
    BOOST_TEST(!chosen.channel);
    BOOST_TEST(bool{chosen.observer});
    BOOST_TEST((chosen.ready_timeout > chosen.barrier_timeout));
}
