// SPDX-License-Identifier: BSL-1.0
// The units of example/systemd under a user's manager.
#define BOOST_TEST_MODULE systemd_example
#include "harness/example.hpp"

using namespace restart;

EXAMPLE_TEST(notify_reload, reload_by::signal)
{
    check_whole_life(example{"http-notify-reload"});
}

EXAMPLE_TEST(notify, reload_by::control)
{
    check_whole_life(example{"http-notify"});
}

EXAMPLE_TEST(notify_and_a_program_that_fails, reload_by::control)
{
    example const one{"http-notify"};
    one.start();
    auto const pid = one.check_serves(0);
    {
        programs::replaced const broken{"/bin/false"};
        BOOST_TEST(!one.systemctl("reload").ok());
    }
    BOOST_TEST(get(one.address()).pid == pid);
    BOOST_TEST(one.show("StatusText").starts_with("upgrade failed: "));
    BOOST_TEST(one.systemctl("reload").ok());
    one.check_serves(1);
    one.check_stops();
}

EXAMPLE_TEST(activated, reload_by::control)
{
    example const one{"http-activated"};
    one.check_verified();
    one.start("socket");
    BOOST_TEST(one.show("ActiveState") == "inactive");
    one.check_serves(0);
    one.check_reloads();
    one.check_no_advice();
    one.check_stops();
    one.check_serves(0); // the socket is open still
    one.check_stops();
}

EXAMPLE_TEST(stored, reload_by::control)
{
    example const one{"http-stored"};
    check_whole_life(one);
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    one.check_serves(1);
    BOOST_TEST(one.show("NFileDescriptorStore") == "1");
    BOOST_TEST(one.systemctl("kill --signal=KILL").ok());
    BOOST_TEST(get(one.address()).generation == 0U); // waits in the listener's queue until there is a service again
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    one.check_serves(0);
    BOOST_TEST(one.show("NRestarts") == "1");
    BOOST_TEST(one.systemctl("reset-failed").ok());
    one.check_stops();
}

// The other half of the unit's own words: what if systemd would keep nothing.
EXAMPLE_TEST(stored_where_nothing_is_kept, reload_by::control)
{
    example const one{"http-stored", "FileDescriptorStoreMax=0\n"};
    one.start();
    one.check_serves(0);
    auto const text = text_of(one.manager().path("http-stored.output"));
    BOOST_TEST(text.find("http-stored.service lets systemd keep none, and they are lost when the service is killed; write "
                         "FileDescriptorStoreMax= in [Service]") != text.npos,
               text);
    one.check_stops();
}

// A user's manager refuses DynamicUser= (257) and takes all else, since it runs as root here. PrivateTmp= would hide this
// one's own directory, which is in /tmp. (As it is: system_test.cpp.)
EXAMPLE_TEST(hardened, reload_by::control)
{
    example const one{"http-hardened", "DynamicUser=no\nBindPaths=" + unit::manager().path("") + "\n"};
    one.check_verified();
    one.start();
    one.check_serves(0);
    one.check_reloads();
    one.check_no_advice();
    auto const status = text_of("/proc/" + one.show("MainPID") + "/status");
    for (auto const* line : {"\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n", "\nCapBnd:\t0000000000000000\n"})
        BOOST_TEST(status.find(line) != status.npos, status);
    one.check_stops();
}

EXAMPLE_TEST(watchdog, reload_by::control)
{
    example const one{"http-notify", "WatchdogSec=1\nExecStart=\nExecStart=/usr/local/bin/http_systemd --watchdog yes "
                                     "--listen 127.0.0.1:8080 --control %t/http-notify/upgrade.sock\n"};
    auto const is_killed = [&] { return one.show("ActiveState") != "active" || one.show("NRestarts") != "0"; };
    one.start();
    one.check_serves(0);
    BOOST_TEST(one.show("WatchdogUSec") == "1s");
    BOOST_TEST(!wait_until(is_killed, std::chrono::seconds{3}));
    one.check_reloads();
    BOOST_TEST(!wait_until(is_killed, std::chrono::seconds{3}));
    one.check_serves(2);
    one.check_nothing_was_said();
    // So long as it is fed only.
    BOOST_TEST(one.systemctl("kill --signal=STOP").ok());
    BOOST_TEST(wait_until([&] { return one.show("NRestarts") == "1" && one.show("ActiveState") == "active"; }));
    one.check_serves(0);
    one.check_stops();
}
