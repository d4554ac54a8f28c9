// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>

#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/named_pipe.hpp>

// A host that picks sync and none gets nothing of Boost.Log or libseccomp, and nothing of Asio that runs. (Boost.Process
// brings Asio's traits of completion tokens.)
#if defined(BOOST_ASIO_EXECUTION_CONTEXT_HPP) || defined(BOOST_ASIO_ANY_IO_EXECUTOR_HPP) || defined(BOOST_LOG_DETAIL_CONFIG_HPP_INCLUDED_) || defined(_SECCOMP_H)
#    error "the core includes what the host did not choose"
#endif

#define BOOST_TEST_MODULE upgrader
#include <boost/test/unit_test.hpp>

#include "upgrade.hpp"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

using namespace ecdysis;
using namespace std::chrono_literals;
using sync_upgrader = upgrader<io::sync, notify::none, transport::named_pipe>;

namespace {

struct directory
{
    directory()
    {
        char pattern[] = "/tmp/ecdysis-upgrader-XXXXXX";
        path = ::mkdtemp(pattern);
    }
    ~directory() { std::filesystem::remove_all(path); }
    std::filesystem::path path;
};

int connect(int listener)
{
    error_code ec;
    auto const where = address::bound(os::borrowed_fd{listener}, ec);
    int const client = ::socket(where.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    BOOST_REQUIRE(::connect(client, where.data(), where.size()) == 0);
    return client;
}

/// As Asio's endpoints give it: what is read from text cannot be relative.
address relative(char const* path)
{
    ::sockaddr_un un{};
    un.sun_family = AF_UNIX;
    std::strncpy(un.sun_path, path, sizeof un.sun_path - 1);
    return {reinterpret_cast<::sockaddr const*>(&un), sizeof un};
}

/// A working directory for a while.
struct working_in
{
    explicit working_in(std::filesystem::path const& path) { std::filesystem::current_path(path); }
    ~working_in() { std::filesystem::current_path(before); }
    std::filesystem::path const before = std::filesystem::current_path();
};

/// What `f` throws says.
std::string words_of(std::function<void()> const& f)
{
    try {
        f();
    } catch (error const& e) {
        return e.what();
    }
    return "nothing";
}

/// Options of a generation whose child plays `role`, a test below that is disabled.
options with(char const* role)
{
    auto const self = std::filesystem::read_symlink("/proc/self/exe").string();
    return {.program = self,
            .arguments = {self, std::string{"--run_test=role/"} + role, "--log_level=nothing", "--report_level=no"}};
}

} // namespace

BOOST_AUTO_TEST_SUITE(role, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(reads_late_state_too_early)
{
    std::string heard;
    sync_upgrader up{{.observer = [&](event const& e) { heard += e.is_warning() ? e.text() : ""; }}};
    error_code ec;
    auto const state = up.inherited_state("late", ec);
    up.fail(ec.message() + (state ? " and state" : " and nothing") + "; heard: " + heard);
}

BOOST_AUTO_TEST_CASE(listens_on_a_relative_path)
{
    sync_upgrader up{{}};
    auto const listener = up.listen_unix(relative("x")); // its own would be address_in_use
    up.ready();
    error_code ec;
    std::ofstream{"seen"} << address::bound(os::borrowed_fd{listener.native_handle()}, ec).path();
    std::jthread const until_the_parent_has_seen_it{[&] {
        for (int i = 0; i != 1000 && std::filesystem::exists("seen"); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        up.request_stop();
    }};
    up.wait(); // tells the parent that this generation serves
}

BOOST_AUTO_TEST_CASE(cannot_write_its_pid_file)
{
    std::filesystem::path const place = ::getenv("ECDYSIS_TEST_PLACE");
    sync_upgrader up{{.pid_file = place}};
    auto const ready = words_of([&] { up.ready(); });
    auto const wait = words_of([&] { (void)up.wait(); });
    std::ofstream{place / "seen"} << ready << '\n' << wait;
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_first_generation_is_ready_at_once)
{
    sync_upgrader up{{}};
    BOOST_TEST(up.generation() == 0U);
    auto listener = up.listen_tcp("127.0.0.1:0");
    BOOST_TEST(!up.claim("anything"));
    BOOST_TEST(up.unclaimed_files().empty());
    BOOST_TEST(!up.inherited_state("anything"));
    BOOST_TEST(!up.take_channel_to_parent());
    up.ready();
    up.ready(); // again: known already

    os::owned_fd const client{connect(listener.native_handle())};
    auto const connection = listener.accept();
    BOOST_TEST(connection.has_value());
    BOOST_TEST(up.connections()->count() == 1U);
}

BOOST_AUTO_TEST_CASE(one_upgrader_lives_in_a_process)
{
    {
        sync_upgrader up{{}};
        BOOST_CHECK_EXCEPTION(sync_upgrader{options{}}, error,
                              [](error const& e) { return e.code() == errc::second_upgrader; });
    }
    sync_upgrader next{{}};
}

BOOST_AUTO_TEST_CASE(a_call_stops_it_and_whoever_called_hears_how_it_ended)
{
    sync_upgrader up{{}};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.ready();
    std::string told;
    up.request_stop([&](std::string const& line) { told = line; });
    auto const why = up.wait();
    BOOST_TEST((why.why == ecdysis::exit::kind::stopped));
    BOOST_TEST((why.by.from == trigger::source::call));
    BOOST_TEST(told.empty());
    error_code ec;
    BOOST_TEST(!listener.accept(ec));
    BOOST_TEST((ec == errc::ended));
    BOOST_TEST(up.drain(5s) == 0U);
    BOOST_TEST(told == "ok exit=stopped connections=0");
    BOOST_CHECK_EXCEPTION((void)up.listen_tcp("127.0.0.1:0"), error,
                          [](error const& e) { return e.code() == errc::not_serving; });
}

BOOST_AUTO_TEST_CASE(an_upgrade_that_is_asked_for_before_ready_is_refused)
{
    sync_upgrader up{{}};
    std::string told;
    up.request_upgrade([&](std::string const& line) { told = line; });
    up.request_partial_stop();
    BOOST_TEST((up.wait().why == ecdysis::exit::kind::partially_stopped));
    BOOST_TEST(told == "failed reason=\"not serving\"");
}

BOOST_AUTO_TEST_CASE(the_drain_waits_for_guards_and_tells_them_what_to_do)
{
    sync_upgrader up{{.idle_grace = 20ms}};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.ready();
    os::owned_fd const client{connect(listener.native_handle())};
    auto connection = listener.accept();
    BOOST_REQUIRE(connection.has_value());
    BOOST_TEST(!connection->guard.draining());
    up.request_stop();
    up.wait();
    BOOST_TEST(connection->guard.draining());
    BOOST_TEST(!connection->guard.close_idle().stop_requested());
    // It ends when its connection is told to, long before the deadline.
    std::promise<void> told;
    std::stop_callback const idle{connection->guard.close_idle(), [&] { told.set_value(); }};
    std::jthread const worker{[&] {
        told.get_future().wait();
        connection->guard.reset();
    }};
    BOOST_TEST(up.drain(20s) == 0U);
}

BOOST_AUTO_TEST_CASE(the_drain_ends_at_its_deadline_or_at_a_second_stop)
{
    {
        sync_upgrader up{{}};
        connection_guard const open{up.connections()};
        up.ready();
        up.request_stop();
        up.wait();
        BOOST_TEST(up.drain(10ms) == 1U);
    }
    sync_upgrader up{{}};
    connection_guard const open{up.connections()};
    up.ready();
    up.request_stop();
    up.wait();
    up.request_stop();
    BOOST_TEST(up.drain(1h) == 1U);
}

BOOST_AUTO_TEST_CASE(no_thread_is_started)
{
    auto const threads = [] {
        return std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, std::filesystem::directory_iterator{});
    };
    auto const before = threads();
    auto const control = "@ecdysis upgrader " + std::to_string(::getpid());
    auto most = before;
    sync_upgrader up{{.upgrade_on = {SIGHUP},
                      .stop_on = {SIGTERM},
                      .control = {.upgrade = control},
                      .observer = [&](event const&) { most = std::max(most, threads()); }}};
    BOOST_TEST(threads() == before);
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.ready();
    BOOST_TEST(threads() == before);
    os::owned_fd const client{connect(listener.native_handle())};
    auto connection = listener.accept();
    BOOST_REQUIRE(connection.has_value());
    up.request_stop();
    BOOST_TEST(threads() == before);
    up.wait();
    BOOST_TEST(threads() == before);
    BOOST_TEST(up.drain(20ms) == 1U);
    BOOST_TEST(threads() == before);
    BOOST_TEST(most == before);
}

BOOST_AUTO_TEST_CASE(a_drain_may_wait_for_ever)
{
    sync_upgrader up{{.idle_grace = std::chrono::milliseconds::max() - 1ms}};
    up.ready();
    up.request_stop();
    up.wait();
    connection_guard guard{up.connections()};
    std::jthread const last{[&] {
        std::this_thread::sleep_for(50ms);
        guard.reset();
    }};
    BOOST_TEST(up.drain(std::chrono::milliseconds::max()) == 0U);
}

BOOST_AUTO_TEST_CASE(the_code_form_gives_the_code_and_the_observer_the_sentence)
{
    std::string heard;
    sync_upgrader up{{.observer = [&](event const& e) { heard += e.text() + "\n"; }}};
    error_code ec;
    auto taken = up.listen_tcp("127.0.0.1:0", {}, ec);
    BOOST_TEST(!ec);
    auto const where = address::bound(os::borrowed_fd{taken.native_handle()}, ec);
    auto const none = up.listen_tcp(where, {}, ec);
    BOOST_TEST((ec == boost::system::errc::address_in_use));
    BOOST_TEST(none.native_handle() == -1);
    BOOST_TEST(heard.find("bind tcp " + where.text()) != heard.npos);
}

BOOST_AUTO_TEST_CASE(every_code_form_gives_the_code_throws_nothing_and_tells_the_observer)
{
    directory const dir;
    std::string heard;
    sync_upgrader up{{.pid_file = dir.path.string(), .observer = [&](event const& e) { heard += e.text() + "\n"; }}};
    auto const fails = [&](auto const& expected, std::string const& sentence, auto const& f) {
        BOOST_TEST_CONTEXT(sentence)
        {
            heard.clear();
            error_code ec;
            BOOST_CHECK_NO_THROW(f(ec));
            BOOST_TEST((ec == expected), ec.message());
            BOOST_TEST(heard.find(sentence) != heard.npos, heard);
        }
    };

    // Text that is no address, and an address of another kind.
    auto const bad = [&](std::string const& where, std::string const& sentence, auto const& other) {
        auto const all = [&](auto const& at, std::string const& said) {
            fails(errc::invalid_address, said, [&](error_code& ec) { (void)up.listen_tcp(at, {}, ec); });
            fails(errc::invalid_address, said, [&](error_code& ec) { (void)up.bind_udp(at, {}, ec); });
            fails(errc::invalid_address, said, [&](error_code& ec) { (void)up.listen_tcp_shards(at, 2, {}, ec); });
            fails(errc::invalid_address, said, [&](error_code& ec) { (void)up.bind_udp_shards(at, 2, {}, ec); });
        };
        all(where, sentence);
        all(where.c_str(), sentence);
        all(std::string_view{where}, sentence);
        all(other, "that address is not of this kind");
    };
    bad("garbage", "read address \"garbage\"", address{"@of another kind"});
    fails(errc::invalid_address, "read address \"garbage\"",
          [&](error_code& ec) { (void)up.listen_unix("garbage", {}, ec); });
    fails(errc::invalid_address, "read address \"garbage\"",
          [&](error_code& ec) { (void)up.listen_seqpacket("garbage", {}, ec); });
    fails(errc::invalid_address, "read address \"garbage\"",
          [&](error_code& ec) { (void)up.bind_unix("garbage", {}, ec); });
    auto const path = (dir.path / "missing" / "path").string();
    auto const missing = boost::system::errc::no_such_file_or_directory;
    fails(missing, "bind unix " + path, [&](error_code& ec) { (void)up.listen_unix(path, {}, ec); });
    fails(missing, "bind seqpacket " + path, [&](error_code& ec) { (void)up.listen_seqpacket(path, {}, ec); });
    fails(missing, "bind datagram " + path, [&](error_code& ec) { (void)up.bind_unix(path, {}, ec); });

    fails(boost::system::errc::bad_file_descriptor, "offer \"x\", descriptor -1",
          [&](error_code& ec) { (void)up.offer("x", -1, {}, ec); });
    fails(errc::name_too_long, "offer \"x\"",
          [&](error_code& ec) { (void)up.offer("x", 0, std::string(257, 'b'), ec); });
    up.hand_over_state("x", handover::late, {});
    fails(boost::system::errc::invalid_argument, "name state \"x\"",
          [&](error_code& ec) { up.hand_over_state("x", handover::early, {}, {}, ec); });

    fails(boost::system::errc::is_a_directory, "write the pid file " + dir.path.string(),
          [&](error_code& ec) { up.ready(ec); });

    connection_guard open{up.connections()};
    up.request_upgrade([&](std::string const&) { // inside of wait() below
        fails(errc::already_waiting, "become ready", [&](error_code& ec) { up.ready(ec); });
        fails(errc::already_waiting, "wait for an exit", [&](error_code& ec) { up.wait(ec); });
        fails(errc::already_waiting, "drain", [&](error_code& ec) { up.drain(1h, ec); });
    });
    up.request_stop();
    up.wait();
    fails(errc::not_serving, "claim x", [&](error_code& ec) { (void)up.claim("x", ec); });
    open.reset();
    error_code ec;
    BOOST_TEST(up.drain(1h, ec) == 0U);
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(late_state_before_ready_is_a_code_and_not_an_exception)
{
    sync_upgrader up{with("reads_late_state_too_early")};
    up.hand_over_state("late", handover::late, [](state_writer& to) { to.write("late"); });
    up.ready();
    auto const told = upgrade(up);
    BOOST_TEST(told.find("not serving and nothing; heard: read late state 'late': it is filled at commit") != told.npos, told);
}

BOOST_AUTO_TEST_CASE(what_is_thrown_says_what_was_tried_and_on_what)
{
    directory const dir;
    auto const why = "write the pid file " + dir.path.string() + ": what is there cannot be replaced by uid " +
                     std::to_string(::geteuid()) + ": Is a directory [generic:21]";
    {
        sync_upgrader up{{.pid_file = dir.path.string()}};
        BOOST_TEST(words_of([&] { up.ready(); }) == why);
        BOOST_TEST(words_of([&] { up.ready(); }) == why);
    }
    ::setenv("ECDYSIS_TEST_PLACE", dir.path.c_str(), 1);
    sync_upgrader up{with("cannot_write_its_pid_file")};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.ready();
    std::string inside;
    up.request_upgrade([&](std::string const&) {
        inside = words_of([&] { (void)up.wait(); });
        up.request_partial_stop();
    });
    up.wait();
    std::ifstream seen{dir.path / "seen"};
    BOOST_TEST((std::string{std::istreambuf_iterator{seen}, {}}) == why + "\n" + why); // in the child: ready() and wait()
    BOOST_TEST(inside.starts_with("wait for an exit: another wait is under way"), inside);
}

BOOST_AUTO_TEST_CASE(a_socket_that_cannot_accept_is_named)
{
    sync_upgrader up{{}};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.ready();
    error_code ec;
    auto const where = address::bound(os::borrowed_fd{listener.native_handle()}, ec).text();
    ::shutdown(listener.native_handle(), SHUT_RDWR); // it listens no more
    auto const words = words_of([&] { (void)listener.accept(); });
    BOOST_TEST(words.starts_with("accept on " + where.substr(0, where.find(':'))), words);
    BOOST_TEST(words.find("Invalid argument") != words.npos, words);
}

BOOST_AUTO_TEST_CASE(a_stop_removes_what_is_ours_and_leaves_what_is_not)
{
    directory const dir;
    auto const path = [&](char const* name) { return (dir.path / name).string(); };
    {
        sync_upgrader up{{.control = {.upgrade = path("control")}, .pid_file = path("pid")}};
        auto const mine = up.listen_unix(path("mine"));
        auto const replaced = up.listen_unix(path("replaced"));
        up.ready();
        for (auto const* name : {"control", "pid", "mine", "replaced"})
            BOOST_TEST(std::filesystem::exists(path(name)), name);
        std::filesystem::remove(path("replaced"));
        std::filesystem::create_directory(path("replaced"));
    }
    for (auto const* name : {"control", "pid", "mine"})
        BOOST_TEST(!std::filesystem::exists(path(name)), name);
    BOOST_TEST(std::filesystem::is_directory(path("replaced")));
}

BOOST_AUTO_TEST_CASE(a_relative_path_goes_wherever_the_host_went)
{
    directory const dir;
    working_in const place{dir.path};
    {
        sync_upgrader up{{}};
        auto const stream = up.listen_unix(relative("stream"));
        auto const packets = up.listen_seqpacket(relative("packets"));
        auto const datagrams = up.bind_unix(relative("datagrams"));
        up.ready();
        for (auto const* name : {"stream", "packets", "datagrams"})
            BOOST_TEST(std::filesystem::is_socket(dir.path / name), name);
        std::filesystem::current_path("/");
    }
    BOOST_TEST(std::filesystem::is_empty(dir.path));
}

BOOST_AUTO_TEST_CASE(a_relative_path_is_the_childs_too_wherever_its_parent_went)
{
    directory const dir;
    working_in const place{dir.path};
    sync_upgrader up{with("listens_on_a_relative_path")};
    auto const listener = up.listen_unix(relative("x"));
    up.ready();
    std::filesystem::current_path("/");
    auto const told = upgrade(up);
    BOOST_TEST(told.starts_with("ok "), told);
    std::string seen;
    std::getline(std::ifstream{dir.path / "seen"}, seen);
    BOOST_TEST(seen == (dir.path / "x").string());
    std::filesystem::remove(dir.path / "seen");
}

BOOST_AUTO_TEST_CASE(a_variable_that_lies_is_refused_and_taken_away)
{
    for (auto const* lie : {"", " ", "named_pipe", "named_pipe ", "named_pipe 3", "named_pipe x y z", "socketpair 3 1:1",
                            "named_pipe 0 0 1:1 2:2", "named_pipe 99999999999999999999 0 1:1 2:2", "carrier_pigeon 3"}) {
        ::setenv("ECDYSIS_HANDOFF", lie, 1);
        BOOST_CHECK_EXCEPTION(sync_upgrader{options{}}, error,
                              [](error const& e) { return e.code() == condition::bad_handoff; });
        BOOST_TEST(::getenv("ECDYSIS_HANDOFF") == nullptr);
    }
    sync_upgrader up{{}};
    up.ready();
}

