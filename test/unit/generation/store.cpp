// SPDX-License-Identifier: BSL-1.0
// What a generation and its child claim of what a service manager passed, and what they tell its store. The child is this
// program again and plays the role that the parent names.
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/upgrader.hpp>

#define BOOST_TEST_MODULE generation_store
#include <boost/test/unit_test.hpp>

#include "../systemd/passed.hpp"
#include "../upgrade.hpp"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace ecdysis;
using namespace std::chrono_literals;
namespace fs = std::filesystem;
using lines = std::vector<std::string>;

namespace {

/// The directory of the test, of its child too.
fs::path place()
{
    char const* const where = ::getenv("ECDYSIS_TEST_PLACE");
    return where != nullptr ? where : "";
}

/// Has a store, and writes down what that is told.
struct recording : notify::none
{
    bool chosen = true;
    std::string who = ::getenv("ECDYSIS_HANDOFF") != nullptr ? "child " : "";

    [[nodiscard]] bool stores() const noexcept { return chosen; }
    void send(notify::step const& what, error_code& ec)
    {
        ec.clear();
        bool const in = what.what == notify::step::kind::store;
        if (!in && what.what != notify::step::kind::unstore)
            return;
        BOOST_TEST(in == static_cast<bool>(what.descriptor));
        std::ofstream{place() / "told", std::ios::app} << who << (in ? "+" : "-") << what.name << '\n';
    }
};

using storing_upgrader = upgrader<io::sync, recording, transport::named_pipe>;

struct directory
{
    directory()
    {
        char pattern[] = "/tmp/ecdysis-store-XXXXXX";
        path = ::mkdtemp(pattern);
        ::setenv("ECDYSIS_TEST_PLACE", path.c_str(), 1);
    }
    ~directory() { fs::remove_all(path); }
    [[nodiscard]] std::string operator/(char const* name) const { return path / name; }
    fs::path path;
};

/// Another file each time: the manager keeps each once.
int a_file()
{
    static std::vector<os::owned_fd> all;
    return all.emplace_back(::memfd_create("kept", MFD_CLOEXEC)).get();
}

/// What the store was told since it was last asked for.
lines told()
{
    lines result;
    std::ifstream file{place() / "told"};
    for (std::string line; std::getline(file, line);)
        result.push_back(line);
    fs::remove(place() / "told");
    return result;
}

void check(lines const& seen, lines const& expected)
{
    BOOST_TEST(seen == expected, boost::test_tools::per_element());
}

/// Options of a generation whose child plays `role`, a test below that is disabled; it notes what was not claimed.
options with(std::string const& role, lines* unclaimed = nullptr)
{
    options result;
    result.program = fs::read_symlink("/proc/self/exe");
    result.arguments = {result.program, "--run_test=role/" + role, "--log_level=nothing", "--report_level=no"};
    if (unclaimed != nullptr)
        result.observer = [unclaimed](event const& e) {
            if (auto const* one = e.as<events::unclaimed>())
                unclaimed->push_back(one->name);
            if (e.as<events::warning>())
                unclaimed->push_back("warning: " + e.text());
        };
    return result;
}

/// Runs what was posted before.
void run_posted(storing_upgrader& up)
{
    up.request_partial_stop();
    up.wait();
}

/// Serves until the parent's test takes `stay` away.
void stay(storing_upgrader& up)
{
    std::jthread const stopper{[&] {
        for (int i = 0; i != 1000 && fs::exists(place() / "stay"); ++i)
            std::this_thread::sleep_for(10ms);
        up.request_stop();
    }};
    up.wait();
}

os::owned_fd listening(socket_kind kind, address const& where)
{
    auto socket = sockets::open(kind, where, {});
    (void)sockets::bind(socket, kind, where, {});
    sockets::listen(socket, kind, where, {});
    return passed::away(std::move(socket));
}

std::string stored_path(std::string const& path)
{
    auto const is = os::identify(path);
    return systemd::stored_name({.kind = handoff::descriptor_kind::listener,
                                 .name = "unix " + path,
                                 .bytes = {},
                                 .device = is.device,
                                 .inode = is.inode,
                                 .flags = handoff::path_owned});
}

std::string where(int fd)
{
    error_code ec;
    return address::bound(os::borrowed_fd{fd}, ec).text();
}

} // namespace

BOOST_AUTO_TEST_SUITE(role, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(claims_one)
{
    storing_upgrader up{{}};
    auto const one = up.listen_tcp("127.0.0.1:0");
    up.ready();
    stay(up);
}

BOOST_AUTO_TEST_CASE(claims_one_and_opens_one)
{
    storing_upgrader up{{}};
    auto const claimed = up.listen_tcp("127.0.0.1:0");
    auto const opened = up.listen_tcp("127.0.0.2:0");
    auto const unit = up.listen_unix((place() / "unit").string(), {.name = "any"});
    if (auto const file = up.claim("kept on"))
        (void)up.keep("never stored", file->fd.get());
    auto const file = up.claim("taken");
    auto const kept = up.keep("kept on", a_file());
    BOOST_TEST(told().empty());
    up.ready();
    stay(up);
}

BOOST_AUTO_TEST_CASE(exits)
{
    storing_upgrader up{{}};
}

BOOST_AUTO_TEST_CASE(stores_nothing)
{
    recording notify;
    notify.chosen = false;
    storing_upgrader up{{}, notify};
    auto const claimed = up.listen_tcp("127.0.0.1:0");
    up.ready();
    stay(up);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_first_generation_stores_all_at_ready_and_later_ones_at_once)
{
    directory const dir;
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    std::string path;
    {
        storing_upgrader up{{}};
        auto const units = up.listen_tcp("127.0.0.1:0", {.name = "http"});
        auto const unix = up.listen_unix(dir / "a:b");
        auto const udp = up.bind_udp_shards("127.0.0.1:0", 2);
        auto const state = up.keep("my state", a_file());
        auto const offered = up.offer("offered", 0);
        check(told(), {});
        up.ready();
        path = stored_path(dir / "a:b");
        BOOST_TEST(path.find("a%3Ab ") != path.npos);
        check(told(), {"+" + path, "+udp 127.0.0.1%3A0", "+udp 127.0.0.1%3A0", "+file my%20state"});
        auto const late = up.listen_tcp("127.0.0.2:0");
        check(told(), {"+tcp 127.0.0.2%3A0"});
        auto const more = up.keep("more", a_file());
        check(told(), {"+file more"});
        up.request_stop();
        up.wait();
    }
    check(told(), {}); // a restart is to find them
    BOOST_TEST(!fs::exists(dir / "a:b"));
}

BOOST_AUTO_TEST_CASE(without_a_store_nothing_is_stored)
{
    directory const dir;
    recording notify;
    notify.chosen = false;
    storing_upgrader up{{}, notify};
    auto const tcp = up.listen_tcp("127.0.0.1:0");
    auto state = up.keep("state", a_file());
    up.ready();
    state.withdraw();
    run_posted(up);
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_name_too_long_for_the_store_is_told_and_not_stored)
{
    directory const dir;
    lines seen;
    storing_upgrader up{with("", &seen)};
    auto kept = up.keep(std::string(251, 'x'), a_file());
    auto const fits = up.keep(std::string(250, 'y'), a_file());
    up.ready();
    check(told(), {"+file " + std::string(250, 'y')});
    BOOST_REQUIRE(seen.size() == 1U);
    BOOST_TEST(seen.front().find("longer than 255 bytes") != std::string::npos);
    kept.withdraw();
    run_posted(up);
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_first_generation_that_is_started_again_finds_all)
{
    directory const dir;
    passed manager;
    auto unix = listening(socket_kind::unix_stream, dir / "x");
    auto const path = stored_path(dir / "x");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "tcp 127.0.0.1%3A0");
    manager.add(std::move(unix), path);
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "tcp 127.0.0.9%3A0");
    manager.add(passed::away(os::owned_fd{::open("/dev/null", O_RDONLY)}), "file kept");
    manager.add(passed::away(os::owned_fd{::open("/dev/null", O_RDONLY)}), "file taken");
    manager.add(passed::away(os::owned_fd{::open("/dev/null", O_RDONLY)}), "file left");
    manager.add(passed::away(os::owned_fd{::open("/dev/null", O_RDONLY)}), "fifo");
    auto const port = where(3);
    lines seen;
    storing_upgrader up{with("", &seen)};
    auto const tcp = up.listen_tcp("127.0.0.1:0");
    BOOST_TEST(where(tcp.native_handle()) == port);
    auto const listener = up.listen_unix(dir / "x");
    BOOST_TEST(up.unclaimed_files() == (lines{"kept", "taken", "left", "fifo"}), boost::test_tools::per_element());
    auto const kept = up.claim("kept");
    BOOST_REQUIRE(kept.has_value());
    auto const again = up.keep("kept", kept->fd.get());
    BOOST_TEST(up.claim("taken").has_value());
    BOOST_TEST(!up.claim("taken").has_value());
    check(told(), {});
    up.ready();
    check(told(), {"-file kept", "-file left", "-file taken", "-tcp 127.0.0.9%3A0", "+file kept"});
    check(seen, {"tcp 127.0.0.9:0", "left", "fifo (a file)"});
    BOOST_TEST(up.unclaimed_files().empty());
    BOOST_TEST(!up.claim("left").has_value());
}

BOOST_AUTO_TEST_CASE(what_cannot_be_used_goes_from_the_store_before_it_is_opened_anew)
{
    directory const dir;
    passed manager;
    auto unix = listening(socket_kind::unix_stream, dir / "x");
    auto const old = stored_path(dir / "x");
    manager.add(std::move(unix), old);
    fs::remove(dir / "x");
    lines seen;
    storing_upgrader up{with("", &seen)};
    auto const listener = up.listen_unix(dir / "x");
    check(told(), {"-" + old});
    BOOST_REQUIRE(seen.size() == 1U);
    BOOST_TEST(seen.front() == "warning: claim unix " + (dir / "x") +
                                   " from the store: that path is gone; it is opened anew");
    auto const fresh = stored_path(dir / "x");
    up.ready();
    auto const after = told();
    BOOST_TEST(after.back() == "+" + fresh);
}

BOOST_AUTO_TEST_CASE(a_store_that_is_not_wanted_any_more_is_emptied)
{
    directory const dir;
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "tcp 127.0.0.1%3A0");
    recording notify;
    notify.chosen = false;
    storing_upgrader up{{}, notify};
    auto const tcp = up.listen_tcp("127.0.0.1:0");
    up.ready();
    check(told(), {"-tcp 127.0.0.1%3A0"});
}

BOOST_AUTO_TEST_CASE(a_first_generation_that_fails_leaves_paths_of_the_store)
{
    directory const dir;
    passed manager;
    auto unix = listening(socket_kind::unix_stream, dir / "x");
    auto const path = stored_path(dir / "x");
    manager.add(std::move(unix), path);
    {
        storing_upgrader up{{}};
        auto const stored = up.listen_unix(dir / "x");
        auto const fresh = up.listen_unix(dir / "y");
    }
    BOOST_TEST(fs::exists(dir / "x"));
    BOOST_TEST(!fs::exists(dir / "y"));
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_child_says_what_changed)
{
    directory const dir;
    std::ofstream{dir / "stay"};
    passed manager;
    manager.add(listening(socket_kind::unix_stream, dir / "unit"), "unit");
    storing_upgrader up{with("claims_one_and_opens_one")};
    auto const first = up.listen_tcp("127.0.0.1:0");
    auto const unclaimed = up.listen_tcp("127.0.0.3:0");
    auto const units = up.listen_unix(dir / "unit");
    auto const kept = up.keep("kept on", a_file());
    auto const taken = up.keep("taken", a_file());
    auto const left = up.keep("left", a_file());
    up.ready();
    check(told(), {"+tcp 127.0.0.1%3A0", "+tcp 127.0.0.3%3A0", "+file kept%20on", "+file taken", "+file left"});
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1); // not to be believed
    BOOST_TEST(upgrade(up).starts_with("ok "));
    check(told(), {"child -file kept%20on", "child -file left", "child -file taken", "child -tcp 127.0.0.3%3A0",
                   "child +tcp 127.0.0.2%3A0", "child +file kept%20on"});
    fs::remove(dir / "stay");
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_child_without_a_store_empties_it)
{
    directory const dir;
    std::ofstream{dir / "stay"};
    storing_upgrader up{with("stores_nothing")};
    auto const tcp = up.listen_tcp("127.0.0.1:0");
    up.ready();
    check(told(), {"+tcp 127.0.0.1%3A0"});
    BOOST_TEST(upgrade(up).starts_with("ok "));
    check(told(), {"child -tcp 127.0.0.1%3A0"});
    fs::remove(dir / "stay");
}

BOOST_AUTO_TEST_CASE(what_is_opened_during_an_upgrade_is_stored_only_when_that_has_failed)
{
    directory const dir;
    auto chosen = with("exits");
    storing_upgrader* running = nullptr;
    std::vector<storing_upgrader::tcp_listener> opened;
    std::vector<offer> kept;
    chosen.observer = [&](event const& e) {
        if (!e.as<events::launched>())
            return;
        opened.push_back(running->listen_tcp("127.0.0.2:0"));
        kept.push_back(running->keep("meanwhile", a_file()));
        check(told(), {});
    };
    storing_upgrader up{chosen};
    running = &up;
    up.ready();
    BOOST_TEST(upgrade(up).starts_with("failed "));
    // And the sockets go with the partial stop that ended the waiting: nobody accepts on them any more.
    check(told(), {"+tcp 127.0.0.2%3A0", "+file meanwhile", "-tcp 127.0.0.2%3A0"});
}

BOOST_AUTO_TEST_CASE(a_file_under_two_names_stays_while_one_is_left)
{
    directory const dir;
    auto chosen = with("");
    chosen.program = dir / "missing"; // an upgrade only runs what was posted
    storing_upgrader up{chosen};
    auto const number = a_file();
    auto first = up.keep("first", number);
    auto const second = up.keep("second", number);
    up.ready();
    check(told(), {"+file first", "+file second"}); // of which the manager takes the first
    first.withdraw();
    up.request_upgrade([&](std::string const&) {
        check(told(), {"-file first", "+file second"});
        up.request_stop();
    });
    up.wait();
}

// Closed here, a duplicate in the store would listen on, and nobody would accept.
BOOST_AUTO_TEST_CASE(a_partial_stop_takes_the_sockets_out_and_a_stop_does_not)
{
    directory const dir;
    for (bool const partially : {true, false}) {
        storing_upgrader up{with("")};
        auto const shards = up.listen_tcp_shards("127.0.0.1:0", 2);
        auto const kept = up.keep("kept", a_file());
        up.ready();
        check(told(), {"+tcp 127.0.0.1%3A0", "+tcp 127.0.0.1%3A0", "+file kept"});
        if (partially)
            up.request_partial_stop();
        else
            up.request_stop();
        up.wait();
        check(told(), partially ? lines{"-tcp 127.0.0.1%3A0"} : lines{});
    }
}

// One of several that have one name: the store knows names, so all of that name go, and what is left is stored anew.
BOOST_AUTO_TEST_CASE(shards_that_a_child_gives_up_go_from_the_store)
{
    directory const dir;
    std::ofstream{place() / "stay"};
    storing_upgrader up{with("claims_one")};
    auto const shards = up.listen_tcp_shards("127.0.0.1:0", 4);
    up.ready();
    check(told(), lines(4, "+tcp 127.0.0.1%3A0"));
    up.request_upgrade([&](std::string const& line) { BOOST_TEST(line.starts_with("ok "), line); });
    up.wait();
    up.drain(10s);
    check(told(), {"child -tcp 127.0.0.1%3A0", "child +tcp 127.0.0.1%3A0"});
    fs::remove(place() / "stay");
}

BOOST_AUTO_TEST_CASE(a_file_goes_from_the_store_when_it_is_withdrawn)
{
    directory const dir;
    {
        auto chosen = with("");
        chosen.program = dir / "missing"; // an upgrade only runs what was posted
        storing_upgrader up{chosen};
        auto early = up.keep("early", a_file());
        early.withdraw();
        auto one = up.keep("one", a_file());
        auto same = up.keep("one", a_file());
        auto other = up.keep("other", a_file());
        up.ready();
        check(told(), {"+file one", "+file one", "+file other"});
        one.withdraw();
        up.request_upgrade([&](std::string const&) {
            check(told(), {"-file one", "+file one"}); // the store knows names: it had let go of both
            same.withdraw();
            up.request_upgrade([&](std::string const&) {
                check(told(), {"-file one"});
                up.request_stop();
            });
        });
        up.wait();
        auto const late = up.keep("late", a_file()); // with the exit known
        other.withdraw();
        connection_guard const open{up.connections()};
        up.drain(20ms); // runs what was posted
    }
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_handle_that_goes_with_its_process_leaves_the_file_in_the_store)
{
    directory const dir;
    offer outlives;
    {
        storing_upgrader up{{}};
        outlives = up.keep("outlives", a_file());
        auto const unwound = up.keep("unwound", a_file());
        up.ready();
        check(told(), {"+file outlives", "+file unwound"});
    }
    outlives.withdraw();
    check(told(), {});
}

BOOST_AUTO_TEST_CASE(a_host_that_takes_its_descriptors_itself_finds_them_untouched)
{
    directory const dir;
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    lines seen;
    auto chosen = with("", &seen);
    chosen.socket_activation = false;
    storing_upgrader up{chosen};
    auto const other = up.listen_tcp("127.0.0.1:0", {.name = "http"});
    BOOST_TEST(other.native_handle() != 3);
    up.ready();
    check(seen, {});
    BOOST_TEST(::getenv("LISTEN_PID") == std::to_string(::getpid()));
    BOOST_TEST(::fcntl(3, F_GETFD) == 0);
}

BOOST_AUTO_TEST_CASE(keep_has_a_code_form)
{
    directory const dir;
    lines seen;
    storing_upgrader up{with("", &seen)};
    error_code ec;
    (void)up.keep("x", -1, ec);
    BOOST_TEST((ec == boost::system::errc::bad_file_descriptor));
    BOOST_TEST(seen.size() == 1U);
    auto const kept = up.keep("x", 0, ec);
    BOOST_TEST(!ec);
}
