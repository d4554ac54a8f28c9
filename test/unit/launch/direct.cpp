// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/launch/direct.hpp>

#define BOOST_TEST_MODULE launch/direct
#define BOOST_TEST_NO_MAIN
#include <boost/test/unit_test.hpp>

#include "../../restart/harness/exec_gate.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
using ecdysis::errc;
using ecdysis::error_code;
using restart::exec_gate;

std::string const shell = "/bin/sh";

os::owned_fd file(char const* name)
{
    return os::owned_fd{::memfd_create(name, MFD_CLOEXEC)};
}

os::owned_fd directory(char const* path)
{
    return os::owned_fd{::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)};
}

std::string content(os::borrowed_fd file)
{
    std::string result(65536, '\0');
    auto const got = ::pread(file.get(), result.data(), result.size(), 0);
    result.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return result;
}

std::set<int> open_numbers()
{
    std::set<int> result;
    for (auto const& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
        result.insert(std::stoi(entry.path().filename()));
    return result;
}

bool ended(launch::process const& child, int milliseconds = 20000)
{
    ::pollfd one{child.pidfd.get(), POLLIN, 0};
    return ::poll(&one, 1, milliseconds) == 1;
}

bool has_children()
{
    return ::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD;
}

struct started
{
    error_code ec;
    launch::process child;
    int calls = 0;
};

started start(launch::request const& what)
{
    started result;
    launch::direct{}.start(what, [&](error_code ec, launch::process child) {
        result.ec = ec;
        result.child = std::move(child);
        ++result.calls;
    });
    return result;
}

/// The status of an ended child, also of one that somebody else reaps.
os::exit_status status_of(launch::process const& child)
{
    for (int i = 0; i != 10000; ++i) {
        error_code ec = errc::busy;
        auto const status = launch::direct{}.reap(child, ec);
        if (!ec)
            return status;
        ::usleep(1000);
    }
    return {os::exit_status::kind::killed, -1};
}

/// Before Linux 6.15 nobody can know what another has reaped.
bool is_status_3_or_unknown(launch::process const& child)
{
    static bool const known = [] {
        error_code ec;
        auto const self = os::open_pidfd(os::this_process(), ec);
        static_cast<void>(os::status_of_reaped(self, ec));
        return static_cast<bool>(ec); // alive: "try again", where it is known at all
    }();
    auto const status = status_of(child);
    if (status == os::exit_status{os::exit_status::kind::exited, 3})
        return true;
    return !known && status.how == os::exit_status::kind::unknown;
}

/// Why the program could not be executed, and nothing is left of its process; or why there was none.
error_code refusal(launch::request const& what)
{
    auto const result = start(what);
    if (result.ec || !ended(result.child))
        return result.ec;
    BOOST_TEST((status_of(result.child) == os::exit_status{os::exit_status::kind::exited, 127}));
    return result.child.exec_error();
}

struct ran
{
    error_code ec;
    os::exit_status status;
    std::string output; // what was written to the last inherited descriptor
};

ran run_program(std::string const& program, std::vector<std::string> arguments, std::vector<os::borrowed_fd> inherited,
                std::vector<int> const& blocked = {}, std::vector<int> const& ignored = {})
{
    ran result;
    auto const out = file("out");
    auto const cwd = directory("/");
    inherited.push_back(out);
    auto const begun = start({.program = program,
                              .arguments = std::move(arguments),
                              .environment = {"PATH=/usr/bin:/bin"},
                              .directory = cwd,
                              .inherited = inherited,
                              .blocked = blocked,
                              .ignored = ignored});
    result.ec = begun.ec;
    if (begun.ec || !ended(begun.child))
        return result;
    result.status = launch::direct{}.reap(begun.child, result.ec);
    result.output = content(out);
    if (begun.child.exec_error())
        result.ec = begun.child.exec_error();
    return result;
}

ran run(std::string const& script, std::vector<os::borrowed_fd> inherited = {}, std::vector<int> const& blocked = {})
{
    return run_program(shell, {"sh", "-c", script}, std::move(inherited), blocked);
}

// This program as a child that writes to its descriptor `out` what it `tells`: see main().
std::vector<std::string> teller(std::string tells, std::size_t out)
{
    return {"direct", "--tell", std::move(tells), std::to_string(out)};
}

std::string self()
{
    return std::filesystem::read_symlink("/proc/self/exe");
}

std::string listed(std::vector<os::borrowed_fd> const& inherited)
{
    return run_program(self(), teller("descriptors", 3 + inherited.size()), inherited).output;
}

std::string told_signals(std::vector<int> const& blocked, std::vector<int> const& ignored = {})
{
    return run_program(self(), teller("signals", 3), {}, blocked, ignored).output;
}

std::string descriptors()
{
    std::string text;
    for (int const number : open_numbers()) {
        auto const path = "/proc/self/fd/" + std::to_string(number);
        std::array<char, 256> target{};
        if (::readlink(path.c_str(), target.data(), target.size() - 1) != -1) // not open_numbers's own directory
            text += std::to_string(number) + ' ' + target.data() + '\n';
    }
    return text;
}

// The signals that are blocked and ignored. Not asked of a shell: dash unblocks all.
std::string signals()
{
    std::string text;
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("SigBlk:\t") || line.starts_with("SigIgn:\t"))
            text += line + '\n';
    return text;
}

// In a process of its own, for what would harm this one; gives its exit status.
template <class F>
int apart(F f)
{
    auto const pid = ::fork();
    if (pid == 0) {
        ::alarm(60);
        ::_exit(f());
    }
    int status = -1;
    while (::waitpid(pid, &status, 0) == -1 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct temporary_directory
{
    std::string path = "/tmp/ecdysis-launch-XXXXXX";
    temporary_directory() { BOOST_REQUIRE(::mkdtemp(path.data()) != nullptr); }
    ~temporary_directory() { std::filesystem::remove_all(path); }
};

// A test leaves no descriptor open and no child behind.
struct leaves_nothing
{
    std::set<int> before = open_numbers();
    ~leaves_nothing()
    {
        BOOST_TEST((open_numbers() == before));
        BOOST_TEST(!has_children());
    }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(direct, leaves_nothing)

BOOST_AUTO_TEST_CASE(gives_the_status)
{
    auto const result = run("exit 3");
    BOOST_TEST(!result.ec);
    BOOST_TEST((result.status == os::exit_status{os::exit_status::kind::exited, 3}));
    BOOST_TEST((run("kill -9 $$").status == os::exit_status{os::exit_status::kind::killed, 9}));
}

BOOST_AUTO_TEST_CASE(passes_arguments_environment_and_directory)
{
    temporary_directory const where;
    auto const out = file("out");
    auto const cwd = directory(where.path.c_str());
    std::array const inherited{os::borrowed_fd{out}};
    auto begun = start({.program = shell,
                        .arguments = {"as called", "-c", "echo \"$0|$1|$2\" >&3; pwd >&3; /usr/bin/env >&3", "zero", "", "a b"},
                        .environment = {"ONE=1", "TWO= 2"},
                        .directory = cwd,
                        .inherited = inherited,
                        .blocked = {}});
    BOOST_TEST_REQUIRE(!begun.ec);
    BOOST_TEST(begun.calls == 1);
    BOOST_TEST_REQUIRE(ended(begun.child));
    error_code ec;
    BOOST_TEST(launch::direct{}.reap(begun.child, ec).value == 0);
    auto const output = content(out);
    BOOST_TEST(output.starts_with("zero||a b\n" + where.path + "\n"));
    BOOST_TEST(output.find("ONE=1\n") != std::string::npos);
    BOOST_TEST(output.find("TWO= 2\n") != std::string::npos);
    BOOST_TEST(output.find("PATH=/") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(has_exactly_the_descriptors_named)
{
    auto const named = file("named");
    os::owned_fd const leaked{::memfd_create("leaked", 0)};
    os::owned_fd const far{::fcntl(leaked.get(), F_DUPFD, 900)};
    auto const output = listed({named});
    BOOST_TEST(output.ends_with("\n3 /memfd:named (deleted)\n4 /memfd:out (deleted)\n"));
    BOOST_TEST(std::ranges::count(output, '\n') == 5); // and 0 to 2
}

BOOST_AUTO_TEST_CASE(keeps_the_order_of_every_permutation)
{
    BOOST_TEST(apart([] {
        // Fresh numbers from 3 on, so that sources and targets are the same numbers.
        ::closefrom(3);
        auto const a = file("a"), b = file("b"), c = file("c");
        if (a.get() != 3 || b.get() != 4 || c.get() != 5)
            return 1;
        std::vector<std::pair<int, char>> order{{3, 'a'}, {4, 'b'}, {5, 'c'}};
        do {
            std::vector<os::borrowed_fd> inherited;
            std::string expected;
            for (int number = 3; auto const& [source, name] : order) {
                inherited.emplace_back(source);
                expected += std::to_string(number++) + " /memfd:" + name + " (deleted)\n";
            }
            if (listed(inherited).find('\n' + expected) == std::string::npos)
                return 2;
        } while (std::ranges::next_permutation(order).found);
        return 0;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(gives_one_descriptor_twice)
{
    auto const one = file("one");
    BOOST_TEST(listed({one, one}).find("\n3 /memfd:one (deleted)\n4 /memfd:one (deleted)\n") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(keeps_0_to_2_open_where_ours_are_closed)
{
    // All combinations of closed ones.
    for (int closed = 0; closed != 8; ++closed)
        BOOST_TEST(apart([&] {
            for (int number = 0; number != 3; ++number) {
                os::owned_fd const was{::memfd_create("stdio", 0)};
                if ((closed & 1 << number) != 0)
                    ::close(number);
                else
                    ::dup2(was.get(), number);
            }
            std::string expected;
            for (int number = 0; number != 3; ++number)
                expected += std::to_string(number) + ((closed & 1 << number) != 0 ? " /dev/null\n" : " /memfd:stdio (deleted)\n");
            return listed({}) == expected + "3 /memfd:out (deleted)\n" ? 0 : 1;
        }) == 0);
}

BOOST_AUTO_TEST_CASE(hands_over_what_got_a_number_below_3)
{
    BOOST_TEST(apart([] {
        ::close(0);
        ::close(1);
        ::close(2);
        os::owned_fd const listener{::memfd_create("listener", 0)}; // 0, and without close-on-exec
        auto const other = file("other");                           // 1
        return listed({other, listener}) == "0 /dev/null\n1 /dev/null\n2 /dev/null\n3 /memfd:other (deleted)\n"
                                "4 /memfd:listener (deleted)\n5 /memfd:out (deleted)\n"
            ? 0
            : 1;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(resets_every_disposition_and_blocks_exactly_what_is_asked)
{
    BOOST_TEST(apart([] {
        for (int signal = 1; signal != 65; ++signal)
            ::signal(signal, SIG_IGN); // SIGKILL, SIGSTOP and libc's own refuse
        ::signal(SIGCHLD, SIG_DFL);
        ::sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_BLOCK, &all, nullptr);
        return told_signals({SIGHUP, SIGUSR2}) == "SigBlk:\t0000000000000801\nSigIgn:\t0000000000000000\n" ? 0 : 1;
    }) == 0);
    BOOST_TEST(told_signals({SIGHUP}, {SIGPIPE, SIGHUP}) == "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n");
    // Signals that libc keeps to itself, too, once it has installed them.
    std::thread{[] {}}.join();
    BOOST_TEST(told_signals({}) == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

BOOST_AUTO_TEST_CASE(says_why_a_program_cannot_be_executed)
{
    temporary_directory const where;
    auto const plain = where.path + "/plain";
    std::ofstream{plain} << "not a program\n";
    auto const cwd = directory("/");
    auto const attempt = [&](std::string const& program) {
        return refusal({.program = program, .arguments = {"x"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}}).value();
    };
    BOOST_TEST(attempt(where.path + "/missing") == ENOENT);
    BOOST_TEST(attempt(plain) == EACCES);
    BOOST_TEST(attempt(where.path) == EACCES);
    BOOST_TEST(attempt(plain + "/below") == ENOTDIR);
    BOOST_TEST(attempt("") == ENOENT);
    std::filesystem::permissions(plain, std::filesystem::perms::owner_all);
    BOOST_TEST(attempt(plain) == ENOEXEC); // no shell is tried, as posix_spawnp would
}

BOOST_AUTO_TEST_CASE(refuses_descriptors_that_are_not_open)
{
    BOOST_TEST(run("exit 0", {os::borrowed_fd{}}).ec.value() == EBADF);
    BOOST_TEST(run("exit 0", {os::borrowed_fd{777}}).ec.value() == EBADF);
    BOOST_TEST(run("exit 0", {os::borrowed_fd{1 << 30}}).ec.value() == EBADF);
    BOOST_TEST(refusal({.program = shell, .arguments = {"sh"}, .environment = {}, .directory = {}, .inherited = {}, .blocked = {}}).value() == EBADF);
}

BOOST_AUTO_TEST_CASE(refuses_a_directory_that_is_none_and_a_signal_that_is_none)
{
    auto const none = file("none");
    BOOST_TEST(refusal({.program = shell, .arguments = {"sh"}, .environment = {}, .directory = none, .inherited = {}, .blocked = {}}).value() == ENOTDIR);
    BOOST_TEST(run("exit 0", {}, {0}).ec.value() == EINVAL);
    BOOST_TEST(run("exit 0", {}, {1000}).ec.value() == EINVAL);
}

BOOST_AUTO_TEST_CASE(refuses_more_than_the_limit_leaves_room_for)
{
    BOOST_TEST(apart([] {
        ::rlimit const limit{128, 128};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::closefrom(3);
        auto const one = file("one");
        std::vector<os::borrowed_fd> inherited(63, one); // and the output: 64
        if (run("exit 5", inherited).status.value != 5)
            return 1;
        inherited.emplace_back(one);
        return run("exit 5", inherited).ec == errc::descriptor_limit ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(moves_as_many_as_the_limit_allows_in_a_full_table)
{
    // Every number is open, the 64 inherited ones are a ring among themselves, and others lie at the limit.
    BOOST_TEST(apart([] {
        ::rlimit const limit{128, 128};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::closefrom(3);
        auto const cwd = directory("/"); // 3
        std::vector<os::owned_fd> all;
        std::vector<os::borrowed_fd> inherited;
        while (os::owned_fd one{::memfd_create(("n" + std::to_string(all.size() + 4)).c_str(), MFD_CLOEXEC)})
            all.push_back(std::move(one));
        all.pop_back(); // one free number is needed for the pidfd: 127
        for (int i = 0; i != 62; ++i)
            inherited.emplace_back(4 + (i + 1) % 62);
        inherited.emplace_back(126);
        inherited.emplace_back(66); // the 64th target
        auto begun = start({.program = self(),
                            .arguments = teller("descriptors", 66),
                            .environment = {},
                            .directory = cwd,
                            .inherited = inherited,
                            .blocked = {}});
        if (begun.ec || !ended(begun.child))
            return 1;
        error_code ec;
        if (launch::direct{}.reap(begun.child, ec).value != 0)
            return 2;
        auto const output = content(inherited.back());
        std::string expected;
        for (int i = 0; i != 64; ++i)
            expected += std::to_string(3 + i) + " /memfd:n" + std::to_string(inherited[static_cast<std::size_t>(i)].get()) + " (deleted)\n";
        return output.ends_with('\n' + expected) ? 0 : 3;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(finds_a_full_table_before_there_is_a_child)
{
    BOOST_TEST(apart([] {
        ::rlimit const limit{128, 128};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        auto const cwd = directory("/");
        std::vector<os::owned_fd> all;
        while (os::owned_fd one{::dup(cwd.get())})
            all.push_back(std::move(one));
        auto const what = launch::request{.program = shell, .arguments = {"sh", "-c", "exit 0"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}};
        if (start(what).ec.value() != EMFILE || has_children())
            return 1;
        all.pop_back(); // one number is enough
        auto const begun = start(what);
        return !begun.ec && begun.child.pidfd && ended(begun.child) ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(the_status_is_right_or_unknown_where_SIGCHLD_is_ignored)
{
    BOOST_TEST(apart([] {
        ::signal(SIGCHLD, SIG_IGN);
        for (int i = 0; i != 100; ++i) {
            auto const cwd = directory("/");
            auto const begun = start({.program = shell, .arguments = {"sh", "-c", "exit 3"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}});
            if (begun.ec || !ended(begun.child))
                return 1;
            if (!is_status_3_or_unknown(begun.child))
                return 2;
        }
        return 0;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(the_status_is_right_or_unknown_where_a_thread_reaps_everything)
{
    BOOST_TEST(apart([] {
        std::atomic<bool> done = false;
        std::jthread reaper{[&] {
            while (!done)
                ::waitpid(-1, nullptr, 0);
        }};
        int result = 0;
        for (int i = 0; i != 100 && result == 0; ++i) {
            auto const cwd = directory("/");
            auto const begun = start({.program = shell, .arguments = {"sh", "-c", "exit 3"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}});
            if (begun.ec || !ended(begun.child))
                result = 1;
            if (!is_status_3_or_unknown(begun.child))
                result = 2;
        }
        done = true;
        return result;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_sibling_is_a_child_of_our_own_parent)
{
    auto const out = file("out");
    auto const starter = ::fork();
    if (starter == 0) {
        ::alarm(60);
        auto const cwd = directory("/");
        std::array<os::borrowed_fd, 1> const inherited{out};
        launch::request what{.program = shell, .arguments = {"sh", "-c", "echo $PPID >&3; exit 3"}, .environment = {}, .directory = cwd, .inherited = inherited, .blocked = {}, .as_sibling = true};
        auto const begun = start(what);
        if (begun.ec || !ended(begun.child) || !is_status_3_or_unknown(begun.child))
            ::_exit(1);
        what.program = "/does/not/exist";
        auto const refused = start(what);
        ::_exit(ended(refused.child) && refused.child.exec_error().value() == ENOENT ? 0 : 2);
    }
    std::multiset<int> statuses;
    for (int status = 0, count = 0; count != 3; ++count) {
        BOOST_REQUIRE(::waitpid(-1, &status, 0) > 0);
        statuses.insert(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    BOOST_TEST((statuses == std::multiset{0, 3, 127}));
    BOOST_TEST(content(out) == std::to_string(::getpid()) + '\n');
}

BOOST_AUTO_TEST_CASE(does_not_wait_for_exec, *boost::unit_test::precondition(&exec_gate::is_possible))
{
    temporary_directory const where;
    auto const program = where.path + "/true";
    std::filesystem::copy_file("/bin/true", program);
    auto const cwd = directory("/");
    launch::request const what{.program = program, .arguments = {"true"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}};
    for (bool const refused : {false, true}) {
        exec_gate gate{program};
        auto const begun = start(what);
        BOOST_TEST_REQUIRE(!begun.ec);
        BOOST_TEST(gate.held() == os::number(begun.child.pid));
        BOOST_TEST(!ended(begun.child, 0));
        errno = 0;
        refused ? gate.refuse() : gate.open();
        BOOST_TEST_REQUIRE(ended(begun.child));
        BOOST_TEST(errno == 0); // of this thread, which the other process has run beside
        BOOST_TEST(begun.child.exec_error().value() == (refused ? EPERM : 0));
        BOOST_TEST(status_of(begun.child).value == (refused ? 127 : 0));
    }
}

BOOST_AUTO_TEST_CASE(kills_one_that_has_not_executed_the_program_yet, *boost::unit_test::precondition(&exec_gate::is_possible))
{
    temporary_directory const where;
    auto const program = where.path + "/true";
    std::filesystem::copy_file("/bin/true", program);
    auto const cwd = directory("/");
    exec_gate gate{program};
    launch::request const what{.program = program, .arguments = {"true"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}};
    auto const begun = start(what);
    BOOST_TEST_REQUIRE(!begun.ec);
    BOOST_TEST(gate.held() != 0);
    error_code ec;
    launch::direct{}.kill(begun.child, SIGKILL, ec);
    BOOST_TEST_REQUIRE(ended(begun.child));
    BOOST_TEST(!begun.child.exec_error());
    BOOST_TEST((status_of(begun.child) == os::exit_status{os::exit_status::kind::killed, SIGKILL}));
}

// The memory of a process that is in execve(2) still: the program reads its arguments there.
BOOST_AUTO_TEST_CASE(what_is_given_up_is_left_to_who_uses_it, *boost::unit_test::precondition(&exec_gate::is_possible))
{
    temporary_directory const where;
    auto const program = where.path + "/sh";
    std::filesystem::copy_file("/bin/sh", program);
    exec_gate gate{program};
    BOOST_TEST(apart([&] {
        auto const cwd = directory("/");
        auto const out = file("out");
        std::array<os::borrowed_fd, 1> const inherited{out};
        std::string const text(100, 'x');
        auto begun = start({.program = program, .arguments = {"sh", "-c", "echo $0 >&3", text}, .environment = {}, .directory = cwd, .inherited = inherited, .blocked = {}});
        if (begun.ec || gate.held() == 0)
            return 1;
        begun.child.exec_errno.reset();
        std::vector<std::string> const others(1000, std::string(100, 'y')); // where it would lie
        gate.open();
        return ended(begun.child) && status_of(begun.child).value == 0 && content(out) == text + '\n' ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(kills_and_reaps)
{
    auto const cwd = directory("/");
    auto const begun = start({.program = shell, .arguments = {"sh", "-c", "exec sleep 1000"}, .environment = {"PATH=/usr/bin:/bin"}, .directory = cwd, .inherited = {}, .blocked = {}});
    BOOST_TEST_REQUIRE(!begun.ec);
    BOOST_TEST((::fcntl(begun.child.pidfd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    launch::direct policy;
    error_code ec;
    (void)policy.reap(begun.child, ec); // not ended: never waits
    BOOST_TEST((ec == boost::system::errc::resource_unavailable_try_again));
    policy.kill(begun.child, SIGKILL, ec);
    BOOST_TEST(!ec);
    BOOST_TEST_REQUIRE(ended(begun.child));
    policy.kill(begun.child, SIGKILL, ec); // a zombie
    BOOST_TEST(!ec);
    BOOST_TEST((policy.reap(begun.child, ec) == os::exit_status{os::exit_status::kind::killed, SIGKILL}));
    policy.kill(begun.child, SIGKILL, ec); // nobody
    BOOST_TEST(!ec);
    auto const again = policy.reap(begun.child, ec); // which the kernel remembers since Linux 6.15
    BOOST_TEST((again.how == os::exit_status::kind::unknown || again.value == SIGKILL));
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(starts_in_root_where_the_directory_must_not_be_entered)
{
    temporary_directory const where;
    auto const cwd = directory(where.path.c_str());
    auto const out = file("out");
    BOOST_TEST(apart([&] {
        if (::geteuid() != 0 ? ::chmod(where.path.c_str(), 0) != 0 : ::setresuid(65534, 65534, 65534) != 0)
            return 1;
        std::array<os::borrowed_fd, 1> const inherited{out};
        auto const begun = start({.program = shell, .arguments = {"./sh", "-c", "echo $0 $(pwd) >&3"}, .environment = {"PATH=/usr/bin:/bin"}, .directory = cwd, .inherited = inherited, .blocked = {}});
        if (begun.ec || !ended(begun.child) || status_of(begun.child).value != 0)
            return 2;
        return begun.child.starts_in_root() && !begun.child.exec_error() && content(out) == "/bin/sh /\n" ? 0 : 3;
    }) == 0);
    ::chmod(where.path.c_str(), 0700);
}

BOOST_AUTO_TEST_CASE(starts_in_a_directory_that_was_deleted)
{
    // Whether it should is program's to decide; the policy does as it is told.
    os::owned_fd cwd;
    {
        temporary_directory const where;
        cwd = directory(where.path.c_str());
    }
    auto const begun = start({.program = "/bin/true", .arguments = {"true"}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}});
    BOOST_TEST_REQUIRE(!begun.ec);
    BOOST_TEST(ended(begun.child));
    error_code ec;
    BOOST_TEST(launch::direct{}.reap(begun.child, ec).value == 0);
}

BOOST_AUTO_TEST_CASE(runs_what_a_symlink_points_to_now)
{
    temporary_directory const where;
    auto const link = where.path + "/current";
    auto const cwd = directory("/");
    for (auto const* version : {"/bin/true", "/bin/false"}) {
        std::filesystem::remove(link);
        std::filesystem::create_symlink(version, link);
        auto const begun = start({.program = link, .arguments = {version}, .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}});
        BOOST_TEST_REQUIRE(!begun.ec);
        BOOST_TEST_REQUIRE(ended(begun.child));
        error_code ec;
        BOOST_TEST(launch::direct{}.reap(begun.child, ec).value == (version == std::string{"/bin/true"} ? 0 : 1));
    }
}

BOOST_AUTO_TEST_SUITE_END()

int main(int count, char** arguments)
{
    if (count == 4 && arguments[1] == std::string{"--tell"}) {
        auto const text = arguments[2] == std::string{"signals"} ? signals() : descriptors();
        return ::write(std::stoi(arguments[3]), text.data(), text.size()) == static_cast<::ssize_t>(text.size()) ? 0 : 1;
    }
    return boost::unit_test::unit_test_main(&init_unit_test, count, arguments);
}
