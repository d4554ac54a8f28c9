// SPDX-License-Identifier: BSL-1.0
// For tests under a real systemd: SYSTEMD_TEST(name) { ... } runs once for each assembly of host.cpp that knows
// notify::systemd and each way to reload it that the manager knows, as the test case name/IO_TRANSPORT_WAY, with `built`
// and `how` naming them. Where the manager cannot run, the cases are skipped, and say why.
#pragma once

#include "harness/unit.hpp"

namespace restart {

enum class variety { all, half, io };

struct registered_unit_test
{
    using test = void (*)(assembly const&, reload_by);

    registered_unit_test(char const* called, test run, char const* file, std::size_t line, variety takes)
    {
        namespace ut = boost::unit_test;
        auto* const suite = new ut::test_suite{called, file, line};
        for (auto const* io : {"sync", "asio"})
            for (auto const* transport : {"named_pipe", "socketpair"})
                for (auto const how : {reload_by::control, reload_by::signal}) {
                    assembly const one{io, "systemd", transport};
                    if (takes != variety::all && one.is_sync() != (one.transport == "named_pipe"))
                        continue;
                    if (takes == variety::io && how != reload_by::control)
                        continue;
                    auto* const single = new ut::test_case{std::string{io} + "_" + transport + "_" + name(how), file, line,
                                                           [run, one, how] { run(one, how); }};
                    single->add_precondition([how](ut::test_unit_id) { return can_run(how); });
                    suite->add(single);
                }
        ut::framework::current_auto_test_suite().add(suite);
    }

    [[nodiscard]] static boost::test_tools::assertion_result can_run(reload_by how)
    {
        boost::test_tools::assertion_result result{true};
        if (how == reload_by::signal && real_manager::version() < 253) {
            result = false;
            result.message() << "Type=notify-reload is new in systemd 253";
        } else if (auto const& why = real_manager::instance().skipped(); !why.empty()) {
            result = false;
            result.message() << why;
        }
        return result;
    }
};

} // namespace restart

#define SYSTEMD_TEST(name) SYSTEMD_TEST_(name, all)
#define SYSTEMD_TEST_OF_HALF(name) SYSTEMD_TEST_(name, half)
#define SYSTEMD_TEST_OF_IO(name) SYSTEMD_TEST_(name, io)
#define SYSTEMD_TEST_(name, takes)                                                                                     \
    static void name(restart::assembly const& built, restart::reload_by how);                                          \
    static restart::registered_unit_test const registered_##name{#name, name, __FILE__, __LINE__,                      \
                                                                  restart::variety::takes};                            \
    static void name(restart::assembly const& built, restart::reload_by how)
