// SPDX-License-Identifier: BSL-1.0
// example/http_systemd.cpp in a container of crun's, with the filter that example/allowlist.cpp prints for it.
//
// The container has no pid namespace of its own: that would end with its first process, which here is generation 0.
#define BOOST_TEST_MODULE example_container
#include "program.hpp"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace example;
namespace fs = std::filesystem;

namespace {

/// `arguments` run in it; the directory `programs` of it is /programs, and `here` is /here. Nothing outlives it.
class container
{
public:
    /// `filter`: as an OCI runtime reads it; empty: none.
    explicit container(std::vector<std::string> const& arguments, std::string const& filter)
    {
        fs::create_directories(folder_ / "programs");
        fs::create_directories(folder_ / "here");
        for (auto const* name : {"http_systemd", "allowlist"})
            fs::copy_file(directory_of(false) + "/" + name, folder_ / ("programs/" + std::string{name}));
        std::string mounts = R"({"destination": "/proc", "type": "proc", "source": "proc"})";
        std::vector<std::pair<std::string, std::string>> all{{"/programs", folder_ / "programs"}, {"/here", folder_ / "here"}};
        for (std::string const of_the_machine : {"/usr", "/lib", "/lib64", "/etc"})
            if (fs::exists(of_the_machine))
                all.emplace_back(of_the_machine, of_the_machine);
        for (auto const* name : {"proc", "dev"})
            fs::create_directories(folder_ / ("bundle/rootfs/" + std::string{name}));
        for (auto const& [to, from] : all) {
            fs::create_directories((folder_ / "bundle/rootfs") + to);
            mounts += R"(, {"destination": ")" + to + R"(", "type": "bind", "source": ")" + from + R"(", "options": ["rbind"]})";
        }
        std::string words;
        for (auto const& one : arguments)
            words += (words.empty() ? "\"" : ", \"") + one + "\"";
        std::ofstream{folder_ / "bundle/config.json"}
            << R"({"ociVersion": "1.0.0", "root": {"path": "rootfs", "readonly": true}, "process": {"user": {"uid": 0, "gid": 0},)"
            << R"("cwd": "/", "env": ["PATH=/programs"], "noNewPrivileges": true, "args": [)" << words << R"(]}, "mounts": [)" << mounts
            << R"(], "linux": {"namespaces": [{"type": "mount"}, {"type": "ipc"}])"
            << (filter.empty() ? "" : R"(, "seccomp": )" + filter) << "}}";
        // It needs a cgroup2 to look at, even if it is to make no control group.
        runtime_ = launch("/bin/sh",
                         {"-c",
                          "exec unshare --mount --propagation private -- sh -c 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                          "exec crun --cgroup-manager=disabled --root \"$0/state\" run --bundle \"$0/bundle\" ecdysis' \"$0\"",
                          folder_.path()},
                         folder_);
    }
    container(container const&) = delete;
    container& operator=(container const&) = delete;
    ~container() { family::instance().kill_all(); }

    [[nodiscard]] std::string path(std::string const& name) const { return folder_ / name; }
    [[nodiscard]] std::string log() const { return read(path("err")) + read(path("out")); }
    /// That of its first process; 128 + signal, if that ended it.
    [[nodiscard]] int status() const { return exit_status(runtime_); }
    [[nodiscard]] bool has_ended() const { return family::instance().ended(runtime_).has_value(); }

private:
    folder folder_;
    ::pid_t runtime_ = -1;
};

/// Why there can be no container here; empty: there can.
std::string const& skipped()
{
    static auto const why = [] {
        if (::geteuid() != 0)
            return std::string{"it takes root"};
        container const plain{{"/programs/allowlist", "--help"}, ""};
        if (plain.status() == 0 && read(plain.path("out")).starts_with("usage: allowlist "))
            return std::string{};
        auto const words = plain.log();
        return "crun cannot run a container: " + words.substr(0, words.find('\n'));
    }();
    static bool const said = [] {
        if (!why.empty())
            std::cout << "skipped: " << why << std::endl; // the report looks for it
        return !why.empty();
    }();
    static_cast<void>(said);
    return why;
}

boost::test_tools::assertion_result can_run(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{skipped().empty()};
    result.message() << skipped();
    return result;
}

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
        : it_{{"/programs/http_systemd", "--listen", "127.0.0.1:0", "--control", "/here/control", "--pid-file", "/here/pid"}, filter}
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
