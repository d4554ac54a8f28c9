// SPDX-License-Identifier: BSL-1.0
// Reloads that come while an upgrade is under way, under a real systemd: each ends, and what runs then is the program that
// was there when it was asked for.
#define BOOST_TEST_MODULE systemd_queue
#include "harness/moment.hpp"

#include <random>

using namespace restart;

namespace {

/// Well before the unit's timeouts, which are of 20 s.
template <class Future>
outcome soon(Future& job)
{
    BOOST_REQUIRE_MESSAGE(job.wait_for(std::chrono::seconds{15}) == std::future_status::ready, "it is not answered");
    return job.get();
}

void check_in_time(unit const& one)
{
    for (auto const* complaint : {"timed out", "Main process exited", "Watchdog"})
        for (auto const& line : one.said(complaint))
            BOOST_ERROR(line);
}

/// The program that the unit names is another file from now on: as an installer does it, by a symlink. Gives its path.
std::string install_next(unit const& one, assembly const& what, std::string const& name)
{
    auto const next = one.path(name);
    std::filesystem::copy_file(what.path(), next);
    std::filesystem::create_symlink(next, one.path("host.new"));
    std::filesystem::rename(one.path("host.new"), one.path("host"));
    return next;
}

/// All upgrades are over, and systemd shows who serves. Gives its generation.
unsigned check_settled_generation(unit const& one)
{
    check_settles(one);
    auto const answer = one.ask();
    one.check_serves(answer.generation, "generation " + std::to_string(answer.generation) + " serving");
    return answer.generation;
}

bool runs(::pid_t pid, std::string const& program)
{
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe") == program;
}

} // namespace

// ---- a reload by signal, during an upgrade that systemd has not asked for

SYSTEMD_TEST(reload_by_signal_while_an_upgrade_runs)
{
    if (how != reload_by::signal)
        return;
    for (auto const* point : {"begin", "claimed", "said-ready", "may-accept", "accepting"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how};
            one.start();
            one.hold_at(point);
            auto asked = std::async(std::launch::async, [&] { return upgrade(one); });
            one.awaits_go();
            auto const next = install_next(one, built, "next");
            one.behave("");
            auto reload = one.begin("reload");
            one.wait_for("postponed");
            BOOST_TEST((reload.wait_for(std::chrono::seconds{0}) == std::future_status::timeout));
            one.go();
            auto const line = asked.get();
            BOOST_TEST(line.starts_with("ok generation=1 "), line);
            auto const reloaded = soon(reload);
            BOOST_TEST(reloaded.ok(), reloaded.output);
            BOOST_TEST(one.steps("upgraded").size() >= 1U); // the other's own `upgraded` may be still to be written
            BOOST_TEST(one.steps("serving").size() == 3U);
            BOOST_TEST(runs(one.main_pid(), next));
            BOOST_TEST(check_settled_generation(one) == 2U);
            check_in_time(one);
        }
}

// The signal that came is one more upgrade, whether or not the first succeeds.
SYSTEMD_TEST_OF_HALF(reload_by_signal_while_an_upgrade_fails)
{
    if (how != reload_by::signal)
        return;
    for (std::string const point : {"claimed", "accepting"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how};
            one.start();
            one.hold_at(point);
            auto asked = std::async(std::launch::async, [&] { return upgrade(one); });
            one.awaits_go();
            auto const next = install_next(one, built, "next");
            one.behave("");
            auto reload = one.begin("reload");
            one.wait_for("postponed");
            ::kill(one.launched(), SIGKILL);
            auto const line = asked.get();
            BOOST_TEST(line.starts_with("failed "), line);
            auto const reloaded = soon(reload);
            BOOST_TEST(reloaded.ok(), reloaded.output);
            BOOST_TEST(runs(one.main_pid(), next));
            BOOST_TEST(check_settled_generation(one) == 1U);
            check_in_time(one);
        }
}

// During the barrier: whoever is the main process when systemd has come so far hears it, and begins.
SYSTEMD_TEST_OF_HALF(signal_while_the_announcement_is_on_its_way)
{
    unit one{built, how, {.arguments = pausable()}};
    one.start();
    std::string next;
    auto const answer = upgrade_past_the_manager(one, [&](::pid_t parent, ::pid_t) {
        next = install_next(one, built, "next");
        ::kill(parent, SIGHUP);
        one.wait_for("postponed");
    });
    BOOST_TEST(answer.ok(), answer.output);
    one.wait_for("upgraded", 2);
    BOOST_TEST(runs(one.main_pid(), next));
    BOOST_TEST(check_settled_generation(one) == 2U);
    check_in_time(one);
}

// ---- reloads that systemd lets wait

namespace {

/// systemd knows that this unit reloads, since somebody else has sent it the signal; the reload waits for the end of that.
void check_queued_reload(unit const& one, assembly const& built, std::chrono::microseconds delay, unsigned round)
{
    one.hold_at("claimed");
    std::filesystem::remove(one.path("go"));
    std::filesystem::remove(one.path("go.awaited"));
    auto const launches = one.steps("launched").size();
    ::kill(one.main_pid(), SIGHUP);
    one.wait_for("launched", launches + 1);
    one.awaits_go();
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "reloading"; }));
    auto const next = install_next(one, built, "next" + std::to_string(round));
    one.behave("");
    auto reload = one.begin("reload");
    BOOST_TEST(wait_until([&] { return !one.show("Job").empty() && one.show("Job") != "0"; }));
    std::this_thread::sleep_for(delay); // any moment will do
    one.go();
    auto const reloaded = soon(reload);
    BOOST_TEST(reloaded.ok(), reloaded.output);
    auto const said = one.read("output");
    for (auto const* refusal : {"busy", "not serving", "no answer"})
        BOOST_TEST(said.find(refusal) == said.npos, said);
    BOOST_TEST(wait_until([&] { return runs(one.main_pid(), next); }));
    static_cast<void>(check_settled_generation(one));
    check_in_time(one);
}

} // namespace

SYSTEMD_TEST_OF_HALF(reload_that_systemd_lets_wait)
{
    unit one{built, how, {.arguments = {"--signal-interval 0"}}};
    one.start();
    std::minstd_rand random{static_cast<unsigned>(::getpid())};
    std::uniform_int_distribution<int> delay{0, 30'000};
    for (unsigned round = 0; round != 20; ++round)
        BOOST_TEST_CONTEXT("round " << round)
        {
            check_queued_reload(one, built, std::chrono::microseconds{delay(random)}, round);
        }
}

// Each of the two is an upgrade, and one follows the other.
SYSTEMD_TEST_OF_HALF(two_reloads_at_once)
{
    unit one{built, how};
    one.start();
    one.hold_at("claimed");
    auto first = one.begin("reload");
    one.awaits_go();
    auto const next = install_next(one, built, "next");
    auto second = one.begin("reload");
    BOOST_TEST(wait_until([&] { return one.show("Job") != "" && second.wait_for(std::chrono::seconds{0}) == std::future_status::timeout; }));
    one.behave("");
    one.go();
    BOOST_TEST(soon(first).ok());
    BOOST_TEST(soon(second).ok());
    BOOST_TEST(runs(one.main_pid(), next));
    BOOST_TEST(check_settled_generation(one) == 2U);
    check_in_time(one);
}

// systemd asks nobody then: it merges what comes during a reload of ours.
SYSTEMD_TEST_OF_HALF(signals_during_a_reload)
{
    unit one{built, how};
    one.start();
    one.hold_at("claimed");
    auto reload = one.begin("reload");
    one.awaits_go();
    auto const main = one.main_pid();
    auto const next = install_next(one, built, "next");
    for (int i = 0; i != 3; ++i)
        ::kill(main, SIGHUP);
    one.wait_for("postponed");
    one.behave("");
    one.go();
    BOOST_TEST(soon(reload).ok());
    one.wait_for("upgraded", 2);
    BOOST_TEST(runs(one.main_pid(), next));
    BOOST_TEST(check_settled_generation(one) == 2U); // all three are one
    check_in_time(one);
}

// ---- a reload by ExecReload=, during an upgrade that somebody else has asked for at the control socket

// It is told so at once: nothing was announced, and it may come again.
SYSTEMD_TEST_OF_HALF(reload_that_is_refused)
{
    if (how != reload_by::control)
        return;
    for (auto const* point : {"claimed", "may-accept", "accepting"})
        BOOST_TEST_CONTEXT(point)
        {
            unit one{built, how};
            one.start();
            one.hold_at(point);
            auto asked = std::async(std::launch::async, [&] { return upgrade(one); });
            one.awaits_go();
            auto reload = one.begin("reload");
            BOOST_TEST(!soon(reload).ok());
            auto const said = one.read("output");
            BOOST_TEST(said.find("busy") != said.npos, said);
            one.behave("");
            one.go();
            BOOST_TEST(asked.get().starts_with("ok "));
            one.check_serves(1, "generation 1 serving");
            BOOST_TEST(one.systemctl("reload").ok());
            BOOST_TEST(check_settled_generation(one) == 2U);
            check_in_time(one);
        }
}
