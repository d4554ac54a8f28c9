// SPDX-License-Identifier: BSL-1.0
// A generation and its child, which is this program again and plays the role that the parent names.
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/upgrader.hpp>

#define BOOST_TEST_MODULE generation
#include <boost/test/unit_test.hpp>

#include "../upgrade.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace ecdysis;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using sync_upgrader = upgrader<io::sync, notify::none, transport::named_pipe>;

namespace {

struct directory
{
    directory()
    {
        char pattern[] = "/tmp/ecdysis-generation-XXXXXX";
        path = ::mkdtemp(pattern);
        ::setenv("ECDYSIS_TEST_PLACE", path.c_str(), 1); // for the child
    }
    ~directory() { fs::remove_all(path); }
    fs::path path;
};

/// Options of a generation whose child plays `role`, a test below that is disabled.
options with(std::string const& role)
{
    options result;
    result.program = fs::read_symlink("/proc/self/exe");
    result.arguments = {result.program, "--run_test=role/" + role, "--log_level=nothing", "--report_level=no"};
    return result;
}

struct child
{
    fs::path const place = [] {
        char const* const where = ::getenv("ECDYSIS_TEST_PLACE");
        return where != nullptr ? where : "";
    }();
};

/// Serves until the parent takes `file` away, which it does when it has seen what it wants to.
void stay_until_gone(sync_upgrader& up, fs::path const& file)
{
    std::jthread const stopper{[&] {
        for (int i = 0; i != 1000 && fs::exists(file); ++i)
            std::this_thread::sleep_for(10ms);
        up.request_stop();
    }};
    up.wait();
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(role, child, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(ends_before_it_serves)
{
    options chosen;
    chosen.control.upgrade = place / "upgrade";
    chosen.control.stop = place / "stop";
    chosen.pid_file = place / "pid";
    sync_upgrader up{chosen};
    auto const inherited = up.listen_unix((place / "inherited").string());
    auto const fresh = up.listen_unix((place / "fresh").string());
    up.ready();
}

BOOST_AUTO_TEST_CASE(reads_state)
{
    sync_upgrader up{{}};
    auto const early = up.inherited_state("early");
    up.ready();
    auto const late = up.inherited_state("late");
    std::string const seen = std::string{early ? early->text() : "none"} + ' ' + std::string{late ? late->text() : "none"};
    std::ofstream{place / "seen"} << seen;
}

BOOST_AUTO_TEST_CASE(reads_no_state)
{
    std::string seen;
    options chosen;
    chosen.observer = [&](event const& e) {
        if (auto const* one = e.as<events::unclaimed>())
            seen += one->name + ';';
    };
    sync_upgrader up{chosen};
    seen += "at commit:";
    up.ready();
    seen += " at the end:";
    stay_until_gone(up, place / "stay");
    std::ofstream{place / "seen.new"} << seen;
    fs::rename(place / "seen.new", place / "seen");
}

BOOST_AUTO_TEST_CASE(cannot_write_its_pid_file)
{
    options chosen;
    chosen.pid_file = place / "directory";
    fs::create_directory(chosen.pid_file);
    std::string warned;
    chosen.observer = [&](event const& e) { warned += e.is_warning() ? e.text() : ""; };
    sync_upgrader up{chosen};
    error_code ready;
    up.ready(ready);
    error_code wait;
    up.wait(wait);
    std::ofstream{place / "seen"} << ready.message() << ", " << wait.message() << ", " << warned;
}

BOOST_AUTO_TEST_CASE(has_another_pid_file)
{
    options chosen;
    chosen.pid_file = place / "other";
    sync_upgrader up{chosen};
    up.ready();
    stay_until_gone(up, place / "pid");
}

BOOST_AUTO_TEST_CASE(stops_as_soon_as_it_serves)
{
    sync_upgrader up{{}};
    up.ready();
    up.request_stop();
    up.wait();
    up.drain(10s);
}

BOOST_AUTO_TEST_CASE(waits_before_it_serves)
{
    options chosen;
    chosen.control.upgrade = place / "upgrade";
    sync_upgrader up{chosen};
    auto const inherited = up.listen_unix((place / "inherited").string());
    up.ready();
    for (int i = 0; i != 1000 && fs::exists(place); ++i)
        std::this_thread::sleep_for(10ms);
}

BOOST_AUTO_TEST_CASE(serves_until_its_place_goes)
{
    options chosen;
    chosen.control.upgrade = place / "upgrade";
    sync_upgrader up{chosen};
    auto const inherited = up.listen_unix((place / "inherited").string());
    up.ready();
    stay_until_gone(up, place / "stay");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(a_child_that_ends_before_it_serves_leaves_its_parent_all_paths)
{
    directory const place;
    auto chosen = with("ends_before_it_serves");
    chosen.control.upgrade = place.path / "upgrade";
    chosen.pid_file = place.path / "pid";
    std::vector<std::string> seen;
    chosen.observer = [&](event const& e) {
        if (e.as<events::upgrade_failed>())
            for (auto const& file : fs::directory_iterator{place.path})
                seen.push_back(file.path().filename());
    };
    sync_upgrader up{chosen};
    auto const listener = up.listen_unix((place.path / "inherited").string());
    up.ready();
    BOOST_TEST(upgrade(up) == "failed phase=serving reason=\"exit status 0\"");
    std::ranges::sort(seen);
    BOOST_TEST(seen == (std::vector<std::string>{"inherited", "pid", "upgrade"}), boost::test_tools::per_element());
}

namespace {

/// A parent that drains and ends when `Step` is told, in the middle of an upgrade; gives the child.
template <class Step>
os::process_id end_at(directory const& place, options chosen)
{
    os::process_id child{};
    connection_guard until_then;
    chosen.control.upgrade = place.path / "upgrade";
    chosen.observer = [&](event const& e) {
        if (auto const* launched = e.as<events::launched>())
            child = launched->child;
        if (e.as<Step>())
            until_then.reset();
    };
    sync_upgrader up{chosen};
    auto const listener = up.listen_unix((place.path / "inherited").string());
    until_then = connection_guard{up.connections()};
    up.ready();
    up.request_upgrade();
    BOOST_TEST(up.drain(10s) == 0U);
    return child;
}

} // namespace

// It has accepted nothing, so the service ends with the parent.
BOOST_AUTO_TEST_CASE(a_parent_that_ends_before_its_child_serves_ends_that_too)
{
    directory const place;
    auto const child = end_at<events::committed>(place, with("waits_before_it_serves"));
    BOOST_TEST(::kill(os::number(child), 0) != 0);
    BOOST_TEST(fs::is_empty(place.path));
}

BOOST_AUTO_TEST_CASE(a_parent_that_ends_after_its_child_serves_leaves_that_all_paths)
{
    directory const place;
    std::ofstream{place.path / "stay"};
    auto chosen = with("serves_until_its_place_goes");
    chosen.probation = 60s;
    static_cast<void>(end_at<events::child_serves>(place, chosen));
    BOOST_TEST(fs::exists(place.path / "inherited"));
    BOOST_TEST(fs::exists(place.path / "upgrade"));
    fs::remove(place.path / "stay");
    for (int i = 0; i != 1000 && !fs::is_empty(place.path); ++i)
        std::this_thread::sleep_for(10ms);
    BOOST_TEST(fs::is_empty(place.path)); // the child was the last
}

BOOST_AUTO_TEST_CASE(state_that_is_named_during_an_upgrade_is_for_the_next_one)
{
    directory const place;
    auto chosen = with("reads_state");
    sync_upgrader* running = nullptr;
    auto const write = [](char const* text) { return [=](state_writer& to) { to.write(std::string_view{text}); }; };
    bool named = false;
    chosen.observer = [&](event const& e) {
        if (e.as<events::child_ready>() && !std::exchange(named, true))
            running->hand_over_state("late", handover::late, write("late"));
    };
    sync_upgrader up{chosen};
    running = &up;
    up.hand_over_state("early", handover::early, [&](state_writer& to) {
        if (!named)
            up.hand_over_state("later", handover::late, write("later"));
        to.write("early");
    });
    up.ready();
    auto const seen = [&] {
        std::string line;
        std::getline(std::ifstream{place.path / "seen"}, line);
        return line;
    };
    std::vector<std::string> each;
    std::function<void(std::string const&)> const again = [&](std::string const&) {
        each.push_back(seen());
        each.size() == 1 ? up.request_upgrade(again) : up.request_partial_stop();
    };
    up.request_upgrade(again);
    up.wait();
    BOOST_TEST(each == (std::vector<std::string>{"early none", "early late"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_child_that_fails_hears_why_itself)
{
    directory const place;
    sync_upgrader up{with("cannot_write_its_pid_file")};
    up.ready();
    auto const why = "write the pid file " + (place.path / "directory").string() + ": what is there cannot be replaced by uid " +
                     std::to_string(::geteuid()) + ": Is a directory [generic:21]";
    BOOST_TEST(upgrade(up).find(why) != std::string::npos);
    std::string seen;
    std::getline(std::ifstream{place.path / "seen"}, seen);
    BOOST_TEST(seen.starts_with("Is a directory, Is a directory, " + why), seen);
}

// What a host throws where an upgrade cannot go on without its work must not leave the machine half way.
static_assert(noexcept(std::declval<requester&>().answer(std::declval<std::string const&>())));

BOOST_AUTO_TEST_CASE(whatever_a_filler_throws_fails_only_the_upgrade)
{
    directory const place;
    auto chosen = with("reads_state");
    std::vector<error_code> codes;
    chosen.observer = [&](event const& e) {
        if (auto const* failed = e.as<events::upgrade_failed>())
            codes.push_back(failed->why);
    };
    sync_upgrader up{chosen};
    int fills = 0;
    int undone = 0;
    up.hand_over_state(
        "late", handover::late,
        [&](state_writer&) {
            if (++fills == 1)
                throw 1;
            throw error{make_error_code(boost::system::errc::no_space_on_device), "write"};
        },
        [&] { ++undone; });
    up.ready();
    std::vector<std::string> each;
    std::function<void(std::string const&)> const again = [&](std::string const& line) {
        each.push_back(line);
        each.size() == 1 ? up.request_upgrade(again) : up.request_partial_stop();
    };
    up.request_upgrade(again);
    up.wait();
    BOOST_TEST(each.front().find("the host threw what is no exception") != std::string::npos);
    BOOST_TEST(undone == 2);
    BOOST_REQUIRE(codes.size() == 2U);
    BOOST_TEST((codes.back() == boost::system::errc::no_space_on_device));
}

BOOST_AUTO_TEST_CASE(a_failed_upgrade_leaves_no_descriptor_of_state)
{
    directory const place;
    auto chosen = with("reads_state");
    chosen.program = place.path / "missing";
    sync_upgrader up{chosen};
    up.hand_over_state("late", handover::late, [](state_writer&) {});
    up.ready();
    auto const count = [] { return std::distance(fs::directory_iterator{"/proc/self/fd"}, {}); };
    auto const before = count();
    BOOST_TEST(upgrade(up).starts_with("failed phase=launching "));
    BOOST_TEST(count() == before);
}

BOOST_AUTO_TEST_CASE(state_that_is_not_read_is_dropped_and_reported)
{
    directory const place;
    auto chosen = with("reads_no_state");
    std::ofstream{place.path / "stay"};
    sync_upgrader up{chosen};
    for (auto const when : {handover::early, handover::late})
        up.hand_over_state(when == handover::early ? "early" : "late", when, [](state_writer& to) { to.write("text"); });
    up.ready();
    BOOST_TEST(upgrade(up).starts_with("ok "));
    fs::remove(place.path / "stay");
    for (int i = 0; i != 1000 && !fs::exists(place.path / "seen"); ++i)
        std::this_thread::sleep_for(10ms);
    std::string seen;
    std::getline(std::ifstream{place.path / "seen"}, seen);
    BOOST_TEST(seen == "at commit:state early; at the end:state late;");
}

// A process that the host forked ends as it likes: what the service has is not its own.
BOOST_AUTO_TEST_CASE(a_forked_process_that_ends_takes_nothing_along)
{
    directory const place;
    options chosen;
    chosen.control.upgrade = place.path / "upgrade";
    chosen.pid_file = place.path / "pid";
    auto up = std::make_unique<sync_upgrader>(chosen);
    auto const listener = up->listen_unix((place.path / "listener").string());
    up->ready();
    auto const worker = ::fork();
    if (worker == 0) {
        up.reset();
        ::_exit(0);
    }
    int status = -1;
    BOOST_TEST(::waitpid(worker, &status, 0) == worker);
    BOOST_TEST(status == 0);
    for (auto const* name : {"upgrade", "pid", "listener"})
        BOOST_TEST(fs::exists(place.path / name), name << " is gone");
    up.reset();
    BOOST_TEST(fs::is_empty(place.path));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_opened_at_commit_is_not_handed_over)
{
    io::sync io;
    inventory<io::sync> all;
    handoff::inheritance nothing_inherited;
    auto const connections = std::make_shared<open_connections>();
    auto const claim = [&](handoff::inheritance* from) {
        return all.claim_or_open(io, connections, socket_kind::tcp, "127.0.0.1:0", {}, from, false);
    };
    auto const first = claim(nullptr);
    auto const taken = claim(&nothing_inherited);
    auto const last = claim(nullptr);
    error_code ec;
    auto const where = address::bound(taken->fd(), ec);
    os::owned_fd const rival{sockets::open(socket_kind::tcp, where, {})}; // both may bind while neither listens
    (void)sockets::bind(rival, socket_kind::tcp, where, {});
    sockets::listen(rival, socket_kind::tcp, where, {});

    std::vector<std::string> warnings;
    all.open([&](std::string what) { warnings.push_back(std::move(what)); });
    BOOST_TEST(warnings.size() == 1U);
    BOOST_TEST(!taken->fd());
    auto const handed_over = all.bequeath();
    BOOST_REQUIRE(handed_over.fds.size() == 2U);
    BOOST_TEST(handed_over.fds.back().get() == last->fd().get());
    all.end_claimed(handed_over.records, {true, false});
    all.close(os::unlinked::all);
}

BOOST_AUTO_TEST_CASE(a_pid_file_that_the_child_does_not_write_goes_with_its_parent)
{
    directory const place;
    auto chosen = with("has_another_pid_file");
    chosen.pid_file = place.path / "pid";
    {
        sync_upgrader up{chosen};
        up.ready();
        BOOST_TEST(fs::exists(place.path / "pid"));
        BOOST_TEST(upgrade(up).starts_with("ok "));
    }
    BOOST_TEST(!fs::exists(place.path / "pid"));
}

// Until the service is its own, a stop is the child's alone.
BOOST_AUTO_TEST_CASE(a_service_whose_child_stops_in_its_probation_is_taken_back)
{
    directory const place;
    auto chosen = with("stops_as_soon_as_it_serves");
    chosen.probation = 60s;
    sync_upgrader up{chosen};
    up.ready();
    BOOST_TEST(upgrade(up) == "failed phase=probation reason=\"it was stopped\"");
    BOOST_TEST((up.wait().why == ecdysis::exit::kind::partially_stopped));
}

// A requester hears how it ended, also where the host goes without a drain.
BOOST_AUTO_TEST_CASE(a_parent_that_ends_at_once_says_that_the_service_is_its_childs)
{
    directory const place;
    std::ofstream{place.path / "stay"};
    std::string told;
    {
        sync_upgrader up{with("serves_until_its_place_goes")};
        up.ready();
        up.request_upgrade([&](std::string const& line) { told = line; });
        BOOST_TEST((up.wait().why == ecdysis::exit::kind::upgraded));
    }
    BOOST_TEST(told.starts_with("ok generation=1 "), told);
    fs::remove(place.path / "stay");
}

BOOST_AUTO_TEST_CASE(an_upgrader_that_cannot_be_constructed_leaves_no_control_socket)
{
    directory const place;
    options chosen;
    chosen.control.upgrade = place.path / "upgrade";
    chosen.control.stop = place.path / "missing" / "stop";
    BOOST_CHECK_THROW(sync_upgrader{chosen}, error);
    BOOST_TEST(!fs::exists(place.path / "upgrade"));
}
