// SPDX-License-Identifier: BSL-1.0
// The allowlist is minimal: the restart suite is run inside the sandbox, and each rule of the list that no host has made
// use of is named. It must say why in `untested`, or go. That the list is complete is seen by the suite itself.
//
//     coverage_test -- LAUNCH IO HOSTS TESTS
//
// LAUNCH and IO: what the hosts in HOSTS are assembled with. TESTS: the directory of the suite's programs.
//
// A call that a host makes for itself counts as well: the kernel does not tell whose line it was.
#define BOOST_TEST_MODULE seccomp_coverage
#include "../restart/harness/folder.hpp"
#include "harness/kernel_trace.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/test/unit_test.hpp>

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

using namespace ecdysis;

namespace {

// ---- the lists

template <class Io, class Notify, class Transport, class Launch>
std::span<seccomp::rule const> rules_of()
{
    return seccomp::allowlist<upgrader<Io, Notify, Transport, Launch>>;
}

template <class Io, class Launch>
std::map<std::string, std::span<seccomp::rule const>> lists_of()
{
    return {{"none_named_pipe", rules_of<Io, notify::none, transport::named_pipe, Launch>()},
            {"none_socketpair", rules_of<Io, notify::none, transport::socketpair, Launch>()},
            {"systemd_named_pipe", rules_of<Io, notify::systemd, transport::named_pipe, Launch>()},
            {"systemd_socketpair", rules_of<Io, notify::systemd, transport::socketpair, Launch>()}};
}

std::map<std::string, std::span<seccomp::rule const>> lists_of(std::string const& io, std::string const& launch)
{
    if (io == "sync")
        return launch == "direct" ? lists_of<io::sync, launch::direct>() : lists_of<io::sync, launch::spawner>();
    return launch == "direct" ? lists_of<io::asio, launch::direct>() : lists_of<io::asio, launch::spawner>();
}

std::string text_of(seccomp::rule const& one)
{
    std::ostringstream result;
    result << one.call << std::hex << std::showbase;
    for (auto const& condition : one.all_conditions())
        result << " [argument " << condition.argument << " & " << condition.mask << " == " << condition.value << "]";
    result << " (" << one.by << ": " << one.why << ")";
    return std::move(result).str();
}

/// How often each rule of one assembly's list was made use of.
class counted
{
public:
    explicit counted(std::span<seccomp::rule const> rules) : times(rules.size()), rules_{rules}
    {
        auto const here = seccomp::this_architecture().value();
        for (std::size_t i = 0; i != rules.size(); ++i)
            if (rules[i].is_on(here))
                of_call_[::seccomp_syscall_resolve_name(rules[i].call.data())].push_back(i);
    }

    void called(long number, std::array<std::uint64_t, 6> const& arguments)
    {
        count(number, [&](seccomp::rule const& one) { return one.answer == 0 && one.holds(arguments); });
    }
    void answered(long number, long result)
    {
        count(number, [&](seccomp::rule const& one) { return one.answer != 0 && result == -one.answer; });
    }

    std::vector<std::size_t> times;

private:
    template <class Predicate>
    void count(long number, Predicate&& fits)
    {
        if (auto const found = of_call_.find(number); found != of_call_.end())
            for (auto const i : found->second)
                if (fits(rules_[i]))
                    ++times[i];
    }

    std::span<seccomp::rule const> rules_;
    std::unordered_map<long, std::vector<std::size_t>> of_call_;
};

/// The calls that are not made but answered, as a filter of tracefs's.
std::string answers_of(std::span<seccomp::rule const> rules)
{
    std::string result = "id == -2";
    for (auto const& one : rules)
        if (one.answer != 0)
            result += " || id == " + std::to_string(::seccomp_syscall_resolve_name(one.call.data()));
    return result;
}

// ---- who makes them

/// Which process belongs to which assembly, and whether it has the filter. Fork and exec keep both; the spawner's helper is
/// forked before there is one, and so its children begin without.
class census
{
public:
    /// `root` and all that descend from it are of `its`.
    void add(::pid_t root, counted& its)
    {
        std::lock_guard const hold{mutex_};
        tasks_[root] = {&its, false};
    }

    [[nodiscard]] confined::kernel_trace::listener listener()
    {
        return {.forked =
                    [this](::pid_t parent, ::pid_t child) {
                        std::lock_guard const hold{mutex_};
                        if (auto const found = tasks_.find(parent); found != tasks_.end())
                            tasks_[child] = task{found->second}; // the number may have been another's
                    },
                .executed =
                    [this](::pid_t old_pid, ::pid_t pid) {
                        std::lock_guard const hold{mutex_};
                        if (auto const found = tasks_.find(old_pid); found != tasks_.end() && old_pid != pid)
                            tasks_[pid] = task{found->second};
                    },
                .called =
                    [this](::pid_t pid, long number, std::array<std::uint64_t, 6> const& arguments) {
                        std::lock_guard const hold{mutex_};
                        auto const found = tasks_.find(pid);
                        if (found == tasks_.end())
                            return;
                        auto& [its, has_filter] = found->second;
                        if (has_filter)
                            its->called(number, arguments);
                        else if (number == SYS_seccomp && arguments[0] == SECCOMP_SET_MODE_FILTER && arguments[2] != 0) // 0: only asks
                            has_filter = true;
                    },
                .answered =
                    [this](::pid_t pid, long number, long result) {
                        std::lock_guard const hold{mutex_};
                        if (auto const found = tasks_.find(pid); found != tasks_.end() && found->second.has_filter)
                            found->second.its->answered(number, result);
                    }};
    }

private:
    struct task
    {
        counted* its;
        bool has_filter;
    };
    std::mutex mutex_;
    std::unordered_map<::pid_t, task> tasks_;
};

// ---- the suite

struct arguments
{
    std::string launch, io, hosts, tests;

    arguments()
    {
        auto const& suite = boost::unit_test::framework::master_test_suite();
        BOOST_REQUIRE_MESSAGE(suite.argc == 5, "usage: " << suite.argv[0] << " -- LAUNCH IO HOSTS TESTS");
        launch = suite.argv[1];
        io = suite.argv[2];
        hosts = suite.argv[3];
        tests = suite.argv[4];
        BOOST_REQUIRE((io == "sync" || io == "asio"));
        BOOST_REQUIRE((launch == "direct" || launch == "spawner"));
    }
};

/// One program of the suite with the test cases of one assembly. Not those in which there is a host of another one.
struct run
{
    std::string program, assembly, output;

    [[nodiscard]] ::pid_t start(arguments const& all, census& who, counted& its) const
    {
        auto const cases = "--run_test=*/" + all.io + "_" + assembly;
        std::array const words{program.c_str(), cases.c_str(), "--run_test=!other_transport", "--log_level=error",
                               "--", all.hosts.c_str(), static_cast<char const*>(nullptr)};
        int gate[2];
        BOOST_REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
        auto const pid = ::fork();
        BOOST_REQUIRE(pid >= 0);
        if (pid == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            int const out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
            ::dup2(out, STDOUT_FILENO);
            ::dup2(out, STDERR_FILENO);
            char byte;
            ::close(gate[1]);
            if (::read(gate[0], &byte, 1) != 0) // its end: it is known whose this is
                ::_exit(93);
            ::closefrom(STDERR_FILENO + 1);
            ::execv(program.c_str(), const_cast<char**>(words.data()));
            ::_exit(94);
        }
        who.add(pid, its);
        ::close(gate[0]);
        ::close(gate[1]);
        return pid;
    }
};

} // namespace

BOOST_AUTO_TEST_CASE(each_rule_is_made_use_of)
{
    arguments const given;
    auto const lists = lists_of(given.io, given.launch);
    std::map<std::string, counted> counts;
    for (auto const& [assembly, rules] : lists)
        counts.emplace(assembly, rules);

    ::setenv("ECDYSIS_TEST_SANDBOX", "kill", 1);
    ::setenv("ECDYSIS_TEST_LAUNCH", given.launch.c_str(), 1);
    restart::folder const own;
    std::deque<run> to_do;
    std::vector<std::filesystem::path> programs;
    std::ranges::copy(std::filesystem::directory_iterator{given.tests}, std::back_inserter(programs));
    std::ranges::sort(programs);
    for (auto const& program : programs)
        for (auto const& [assembly, rules] : lists)
            to_do.push_back({program.string(), assembly, own / (program.filename().string() + "." + assembly)});
    BOOST_TEST_REQUIRE(!to_do.empty());

    census who;
    std::unique_ptr<confined::kernel_trace> trace;
    try {
        trace = std::make_unique<confined::kernel_trace>(who.listener(), "*_test*", answers_of(lists.begin()->second));
    } catch (confined::cannot_trace const& e) {
        std::cout << "skipped: " << e.what() << std::endl;
        return;
    }
    constexpr std::size_t at_once = 2; // they wait most of the time
    std::map<::pid_t, run> running;
    while (!to_do.empty() || !running.empty()) {
        if (!to_do.empty() && running.size() < at_once) {
            auto const pid = to_do.front().start(given, who, counts.at(to_do.front().assembly));
            running.emplace(pid, std::move(to_do.front()));
            to_do.pop_front();
            continue;
        }
        int status = 0;
        auto const pid = ::wait(&status);
        BOOST_TEST_REQUIRE(running.contains(pid));
        auto const ended = std::move(running.extract(pid).mapped());
        if (status != 0) { // then what it has not shown is missed below
            std::ifstream file{ended.output};
            BOOST_TEST_MESSAGE(ended.program << " for " << ended.assembly << " ended with wait status " << status << ":\n"
                                             << std::string(std::istreambuf_iterator<char>{file}, {}));
        }
    }
    auto const lost = trace->finish();
    BOOST_TEST_MESSAGE(lost << " events were lost");

    for (auto const& [assembly, rules] : lists) {
        auto const name = given.launch + " " + given.io + "_" + assembly;
        auto const& times = counts.at(assembly).times;
        for (std::size_t i = 0; i != rules.size(); ++i) {
            auto const& one = rules[i];
            if (!one.is_on(seccomp::this_architecture().value()))
                continue;
            if (times[i] == 0 && one.untested.empty())
                BOOST_ERROR(name << " allows what nobody calls: " << text_of(one)
                                 << (lost == 0 ? "" : "; or the event was lost: give the trace a larger buffer"));
            else if (times[i] != 0 && !one.untested.empty())
                BOOST_TEST_MESSAGE(name << " has a reason (" << one.untested << ") for what was called " << times[i]
                                        << " times: " << text_of(one));
            else
                BOOST_TEST_MESSAGE(name << ": " << times[i] << " times " << text_of(one));
        }
    }
}
