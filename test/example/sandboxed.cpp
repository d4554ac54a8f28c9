// SPDX-License-Identifier: BSL-1.0
// The sandboxed examples are upgraded as the others are, and in a sandbox: seen in /proc, and by having the running server
// itself make the calls that somebody would who had taken it over.
#define BOOST_TEST_MODULE example sandboxed
#include "http.hpp"
#include "program.hpp"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>

#include <linux/capability.h>
#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <sstream>
#include <string_view>
#include <thread>

using namespace example;
namespace data = boost::unit_test::data;

namespace {

auto const both = data::make({"sandboxed", "sandboxed_direct"});

[[nodiscard]] bool has_helper(std::string_view name)
{
    return name == "sandboxed";
}

/// What /proc/PID/status says of one thing, as words with one blank between them.
[[nodiscard]] std::string status(::pid_t pid, std::string const& field)
{
    std::ifstream file{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(field + ":")) {
            std::string result;
            std::istringstream words{line.substr(field.size() + 1)};
            for (std::string word; words >> word;)
                result += (result.empty() ? "" : " ") + word;
            return result;
        }
    return "none";
}

/// How many filters one has that was started by this test, which may be in a container itself, and has loaded one.
[[nodiscard]] std::string one_filter()
{
    return std::to_string(std::stoi(status(::getpid(), "Seccomp_filters")) + 1);
}

/// Whether it has one, which is known by its name as soon as it runs.
[[nodiscard]] bool has_one_helper(::pid_t pid)
{
    return wait_until([pid] { return restart::helpers(pid).size() == 1; });
}

void check_is_in_sandbox(::pid_t pid)
{
    BOOST_TEST(status(pid, "Seccomp") == "2");
    BOOST_TEST(status(pid, "Seccomp_filters") == one_filter());
    BOOST_TEST(status(pid, "NoNewPrivs") == "1");
}

[[nodiscard]] std::string answer_of(unsigned generation, ::pid_t pid)
{
    return "generation " + std::to_string(generation) + " pid " + std::to_string(pid);
}

[[nodiscard]] std::string ask(service const& whom)
{
    auto one = whom.connect();
    return ask_http(one).body;
}

/// Asks all the time, on a new connection each.
class asking
{
public:
    explicit asking(service const& whom)
        : thread_{[this, to = ecdysis::address{whom.addresses().front()}](std::stop_token ends) {
              while (!ends.stop_requested()) {
                  restart::connection one{to};
                  one.send(get);
                  ++(read_response(one).is_ok() ? answered_ : failed_);
              }
          }}
    {}

    [[nodiscard]] unsigned failed() const noexcept { return failed_; }
    /// Waits until some that were asked from now on have been answered.
    [[nodiscard]] bool goes_on() const
    {
        return wait_until([this, enough = answered_ + 3] { return answered_ >= enough || failed_ != 0; }) && failed_ == 0;
    }

private:
    std::atomic<unsigned> answered_ = 0, failed_ = 0;
    std::jthread thread_;
};

/// Puts another program where the next generation is started from.
void replace(service const& whom, std::string const& name, std::string const& by)
{
    auto const fresh = whom.path("fresh");
    std::filesystem::copy_file(by, fresh);
    std::filesystem::rename(fresh, whom.path(name));
}

[[nodiscard]] std::string failure_of_upgrade(service const& of)
{
    auto requester = of.request_upgrade();
    return requester.receive().value_or("no answer");
}

struct is_root
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id /*id*/) const
    {
        boost::test_tools::assertion_result result{::geteuid() == 0};
        result.message() << "only root has root to give up";
        return result;
    }
};

/// The sandboxed process, taken over by this test.
class taken_over
{
public:
    /// When it has nothing else to do.
    explicit taken_over(::pid_t pid) : pid_{pid}
    {
        BOOST_REQUIRE(::ptrace(PTRACE_SEIZE, pid_, nullptr, PTRACE_O_TRACESYSGOOD) == 0);
        BOOST_REQUIRE(wait_until([this] {
            BOOST_REQUIRE(::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) == 0);
            BOOST_REQUIRE(WIFSTOPPED(wait()));
            if (is_idle())
                return true;
            BOOST_REQUIRE(::ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0);
            return false;
        }));
    }
    taken_over(taken_over const&) = delete;
    taken_over& operator=(taken_over const&) = delete;
    ~taken_over() { ::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr); }

#if defined(__x86_64__)
    /// Has it make a system call. Gives what that returned, or nothing where the call was the process's end by SIGSYS.
    [[nodiscard]] std::optional<long> call(long number, unsigned long first = 0)
    {
        ::user_regs_struct before{};
        BOOST_REQUIRE(::ptrace(PTRACE_GETREGS, pid_, nullptr, &before) == 0);
        auto during = before;
        during.rip -= 2; // to the instruction `syscall`, in which it waits
        during.orig_rax = ~0ULL; // nothing is to be restarted
        during.rax = static_cast<unsigned long long>(number);
        during.rdi = first;
        during.rsi = during.rdx = during.r10 = during.r8 = during.r9 = 0;
        BOOST_REQUIRE(::ptrace(PTRACE_SETREGS, pid_, nullptr, &during) == 0);
        // Before it, after it, and one instruction further: a process that is killed for a call may still stop after that.
        for (auto const how : {PTRACE_SYSCALL, PTRACE_SYSCALL, PTRACE_SINGLESTEP}) {
            BOOST_REQUIRE(::ptrace(PTRACE_GETREGS, pid_, nullptr, &during) == 0);
            BOOST_REQUIRE(::ptrace(how, pid_, nullptr, nullptr) == 0);
            auto const status = wait();
            if (WIFSIGNALED(status)) {
                BOOST_TEST(WTERMSIG(status) == SIGSYS);
                return {};
            }
            BOOST_REQUIRE(WIFSTOPPED(status));
        }
        BOOST_REQUIRE(::ptrace(PTRACE_SETREGS, pid_, nullptr, &before) == 0);
        return static_cast<long>(during.rax);
    }
#else
    [[nodiscard]] std::optional<long> call(long, unsigned long = 0) { return {}; }
#endif

private:
    [[nodiscard]] bool is_idle() const
    {
#if defined(__x86_64__)
        ::user_regs_struct now{};
        BOOST_REQUIRE(::ptrace(PTRACE_GETREGS, pid_, nullptr, &now) == 0);
        return now.orig_rax == SYS_epoll_wait;
#else
        return true;
#endif
    }
    [[nodiscard]] int wait() const
    {
        int status = 0;
        BOOST_REQUIRE(wait_until([&] { return ::waitpid(pid_, &status, __WALL | WNOHANG) == pid_; }, std::chrono::seconds{10}));
        return status;
    }

    ::pid_t pid_;
};

/// Whether this test can do that to another user's process.
struct can_take_over
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id /*id*/) const
    {
        boost::test_tools::assertion_result result{true};
#if !defined(__x86_64__)
        result = false;
        result.message() << "the registers of a traced process are known here for x86_64";
#endif
        auto const capabilities = std::stoull(status(::getpid(), "CapEff"), nullptr, 16);
        if (::geteuid() == 0 && (capabilities >> CAP_SYS_PTRACE & 1) == 0) {
            result = false;
            result.message() << "this root has no CAP_SYS_PTRACE, and may not trace who is not root";
        }
        return result;
    }
};

/// A call, and what comes of it in each of the two; nothing: it is the end.
struct attempt
{
    char const* name;
    long number;
    unsigned long first;
    std::optional<long> with_helper, direct;
};

std::ostream& operator<<(std::ostream& to, attempt const& one)
{
    return to << one.name;
}

constexpr unsigned long spawns = CLONE_VM | CLONE_VFORK | SIGCHLD; // as glibc does, too
constexpr std::array attempts{
    attempt{"fork as glibc does", SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, {}, {}},
    attempt{"spawn as glibc does", SYS_clone, spawns, {}, {}},
    attempt{"start a thread", SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, {}, {}},
    attempt{"clone3", SYS_clone3, 0, -ENOSYS, -ENOSYS},
#if defined(SYS_fork)
    attempt{"fork", SYS_fork, 0, {}, {}},
    attempt{"vfork", SYS_vfork, 0, {}, {}},
#endif
    attempt{"execveat", SYS_execveat, 0, {}, {}},
    attempt{"execve", SYS_execve, 0, {}, -EFAULT}, // it must be able to execute the next generation
    attempt{"become root", SYS_setuid, 0, {}, {}},
    attempt{"trace", SYS_ptrace, 0, {}, {}},
};

} // namespace

BOOST_DATA_TEST_CASE(answers_over_20_upgrades_in_one_sandbox, both, name)
{
    service it{name, SOCK_STREAM};
    {
        asking const load{it};
        check_is_in_sandbox(it.pid());
        for (unsigned generation = 1; generation != 21; ++generation) {
            BOOST_TEST_REQUIRE(load.goes_on());
            it.upgrade(generation);
            check_is_in_sandbox(it.pid());
            if (has_helper(name))
                BOOST_TEST(has_one_helper(it.pid()));
            it.expect_parent_ended();
        }
        BOOST_TEST_REQUIRE(load.goes_on());
    }
    it.stop();
}

// A script that forks is a version that calls what the filter denies. A child of the helper may do so, and so its own words
// are heard; who has inherited the filter is killed by it. The service serves on.
BOOST_DATA_TEST_CASE(a_program_that_fails_leaves_it_as_it_was, both, name)
{
    service it{name, SOCK_STREAM};
    auto const pid = it.pid();
    auto const script = it.path("script");
    std::ofstream{script} << "#!/bin/sh\n(exit 7)\nexit $?\n";
    std::filesystem::permissions(script, std::filesystem::perms{0755});

    replace(it, name, script);
    BOOST_TEST(failure_of_upgrade(it) == (has_helper(name) ? "failed phase=handing-over reason=\"exit status 7\""
                                                           : "failed phase=handing-over reason=\"killed by signal 31 (Bad system call: a seccomp filter does not allow what it called)\""));
    std::filesystem::remove(it.path(name));
    auto const missing = failure_of_upgrade(it);
    BOOST_TEST(missing.starts_with("failed phase="), missing);
    BOOST_TEST(missing.find("No such file or directory") != missing.npos, missing);

    BOOST_TEST(it.pid() == pid);
    BOOST_TEST(ask(it) == answer_of(0, pid));
    check_is_in_sandbox(pid);
    if (has_helper(name))
        BOOST_TEST_REQUIRE(has_one_helper(pid)); // else it would be taken for a child that is left
    BOOST_TEST(restart::children(pid).empty());
    replace(it, name, directory_of(false) + "/" + name);
    it.upgrade(1);
    it.expect_parent_ended();
    BOOST_TEST(ask(it) == answer_of(1, it.pid()));
    it.stop();
}

// Nothing but the helper's end of their socket is between them: an end of the helper is no end of the service.
BOOST_AUTO_TEST_CASE(without_its_helper_it_serves_on)
{
    service it{"sandboxed", SOCK_STREAM};
    BOOST_TEST_REQUIRE(has_one_helper(it.pid()));
    BOOST_REQUIRE(::kill(restart::helpers(it.pid()).front().pid, SIGKILL) == 0);
    auto const words = failure_of_upgrade(it);
    BOOST_TEST(words.find("the helper that starts new generations has gone; restart the service") != words.npos, words);
    BOOST_TEST(ask(it) == answer_of(0, it.pid()));
    it.stop();
}

BOOST_DATA_TEST_CASE(a_stop_drains, both, name)
{
    service it{name, SOCK_STREAM};
    it.upgrade(1);
    auto open = it.connect();
    open.send("GET / HTTP/1.1\r");
    BOOST_TEST(ask(it) == answer_of(1, it.pid())); // so the other has been accepted
    BOOST_REQUIRE(::kill(it.pid(), SIGTERM) == 0);
    BOOST_TEST(wait_until([&] { return it.log().find("stopped by signal 15") != std::string::npos; }));
    open.send("Host: example\r\n\r");
    auto const last = receive_response(open);
    BOOST_TEST(last.body == answer_of(1, it.pid()));
    BOOST_TEST(last.says("Connection: close"), last.head);
    BOOST_TEST(exit_status(it.pid()) == 0);
    BOOST_TEST(!std::filesystem::exists(it.path("pid")));
    BOOST_TEST(!std::filesystem::exists(it.path("control")));
    BOOST_TEST(wait_until([] { return family::instance().living().empty(); }));
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(is_root{}))
BOOST_DATA_TEST_CASE(gives_root_up, both, name)
{
    service it{name, SOCK_STREAM};
    auto const check = [&](bool first) {
        for (auto const* const who : {"Uid", "Gid"})
            BOOST_TEST(status(it.pid(), who) == "65534 65534 65534 65534");
        BOOST_TEST(status(it.pid(), "Groups") == "");
        for (auto const* const set : {"CapInh", "CapAmb"})
            BOOST_TEST(status(it.pid(), set) == "0000000000000000");
        // What is inherited by exec is none; a child of the helper begins as root again, and keeps the same one.
        auto const low_ports = std::stoull(status(::getpid(), "CapPrm"), nullptr, 16) & CAP_TO_MASK(CAP_NET_BIND_SERVICE);
        for (auto const* const set : {"CapPrm", "CapEff"})
            BOOST_TEST(std::stoull(status(it.pid(), set), nullptr, 16) == (first || has_helper(name) ? low_ports : 0));
        if (has_helper(name))
            BOOST_TEST_REQUIRE(has_one_helper(it.pid()));
        for (auto const& helper : restart::helpers(it.pid())) {
            BOOST_TEST(status(helper.pid, "Uid") == "0 0 0 0");
            BOOST_TEST(status(helper.pid, "Seccomp_filters") == status(::getpid(), "Seccomp_filters"));
        }
    };
    check(true);
    for (unsigned generation = 1; generation != 3; ++generation) {
        it.upgrade(generation);
        it.expect_parent_ended();
        check(false);
    }
    it.stop();
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(is_root{}))
BOOST_DATA_TEST_CASE(a_low_port_is_bound_after_root_was_given_up, both, name)
{
    int port = 1023;
    for (; port != 600; --port) { // somebody may have some
        ecdysis::address const where{"127.0.0.1:" + std::to_string(port)};
        ecdysis::os::owned_fd const probe{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        if (::bind(probe.get(), where.data(), where.size()) == 0)
            break;
    }
    service it{name, SOCK_STREAM, {"--listen", "127.0.0.1:" + std::to_string(port)}};
    it.upgrade(1);
    it.expect_parent_ended();
    BOOST_TEST(it.addresses().back() == "127.0.0.1:" + std::to_string(port));
    BOOST_TEST(ask(it) == answer_of(1, it.pid()));
    it.stop();
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(is_root{}))
BOOST_DATA_TEST_CASE(says_whom_it_cannot_become, both, name)
{
    auto const unknown = run(name, {"--user", "no such user"});
    BOOST_TEST(unknown.status == 1);
    BOOST_TEST(unknown.err.find("find the user no such user: No such file or directory") != unknown.err.npos, unknown.err);
    auto const same = run(name, {"--user", "root"});
    BOOST_TEST(same.status == 1);
    BOOST_TEST(same.err.find("give up root: root is root, or can become it again") != same.err.npos, same.err);
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(can_take_over{}))
BOOST_DATA_TEST_CASE(no_call_of_an_intruder_starts_a_process, both * data::make(attempts) * data::make({0U, 1U}), name, what, generation)
{
    service it{name, SOCK_STREAM};
    for (unsigned number = 1; number <= generation; ++number) {
        it.upgrade(number);
        it.expect_parent_ended();
    }
    {
        taken_over victim{it.pid()};
        BOOST_TEST((victim.call(SYS_getpid) == it.pid())); // it can be had to make calls
    }
    BOOST_TEST(ask(it) == answer_of(generation, it.pid())); // and to go on
    taken_over victim{it.pid()};
    auto const expected = has_helper(name) ? what.with_helper : what.direct;
    auto const came = victim.call(what.number, what.first);
    BOOST_TEST(came.has_value() == expected.has_value());
    if (came && expected)
        BOOST_TEST(*came == *expected);
}
