// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/control.hpp>

#define BOOST_TEST_MODULE control
#include <boost/test/unit_test.hpp>

#include <ecdysis/io/sync.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

using namespace ecdysis;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

struct directory
{
    directory()
    {
        std::string name = (fs::temp_directory_path() / "ecdysis-control.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

std::string abstract(char const* name)
{
    return std::string{"@ecdysis control "} + name + " " + std::to_string(::getpid());
}

os::owned_fd connect_to(std::string const& where)
{
    address const at{where};
    os::owned_fd client{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (::connect(client.get(), at.data(), at.size()) != 0)
        return {};
    return client;
}

/// All until the other side closes; then what came of the last read, in words.
std::string read_all(os::borrowed_fd client)
{
    std::string result;
    for (;;) {
        ::pollfd entry{client.get(), POLLIN, 0};
        if (::poll(&entry, 1, 2000) != 1)
            return result + "(nothing)";
        char buffer[256];
        auto const size = ::recv(client.get(), buffer, sizeof buffer, 0);
        if (size == 0)
            return result;
        if (size < 0)
            return result + "(errno " + std::to_string(errno) + ")";
        result.append(buffer, static_cast<std::size_t>(size));
    }
}

using door = control_server<io::sync>::door;

/// What a child claims: a duplicate of its parent's.
handoff::inheritance::descriptor copy_of(door const& parents)
{
    return {.record = {.kind = handoff::descriptor_kind::control,
                       .name = {},
                       .bytes = {},
                       .device = parents.path.device,
                       .inode = parents.path.inode},
            .fd = os::owned_fd{::fcntl(parents.socket.get(), F_DUPFD_CLOEXEC, 3)},
            .claimed = true};
}

handoff::inheritance::descriptor unclaimed(std::string const&)
{
    return {};
}

struct host
{
    host() = default;

    void open(std::string const& where, request what = request::upgrade) { server.open(what, where, unclaimed); }
    void claim(std::string const& where, door const& parents)
    {
        server.open(request::upgrade, where, [&](std::string const&) { return copy_of(parents); });
    }
    void start()
    {
        auto const hold = io.lock();
        error_code ec;
        server.start(
            io,
            [this](request what, trigger by, requester who) {
                asked.emplace_back(what, by);
                if (keep)
                    kept.push_back(std::move(who));
                else
                    who.answer("ok");
            },
            ec);
        BOOST_REQUIRE(!ec);
    }
    void run(std::chrono::milliseconds time)
    {
        outcome<nothing> over;
        auto const timer = io.at(io::clock::now() + time, [&] { over.set({}); });
        error_code ec;
        io.wait(over, ec);
    }

    io::sync io;
    std::vector<std::pair<request, trigger>> asked;
    std::vector<requester> kept;
    bool keep = false;
    control_server<io::sync> server;
};

struct is_root
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const
    {
        boost::test_tools::assertion_result result{::geteuid() == 0};
        result.message() << "only root can become another uid";
        return result;
    }
};

} // namespace

BOOST_AUTO_TEST_CASE(to_connect_is_to_ask_and_a_line_is_the_answer)
{
    directory const place;
    for (auto const& where : {place / "upgrade", abstract("upgrade")}) {
        host h;
        h.open(where);
        h.start();
        auto const client = connect_to(where);
        h.run(20ms);
        BOOST_TEST(read_all(client) == "ok\n");
        BOOST_REQUIRE(h.asked.size() == 1U);
        BOOST_TEST((h.asked[0].first == request::upgrade));
        BOOST_TEST((h.asked[0].second.from == trigger::source::control));
        BOOST_TEST((h.asked[0].second.peer == os::this_process()));
    }
}

BOOST_AUTO_TEST_CASE(each_door_means_its_request)
{
    host h;
    h.open(abstract("a"), request::upgrade);
    h.open(abstract("b"), request::stop);
    h.open(abstract("c"), request::partial_stop);
    h.start();
    auto const client = connect_to(abstract("c"));
    h.run(20ms);
    auto const other = connect_to(abstract("b"));
    h.run(20ms);
    BOOST_REQUIRE(h.asked.size() == 2U);
    BOOST_TEST((h.asked[0].first == request::partial_stop));
    BOOST_TEST((h.asked[1].first == request::stop));
    BOOST_TEST(name(request::partial_stop) == "partial stop");
}

BOOST_AUTO_TEST_CASE(clients_that_came_before_the_start_are_heard)
{
    host h;
    h.open(abstract("early"));
    auto const client = connect_to(abstract("early"));
    BOOST_TEST(bool{client});
    h.start();
    h.run(20ms);
    BOOST_TEST(read_all(client) == "ok\n");
}

BOOST_AUTO_TEST_CASE(many_clients_get_a_line_each)
{
    host h;
    h.open(abstract("many"));
    h.start();
    std::vector<os::owned_fd> clients;
    for (int i = 0; i != 200; ++i)
        clients.push_back(connect_to(abstract("many")));
    h.run(100ms);
    BOOST_TEST(h.asked.size() == 200U);
    for (auto const& client : clients)
        BOOST_TEST(read_all(client) == "ok\n");
}

BOOST_AUTO_TEST_CASE(a_client_that_waits_is_told_later_and_once)
{
    host h;
    h.keep = true;
    h.open(abstract("later"));
    h.start();
    auto const client = connect_to(abstract("later"));
    h.run(20ms);
    BOOST_REQUIRE(h.kept.size() == 1U);
    BOOST_TEST(bool{h.kept[0]});
    h.kept[0].answer("ok pid=1");
    BOOST_TEST(!h.kept[0]);
    h.kept[0].answer("twice");
    BOOST_TEST(read_all(client) == "ok pid=1\n");
}

BOOST_AUTO_TEST_CASE(what_a_client_sends_is_not_looked_at_and_cuts_no_answer)
{
    host h;
    h.open(abstract("garbage"));
    h.start();
    for (std::size_t const size : {1U, 4096U, 65536U, 70000U, 150000U, 100000000U}) {
        auto const client = connect_to(abstract("garbage"));
        std::string const garbage(size, 'x');
        for (std::size_t sent = 0; sent != size;) {
            auto const some = ::send(client.get(), garbage.data() + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (some < 0)
                break; // all that fits
            sent += static_cast<std::size_t>(some);
        }
        h.run(20ms);
        BOOST_TEST(read_all(client) == "ok\n");
    }
}

BOOST_AUTO_TEST_CASE(clients_that_never_read_or_are_gone_hold_up_nobody)
{
    host h;
    h.open(abstract("rude"));
    h.start();
    auto const silent = connect_to(abstract("rude"));
    {
        auto const gone = connect_to(abstract("rude"));
    }
    auto const shut = connect_to(abstract("rude"));
    ::shutdown(shut.get(), SHUT_RDWR);
    auto const polite = connect_to(abstract("rude"));
    h.run(50ms);
    BOOST_TEST(h.asked.size() == 4U);
    BOOST_TEST(read_all(polite) == "ok\n");

    h.keep = true;
    {
        auto const impatient = connect_to(abstract("rude"));
        h.run(20ms);
    }
    BOOST_REQUIRE(h.kept.size() == 1U);
    h.kept[0].answer("too late"); // no SIGPIPE
    BOOST_TEST(!h.kept[0]);
}

BOOST_AUTO_TEST_CASE(no_free_descriptor_makes_a_client_wait_and_us_not_spin)
{
    host h;
    h.open(abstract("full"));
    h.start();
    auto const client = connect_to(abstract("full"));
    ::rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    ::rlimit few = before;
    few.rlim_cur = static_cast<::rlim_t>(client.get()) + 1; // all below are taken
    std::vector<os::owned_fd> fill;
    BOOST_REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (;;) {
        os::owned_fd one{::dup(client.get())};
        if (!one)
            break;
        fill.push_back(std::move(one));
    }
    auto const cpu = std::clock();
    h.run(350ms);
    auto const spent = std::chrono::duration<double>(double(std::clock() - cpu) / CLOCKS_PER_SEC);
    ::setrlimit(RLIMIT_NOFILE, &before);
    BOOST_TEST(h.asked.empty());
    BOOST_TEST(spent.count() < 0.1);
    fill.clear();
    h.run(250ms);
    BOOST_TEST(h.asked.size() == 1U);
    BOOST_TEST(read_all(client) == "ok\n");
}

BOOST_AUTO_TEST_CASE(a_path_is_for_our_user_alone)
{
    directory const place;
    auto const mask = ::umask(0);
    host h;
    h.open(place / "stop", request::stop);
    ::umask(mask);
    struct ::stat status
    {};
    BOOST_REQUIRE(::lstat((place / "stop").c_str(), &status) == 0);
    BOOST_TEST((status.st_mode & 07777) == 0600U);
    BOOST_TEST((h.server.doors().front().path == os::identify(place / "stop")));
}

BOOST_AUTO_TEST_CASE(another_uid_is_refused_in_words, *boost::unit_test::precondition(is_root{}))
{
    host h;
    auto const where = abstract("uid");
    h.open(where);
    h.start();
    int ends[2];
    BOOST_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    auto const child = ::fork();
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0)
            ::_exit(98);
        auto const client = connect_to(where);
        auto const line = client ? read_all(client) : std::string{"not connected"};
        ::_exit(::write(ends[1], line.data(), line.size()) < 0);
    }
    os::owned_fd const reader{ends[0]};
    os::owned_fd{ends[1]}.reset();
    h.run(300ms);
    int status = 0;
    ::waitpid(child, &status, 0);
    char line[256];
    auto const size = ::read(reader.get(), line, sizeof line);
    BOOST_REQUIRE(size > 0);
    BOOST_TEST((std::string{line, static_cast<std::size_t>(size)} ==
                "failed reason=\"uid 65534 may not ask; only root and uid 0 may\"\n"));
    BOOST_TEST(h.asked.empty());
}

BOOST_AUTO_TEST_CASE(a_second_instance_is_refused_and_asks_for_nothing)
{
    directory const place;
    for (auto const& where : {place / "stop", abstract("second")}) {
        host h;
        h.open(where, request::stop);
        h.start();
        host second;
        BOOST_CHECK_THROW(second.open(where, request::stop), error);
        h.run(20ms);
        BOOST_TEST(h.asked.empty());
        auto const client = connect_to(where);
        h.run(20ms);
        BOOST_TEST(read_all(client) == "ok\n");
    }
}

BOOST_AUTO_TEST_CASE(an_inherited_door_is_verified_and_answers)
{
    directory const place;
    auto const where = place / "upgrade";
    host parent;
    parent.open(where);
    handoff::bequest given;
    parent.server.bequeath(given);
    BOOST_REQUIRE(given.records.size() == 1U);
    BOOST_TEST(given.records.front().name == "upgrade " + where);

    host child;
    BOOST_CHECK_THROW(child.claim(place / "other", parent.server.doors().front()), error);
    child.claim(where, parent.server.doors().front());
    child.start();
    parent.server.hand_over(given.records, {true});
    BOOST_TEST(parent.server.doors().empty());
    BOOST_TEST(fs::exists(where));
    auto const client = connect_to(where);
    child.run(20ms);
    BOOST_TEST(read_all(client) == "ok\n");
    child.server.close(os::unlinked::all);
    BOOST_TEST(!fs::exists(where));
}

// While the service is announced as a child's nobody answers; then whoever has it.
BOOST_AUTO_TEST_CASE(a_client_waits_as_long_as_its_door_is_paused)
{
    directory const place;
    auto const where = place / "upgrade";
    host parent;
    parent.open(where);
    parent.start();
    parent.server.pause();
    auto const client = connect_to(where);
    parent.run(20ms);
    BOOST_TEST(parent.asked.empty());
    {
        host child;
        child.claim(where, parent.server.doors().front());
        child.start();
        child.run(20ms);
        BOOST_TEST(read_all(client) == "ok\n");
        child.server.close(os::unlinked::none);
    }
    auto const next = connect_to(where);
    parent.run(20ms);
    BOOST_TEST(parent.asked.empty());
    parent.start(); // taken back
    parent.run(20ms);
    BOOST_TEST(read_all(next) == "ok\n");
    parent.server.close(os::unlinked::all);
}

BOOST_AUTO_TEST_CASE(a_door_that_the_child_does_not_claim_goes)
{
    directory const place;
    host parent;
    parent.open(place / "claimed");
    parent.open(place / "dropped", request::stop);
    handoff::bequest given;
    parent.server.bequeath(given);
    parent.server.hand_over(given.records, {true, false});
    BOOST_TEST(fs::exists(place / "claimed"));
    BOOST_TEST(!fs::exists(place / "dropped"));
}

BOOST_AUTO_TEST_CASE(only_the_file_that_was_bound_is_unlinked)
{
    directory const place;
    host h;
    h.open(place / "mine");
    h.open(place / "theirs");
    h.open(abstract("unlink"));
    // While ours is still bound, so that its inode is not used again.
    fs::remove(place / "theirs");
    host other;
    other.open(place / "theirs");
    h.server.close(os::unlinked::all);
    BOOST_TEST(!fs::exists(place / "mine"));
    BOOST_TEST(fs::exists(place / "theirs"));
    BOOST_TEST(h.server.doors().empty());
}

BOOST_AUTO_TEST_CASE(what_was_inherited_stays_where_only_what_is_fresh_goes)
{
    host parent;
    directory const place;
    parent.open(place / "inherited");
    host child;
    child.claim(place / "inherited", parent.server.doors().front());
    child.open(place / "fresh");
    child.server.close(os::unlinked::fresh);
    BOOST_TEST(fs::exists(place / "inherited"));
    BOOST_TEST(!fs::exists(place / "fresh"));

    child.open(place / "fresh");
    child.server.close(os::unlinked::none);
    BOOST_TEST(fs::exists(place / "fresh"));
}

BOOST_AUTO_TEST_CASE(a_door_may_be_closed_by_the_request_that_came_through_it)
{
    io::sync io;
    control_server<io::sync> server;
    server.open(request::stop, abstract("self"), unclaimed);
    error_code ec;
    outcome<nothing> over;
    server.start(
        io,
        [&](request, trigger, requester who) {
            server.close(os::unlinked::all);
            who.answer("ok");
            over.set({});
        },
        ec);
    auto const client = connect_to(abstract("self"));
    io.wait(over, ec);
    BOOST_TEST(read_all(client) == "ok\n");
}

BOOST_AUTO_TEST_CASE(a_requester_may_be_a_function_or_nobody)
{
    requester{}.answer("nobody hears");
    BOOST_TEST(!requester{});
    std::string heard;
    requester who{[&](std::string const& line) { heard += line; }};
    BOOST_TEST(bool{who});
    who.answer("once");
    who.answer("twice");
    BOOST_TEST(heard == "once");
}
