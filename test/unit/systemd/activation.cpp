// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/systemd/activation.hpp>

#define BOOST_TEST_MODULE systemd_activation
#include <boost/test/unit_test.hpp>

#include "passed.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
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
        char pattern[] = "/tmp/ecdysis-activation-XXXXXX";
        BOOST_REQUIRE(::mkdtemp(pattern) != nullptr);
        path = pattern;
    }
    ~directory() { fs::remove_all(path); }
    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }
    std::string path;
};

os::owned_fd listening(socket_kind kind, address const& where, listen_options const& options = {})
{
    auto socket = sockets::open(kind, where, options);
    static_cast<void>(sockets::bind(socket, kind, where, options));
    if (!is_datagram(kind))
        sockets::listen(socket, kind, where, options);
    return passed::away(std::move(socket));
}
address bound(os::borrowed_fd socket)
{
    error_code ec;
    return address::bound(socket, ec);
}

/// What a first generation makes of it.
struct taken
{
    taken()
    {
        all.take([this](std::string what) { warnings.push_back(std::move(what)); });
        for (auto const* name : passed::variables)
            BOOST_TEST(::getenv(name) == nullptr, name);
    }

    auto claim(socket_kind kind, address const& where, listen_options const& options = {})
    {
        return all.claim(kind, where, options, unused);
    }
    std::vector<std::string> close_unclaimed()
    {
        std::vector<std::string> names;
        all.close_unclaimed([&](std::string const& name) { names.push_back(name); });
        return names;
    }
    /// One warning, with those words.
    void check_warned(std::string_view words) const
    {
        BOOST_TEST(warnings.size() == 1U);
        BOOST_TEST((!warnings.empty() && warnings.front().find(words) != std::string::npos),
                   (warnings.empty() ? "" : warnings.front()) << " has not \"" << words << "\"");
    }

    std::vector<std::string> warnings;
    systemd::activation all;
    std::vector<std::string> not_used;
    std::function<void(handoff::record const&, std::string)> unused = [this](auto const& what, std::string const& why) {
        not_used.push_back(systemd::stored_name(what) + ": " + why);
    };
};

void check(std::vector<std::string> const& seen, std::vector<std::string> const& expected)
{
    BOOST_TEST(seen == expected, boost::test_tools::per_element());
}

bool is_open(int number) { return ::fcntl(number, F_GETFD) != -1; }

/// What is said of a claim that is refused.
std::string refused(taken& now, socket_kind kind, address const& where, listen_options const& options)
{
    try {
        (void)now.claim(kind, where, options);
    } catch (error const& e) {
        BOOST_TEST((e.code() == errc::descriptor_mismatch));
        return e.what();
    }
    return "nothing was thrown";
}

} // namespace

BOOST_AUTO_TEST_SUITE(the_variables)

BOOST_AUTO_TEST_CASE(without_any_there_is_nothing)
{
    passed const none;
    ::unsetenv("LISTEN_PID");
    taken now;
    BOOST_TEST(now.warnings.empty());
    BOOST_TEST(now.close_unclaimed().empty());
    BOOST_TEST(!now.claim(socket_kind::tcp, "127.0.0.1:0"));
}

BOOST_AUTO_TEST_CASE(those_of_another_process_are_taken_away_and_its_descriptors_left_alone)
{
    for (auto const& pid : std::vector<std::string>{std::to_string(::getppid()), "0", "-1", "99999999999"}) {
        passed manager;
        manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
        passed::set("LISTEN_PID", pid);
        taken now;
        BOOST_TEST(now.warnings.empty());
        BOOST_TEST(now.close_unclaimed().empty());
        BOOST_TEST(is_open(3));
        BOOST_TEST(::fcntl(3, F_GETFD) == 0);
    }
}

BOOST_AUTO_TEST_CASE(without_a_pid_nothing_is_taken)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"));
    ::unsetenv("LISTEN_PID");
    taken now;
    BOOST_TEST(now.warnings.empty());
    BOOST_TEST(now.close_unclaimed().empty());
    BOOST_TEST(is_open(3));
}

BOOST_AUTO_TEST_CASE(a_pid_that_is_no_number_is_told)
{
    for (auto const* pid : {"", "x", "1x", " 1", "99999999999999999999"}) {
        passed manager;
        manager.add(listening(socket_kind::tcp, "127.0.0.1:0"));
        passed::set("LISTEN_PID", pid);
        taken now;
        now.check_warned("is no process id");
        BOOST_TEST(now.close_unclaimed().empty());
    }
}

BOOST_AUTO_TEST_CASE(the_inode_of_the_pidfd_tells_apart_whom_the_pid_does_not)
{
    error_code ec;
    auto const self = os::open_pidfd(os::this_process(), ec);
    auto const other = os::open_pidfd(os::parent_process(), ec);
    BOOST_REQUIRE(!ec);
    if (os::identify(self) == os::identify(other)) {
        BOOST_TEST_MESSAGE("this kernel has no pidfs");
        return;
    }
    auto const count = [](std::string const& inode) {
        passed manager;
        manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
        passed::set("LISTEN_PIDFDID", inode);
        taken now;
        return std::pair{now.close_unclaimed().size(), now.warnings.size()};
    };
    BOOST_TEST((count(std::to_string(os::identify(self).inode)) == std::pair<std::size_t, std::size_t>{1, 0}));
    BOOST_TEST((count(std::to_string(os::identify(other).inode)) == std::pair<std::size_t, std::size_t>{0, 0}));
    BOOST_TEST((count("x") == std::pair<std::size_t, std::size_t>{1, 1}));
}

BOOST_AUTO_TEST_CASE(what_is_no_count_is_told_and_nothing_taken)
{
    for (auto const* count : {"", "x", "1x", "-1", "-99999999999", "99999999999999999999", "+1", "0x1"}) {
        passed manager;
        manager.add(listening(socket_kind::tcp, "127.0.0.1:0"));
        passed::set("LISTEN_FDS", count);
        taken now;
        now.check_warned("is no number of descriptors");
        BOOST_TEST(now.close_unclaimed().empty());
        BOOST_TEST(is_open(3));
    }
}

BOOST_AUTO_TEST_CASE(a_huge_count_costs_little)
{
    for (auto const* count : {"2000000000", "2147483648", "9223372036854775807"}) {
        passed manager;
        manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
        passed::set("LISTEN_FDS", count);
        auto const began = std::chrono::steady_clock::now();
        taken now;
        BOOST_TEST((std::chrono::steady_clock::now() - began < 2s));
        BOOST_TEST(now.warnings.size() >= 3U); // the count, the names, and what is not open
        BOOST_TEST(now.warnings.size() <= 4U);
        auto const unclaimed = now.close_unclaimed();
        BOOST_TEST(unclaimed.front().starts_with("http (tcp 127.0.0.1:"));
    }
}

BOOST_AUTO_TEST_CASE(a_number_that_is_not_open_is_skipped_and_told)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "one");
    manager.skip();
    manager.skip();
    manager.add(listening(socket_kind::udp, "127.0.0.1:0"), "two");
    passed::set("LISTEN_FDNAMES", "one:a:b:two");
    taken now;
    now.check_warned("LISTEN_FDS announces 4 descriptors, but 2 of them, the first is number 4, are not open");
    BOOST_TEST(now.claim(socket_kind::tcp, "127.0.0.1:0", {.name = "one"}).has_value());
    BOOST_TEST(now.claim(socket_kind::udp, "127.0.0.1:0", {.name = "two"}).has_value());
}

BOOST_AUTO_TEST_CASE(what_this_process_opened_itself_is_left_alone)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    os::owned_fd const log{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
    BOOST_REQUIRE(log.get() == 4);
    passed::set("LISTEN_FDS", "2");
    passed::set("LISTEN_FDNAMES", "http:log");
    taken now;
    now.check_warned("number 4, is this process's own");
    BOOST_TEST(now.close_unclaimed().size() == 1U);
    BOOST_TEST(is_open(4));
}

BOOST_AUTO_TEST_CASE(names_that_are_too_few_too_many_or_empty)
{
    struct { char const* names; std::vector<std::string> expected; std::size_t warnings; } const each[] = {
        {nullptr, {"unknown", "unknown"}, 0}, {"a", {"a", "unknown"}, 1}, {"a:b:c", {"a", "b"}, 1}, {"a:", {"a", "unknown"}, 0},
        {":b", {"unknown", "b"}, 0}, {"", {"unknown", "unknown"}, 1}, {"a:a", {"a", "a"}, 0}, {"a:b", {"a", "b"}, 0},
    };
    for (auto const& [names, expected, warnings] : each) {
        passed manager;
        manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)});
        manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)});
        if (names != nullptr)
            passed::set("LISTEN_FDNAMES", names);
        taken now;
        BOOST_TEST(now.all.unclaimed_files() == expected, boost::test_tools::per_element());
        BOOST_TEST(now.warnings.size() == warnings);
    }
}

BOOST_AUTO_TEST_CASE(many_names_cost_little)
{
    passed manager;
    manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)});
    passed::set("LISTEN_FDNAMES", std::string(100'000, ':'));
    taken now;
    now.check_warned("100001 names for the 1 descriptors");
}

BOOST_AUTO_TEST_CASE(all_become_close_on_exec_and_sockets_non_blocking)
{
    passed manager;
    auto socket = listening(socket_kind::tcp, "127.0.0.1:0");
    ::fcntl(socket.get(), F_SETFL, 0);
    manager.add(std::move(socket));
    manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)});
    taken now;
    BOOST_TEST(::fcntl(3, F_GETFD) == FD_CLOEXEC);
    BOOST_TEST(::fcntl(4, F_GETFD) == FD_CLOEXEC);
    BOOST_TEST((::fcntl(3, F_GETFL) & O_NONBLOCK) != 0);
    BOOST_TEST((::fcntl(4, F_GETFL) & O_NONBLOCK) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(claims)

BOOST_AUTO_TEST_CASE(without_a_name_by_kind_and_address)
{
    directory const place;
    auto const kinds = {socket_kind::tcp, socket_kind::udp, socket_kind::unix_stream, socket_kind::unix_seqpacket,
                        socket_kind::unix_datagram};
    for (auto const kind : kinds) {
        bool const is_unix = kind != socket_kind::tcp && kind != socket_kind::udp;
        auto const path = place / name(kind);
        passed manager;
        manager.add(listening(kind, is_unix ? path : "127.0.0.1:0"), "service.socket");
        auto const where = bound(os::borrowed_fd{3});
        taken now;
        for (auto const other : kinds)
            if (other != kind && (other == socket_kind::tcp || other == socket_kind::udp) != is_unix)
                BOOST_TEST(!now.claim(other, where));
        BOOST_TEST(!now.claim(kind, is_unix ? address{place / "other"} : address{"127.0.0.2:0"}));
        auto const claimed = now.claim(kind, where);
        BOOST_REQUIRE(claimed.has_value());
        BOOST_TEST(claimed->fd.get() == 3);
        BOOST_TEST((claimed->record == handoff::record{.kind = handoff::wire_kind(kind),
                                                       .name = sockets::describe(kind, where),
                                                       .flags = handoff::manager_owned}));
        BOOST_TEST(!now.claim(kind, where));
        BOOST_TEST(now.all.unclaimed_files().empty());
        BOOST_TEST(now.close_unclaimed().empty());
        BOOST_TEST(is_open(3));
        BOOST_TEST(now.all.stored().empty());
    }
    BOOST_TEST(std::distance(fs::directory_iterator{place.path}, {}) == 3); // paths of the manager's stay
}

BOOST_AUTO_TEST_CASE(with_a_name_only_what_has_it)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "admin");
    auto const http = bound(os::borrowed_fd{3});
    taken now;
    auto const claimed = now.claim(socket_kind::tcp, "127.0.0.1:0", {.name = "admin"});
    BOOST_TEST((claimed && claimed->fd.get() == 4));
    auto const words = refused(now, socket_kind::tcp, http, {.name = "admin"});
    BOOST_TEST(words.find("claim \"admin\": expected a listening socket, tcp " + http.text()) != words.npos, words);
    BOOST_TEST(words.find("came tcp 127.0.0.1:") != words.npos, words);
    BOOST_TEST(words.find("(claimed)") != words.npos, words);
    BOOST_TEST(!now.claim(socket_kind::tcp, http, {.name = "https"})); // no such name: opened
    check(now.close_unclaimed(), {"http (tcp " + http.text() + ")"});
    BOOST_TEST(!is_open(3));
}

BOOST_AUTO_TEST_CASE(of_several_with_one_name_the_one_that_fits)
{
    directory const place;
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "web");
    manager.add(listening(socket_kind::udp, "127.0.0.1:0"), "web");
    manager.add(listening(socket_kind::unix_stream, place / "web"), "web");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "web");
    auto const last = bound(os::borrowed_fd{6});
    taken now;
    BOOST_TEST(now.claim(socket_kind::unix_stream, place / "web", {.name = "web"})->fd.get() == 5);
    BOOST_TEST(now.claim(socket_kind::udp, "127.0.0.1:0", {.name = "web"})->fd.get() == 4);
    BOOST_TEST(now.claim(socket_kind::tcp, last, {.name = "web"})->fd.get() == 6);
    auto const words = refused(now, socket_kind::udp, "127.0.0.1:0", {.name = "web"});
    BOOST_TEST(words.find("a bound socket, udp 127.0.0.1:0") != words.npos, words);
}

BOOST_AUTO_TEST_CASE(what_fits_but_is_not_as_asked_is_refused)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "[::]:0", {.v6_only = true}), "http");
    taken now;
    error_code ec;
    auto const where = address::bound(os::borrowed_fd{3}, ec);
    for (auto const* name : {"", "http"}) {
        auto const words = refused(now, socket_kind::tcp, where, {.name = name});
        BOOST_TEST(words.find("came one that accepts IPv6 alone") != words.npos, words);
    }
    BOOST_TEST(!now.claim(socket_kind::tcp, "[::]:0", {.v6_only = true})); // port 0 without a name could be any
    BOOST_TEST(now.claim(socket_kind::tcp, "[::]:0", {.name = "http", .v6_only = true}).has_value());
}

BOOST_AUTO_TEST_CASE(what_is_no_listener_is_a_file)
{
    directory const place;
    BOOST_REQUIRE(::mkfifo((place / "fifo").c_str(), 0600) == 0);
    auto const listener = listening(socket_kind::tcp, "127.0.0.1:0");
    auto const where = bound(listener);
    auto const client = passed::away(os::owned_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)});
    BOOST_REQUIRE(::connect(client.get(), where.data(), where.size()) == 0);
    passed manager;
    manager.add(os::owned_fd{::accept4(listener.get(), nullptr, nullptr, 0)}, "connection");
    manager.add(os::owned_fd{::open((place / "fifo").c_str(), O_RDWR | O_NONBLOCK)}, "fifo");
    manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)}, "fifo");
    auto udp = listening(socket_kind::udp, "127.0.0.1:0");
    auto const peer = bound(udp);
    BOOST_REQUIRE(::connect(udp.get(), peer.data(), peer.size()) == 0);
    manager.add(std::move(udp), "peer");
    manager.add(sockets::open(socket_kind::tcp, "127.0.0.1:0", {}), "idle");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    taken now;
    BOOST_TEST(!now.claim(socket_kind::tcp, where));
    BOOST_TEST(!now.claim(socket_kind::udp, peer));
    check(now.all.unclaimed_files(), {"connection", "fifo", "fifo", "peer", "idle"});
    BOOST_TEST(now.all.claim_file("fifo").get() == 4);
    BOOST_TEST(now.all.claim_file("connection").get() == 3);
    BOOST_TEST(!now.all.claim_file("http"));
    BOOST_TEST(!now.all.claim_file("nothing"));
    auto const words = refused(now, socket_kind::tcp, where, {.name = "fifo"});
    BOOST_TEST(words.find("came a file (claimed), a file") != words.npos, words);
    auto const left = now.close_unclaimed();
    BOOST_TEST(left.size() == 4U);
    BOOST_TEST(left.front() == "fifo (a file)");
}

BOOST_AUTO_TEST_CASE(what_is_given_back_can_be_claimed_again)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http");
    taken now;
    listen_options const named{.name = "http"};
    auto claimed = now.claim(socket_kind::tcp, "127.0.0.1:0", named);
    BOOST_TEST(!now.all.has(socket_kind::tcp, "127.0.0.1:0", named, now.unused));
    now.all.give_back(os::owned_fd{::fcntl(claimed->fd.get(), F_DUPFD_CLOEXEC, 50)});
    claimed.reset();
    BOOST_TEST(now.all.has(socket_kind::tcp, "127.0.0.1:0", named, now.unused));
    BOOST_TEST(now.claim(socket_kind::tcp, "127.0.0.1:0", named)->fd.get() >= 50);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(from_the_store)

BOOST_AUTO_TEST_CASE(port_0_keeps_its_port)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "http.socket");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "tcp 127.0.0.1%3A0");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "tcp 127.0.0.1%3A0");
    manager.add(listening(socket_kind::udp, "127.0.0.1:0"), "udp 127.0.0.1%3A0");
    taken now;
    BOOST_TEST(now.all.stored().size() == 3U);
    BOOST_TEST(now.claim(socket_kind::tcp, "127.0.0.1:0", {.name = "unknown to the manager"})->fd.get() == 4);
    auto const second = now.claim(socket_kind::tcp, "127.0.0.1:0");
    BOOST_TEST(second->fd.get() == 5);
    BOOST_TEST((second->record.kind == handoff::descriptor_kind::listener));
    BOOST_TEST(second->record.name == "tcp 127.0.0.1:0");
    BOOST_TEST(second->record.flags == handoff::in_store);
    BOOST_TEST(!now.claim(socket_kind::tcp, "127.0.0.1:0")); // the other's could be any
    BOOST_TEST(now.close_unclaimed().size() == 2U);
    BOOST_TEST(now.not_used.empty());
}

BOOST_AUTO_TEST_CASE(a_path_is_used_only_while_it_leads_there)
{
    directory const place;
    auto const path = place / "x";
    auto const store = [&](passed& manager) {
        fs::remove(path);
        auto socket = listening(socket_kind::unix_stream, path);
        manager.add(std::move(socket), systemd::stored_name({.kind = handoff::descriptor_kind::listener,
                                                             .name = "unix " + path,
                                                             .device = os::identify(path).device,
                                                             .inode = os::identify(path).inode,
                                                             .flags = handoff::path_owned}));
    };
    {
        passed manager;
        store(manager);
        taken now;
        auto const claimed = now.claim(socket_kind::unix_stream, path);
        BOOST_REQUIRE(claimed.has_value());
        BOOST_TEST(claimed->record.flags == (handoff::path_owned | handoff::in_store));
        BOOST_TEST((os::identity{claimed->record.device, claimed->record.inode} == os::identify(path)));
    }
    for (bool const replaced : {false, true}) {
        passed manager;
        store(manager);
        fs::remove(path);
        os::owned_fd other;
        if (replaced)
            other = listening(socket_kind::unix_stream, path);
        taken now;
        BOOST_TEST(!now.claim(socket_kind::unix_stream, path));
        BOOST_REQUIRE(now.not_used.size() == 1U);
        BOOST_TEST(now.not_used.front().ends_with(replaced ? "that path leads to another file by now; it is opened anew"
                                                           : "that path is gone; it is opened anew"));
        BOOST_TEST(!is_open(3));
        BOOST_TEST(fs::exists(path) == replaced);
        BOOST_TEST(now.close_unclaimed().empty());
        BOOST_TEST(now.all.stored().empty()); // it is all over
    }
    {
        passed manager;
        store(manager);
        taken now;
        check(now.close_unclaimed(), {"unix " + path});
        BOOST_TEST(!fs::exists(path)); // nobody else would
    }
}

BOOST_AUTO_TEST_CASE(what_is_not_what_its_name_says_is_opened_anew)
{
    passed manager;
    manager.add(listening(socket_kind::tcp, "[::]:0", {.v6_only = true}), "tcp [%3A%3A]%3A0");
    manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)}, "tcp 127.0.0.1%3A1");
    manager.add(listening(socket_kind::udp, "127.0.0.1:0"), "tcp 127.0.0.1%3A2");
    taken now;
    for (auto const* where : {"[::]:0", "127.0.0.1:1", "127.0.0.1:2"})
        BOOST_TEST(!now.claim(socket_kind::tcp, where));
    BOOST_REQUIRE(now.not_used.size() == 3U);
    BOOST_TEST(now.not_used[0].find("came one that accepts IPv6 alone") != std::string::npos, now.not_used[0]);
    BOOST_TEST(now.not_used[1].starts_with("tcp 127.0.0.1%3A1: claim tcp 127.0.0.1:1"), now.not_used[1]);
    BOOST_TEST(now.not_used[2].find("came a socket of type") != std::string::npos, now.not_used[2]);
    BOOST_TEST(now.close_unclaimed().empty());
}

BOOST_AUTO_TEST_CASE(files_have_their_own_names)
{
    passed manager;
    manager.add(os::owned_fd{::open("/dev/null", O_RDONLY)}, "file my%20state");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "file socket");
    taken now;
    check(now.all.unclaimed_files(), {"my state", "socket"});
    BOOST_TEST(now.all.claim_file("my state").get() == 3);
    BOOST_TEST(!now.claim(socket_kind::tcp, "127.0.0.1:0"));
    check(now.close_unclaimed(), {"socket"});
}

BOOST_AUTO_TEST_SUITE_END()
