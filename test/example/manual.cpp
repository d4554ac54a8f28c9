// SPDX-License-Identifier: BSL-1.0
// The manual's table of system calls is what the lists say. Where this fails it says the table that the manual should have.
#define BOOST_TEST_MODULE example manual
#include "program.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace seccomp = ecdysis::seccomp;

namespace {

constexpr auto all =
    seccomp::join(seccomp::core_calls, ecdysis::io::sync::system_calls, ecdysis::io::asio::system_calls,
                  ecdysis::notify::systemd::system_calls, ecdysis::transport::named_pipe::system_calls,
                  ecdysis::transport::socketpair::system_calls, ecdysis::launch::direct::system_calls,
                  ecdysis::launch::spawner::system_calls, ecdysis::launch::spawner::system_calls_from_start, seccomp::threads);

/// What is said of one call: each reason once, with all who have it.
struct row
{
    struct reason
    {
        std::string why;
        std::vector<std::string> who;
    };

    std::set<unsigned> checked;
    std::vector<reason> reasons;

    void add(seccomp::rule const& one)
    {
        auto const why = std::string{one.why} + (one.answer != 0 ? " (fails with ENOSYS)" : "");
        auto found = std::ranges::find(reasons, why, &reason::why);
        if (found == reasons.end())
            found = reasons.insert(found, {why, {}});
        std::string by{one.by};
        std::erase(by, ','); // which separates them here
        if (std::ranges::find(found->who, by) == found->who.end())
            found->who.push_back(by);
        for (auto const& condition : one.all_conditions())
            checked.insert(condition.argument);
    }

    [[nodiscard]] std::string text(std::string const& call) const
    {
        std::string result = "| `" + call + "` |";
        for (auto const* sign = " "; auto const argument : checked) {
            result += sign + std::to_string(argument);
            sign = ", ";
        }
        result += " |";
        for (auto const* sign = " "; auto const& [why, who] : reasons) {
            result += sign + why + " (";
            for (auto const& one : who)
                result += (&one == &who.front() ? "" : ", ") + one;
            result += ")";
            sign = "; ";
        }
        return result + " |\n";
    }
};

[[nodiscard]] std::string table()
{
    std::map<std::string, row> rows;
    for (auto const& one : all)
        rows[std::string{one.call}].add(one);
    std::string result = "| call | arguments checked | why (who) |\n| --- | --- | --- |\n";
    for (auto const& [call, one] : rows)
        result += one.text(call);
    return result;
}

} // namespace

BOOST_AUTO_TEST_CASE(the_manual_says_what_each_call_is_for)
{
    auto const manual = example::read(example::directory_of(true) + "/../doc/manual.md");
    auto const expected = table();
    BOOST_TEST((manual.find("\n" + expected + "\n") != manual.npos), "doc/manual.md should have:\n" << expected);
}
