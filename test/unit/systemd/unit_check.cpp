// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/systemd/unit_check.hpp>

#define BOOST_TEST_MODULE systemd_unit_check
#include <boost/test/unit_test.hpp>

#include "place.hpp"

#include <unistd.h>

#include <string>
#include <vector>

namespace systemd = ecdysis::systemd;
using systemd::advice;
using systemd::unit_facts;
using systemd::unit_settings;

namespace {

/// A right unit: Type=notify, nothing else said.
unit_facts right()
{
    return {.executed = true,
            .notify_socket = true,
            .unit = "http.service",
            .settings = unit_settings{.type = "notify"}};
}

/// The one sentence.
std::string only(unit_facts const& facts, systemd::unit_needs const& needs = {})
{
    auto const all = advice(facts, needs);
    BOOST_TEST(all.size() == 1U);
    return all.empty() ? std::string{} : all.front();
}

bool has(std::string const& text, std::string_view words)
{
    BOOST_TEST(text.find(words) != text.npos, "\"" << words << "\" is not in: " << text);
    return true;
}

} // namespace

BOOST_AUTO_TEST_CASE(nothing_about_a_right_unit)
{
    BOOST_TEST(advice(right(), {}).empty());
    auto one = right();
    one.settings->type = "notify-reload";
    one.settings->store_max = 8;
    one.waits = true;
    BOOST_TEST(advice(one, {.store = true, .watchdog = true}).empty());
    one.settings->type = "simple"; // with NotifyAccess=main, as NOTIFY_SOCKET says
    one.settings->store_max = 0;
    one.keeps = true;
    BOOST_TEST(advice(one, {.store = true, .watchdog = true}).empty());
}

BOOST_AUTO_TEST_CASE(nothing_where_systemd_did_not_execute_it)
{
    BOOST_TEST(advice({}, {.store = true, .watchdog = true}).empty());
    BOOST_TEST(advice({.waits = true, .settings = unit_settings{.kill_mode = "none"}}, {}).empty());
}

BOOST_AUTO_TEST_CASE(nothing_about_what_is_not_known)
{
    auto one = right();
    one.unit.clear();
    one.settings.reset();
    BOOST_TEST(advice(one, {.store = true}).empty());
}

BOOST_AUTO_TEST_CASE(no_socket)
{
    auto one = right();
    one.notify_socket = false;
    one.settings->type = "exec";
    auto const text = only(one);
    has(text, "NOTIFY_SOCKET is not set");
    has(text, "and ends the new one with it; write Type=notify-reload (systemd 253) or Type=notify in [Service] of http.service");
    one.settings->type = "notify-reload";
    has(only(one), "is ignored by systemd before 253, write Type=notify");
    one.settings->type = "notify";
    has(only(one), "let no UnsetEnvironment= and no wrapper take the variable out");
    one.settings->exit_type = "cgroup";
    BOOST_TEST(advice(one, {}).empty());
    one.settings.reset();
    one.unit.clear();
    has(only(one), "(or loses sight of it, with KillMode=process); write Type=");
    has(only(one), "of the unit");
}

BOOST_AUTO_TEST_CASE(no_socket_and_another_kill_mode)
{
    auto one = right();
    one.notify_socket = false;
    for (auto const* mode : {"process", "none"}) {
        one.settings->kill_mode = mode;
        auto const both = advice(one, {});
        BOOST_TEST_REQUIRE(both.size() == 2U);
        has(both[0], "loses sight of the new one: the unit is inactive, and a stop ends nothing; ");
        has(both[1], "KillMode=" + std::string{mode} + ": a stop ");
    }
}

BOOST_AUTO_TEST_CASE(kill_modes)
{
    auto one = right();
    for (auto const& [mode, words] : {std::pair{"process", "a generation that still drains goes on, outside the unit"},
                                      std::pair{"none", "a stop ends no generation"},
                                      std::pair{"mixed", "killed as soon as that has ended"}}) {
        one.settings->kill_mode = mode;
        auto const text = only(one);
        BOOST_TEST(text.starts_with("KillMode=" + std::string{mode} + ": a stop "), text);
        has(text, words);
        has(text, "; take it out of http.service, the default is control-group");
    }
}

BOOST_AUTO_TEST_CASE(no_store)
{
    has(only(right(), {.store = true}), "http.service lets systemd keep none");
    has(only(right(), {.store = true}), "write FileDescriptorStoreMax= in [Service]");
}

BOOST_AUTO_TEST_CASE(watchdogs)
{
    has(only(right(), {.watchdog = true}), "write WatchdogSec= in [Service] of http.service");
    auto one = right();
    one.waits = true;
    has(only(one), "if the host does not send WATCHDOG=1 by itself, the service is killed for its silence");
}

BOOST_AUTO_TEST_CASE(facts_of_a_process_that_systemd_did_not_execute)
{
    variable const pid{"SYSTEMD_EXEC_PID", std::to_string(::getppid())}, socket{"NOTIFY_SOCKET", "/nowhere"};
    auto const facts = systemd::find_unit_facts();
    BOOST_TEST(!facts.executed);
    BOOST_TEST((facts.wrapper == ecdysis::os::process_id{::getppid()}));
    has(only(facts), "let the wrapper start this program by exec"); // of the unit it knows nothing
    variable const nobody{"NOTIFY_SOCKET", std::nullopt}; // a shell that systemd has started
    BOOST_TEST(advice(systemd::find_unit_facts(), {.store = true}).empty());
}

BOOST_AUTO_TEST_CASE(facts_of_the_environment)
{
    variable const pid{"SYSTEMD_EXEC_PID", std::to_string(::getpid())};
    for (bool const set : {false, true}) {
        auto const value = set ? std::optional<std::string>{"7"} : std::nullopt;
        variable const socket{"NOTIFY_SOCKET", value}, store{"FDSTORE", value}, watchdog{"WATCHDOG_USEC", value};
        auto const facts = systemd::find_unit_facts();
        BOOST_TEST(facts.executed);
        BOOST_TEST(facts.notify_socket == set);
        BOOST_TEST(facts.keeps == set);
        BOOST_TEST(facts.waits == set);
    }
    variable const empty{"NOTIFY_SOCKET", ""};
    BOOST_TEST(!systemd::find_unit_facts().notify_socket);
}

// From this process's own control group to the unit's file, where that group is a service's.
BOOST_AUTO_TEST_CASE(facts_of_the_files)
{
    ecdysis::error_code ec;
    auto const unit = systemd::unit_of(systemd::read_file("/proc/self/cgroup", 65536, ec));
    directory const place;
    if (!unit.empty())
        place.write(unit, "[Service]\nKillMode=mixed\n");
    variable const pid{"SYSTEMD_EXEC_PID", std::to_string(::getpid())}, path{"SYSTEMD_UNIT_PATH", place.path()};
    auto const facts = systemd::find_unit_facts();
    BOOST_TEST(facts.unit == unit);
    BOOST_TEST(facts.settings.has_value() == !unit.empty());
    if (facts.settings)
        BOOST_TEST(facts.settings->kill_mode == "mixed");
}
