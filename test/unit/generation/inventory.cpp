// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/inventory.hpp>

#define BOOST_TEST_MODULE inventory
#include <boost/test/unit_test.hpp>

#include <ecdysis/io/sync.hpp>

#include "../systemd/passed.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace ecdysis;
namespace fs = std::filesystem;

namespace {

struct directory
{
    directory()
    {
        auto name = (fs::temp_directory_path() / "ecdysis-inventory.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

::mode_t mode_of(std::string const& path)
{
    struct ::stat status{};
    BOOST_REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

/// A socket on `path` as a parent hands it over, bound with `mode`; and what a child that asks for `asked` is warned of
/// at commit.
struct inherited_path
{
    explicit inherited_path(std::string where, ::mode_t mode, socket_kind what = socket_kind::unix_stream)
        : path{std::move(where)}, kind{what}
    {
        (void)parents.claim_or_open(io, connections, kind, path, {.mode = mode}, nullptr, true);
        auto const handed_over = parents.bequeath();
        error_code ec;
        os::owned_fd fd{os::call(ec, [&] { return ::fcntl(handed_over.fds.front().get(), F_DUPFD_CLOEXEC, 3); })};
        from.add(handed_over.records.front(), std::move(fd));
    }
    ~inherited_path()
    {
        childs.close(os::unlinked::none);
        parents.close(os::unlinked::all);
    }

    std::vector<std::string> commit(std::optional<::mode_t> asked)
    {
        (void)childs.claim_or_open(io, connections, kind, path, {.mode = asked}, &from, false);
        std::vector<std::string> warnings;
        before_commit = mode_of(path);
        childs.open([&](std::string what) { warnings.push_back(std::move(what)); });
        return warnings;
    }

    std::string path;
    socket_kind kind;
    io::sync io;
    std::shared_ptr<open_connections> connections = std::make_shared<open_connections>();
    inventory<io::sync> parents;
    inventory<io::sync> childs;
    handoff::inheritance from;
    ::mode_t before_commit = 0;
};

} // namespace

BOOST_AUTO_TEST_CASE(the_mode_of_an_inherited_path_is_set_again_at_commit_and_a_difference_is_told)
{
    directory const place;
    for (auto const kind : {socket_kind::unix_stream, socket_kind::unix_seqpacket, socket_kind::unix_datagram}) {
        inherited_path differs{place / "differs", 0666, kind};
        auto const warnings = differs.commit(0600);
        BOOST_TEST(differs.before_commit == 0666U); // the parent's, as long as this upgrade may fail
        BOOST_TEST(mode_of(place / "differs") == 0600U);
        BOOST_TEST(warnings == std::vector<std::string>{"the mode of " + (place / "differs") + " was 0666, and is 0600 now"},
                   boost::test_tools::per_element());
    }
    inherited_path same{place / "same", 0640};
    BOOST_TEST(same.commit(0640).empty());
    inherited_path unasked{place / "unasked", 0640};
    BOOST_TEST(unasked.commit({}).empty());
    BOOST_TEST(mode_of(place / "unasked") == 0640U);
}

BOOST_AUTO_TEST_CASE(a_path_that_another_file_took_keeps_its_mode)
{
    directory const place;
    inherited_path replaced{place / "path", 0666};
    fs::remove(place / "path");
    fs::create_directory(place / "path");
    auto const before = mode_of(place / "path");
    BOOST_TEST(replaced.commit(0600).empty());
    BOOST_TEST(mode_of(place / "path") == before);
}

BOOST_AUTO_TEST_CASE(shards_of_which_one_fails_take_nothing_from_anybody)
{
    for (auto const kind : {socket_kind::tcp, socket_kind::udp}) {
        io::sync io;
        auto const connections = std::make_shared<open_connections>();
        inventory<io::sync> parents;
        auto const where = std::string{"127.0.0.1:0"};
        auto const owned = parents.claim_or_open_shards(io, connections, kind, where, 2, {}, nullptr, true);
        error_code ec;
        auto const bound = address::bound(owned.front()->fd(), ec);
        auto const handed_over = parents.bequeath();
        handoff::inheritance from;
        for (std::size_t i = 0; i != handed_over.fds.size(); ++i)
            from.add(handed_over.records[i],
                     os::owned_fd{os::call(ec, [&] { return ::fcntl(handed_over.fds[i].get(), F_DUPFD_CLOEXEC, 3); })});

        inventory<io::sync> childs;
        std::vector<int> made;
        auto const claim = [&](std::size_t fails_at) {
            made.clear();
            listen_options options;
            options.setup = [&, fails_at](int fd) {
                made.push_back(fd);
                if (made.size() == fails_at)
                    throw error{errc::busy, "set up"};
            };
            return childs.claim_or_open_shards(io, connections, kind, where, 4, options, &from, false);
        };
        auto const open = [] { return std::distance(fs::directory_iterator{"/proc/self/fd"}, {}); };
        auto const before = open();
        BOOST_CHECK_THROW((void)claim(2), error);
        BOOST_TEST(made.size() == 2U);
        BOOST_TEST(open() == before);
        BOOST_TEST(childs.bequeath().fds.empty());
        auto const claimed = claim(0);
        BOOST_TEST(claimed.size() == 4U);
        BOOST_TEST(from.claims() == (std::vector<bool>{true, true}));
        BOOST_TEST((address::bound(claimed.front()->fd(), ec).port() == bound.port()));
        childs.close(os::unlinked::all);
        parents.close(os::unlinked::all);
    }
}

namespace {

/// A first generation's, and what the manager passed to it.
struct activated
{
    activated()
    {
        passed.take([](std::string const& what) { BOOST_ERROR(what); });
    }
    ~activated() { all.close(os::unlinked::all); }

    auto claim(socket_kind kind, address const& where, listen_options const& options = {})
    {
        return all.claim_or_open(io, connections, kind, where, options, nullptr, false, &by);
    }
    auto claim_shards(std::size_t count, address const& where, listen_options const& options = {})
    {
        return all.claim_or_open_shards(io, connections, socket_kind::tcp, where, count, options, nullptr, false, &by);
    }

    io::sync io;
    std::shared_ptr<open_connections> connections = std::make_shared<open_connections>();
    systemd::activation passed;
    inventory<io::sync>::manager by{passed, [](handoff::record const& what, std::string const&) { BOOST_ERROR(what.name); },
                                    [](std::string const& what) { BOOST_ERROR(what); }};
    inventory<io::sync> all;
};

os::owned_fd listening(socket_kind kind, address const& where, listen_options const& options = {})
{
    auto socket = sockets::open(kind, where, options);
    (void)sockets::bind(socket, kind, where, options);
    sockets::listen(socket, kind, where, options);
    return passed::away(std::move(socket));
}

/// What listen(2) was told, as far as the kernel shows it: of TCP, tcpi_sacked of a listener.
unsigned backlog(os::borrowed_fd socket)
{
    ::tcp_info info{};
    ::socklen_t size = sizeof info;
    BOOST_REQUIRE(::getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_sacked;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_socket_units_socket_stays_the_units_in_all_generations)
{
    directory const place;
    passed manager;
    manager.add(listening(socket_kind::unix_stream, place / "x", {.mode = 0666}), "x");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0", {.backlog = 7}), "tcp");
    activated first;
    listen_options const asked{.backlog = 3, .mode = 0600};
    (void)first.claim(socket_kind::unix_stream, place / "x", asked);
    auto named = asked;
    named.name = "tcp"; // port 0 alone could be any
    auto const tcp = first.claim(socket_kind::tcp, "127.0.0.1:0", named);
    auto const unwarned = [](std::string const& what) { BOOST_ERROR(what); };
    first.all.open(unwarned);
    BOOST_TEST(backlog(tcp->fd()) == 7U);
    BOOST_TEST(mode_of(place / "x") == 0666U);
    first.all.keep_in_store([](handoff::record const& what, auto const&) { BOOST_ERROR(what.name); });

    auto const handed_over = first.all.bequeath();
    handoff::inheritance from;
    for (std::size_t i = 0; i != handed_over.fds.size(); ++i) {
        BOOST_TEST(handed_over.records[i].flags == handoff::manager_owned);
        from.add(handed_over.records[i], os::owned_fd{::fcntl(handed_over.fds[i].get(), F_DUPFD_CLOEXEC, 50)});
    }
    inventory<io::sync> childs;
    (void)childs.claim_or_open(first.io, first.connections, socket_kind::unix_stream, place / "x", asked, &from, false);
    (void)childs.claim_or_open(first.io, first.connections, socket_kind::tcp, "127.0.0.1:0", asked, &from, false);
    childs.open(unwarned);
    BOOST_TEST(backlog(tcp->fd()) == 7U);
    BOOST_TEST(mode_of(place / "x") == 0666U);
    BOOST_TEST(childs.bequeath().records.front().flags == handoff::manager_owned);
    childs.keep_in_store([](handoff::record const& what, auto const&) { BOOST_ERROR(what.name); });
    childs.close(os::unlinked::all);
    first.all.close(os::unlinked::all);
    BOOST_TEST(fs::exists(place / "x"));
}

BOOST_AUTO_TEST_CASE(what_comes_from_the_store_is_ours_again)
{
    directory const place;
    passed manager;
    auto socket = listening(socket_kind::unix_stream, place / "x", {.mode = 0666});
    auto const path = os::identify(place / "x");
    manager.add(std::move(socket), systemd::stored_name({.kind = handoff::descriptor_kind::listener,
                                                         .name = "unix " + (place / "x"),
                                                         .bytes = {},
                                                         .device = path.device,
                                                         .inode = path.inode,
                                                         .flags = handoff::path_owned}));
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0", {.backlog = 7}), "tcp 127.0.0.1%3A0");
    activated first;
    (void)first.claim(socket_kind::unix_stream, place / "x", {.mode = 0600});
    auto const tcp = first.claim(socket_kind::tcp, "127.0.0.1:0", {.backlog = 3});
    std::vector<std::string> warnings;
    first.all.open([&](std::string what) { warnings.push_back(std::move(what)); });
    BOOST_TEST(warnings.size() == 1U); // of the mode
    BOOST_TEST(mode_of(place / "x") == 0600U);
    BOOST_TEST(backlog(tcp->fd()) == 3U);
    first.all.keep_in_store([](handoff::record const& what, auto const&) { BOOST_ERROR(what.name); });
    BOOST_TEST((first.all.stored() == first.passed.stored()));
    first.all.leave_store([](handoff::record const& one) { return one.name.starts_with("tcp"); });
    BOOST_TEST(first.all.stored().size() == 1U);
    first.all.leave_store([](auto const&) { return true; });
    BOOST_TEST(first.all.stored().empty());
    std::string stored;
    first.all.keep_in_store([&](auto const& what, auto const&) { stored += systemd::stored_name(what) + ';'; });
    auto const identity = std::to_string(path.device) + "-" + std::to_string(path.inode);
    BOOST_TEST(stored == "unix " + (place / "x") + " " + identity + ";tcp 127.0.0.1%3A0;");
    first.all.close(os::unlinked::fresh);
    BOOST_TEST(fs::exists(place / "x")); // for the next one, where this one failed
}

// A name is for what the unit has of it; what was added came back from the store.
BOOST_AUTO_TEST_CASE(shards_of_a_unit_and_of_the_store_are_claimed_together)
{
    passed manager;
    auto const of_unit = listening(socket_kind::tcp, "127.0.0.1:0", {.reuse_port = true});
    error_code ec;
    auto const where = address::bound(of_unit, ec);
    manager.add(os::owned_fd{::fcntl(of_unit.get(), F_DUPFD_CLOEXEC, 50)}, "web");
    auto const stored_name = systemd::stored_name(
        {.kind = handoff::descriptor_kind::listener, .name = "tcp " + where.text(), .bytes = {}});
    for (int i = 0; i != 3; ++i)
        manager.add(listening(socket_kind::tcp, where, {.reuse_port = true}), stored_name);
    activated first;
    BOOST_TEST(first.claim_shards(4, where, {.name = "web"}).size() == 4U);
    std::vector<int> flags;
    for (auto const& one : first.all.bequeath().records)
        flags.push_back(one.flags);
    BOOST_TEST(flags == (std::vector<int>{handoff::manager_owned, handoff::in_store, handoff::in_store, handoff::in_store}),
               boost::test_tools::per_element());
    first.passed.close_unclaimed([](std::string const& name) { BOOST_ERROR(name); });
}

// The system's manager is root, and the service is not: the kernel lets them share no address.
BOOST_AUTO_TEST_CASE(shards_that_cannot_join_a_unit_s_are_done_without,
                     *boost::unit_test::precondition([](boost::unit_test::test_unit_id) { return ::geteuid() == 0; }))
{
    passed manager;
    auto of_unit = listening(socket_kind::tcp, "127.0.0.1:0", {.reuse_port = true});
    error_code ec;
    auto const where = address::bound(of_unit, ec);
    manager.add(std::move(of_unit), "web");
    activated first;
    std::vector<std::string> warnings;
    first.by.warn = [&](std::string what) { warnings.push_back(std::move(what)); };
    BOOST_REQUIRE(::seteuid(65534) == 0);
    auto const claimed = first.claim_shards(4, where, {.name = "web"});
    BOOST_REQUIRE(::seteuid(0) == 0);
    BOOST_TEST(claimed.size() == 1U);
    BOOST_REQUIRE(warnings.size() == 1U);
    BOOST_TEST(warnings.front().find("1 of 4 are there") != std::string::npos, warnings.front());
}

BOOST_AUTO_TEST_CASE(shards_claim_all_that_fit)
{
    passed manager;
    auto const first_shard = listening(socket_kind::tcp, "127.0.0.1:0", {.reuse_port = true});
    error_code ec;
    auto const where = address::bound(first_shard, ec);
    manager.add(os::owned_fd{::fcntl(first_shard.get(), F_DUPFD_CLOEXEC, 50)}, "shard");
    manager.add(listening(socket_kind::tcp, where, {.reuse_port = true}), "shard");
    manager.add(listening(socket_kind::tcp, "127.0.0.1:0"), "shard");
    activated first;
    listen_options failing{.name = "shard"};
    failing.setup = [](int) { throw error{errc::busy, "set up"}; };
    BOOST_CHECK_THROW((void)first.claim_shards(4, where, failing), error);
    BOOST_TEST(first.all.bequeath().fds.empty());
    auto const claimed = first.claim_shards(3, where, {.name = "shard"}); // what was taken back too
    BOOST_TEST(claimed.size() == 3U);
    auto const records = first.all.bequeath().records;
    BOOST_REQUIRE(records.size() == 3U);
    BOOST_TEST(records[0].flags == handoff::manager_owned);
    BOOST_TEST(records[1].flags == handoff::manager_owned);
    BOOST_TEST(records[2].flags == 0);
    std::size_t unclaimed = 0;
    first.passed.close_unclaimed([&](std::string const&) { ++unclaimed; });
    BOOST_TEST(unclaimed == 1U);
}
