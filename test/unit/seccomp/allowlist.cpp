// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/allowlist.hpp>

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#define BOOST_TEST_MODULE seccomp/allowlist
#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

namespace {

namespace io = ecdysis::io;
namespace launch = ecdysis::launch;
namespace notify = ecdysis::notify;
namespace seccomp = ecdysis::seccomp;
namespace transport = ecdysis::transport;
using seccomp::rule;

using assemblies = std::tuple<ecdysis::upgrader<io::sync, notify::none, transport::named_pipe, launch::direct>,
                              ecdysis::upgrader<io::sync, notify::systemd, transport::socketpair, launch::spawner>,
                              ecdysis::upgrader<io::asio, notify::none, transport::socketpair, launch::direct>,
                              ecdysis::upgrader<io::asio, notify::systemd, transport::named_pipe, launch::spawner>>;

using with_direct = std::tuple_element_t<0, assemblies>;
using with_spawner = std::tuple_element_t<1, assemblies>;

/// Whether the call is let through, at least with some arguments.
bool allows(std::span<rule const> list, std::string_view call)
{
    return std::ranges::any_of(list, [&](rule const& one) { return one.call == call && one.answer == 0; });
}

void check_union(std::span<rule const> all, std::span<rule const> result)
{
    for (auto const& declared : all) {
        BOOST_TEST(!declared.by.empty(), std::string{declared.call} + " by nobody");
        BOOST_TEST(!declared.why.empty(), std::string{declared.call} + " for no reason");
        BOOST_TEST(std::ranges::any_of(result, [&](rule const& one) { return one.covers(declared); }),
                   std::string{declared.call} + " of " + std::string{declared.by} + " is not covered");
    }
    for (auto const& one : result) {
        for (auto const& other : result)
            BOOST_TEST((&one == &other || !one.covers(other)), std::string{other.call} + " is there twice");
        BOOST_TEST(std::ranges::any_of(all, [&](rule const& declared) { return declared.covers(one) && one.covers(declared) && declared.by == one.by; }),
                   std::string{one.call} + " was declared by nobody");
    }
    BOOST_TEST(result.size() < all.size());
}

struct quiet : notify::none
{
    static constexpr auto system_calls = seccomp::declare(
        "quiet", std::array{seccomp::calls("sysinfo", "whether there is room"), seccomp::calls("fcntl", "of a pipe", seccomp::is(1, 1032)),
                            seccomp::calls("getpid", "the same as others")});
    static constexpr auto system_calls_from_start =
        seccomp::declare("quiet, before the filter", std::array{seccomp::calls("syslog", "the kernel's words")});
};

/// A policy with many rules of one call: each is compared with each.
struct busy : notify::systemd
{
    static constexpr auto system_calls = [] {
        std::array<rule, 60> result{};
        for (std::size_t i = 0; i != result.size(); ++i)
            result[i] = {.call = "ioctl", .why = "a device", .where = {seccomp::is(1, 1000 + i)}, .conditions = 1};
        return seccomp::join(notify::systemd::system_calls, seccomp::declare("busy", result));
    }();
};

} // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(the_union_covers_all_and_nothing_twice, Upgrader, assemblies)
{
    check_union(seccomp::declarations<Upgrader>::in_main, seccomp::allowlist<Upgrader>);
    check_union(seccomp::declarations<Upgrader>::from_start, seccomp::allowlist_from_start<Upgrader>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_filter_from_the_start_allows_what_a_later_one_does_and_more, Upgrader, assemblies)
{
    for (auto const& one : seccomp::allowlist<Upgrader>)
        BOOST_TEST(std::ranges::any_of(seccomp::allowlist_from_start<Upgrader>, [&](rule const& other) { return other.covers(one); }),
                   std::string{one.call});
    BOOST_TEST(allows(seccomp::allowlist_from_start<Upgrader>, "set_tid_address"));
    BOOST_TEST(allows(seccomp::allowlist_from_start<Upgrader>, "execve"));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_assembly_forks_or_turns_memory_into_code, Upgrader, assemblies)
{
    for (auto const list : {std::span<rule const>{seccomp::allowlist<Upgrader>}, std::span<rule const>{seccomp::allowlist_from_start<Upgrader>}}) {
        for (auto const call : {"fork", "vfork", "execveat", "clone3", "ptrace", "tkill"})
            BOOST_TEST(!allows(list, call), call);
        BOOST_TEST(std::ranges::any_of(list, [](rule const& one) { return one.call == "clone3" && one.answer == ENOSYS; }));
        for (auto const& one : list)
            if (one.answer == 0 && (one.call == "clone" || one.call == "mmap" || one.call == "mprotect" || one.call == "socket" || one.call == "fcntl"))
                BOOST_TEST(one.conditions != 0U, std::string{one.call} + " with any argument");
        for (auto const& one : list)
            if (one.call == "tgkill") // of abort(), and nobody else's
                BOOST_TEST(std::ranges::count(one.all_conditions(), seccomp::is(2, SIGABRT)) == 1);
    }
}

BOOST_AUTO_TEST_CASE(only_the_direct_launch_starts_programs)
{
    for (auto const call : {"clone", "execve", "pidfd_send_signal"}) {
        BOOST_TEST(allows(seccomp::allowlist<with_direct>, call), call);
        BOOST_TEST(!allows(seccomp::allowlist<with_spawner>, call), call);
    }
    BOOST_TEST(allows(seccomp::allowlist<with_spawner>, "sendmsg")); // it asks its helper
    BOOST_TEST(!allows(seccomp::threads, "execve"));
}

BOOST_AUTO_TEST_CASE(the_new_generation_of_a_direct_launch_is_loaded_under_the_filter)
{
    for (auto const& one : seccomp::program_calls)
        BOOST_TEST(std::ranges::any_of(seccomp::allowlist<with_direct>, [&](rule const& other) { return other.covers(one); }), std::string{one.call});
    BOOST_TEST(!allows(seccomp::allowlist<with_spawner>, "set_tid_address"));
}

BOOST_AUTO_TEST_CASE(a_policy_of_ones_own_is_listed)
{
    using up = ecdysis::upgrader<io::sync, quiet, transport::socketpair>;
    static_assert(seccomp::Declares<quiet> && seccomp::DeclaresStart<quiet>);
    static_assert(!seccomp::DeclaresStart<notify::none> && !seccomp::Declares<int>);
    auto const& list = seccomp::allowlist<up>;
    auto const found = std::ranges::find(list, "sysinfo", &rule::call);
    BOOST_TEST_REQUIRE((found != list.end()));
    BOOST_TEST(found->by == "quiet");
    BOOST_TEST(found->why == "whether there is room");
    BOOST_TEST(std::ranges::count(list, "getpid", &rule::call) == 1);
    BOOST_TEST(std::ranges::any_of(list, [](rule const& one) { return one.call == "fcntl" && one.by == "quiet"; }));
    BOOST_TEST(!allows(list, "syslog"));
    BOOST_TEST(allows(seccomp::allowlist_from_start<up>, "syslog"));
    check_union(seccomp::declarations<up>::from_start, seccomp::allowlist_from_start<up>);
}

BOOST_AUTO_TEST_CASE(a_policy_may_have_many_rules) // within clang's -fconstexpr-steps
{
    using up = ecdysis::upgrader<io::asio, busy, transport::named_pipe, launch::spawner>;
    BOOST_TEST(std::ranges::count(seccomp::allowlist<up>, "busy", &rule::by) == 60);
    BOOST_TEST(std::ranges::count(seccomp::allowlist_from_start<up>, "busy", &rule::by) == 60);
}

BOOST_AUTO_TEST_CASE(of_what_is_said_twice_the_first_stays_and_of_what_is_said_wider_the_widest)
{
    using seccomp::calls;
    using seccomp::is;
    constexpr std::array rules{calls("a", "", is(0, 1)), calls("a", "again", is(0, 1)), calls("b", "", is(0, 1)),
                               calls("b", "wider"),      calls("b", "", is(1, 1)),      calls("c", "").only_on(seccomp::architecture::x86_64),
                               calls("c", "wider"),      calls("d", "", is(0, 1)),      calls("d", "", is(0, 2))};
    static_assert(seccomp::unions::needed(rules) == std::array{true, false, false, true, false, false, true, true, true});
    BOOST_TEST(seccomp::unions::needed(std::array<rule, 0>{}).empty());
}
