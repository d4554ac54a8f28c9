// SPDX-License-Identifier: BSL-1.0
// Hosts and surroundings that make it hard: closed streams, foreign reapers, workers, many threads, a directory that is
// gone; and chance, which ends parents and children at any moment.
#define BOOST_TEST_MODULE restart_host
#include "harness.hpp"

#include <cstdlib>
#include <random>

using namespace restart;

namespace {

/// Of a child that somebody else reaps the status is known since Linux 6.15.
bool says_status_4_or_unknown(std::string const& line)
{
    return line == "failed phase=starting reason=\"exit status 4\"" ||
           line == "failed phase=starting reason=\"ended, its status is not known\"";
}

/// An upgrade that fails, and then one that does not, each leaving all as it was.
void fails_and_upgrades(service& one, bool is_known = true, std::string const& good = {})
{
    auto const before = one.settled();
    one.behave("claimed exit 4");
    auto const line = one.upgrade();
    BOOST_TEST((is_known ? line.starts_with("failed phase=starting reason=\"exit status 4") : says_status_4_or_unknown(line)), line);
    one.check_unharmed(before);
    one.behave(good);
    auto const next = one.upgrade();
    BOOST_TEST_REQUIRE(next.starts_with("ok generation="), next);
    one.check_succeeded(before);
}

void nothing_failed(prober& load)
{
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
}

/// One line, and not the end of the connection: a worker may hold that open.
std::string upgrade_with_workers(service& one)
{
    auto asker = one.at_control();
    return one.heard(asker.receive().value_or("nothing"));
}

/// An environment variable, changed as long as this lives.
class variable
{
public:
    variable(char const* name, std::string const& value) : name_{name}
    {
        if (auto const* const old = std::getenv(name))
            before_ = old;
        ::setenv(name, value.c_str(), 1);
    }
    variable(variable const&) = delete;
    variable& operator=(variable const&) = delete;
    ~variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }

private:
    char const* name_;
    std::optional<std::string> before_;
};

std::vector<process> workers()
{
    auto result = family::instance().living();
    std::erase_if(result, [](auto const& one) { return one.name != "worker"; });
    return result;
}

void end_workers()
{
    BOOST_TEST(wait_until([] {
        auto const left = workers();
        for (auto const& each : left)
            ::kill(each.pid, SIGKILL);
        return std::ranges::all_of(left, [](auto const& each) { return each.state == 'Z'; });
    }));
}

/// Chance, that can be had again: ECDYSIS_TEST_SEED.
class chance
{
public:
    chance()
    {
        auto const* const given = std::getenv("ECDYSIS_TEST_SEED");
        auto const seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : std::random_device{}();
        BOOST_TEST_MESSAGE("ECDYSIS_TEST_SEED=" << seed);
        text_ = "ECDYSIS_TEST_SEED=" + std::to_string(seed);
        engine_.seed(seed);
    }

    /// From 0 to `most`.
    [[nodiscard]] int number(int most) { return std::uniform_int_distribution{0, most}(engine_); }
    /// Lets a random time pass, for something to be interrupted anywhere.
    void wait_up_to(std::chrono::microseconds most)
    {
        std::this_thread::sleep_for(std::chrono::microseconds{number(static_cast<int>(most.count()))});
    }
    [[nodiscard]] std::string const& text() const noexcept { return text_; }

private:
    std::mt19937 engine_;
    std::string text_;
};

/// The child of a host without workers, as soon as it is there and before the host says so.
std::optional<::pid_t> child_of(::pid_t parent)
{
    auto const all = children(parent);
    return all.empty() ? std::nullopt : std::optional{all.front().pid};
}

} // namespace

RESTART_TEST(closed_standard_streams)
{
    service one{built, {.behave = "begin close-stdio"}};
    one.behave("");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_ended_well(one.first());
    // 0 to 2 are always open in a child.
    for (int fd = 0; fd != 3; ++fd)
        BOOST_TEST(std::filesystem::read_symlink("/proc/" + std::to_string(one.pid()) + "/fd/" + std::to_string(fd)) ==
                   "/dev/null");
    fails_and_upgrades(one);
    one.behave("begin close-stdio");
    for (int i = 0; i != 2; ++i)
        BOOST_TEST(one.upgrade().starts_with("ok generation="));
    one.behave("");
    prober load{one.address()};
    for (int i = 0; i != 2; ++i)
        BOOST_TEST(one.upgrade().starts_with("ok generation="));
    nothing_failed(load);
    one.stop();
}

RESTART_TEST(a_host_that_reaps_everybody)
{
    service one{built, {.behave = "constructed reap-all", .probed = answers_all}};
    for (int i = 0; i != 3; ++i) {
        auto const before = one.settled();
        one.behave("claimed exit 4");
        auto const line = one.upgrade(); // whoever is faster
        BOOST_TEST(says_status_4_or_unknown(line), line);
        one.check_unharmed(before);
        one.behave("constructed reap-all");
        BOOST_TEST(one.upgrade().starts_with("ok "));
        one.check_succeeded(before);
    }
    one.stop();
}

RESTART_TEST(a_host_that_ignores_sigchld)
{
    service one{built, {.behave = "begin ignore-sigchld", .probed = answers_all}};
    for (int i = 0; i != 3; ++i)
        fails_and_upgrades(one, false, "begin ignore-sigchld");
    one.stop();
}

RESTART_TEST(a_worker_that_keeps_all_descriptors_when_the_child_dies)
{
    service one{built, {.behave = "launched fork-worker"}}; // holds the parent's end of the handoff, and all listeners
    auto const before = one.settled();
    prober load{one.address()};
    one.behave("claimed fork-worker\nclaimed kill"); // and the child's end
    BOOST_TEST(upgrade_with_workers(one) == "failed phase=starting reason=\"killed by signal 9 (Killed)\"");
    one.behave("said-ready fork-worker\nsaid-ready exit 5");
    auto const line = upgrade_with_workers(one);
    BOOST_TEST(line.ends_with(" reason=\"exit status 5\""), line);
    one.behave("may-accept fork-worker\nmay-accept kill");
    BOOST_TEST(upgrade_with_workers(one) == "failed phase=serving reason=\"killed by signal 9 (Killed)\"");
    one.behave("");
    BOOST_TEST(upgrade_with_workers(one).starts_with("ok generation=1 "));
    nothing_failed(load);
    service::check_ended_well(before.pid);
    end_workers();
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST(a_worker_that_keeps_all_descriptors_when_the_parent_dies)
{
    // It is forked when the child is there, and has the parent's end of the handoff still when the parent is dead.
    for (auto const* step : {"launched", "handed_over"}) {
        service one{built, {.behave = std::string{step} + " fork-worker"}};
        auto before = one.settled();
        one.behave("claimed stop");
        auto asker = one.at_control();
        one.wait_for("handed_over");
        auto const child = one.child();
        BOOST_TEST(wait_until([&] { return !workers().empty(); }));
        BOOST_TEST(wait_until([&] { return look_at(child).value().state == 'T'; }));
        one.signal(SIGKILL);
        BOOST_TEST(wait_until([&] { return family::instance().ended(one.pid()).has_value(); }));
        BOOST_TEST(workers().size() == 1U);
        ::kill(child, SIGCONT);
        if (built.has_manager()) { // no heir: it is the manager's part
            BOOST_TEST(wait_until([&] { return family::instance().ended(child).has_value(); }));
            BOOST_TEST(one.steps("serving").size() == 1U);
            end_workers();
            BOOST_TEST(wait_until([] { return family::instance().living().empty(); }));
            BOOST_TEST(std::filesystem::is_empty(one.temporary()));
            continue;
        }
        one.expect_generation(1); // by the parent's death
        BOOST_TEST(one.pid() == child);
        BOOST_TEST(one.steps("heir").size() == 1U);
        BOOST_TEST(one.ask().generation == 1U);
        before.pid = child;
        one.behave("");
        BOOST_TEST(upgrade_with_workers(one).starts_with("ok generation=2 "));
        end_workers();
        one.check_succeeded(before);
        one.stop();
    }
}

RESTART_TEST(a_host_with_many_threads)
{
    service one{built, {.behave = "accepting threads 50"}};
    one.behave("accepting threads 50");
    prober load{one.address()};
    for (int i = 0; i != 5; ++i)
        BOOST_TEST(one.upgrade().starts_with("ok "));
    one.behave("claimed exit 4");
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"exit status 4\"");
    one.behave("");
    BOOST_TEST(one.upgrade().starts_with("ok "));
    nothing_failed(load);
    fails_and_upgrades(one);
    one.stop();
}

RESTART_TEST(accepts_in_flight_on_eight_strands)
{
    service one{built, {.arguments = {"--threads", "4", "--acceptors", "8"}}};
    auto const before = one.settled();
    prober load{one.address(), SOCK_STREAM, 8, 2};
    for (int i = 0; i != 25; ++i) {
        BOOST_TEST(one.upgrade().starts_with("ok "));
        BOOST_TEST_REQUIRE(load.go_on(10));
    }
    nothing_failed(load);
    one.check_succeeded(before);
    BOOST_TEST(one.steps("error").empty());
    for (auto const& each : one.steps("drained"))
        BOOST_TEST(each.text == "drained, 0 connections left");
    one.stop();
}

RESTART_TEST(a_directory_that_is_gone)
{
    folder const gone;
    service one{built, {.directory = gone.path(), .probed = answers_all}};
    gone.remove();
    for (int i = 0; i != 3; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("ok "), line);
    }
    BOOST_TEST(one.ask("directory").text.ends_with(" /"));
    BOOST_TEST(one.steps("warning").front().text == "the directory of the start is gone; the child starts in /");
    fails_and_upgrades(one);
    one.stop();
}

RESTART_TEST(a_relative_name_and_a_host_that_changes_its_directory)
{
    service one{built, {.behave = "constructed chdir /", .argv0 = "./host", .probed = answers_all}};
    one.behave("constructed chdir /");
    for (int i = 0; i != 3; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("ok "), line);
    }
    one.behave("");
    fails_and_upgrades(one);
    auto const where = one.path("");
    BOOST_TEST(one.ask("directory").text.ends_with(" " + where.substr(0, where.size() - 1)));
    one.stop();
}

RESTART_TEST(a_name_found_through_path)
{
    folder const bin;
    auto const program = bin.path() + "/ecdysis-host";
    std::filesystem::create_symlink(built.path(), program);
    std::optional<variable> path{std::in_place, "PATH", bin.path() + ":" + std::getenv("PATH")};
    service one{built, {.argv0 = "ecdysis-host", .probed = answers_all}};
    path.reset();
    fails_and_upgrades(one);
    fails_and_upgrades(one);
    BOOST_TEST(one.steps("launched").back().text.starts_with("launched " + program + " "));
    one.stop();
}

RESTART_TEST(a_symlink_that_is_repointed)
{
    service one{built};
    auto const before = one.settled();
    prober load{one.address()};
    for (auto const* name : {"second", "third"}) {
        std::filesystem::copy_file(built.path(), one.path(name));
        one.run_next(one.path(name));
        BOOST_TEST(one.upgrade().starts_with("ok "));
        BOOST_TEST(std::filesystem::read_symlink("/proc/" + std::to_string(one.pid()) + "/exe") == one.path(name));
    }
    std::filesystem::remove(one.path("second")); // which runs no more, and the link names another
    one.run_next(one.path("second"));
    BOOST_TEST(one.upgrade().starts_with("failed phase=launching reason=\"start "));
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok generation=3 "));
    nothing_failed(load);
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_OF_OTHER_PROGRAMS(a_program_of_the_other_io)
{
    service one{built};
    prober load{one.address()};
    auto other = built;
    other.io = built.is_sync() ? "asio" : "sync"; // they share the sockets' flags
    for (int i = 0; i != 4; ++i) {
        one.run_next((i % 2 == 0 ? other : built).path());
        BOOST_TEST(one.upgrade().starts_with("ok generation=" + std::to_string(i + 1) + " "));
        BOOST_TEST_REQUIRE(load.go_on());
    }
    nothing_failed(load);
    one.stop();
}

// Good children, bad ones, and ones that are killed at any moment, for as long as fifty upgrades: nobody outside sees it.
RESTART_TEST(fifty_upgrades_and_children_killed_at_random)
{
    chance random;
    service one{built};
    auto const before = one.settled();
    prober load{one.address()};
    for (int i = 0; i != 50; ++i) {
        BOOST_TEST_CONTEXT("round " << i << ", " << random.text())
        {
            auto const serving = one.generation();
            constexpr char const* misbehaviour[] = {"begin exit 7", "claimed abort", "claimed fail no upstream",
                                                    "may-accept kill"};
            int const kind = random.number(9);
            if (kind < 4) {
                one.behave(misbehaviour[kind]);
                auto const line = one.upgrade();
                BOOST_TEST(line.starts_with("failed phase="), line);
                one.behave("");
            } else if (kind < 8) {
                auto asker = one.at_control();
                std::optional<::pid_t> child;
                BOOST_TEST(wait_until([&] {
                    child = child_of(one.pid());
                    return child || one.steps("serving").back().generation > serving;
                }));
                random.wait_up_to(std::chrono::milliseconds{6});
                // Not one that may accept: what it has accepted would end with it, and nothing could prevent that.
                if (child && ::kill(*child, SIGSTOP) == 0) {
                    // Once it stands still it is known: before the commit its parent has read that it is ready.
                    static_cast<void>(wait_until([&] {
                        auto const found = look_at(*child);
                        return !found || found->state == 'T' || found->state == 'Z';
                    }));
                    auto const ready = "the child, pid " + std::to_string(*child) + ", is ready";
                    bool const is_ready = std::ranges::any_of(one.steps("child_ready"), [&](auto const& each) { return each.text == ready; });
                    ::kill(*child, is_ready ? SIGCONT : SIGKILL);
                }
                auto const line = one.heard(asker.receive().value_or("nothing"));
                BOOST_TEST((line.starts_with("ok ") || line.starts_with("failed phase=")), line);
            } else {
                auto const line = one.upgrade();
                BOOST_TEST(line.starts_with("ok "), line);
            }
            BOOST_TEST_REQUIRE(load.go_on(5));
        }
    }
    nothing_failed(load);
    auto const answer = one.ask();
    BOOST_TEST(answer.generation == one.generation());
    BOOST_TEST(answer.pid == one.pid());
    one.check_descriptors(one.pid(), before.descriptors);
    one.check_nothing_left();
    BOOST_TEST(one.read("pid") == std::to_string(one.pid()) + "\n");
    one.stop();
}

// A parent killed at any moment of an upgrade leaves an heir as soon as its child has got everything.
RESTART_TEST(parents_killed_at_random)
{
    if (built.has_manager())
        return; // it ends the child, and starts the service again
    chance random;
    std::size_t heirs = 0;
    for (int i = 0; i != 12; ++i) {
        BOOST_TEST_CONTEXT("round " << i << ", " << random.text())
        {
            service one{built};
            auto const before = one.settled();
            auto asker = one.at_control();
            std::optional<::pid_t> child;
            BOOST_TEST(wait_until([&] { return (child = child_of(one.pid())) || !one.steps("upgraded").empty(); }));
            random.wait_up_to(std::chrono::milliseconds{8});
            ::kill(one.first(), SIGKILL);
            BOOST_TEST(wait_until([&] { return family::instance().ended(one.first()).has_value(); }));
            auto const inherited = [&] { return !one.steps("inherited").empty(); };
            auto const child_ended = [&] { return child && family::instance().ended(*child).has_value(); };
            BOOST_TEST(wait_until([&] { return one.steps("serving").size() == 2U || child_ended(); }));
            BOOST_TEST(inherited() == (one.steps("serving").size() == 2U));
            if (one.steps("serving").size() != 2U)
                continue; // it had not got everything
            ++heirs;
            one.expect_generation(1);
            auto const answer = one.ask();
            BOOST_TEST(answer.pid == one.pid());
            one.check_descriptors(one.pid(), before.descriptors);
            one.check_nothing_left();
            BOOST_TEST(wait_until([&] { return one.read("pid") == std::to_string(one.pid()) + "\n"; }));
            prober load{one.address()};
            BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
            nothing_failed(load);
            one.stop();
        }
    }
    BOOST_TEST_MESSAGE(heirs << " heirs of 12");
}
