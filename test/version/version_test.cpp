// SPDX-License-Identifier: BSL-1.0
// Real processes of this version of the library and of earlier ones, one the parent and one the child.
//
// An earlier commit is known by its id, and its hosts are built from what the history has of it: see older.sh.
#define BOOST_TEST_MODULE version
#include "../restart/harness.hpp"

using namespace restart;

namespace {

/// The last commit whose wire was version 1: it told the service manager before commit.
constexpr char const* version_1 = "0a45633139fd38f0fe1be7c999a53a0f24bf4c3f";

/// A commit with version 2, which is kept from then on.
constexpr char const* version_2 = "be5e4fcaf609365df3174134d275c6fcc51497be";

/// The host of an earlier commit; the second argument is where older.sh has built it.
std::string older(char const* commit, assembly const& built)
{
    auto const& suite = boost::unit_test::framework::master_test_suite();
    BOOST_REQUIRE_MESSAGE(suite.argc >= 3, "usage: " << suite.argv[0] << " -- DIRECTORY-OF-HOSTS DIRECTORY-OF-OLDER-HOSTS");
    auto const place = std::filesystem::absolute(suite.argv[2]) / commit;
    return (place / ("host_" + built.name())).string();
}

boost::test_tools::assertion_result is_in_history(boost::unit_test::test_unit_id)
{
    auto const& suite = boost::unit_test::framework::master_test_suite();
    auto const missing = suite.argc >= 3 && std::filesystem::exists(std::filesystem::path{suite.argv[2]} / "missing");
    boost::test_tools::assertion_result result{!missing};
    result.message() << "this clone has no history";
    return result;
}

assembly const two[]{{"sync", "none", "socketpair"}, {"asio", "systemd", "named_pipe"}};

/// A service whose first generation is that program.
wish starting_with(std::string const& program)
{
    return {.probed = answers_all, .script = "exec -a \"$0\" '" + program + "' \"$@\""};
}

void check_refuses(service& one, std::string const& speaks)
{
    auto const before = one.settled();
    auto const line = one.upgrade();
    BOOST_TEST(line.starts_with("failed phase=handing-over reason=\""), line);
    BOOST_TEST(line.find(speaks) != line.npos, line);
    BOOST_TEST(line.find("restart the service once") != line.npos, line);
    one.check_unharmed(before);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_child_of_version_1_is_refused_with_words_that_say_what_to_do,
                     *boost::unit_test::precondition(is_in_history))
{
    for (auto const& built : two)
        BOOST_TEST_CONTEXT(built.name())
        {
            service one{built, {.probed = answers_all}};
            one.run_next(older(version_1, built));
            check_refuses(one, "the new program speaks version 1, this one version 2");
            one.run_next_well();
            BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
            one.stop();
        }
}

BOOST_AUTO_TEST_CASE(a_parent_of_version_1_hears_from_its_child_what_to_do, *boost::unit_test::precondition(is_in_history))
{
    for (auto const& built : two)
        BOOST_TEST_CONTEXT(built.name())
        {
            service one{built, starting_with(older(version_1, built))};
            one.run_next(built.path());
            check_refuses(one, "the parent speaks version 1, this program version 2");
            one.run_next(older(version_1, built)); // it serves on, and is upgraded as before
            BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
            one.stop();
        }
}

// Forward and back, again and again: a later version is installed, and taken back.
RESTART_TEST_(version_2_is_kept, is_in_history)
{
    auto const earlier = older(version_2, built);
    service one{built, starting_with(earlier)};
    for (int i = 0; i != 2; ++i)
        for (auto const& program : {built.path(), earlier}) {
            auto const before = one.settled();
            one.run_next(program);
            auto const line = one.upgrade();
            BOOST_TEST(line.starts_with("ok generation="), line);
            one.check_succeeded(before);
        }
    one.stop();
}

// What a parent of either takes back, it does from a child of the other.
RESTART_TEST_(either_takes_back_from_the_other, is_in_history)
{
    auto const earlier = older(version_2, built);
    for (auto const& [parent, child] : {std::pair{built.path(), earlier}, std::pair{earlier, built.path()}})
        BOOST_TEST_CONTEXT(parent)
        {
            service one{built, starting_with(parent)};
            auto const before = one.settled();
            one.run_next(child);
            one.behave("may-accept unfit no such upstream");
            auto const line = one.upgrade();
            BOOST_TEST(line.starts_with("failed phase=serving reason=\"the new generation gave up: no such upstream"), line);
            one.check_unharmed(before);
            one.behave("");
            BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
            one.check_succeeded(before);
            one.stop();
        }
}
