// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/options.hpp>

#define BOOST_TEST_MODULE options
#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <chrono>
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

BOOST_AUTO_TEST_CASE(what_a_host_does_not_name_is_as_the_manual_says)
{
    using namespace std::chrono_literals;
    ecdysis::options const defaults;
    BOOST_TEST((defaults.handoff_timeout == 10s));
    BOOST_TEST((defaults.ready_timeout == 60s));
    BOOST_TEST((defaults.barrier_timeout == 5s));
    BOOST_TEST((defaults.serving_timeout == 10s));
    BOOST_TEST((defaults.probation == 0s));
    BOOST_TEST((defaults.kill_grace == 5s));
    BOOST_TEST((defaults.drain_timeout == 60s));
    BOOST_TEST((defaults.signal_interval == 100ms));
    BOOST_TEST((defaults.idle_grace == 1s));
    BOOST_TEST(defaults.upgrade_on.empty());
    BOOST_TEST(defaults.stop_on.empty());
    BOOST_TEST(defaults.partial_stop_on.empty());
    BOOST_TEST(defaults.program.empty());
    BOOST_TEST(defaults.arguments.empty());
    BOOST_TEST(!defaults.observer);
}
