// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/launch/program.hpp>

#define BOOST_TEST_MODULE launch/program
#define BOOST_TEST_NO_MAIN
#include <boost/test/unit_test.hpp>

#include <ecdysis/launch/direct.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
using ecdysis::errc;
using ecdysis::error_code;

std::string self()
{
    return std::filesystem::read_symlink("/proc/self/exe");
}

struct temporary_directory
{
    std::string path = "/tmp/ecdysis-program-XXXXXX";
    temporary_directory() { BOOST_REQUIRE(::mkdtemp(path.data()) != nullptr); }
    ~temporary_directory() { std::filesystem::remove_all(path); }
};

std::set<int> open_numbers()
{
    std::set<int> result;
    for (auto const& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
        result.insert(std::stoi(entry.path().filename()));
    return result;
}

std::string target(os::borrowed_fd file)
{
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file.get()));
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

// What a default program is in a process called by `arguments`, in `where`, with `path` as its PATH.
std::string told(std::vector<std::string> arguments, std::string const& where, std::string const& path)
{
    os::owned_fd const out{::memfd_create("out", MFD_CLOEXEC)};
    os::owned_fd const cwd{::open(where.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    os::borrowed_fd const inherited[] = {out};
    std::vector<std::string> environment{"ECDYSIS_TEST_TELL=1"};
    if (!path.empty())
        environment.push_back("PATH=" + path);
    std::string result;
    launch::direct{}.start({.program = self(),
                            .arguments = std::move(arguments),
                            .environment = std::move(environment),
                            .directory = cwd,
                            .inherited = inherited,
                            .blocked = {}},
                           [&](error_code ec, launch::process child) {
                               BOOST_TEST_REQUIRE(!ec);
                               ::pollfd one{child.pidfd.get(), POLLIN, 0};
                               BOOST_TEST_REQUIRE(::poll(&one, 1, 20000) == 1);
                               BOOST_TEST(launch::direct{}.reap(child, ec).value == 0);
                               result.resize(65536);
                               auto const got = ::pread(out.get(), result.data(), result.size(), 0);
                               result.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
                           });
    return result;
}

int tell()
{
    std::string text;
    try {
        launch::program const here;
        text = here.path();
        for (auto const& one : here.arguments())
            text += '|' + one;
    } catch (ecdysis::error const& failure) {
        text = failure.what();
    }
    return ::write(3, text.data(), text.size()) == static_cast<::ssize_t>(text.size()) ? 0 : 1;
}

bool is_unknown(ecdysis::error const& failure)
{
    return failure.code() == errc::program_unknown;
}

struct leaves_nothing
{
    std::set<int> before = open_numbers();
    ~leaves_nothing() { BOOST_TEST((open_numbers() == before)); }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(program, leaves_nothing)

BOOST_AUTO_TEST_CASE(an_absolute_path_stays_as_it_is)
{
    BOOST_TEST(launch::program{"/no/such//program"}.path() == "/no/such//program");
    BOOST_TEST(told({"/as/called", "", "b c"}, "/", "/bin") == "/as/called|/as/called||b c");
}

BOOST_AUTO_TEST_CASE(a_relative_path_is_relative_to_the_start_directory)
{
    temporary_directory const where;
    BOOST_TEST(told({"./server", "-x"}, where.path, "/bin") == where.path + "/./server|./server|-x");
    BOOST_TEST(told({"bin/server"}, "/", "/bin") == "/bin/server|bin/server");
}

BOOST_AUTO_TEST_CASE(a_bare_name_is_found_in_PATH)
{
    temporary_directory const where;
    std::filesystem::create_symlink("/bin/true", where.path + "/ecdysis-server");
    BOOST_TEST(told({"ecdysis-server"}, "/", "/bin:" + where.path + ":/usr/bin") == where.path + "/ecdysis-server|ecdysis-server");
    BOOST_TEST(told({"ecdysis-server"}, where.path, "/bin::/usr/bin") == where.path + "/ecdysis-server|ecdysis-server");
    BOOST_TEST(told({"ecdysis-server"}, "/", where.path.substr(1)) == where.path + "/ecdysis-server|ecdysis-server");
    BOOST_TEST(told({"ecdysis-server"}, where.path, "/bin").starts_with("no executable \"ecdysis-server\" in PATH"));
    BOOST_TEST(told({"ecdysis-server"}, where.path, "").starts_with("no executable \"ecdysis-server\" in PATH"));
}

BOOST_AUTO_TEST_CASE(what_was_ignored_at_the_start_is_known)
{
    BOOST_TEST(apart([] {
        for (int signal = 1; signal != NSIG; ++signal)
            ::signal(signal, SIG_DFL);
        if (!launch::program{"/bin/true"}.ignored().empty())
            return 1;
        ::signal(SIGHUP, [](int) {});
        ::signal(SIGCHLD, SIG_IGN);
        ::signal(SIGPIPE, SIG_IGN);
        ::signal(SIGRTMIN, SIG_IGN);
        return launch::program{"/bin/true"}.ignored() == std::vector{SIGPIPE, SIGRTMIN} ? 0 : 2;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(without_an_environment_nothing_is_in_PATH)
{
    BOOST_TEST(apart([] {
        ::clearenv();
        try {
            launch::program const bare{"sh"};
            return 1;
        } catch (ecdysis::error const& failure) {
            return is_unknown(failure) ? 0 : 2;
        }
    }) == 0);
}

BOOST_AUTO_TEST_CASE(without_an_argv_0_there_is_no_program)
{
    BOOST_TEST(told({""}, "/", "/bin").starts_with("this process has no argv[0]; give the program's path"));
}

BOOST_AUTO_TEST_CASE(takes_what_the_host_gives)
{
    launch::program const given{"sh", {"called", "one", ""}};
    BOOST_TEST(given.path().ends_with("/sh"));
    BOOST_TEST(given.path().starts_with("/"));
    BOOST_TEST((given.arguments() == std::vector<std::string>{"called", "one", ""}));

    launch::program const path_only{"/bin/sh"};
    BOOST_TEST(path_only.arguments().size() == static_cast<std::size_t>(boost::unit_test::framework::master_test_suite().argc));

    BOOST_CHECK_EXCEPTION(launch::program{"ecdysis-no-such-program"}, ecdysis::error, is_unknown);
}

BOOST_AUTO_TEST_CASE(a_symlink_is_not_resolved)
{
    temporary_directory const where;
    auto const link = where.path + "/current";
    std::filesystem::create_symlink("/bin/false", link);
    launch::program const fixed{link};
    BOOST_TEST(fixed.path() == link);
}

BOOST_AUTO_TEST_CASE(keeps_the_start_directory)
{
    BOOST_TEST(apart([] {
        temporary_directory const where;
        if (::chdir(where.path.c_str()) != 0)
            return 1;
        launch::program fixed{"./x"};
        if (::chdir("/") != 0)
            return 1;
        bool gone = true;
        if (target(fixed.directory_or_root(gone)) != where.path || gone)
            return 2;
        if ((::fcntl(fixed.directory().get(), F_GETFD) & FD_CLOEXEC) == 0)
            return 3;
        // It follows a new name, but the program's path does not.
        auto const renamed = where.path + "-renamed";
        std::filesystem::rename(where.path, renamed);
        auto const now = target(fixed.directory_or_root(gone));
        std::filesystem::rename(renamed, where.path);
        return now == renamed && !gone && fixed.path() == where.path + "/./x" ? 0 : 4;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(gives_root_when_the_start_directory_was_deleted)
{
    BOOST_TEST(apart([] {
        std::string path;
        {
            temporary_directory const where;
            path = where.path;
            if (::chdir(path.c_str()) != 0)
                return 1;
        }
        // Deleted before the start: only an absolute path will do.
        try {
            launch::program const relative{"./x"};
            return 2;
        } catch (ecdysis::error const& failure) {
            if (!is_unknown(failure))
                return 3;
        }
        bool gone = false;
        launch::program early{"/bin/sh"};
        if (target(early.directory_or_root(gone)) != "/" || !gone)
            return 4;

        // Deleted after it, twice asked.
        temporary_directory const where;
        if (::chdir(where.path.c_str()) != 0)
            return 1;
        launch::program late{"/bin/sh"};
        ::rmdir(where.path.c_str());
        for (int i = 0; i != 2; ++i) {
            gone = false;
            if (target(late.directory_or_root(gone)) != "/" || !gone)
                return 5;
        }
        // One of the same name is another.
        ::mkdir(where.path.c_str(), 0700);
        return target(late.directory_or_root(gone)) == "/" && gone ? 0 : 6;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(gives_root_when_the_start_directory_could_not_be_entered)
{
    BOOST_TEST(apart([] {
        temporary_directory const where;
        if (::chdir(where.path.c_str()) != 0)
            return 1;
        launch::program before{"/bin/sh"};
        if (::geteuid() != 0)
            ::chmod(where.path.c_str(), 0);
        else if (::seteuid(65534) != 0)
            return 2;
        launch::program after{"/bin/sh"};
        bool gone = true;
        auto const first = target(before.directory_or_root(gone)); // the child finds out, see launch/direct
        bool gone_too = false;
        auto const second = target(after.directory_or_root(gone_too));
        bool const none = !after.directory();
        if (::geteuid() != ::getuid() && ::seteuid(::getuid()) != 0)
            return 3;
        ::chmod(where.path.c_str(), 0700);
        return first == where.path && !gone && second == "/" && gone_too && none ? 0 : 4;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(gives_the_new_root_after_chroot)
{
    if (::geteuid() != 0)
        return; // chroot needs root
    BOOST_TEST(apart([] {
        temporary_directory const where;
        launch::program fixed{"/bin/sh"};
        bool gone = false;
        struct ::stat inside{};
        if (fixed.directory_or_root(gone) != fixed.directory() || gone || ::stat(where.path.c_str(), &inside) != 0)
            return 1;
        os::owned_fd const outside{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
        if (::chroot(where.path.c_str()) != 0)
            return 2;
        struct ::stat given{};
        auto const ok = ::fstat(fixed.directory_or_root(gone).get(), &given) == 0;
        if (::fchdir(outside.get()) != 0 || ::chroot(".") != 0)
            return 3;
        return ok && gone && given.st_ino == inside.st_ino ? 0 : 4;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(a_full_table_is_an_error_at_the_start_and_none_later)
{
    BOOST_TEST(apart([] {
        ::rlimit const limit{64, 64};
        ::setrlimit(RLIMIT_NOFILE, &limit);
        temporary_directory const where;
        if (::chdir(where.path.c_str()) != 0)
            return 1;
        launch::program fixed{"/bin/sh", {"sh"}};
        std::vector<os::owned_fd> all;
        while (os::owned_fd one{::dup(fixed.directory().get())})
            all.push_back(std::move(one));
        bool gone = true;
        if (fixed.directory_or_root(gone) != fixed.directory() || gone)
            return 2;
        ::rmdir(where.path.c_str());
        if (fixed.directory_or_root(gone) != fixed.directory() || !gone)
            return 3;
        try {
            launch::program const second{"/bin/sh", {"sh"}};
            return 4;
        } catch (ecdysis::error const& failure) {
            return failure.code().value() == EMFILE ? 0 : 5;
        }
    }) == 0);
}

BOOST_AUTO_TEST_CASE(keeps_out_of_the_numbers_below_3)
{
    BOOST_TEST(apart([] {
        ::close(0);
        ::close(1);
        ::close(2);
        launch::program const fixed{"/bin/sh"};
        return fixed.directory().get() >= 3 && open_numbers().contains(fixed.directory().get()) ? 0 : 1;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(is_started_anew_from_what_it_kept)
{
    temporary_directory const where;
    auto const link = where.path + "/current";
    launch::program fixed{link, {"current"}};
    for (auto const* version : {"/bin/true", "/bin/false", "/bin/true"}) {
        std::filesystem::remove(link);
        std::filesystem::create_symlink(version, link);
        bool gone = false;
        launch::direct{}.start({.program = fixed.path(),
                                .arguments = fixed.arguments(),
                                .environment = launch::program::child_environment("A=b"),
                                .directory = fixed.directory_or_root(gone),
                                .inherited = {},
                                .blocked = {}},
                               [&](error_code ec, launch::process child) {
                                   BOOST_TEST_REQUIRE(!ec);
                                   ::pollfd one{child.pidfd.get(), POLLIN, 0};
                                   BOOST_TEST_REQUIRE(::poll(&one, 1, 20000) == 1);
                                   BOOST_TEST(launch::direct{}.reap(child, ec).value == (version == std::string{"/bin/true"} ? 0 : 1));
                               });
    }
}

BOOST_AUTO_TEST_CASE(the_childs_environment_has_one_handoff)
{
    BOOST_TEST(apart([] {
        ::setenv("ECDYSIS_HANDOFF", "leaked", 1);
        ::setenv("ECDYSIS_HANDOFF_NOT", "kept", 1);
        auto const some = launch::program::child_environment("ECDYSIS_HANDOFF=new");
        auto const count = [](auto const& list, std::string const& entry) { return std::ranges::count(list, entry); };
        if (some.back() != "ECDYSIS_HANDOFF=new" || count(some, "ECDYSIS_HANDOFF=leaked") != 0 || count(some, "ECDYSIS_HANDOFF_NOT=kept") != 1)
            return 1;
        char twice[] = "ECDYSIS_HANDOFF=one";
        char again[] = "ECDYSIS_HANDOFF=two";
        char bare[] = "ECDYSIS_HANDOFF";
        char kept[] = "B=";
        char* list[] = {twice, kept, again, bare, nullptr};
        ::environ = list;
        if (launch::program::child_environment("C=d") != std::vector<std::string>{"B=", "C=d"})
            return 2;
        ::clearenv();
        return launch::program::child_environment("C=d") == std::vector<std::string>{"C=d"} ? 0 : 3;
    }) == 0);
}

BOOST_AUTO_TEST_CASE(the_childs_environment_names_no_process_as_itself)
{
    BOOST_TEST(apart([] {
        ::clearenv();
        for (auto const* name : {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "SYSTEMD_EXEC_PID"})
            ::setenv(name, "1", 1);
        for (auto const* name : {"LISTEN", "LISTEN_ADDRESS", "LISTEN_FDS_", "NOTIFY_SOCKET"})
            ::setenv(name, "2", 1);
        std::vector<std::string> const expected{"LISTEN=2", "LISTEN_ADDRESS=2", "LISTEN_FDS_=2", "NOTIFY_SOCKET=2", "A=b"};
        return launch::program::child_environment("A=b") == expected ? 0 : 1;
    }) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

int main(int count, char** arguments)
{
    if (std::getenv("ECDYSIS_TEST_TELL") != nullptr)
        return tell();
    return boost::unit_test::unit_test_main(&init_unit_test, count, arguments);
}
