// SPDX-License-Identifier: BSL-1.0
// Upgrades that succeed, and children that fail at every step: the service answers on, and nothing is left behind.
#define BOOST_TEST_MODULE upgrade
#include "harness.hpp"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>

using namespace test;
namespace data = boost::unit_test::data;

namespace {

std::vector<std::string> const hasty{"--ready-timeout", "300", "--serving-timeout", "300", "--kill-grace", "300"};

bool matches(std::string const& text, std::string const& pattern) { return std::regex_match(text, std::regex{pattern}); }

/// An upgrade to what `how` makes of the child fails with `answer`, under load, and harms nothing.
void fails(service& it, std::string const& how, std::string const& answer)
{
    BOOST_TEST_CONTEXT("to a child that does " << how)
    {
        prober clients{it.where()};
        it.behave(how);
        auto const said = it.upgrade();
        it.behave("");
        BOOST_TEST(matches(said, answer), said << "\n" << it.log() << it.output());
        auto const failed = clients.stop();
        for (auto const& [kind, count] : failed)
            BOOST_ERROR(kind << ": " << count);
        BOOST_TEST(clients.answered() > 0);
        it.check_unharmed();
    }
}

} // namespace

BOOST_DATA_TEST_CASE(an_upgrade_hands_the_service_over, data::make(assemblies()))
{
    service it{sample};
    BOOST_TEST(it.ask() == "0 " + std::to_string(it.first()));
    auto const said = it.upgrade();
    BOOST_TEST(matches(said, R"(ok generation=1 pid=\d+ took_ms=\d+\.\d)"), said);
    BOOST_TEST(it.ask() == "1 " + std::to_string(it.serving()));
    BOOST_TEST(said.find("pid=" + std::to_string(it.serving()) + " ") != said.npos);
    // The old code is gone.
    BOOST_TEST(wait_until([&] { return ::waitpid(it.first(), nullptr, WNOHANG) == it.first(); }));
    it.check_clean();
    it.stop();
}

BOOST_DATA_TEST_CASE(twenty_upgrades_under_load_lose_nothing, data::make(assemblies()))
{
    service it{sample};
    prober clients{it.where()};
    for (int i = 1; i <= 20; ++i) {
        auto const said = it.upgrade();
        BOOST_REQUIRE_MESSAGE(said.starts_with("ok generation=" + std::to_string(i) + " "), said << "\n" << it.log());
    }
    for (auto const& [kind, count] : clients.stop())
        BOOST_ERROR(kind << ": " << count);
    BOOST_TEST(clients.answered() > 100);
    BOOST_TEST(it.ask().starts_with("20 "));
    it.check_clean();
    it.stop();
}

BOOST_DATA_TEST_CASE(a_child_that_fails_before_commit_harms_nothing, data::make(assemblies()))
{
    service it{sample, hasty};
    fails(it, "crash-before-upgrader 3", R"(failed phase=handing-over reason="exit status 3")");
    fails(it, "exit-before-ready 7", R"(failed phase=starting reason="exit status 7")");
    fails(it, "abort-before-ready", R"(failed phase=starting reason="killed by signal 6 \(Aborted\)")");
    fails(it, "fail-before-ready config: no such upstream",
          R"(failed phase=starting reason="exit status 3: config: no such upstream")");
    fails(it, "fail-and-hang stuck", R"(failed phase=starting reason="killed by signal 9 \(Killed\): stuck")");
    fails(it, "crash-after-claiming", R"(failed phase=starting reason="exit status 4")");
    fails(it, "hang-before-ready", R"(failed phase=starting reason="not ready within 300 ms")");
    fails(it, "close-from-3", R"(failed phase=handing-over reason="closed the handoff, and did not end")");
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    it.check_unharmed();
    it.stop();
}

BOOST_DATA_TEST_CASE(a_child_that_dies_around_commit_harms_nothing, data::make(assemblies()))
{
    service it{sample, hasty};
    // It may die before or after the commit arrives; either way it never serves.
    fails(it, "exit-after-ready-frame", R"(failed phase=\S+ reason="exit status 5")");
    fails(it, "crash-after-commit", R"(failed phase=serving reason="exit status 6")");
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    it.check_unharmed();
    it.stop();
}

BOOST_DATA_TEST_CASE(a_child_that_never_serves_is_reported_and_both_accept, data::make(assemblies()))
{
    service it{sample, hasty};
    it.behave("never-serving");
    auto const said = it.upgrade();
    BOOST_TEST(said == "failed phase=serving reason=\"no word that it serves within 300 ms; both generations accept\"");
    BOOST_TEST(it.ask().size() > 2);
    BOOST_TEST(it.upgrade() == "busy");
    // Its death ends the upgrade, and this generation is the service as before.
    auto const children = children_of(it.first());
    BOOST_REQUIRE(children.size() == 1);
    ::kill(children.front().pid, SIGKILL);
    BOOST_TEST(it.logs("the upgrade failed while serving: killed by signal 9"));
    it.behave("");
    it.check_unharmed();
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    it.stop();
}

BOOST_DATA_TEST_CASE(a_program_that_is_not_ours_harms_nothing, data::make(assemblies()))
{
    service it{sample, hasty};
    auto const replaced = [&](fs::path const& program, std::string const& answer) {
        it.use_program(program);
        auto const said = it.upgrade();
        BOOST_TEST(matches(said, answer), program << ": " << said << "\n" << it.log());
        it.use(sample);
        it.check_unharmed();
    };
    replaced("/nonexistent/program", R"(failed phase=launching reason="start .*/program: No such file or directory")");
    replaced("/etc/passwd", R"(failed phase=launching reason="start .*/program: Permission denied")");
    replaced("/tmp", R"(failed phase=launching reason="start .*/program: Permission denied")");
    replaced("/bin/true", R"(failed phase=handing-over reason="exit status 0")");
    replaced(it.script("exec sleep 100"), R"(failed phase=handing-over reason="not ready within 300 ms")");
    replaced(it.script("for i in {3..20}; do eval \"exec $i>&-\"; done; exec sleep 100"),
             R"(failed phase=handing-over reason="closed the handoff, and did not end")");
    // A wrapper that forks, where exec is meant: its child is a program of ours, but not the one that was started.
    replaced(it.script((hosts_directory() / ("host_" + sample)).string() + " \"$@\"; exit $?"),
             R"(failed phase=handing-over reason=".*wrapper that forks.*")");
    std::string other = sample;
    other = is_pipe(sample) ? std::regex_replace(other, std::regex{"named_pipe"}, "socketpair")
                            : std::regex_replace(other, std::regex{"socketpair"}, "named_pipe");
    replaced(hosts_directory() / ("host_" + other), R"(failed phase=handing-over reason="exit status 1")");
    BOOST_TEST(it.output().find("different transports") != std::string::npos);
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    it.stop();
}

BOOST_DATA_TEST_CASE(a_wrapper_that_execs_is_fine, data::make(assemblies()))
{
    service it{sample};
    it.use_program(it.script("exec " + (hosts_directory() / ("host_" + sample)).string() + " \"$@\""));
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    it.check_unharmed();
    it.stop();
}

BOOST_DATA_TEST_CASE(a_repointed_symlink_starts_the_new_program, data::make(assemblies()))
{
    service it{sample};
    auto const copy = it.directory() / "newer";
    fs::copy_file(hosts_directory() / ("host_" + sample), copy);
    it.use_program(copy);
    BOOST_TEST(it.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(fs::read_symlink("/proc/" + std::to_string(it.serving()) + "/exe") == fs::canonical(copy));
    it.stop();
}
