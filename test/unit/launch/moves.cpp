// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/launch/moves.hpp>

#define BOOST_TEST_MODULE launch/moves
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using ecdysis::launch::move;
using ecdysis::launch::plan_moves;

// What is wrong with the plan for `sources`, found by doing it in a table of numbers; empty if nothing is.
std::string fault(std::vector<int> const& sources, int first)
{
    auto const moves = plan_moves(sources, first);
    auto const count = static_cast<int>(sources.size());

    std::unordered_map<int, int> table;
    for (int const source : sources)
        table[source] = source;

    std::vector<int> written(sources.size() + 1);
    for (auto const [from, to] : moves) {
        if (!table.contains(from))
            return "reads number " + std::to_string(from) + ", which is not open";
        if (to < first || to > first + count)
            return "writes number " + std::to_string(to) + ", which is none of its own";
        table[to] = table[from];
        ++written[static_cast<std::size_t>(to - first)];
    }
    for (int i = 0; i != count; ++i) {
        if (table[first + i] != sources[static_cast<std::size_t>(i)])
            return "target " + std::to_string(i) + " is " + std::to_string(table[first + i]);
        if (written[static_cast<std::size_t>(i)] != 1)
            return "target " + std::to_string(i) + " is written " + std::to_string(written[static_cast<std::size_t>(i)]) + " times";
    }
    return {};
}

std::string text(std::vector<int> const& numbers)
{
    std::string result;
    for (int const one : numbers)
        result += std::to_string(one) + ' ';
    return result;
}

} // namespace

BOOST_AUTO_TEST_CASE(nothing_to_move_is_no_move)
{
    BOOST_TEST(plan_moves({}, 3).empty());
}

BOOST_AUTO_TEST_CASE(one_in_its_place_is_moved_onto_itself)
{
    BOOST_TEST((plan_moves(std::vector{3, 4}, 3) == std::vector<move>{{3, 3}, {4, 4}}));
}

BOOST_AUTO_TEST_CASE(a_swap_goes_over_the_number_after_the_last)
{
    BOOST_TEST((plan_moves(std::vector{4, 3}, 3) == std::vector<move>{{3, 5}, {4, 3}, {5, 4}}));
}

BOOST_AUTO_TEST_CASE(the_scratch_number_may_be_a_source)
{
    // 3 and 4 swap, and 6, the scratch number, is wanted as 5.
    BOOST_TEST((plan_moves(std::vector{4, 3, 6}, 3) == std::vector<move>{{6, 5}, {3, 6}, {4, 3}, {6, 4}}));
}

BOOST_AUTO_TEST_CASE(every_list_of_up_to_five_sources)
{
    // Sources below, among and beyond the targets, repeated and not: all lists, permutations and overlaps included.
    int const first = 3;
    for (int count = 1; count <= 5; ++count) {
        int const numbers = first + count + 3;
        std::vector<int> sources(static_cast<std::size_t>(count), 0);
        for (bool more = true; more;) {
            if (auto const wrong = fault(sources, first); !wrong.empty())
                BOOST_FAIL("sources " + text(sources) + ": " + wrong);
            more = false;
            for (auto& source : sources) { // count up, as an odometer
                if (++source != numbers) {
                    more = true;
                    break;
                }
                source = 0;
            }
        }
    }
}

BOOST_AUTO_TEST_CASE(every_permutation_of_seven)
{
    std::vector<int> sources(7);
    std::iota(sources.begin(), sources.end(), 3);
    do {
        if (auto const wrong = fault(sources, 3); !wrong.empty())
            BOOST_FAIL("sources " + text(sources) + ": " + wrong);
    } while (std::ranges::next_permutation(sources).found);
}

BOOST_AUTO_TEST_CASE(large_random_lists)
{
    std::mt19937 random{20240229};
    for (int round = 0; round != 40; ++round) {
        std::vector<int> sources(5000);
        if (round % 2 == 0) {
            std::iota(sources.begin(), sources.end(), 3 + round * 50);
            std::ranges::shuffle(sources, random);
        } else {
            std::uniform_int_distribution<int> any{0, 100 + round * 200};
            std::ranges::generate(sources, [&] { return any(random); });
        }
        BOOST_TEST(fault(sources, 3) == "");
        BOOST_TEST(plan_moves(sources, 3).size() <= sources.size() + sources.size() / 2);
    }
}

BOOST_AUTO_TEST_CASE(many_short_and_one_long_cycle)
{
    std::vector<int> swaps;
    std::vector<int> ring;
    for (int i = 0; i != 5000; ++i) {
        swaps.push_back(3 + (i ^ 1));
        ring.push_back(3 + (i + 1) % 5000);
    }
    BOOST_TEST(fault(swaps, 3) == "");
    BOOST_TEST(plan_moves(swaps, 3).size() == 7500U);
    BOOST_TEST(fault(ring, 3) == "");
    BOOST_TEST(plan_moves(ring, 3).size() == 5001U);
}

BOOST_AUTO_TEST_CASE(numbers_that_cannot_be_open_stay_what_they_are)
{
    // posix_spawn's add… functions refuse them.
    BOOST_TEST((plan_moves(std::vector{-1, 3}, 3) == std::vector<move>{{3, 4}, {-1, 3}}));
}
