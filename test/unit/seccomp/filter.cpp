// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/filter.hpp>

#include "apart.hpp"
#include "../launch/to_the_end.hpp"

#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/seccomp/trap.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#define BOOST_TEST_MODULE seccomp/filter
#include <boost/test/unit_test.hpp>

#include <boost/system/errc.hpp>

#include <seccomp.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
namespace seccomp = ecdysis::seccomp;
using apart::end;
using ecdysis::errc;
using ecdysis::error_code;
using seccomp::rule;

using with_direct = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::socketpair>;
using with_spawner = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::socketpair, launch::spawner>;

/// How `f` ends under a filter that kills what `rules` do not allow.
end under(std::span<rule const> rules, std::function<int()> f, std::uint32_t otherwise = SCMP_ACT_KILL_PROCESS)
{
    return apart::run([&](os::borrowed_fd) {
        apart::filter filter{otherwise};
        seccomp::allow(filter.get(), seccomp::threads);
        seccomp::allow(filter.get(), rules);
        filter.load();
        return f();
    });
}

/// Allows the host's own calls too, before and after ours.
end between(std::function<int(::scmp_filter_ctx)> before, std::function<int(::scmp_filter_ctx)> after, std::function<int()> f)
{
    return apart::run([&](os::borrowed_fd) {
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        if (before && before(filter.get()) != 0)
            return 101;
        seccomp::allow(filter.get(), seccomp::allowlist<with_spawner>);
        if (after && after(filter.get()) != 0)
            return 102;
        filter.load();
        return f();
    });
}

int call(long number, auto... arguments) { return ::syscall(number, arguments...) == -1 ? 1 : 0; }

int get_flags() { return call(SYS_fcntl, 0, F_GETFD); }
int set_owner() { return call(SYS_fcntl, 0, F_SETOWN, 0L); }
int map(int protection)
{
    return call(SYS_mmap, nullptr, 4096L, static_cast<long>(protection), static_cast<long>(MAP_PRIVATE | MAP_ANONYMOUS), -1L, 0L);
}

/// The child of `launch`, as an upgrader would start it.
int starts(auto& launch, char const* program)
{
    int result = 1;
    os::owned_fd const root{::open("/", O_PATH | O_CLOEXEC)};
    launch.start({.program = program, .arguments = {program}, .environment = {}, .directory = root, .inherited = {}, .blocked = {},
                  .as_sibling = launch.as_sibling(false)},
                 [&](error_code ec, launch::process child) {
                     ::pollfd one{child.pidfd.get(), POLLIN, 0};
                     if (!ec && ::poll(&one, 1, 20000) == 1 && launch.reap(child, ec) == os::exit_status{os::exit_status::kind::exited, 0})
                         result = 0;
                 });
    to_the_end(launch);
    return result;
}

::pid_t only_child()
{
    ::pid_t pid = -1;
    std::ifstream{"/proc/thread-self/children"} >> pid;
    return pid;
}

struct attempt
{
    char const* what;
    std::function<int()> allowed, not_allowed;
};

std::array const attempts{
    attempt{"fcntl", get_flags, set_owner},
    attempt{"socket", [] { return call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); },
            [] { return call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0); }},
    attempt{"whether a socket waits", [] { return call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); },
            [] { return call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
    attempt{"mmap", [] { return map(PROT_READ | PROT_WRITE); }, [] { return map(PROT_READ | PROT_EXEC); }},
    attempt{"openat", [] { return call(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY); },
            [] { return call(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY); }},
    attempt{"prlimit64", [] { std::array<::rlim_t, 2> old{}; return call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, old.data()); },
            [] { std::array<::rlim_t, 2> const wanted{64, 64}; return call(SYS_prlimit64, 0, RLIMIT_NOFILE, wanted.data(), nullptr); }},
};

} // namespace

BOOST_AUTO_TEST_CASE(a_call_is_allowed_with_the_arguments_that_are_declared_and_no_others)
{
    for (auto const& one : attempts) {
        BOOST_TEST_CONTEXT(one.what)
        {
            auto const allowed = under(seccomp::allowlist<with_spawner>, one.allowed);
            BOOST_TEST(allowed.exited(), allowed);
            auto const killed = under(seccomp::allowlist<with_spawner>, one.not_allowed);
            BOOST_TEST(killed.turned_away(), killed);
            // It is the filter that turned it away: it works without.
            auto const without = apart::run([&](os::borrowed_fd) { return one.not_allowed(); });
            BOOST_TEST(without.exited(), without);
        }
    }
}

BOOST_AUTO_TEST_CASE(the_default_action_is_the_hosts)
{
    auto const refused = under(seccomp::allowlist<with_spawner>,
                               [] { return set_owner() == 1 && errno == EACCES && get_flags() == 0 ? 0 : 1; }, SCMP_ACT_ERRNO(EACCES));
    BOOST_TEST(refused.exited(), refused);
}

BOOST_AUTO_TEST_CASE(what_is_in_the_upper_halves_of_registers_is_anybodys)
{
    constexpr auto garbage = std::uint64_t{0xdead'beef} << 32;
    auto const same = under(seccomp::allowlist<with_spawner>, [] { return call(SYS_fcntl, 0L, garbage | F_GETFD); });
    BOOST_TEST(same.exited(), same);
    auto const socket = under(seccomp::allowlist<with_spawner>, [] {
        return call(SYS_socket, garbage | AF_UNIX, garbage | SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, garbage);
    });
    BOOST_TEST(socket.exited(), socket);
    auto const other = under(seccomp::allowlist<with_spawner>, [] { return call(SYS_fcntl, 0L, garbage | F_SETOWN, 0L); });
    BOOST_TEST(other.turned_away(), other);
}

BOOST_AUTO_TEST_CASE(the_direct_launch_starts_a_program_where_a_fork_is_killed)
{
    auto const started = under(seccomp::allowlist<with_direct>, [] {
        launch::direct direct;
        return starts(direct, "/bin/true");
    });
    BOOST_TEST(started.exited(), started);
    for (auto const& fork : {std::function<int()>{[] { return static_cast<int>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); }},
                             std::function<int()>{[] { return ::fork() == 0 ? (::_exit(0), 0) : 0; }}}) {
        auto const killed = under(seccomp::allowlist<with_direct>, fork);
        BOOST_TEST(killed.turned_away(), killed);
    }
    auto const writable_code = under(seccomp::allowlist<with_direct>, [] { return map(PROT_WRITE | PROT_EXEC); });
    BOOST_TEST(writable_code.turned_away(), writable_code);
}

BOOST_AUTO_TEST_CASE(the_spawner_needs_neither_fork_nor_exec_and_its_child_has_no_filter)
{
    auto const started = apart::run([](os::borrowed_fd) {
        auto launch = launch::spawner::fork(launch::program{"/bin/sh", {"sh", "-c", "grep -q '^Seccomp:.*0$' /proc/self/status"}});
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        seccomp::allow<with_spawner>(filter.get(), launch);
        filter.load();
        return starts(launch, "/bin/sh");
    });
    BOOST_TEST(started.exited(), started);
    auto const killed = under(seccomp::allowlist<with_spawner>, [] {
        launch::direct direct;
        return starts(direct, "/bin/true");
    });
    BOOST_TEST(killed.turned_away(), killed);
}

BOOST_AUTO_TEST_CASE(threads_are_made_by_the_call_whose_flags_are_seen)
{
    auto const answered = under(seccomp::allowlist<with_spawner>,
                                [] { return ::syscall(SYS_clone3, nullptr, 0) == -1 && errno == ENOSYS ? 0 : 1; });
    BOOST_TEST(answered.exited(), answered);
    auto const ran = under(seccomp::allowlist<with_spawner>, [] {
        std::atomic<int> sum{0};
        for (int round = 0; round != 3; ++round) {
            std::thread one{[&] { sum += 1; }}, two{[&] { sum += 2; }};
            one.join();
            two.join();
        }
        return sum == 9 ? 0 : 1;
    });
    BOOST_TEST(ran.exited(), ran);
    auto const without = apart::run([](os::borrowed_fd) {
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        seccomp::allow(filter.get(), seccomp::allowlist<with_spawner>);
        filter.load();
        std::thread{[] {}}.join();
        return 0;
    });
    BOOST_TEST(without.turned_away(), without);
}

BOOST_AUTO_TEST_CASE(the_host_adds_its_own_before_or_after)
{
    auto const all_of_fcntl = [](::scmp_filter_ctx filter) { return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 0); };
    auto const set_owner_too = [](::scmp_filter_ctx filter) {
        return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, ::scmp_arg_cmp{1, SCMP_CMP_EQ, F_SETOWN, 0});
    };
    auto const same_condition = [](::scmp_filter_ctx filter) {
        return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, ::scmp_arg_cmp{1, SCMP_CMP_MASKED_EQ, 0xffff'ffff, F_GETFD});
    };
    auto const both = [] { return get_flags() == 0 && set_owner() == 0 ? 0 : 1; };
    for (auto const& hosts : {std::function<int(::scmp_filter_ctx)>{all_of_fcntl}, std::function<int(::scmp_filter_ctx)>{set_owner_too}}) {
        auto const before = between(hosts, {}, both), after = between({}, hosts, both);
        BOOST_TEST(before.exited(), before);
        BOOST_TEST(after.exited(), after);
    }
    auto const same = between(same_condition, {}, get_flags), no_more = between(same_condition, {}, set_owner);
    BOOST_TEST(same.exited(), same);
    BOOST_TEST(no_more.turned_away(), no_more);
    auto const same_after = between({}, same_condition, get_flags);
    BOOST_TEST(same_after.exited(), same_after);
    auto const twice = between([](::scmp_filter_ctx filter) { return seccomp::allow(filter, seccomp::allowlist<with_spawner>), 0; },
                               [](::scmp_filter_ctx filter) { return seccomp::allow(filter, seccomp::allowlist<with_direct>), 0; }, get_flags);
    BOOST_TEST(twice.exited(), twice);
}

BOOST_AUTO_TEST_CASE(a_default_that_answers_as_we_would_is_no_error)
{
    auto const answered = under(seccomp::allowlist<with_spawner>, [] {
        return ::syscall(SYS_clone3, nullptr, 0) == -1 && errno == ENOSYS && set_owner() == 1 && get_flags() == 0 ? 0 : 1;
    }, SCMP_ACT_ERRNO(ENOSYS));
    BOOST_TEST(answered.exited(), answered);
}

BOOST_AUTO_TEST_CASE(abort_ends_a_service_by_its_own_signal)
{
    for (std::span<rule const> const rules : {std::span<rule const>{seccomp::allowlist<with_direct>}, std::span<rule const>{seccomp::allowlist<with_spawner>}}) {
        auto const ended = apart::run([&](os::borrowed_fd) -> int {
            ::signal(SIGABRT, SIG_DFL); // Boost.Test has a handler
            apart::filter filter{SCMP_ACT_KILL_PROCESS};
            seccomp::allow(filter.get(), rules);
            filter.load();
            std::abort();
        });
        BOOST_TEST((WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGABRT), ended);
    }
}

BOOST_AUTO_TEST_CASE(what_the_host_says_of_a_call_stays)
{
    auto const refused = between([](::scmp_filter_ctx filter) { return ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(getcwd), 0); }, {},
                                 [] { char path[64]; return call(SYS_getcwd, path, sizeof path) == 1 && errno == EACCES ? 0 : 1; });
    BOOST_TEST(refused.exited(), refused);
    auto const all_of_clone3 = between([](::scmp_filter_ctx filter) { return ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone3), 0); }, {},
                                       [] { return call(SYS_clone3, nullptr, 0) == 1 && errno == EINVAL ? 0 : 1; });
    BOOST_TEST(all_of_clone3.exited(), all_of_clone3);
}

BOOST_AUTO_TEST_CASE(a_filter_for_another_architecture_too_is_an_error)
{
    BOOST_TEST_REQUIRE(seccomp::this_architecture().has_value());
    // Those with the bytes in this order: libseccomp joins no others.
    std::vector<std::uint32_t> others{
        SCMP_ARCH_X86,         SCMP_ARCH_X86_64,  SCMP_ARCH_X32,     SCMP_ARCH_ARM, SCMP_ARCH_AARCH64, SCMP_ARCH_MIPSEL, SCMP_ARCH_MIPSEL64,
        SCMP_ARCH_MIPSEL64N32, SCMP_ARCH_PPC64LE, SCMP_ARCH_RISCV64,
#ifdef SCMP_ARCH_LOONGARCH64
        SCMP_ARCH_LOONGARCH64,
#endif
#ifdef SCMP_ARCH_SH
        SCMP_ARCH_SH,
#endif
    };
    std::erase(others, ::seccomp_arch_native());
    for (auto const other : others) {
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        BOOST_TEST_REQUIRE(::seccomp_arch_add(filter.get(), other) == 0);
        error_code ec;
        seccomp::allow<with_direct>(filter.get(), ec);
        BOOST_TEST((ec == errc::seccomp_architecture));
        BOOST_CHECK_EXCEPTION(seccomp::allow<with_direct>(filter.get()), ecdysis::error, [](auto const& e) {
            return e.code() == errc::seccomp_architecture && std::string{e.what()}.starts_with("add the allowlist to the seccomp filter");
        });
        BOOST_TEST_REQUIRE(::seccomp_arch_remove(filter.get(), other) == 0);
        seccomp::allow<with_direct>(filter.get(), ec);
        BOOST_TEST(!ec, ec.message());
        // Without ours, the rules would be nowhere.
        BOOST_TEST_REQUIRE(::seccomp_arch_add(filter.get(), other) == 0);
        BOOST_TEST_REQUIRE(::seccomp_arch_remove(filter.get(), SCMP_ARCH_NATIVE) == 0);
        seccomp::allow<with_direct>(filter.get(), ec);
        BOOST_TEST((ec == errc::seccomp_architecture));
    }
}

BOOST_AUTO_TEST_CASE(a_filter_that_is_for_no_architecture_is_an_error)
{
    apart::filter filter{SCMP_ACT_KILL_PROCESS};
    BOOST_TEST_REQUIRE(::seccomp_arch_remove(filter.get(), SCMP_ARCH_NATIVE) == 0);
    error_code ec;
    seccomp::allow<with_direct>(filter.get(), ec);
    BOOST_TEST(ec.failed());
}

BOOST_AUTO_TEST_CASE(a_filter_that_allows_by_default_is_an_error)
{
    apart::filter filter{SCMP_ACT_ALLOW};
    error_code ec;
    seccomp::allow<with_direct>(filter.get(), ec);
    BOOST_TEST((ec == errc::seccomp_allows_all));
    BOOST_CHECK_EXCEPTION(seccomp::allow<with_direct>(filter.get()), ecdysis::error, [](auto const& e) {
        return e.code() == errc::seccomp_allows_all && std::string{e.what()}.find("SCMP_ACT_KILL_PROCESS") != std::string::npos;
    });
}

BOOST_AUTO_TEST_CASE(no_filter_is_an_error)
{
    error_code ec;
    seccomp::allow(nullptr, seccomp::threads, ec);
    BOOST_TEST((ec == boost::system::errc::invalid_argument));
    BOOST_CHECK_EXCEPTION(seccomp::allow(nullptr, seccomp::threads), ecdysis::error, [](auto const& e) {
        return e.code() == boost::system::errc::invalid_argument;
    });
}

BOOST_AUTO_TEST_CASE(a_call_that_is_not_known_is_named)
{
    static constexpr auto rules = seccomp::declare("a policy", std::array{seccomp::calls("getpid", ""), seccomp::calls("no_such_call", "")});
    apart::filter filter{SCMP_ACT_KILL_PROCESS};
    error_code ec;
    seccomp::allow(filter.get(), rules, ec);
    BOOST_TEST((ec == boost::system::errc::operation_not_supported));
    BOOST_CHECK_EXCEPTION(seccomp::allow(filter.get(), rules), ecdysis::error, [](auto const& e) {
        return std::string{e.what()}.starts_with("allow no_such_call in the seccomp filter, for a policy");
    });
}

BOOST_AUTO_TEST_CASE(a_spawner_that_has_gone_is_an_error_before_the_filter_is_loaded)
{
    auto const result = apart::run([](os::borrowed_fd to) {
        auto launch = launch::spawner::fork(launch::program{"/bin/true"});
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        error_code ec;
        seccomp::allow<with_spawner>(filter.get(), launch, ec);
        if (ec || starts(launch, "/bin/true") != 0)
            return 1;
        ::kill(only_child(), SIGKILL);
        if (starts(launch, "/bin/true") != 1 || launch.is_there())
            return 2;
        seccomp::allow<with_spawner>(filter.get(), launch, ec);
        if (ec != errc::spawner_gone)
            return 3;
        try {
            seccomp::allow<with_spawner>(filter.get(), launch);
            return 4;
        } catch (ecdysis::error const& e) {
            apart::say(to, e.what());
            return e.code() == errc::spawner_gone ? 0 : 5;
        }
    });
    BOOST_TEST(result.exited(), result);
    BOOST_TEST(result.said_that("add the allowlist to the seccomp filter, for a launch policy whose helper has ended"), result);
}

BOOST_AUTO_TEST_CASE(a_spawner_that_was_moved_from_is_an_error_that_says_so)
{
    auto const result = apart::run([](os::borrowed_fd to) {
        auto launch = launch::spawner::fork(launch::program{"/bin/true"});
        auto const moved = std::move(launch);
        apart::filter filter{SCMP_ACT_KILL_PROCESS};
        seccomp::allow<with_spawner>(filter.get(), moved);
        try {
            seccomp::allow<with_spawner>(filter.get(), launch);
            return 1;
        } catch (ecdysis::error const& e) {
            apart::say(to, e.what());
            return e.code() == errc::spawner_gone ? 0 : 2;
        }
    });
    BOOST_TEST(result.exited(), result);
    BOOST_TEST(result.said_that("or that was moved from"), result);
}

BOOST_AUTO_TEST_CASE(a_spawner_that_is_forked_too_late_says_what_to_do)
{
    auto const forks = [](os::borrowed_fd to) {
        try {
            static_cast<void>(launch::spawner::fork(launch::program{"/bin/true"}));
            return 1;
        } catch (ecdysis::error const& e) {
            apart::say(to, e.what());
            return 0;
        }
    };
    constexpr auto words = "a seccomp filter forbids it; call spawner::fork() before the filter is loaded";
    for (int const why : {EPERM, EACCES, ENOSYS}) {
        auto const without_clone = apart::run([&](os::borrowed_fd to) {
            apart::filter filter{SCMP_ACT_ALLOW};
            ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(static_cast<std::uint16_t>(why)), SCMP_SYS(clone), 0);
            filter.load();
            return forks(to);
        });
        BOOST_TEST(without_clone.exited(), without_clone);
        BOOST_TEST(without_clone.said_that(std::string{"fork the spawner: "} + words), without_clone);
        auto const under_the_allowlist = apart::run([&](os::borrowed_fd to) {
            apart::filter filter{SCMP_ACT_ERRNO(static_cast<std::uint16_t>(why))};
            seccomp::allow(filter.get(), seccomp::allowlist<with_spawner>);
            filter.load();
            return forks(to);
        });
        BOOST_TEST(under_the_allowlist.exited(), under_the_allowlist);
        BOOST_TEST(under_the_allowlist.said_that(words), under_the_allowlist);
    }
    auto const of_other_reasons = apart::run([&](os::borrowed_fd to) {
        apart::filter filter{SCMP_ACT_ALLOW};
        ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EAGAIN), SCMP_SYS(clone), 0); // as where there are too many processes
        filter.load();
        return forks(to);
    });
    BOOST_TEST(of_other_reasons.exited(), of_other_reasons);
    BOOST_TEST(of_other_reasons.said_that("fork the spawner"), of_other_reasons);
    BOOST_TEST(!of_other_reasons.said_that("filter"), of_other_reasons);
    auto const not_known = apart::run([&](os::borrowed_fd to) { // nothing is blamed unseen: /proc cannot be read
        apart::filter filter{SCMP_ACT_ALLOW};
        ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 0);
        ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
                           ::scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, 0xffff'ffff, O_RDONLY | O_CLOEXEC});
        filter.load();
        try {
            static_cast<void>(launch::spawner::fork(launch::program{"/bin/true", {"true"}}));
            return 1;
        } catch (ecdysis::error const& e) {
            apart::say(to, e.what());
            return 0;
        }
    });
    BOOST_TEST(not_known.exited(), not_known);
    BOOST_TEST(not_known.said_that("fork the spawner"), not_known);
    BOOST_TEST(!not_known.said_that("filter"), not_known);
}

BOOST_AUTO_TEST_CASE(a_trap_names_the_spawner_that_is_forked_too_late)
{
    auto const forks = [](std::uint32_t otherwise, std::function<void(::scmp_filter_ctx)> fill) {
        return apart::run([&](os::borrowed_fd to) {
            seccomp::trap const trap{seccomp::declarations<with_spawner>::from_start, to.get()};
            apart::filter filter{otherwise};
            fill(filter.get());
            filter.load();
            static_cast<void>(launch::spawner::fork(launch::program{"/bin/true"}));
            return 0;
        });
    };
    auto const clone = forks(SCMP_ACT_ALLOW, [](::scmp_filter_ctx filter) { ::seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(clone), 0); });
    BOOST_TEST(clone.turned_away(), clone);
    BOOST_TEST(clone.said_that("ecdysis::seccomp: clone("), clone);
    BOOST_TEST(clone.said_that("launch::spawner, before the filter calls clone: forks the helper: spawner::fork() comes before the filter"), clone);
    auto const all = forks(SCMP_ACT_TRAP, [](::scmp_filter_ctx filter) { seccomp::allow(filter, seccomp::allowlist<with_spawner>); });
    BOOST_TEST(all.turned_away(), all);
    BOOST_TEST(all.said.starts_with("ecdysis::seccomp: socketpair(1, "), all); // which comes before clone(2)
    BOOST_TEST(all.said_that("\n  launch::spawner, before the filter calls socketpair: between service and helper "), all);
    BOOST_TEST(std::ranges::count(all.said, '\n') == 2, all); // and none of the others who make pairs
}
