// SPDX-License-Identifier: BSL-1.0
// For tests with real processes: RESTART_TEST(name) { ... } runs once for each assembly of host.cpp, as the test case
// name/IO_NOTIFY_TRANSPORT, with `built` naming the assembly. RESTART_TEST_AS_ROOT is one that only root can run,
// RESTART_TEST_OF_OTHER_PROGRAMS one whose next generation is another program than this one, which an inherited filter
// does not allow; where they cannot run they are among the skipped ones, with the reason.
#pragma once

#include "harness/interrupted.hpp"
#include "harness/service.hpp"

namespace restart {

inline boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{::geteuid() == 0};
    result.message() << "only root can run it";
    return result;
}

inline boost::test_tools::assertion_result runs_other_programs(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{!inherits_filter()};
    result.message() << "launch::direct hands the filter on, and that is only for this program";
    return result;
}

inline boost::test_tools::assertion_result always(boost::unit_test::test_unit_id) { return true; }

struct registered
{
    using condition = boost::test_tools::assertion_result (*)(boost::unit_test::test_unit_id);

    registered(char const* name, void (*test)(assembly const&), char const* file, std::size_t line, condition can_run)
    {
        namespace ut = boost::unit_test;
        auto* const suite = new ut::test_suite{name, file, line};
        for (auto const* io : {"sync", "asio"})
            for (auto const* notify : {"none", "systemd"})
                for (auto const* transport : {"named_pipe", "socketpair"}) {
                    assembly const one{io, notify, transport};
                    suite->add(new ut::test_case{one.name(), file, line, [test, one] { test(one); }});
                }
        suite->add_precondition(can_run);
        ut::framework::current_auto_test_suite().add(suite);
    }
};

} // namespace restart

#define RESTART_TEST(name) RESTART_TEST_(name, restart::always)
#define RESTART_TEST_AS_ROOT(name) RESTART_TEST_(name, restart::is_root)
#define RESTART_TEST_OF_OTHER_PROGRAMS(name) RESTART_TEST_(name, restart::runs_other_programs)
#define RESTART_TEST_(name, can_run)                                                                                   \
    static void name(restart::assembly const& built);                                                                  \
    static restart::registered const registered_##name{#name, name, __FILE__, __LINE__, can_run};                      \
    static void name(restart::assembly const& built)
