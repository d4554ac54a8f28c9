// SPDX-License-Identifier: BSL-1.0
// What is handed over: every kind of socket, shards, files, live connections, channels, state; how many there can be,
// and what becomes of those that nobody claims.
#define BOOST_TEST_MODULE restart_descriptor
#include "harness.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <numeric>

using namespace restart;

namespace {

/// A datagram's answer, asked for again when nothing comes: UDP may lose some. A Unix client needs a name to be
/// answered at, and gets one from the kernel (autobind, unix(7)).
std::optional<reply> ask_datagram(ecdysis::address const& to)
{
    ecdysis::os::owned_fd const socket{::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ::timeval const time{5, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    if (to.family() == AF_UNIX) {
        ::sockaddr const own{AF_UNIX, {}};
        ::bind(socket.get(), &own, sizeof own.sa_family);
    }
    if (::connect(socket.get(), to.data(), to.size()) != 0)
        return {};
    for (int i = 0; i != 5; ++i) {
        char text[256];
        ::send(socket.get(), "who\n", 4, 0);
        auto const size = ::recv(socket.get(), text, sizeof text, 0);
        if (size > 0)
            return reply{std::string(text, static_cast<std::size_t>(size) - 1)};
        if (errno == ECONNREFUSED)
            return {};
    }
    return {};
}

/// The same port by another host: for sockets bound to all.
ecdysis::address at_host(std::string const& host, ecdysis::address const& bound)
{
    return host + ":" + std::to_string(bound.port());
}

/// Where the first generation listened or the one that serves does, in its order.
std::vector<std::string> places(service const& of, unsigned generation)
{
    std::vector<std::string> result;
    auto const pid = generation == of.generation() ? of.pid() : of.first();
    for (auto const& one : of.steps("listening"))
        if (one.pid == pid)
            result.push_back(one.text);
    return result;
}

void same_places(service const& of, unsigned generation)
{
    BOOST_TEST(places(of, generation) == places(of, 0), boost::test_tools::per_element());
}

/// An upgrade that must succeed, and the generation after it has what the one before had.
void upgrades(service& one)
{
    auto const before = one.settled();
    auto const line = one.upgrade();
    BOOST_TEST_REQUIRE(line.starts_with("ok generation="), line);
    one.check_succeeded(before);
}

/// The same while clients come and go.
void upgrades_under_load(service& one)
{
    auto const line = one.upgrade();
    BOOST_TEST_REQUIRE(line.starts_with("ok generation="), line);
}

/// One that must fail for that reason, with a child that misbehaves, and shows nowhere.
void fails(service& one, std::string const& behaviour, std::string const& reason)
{
    auto const before = one.settled();
    one.behave(behaviour);
    auto const line = one.upgrade();
    BOOST_TEST(line.find(reason) != line.npos, line);
    one.check_unharmed(before);
    one.behave("");
}

void fails_under_load(service& one, std::string const& behaviour, std::string const& reason)
{
    one.behave(behaviour);
    auto const line = one.upgrade();
    BOOST_TEST(line.find(reason) != line.npos, line);
    one.behave("");
}

/// New connections, each of which has asked.
std::vector<connection> connect_all(ecdysis::address const& to, std::size_t count)
{
    std::vector<connection> result;
    for (std::size_t i = 0; i != count; ++i) {
        result.emplace_back(to);
        BOOST_TEST((result.back().state() == restart::result::answered), "refused");
        result.back().send("who");
    }
    return result;
}

/// How many of them are answered by that generation.
std::size_t answers(std::vector<connection>& all, unsigned generation)
{
    std::size_t result = 0;
    for (auto& one : all)
        if (auto const line = one.receive())
            result += reply{*line}.generation == generation;
    return result;
}

void nothing_failed(prober& load)
{
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
}

/// Where numbers are scarce: one connection at a time.
constexpr probing one_by_one{.expected = probing::expectation::no_failure, .fresh = 1, .kept = 0};

/// A user of this test's own: what others have in flight counts for each user together.
::uid_t some_user()
{
    return 40'000 + static_cast<::uid_t>(::getpid() % 20'000);
}

std::string becomes_some_user()
{
    return ::geteuid() == 0 ? "\nbegin user " + std::to_string(some_user()) : std::string{};
}

/// The manager heard of the child from `parent`, and nothing was amiss, but perhaps what is expected.
void manager_was_told(service& one, ::pid_t parent, std::string const& expected = {})
{
    if (one.built().has_manager())
        BOOST_TEST(one.manager().heard("MAINPID=" + std::to_string(one.pid()), parent));
    for (auto const& each : one.steps("warning"))
        if (each.text != expected)
            BOOST_ERROR("warning: " << each.text);
}

/// How many established connections wait in the queue of each socket that listens there.
std::vector<int> queues(ecdysis::address const& at)
{
    std::vector<int> result;
    std::ifstream file{"/proc/net/tcp"};
    std::string line;
    for (std::getline(file, line); std::getline(file, line);) {
        std::istringstream words{line};
        std::string number, local, remote, state, sizes;
        words >> number >> local >> remote >> state >> sizes; // addresses as HEX:PORT, sizes as SENDING:RECEIVING
        if (state == "0A" && std::stoi(local.substr(local.find(':') + 1), nullptr, 16) == at.port())
            result.push_back(std::stoi(sizes.substr(sizes.find(':') + 1), nullptr, 16));
    }
    return result;
}

/// Puts more descriptors in flight than a limit of 1024 allows that user, and keeps them there.
class hog
{
public:
    explicit hog(::uid_t user)
    {
        int pair[2];
        BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        ecdysis::os::owned_fd const reader{pair[0]}, writer{pair[1]};
        pid_ = ::fork();
        if (pid_ == 0) {
            ::rlimit const limit{1024, 1024};
            if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || ::setresuid(user, user, user) != 0)
                ::_exit(1);
            for (int sent = 0; sent <= 1024; sent += 250)
                if (!send_250(writer.get()))
                    ::_exit(2);
            for (::raise(SIGSTOP);;)
                ::pause();
        }
        BOOST_REQUIRE(wait_until([&] {
            auto const found = look_at(pid_);
            return found && found->state == 'T';
        }));
    }
    hog(hog const&) = delete;
    hog& operator=(hog const&) = delete;
    ~hog()
    {
        ::kill(pid_, SIGKILL);
        static_cast<void>(wait_until([&] { return family::instance().ended(pid_).has_value(); }));
    }

private:
    static bool send_250(int to)
    {
        constexpr std::size_t size = 250 * sizeof(int); // all of them descriptor 0
        alignas(::cmsghdr) char control[CMSG_SPACE(size)] = {};
        char byte = 0;
        ::iovec data{&byte, 1};
        ::msghdr message{};
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        auto* const rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(size);
        return ::sendmsg(to, &message, 0) == 1;
    }

    ::pid_t pid_ = -1;
};

} // namespace

RESTART_TEST(every_kind_of_socket)
{
    folder const here;
    auto const name = "@" + (here / "abstract");
    auto const path = [&](char const* what) { return here / what; };
    service one{built,
                {.listens = {"tcp:127.0.0.1:0", "tcp:[::1]:0", "tcp:[::]:0", "v6only:tcp:[::]:0",
                             "unix:" + path("stream"), "unix:" + name + "-stream", "seqpacket:" + path("packets"),
                             "seqpacket:" + name + "-packets", "udp:127.0.0.1:0", "udp:[::1]:0", "udp:[::]:0",
                             "v6only:udp:[::]:0", "datagram:" + path("datagrams"), "datagram:" + name + "-datagrams"}}};
    auto const where = [&](std::size_t i) { return one.address(i); };
    auto const check = [&] {
        for (auto const& each : {where(0), where(1), at_host("127.0.0.1", where(2)), at_host("[::1]", where(2)),
                                 at_host("[::1]", where(3)), where(4), where(5), where(6), where(7)}) {
            bool const packets = each.text() == where(6).text() || each.text() == where(7).text();
            auto const got = connection{each, packets ? SOCK_SEQPACKET : SOCK_STREAM}.ask();
            BOOST_TEST_REQUIRE(got.has_value(), each.text());
            BOOST_TEST(got->generation == one.generation(), each.text());
        }
        for (auto const& each : {where(8), where(9), at_host("127.0.0.1", where(10)), at_host("[::1]", where(10)),
                                 at_host("[::1]", where(11)), where(12), where(13)}) {
            auto const got = ask_datagram(each);
            BOOST_TEST_REQUIRE(got.has_value(), each.text());
            BOOST_TEST(got->generation == one.generation(), each.text());
        }
        // IPv6 alone; somebody else may have the port at 127.0.0.1.
        auto const is_ours = [&](auto const& got) { return got.has_value() && got->pid == one.pid(); };
        BOOST_TEST(!is_ours(connection{at_host("127.0.0.1", where(3))}.ask()));
        BOOST_TEST(!is_ours(ask_datagram(at_host("127.0.0.1", where(11)))));
    };
    check();
    auto const before = one.settled();
    {
        prober tcp{where(0), SOCK_STREAM, 1, 1}, dual{at_host("127.0.0.1", where(2)), SOCK_STREAM, 1, 1},
            stream{where(4), SOCK_STREAM, 1, 1}, packets{where(7), SOCK_SEQPACKET, 1, 1};
        for (unsigned i = 1; i <= 3; ++i) {
            upgrades_under_load(one);
            same_places(one, i); // and so the ports stay, too
            for (auto* const each : {&tcp, &dual, &stream, &packets})
                BOOST_TEST(each->go_on(5));
        }
        for (auto* const each : {&tcp, &dual, &stream, &packets})
            nothing_failed(*each);
    }
    check();
    one.check_descriptors(one.pid(), before.descriptors);
    fails(one, "claimed exit 3", "exit status 3");
    check();
    BOOST_TEST(one.steps("setup").size() == 14U); // the callback sees new sockets alone
    for (auto const* each : {"stream", "packets", "datagrams"})
        BOOST_TEST(std::filesystem::exists(path(each)));
    one.stop();
    for (auto const* each : {"stream", "packets", "datagrams"})
        BOOST_TEST(!std::filesystem::exists(path(each)));
    BOOST_TEST(one.steps("unclaimed").empty());
    BOOST_TEST(one.steps("warning").empty());
}

RESTART_TEST(two_shards_to_four_and_a_crash)
{
    service one{built, {.listens = {"shards:2:127.0.0.1:0"}}};
    auto const before = one.settled();
    auto established = connect_all(one.address(), 60);
    BOOST_TEST(answers(established, 0) == 60U);
    prober load{one.address(), SOCK_STREAM, 3, 0};
    for (int i = 0; i != 3; ++i) {
        one.behave("claim shards 4\nclaimed kill");
        BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"killed by signal 9 (Killed)\"");
    }
    BOOST_TEST(load.go_on(100));
    for (auto& each : established)
        BOOST_TEST(each.ask().has_value(), "an established connection was lost");

    one.behave("claim shards 4");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.behave("");
    BOOST_TEST(places(one, 1).size() == 4U);
    BOOST_TEST(load.go_on(100));
    for (auto& each : established)
        BOOST_TEST(each.ask().value().last);
    one.check_ended_well(before.pid);
    nothing_failed(load);
    auto now = before.descriptors;
    now.insert(now.end(), 2, "socket:[]");
    std::ranges::sort(now);
    established.clear();
    one.check_descriptors(one.pid(), now);
    one.stop();
}

RESTART_TEST(four_shards_to_two_with_full_queues)
{
    constexpr int backlog = 15;
    service one{built,
                {.listens = {"shards:4:127.0.0.1:0"}, .arguments = {"--backlog", std::to_string(backlog)},
                 .behave = "accept late"}};
    auto const before = one.settled();
    auto const where = one.address();
    prober load{where, SOCK_STREAM, 1, 1}; // which waits in the queues until the upgrade, too
    auto const sum = [](std::vector<int> const& all) { return std::accumulate(all.begin(), all.end(), 0); };
    BOOST_TEST_REQUIRE(wait_until([&] { return sum(queues(where)) == 2; }));
    // The kernel chooses the shard. Where its queue is full, connecting does not come to its end.
    std::vector<ecdysis::os::owned_fd> started;
    std::vector<int> full;
    BOOST_TEST_REQUIRE(wait_until([&] {
        for (int i = 0; i != 10; ++i) {
            started.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            static_cast<void>(::connect(started.back().get(), where.data(), where.size()));
        }
        full = queues(where);
        return full.size() == 4 && std::ranges::all_of(full, [](int size) { return size > backlog; });
    }));
    auto const state = [](ecdysis::os::owned_fd const& socket) {
        ::tcp_info info{};
        ::socklen_t size = sizeof info;
        ::getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
        return info.tcpi_state;
    };
    std::vector<connection> waiting;
    for (auto& each : started)
        if (state(each) == TCP_ESTABLISHED) {
            waiting.emplace_back(std::move(each));
            waiting.back().send("who");
        }
    BOOST_TEST(sum(full) == 4 * (backlog + 1));
    BOOST_TEST(waiting.size() + 2 >= 4U * (backlog + 1));
    BOOST_TEST(waiting.size() < started.size());
    started.clear();
    one.behave("claim shards 2"); // and gets four, for none of them may go with what is in its queue
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(answers(waiting, 1) == waiting.size());
    for (auto const& each : waiting)
        BOOST_TEST((each.state() == restart::result::answered));
    waiting.clear();
    nothing_failed(load);
    one.check_succeeded(before);
    BOOST_TEST(places(one, 1).size() == 4U);
    BOOST_TEST(one.steps("unclaimed").empty());
    one.stop();
}

RESTART_TEST(udp_shards)
{
    service one{built, {.listens = {"127.0.0.1:0", "udp-shards:2:127.0.0.1:0"}}};
    auto const check = [&] { // the kernel chooses the shard by the client's port
        for (int i = 0; i != 40; ++i) {
            auto const got = ask_datagram(one.address(1));
            BOOST_TEST_REQUIRE(got.has_value());
            BOOST_TEST(got->generation == one.generation());
        }
    };
    check();
    fails(one, "claim shards 4\nclaimed kill", "killed by signal 9");
    check();
    one.behave("claim shards 4");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.behave("");
    one.check_ended_well(one.first());
    check();
    BOOST_TEST(places(one, 1).size() == 5U);
    upgrades(one);
    BOOST_TEST(places(one, 2).size() == 5U);
    check();
    one.stop();
}

RESTART_TEST(a_thousand_descriptors)
{
    service one{built,
                {.listens = {"127.0.0.1:0", "idle:500:127.0.0.1:0"},
                 .arguments = {"--offer", "file:500", "--drain", "500"}, // nobody accepts from most of them
                 .behave = "begin nofile 2048"}};
    auto const before = one.settled();
    prober load{one.address(), SOCK_STREAM, 1, 1};
    for (unsigned i = 1; i <= 3; ++i) {
        upgrades_under_load(one);
        same_places(one, i);
    }
    BOOST_TEST(one.steps("offered").back().text == "file 500 of 500");
    nothing_failed(load);
    one.check_descriptors(one.pid(), before.descriptors);
    fails(one, "claimed exit 3", "exit status 3");
    for (std::size_t i = 1; i <= 500; i += 37)
        BOOST_TEST((connection{one.address(i)}.state() == result::answered));
    one.stop();
}

RESTART_TEST(an_unprivileged_user_with_a_small_limit)
{
    service one{built,
                {.listens = {"127.0.0.1:0", "idle:800:127.0.0.1:0"}, .behave = "begin nofile 1024" + becomes_some_user()}};
    one.run_next_for_anybody();
    auto const before = one.settled();
    prober load{one.address(), SOCK_STREAM, 1, 1};
    ::pid_t parent = 0;
    for (unsigned i = 1; i <= 3; ++i) {
        parent = one.pid();
        upgrades_under_load(one);
        same_places(one, i);
    }
    nothing_failed(load);
    manager_was_told(one, parent);
    one.check_descriptors(one.pid(), before.descriptors);
    one.stop();
}

RESTART_TEST_AS_ROOT(others_of_the_user_have_as_many_descriptors_in_flight)
{
    service one{built, {.behave = "begin nofile 1024" + becomes_some_user()}};
    one.run_next_for_anybody();
    auto const before = one.settled();
    prober load{one.address(), SOCK_STREAM, 1, 1};
    std::optional<hog> other{std::in_place, some_user()};
    if (is_spawner()) { // whose helper must get them first, which the service waits for in line, but not for long
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("failed phase=launching reason=\""), line);
        BOOST_TEST(line.ends_with(": Too many references: cannot splice\""), line);
        other.reset();
        BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
        nothing_failed(load);
        one.check_succeeded(before);
        return one.stop();
    }
    auto asker = one.at_control();
    one.wait_for("launched");
    BOOST_TEST(load.go_on(200));
    if (built.transport == "socketpair")
        BOOST_TEST(one.steps("inherited").empty()); // it is tried again until then
    other.reset();
    BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
    nothing_failed(load);
    one.check_succeeded(before);
    // A barrier is a descriptor in flight, too; where the handoff has none, the upgrade goes on while there is no room.
    manager_was_told(one, before.pid,
                     built.transport == "named_pipe" ? "wait for the service manager: Too many references: cannot splice" : "");
    one.stop();
}

RESTART_TEST(more_descriptors_than_a_child_may_have)
{
    service one{built, {.listens = {"127.0.0.1:0", "idle:200:127.0.0.1:0"}, .behave = "begin nofile 250",
                 .probed = answers_all}};
    auto const before = one.settled();
    auto const line = one.upgrade();
    BOOST_TEST(line.starts_with("failed phase=launching reason=\""), line);
    BOOST_TEST(line.find("too many descriptors for RLIMIT_NOFILE") != line.npos, line);
    BOOST_TEST(one.steps("launched").empty());
    one.check_unharmed(before);
    one.stop();
}

RESTART_TEST(no_number_left_in_the_parent)
{
    // None is free when the upgrade begins; at the next attempt one, and so on, until they are enough.
    service one{built,
                {.behave = "begin nofile 200\nupgrade_requested exhaust 0\nupgrade_failed release",
                 .probed = answers_all}};
    auto const before = one.settled();
    std::string line;
    std::size_t failed = 0;
    for (; failed != 40 && !(line = one.upgrade()).starts_with("ok "); ++failed) {
        BOOST_TEST(line.starts_with("failed phase="), line);
        BOOST_TEST(line.find("Too many open files") != line.npos, line);
        one.check_unharmed(before);
    }
    BOOST_TEST(failed > 0U);
    BOOST_TEST(failed < 40U);
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST(no_number_left_in_the_child)
{
    service one{built, {.listens = {"127.0.0.1:0", "idle:40:127.0.0.1:0"}, .probed = one_by_one}};
    auto const before = one.settled();
    std::string line;
    for (int limit = 6; limit < 100 && !line.starts_with("ok "); limit += 5) {
        one.behave("begin nofile " + std::to_string(limit));
        line = one.upgrade();
        if (!line.starts_with("ok ")) {
            BOOST_TEST(line.starts_with("failed phase="), line);
            one.check_unharmed(before);
        }
    }
    one.check_succeeded(before);
    one.write("output", ""); // where the limit was too low for the program to open its own log
    one.stop();
}

RESTART_TEST(no_number_left_to_accept)
{
    service one{built, {.behave = "begin nofile 90", .probed = one_by_one}};
    auto const before = one.settled();
    auto waiting = connect_all(one.address(), 150); // some are served, the others wait in the queue
    BOOST_TEST(waiting.front().receive().has_value());
    BOOST_TEST(wait_until([&] { return descriptors(one.pid()).size() == 90U; }));
    one.signal(SIGHUP); // a connection to a control socket could not be accepted either
    one.wait_for("upgrade_failed");
    std::size_t answered = 1;
    for (std::size_t i = 1; i != waiting.size(); ++i) {
        waiting[i - 1].abandon(); // and so there is a number for another one
        answered += waiting[i].receive().has_value();
    }
    BOOST_TEST(answered == 150U);
    waiting.clear();
    one.check_unharmed(before);
    BOOST_TEST(one.steps("error").empty());
    upgrades(one);
    one.stop();
}

RESTART_TEST(what_nobody_claims_is_emptied_reported_and_closed)
{
    folder const here;
    auto const path = here / "socket";
    service one{built,
                {.listens = {"127.0.0.1:0", "unix:" + path, "unix:@" + path, "datagram:" + path + "s"},
                 .behave = "accept late"}};
    auto const before = one.settled();
    auto claimed = connect_all(one.address(0), 20);
    auto by_path = connect_all(one.address(1), 50);
    auto by_name = connect_all(one.address(2), 50);
    one.behave("claim without unix");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.behave("");
    BOOST_TEST(!std::filesystem::exists(path));
    BOOST_TEST(answers(claimed, 1) == 20U);
    BOOST_TEST(answers(by_path, 0) == 50U); // by the parent, which still accepts what is in the queues
    BOOST_TEST(answers(by_name, 0) == 50U);
    claimed.clear();
    one.check_ended_well(one.first());
    BOOST_TEST((connection{ecdysis::address{"@" + path}}.state() == result::refused));
    auto const unclaimed = one.steps("unclaimed");
    BOOST_REQUIRE(unclaimed.size() == 2U);
    BOOST_TEST(unclaimed[0].text == "nobody claimed unix " + path + ", closed");
    BOOST_TEST(unclaimed[1].text == "nobody claimed unix @" + path + ", closed");
    BOOST_TEST(unclaimed[0].generation == 1U);

    BOOST_TEST(std::filesystem::exists(path + "s"));
    auto without = before.descriptors;
    without.erase(std::ranges::find(without, "socket:[]"));
    without.erase(std::ranges::find(without, "socket:[]"));
    one.check_succeeded({0, before.pid, without});

    auto const second = one.pid();
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 ")); // and opens them anew
    one.check_succeeded({1, second, before.descriptors});
    BOOST_TEST(connection{ecdysis::address{path}}.ask().value().generation == 2U);
    BOOST_TEST(connection{ecdysis::address{"@" + path}}.ask().value().generation == 2U);
    BOOST_TEST(ask_datagram(path + "s").value().generation == 2U);
    one.stop();
    BOOST_TEST(!std::filesystem::exists(path));
    BOOST_TEST(!std::filesystem::exists(path + "s"));
}

RESTART_TEST(a_path_that_a_failed_child_left_is_stale)
{
    folder const here;
    auto const path = here / "socket";
    service one{built, {.listens = {"127.0.0.1:0", "unix:" + path}}};
    one.behave("claim without unix");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_ended_well(one.first());
    BOOST_TEST(!std::filesystem::exists(path));
    fails(one, "claimed exit 3", "exit status 3"); // it left its path behind
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    BOOST_TEST(connection{ecdysis::address{path}}.ask().value().generation == 2U);
    one.stop();
    BOOST_TEST(!std::filesystem::exists(path));
}

RESTART_TEST(a_path_of_somebody_else_stays_and_a_stale_one_goes)
{
    folder const here;
    auto const path = here / "socket";
    ecdysis::address const where{path};
    { // one that a process left behind that has gone
        ecdysis::os::owned_fd const old{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        BOOST_REQUIRE(::bind(old.get(), where.data(), where.size()) == 0);
    }
    service one{built, {.listens = {"127.0.0.1:0", "unix:" + path}}};
    BOOST_TEST(connection{where}.ask().has_value());
    upgrades(one);
    BOOST_TEST(connection{where}.ask().value().generation == 1U);

    std::filesystem::remove(path);
    ecdysis::os::owned_fd const other{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    BOOST_REQUIRE(::bind(other.get(), where.data(), where.size()) == 0);
    auto const before = one.pid();
    one.behave("claim without unix");
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.check_ended_well(before);
    BOOST_TEST(std::filesystem::exists(path));
    one.stop();
    BOOST_TEST(std::filesystem::exists(path));
}

RESTART_TEST(a_path_of_somebody_else_stays_at_a_stop)
{
    folder const here;
    auto const path = here / "socket";
    service one{built, {.listens = {"127.0.0.1:0", "unix:" + path}}};
    upgrades(one);
    std::filesystem::remove(path);
    std::ofstream{path} << "mine\n";
    one.stop();
    BOOST_TEST(std::filesystem::exists(path));
}

RESTART_TEST(a_live_connection_goes_over_with_what_was_read_of_it)
{
    service one{built};
    connection moving{one.address()};
    BOOST_TEST(moving.ask().value().generation == 0U);
    moving.send("offer\nwho\nw"); // the rest was read, and not answered
    BOOST_TEST(moving.receive().has_value());
    fails(one, "claimed exit 3", "exit status 3");
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    BOOST_TEST(reply{moving.receive().value_or("")}.generation == 1U);
    moving.send("ho");
    for (int i = 0; i != 2; ++i) // "w" with the line's end, and "ho"
        BOOST_TEST(reply{moving.receive().value_or("")}.generation == 1U);
    one.check_ended_well(one.first());
    BOOST_TEST(moving.ask().value().pid == one.pid());
    moving.abandon();
    one.stop();
}

RESTART_TEST(files_of_one_name_keep_their_order)
{
    service one{built, {.arguments = {"--offer", "file:20", "--offer", "other:3"}}};
    std::vector<std::string> expected;
    for (auto const& [name, count] : {std::pair{"file", 20}, std::pair{"other", 3}})
        for (int i = 0; i != count; ++i)
            expected.push_back(std::string{name} + " number " + std::to_string(i));
    for (unsigned generation = 1; generation <= 3; ++generation) {
        upgrades(one);
        std::vector<std::string> claimed;
        for (auto const& each : one.steps("claimed"))
            if (each.generation == generation)
                claimed.push_back(each.text);
        BOOST_TEST(claimed == expected, boost::test_tools::per_element());
    }
    BOOST_TEST(one.steps("unclaimed").empty());
    one.stop();
}

RESTART_TEST(a_channel_between_each_generation_and_the_next)
{
    service one{built, {.arguments = {"--channel"}}};
    auto const before = one.settled();
    for (unsigned i = 1; i <= 3; ++i) {
        fails(one, "claimed exit 3", "exit status 3");
        BOOST_TEST(one.upgrade().starts_with("ok "));
        BOOST_TEST(one.wait_for("channel", i).text == "generation " + std::to_string(i) + " greets its parent");
        one.check_descriptors(one.pid(), before.descriptors);
    }
    one.stop();
}

RESTART_TEST(state_early_and_late)
{
    service one{built, {.arguments = {"--state"}}};
    BOOST_TEST(one.ask("state").text.ends_with(" early=none late=none"));
    for (unsigned i = 1; i <= 3; ++i) {
        upgrades(one);
        auto const of = "-of-" + std::to_string(i - 1);
        BOOST_TEST(one.ask("state").text.ends_with(" early=early" + of + " late=late" + of));
    }
    BOOST_TEST(one.steps("undone").empty());
    one.stop();
}

RESTART_TEST(state_of_any_size)
{
    service one{built, {.arguments = {"--state"}, .behave = "early size 0\nlate size 67108864"}};
    one.behave("early size 67108864\nlate size 0");
    upgrades(one);
    BOOST_TEST(one.ask("state").text.ends_with(" early=0-good-bytes late=67108864-good-bytes"));
    one.behave("");
    upgrades(one);
    BOOST_TEST(one.ask("state").text.ends_with(" early=67108864-good-bytes late=0-good-bytes"));
    one.stop();
}

RESTART_TEST(early_state_that_cannot_be_filled_fails_the_upgrade)
{
    service one{built, {.arguments = {"--state"}, .behave = "early throw the cache is locked"}};
    fails(one, "", "failed phase=launching reason=\"fill state 'early': the cache is locked");
    BOOST_TEST(one.steps("launched").empty());
    BOOST_TEST(one.steps("undone").size() == 1U);
    one.stop();
}

RESTART_TEST(late_state_that_cannot_be_filled_fails_the_upgrade)
{
    service one{built, {.arguments = {"--state"}, .behave = "late throw the cache is locked"}};
    fails(one, "", "failed phase=committing reason=\"fill state 'late': the cache is locked");
    BOOST_TEST(one.steps("undone").size() == 2U); // early was filled, and late as far as it went
    one.stop();
}

RESTART_TEST(state_is_undone_when_the_upgrade_fails)
{
    service one{built, {.arguments = {"--state"}}};
    fails(one, "claimed exit 3", "exit status 3");
    BOOST_REQUIRE(one.steps("undone").size() == 1U); // late is filled at commit
    BOOST_TEST(one.steps("undone")[0].text == "early");
    fails(one, "may-accept kill", "killed by signal 9");
    BOOST_TEST(one.steps("undone").size() == 3U);
    upgrades(one);
    BOOST_TEST(one.steps("undone").size() == 3U);
    one.stop();
}

RESTART_TEST(a_count_is_exact_over_all_generations)
{
    service one{built, {.arguments = {"--state"}}};
    auto const before = one.settled();
    auto const where = one.address();
    std::atomic<unsigned long> count = 0;
    std::string wrong;
    std::jthread client{[&](std::stop_token ends) {
        while (!ends.stop_requested() && wrong.empty()) {
            connection asks{where};
            auto const got = asks.ask("count");
            asks.abandon();
            if (!got) {
                wrong = "a request was lost";
            } else if (got->text.find("later") == std::string::npos) { // not between fill and serving
                unsigned long generation = 0, pid = 0, number = 0;
                std::istringstream{got->text} >> generation >> pid >> number;
                if (number != ++count)
                    wrong = got->text + ", expected " + std::to_string(count);
            }
        }
    }};
    auto const goes_on = [&] {
        auto const now = count.load();
        BOOST_TEST(wait_until([&] { return count > now + 10; }));
    };
    for (unsigned i = 1; i <= 20; ++i) {
        if (i % 4 == 1)
            fails_under_load(one, "claimed exit 3", "exit status 3");
        if (i % 4 == 3)
            fails_under_load(one, "may-accept kill", "killed by signal 9");
        goes_on();
        BOOST_TEST(one.upgrade().starts_with("ok generation=" + std::to_string(i) + " "));
        goes_on();
    }
    client.request_stop();
    client.join();
    BOOST_TEST(wrong == "");
    one.check_succeeded(before);
    one.stop();
}
