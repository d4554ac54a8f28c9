// SPDX-License-Identifier: BSL-1.0
// For tests with real processes: RESTART_TEST(name) { ... } runs once for each assembly of host.cpp, as the test case
// name/IO_NOTIFY_TRANSPORT, with `built` naming the assembly.
#pragma once

#include "harness/service.hpp"

namespace restart {

struct registered
{
    registered(char const* name, void (*test)(assembly const&), char const* file, std::size_t line)
    {
        namespace ut = boost::unit_test;
        auto* const suite = new ut::test_suite{name, file, line};
        for (auto const* io : {"sync", "asio"})
            for (auto const* notify : {"none", "systemd"})
                for (auto const* transport : {"named_pipe", "socketpair"}) {
                    assembly const one{io, notify, transport};
                    suite->add(new ut::test_case{one.name(), file, line, [test, one] { test(one); }});
                }
        ut::framework::current_auto_test_suite().add(suite);
    }
};

} // namespace restart

#define RESTART_TEST(name)                                                                                            \
    static void name(restart::assembly const& built);                                                                  \
    static restart::registered const registered_##name{#name, name, __FILE__, __LINE__};                               \
    static void name(restart::assembly const& built)
