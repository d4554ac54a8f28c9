// SPDX-License-Identifier: BSL-1.0
// The integration scenarios of the Rust crate of the same name: reloads that are counted, full and partial stops, each by
// its signal and by its socket, and a Unix socket that systemd listens on.
#define BOOST_TEST_MODULE systemd_scenario
#include "harness.hpp"

using namespace restart;

namespace {

/// All triggers that there are, and a second listener, which a partial stop leaves open.
unit_wish whole()
{
    return {.arguments = {"--control-stop DIRECTORY/stop", "--control-partial DIRECTORY/partial",
                          "--partial-stop-on " + std::to_string(SIGUSR1), "--listen stay:127.0.0.1:0"}};
}

ecdysis::address listener(unit const& one, std::size_t index)
{
    auto const text = one.steps("listening").at(index).text;
    return ecdysis::address{text.substr(text.rfind(' ') + 1)};
}

/// A listener goes when the last accept() in flight has left it.
bool refuses(ecdysis::address const& where)
{
    return wait_until([&] { return connection{where}.state() == result::refused; });
}

std::string ask_socket(std::string const& where)
{
    connection asker{ecdysis::address{where}};
    return asker.receive().value_or("no answer");
}

bool send_signal(unit const& one, int number)
{
    return one.systemctl("kill", "--kill-whom=main --signal=" + std::to_string(number)).ok();
}

/// The reload count is what each answer says: one more each time, from the process that systemd shows.
template <class F>
void check_reload_count(unit const& one, F reload)
{
    one.start();
    prober load{one.address()};
    for (unsigned count = 0; count != 4; ++count) {
        if (count != 0) {
            reload(count);
            one.wait_for("drained", count);
        }
        BOOST_TEST(load.go_on());
        auto const status = "generation " + std::to_string(count) + " serving";
        BOOST_TEST(wait_until([&] { return one.show("StatusText") == status; }));
        one.check_serves(count, status);
    }
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST((counts.generations == std::set<unsigned>{0, 1, 2, 3}));
}

/// An open connection is finished, new ones are refused, and it ends well. `stop` gives whether it was told so.
template <class F>
void check_full_stop(unit const& one, F stop)
{
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("drained");
    connection open{listener(one, 0)};
    BOOST_TEST(open.ask().has_value());
    auto stopped = std::async(std::launch::async, stop);
    one.wait_for("draining", 2);
    BOOST_TEST(refuses(listener(one, 0)));
    BOOST_TEST(open.ask().value_or(reply{""}).last);
    BOOST_TEST(stopped.get());
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "inactive"; }));
    one.check_stopped_well();
}

/// The listeners end but for one, the service goes on for who has a connection, and systemd sees no difference until it ends.
template <class F>
void check_partial_stop(unit const& one, F stop)
{
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("drained");
    auto const pid = one.check_serves(1, "generation 1 serving");
    connection open{listener(one, 0)};
    BOOST_TEST(open.ask().has_value());
    stop();
    one.wait_for("draining", 2);
    BOOST_TEST(refuses(listener(one, 0)));
    BOOST_TEST(connection{listener(one, 1)}.ask().value_or(reply{""}).pid == pid);
    auto const shown = one.show();
    BOOST_TEST(shown.at("ActiveState") == "active");
    BOOST_TEST(shown.at("MainPID") == std::to_string(pid));
    BOOST_TEST(shown.at("StatusText") == "generation 1 serving");
    BOOST_TEST(open.ask().value_or(reply{""}).last);
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "inactive"; }));
    one.check_stopped_well();
}

} // namespace

SYSTEMD_TEST_OF_HALF(reload_count_by_signal)
{
    unit one{built, how};
    check_reload_count(one, [&](unsigned count) {
        BOOST_TEST(send_signal(one, SIGHUP));
        BOOST_TEST(one.wait_for("serving", count + 1).generation == count);
    });
}

SYSTEMD_TEST_OF_HALF(reload_count_by_socket)
{
    unit one{built, how};
    check_reload_count(one, [&](unsigned count) {
        auto const line = ask_socket(one.path("control"));
        auto const pid = one.wait_for("serving", count + 1).pid;
        BOOST_TEST(line.starts_with("ok generation=" + std::to_string(count) + " pid=" + std::to_string(pid) + " "), line);
    });
}

SYSTEMD_TEST_OF_HALF(full_stop_by_signal)
{
    unit one{built, how};
    check_full_stop(one, [&] { return send_signal(one, SIGTERM); });
}

SYSTEMD_TEST_OF_HALF(full_stop_by_socket)
{
    unit one{built, how, whole()};
    check_full_stop(one, [&] { return ask_socket(one.path("stop")) == "ok exit=stopped connections=0"; });
}

SYSTEMD_TEST_OF_HALF(partial_stop_by_signal)
{
    unit one{built, how, whole()};
    check_partial_stop(one, [&] { BOOST_TEST(send_signal(one, SIGUSR1)); });
}

SYSTEMD_TEST_OF_HALF(partial_stop_by_socket)
{
    unit one{built, how, whole()};
    check_partial_stop(one, [&] {
        // One that the client has closed may still be open here.
        auto const line = ask_socket(one.path("partial"));
        BOOST_TEST(line.starts_with("ok exit=partially-stopped connections="), line);
    });
}

// The first connection starts it; the socket is systemd's before, meanwhile and afterwards.
SYSTEMD_TEST_OF_HALF(activated_unix_socket)
{
    unit one{built, how,
             {.arguments = {"--listen name=web:unix:DIRECTORY/web"},
              .sockets = {"ListenStream=DIRECTORY/web\nFileDescriptorName=web"}}};
    one.start_sockets();
    ecdysis::address const web{one.path("web")};
    BOOST_TEST(one.processes().empty());
    prober load{web};
    for (unsigned count = 0; count != 4; ++count) {
        if (count != 0) {
            BOOST_TEST(one.systemctl("reload").ok());
            one.wait_for("drained", count);
        }
        BOOST_TEST(load.go_on());
        auto const answer = connection{web}.ask();
        BOOST_REQUIRE(answer.has_value());
        BOOST_TEST(answer->generation == count);
        BOOST_TEST(one.main_pid() == answer->pid);
    }
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    BOOST_TEST((counts.generations == std::set<unsigned>{0, 1, 2, 3}));
    BOOST_TEST(one.steps("unclaimed").empty());
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
    BOOST_TEST(connection{web}.ask().value_or(reply{"1"}).generation == 0U); // starts it anew
    BOOST_TEST(one.steps("serving").size() == 5U);
    one.stop_sockets();
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
    BOOST_TEST(refuses(web));
}
