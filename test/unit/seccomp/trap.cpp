// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/trap.hpp>

#include "apart.hpp"

#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/upgrader.hpp>

#define BOOST_TEST_MODULE seccomp/trap
#include <boost/test/unit_test.hpp>

#include <boost/system/errc.hpp>

#include <seccomp.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
namespace seccomp = ecdysis::seccomp;
using apart::end;
using ecdysis::error_code;

using upgrader = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::named_pipe>;

/// How `f` ends where all but `call` is allowed, and what is said of it.
end without(int call, std::function<void()> f)
{
    return apart::run([&](os::borrowed_fd to) {
        seccomp::trap const trap{seccomp::declarations<upgrader>::from_start, to.get()};
        apart::filter filter{SCMP_ACT_ALLOW};
        ::seccomp_rule_add(filter.get(), SCMP_ACT_TRAP, call, 0);
        filter.load();
        f();
        return 0;
    });
}

/// The same where only the allowlist is.
end under_the_allowlist(std::function<void()> f)
{
    return apart::run([&](os::borrowed_fd to) {
        seccomp::trap const trap{seccomp::declarations<upgrader>::from_start, to.get()};
        apart::filter filter{SCMP_ACT_TRAP};
        seccomp::allow<upgrader>(filter.get());
        filter.load();
        f();
        return 0;
    });
}

volatile ::sig_atomic_t heard = 0;

} // namespace

BOOST_AUTO_TEST_CASE(a_missing_call_is_named_with_who_makes_it_and_why)
{
    auto const core = without(SCMP_SYS(memfd_create), [] { ::memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING); });
    BOOST_TEST(core.turned_away(), core);
    BOOST_TEST(core.said.starts_with("ecdysis::seccomp: memfd_create(0x"), core);
    BOOST_TEST(core.said_that(") is not allowed by the filter\n  upgrader calls memfd_create: state for the child (argument 1 & 0xffffffff == 3)\n"), core);
    BOOST_TEST(!core.said_that("no part of the upgrader"), core);

    auto const policy = without(SCMP_SYS(mknodat), [] { ::mknodat(AT_FDCWD, "/does/not/exist", S_IFIFO | 0600, 0); });
    BOOST_TEST(policy.turned_away(), policy);
    BOOST_TEST(policy.said_that("\n  transport::named_pipe calls mknodat: "), policy);
}

BOOST_AUTO_TEST_CASE(a_call_of_nobodys_here_is_the_hosts)
{
    auto const hosts = under_the_allowlist([] {
        struct ::sysinfo info{};
        ::sysinfo(&info);
    });
    BOOST_TEST(hosts.turned_away(), hosts);
    BOOST_TEST(hosts.said.starts_with("ecdysis::seccomp: sysinfo(0x"), hosts);
    BOOST_TEST(hosts.said_that("\n  no part of the upgrader calls it: if the host does, allow it\n"), hosts);
}

BOOST_AUTO_TEST_CASE(a_call_without_a_name_has_a_number)
{
    for (auto const& [number, digits] : {std::pair{1000L, "0x3e8"}, std::pair{2000L, "0x7d0"}}) {
        auto const unknown = under_the_allowlist([number = number] { ::syscall(number, 1L, 2L, 3L, 4L, 5L, 0xa6L); });
        BOOST_TEST(unknown.turned_away(), unknown);
        BOOST_TEST(unknown.said == std::string{"ecdysis::seccomp: system call "} + digits +
                                       "(1, 2, 3, 4, 5, 0xa6) is not allowed by the filter\n"
                                       "  no part of the upgrader calls it: if the host does, allow it\n",
                   unknown);
    }
}

BOOST_AUTO_TEST_CASE(a_wrong_argument_is_seen_beside_the_right_ones)
{
    auto const wrong = under_the_allowlist([] { ::syscall(SYS_fcntl, 0L, static_cast<long>(F_SETOWN), 0xfedc'ba98'7654'3210L); });
    BOOST_TEST(wrong.turned_away(), wrong);
    BOOST_TEST(wrong.said.starts_with("ecdysis::seccomp: fcntl(0, 8, 0xfedcba9876543210, "), wrong);
    BOOST_TEST(wrong.said_that("\n  with other arguments: upgrader calls fcntl: close-on-exec (argument 1 & 0xffffffff == 2)\n"), wrong);
    BOOST_TEST(!wrong.said_that("\n  upgrader calls"), wrong);
    BOOST_TEST(!wrong.said_that("no part of the upgrader"), wrong);
    BOOST_TEST(wrong.said_that("\n  with other arguments: upgrader calls fcntl: copies of what is handed over (argument 1 & 0xffffffff == 0x406)\n"), wrong);
}

BOOST_AUTO_TEST_CASE(of_those_who_make_a_call_only_who_makes_it_with_these_arguments_is_named)
{
    auto const copied = without(SCMP_SYS(fcntl), [] { ::fcntl(0, F_DUPFD_CLOEXEC, 3); });
    BOOST_TEST(copied.turned_away(), copied);
    BOOST_TEST(copied.said_that("\n  upgrader calls fcntl: copies of what is handed over (argument 1 & 0xffffffff == 0x406)\n"), copied);
    BOOST_TEST(!copied.said_that("close-on-exec"), copied);
    BOOST_TEST(!copied.said_that("with other arguments"), copied);
}

BOOST_AUTO_TEST_CASE(what_is_declared_twice_is_said_once)
{
    auto const opened = under_the_allowlist([] { ::syscall(SYS_openat, AT_FDCWD, "/does/not/exist", O_RDONLY | O_TRUNC); });
    BOOST_TEST(opened.turned_away(), opened);
    constexpr std::string_view words = "\n  with other arguments: the start of a program calls openat: ";
    auto const first = opened.said.find(words); // which is for launch::direct, and from_start besides
    BOOST_TEST(first != std::string::npos, opened);
    BOOST_TEST(first == opened.said.rfind(words), opened);
}

BOOST_AUTO_TEST_CASE(the_rules_must_outlive_it)
{
    auto const& declared = seccomp::declarations<upgrader>::from_start;
    using rules = std::remove_cvref_t<decltype(declared)>;
    static_assert(std::is_constructible_v<seccomp::trap, rules const&> && std::is_constructible_v<seccomp::trap, rules&, int>);
    static_assert(std::is_constructible_v<seccomp::trap, std::span<seccomp::rule const>>);
    static_assert(!std::is_constructible_v<seccomp::trap, rules> && !std::is_constructible_v<seccomp::trap, rules const, int>);
    static_assert(!std::is_constructible_v<seccomp::trap, std::vector<seccomp::rule>>);
    BOOST_TEST(!declared.empty());
}

BOOST_AUTO_TEST_CASE(the_direct_launch_without_clone_is_named)
{
    auto const spawned = without(SCMP_SYS(clone), [] {
        os::owned_fd const root{::open("/", O_PATH | O_CLOEXEC)};
        launch::direct{}.start({.program = "/bin/true", .arguments = {"true"}, .environment = {}, .directory = root, .inherited = {}, .blocked = {}},
                               [](error_code, launch::process) {});
    });
    BOOST_TEST(spawned.turned_away(), spawned);
    BOOST_TEST(spawned.said.starts_with("ecdysis::seccomp: clone("), spawned);
    BOOST_TEST(spawned.said_that("\n  launch::direct calls clone: a new generation; no plain fork, and no thread (argument 0 & "), spawned);
}

BOOST_AUTO_TEST_CASE(a_call_of_another_thread_is_named_too)
{
    auto const other = without(SCMP_SYS(memfd_create), [] { std::thread{[] { ::memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING); }}.join(); });
    BOOST_TEST(other.turned_away(), other);
    BOOST_TEST(other.said_that("upgrader calls memfd_create"), other);
}

BOOST_AUTO_TEST_CASE(a_signal_that_no_filter_sent_ends_the_process_without_a_word)
{
    auto const sent = apart::run([](os::borrowed_fd to) {
        seccomp::trap const trap{seccomp::declarations<upgrader>::from_start, to.get()};
        return ::raise(SIGSYS);
    });
    BOOST_TEST(sent.turned_away(), sent);
    BOOST_TEST(sent.said.empty(), sent);
}

BOOST_AUTO_TEST_CASE(what_the_signal_did_before_comes_back)
{
    auto const back = apart::run([](os::borrowed_fd to) {
        ::signal(SIGSYS, [](int) { heard = 1; });
        for (int i = 0; i != 2; ++i) // there may be another after it
            seccomp::trap{seccomp::declarations<upgrader>::from_start, to.get()};
        ::raise(SIGSYS);
        return heard == 1 ? 0 : 1;
    });
    BOOST_TEST(back.exited(), back);
    BOOST_TEST(back.said.empty(), back);
}

BOOST_AUTO_TEST_CASE(a_second_one_is_an_error_and_the_first_stays)
{
    auto const first = apart::run([](os::borrowed_fd to) {
        seccomp::trap const trap{seccomp::declarations<upgrader>::from_start, to.get()};
        for (int i = 0; i != 2; ++i)
            try {
                seccomp::trap const second{std::span<seccomp::rule const>{}, STDERR_FILENO};
                return 1;
            } catch (ecdysis::error const& e) {
                if (e.code() != boost::system::errc::device_or_resource_busy)
                    return 2;
            }
        apart::filter filter{SCMP_ACT_ALLOW};
        ::seccomp_rule_add(filter.get(), SCMP_ACT_TRAP, SCMP_SYS(memfd_create), 0);
        filter.load();
        ::memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return 0;
    });
    BOOST_TEST(first.turned_away(), first);
    BOOST_TEST(first.said_that("upgrader calls memfd_create: state for the child"), first);
}
