// SPDX-License-Identifier: BSL-1.0
// What the example prints on its command line; what is in it: unit/seccomp/formats.cpp. That it is enough: container.cpp, and
// systemd/sandbox_test.cpp.
#define BOOST_TEST_MODULE example_allowlist
#include "program.hpp"

#include <boost/json/src.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace example;

namespace {

std::string printed(std::vector<std::string> arguments)
{
    auto const result = run("allowlist", std::move(arguments));
    BOOST_TEST(result.status == 0);
    BOOST_TEST(result.err == "");
    return result.out;
}

bool has_line(std::string const& text, std::string_view start)
{
    return ("\n" + text).find("\n" + std::string{start}) != std::string::npos;
}

constexpr char const* this_machine =
#if defined(__x86_64__)
    "x86_64";
#else
    "aarch64";
#endif

} // namespace

BOOST_AUTO_TEST_CASE(tells_its_arguments)
{
    auto const help = printed({"--help"});
    BOOST_TEST(help.starts_with("usage: allowlist "), help);
    for (auto const* argument : {"--text", "--from-start", "--oci", "--systemd", "--architecture NAME"})
        BOOST_TEST(has_line(help, "  " + std::string{argument}), help);
}

BOOST_AUTO_TEST_CASE(says_what_it_does_not_understand)
{
    std::vector<std::pair<std::vector<std::string>, std::string>> const wrong{
        {{"--no-such"}, "--no-such: no such argument"},
        {{"--architecture"}, "--architecture: expected x86_64 or aarch64 after it"},
        {{"--architecture", "arm"}, "arm: expected x86_64 or aarch64"},
        {{"--oci", "--systemd"}, "--oci and --systemd: one at a time"},
    };
    for (auto const& [arguments, words] : wrong) {
        auto const refused = run("allowlist", arguments);
        BOOST_TEST(refused.status == 2);
        BOOST_TEST(refused.out == "");
        BOOST_TEST(refused.err == "allowlist: " + words + "; see allowlist --help\n");
    }
}

BOOST_AUTO_TEST_CASE(is_short_enough_to_be_read)
{
    auto const text = read(directory_of(true) + "/allowlist.cpp");
    BOOST_TEST(text != "");
    BOOST_TEST(std::ranges::count(text, '\n') < 150);
}

BOOST_AUTO_TEST_CASE(prints_for_people)
{
    auto const in_main = printed({}), from_start = printed({"--from-start"});
    BOOST_TEST(in_main == printed({"--text"}));
    for (auto const& text : {in_main, from_start}) {
        BOOST_TEST(has_line(text, "socketpair, argument 0 == 0x1, "), text);
        BOOST_TEST(has_line(text, "lseek -- the host: the time zone\n"), text);
        BOOST_TEST(has_line(text, "exit -- threads of the host: its end\n"), text);
    }
}

BOOST_AUTO_TEST_CASE(prints_for_either_architecture)
{
    for (std::string const format : {"--text", "--oci", "--systemd"})
        BOOST_TEST(printed({format}) == printed({"--architecture", this_machine, format}));
    BOOST_TEST(has_line(printed({"--architecture", "x86_64"}), "epoll_wait -- "));
    auto const there = printed({"--architecture", "aarch64"});
    BOOST_TEST(has_line(there, "epoll_pwait -- "));
    BOOST_TEST(!has_line(there, "epoll_wait"));
}

// Both are there before main, so they have what the dynamic loader calls; and runc is in the one that it reads.
BOOST_AUTO_TEST_CASE(prints_for_others_what_is_called_from_the_start)
{
    auto const profile = boost::json::parse(printed({"--oci", "--architecture", "x86_64"}));
    BOOST_TEST(profile.at("defaultAction").as_string() == "SCMP_ACT_KILL_PROCESS");
    auto const& entries = profile.at("syscalls").as_array();
    auto const allows = [&](std::string_view call) {
        return std::ranges::any_of(entries, [&](auto const& one) {
            return std::ranges::any_of(one.at("names").as_array(), [&](auto const& name) { return name.as_string() == call; });
        });
    };
    for (auto const* call : {"arch_prctl", "recvmsg", "exit"})
        BOOST_TEST(allows(call), call);
    BOOST_TEST(std::ranges::count(entries, boost::json::parse(R"({"names": ["openat"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 2, "value": 4294967295, "valueTwo": 524289, "op": "SCMP_CMP_MASKED_EQ"}]})")) == 1);
    auto const drop_in = printed({"--systemd", "--architecture", "x86_64"});
    for (auto const* call : {" arch_prctl ", " recvmsg ", " exit "})
        BOOST_TEST(drop_in.find(call) != drop_in.npos, drop_in);
}
