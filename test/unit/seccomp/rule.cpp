// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/rule.hpp>

#define BOOST_TEST_MODULE seccomp/rule
#include <boost/test/unit_test.hpp>

#include <array>
#include <cerrno>
#include <concepts>
#include <cstdint>
#include <vector>

namespace {

namespace seccomp = ecdysis::seccomp;
using seccomp::answers;
using seccomp::architecture;
using seccomp::calls;
using seccomp::condition;
using seccomp::has;
using seccomp::is;
using seccomp::lacks;
using seccomp::rule;

/// As the kernel has it.
constexpr bool holds(condition const& one, std::array<std::uint64_t, 6> const& arguments)
{
    return (arguments[one.argument] & one.mask) == one.value;
}

bool allows(rule const& one, std::array<std::uint64_t, 6> const& arguments)
{
    for (auto const& condition : one.all_conditions())
        if (!holds(condition, arguments))
            return false;
    return true;
}

/// What `calls` makes of conditions that a compiler knows.
rule with(std::same_as<condition> auto... where) { return {.call = "call", .why = "", .where = {where...}, .conditions = sizeof...(where)}; }

/// All that can be said of the lowest two bits of arguments 0 and 1, but for what says nothing, or never holds.
std::vector<condition> small_conditions()
{
    std::vector<condition> result;
    for (unsigned argument : {0U, 1U})
        for (std::uint64_t mask = 1; mask != 4; ++mask)
            for (std::uint64_t value = 0; value != 4; ++value)
                if ((value & mask) == value)
                    result.push_back({argument, mask, value});
    return result;
}

std::vector<std::array<std::uint64_t, 6>> small_arguments()
{
    std::vector<std::array<std::uint64_t, 6>> result;
    for (std::uint64_t first = 0; first != 4; ++first)
        for (std::uint64_t second = 0; second != 4; ++second)
            result.push_back({first, second});
    return result;
}

bool implies(rule const& other, rule const& one)
{
    for (auto const& arguments : small_arguments())
        if (allows(other, arguments) && !allows(one, arguments))
            return false;
    return true;
}

} // namespace

BOOST_AUTO_TEST_CASE(an_int_is_compared_in_32_bits)
{
    static_assert(is(1, 7) == condition{1, 0xffff'ffff, 7});
    static_assert(is(0, static_cast<std::uint64_t>(-1)) == condition{0, 0xffff'ffff, 0xffff'ffff}); // a negative int
    BOOST_TEST(holds(is(0, 7), {0xdead'beef'0000'0007}));
    BOOST_TEST(!holds(is(0, 7), {0x0000'0001'0000'0006}));
}

BOOST_AUTO_TEST_CASE(bits_are_looked_at_as_asked)
{
    static_assert(has(2, 6, 2) == condition{2, 6, 2});
    static_assert(lacks(2, 4) == condition{2, 4, 0});
    BOOST_TEST(holds(has(0, 6, 2), {3}));
    BOOST_TEST(!holds(has(0, 6, 2), {6}));
    BOOST_TEST(holds(lacks(0, 4), {3}));
    BOOST_TEST(!holds(lacks(0, 4), {5}));
    BOOST_TEST(!holds(has(0, ~std::uint64_t{0}, 0), {std::uint64_t{1} << 63})); // a pointer
}

BOOST_AUTO_TEST_CASE(a_rule_holds_of_a_call_where_all_its_conditions_do)
{
    static_assert(calls("call", "").holds(std::array<std::uint64_t, 6>{1, 2, 3, 4, 5, 6}));
    static_assert(calls("call", "", is(0, 1), is(5, 6)).holds(std::array<std::uint64_t, 6>{1, 2, 3, 4, 5, 6}));
    static_assert(!calls("call", "", is(0, 1), is(5, 6)).holds(std::array<std::uint64_t, 6>{1, 2, 3, 4, 5, 7}));
    for (auto const& first : small_conditions())
        for (auto const& second : small_conditions())
            for (auto const& arguments : small_arguments())
                BOOST_TEST(with(first, second).holds(arguments) == (holds(first, arguments) && holds(second, arguments)));
}

BOOST_AUTO_TEST_CASE(a_condition_holds_where_another_says_as_much)
{
    static_assert(is(1, 3).holds_where(is(1, 3)));
    static_assert(has(1, 1, 1).holds_where(is(1, 3)));
    static_assert(!is(1, 3).holds_where(has(1, 1, 1)));
    static_assert(lacks(1, 4).holds_where(is(1, 3)));
    static_assert(!lacks(1, 2).holds_where(is(1, 3)));
    static_assert(!is(1, 3).holds_where(is(2, 3)));
    for (auto const& one : small_conditions())
        for (auto const& other : small_conditions())
            BOOST_TEST(one.holds_where(other) == implies(with(other), with(one)),
                       one.argument << '&' << one.mask << '=' << one.value << " where " << other.argument << '&' << other.mask << '='
                                    << other.value);
}

BOOST_AUTO_TEST_CASE(what_a_rule_covers_it_allows)
{
    static_assert(calls("call", "").covers(calls("call", "", is(0, 1))));
    static_assert(!calls("call", "", is(0, 1)).covers(calls("call", "")));
    static_assert(calls("call", "", is(0, 1)).covers(calls("call", "another reason", is(1, 2), is(0, 1))));
    static_assert(!calls("call", "").covers(calls("another", "")));
    auto const conditions = small_conditions();
    std::vector<rule> rules{calls("call", "")};
    for (auto const& first : conditions) {
        rules.push_back(with(first));
        for (auto const& second : conditions)
            if (second.argument > first.argument) // one of each, where no two say together what none does alone
                rules.push_back(with(first, second));
    }
    for (auto const& one : rules)
        for (auto const& other : rules)
            BOOST_TEST(one.covers(other) == implies(other, one));
}

BOOST_AUTO_TEST_CASE(an_answer_is_not_a_permission)
{
    static_assert(answers("call", ENOSYS, "").answer == ENOSYS);
    static_assert(answers("call", ENOSYS, "").covers(answers("call", ENOSYS, "")));
    static_assert(!answers("call", ENOSYS, "").covers(answers("call", EPERM, "")));
    static_assert(!answers("call", ENOSYS, "").covers(calls("call", "")));
    static_assert(!calls("call", "").covers(answers("call", ENOSYS, "")));
    BOOST_TEST(calls("call", "").answer == 0);
}

BOOST_AUTO_TEST_CASE(a_rule_is_for_both_architectures_or_one)
{
    constexpr auto both = calls("call", "why");
    constexpr auto one = both.only_on(architecture::aarch64);
    static_assert(both.is_on(architecture::x86_64) && both.is_on(architecture::aarch64));
    static_assert(!one.is_on(architecture::x86_64) && one.is_on(architecture::aarch64));
    static_assert(both.covers(one) && !one.covers(both));
    static_assert(!one.covers(both.only_on(architecture::x86_64)));
    BOOST_TEST(one.call == "call");
    BOOST_TEST(one.why == "why");
}

BOOST_AUTO_TEST_CASE(conditions_are_kept_in_order)
{
    constexpr auto one = calls("call", "why", is(2, 5), lacks(0, 1), has(1, 6, 4));
    static_assert(one.all_conditions().size() == rule::max_conditions);
    static_assert(one.all_conditions()[0] == is(2, 5) && one.all_conditions()[1] == lacks(0, 1) && one.all_conditions()[2] == has(1, 6, 4));
    static_assert(calls("call", "").all_conditions().empty());
    BOOST_TEST(one.untested_because("a reason").untested == "a reason");
    BOOST_TEST(one.untested.empty());
}

BOOST_AUTO_TEST_CASE(lists_are_joined_in_order_and_nothing_is_left_out)
{
    constexpr std::array first{calls("a", ""), calls("b", "")};
    constexpr std::array second{calls("a", "")};
    constexpr auto joined = seccomp::join(first, std::array<rule, 0>{}, second);
    static_assert(joined.size() == 3);
    static_assert(joined[0].call == "a" && joined[1].call == "b" && joined[2].call == "a");
    static_assert(seccomp::join().empty());
    BOOST_TEST(joined[1].by.empty());
}

BOOST_AUTO_TEST_CASE(a_policy_declares_under_its_name)
{
    constexpr std::array first{calls("a", "why", is(0, 1)).untested_because("a reason")};
    constexpr auto declared = seccomp::declare("a policy", first, std::array{answers("b", EPERM, "")});
    static_assert(declared.size() == 2 && declared[0].by == "a policy" && declared[1].by == "a policy");
    static_assert(declared[0].all_conditions()[0] == is(0, 1) && declared[1].answer == EPERM);
    BOOST_TEST(declared[0].why == "why");
    BOOST_TEST(declared[0].untested == "a reason");
    static_assert(seccomp::declare("another", declared)[0].by == "another"); // whose list it is last
}
