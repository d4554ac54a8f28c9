// SPDX-License-Identifier: BSL-1.0
// An example as a real process, with all its generations, as a person would start it.
#pragma once

#include "../restart/harness/client.hpp"
#include "../restart/harness/folder.hpp"
#include "../restart/harness/process.hpp"
#include "../restart/harness/wait.hpp"

#include <boost/test/results_collector.hpp>
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace example {

using restart::family;
using restart::folder;
using restart::wait_until;

/// Whom the sandboxed examples become if the test is root.
inline constexpr ::uid_t nobody = 65534;

/// One of the directories that this test is given.
[[nodiscard]] inline std::string argument(int index)
{
    auto const& suite = boost::unit_test::framework::master_test_suite();
    BOOST_REQUIRE_MESSAGE(suite.argc == 4, "usage: " << suite.argv[0] << " -- PROGRAMS SOURCES HOSTS");
    return std::filesystem::absolute(suite.argv[index]).string();
}
[[nodiscard]] inline std::string directory_of(bool sources)
{
    return argument(sources ? 2 : 1);
}

[[nodiscard]] inline std::string read(std::string const& path)
{
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// Starts the example `name`, or the program at that path; what it writes goes to the files `out` and `err`.
[[nodiscard]] inline ::pid_t launch(std::string const& name, std::vector<std::string> arguments, folder const& to)
{
    static_cast<void>(family::instance());
    auto program = (std::filesystem::path{directory_of(false)} / name).string();
    std::vector<char*> words{program.data()};
    for (auto& one : arguments)
        words.push_back(one.data());
    words.push_back(nullptr);

    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, (to / "out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    ::posix_spawn_file_actions_addopen(&actions, 2, (to / "err").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    ::pid_t pid = -1;
    int const failure = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, words.data(), ::environ);
    ::posix_spawn_file_actions_destroy(&actions);
    BOOST_REQUIRE_MESSAGE(failure == 0, "cannot start " << program);
    return pid;
}

/// Its exit status, when it has ended; -1 for a signal, or none in time.
[[nodiscard]] inline int exit_status(::pid_t pid)
{
    std::optional<int> status;
    static_cast<void>(wait_until([&] { return (status = family::instance().ended(pid)).has_value(); }));
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
}

/// What a run that ends by itself came to.
struct outcome
{
    int status;
    std::string out, err;
};
[[nodiscard]] inline outcome run(std::string const& name, std::vector<std::string> arguments)
{
    folder const place;
    auto const status = exit_status(launch(name, std::move(arguments), place));
    family::instance().kill_all();
    return {status, read(place / "out"), read(place / "err")};
}

/// An example that serves on a port of its own, or on that of a later --listen. Nothing outlives it.
class service
{
public:
    service(std::string name, int type, std::vector<std::string> arguments = {}) : name_{std::move(name)}, type_{type}
    {
        arguments.insert(arguments.begin(),
                         {"--listen", "127.0.0.1:0", "--control", path("control"), "--pid-file", path("pid")});
        // A copy, which a test may replace, where the user whom some become can execute it.
        std::filesystem::copy_file(directory_of(false) + "/" + name_, path(name_));
        BOOST_REQUIRE(::geteuid() != 0 || ::chown(folder_.path().c_str(), nobody, nobody) == 0);
        now_ = launch(path(name_), std::move(arguments), folder_);
        bool const started = wait_until([this] { return generations() == 1 || family::instance().ended(now_); }) &&
                             !family::instance().ended(now_);
        BOOST_REQUIRE_MESSAGE(started, name_ << " did not start: " << log());
        BOOST_TEST(read(path("pid")) == std::to_string(now_) + "\n");
    }
    service(service const&) = delete;
    service& operator=(service const&) = delete;
    ~service()
    {
        using namespace boost::unit_test;
        if (!results_collector.results(framework::current_test_unit().p_id).passed())
            BOOST_TEST_MESSAGE("---- what it wrote:\n" << log() << "----");
        family::instance().kill_all();
    }

    [[nodiscard]] std::string path(std::string const& name) const { return folder_ / name; }
    [[nodiscard]] std::string log() const { return read(path("err")); } ///< of all generations
    [[nodiscard]] ::pid_t pid() const noexcept { return now_; }         ///< of who serves

    /// Where each generation said that it serves: the one thing that all examples log in the same words.
    [[nodiscard]] std::vector<std::string> addresses() const
    {
        static std::regex const words{R"((?:listening|answering|counting) on (127\.0\.0\.1:\d+)\b)"};
        auto const text = log();
        std::vector<std::string> result;
        for (std::sregex_iterator found{text.begin(), text.end(), words}, end; found != end; ++found)
            result.push_back((*found)[1]);
        return result;
    }
    [[nodiscard]] std::size_t generations() const { return addresses().size(); }

    [[nodiscard]] restart::connection connect() const
    {
        restart::connection one{ecdysis::address{addresses().front()}, type_};
        BOOST_REQUIRE_MESSAGE(one.state() == restart::result::answered, name_ << " refused a connection");
        return one;
    }
    /// A new connection's answer to one line; empty if there is none.
    [[nodiscard]] std::string ask(std::string const& line) const
    {
        auto one = connect();
        return ask(one, line);
    }
    [[nodiscard]] static std::string ask(restart::connection& from, std::string const& line)
    {
        from.send(line);
        return from.receive().value_or("");
    }

    /// Connects to the control socket, which begins an upgrade.
    [[nodiscard]] restart::connection request_upgrade() const
    {
        restart::connection one{ecdysis::address{path("control")}};
        BOOST_REQUIRE_MESSAGE(one.state() == restart::result::answered, name_ << " has no control socket");
        return one;
    }
    /// What the requester hears: generation `number` serves, which it now does.
    void expect_ok(restart::connection& requester, unsigned number)
    {
        static std::regex const ok{R"(ok generation=(\d+) pid=(\d+) took_ms=\d+(\.\d+)?)"};
        auto const line = requester.receive().value_or("no answer");
        std::smatch parts;
        BOOST_REQUIRE_MESSAGE(std::regex_match(line, parts, ok), name_ << " answered: " << line);
        BOOST_TEST(parts[1] == std::to_string(number));
        BOOST_TEST(!requester.receive().has_value()); // one line, then the end
        before_ = std::exchange(now_, std::stoi(parts[2]));
        BOOST_TEST(now_ != before_);
        BOOST_TEST(read(path("pid")) == std::to_string(now_) + "\n");
    }
    void upgrade(unsigned number)
    {
        auto requester = request_upgrade();
        expect_ok(requester, number);
    }
    /// The same by the signal, of which only the pid file and what serves tell.
    void upgrade_by_signal()
    {
        auto const old = read(path("pid"));
        BOOST_REQUIRE(::kill(std::stoi(old), SIGHUP) == 0);
        std::string found;
        BOOST_REQUIRE(wait_until([&] { return (found = read(path("pid"))) != old && found.ends_with('\n'); }));
        before_ = std::exchange(now_, std::stoi(found));
    }
    /// The generation before has drained: whoever answers from now on is who serves.
    void expect_parent_ended() const { BOOST_TEST(exit_status(before_) == 0); }

    /// Stops it, and sees that it leaves nothing behind.
    void stop() const
    {
        BOOST_REQUIRE(::kill(std::stoi(read(path("pid"))), SIGTERM) == 0);
        BOOST_TEST(exit_status(now_) == 0);
        BOOST_TEST(wait_until([] { return family::instance().living().empty(); }));
        BOOST_TEST(!std::filesystem::exists(path("pid")));
        BOOST_TEST(!std::filesystem::exists(path("control")));
        BOOST_TEST(read(path("out")) == "");
        auto const all = addresses(); // port 0 stays what it became
        BOOST_TEST(std::ranges::count(all, all.front()) == static_cast<std::ptrdiff_t>(all.size()));
    }

private:
    folder folder_;
    std::string name_;
    int type_;
    ::pid_t now_ = -1;
    ::pid_t before_ = -1;
};

} // namespace example
