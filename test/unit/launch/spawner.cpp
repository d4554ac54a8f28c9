// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/launch/spawner.hpp>

#define BOOST_TEST_MODULE launch/spawner
#include <boost/test/unit_test.hpp>

#include "../../restart/harness/exec_gate.hpp"
#include "to_the_end.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
using ecdysis::errc;
using ecdysis::error_code;
using restart::exec_gate;

os::owned_fd file(char const* name)
{
    return os::owned_fd{::memfd_create(name, MFD_CLOEXEC)};
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

bool has_children()
{
    return ::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD;
}

std::vector<::pid_t> children()
{
    std::vector<::pid_t> result;
    std::ifstream list{"/proc/thread-self/children"};
    for (::pid_t pid; list >> pid;)
        result.push_back(pid);
    return result;
}

std::string of_process(::pid_t pid, std::string const& what)
{
    std::ifstream text{"/proc/" + std::to_string(pid) + "/" + what};
    return {std::istreambuf_iterator<char>{text}, {}};
}

bool ended(launch::process const& child, int milliseconds = 20000)
{
    ::pollfd one{child.pidfd.get(), POLLIN, 0};
    return ::poll(&one, 1, milliseconds) == 1;
}

/// Runs `script` with a shell as the program that was fixed. The handoff's variable is `text`.
struct shell
{
    explicit shell(std::string const& script, std::string const& path = "/bin/sh")
        : spawner{launch::spawner::fork(launch::program{path, {"sh", "-c", script}})}
    {}

    void begin(std::vector<os::borrowed_fd> const& inherited = {}, std::vector<int> const& blocked = {},
               std::string const& program = "/bin/sh")
    {
        spawner.start({.program = program,
                       .arguments = {"lies"},
                       .environment = {"LD_PRELOAD=/lies", "ECDYSIS_HANDOFF=" + text},
                       .directory = {},
                       .inherited = inherited,
                       .blocked = blocked,
                       .as_sibling = spawner.as_sibling(false)},
                      [&](error_code why, launch::process child) {
                          ec = why;
                          started = std::move(child);
                          ++calls;
                      });
    }

    launch::process start(std::vector<os::borrowed_fd> const& inherited = {}, std::vector<int> const& blocked = {},
                          std::string const& program = "/bin/sh")
    {
        begin(inherited, blocked, program);
        to_the_end(spawner);
        return std::move(started);
    }

    /// The exit status, and in `output` what it wrote to the last inherited descriptor.
    os::exit_status run(std::vector<os::borrowed_fd> inherited = {}, std::vector<int> const& blocked = {})
    {
        auto const out = file("out");
        inherited.push_back(out);
        auto const child = start(inherited, blocked);
        if (ec || !ended(child))
            return {};
        auto const status = spawner.reap(child, ec);
        output = content(out);
        return status;
    }

    launch::spawner spawner;
    std::string text = "a handoff";
    launch::process started;
    error_code ec;
    int calls = 0;
    std::string output;
};

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

/// From now on this process, and what it starts by itself, can neither fork nor execute.
void forbid_fork_and_exec()
{
    ::sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(::seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    ::sock_fprog const filter{static_cast<unsigned short>(std::size(rules)), rules};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

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

BOOST_FIXTURE_TEST_SUITE(spawner, leaves_nothing)

BOOST_AUTO_TEST_CASE(the_child_is_our_own_and_gives_its_status)
{
    shell it{"echo $PPID >&3; exit 7"};
    BOOST_TEST((it.run() == os::exit_status{os::exit_status::kind::exited, 7}), it.ec.message());
    BOOST_TEST(it.output == std::to_string(::getpid()) + '\n');
    BOOST_TEST((it.run() == os::exit_status{os::exit_status::kind::exited, 7})); // again and again
}

BOOST_AUTO_TEST_CASE(nothing_of_the_request_counts_but_the_handoff_and_the_descriptors)
{
    shell it{"echo \"$0 $ECDYSIS_HANDOFF $LD_PRELOAD $(pwd)\" >&3"};
    BOOST_TEST(it.run().value == 0, it.ec.message());
    BOOST_TEST(it.output == "sh a handoff  " + std::filesystem::current_path().string() + "\n");
    it.text = std::string(3072, 'x');
    BOOST_TEST(it.run().value == 0);
    it.text += 'x';
    static_cast<void>(it.start());
    BOOST_TEST((it.ec == boost::system::errc::argument_list_too_long));
    it.text = "a handoff";
    static_cast<void>(it.start({}, {}, "/bin/true"));
    BOOST_TEST((it.ec == errc::spawner_program));
    static_cast<void>(it.start({}, {65}));
    BOOST_TEST((it.ec == boost::system::errc::invalid_argument));
    BOOST_TEST(it.run().value == 0); // none of that was the end of it
}

BOOST_AUTO_TEST_CASE(the_child_has_exactly_the_descriptors_named)
{
    shell it{"ls -l /proc/self/fd >&5; exit 0"};
    auto const first = file("first"), second = file("second");
    BOOST_TEST(it.run({first, second}).value == 0, it.ec.message());
    for (std::string const line : {"3 -> /memfd:first (deleted)", "4 -> /memfd:second (deleted)", "5 -> /memfd:out (deleted)"})
        BOOST_TEST(it.output.find(" " + line) != std::string::npos, it.output);
    BOOST_TEST(it.output.find(" 7 -> ") == std::string::npos, it.output); // 6 is ls's own
    for (int const number : {0, 2}) // the shell has turned ls's 1 elsewhere
        BOOST_TEST(it.output.find(" " + std::to_string(number) + " -> " +
                                  std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(number)).string()) != std::string::npos,
                   it.output);
}

BOOST_AUTO_TEST_CASE(standard_streams_that_are_closed_are_null_in_the_child)
{
    BOOST_TEST(apart([] {
        auto const other = file("other"), out = file("out");
        for (int const number : {0, 1, 2})
            ::close(number);
        shell it{"ls -l /proc/$$/fd >&4"};
        for (int i = 0; i != 2; ++i) {
            auto const child = it.start({other, out});
            error_code ec;
            if (it.ec || !ended(child) || it.spawner.reap(child, ec).how != os::exit_status::kind::exited)
                return 1;
        }
        auto const listed = content(out);
        for (std::string const line : {" 0 -> /dev/null", " 2 -> /dev/null", " 3 -> /memfd:other", " 4 -> /memfd:out"})
            if (listed.find(line) == std::string::npos)
                return 2;
        return 0;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_descriptor_that_is_not_open_costs_no_more_than_this_upgrade)
{
    shell it{"exit 0"};
    static_cast<void>(it.start({os::borrowed_fd{999}}));
    BOOST_TEST((it.ec == boost::system::errc::bad_file_descriptor));
    BOOST_TEST(it.run().value == 0, it.ec.message());
}

BOOST_AUTO_TEST_CASE(no_child_is_left_where_there_is_no_number_for_its_pidfd)
{
    BOOST_TEST(apart([] {
        shell it{"exec sleep 1000"};
        ::rlimit limit{128, 128};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        std::vector<os::owned_fd> all;
        while (os::owned_fd one{::dup(0)})
            all.push_back(std::move(one));
        static_cast<void>(it.start());
        all.clear();
        if (it.ec != boost::system::errc::too_many_files_open || children().size() != 1)
            return 1;
        auto const child = it.start();
        return child.pidfd && !it.ec && (it.spawner.kill(child, SIGKILL, it.ec), !it.ec) ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(more_descriptors_than_fit_one_message_and_the_limit_of_the_start)
{
    BOOST_TEST(apart([] {
        ::rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        auto const raised = std::min<::rlim_t>(limit.rlim_max, 4096);
        limit.rlim_cur = 256; // what the helper starts with
        ::setrlimit(RLIMIT_NOFILE, &limit);
        shell it{"set -- /proc/$$/fd/*; echo $# >&3"};
        limit.rlim_cur = raised;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        std::vector<os::owned_fd> all;
        for (int i = 0; i != 1000; ++i)
            all.push_back(file("one"));
        auto const out = file("out");
        std::vector<os::borrowed_fd> inherited{out};
        inherited.insert(inherited.end(), all.begin(), all.end());
        auto const child = it.start(inherited);
        if (it.ec || !ended(child))
            return 1;
        return std::stoi("0" + content(out)) >= 1004 ? 0 : 2; // with the standard streams, and what the shell opens
    }) == 0);
}

BOOST_AUTO_TEST_CASE(signals_are_blocked_as_asked_and_default_otherwise)
{
    BOOST_TEST(apart([] {
        ::signal(SIGUSR1, SIG_IGN);
        auto const out = file("out");
        auto spawner = launch::spawner::fork(launch::program{"/bin/grep", {"grep", "Sig[BI]", "/proc/self/status"}});
        std::array<os::borrowed_fd, 1> const inherited{out};
        std::array const blocked{SIGHUP};
        std::array const ignored{SIGPIPE};
        ::dup2(out.get(), STDOUT_FILENO); // the standard streams are those of now
        int result = 1;
        spawner.start({.program = "/bin/grep", .arguments = {}, .environment = {}, .directory = {}, .inherited = inherited,
                       .blocked = blocked, .ignored = ignored, .as_sibling = spawner.as_sibling(false)},
                      [&](error_code ec, launch::process child) {
                          if (!ec && ended(child))
                              result = content(out) == "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n" ? 0 : 2;
                      });
        to_the_end(spawner);
        return result;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_program_that_cannot_be_executed_says_why_and_leaves_nothing)
{
    auto spawner = launch::spawner::fork(launch::program{"/does/not/exist"});
    for (int i = 0; i != 3; ++i) {
        error_code ec;
        launch::process started;
        spawner.start({.program = "/does/not/exist", .arguments = {}, .environment = {}, .directory = {}, .inherited = {}, .blocked = {},
                       .as_sibling = spawner.as_sibling(false)},
                      [&](error_code why, launch::process child) {
                          ec = why;
                          started = std::move(child);
                      });
        to_the_end(spawner);
        BOOST_TEST_REQUIRE(!ec);
        BOOST_TEST_REQUIRE(ended(started));
        BOOST_TEST((started.exec_error() == boost::system::errc::no_such_file_or_directory));
        BOOST_TEST((spawner.reap(started, ec) == os::exit_status{os::exit_status::kind::exited, 127}));
        BOOST_TEST(children().size() == 1U); // the helper
    }
}

BOOST_AUTO_TEST_CASE(the_helper_does_not_wait_for_exec, *boost::unit_test::precondition(&exec_gate::is_possible))
{
    std::string const program = "/tmp/ecdysis-spawner-" + std::to_string(::getpid());
    std::filesystem::copy_file("/bin/sh", program);
    {
        exec_gate gate{program};
        shell it{"exit 9", program};
        auto const first = it.start({}, {}, program);
        BOOST_TEST(gate.held() == os::number(first.pid));
        auto const second = it.start({}, {}, program); // it goes on
        BOOST_TEST_REQUIRE(!it.ec);
        error_code ec;
        it.spawner.kill(second, SIGKILL, ec);
        BOOST_TEST_REQUIRE(ended(second));
        BOOST_TEST(it.spawner.reap(second, ec).value == SIGKILL);
        gate.refuse();
        BOOST_TEST_REQUIRE(ended(first));
        BOOST_TEST((first.exec_error() == boost::system::errc::operation_not_permitted));
        BOOST_TEST(!second.exec_error());
        BOOST_TEST(it.spawner.reap(first, ec).value == 127);
    }
    std::filesystem::remove(program);
}

BOOST_AUTO_TEST_CASE(a_helper_that_is_slow_holds_nobody)
{
    shell it{"exit 3"};
    auto const helper = children();
    BOOST_TEST_REQUIRE(helper.size() == 1U);
    ::kill(helper[0], SIGSTOP);
    it.begin();
    BOOST_TEST(it.calls == 0);
    BOOST_TEST(static_cast<bool>(it.spawner.awaits()));
    it.spawner.go_on(); // too early
    BOOST_TEST(it.calls == 0);
    it.spawner.start({.program = "/bin/sh", .arguments = {}, .environment = {}, .directory = {}, .inherited = {}, .blocked = {}},
                     [&](error_code why, launch::process) { BOOST_TEST((why == errc::busy)); });
    ::kill(helper[0], SIGCONT);
    to_the_end(it.spawner);
    BOOST_TEST(it.calls == 1);
    BOOST_TEST_REQUIRE(!it.ec);
    BOOST_TEST_REQUIRE(ended(it.started));
    BOOST_TEST(it.spawner.reap(it.started, it.ec).value == 3);
}

// Given up before its descriptors were on their way, after that, and when the helper has answered.
BOOST_AUTO_TEST_CASE(a_start_that_is_given_up_leaves_no_child_and_the_helper_is_of_use)
{
    auto const has_answered = [](launch::spawner const& it) {
        ::pollfd one{it.awaits().readable.get(), POLLIN, 0};
        return ::poll(&one, 1, 20'000) == 1;
    };
    for (int const answers : {0, 1, 2}) {
        shell it{"exec sleep 1000"};
        auto const helper = children();
        BOOST_TEST_REQUIRE(helper.size() == 1U);
        it.begin();
        for (int i = 0; i != answers; ++i) {
            BOOST_TEST_REQUIRE(has_answered(it.spawner));
            if (i + 1 != answers)
                it.spawner.go_on();
        }
        ::kill(helper[0], SIGSTOP);
        if (answers == 1)
            it.spawner.go_on();
        it.spawner.give_up();
        BOOST_TEST(!it.spawner.awaits());
        BOOST_TEST(it.spawner.is_there());
        ::kill(helper[0], SIGCONT);
        BOOST_TEST(it.calls == 0);
        for (int i = 0; i != 2; ++i) { // the answers to the one before do not count
            auto const child = it.start();
            BOOST_TEST_REQUIRE(!it.ec, it.ec.message());
            BOOST_TEST(!ended(child, 0));
            it.spawner.kill(child, SIGKILL, it.ec);
            BOOST_TEST(ended(child));
            BOOST_TEST(it.spawner.reap(child, it.ec).value == SIGKILL);
        }
        BOOST_TEST(children() == helper, boost::test_tools::per_element());
    }
}

BOOST_AUTO_TEST_CASE(kills_in_the_middle_of_a_start)
{
    shell it{"exec sleep 1000"};
    auto const first = it.start();
    error_code ec;
    it.begin();
    it.spawner.kill(first, SIGKILL, ec);
    BOOST_TEST(!ec);
    to_the_end(it.spawner);
    BOOST_TEST(!it.ec);
    it.spawner.kill(it.started, SIGTERM, ec);
    BOOST_TEST(!ec);
    BOOST_TEST_REQUIRE((ended(first) && ended(it.started)));
    BOOST_TEST(it.spawner.reap(first, ec).value == SIGKILL);
    BOOST_TEST(it.spawner.reap(it.started, ec).value == SIGTERM);
}

BOOST_AUTO_TEST_CASE(kills_what_it_started)
{
    shell it{"exec sleep 1000"};
    error_code ec;
    it.spawner.kill({}, SIGKILL, ec); // nobody
    BOOST_TEST(!ec);
    auto const child = it.start();
    BOOST_TEST_REQUIRE(!it.ec);
    it.spawner.kill(child, SIGTERM, ec);
    BOOST_TEST(!ec);
    BOOST_TEST_REQUIRE(ended(child));
    it.spawner.kill(child, SIGTERM, ec); // a zombie
    BOOST_TEST(!ec);
    BOOST_TEST((it.spawner.reap(child, ec) == os::exit_status{os::exit_status::kind::killed, SIGTERM}));
    it.spawner.kill(child, SIGTERM, ec); // nobody
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(kills_nobody_else)
{
    shell it{"exec sleep 1000"};
    auto const first = it.start();
    auto const before = it.start();
    auto const last = it.start();
    BOOST_TEST_REQUIRE(!it.ec);
    error_code ec;
    auto const other = ::fork();
    if (other == 0)
        ::_exit((::pause(), 0));
    it.spawner.kill({.pid = os::process_id{other}, .pidfd = {}}, SIGKILL, ec);
    for (auto const* child : {&first, &before, &last}) { // some are set aside or hang, one is to take over
        it.spawner.kill(*child, SIGKILL, ec);
        BOOST_TEST(!ec);
        BOOST_TEST(ended(*child));
    }
    BOOST_TEST(::waitpid(other, nullptr, WNOHANG) == 0);
    ::kill(other, SIGKILL);
    BOOST_TEST(::waitpid(other, nullptr, 0) == other);
    for (auto const* child : {&first, &before, &last}) {
        BOOST_TEST_REQUIRE(ended(*child));
        BOOST_TEST(it.spawner.reap(*child, ec).value == SIGKILL);
    }
}

BOOST_AUTO_TEST_CASE(a_helper_that_hangs_fails_the_start_and_leaves_no_child)
{
    BOOST_TEST(apart([] {
        shell it{"exec sleep 1000"};
        for (int const stream : {0, 1, 2}) // then it is asked for no descriptors, and starts at once
            ::close(stream);
        struct ::sigaction handler{};
        handler.sa_handler = [](int) {};
        ::sigaction(SIGALRM, &handler, nullptr);
        ::itimerval const often{{0, 500'000}, {0, 500'000}}; // as of a profiler
        ::setitimer(ITIMER_REAL, &often, nullptr);
        auto const helper = children();
        if (helper.size() != 1)
            return 1;
        ::kill(helper[0], SIGSTOP);
        auto const begin = std::chrono::steady_clock::now();
        static_cast<void>(it.start());
        if (it.ec != errc::spawner_silent || std::chrono::steady_clock::now() - begin > std::chrono::seconds{60})
            return 2;
        ::kill(helper[0], SIGCONT);
        // It finds out that nobody waits any more, and ends what it started meanwhile. Then it is of use again.
        for (int i = 0; i != 2; ++i) {
            auto const child = it.start();
            if (it.ec)
                return 3;
            it.spawner.kill(child, SIGKILL, it.ec);
            if (!ended(child) || it.spawner.reap(child, it.ec).value != SIGKILL)
                return 4;
        }
        return children() == helper ? 0 : 5;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(nobody_of_its_user_writes_into_the_helper)
{
    BOOST_TEST(apart([] {
        if (::geteuid() == 0 && (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0))
            return 1;
        ::prctl(PR_SET_DUMPABLE, 1); // as after exec
        shell it{"exit 0"};
        if (::prctl(PR_GET_DUMPABLE) != 1)
            return 2;
        auto const helper = children();
        if (helper.size() != 1)
            return 3;
        os::owned_fd const memory{::open(("/proc/" + std::to_string(helper[0]) + "/mem").c_str(), O_RDWR | O_CLOEXEC)};
        return !memory && errno == EACCES ? 0 : 4;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_helper_that_has_gone_is_an_error_and_no_more)
{
    shell it{"exit 0"};
    BOOST_TEST(it.run().value == 0);
    auto const helper = children();
    BOOST_TEST_REQUIRE(helper.size() == 1U);
    BOOST_TEST(of_process(helper[0], "comm") == "ecdysis-spawner\n");
    ::kill(helper[0], SIGKILL);
    for (int i = 0; i != 3; ++i) {
        static_cast<void>(it.start());
        BOOST_TEST((it.ec == errc::spawner_gone));
        error_code ec;
        it.spawner.kill({}, SIGKILL, ec);
        BOOST_TEST((ec == errc::spawner_gone));
    }
    for (int i = 0; i != 20'000 && has_children(); ++i) { // at a start after its end
        ::usleep(1000);
        static_cast<void>(it.start());
    }
    BOOST_TEST(!has_children());
}

BOOST_AUTO_TEST_CASE(the_helper_has_nothing_of_the_service_and_hears_no_signal)
{
    if (::geteuid() != 0) {
        BOOST_TEST_MESSAGE("only root can look into the helper");
        return;
    }
    auto const secret = file("secret");
    shell it{"exit 0"};
    auto const helper = children();
    BOOST_TEST_REQUIRE(helper.size() == 1U);
    BOOST_TEST(it.run({secret}).value == 0);
    for (int const signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, 32, 33, SIGRTMIN})
        ::kill(helper[0], signal);
    BOOST_TEST(it.run({secret}).value == 0);
    auto const held = [&] {
        std::multiset<std::string> targets;
        for (auto const& entry : std::filesystem::directory_iterator{"/proc/" + std::to_string(helper[0]) + "/fd"}) {
            std::error_code ignored;
            auto const target = std::filesystem::read_symlink(entry.path(), ignored).string();
            targets.insert(target.substr(0, target.find(':')));
        }
        return targets;
    };
    // Its end of the socket, the directory of the start, and the pidfd of the child that it may kill.
    auto const expected = [](char const* pidfd) {
        return std::multiset<std::string>{"/dev/null", "/dev/null", "/dev/null", "socket", std::filesystem::current_path().string(), pidfd};
    };
    auto targets = held();
    auto const is_all = [&] { return targets == expected("pidfd") || targets == expected("anon_inode"); };
    for (int i = 0; i != 20'000 && !is_all(); ++i, targets = held()) // it answers before it closes what it was sent
        ::usleep(1000);
    BOOST_TEST(is_all());
}

BOOST_AUTO_TEST_CASE(garbage_is_answered_and_not_believed)
{
    // A service that somebody took over can say what it likes. The socket is the one that this process got last.
    auto const before = open_numbers();
    shell it{"exit 0"};
    int socket = -1;
    for (int const number : open_numbers())
        if (!before.contains(number))
            if (std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(number)).string().starts_with("socket:"))
                socket = number;
    BOOST_TEST_REQUIRE(socket != -1);
    launch::spawner_wire::request lies{.what = static_cast<launch::spawner_wire::verb>(77)};
    auto const says = [&](void const* data, std::size_t size) {
        launch::spawner_wire::answer said;
        BOOST_TEST(::send(socket, data, size, 0) == static_cast<::ssize_t>(size));
        BOOST_TEST(::recv(socket, &said, sizeof said, 0) == static_cast<::ssize_t>(sizeof said));
        return said.error;
    };
    BOOST_TEST(says("x", 1) == EINVAL);
    BOOST_TEST(says(&lies, sizeof lies) == EINVAL);
    lies.what = static_cast<launch::spawner_wire::verb>(3);
    BOOST_TEST(says(&lies, sizeof lies) == EINVAL);
    std::vector<char> const large(10'000);
    BOOST_TEST(says(large.data(), large.size()) == EINVAL);
    lies = {.what = launch::spawner_wire::verb::kill, .signal = 9999};
    BOOST_TEST(::send(socket, &lies, sizeof lies, 0) == static_cast<::ssize_t>(sizeof lies)); // that is not answered
    lies = {.what = launch::spawner_wire::verb::spawn, .start = ~0U, .descriptor_limit = 1024}; // its slot is outside of what both have
    BOOST_TEST_REQUIRE(says(&lies, sizeof lies) == 0);
    BOOST_TEST(::waitpid(-1, nullptr, 0) > 0);
    BOOST_TEST(it.run().value == 0, it.ec.message());
}

BOOST_AUTO_TEST_CASE(a_filter_of_the_service_is_not_its_childs)
{
    BOOST_TEST(apart([] {
        shell it{"grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status >&3; exit 0"};
        forbid_fork_and_exec();
        if (it.run().how != os::exit_status::kind::exited)
            return 1;
        return it.output == "NoNewPrivs:\t0\nSeccomp:\t0\n" ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_service_that_drops_root_can_still_start_and_kill,
                     *boost::unit_test::precondition([](boost::unit_test::test_unit_id) { return ::geteuid() == 0; }))
{
    BOOST_TEST(apart([] {
        shell it{"id -u >&3; exec sleep 1000"};
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
            return 1;
        auto const out = file("out");
        auto const child = it.start({out});
        if (it.ec)
            return 2;
        for (int i = 0; i != 2000 && content(out).empty(); ++i)
            ::usleep(5000);
        if (content(out) != "0\n")
            return 3;
        error_code ec;
        os::send_signal(child.pidfd, SIGKILL, ec);
        if (ec != boost::system::errc::operation_not_permitted)
            return 4;
        it.spawner.kill(child, SIGKILL, ec);
        return !ec && ended(child) && it.spawner.reap(child, ec).value == SIGKILL ? 0 : 5;
    }) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
