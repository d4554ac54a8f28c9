// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/formats.hpp>

#define BOOST_TEST_MODULE seccomp/formats
#include <boost/test/unit_test.hpp>

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/seccomp/allowlist.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/json/src.hpp>

#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <list>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace json = boost::json;
namespace launch = ecdysis::launch;
namespace seccomp = ecdysis::seccomp;
using seccomp::answers;
using seccomp::architecture;
using seccomp::calls;
using seccomp::condition;
using seccomp::has;
using seccomp::is;
using seccomp::lacks;
using seccomp::rule;

// Between them they have each policy.
using one_upgrader =
    ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::named_pipe, launch::direct>;
using other_upgrader =
    ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair, launch::spawner>;

constexpr auto one_list = seccomp::join(seccomp::declarations<one_upgrader>::from_start, seccomp::threads);
constexpr auto other_list = seccomp::join(seccomp::declarations<other_upgrader>::from_start, seccomp::threads);

template <class Check>
void for_each_list(Check&& check)
{
    for (std::span<rule const> const list : {std::span<rule const>{one_list}, std::span<rule const>{other_list}})
        for (auto const on : seccomp::architectures)
            BOOST_TEST_CONTEXT((list.data() == one_list.data() ? "one" : "other") << (on == architecture::x86_64 ? " on x86_64" : " on aarch64"))
                check(list, on);
}

std::vector<std::string> lines(std::string const& text)
{
    std::vector<std::string> result;
    std::istringstream from{text};
    for (std::string line; std::getline(from, line);)
        result.push_back(line);
    return result;
}

std::set<std::string, std::less<>> names(std::span<rule const> list, architecture on)
{
    std::set<std::string, std::less<>> result;
    for (auto const& one : list)
        if (one.is_on(on))
            result.emplace(one.call);
    return result;
}

/// An OCI profile read back, as a runtime reads it.
class profile
{
public:
    explicit profile(std::string const& text) : parsed_(json::parse(text)) {} // braces would make an array of it

    [[nodiscard]] json::object const& object() const { return parsed_.as_object(); }
    /// As rules on one architecture, whichever; `by` and `why` are not in it.
    [[nodiscard]] std::vector<rule> rules() const
    {
        std::vector<rule> result;
        for (auto const& entry : object().at("syscalls").as_array()) {
            rule one{};
            auto const& action = entry.at("action").as_string();
            if (action == "SCMP_ACT_ERRNO")
                one.answer = entry.at("errnoRet").to_number<int>();
            else
                BOOST_TEST(action == "SCMP_ACT_ALLOW");
            if (auto const* const arguments = entry.as_object().if_contains("args"))
                for (auto const& argument : arguments->as_array()) {
                    BOOST_TEST(argument.at("op").as_string() == "SCMP_CMP_MASKED_EQ");
                    BOOST_REQUIRE(one.conditions < rule::max_conditions);
                    one.where[one.conditions++] = {argument.at("index").to_number<unsigned>(), argument.at("value").to_number<std::uint64_t>(),
                                                   argument.at("valueTwo").to_number<std::uint64_t>()};
                }
            for (auto const& name : entry.at("names").as_array()) {
                one.call = std::string_view{name.as_string()};
                result.push_back(one);
            }
        }
        return result;
    }

private:
    json::value parsed_;
};

bool is_in(rule const& one, std::span<rule const> list)
{
    return std::ranges::any_of(list, [&](rule const& other) { return other.covers(one); });
}

std::string words(rule const& one)
{
    return seccomp::text(std::array{one}, architecture::x86_64);
}

} // namespace

BOOST_AUTO_TEST_SUITE(text)

constexpr auto list = seccomp::join(seccomp::declare("one", std::array{
                                                                calls("write", "its words"),
                                                                calls("fcntl", "flags", is(1, 2)),
                                                                calls("mmap", "memory", lacks(2, 4), has(3, 0xf0, 0x20)),
                                                                calls("poll", "waits").only_on(architecture::x86_64),
                                                                answers("clone3", ENOSYS, "cannot be checked"),
                                                            }),
                                    seccomp::declare("other", std::array{
                                                                  calls("fcntl", "copies", is(1, -1)),
                                                                  calls("fcntl", "flags", is(1, 2)),
                                                                  calls("fcntl", "more flags", is(1, 2)),
                                                                  calls("write", "its words"),
                                                                  calls("ppoll", "waits").only_on(architecture::aarch64),
                                                              }),
                                    seccomp::declare("other", std::array{calls("write", "its words")}));

BOOST_AUTO_TEST_CASE(is_a_line_for_each_call_and_its_conditions)
{
    BOOST_TEST(seccomp::text(list, architecture::x86_64) ==
               "clone3, is answered: Function not implemented -- one: cannot be checked\n"
               "fcntl, argument 1 == 0x2 -- one: flags; other: flags; other: more flags\n"
               "fcntl, argument 1 == 0xffffffff -- other: copies\n"
               "mmap, argument 2 & 0x4 == 0x0, argument 3 & 0xf0 == 0x20 -- one: memory\n"
               "poll -- one: waits\n"
               "write -- one: its words; other: its words\n");
}

BOOST_AUTO_TEST_CASE(is_of_one_architecture)
{
    auto const there = seccomp::text(list, architecture::aarch64);
    BOOST_TEST(there.find("\npoll") == there.npos);
    BOOST_TEST(there.find("\nppoll -- other: waits\n") != there.npos);
}

BOOST_AUTO_TEST_CASE(has_all_that_is_declared)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        auto const all = lines(seccomp::text(list, on));
        std::set<std::string, std::less<>> told;
        for (auto const& line : all)
            told.insert(line.substr(0, std::min(line.find(','), line.find(" -- "))));
        BOOST_TEST(told == names(list, on), boost::test_tools::per_element{});
        for (auto const& one : list) {
            auto const is_told = std::ranges::any_of(all, [&](std::string const& line) {
                return (line.starts_with(std::string{one.call} + ",") || line.starts_with(std::string{one.call} + " ")) &&
                       line.find(std::string{one.by} + ": " + std::string{one.why}) != line.npos;
            });
            if (one.is_on(on))
                BOOST_TEST(is_told, one.by << " calls " << one.call << ": " << one.why);
        }
    });
}

BOOST_AUTO_TEST_CASE(of_nothing_is_empty)
{
    BOOST_TEST(seccomp::text({}, architecture::x86_64) == "");
}

BOOST_AUTO_TEST_SUITE_END()
BOOST_AUTO_TEST_SUITE(oci)

BOOST_AUTO_TEST_CASE(has_what_a_runtime_reads)
{
    constexpr std::array list{calls("write", ""), calls("fcntl", "", is(1, 2), has(2, ~std::uint64_t{0}, 1)), answers("clone3", ENOSYS, ""),
                              calls("read", "")};
    BOOST_TEST(json::parse(seccomp::oci(list, architecture::x86_64)) == json::parse(R"({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["fcntl"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 1, "value": 4294967295, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 2, "value": 18446744073709551615, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}
        ]})"));
    BOOST_TEST(profile{seccomp::oci(list, architecture::aarch64)}.object().at("architectures") == json::parse(R"(["SCMP_ARCH_AARCH64"])"));
}

BOOST_AUTO_TEST_CASE(of_nothing_allows_nothing)
{
    BOOST_TEST(profile{seccomp::oci({}, architecture::x86_64)}.rules().empty());
}

BOOST_AUTO_TEST_CASE(allows_what_is_declared_and_no_more)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        profile const read{seccomp::oci(list, on)};
        auto const printed = read.rules();
        std::vector<rule> declared;
        for (auto const& one : list)
            if (one.is_on(on))
                declared.push_back(one);
        for (auto const& one : declared)
            BOOST_TEST(is_in(one, printed), "not in it: " << words(one));
        for (auto const& one : printed)
            BOOST_TEST(is_in(one.only_on(on), declared), "not declared: " << words(one));
    });
}

// A runtime may refuse a rule twice; and of several conditions of one argument runc allows each.
BOOST_AUTO_TEST_CASE(says_nothing_twice)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        profile const read{seccomp::oci(list, on)};
        auto const printed = read.rules();
        for (auto one = printed.begin(); one != printed.end(); ++one) {
            BOOST_TEST(std::ranges::none_of(printed, [&](rule const& other) { return &other != &*one && other.covers(*one); }),
                       "is covered by another one: " << words(*one));
            std::set<unsigned> arguments;
            for (auto const& which : one->all_conditions())
                BOOST_TEST(arguments.insert(which.argument).second, words(*one));
        }
    });
}

BOOST_AUTO_TEST_CASE(leaves_out_what_another_rule_covers)
{
    constexpr std::array list{calls("socket", "", is(0, 1), is(1, 5)), calls("socket", "", is(0, 1)), calls("close", ""),
                              calls("close", "again"), calls("fcntl", "", is(1, 2)), calls("fcntl", "").only_on(architecture::aarch64)};
    BOOST_TEST(profile{seccomp::oci(list, architecture::x86_64)}.rules().size() == 3U);
    auto const there = profile{seccomp::oci(list, architecture::aarch64)};
    auto const rules = there.rules();
    BOOST_REQUIRE(rules.size() == 3U);
    BOOST_TEST(std::ranges::count_if(rules, [](rule const& one) { return one.call == "fcntl" && one.conditions == 0; }) == 1);
}

BOOST_AUTO_TEST_CASE(does_not_answer_what_the_host_allows)
{
    constexpr std::array list{answers("clone3", ENOSYS, ""), calls("clone3", "the host's own")};
    auto const read = profile{seccomp::oci(list, architecture::x86_64)};
    auto const rules = read.rules();
    BOOST_REQUIRE(rules.size() == 1U);
    BOOST_TEST(rules.front().answer == 0);
}

BOOST_AUTO_TEST_SUITE_END()
BOOST_AUTO_TEST_SUITE(system_call_filter)

std::string filter_of(std::span<rule const> list, architecture on)
{
    auto const all = lines(seccomp::system_call_filter(list, on));
    auto const last = std::ranges::find(all, "SystemCallFilter=");
    BOOST_REQUIRE_MESSAGE(last != all.end() && last + 2 == all.end(), "the list is not the last line, after one that resets what was");
    BOOST_TEST(last[1].starts_with("SystemCallFilter="));
    return last[1].substr(last[1].find('=') + 1);
}

BOOST_AUTO_TEST_CASE(is_a_drop_in)
{
    constexpr std::array list{calls("write", ""), calls("fcntl", "", is(1, 2)), calls("fcntl", "", is(1, 3)),
                              answers("clone3", ENOSYS, "cannot be checked")};
    BOOST_TEST(seccomp::system_call_filter(list, architecture::aarch64) ==
               "# What the service calls on aarch64. systemd cannot check the arguments.\n"
               "# clone3 is allowed, which a filter of the service's own would answer with \"Function not implemented\", as systemd "
               "cannot: cannot be checked.\n"
               "[Service]\n"
               "SystemCallArchitectures=native\n"
               "# Not besides what the unit has.\n"
               "SystemCallFilter=\n"
               "SystemCallFilter=clone3 fcntl write\n");
}

BOOST_AUTO_TEST_CASE(has_each_call_once)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        std::istringstream from{filter_of(list, on)};
        std::vector<std::string> const all{std::istream_iterator<std::string>{from}, {}};
        BOOST_TEST(all == names(list, on), boost::test_tools::per_element{});
    });
}

BOOST_AUTO_TEST_SUITE_END()
BOOST_AUTO_TEST_SUITE(architectures)

std::uint32_t number_of(architecture one)
{
    return one == architecture::x86_64 ? SCMP_ARCH_X86_64 : SCMP_ARCH_AARCH64;
}

BOOST_AUTO_TEST_CASE(have_only_calls_that_libseccomp_knows_there)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        for (auto const& name : names(list, on))
            // Below zero: a call of some other architecture.
            BOOST_TEST(::seccomp_syscall_resolve_name_arch(number_of(on), name.c_str()) >= 0, name);
    });
}

BOOST_AUTO_TEST_CASE(aarch64_has_not_the_calls_that_are_only_old)
{
    for_each_list([](std::span<rule const> list, architecture on) {
        auto const here = names(list, on);
        for (auto const* name : {"access", "poll", "unlink", "rename", "chmod", "arch_prctl"})
            BOOST_TEST(here.contains(name) == (on == architecture::x86_64), name);
        for (auto const* name : {"faccessat", "renameat", "fchmodat"})
            BOOST_TEST(here.contains(name) == (on == architecture::aarch64), name);
    });
    for (auto const* name : {"mkdir", "rmdir"}) {
        BOOST_TEST(names(one_list, architecture::x86_64).contains(name));
        BOOST_TEST(!names(one_list, architecture::aarch64).contains(name));
    }
    for (auto const* name : {"dup2", "epoll_wait"}) {
        BOOST_TEST(names(other_list, architecture::x86_64).contains(name));
        BOOST_TEST(!names(other_list, architecture::aarch64).contains(name));
    }
}

BOOST_AUTO_TEST_SUITE_END()
