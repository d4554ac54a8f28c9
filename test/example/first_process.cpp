// SPDX-License-Identifier: BSL-1.0
// The restart tests' host as process 1 of a container. The kernel drops each signal to it that has no handler, for ever, so
// one that asks it to stop must have one from the beginning: else the container is killed when its runtime's patience ends.
#define BOOST_TEST_MODULE example_first_process
#include "container.hpp"

#include "../restart/harness/service.hpp"

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace example;

namespace {

/// host.cpp with that io policy, which waits at `point`, if there is one, until go().
class host
{
public:
    explicit host(std::string const& io, std::string const& point = {})
        : it_{{.arguments = {"/usr/bin/sh", "-c",
                             (point.empty() ? "" : "echo " + point + " until /here/go > /here/behave; ") + "exec /programs/host_" + io +
                                 "_none_socketpair --listen 127.0.0.1:0 --stop-on 15 --log /here/log --behave /here/behave"},
               .programs = {argument(3) + "/host_" + io + "_none_socketpair"},
               .own_pids = true}}
    {
        auto const there = point.empty() ? "here/log" : "here/go.awaited";
        BOOST_REQUIRE_MESSAGE(wait_until([&] { return it_.has_ended() || std::filesystem::exists(it_.path(there)); }), it_.log());
        BOOST_REQUIRE_MESSAGE(!it_.has_ended(), it_.log());
        BOOST_REQUIRE(it_.first() > 0);
        std::string const pids = read("/proc/" + std::to_string(it_.first()) + "/status");
        BOOST_TEST(pids.find("\t1\n", pids.find("\nNSpid:")) != pids.npos, pids);
    }

    void go() const { std::ofstream{it_.path("here/go")}; }
    void ask_to_stop() const { BOOST_REQUIRE(::kill(it_.first(), SIGTERM) == 0); }
    [[nodiscard]] int status() const { return it_.status(); }
    [[nodiscard]] std::vector<restart::step> steps(std::string const& kind) const
    {
        auto result = restart::read_steps(it_.path("here/log"));
        std::erase_if(result, [&](auto const& one) { return one.kind != kind; });
        return result;
    }
    [[nodiscard]] restart::connection connect() const
    {
        BOOST_REQUIRE(wait_until([&] { return !steps("serving").empty(); }));
        auto const text = steps("listening").back().text;
        return restart::connection{ecdysis::address{text.substr(text.find(' ') + 1)}};
    }

private:
    container it_;
};

} // namespace

#define OF_BOTH(io) for (std::string const io : {"sync", "asio"}) BOOST_TEST_CONTEXT(io)

// It is not too late yet: ready() says so, and there is nothing to drain.
BOOST_AUTO_TEST_CASE(is_stopped_before_it_is_ready, *boost::unit_test::precondition(can_run))
{
    for (std::string const point : {"constructed", "claimed"})
        OF_BOTH(io)
        {
            host const it{io, point};
            it.ask_to_stop();
            it.go();
            BOOST_TEST(it.status() == 0);
            BOOST_TEST(it.steps("serving").empty());
            auto const errors = it.steps("error");
            BOOST_REQUIRE(errors.size() == 1U);
            BOOST_TEST(errors.front().text.find("stopped") != std::string::npos, errors.front().text);
        }
}

BOOST_AUTO_TEST_CASE(is_stopped_as_soon_as_it_is_ready, *boost::unit_test::precondition(can_run))
{
    for (std::string const point : {"serving", "may-accept", "accepting"})
        OF_BOTH(io)
        {
            host const it{io, point};
            it.ask_to_stop();
            it.go();
            BOOST_TEST(it.status() == 0);
            BOOST_TEST(it.steps("drained").size() == 1U);
            BOOST_TEST(it.steps("error").empty());
        }
}

BOOST_AUTO_TEST_CASE(drains_when_it_is_stopped, *boost::unit_test::precondition(can_run))
{
    OF_BOTH(io)
    {
        host const it{io};
        auto open = it.connect();
        BOOST_TEST(open.ask().value().pid == 1);
        it.ask_to_stop();
        BOOST_TEST(wait_until([&] { return !it.steps("draining").empty(); }));
        auto const last = open.ask();
        BOOST_REQUIRE(last.has_value());
        BOOST_TEST(last->last);
        BOOST_TEST(it.status() == 0);
    }
}
