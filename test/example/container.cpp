// SPDX-License-Identifier: BSL-1.0
// example/http_systemd.cpp in a container of crun's, with the filter that example/allowlist.cpp prints for it.
//
// The container has no pid namespace of its own: that would end with its first process, which here is generation 0.
#define BOOST_TEST_MODULE example_container
#include "container.hpp"

#include <signal.h>

#include <filesystem>
#include <string>
#include <string_view>

using namespace example;
namespace fs = std::filesystem;

namespace {

std::string printed()
{
    auto const list = run("allowlist", {"--oci"});
    BOOST_REQUIRE(list.status == 0);
    return list.out;
}

std::string replaced(std::string text, std::string_view what, std::string_view by)
{
    BOOST_REQUIRE_MESSAGE(text.find(what) != text.npos, what << " is not in " << text);
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + by.size()))
        text.replace(at, what.size(), by);
    return text;
}

/// The server in it, which is to be there before anything is asked of it.
class server
{
public:
    explicit server(std::string const& filter)
        : it_{{.arguments = {"/programs/http_systemd", "--listen", "127.0.0.1:0", "--control", "/here/control", "--pid-file",
                             "/here/pid"},
               .filter = filter,
               .programs = {directory_of(false) + "/http_systemd"}}}
    {
        static_cast<void>(wait_until([this] { return it_.has_ended() || !address().empty(); }));
    }
    server(server const&) = delete;
    server& operator=(server const&) = delete;
    ~server()
    {
        using namespace boost::unit_test;
        if (!results_collector.results(framework::current_test_unit().p_id).passed())
            BOOST_TEST_MESSAGE("---- what it wrote:\n" << it_.log() << "----");
    }

    [[nodiscard]] container const& in() const noexcept { return it_; }
    [[nodiscard]] std::string address() const
    {
        static std::regex const words{R"(listening on (127\.0\.0\.1:\d+)\n)"};
        auto const text = read(it_.path("err"));
        std::smatch found;
        return std::regex_search(text, found, words) ? found[1].str() : "";
    }
    [[nodiscard]] restart::connection connect() const
    {
        BOOST_REQUIRE_MESSAGE(!address().empty(), "it does not listen: " << it_.log());
        return restart::connection{ecdysis::address{address()}};
    }
    /// What it answers to a whole request, or the end of one.
    [[nodiscard]] static std::string answer(restart::connection& from, std::string const& request)
    {
        from.send(request);
        for (auto line = from.receive(); line && *line != "\r"; line = from.receive()) {
        }
        return from.receive().value_or("");
    }
    [[nodiscard]] std::string get() const
    {
        auto one = connect();
        return answer(one, "GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r");
    }
    [[nodiscard]] std::string upgrade() const
    {
        restart::connection requester{ecdysis::address{it_.path("here/control")}};
        return requester.receive().value_or("no answer");
    }
    [[nodiscard]] ::pid_t pid() const { return std::stoi(read(it_.path("here/pid"))); }
    [[nodiscard]] bool serves(unsigned generation) const
    {
        return get() == "generation " + std::to_string(generation) + " pid " + std::to_string(pid());
    }

private:
    container it_;
};

} // namespace

BOOST_AUTO_TEST_CASE(is_upgraded, *boost::unit_test::precondition(can_run))
{
    server const it{printed()};
    BOOST_TEST(it.serves(0));
    for (unsigned generation = 1; generation != 4; ++generation) {
        auto idle = it.connect(); // which the old one closes
        auto busy = it.connect();
        busy.send("GET / HTTP/1.1\r\nHost: example\r");
        auto const old = it.pid();
        BOOST_TEST(it.upgrade().starts_with("ok generation=" + std::to_string(generation) + " "));
        BOOST_TEST(it.serves(generation));
        BOOST_TEST(server::answer(busy, "\r") == "generation " + std::to_string(generation - 1) + " pid " + std::to_string(old));
        BOOST_TEST(!idle.receive().has_value());
    }
    auto const status = read("/proc/" + std::to_string(it.pid()) + "/status");
    for (auto const* line : {"\nSeccomp:\t2\n", "\nSeccomp_filters:\t1\n", "\nNoNewPrivs:\t1\n"})
        BOOST_TEST(status.find(line) != status.npos, status);
    BOOST_REQUIRE(::kill(it.pid(), SIGTERM) == 0);
    BOOST_TEST(it.in().status() == 0);
    BOOST_TEST(wait_until([] { return family::instance().living().empty(); }));
    BOOST_TEST(!fs::exists(it.in().path("here/control")));
    BOOST_TEST(it.in().log().find("killed") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(serves_on_when_an_upgrade_fails, *boost::unit_test::precondition(can_run))
{
    server const it{printed()};
    auto const program = it.in().path("programs/http_systemd");
    fs::rename(program, program + ".good");
    fs::copy_file("/bin/false", program);
    auto const answer = it.upgrade();
    BOOST_TEST(answer.find("exit status 1") != answer.npos, answer);
    BOOST_TEST(it.serves(0));
    fs::rename(program + ".good", program);
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(it.serves(1));
}

BOOST_AUTO_TEST_CASE(is_killed_for_a_call_that_is_missing, *boost::unit_test::precondition(can_run))
{
    server const it{replaced(printed(), "[\"recvmsg\"]", "[\"reboot\"]")};
    BOOST_TEST(it.get() == "");
    BOOST_TEST(it.in().status() == 128 + SIGSYS);
}

// accept4 with SOCK_CLOEXEC | SOCK_NONBLOCK, and what else takes the two.
BOOST_AUTO_TEST_CASE(is_killed_for_an_argument_that_is_missing, *boost::unit_test::precondition(can_run))
{
    server const it{replaced(printed(), "\"valueTwo\": 526336,", "\"valueTwo\": 526337,")};
    BOOST_TEST(it.address() == "");
    BOOST_TEST(it.in().status() == 128 + SIGSYS);
}
