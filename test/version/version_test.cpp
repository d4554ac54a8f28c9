// SPDX-License-Identifier: BSL-1.0
// Real processes of this version of the library and of earlier ones, one the parent and one the child.
#define BOOST_TEST_MODULE version
#include "../restart/harness.hpp"

using namespace restart;

namespace {

/// The last commit whose wire was version 1: it told the service manager before commit.
constexpr char const* version_1 = "0a45633139fd38f0fe1be7c999a53a0f24bf4c3f";

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
    auto const missing = suite.argc >= 3 && std::filesystem::exists(std::filesystem::path{suite.argv[2]} / version_1 / "missing");
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
