// SPDX-License-Identifier: BSL-1.0
// What a real systemd passes to a service: sockets of socket units, and what it kept when the whole service was killed.
#define BOOST_TEST_MODULE systemd_activation
#include "harness.hpp"

using namespace restart;

namespace {

/// An address that no other test of this machine listens on, for a socket unit cannot have port 0.
std::string own_address()
{
    auto const byte = [pid = ::getpid()](int index) { return std::to_string(pid >> 8 * index & 255); };
    return "127." + byte(2) + "." + byte(1) + "." + byte(0) + ":18080";
}

reply ask(ecdysis::address const& where)
{
    connection one{where};
    auto const got = one.ask();
    BOOST_REQUIRE_MESSAGE(got.has_value(), where.text() << " does not answer, result " << static_cast<int>(one.state()));
    return *got;
}

/// Where the last generation that listens there says that it does.
ecdysis::address place_of(unit const& one, std::string const& kind)
{
    std::string found;
    for (auto const& step : one.steps("listening"))
        if (step.text.starts_with(kind + " "))
            found = step.text.substr(kind.size() + 1);
    return ecdysis::address{found};
}

std::string last(unit const& one, std::string const& kind)
{
    auto const steps = one.steps(kind);
    BOOST_REQUIRE(!steps.empty());
    return steps.back().text;
}

/// All in its control group is killed at once, and nothing runs when this returns.
void kill_all(unit const& one)
{
    BOOST_TEST(one.systemctl("kill", "--signal=KILL").ok());
    BOOST_REQUIRE(wait_until([&] { return one.processes().empty(); }));
}

unit_wish stored(std::vector<std::string> more = {})
{
    unit_wish wish{.settings = {"Restart=on-failure", "RestartSec=1", "FileDescriptorStoreMax=16"},
                   .arguments = {"--store", "--listen unix:DIRECTORY/own", "--keep state"}};
    wish.arguments.insert(wish.arguments.end(), more.begin(), more.end());
    return wish;
}

} // namespace

SYSTEMD_TEST(sockets_of_units_by_name)
{
    auto const tcp = own_address();
    unit one{built, how,
             {.arguments = {"--listen name=http:" + tcp, "--listen name=web:unix:DIRECTORY/web", "--listen udp:" + tcp},
              .sockets = {"ListenStream=" + tcp + "\nFileDescriptorName=http",
                          "ListenStream=DIRECTORY/web\nFileDescriptorName=web\nSocketMode=0622", "ListenDatagram=" + tcp}}};
    one.start_sockets();
    ecdysis::address const web{one.path("web")};
    for (unsigned generation = 0; generation != 3; ++generation) {
        if (generation != 0)
            BOOST_TEST(one.systemctl("reload").ok());
        if (generation != 0)
            one.wait_for("serving", generation + 1);
        BOOST_TEST(ask(tcp).generation == generation); // the first starts it
        BOOST_TEST(ask(web).generation == generation);
    }
    BOOST_TEST(one.steps("setup").size() == 1U); // of the one socket that no unit has
    BOOST_TEST(one.steps("unclaimed").empty());
    BOOST_TEST(one.steps("warning").empty());
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped();
    BOOST_TEST((std::filesystem::status(web.path()).permissions() == std::filesystem::perms{0622}));
    auto const again = ask(web);
    BOOST_TEST(again.generation == 0U);
    BOOST_TEST(again.pid == one.main_pid());
}

SYSTEMD_TEST(socket_of_another_address_by_that_name)
{
    auto const tcp = own_address();
    unit one{built, how,
             {.arguments = {"--listen name=http:127.0.0.9:18081"},
              .sockets = {"ListenStream=" + tcp + "\nFileDescriptorName=http"}}};
    one.start_sockets();
    BOOST_TEST(!one.systemctl("start").ok());
    auto const why = last(one, "error");
    auto const expected = "claim \"http\": expected a listening socket, tcp 127.0.0.9:18081, came tcp " + tcp;
    BOOST_TEST(why.starts_with(expected), why);
}

SYSTEMD_TEST(socket_that_nobody_claims)
{
    auto const tcp = own_address();
    unit one{built, how, {.sockets = {"ListenStream=" + tcp + "\nFileDescriptorName=http"}}};
    one.start_sockets();
    one.start();
    one.check_serves(0, "generation 0 serving");
    BOOST_TEST(last(one, "unclaimed") == "nobody claimed http (tcp " + tcp + "), closed");
}

SYSTEMD_TEST(whole_service_killed)
{
    unit one{built, how, stored()};
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 2);
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
    auto const tcp = place_of(one, "tcp"), own = place_of(one, "unix");
    auto const state = last(one, "kept");
    kill_all(one);
    connection early{tcp}, other{own}; // nobody is there
    BOOST_TEST(one.processes().empty());
    BOOST_TEST((early.state() == result::answered));
    BOOST_TEST((other.state() == result::answered));
    for (auto* const waiting : {&early, &other}) {
        auto const answer = waiting->ask();
        BOOST_REQUIRE(answer.has_value());
        BOOST_TEST(answer->generation == 0U);
        *waiting = connection{ecdysis::os::owned_fd{}}; // else each drain would wait for it
    }
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    BOOST_TEST(one.show("NRestarts") == "1");
    BOOST_TEST(last(one, "kept") == state);
    BOOST_TEST((place_of(one, "tcp").text() == tcp.text()));
    BOOST_TEST(one.steps("warning").empty());
    BOOST_TEST(one.systemctl("reload").ok()); // all goes on from there
    one.wait_for("serving", 4);
    BOOST_TEST(ask(own).generation == 1U);
    BOOST_TEST(last(one, "kept") == state);
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
    BOOST_TEST(one.systemctl("stop").ok());
    BOOST_TEST(one.show("Result") == "success");
    BOOST_TEST(one.processes().empty());
    BOOST_TEST(!std::filesystem::exists(own.path()));
}

SYSTEMD_TEST(path_gone_while_the_service_was_dead)
{
    unit one{built, how, stored()};
    one.start();
    auto const own = place_of(one, "unix");
    kill_all(one);
    std::filesystem::remove(own.path());
    one.wait_for("serving", 2);
    BOOST_TEST(ask(own).generation == 0U);
    BOOST_TEST(last(one, "warning").find("that path is gone") != std::string::npos);
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
}

SYSTEMD_TEST(listener_that_a_new_generation_gives_up)
{
    unit one{built, how, stored()};
    one.start();
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
    one.behave("claim without unix");
    BOOST_TEST(one.systemctl("reload").ok());
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "2"; }));
    one.behave("");
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 3);
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
    BOOST_TEST(ask(place_of(one, "unix")).generation == 2U);
}

SYSTEMD_TEST(restart_keeps_the_port)
{
    unit one{built, how, stored()};
    one.start();
    auto const tcp = place_of(one, "tcp");
    BOOST_TEST(one.systemctl("restart").ok());
    BOOST_TEST((place_of(one, "tcp").text() == tcp.text()));
    BOOST_TEST(ask(tcp).generation == 0U);
}

SYSTEMD_TEST(units_socket_and_store_at_once)
{
    auto const tcp = own_address();
    auto wish = stored({"--listen name=http:" + tcp});
    wish.sockets = {"ListenStream=" + tcp + "\nFileDescriptorName=http"};
    unit one{built, how, wish};
    one.start_sockets();
    one.start();
    BOOST_TEST(wait_until([&] { return one.show("NFileDescriptorStore") == "3"; }));
    auto const own = place_of(one, "unix");
    kill_all(one);
    connection units{tcp}, kept{own};
    for (auto* const waiting : {&units, &kept}) {
        auto const answer = waiting->ask();
        BOOST_REQUIRE(answer.has_value());
        BOOST_TEST(answer->generation == 0U);
    }
    BOOST_TEST(one.steps("unclaimed").empty());
}

SYSTEMD_TEST(store_that_the_unit_does_not_have)
{
    auto wish = stored();
    wish.settings.push_back("FileDescriptorStoreMax=0");
    unit one{built, how, wish};
    one.start();
    one.check_serves(0, "generation 0 serving");
    BOOST_TEST(one.show("NFileDescriptorStore") == "0");
    BOOST_TEST(one.systemctl("reload").ok());
    one.wait_for("serving", 2);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.systemctl("stop").ok());
    one.check_stopped_well();
}
