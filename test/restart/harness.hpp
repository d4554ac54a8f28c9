// SPDX-License-Identifier: BSL-1.0
// For tests with real processes: RESTART_TEST(name) { ... } runs once for each assembly of host.cpp, as the test case
// name/IO_NOTIFY_TRANSPORT, with `built` naming the assembly. RESTART_TEST_AS_ROOT is one that only root can run; for
// others it is among the skipped ones, with the reason.
#pragma once

#include "harness/service.hpp"

namespace restart {

inline boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{::geteuid() == 0};
    result.message() << "only root can run it";
    return result;
}

struct registered
{
    registered(char const* name, void (*test)(assembly const&), char const* file, std::size_t line, bool as_root)
    {
        namespace ut = boost::unit_test;
        auto* const suite = new ut::test_suite{name, file, line};
        for (auto const* io : {"sync", "asio"})
            for (auto const* notify : {"none", "systemd"})
                for (auto const* transport : {"named_pipe", "socketpair"}) {
                    assembly const one{io, notify, transport};
                    suite->add(new ut::test_case{one.name(), file, line, [test, one] { test(one); }});
                }
        if (as_root)
            suite->add_precondition(is_root);
        ut::framework::current_auto_test_suite().add(suite);
    }
};

} // namespace restart

#define RESTART_TEST(name) RESTART_TEST_(name, false)
#define RESTART_TEST_AS_ROOT(name) RESTART_TEST_(name, true)
#define RESTART_TEST_(name, as_root)                                                                                   \
    static void name(restart::assembly const& built);                                                                  \
    static restart::registered const registered_##name{#name, name, __FILE__, __LINE__, as_root};                      \
    static void name(restart::assembly const& built)
