// SPDX-License-Identifier: BSL-1.0
// Each example does what its first lines say, started, upgraded and stopped as a person would.
#define BOOST_TEST_MODULE example
#include "http.hpp"
#include "program.hpp"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>

#include <poll.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

using namespace example;

namespace {

/// What one request to an example is, and its answer from a generation, as the `count`th in the example's life.
struct kind
{
    char const* name;
    int type;
    char const* request;
    std::string (*answer)(unsigned generation, ::pid_t pid, unsigned count);
};

std::string echoed(unsigned /*generation*/, ::pid_t /*pid*/, unsigned /*count*/)
{
    return "hello";
}
std::string echoed_by(unsigned generation, ::pid_t /*pid*/, unsigned /*count*/)
{
    return "generation " + std::to_string(generation) + ": hello";
}
std::string counted(unsigned /*generation*/, ::pid_t /*pid*/, unsigned count)
{
    return std::to_string(count);
}
std::string generation_and_pid(unsigned generation, ::pid_t pid, unsigned /*count*/)
{
    return "generation " + std::to_string(generation) + " pid " + std::to_string(pid);
}

constexpr std::array all{
    kind{"echo_sync", SOCK_STREAM, "hello", echoed},
    kind{"echo_asio", SOCK_STREAM, "hello", echoed},
    kind{"udp_asio", SOCK_DGRAM, "hello", echoed_by},
    kind{"state", SOCK_DGRAM, "hello", counted},
    kind{"channel", SOCK_STREAM, "hello", echoed_by},
    kind{"http_asio", SOCK_STREAM, get, generation_and_pid},
    kind{"http_systemd", SOCK_STREAM, get, generation_and_pid},
    kind{"sandboxed", SOCK_STREAM, get, generation_and_pid},
    kind{"sandboxed_direct", SOCK_STREAM, get, generation_and_pid},
};

std::ostream& operator<<(std::ostream& to, kind const& one)
{
    return to << one.name;
}

std::string ask(service const& whom, kind const& what)
{
    auto one = whom.connect();
    if (what.request != get)
        return service::ask(one, what.request);
    return ask_http(one).body;
}

/// Whether an answer is there to be received.
bool has_come(restart::connection const& from)
{
    ::pollfd ready{from.native_handle(), POLLIN, 0};
    return ::poll(&ready, 1, 0) > 0;
}

/// One peer asks all the time while five generations follow the first; each of its requests is answered.
void answer_during_upgrades(service& whom, restart::connection& peer)
{
    for (unsigned generation = 1; generation != 6; ++generation) {
        auto requester = whom.request_upgrade();
        do {
            auto const answer = service::ask(peer, "hello");
            BOOST_TEST_REQUIRE(answer.ends_with(": hello"), answer);
        } while (!has_come(requester));
        whom.expect_ok(requester, generation);
        whom.expect_parent_ended();
        BOOST_TEST(service::ask(peer, "hello") == echoed_by(generation, 0, 0));
    }
}

} // namespace

BOOST_DATA_TEST_CASE(is_upgraded_and_stopped, boost::unit_test::data::make(all), one)
{
    service it{one.name, one.type};
    unsigned count = 0;
    BOOST_TEST(ask(it, one) == one.answer(0, it.pid(), ++count));
    it.upgrade(1);
    it.expect_parent_ended();
    BOOST_TEST(ask(it, one) == one.answer(1, it.pid(), ++count));
    it.upgrade_by_signal();
    it.expect_parent_ended();
    BOOST_TEST(ask(it, one) == one.answer(2, it.pid(), ++count));
    it.upgrade(3);
    it.expect_parent_ended();
    BOOST_TEST(ask(it, one) == one.answer(3, it.pid(), ++count));
    BOOST_TEST(it.generations() == 4U);
    it.stop();
}

BOOST_DATA_TEST_CASE(tells_its_arguments, boost::unit_test::data::make(all), one)
{
    auto const help = run(one.name, {"--help"});
    BOOST_TEST(help.status == 0);
    BOOST_TEST(help.out.starts_with("usage: " + std::string{one.name} + " "), help.out);
    for (auto const* argument : {"--listen ADDRESS:PORT", "--control PATH", "--pid-file PATH"})
        BOOST_TEST(help.out.find(argument) != help.out.npos, help.out);
    BOOST_TEST(help.err == "");
}

BOOST_DATA_TEST_CASE(says_what_it_does_not_understand, boost::unit_test::data::make(all), one)
{
    std::string const name = one.name;
    std::vector<std::pair<std::vector<std::string>, std::string>> const wrong{
        {{"--no-such"}, "--no-such: no such argument"},
        {{"--listen"}, "--listen: expected ADDRESS:PORT after it"},
        {{"--listen", "nowhere"}, "--listen nowhere: "},
    };
    for (auto const& [arguments, words] : wrong) {
        auto const refused = run(name, arguments);
        BOOST_TEST(refused.status == 2);
        BOOST_TEST(refused.out == "");
        BOOST_TEST(refused.err.starts_with(name + ": " + words), refused.err);
        BOOST_TEST(refused.err.ends_with("; see " + name + " --help\n"), refused.err);
    }
}

BOOST_DATA_TEST_CASE(says_why_it_cannot_start, boost::unit_test::data::make(all), one)
{
    auto const failed = run(one.name, {"--listen", "192.0.2.1:0"}); // nobody's address
    BOOST_TEST(failed.status == 1);
    BOOST_TEST(failed.err.find("192.0.2.1:0") != failed.err.npos, failed.err);
}

BOOST_DATA_TEST_CASE(is_short_enough_to_be_read, boost::unit_test::data::make(all), one)
{
    auto const text = read(directory_of(true) + "/" + one.name + ".cpp");
    BOOST_TEST(text != "");
    BOOST_TEST(std::ranges::count(text, '\n') < 150);
}

BOOST_DATA_TEST_CASE(an_open_connection_goes_on_in_the_old_one, boost::unit_test::data::make({"echo_sync", "echo_asio"}), name)
{
    service it{name, SOCK_STREAM};
    {
        auto open = it.connect();
        BOOST_TEST(service::ask(open, "one") == "one");
        auto const first = it.pid();
        it.upgrade(1);
        BOOST_TEST(service::ask(open, "two") == "two");
        BOOST_TEST(it.ask("three") == "three");
        BOOST_TEST(!family::instance().ended(first).has_value());
    }
    it.expect_parent_ended(); // its peer has closed
    it.stop();
}

BOOST_AUTO_TEST_CASE(udp_asio_answers_during_upgrades)
{
    service it{"udp_asio", SOCK_DGRAM};
    auto peer = it.connect();
    answer_during_upgrades(it, peer);
    it.stop();
}

BOOST_AUTO_TEST_CASE(state_skips_no_number_and_gives_none_twice)
{
    service it{"state", SOCK_DGRAM};
    auto peer = it.connect();
    unsigned count = 0;
    for (unsigned generation = 1; generation != 6; ++generation) {
        auto requester = it.request_upgrade();
        do
            BOOST_REQUIRE(service::ask(peer, "next") == std::to_string(++count));
        while (!has_come(requester));
        it.expect_ok(requester, generation);
        it.expect_parent_ended();
        BOOST_TEST(service::ask(peer, "next") == std::to_string(++count));
    }
    it.stop();
}

BOOST_AUTO_TEST_CASE(channel_hands_its_live_connections_over)
{
    service it{"channel", SOCK_STREAM};
    {
        auto first = it.connect(), second = it.connect();
        BOOST_TEST(service::ask(first, "hello") == echoed_by(0, 0, 0));
        BOOST_TEST(service::ask(second, "hello") == echoed_by(0, 0, 0));
        for (unsigned generation = 1; generation != 4; ++generation) {
            it.upgrade(generation);
            it.expect_parent_ended(); // although both are open
            BOOST_TEST(service::ask(first, "hello") == echoed_by(generation, 0, 0));
            BOOST_TEST(service::ask(second, "hello") == echoed_by(generation, 0, 0));
        }
    }
    auto const log = it.log();
    for (auto const* line : {"the other generation says: claimed 1 2\n", "the other generation says: yours 1\n",
                             "the other generation says: yours 2\n"})
        BOOST_TEST(log.find(line) != log.npos, "not in the log: " << line);
    it.stop();
}

BOOST_AUTO_TEST_CASE(channel_answers_on_a_live_connection_during_upgrades)
{
    service it{"channel", SOCK_STREAM};
    {
        auto peer = it.connect();
        answer_during_upgrades(it, peer);
    }
    it.stop();
}

BOOST_AUTO_TEST_CASE(http_asio_asks_its_peers_to_close)
{
    service it{"http_asio", SOCK_STREAM};
    auto const first = generation_and_pid(0, it.pid(), 0);
    auto busy = it.connect(), idle = it.connect();
    for (auto* const one : {&busy, &idle})
        for (int i = 0; i != 2; ++i) { // kept alive
            auto const answer = ask_http(*one);
            BOOST_TEST(answer.body == first);
            BOOST_TEST(answer.says("X-Generation: 0 pid " + std::to_string(it.pid())), answer.head);
            BOOST_TEST(!answer.says("Connection: close"), answer.head);
        }

    busy.send("GET / HTTP/1.1\r"); // begun, so that it is not taken for idle
    it.upgrade(1);
    BOOST_TEST(ask(it, all.back()) == generation_and_pid(1, it.pid(), 0));
    busy.send("Host: example\r\n\r");
    auto const last = receive_response(busy);
    BOOST_TEST(last.body == first);
    BOOST_TEST(last.says("Connection: close"), last.head);
    for (auto* const one : {&busy, &idle}) { // ended, not reset
        BOOST_TEST(!one->receive().has_value());
        BOOST_TEST((one->state() == restart::result::cut));
    }
    it.expect_parent_ended();
    it.stop();
}

// Without systemd it is a server like the others: what it would ask of a manager it leaves.
BOOST_AUTO_TEST_CASE(http_systemd_needs_no_manager)
{
    service it{"http_systemd", SOCK_STREAM, {"--name", "http", "--store", "yes", "--watchdog", "yes"}};
    it.upgrade(1);
    it.expect_parent_ended();
    BOOST_TEST(ask(it, all.back()) == generation_and_pid(1, it.pid(), 0));
    it.stop();
    BOOST_TEST(run("http_systemd", {"--store", "maybe"}).err ==
               "http_systemd: --store maybe: expected yes or no; see http_systemd --help\n");
}
