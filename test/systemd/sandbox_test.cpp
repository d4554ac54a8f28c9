// SPDX-License-Identifier: BSL-1.0
// The units of example/systemd with the drop-in that example/allowlist.cpp prints: what is not in it ends the service.
#define BOOST_TEST_MODULE systemd_sandbox
#include "harness/example.hpp"

#include <ecdysis/os/process.hpp>

#include <signal.h>

#include <string>
#include <string_view>

using namespace restart;

namespace {

std::string printed()
{
    auto const result = example::manager().run("'" + fs::absolute(real_manager::argument(1)).string() + "/allowlist' --systemd");
    BOOST_REQUIRE_MESSAGE(result.ok(), result.output);
    return result.output;
}

std::string printed_without(std::string const& call)
{
    auto result = printed();
    auto const at = result.rfind(" " + call + " ");
    BOOST_REQUIRE_MESSAGE(at != result.npos, call << " is not in it: " << result);
    return result.erase(at, call.size() + 1);
}

void check_is_in_the_sandbox(::pid_t pid)
{
    auto const status = text_of("/proc/" + std::to_string(pid) + "/status");
    BOOST_TEST(status.find("\nSeccomp:\t2\n") != status.npos, status);
}

void check_life_in_the_sandbox(example const& one, std::string const& type = "service")
{
    one.check_verified();
    one.start(type);
    check_is_in_the_sandbox(one.check_serves(0));
    one.check_reloads();
    {
        connection const idle{one.address()}; // which the old generation closes
        held_request held{one.address()};
        BOOST_TEST(one.systemctl("reload").ok());
        BOOST_TEST(one.answer_of(3).generation == 3U);
        BOOST_TEST(held.finish().generation == 2U);
        check_is_in_the_sandbox(one.check_serves(3));
    }
    one.check_no_advice();
    one.check_nothing_was_said();
    one.check_stops();
}

} // namespace

EXAMPLE_TEST(notify, reload_by::control)
{
    check_life_in_the_sandbox(example{"http-notify", printed()});
}

EXAMPLE_TEST(notify_reload, reload_by::signal)
{
    check_life_in_the_sandbox(example{"http-notify-reload", printed()});
}

EXAMPLE_TEST(activated, reload_by::control)
{
    check_life_in_the_sandbox(example{"http-activated", printed()}, "socket");
}

EXAMPLE_TEST(stored, reload_by::control)
{
    example const one{"http-stored", printed()};
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    check_is_in_the_sandbox(one.check_serves(1));
    BOOST_TEST(one.systemctl("kill --signal=KILL").ok());
    BOOST_TEST(wait_until([&] { return one.show("NRestarts") == "1" && one.show("ActiveState") == "active"; }));
    check_is_in_the_sandbox(one.check_serves(0));
    one.check_stops();
}

// That unit answers what its own list has not. (Its other settings here: example_test.cpp.)
EXAMPLE_TEST(hardened, reload_by::control)
{
    check_life_in_the_sandbox(example{"http-hardened", "DynamicUser=no\nBindPaths=" + unit::manager().path("") + "\n" + printed() +
                                                           "SystemCallErrorNumber=kill\n"});
}

EXAMPLE_TEST(a_program_that_fails, reload_by::control)
{
    example const one{"http-notify", printed()};
    one.start();
    auto const pid = one.check_serves(0);
    {
        programs::replaced const broken{"/bin/false"};
        BOOST_TEST(!one.systemctl("reload").ok());
    }
    BOOST_TEST(one.show("StatusText") == "upgrade failed: exit status 1");
    BOOST_TEST(get(one.address()).pid == pid);
    BOOST_TEST(one.systemctl("reload").ok());
    check_is_in_the_sandbox(one.check_serves(1));
    one.check_stops();
    one.check_nothing_was_said();
}

EXAMPLE_TEST(a_call_that_is_missing_ends_the_service, reload_by::control)
{
    example const one{"http-notify", printed_without("sendmsg") + "Restart=no\n"};
    static_cast<void>(one.systemctl("start"));
    BOOST_TEST(get(one.address()).text.empty());
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "failed"; }));
    BOOST_TEST(one.show("Result") == "signal");
    BOOST_TEST(one.show("ExecMainStatus") == std::to_string(SIGSYS));
}

// This one only a new generation makes.
EXAMPLE_TEST(a_call_that_is_missing_fails_the_upgrade, reload_by::control)
{
    example const one{"http-notify", printed_without("pidfd_open")};
    one.start();
    auto const pid = one.check_serves(0);
    BOOST_TEST(!one.systemctl("reload").ok());
    ecdysis::os::exit_status const killed{ecdysis::os::exit_status::kind::killed, SIGSYS};
    BOOST_TEST(one.show("StatusText") == "upgrade failed: " + killed.text());
    BOOST_TEST(get(one.address()).pid == pid);
    one.check_stops();
}
