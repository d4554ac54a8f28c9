// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/inventory.hpp>

#define BOOST_TEST_MODULE inventory
#include <boost/test/unit_test.hpp>

#include <ecdysis/io/sync.hpp>

#include "../systemd/passed.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace ecdysis;
namespace fs = std::filesystem;

namespace {

/// What the system refuses as long as one of these lives.
struct refused
{
    explicit refused(int& which) : error{which} { error = ENOMEM; }
    refused(refused const&) = delete;
    refused& operator=(refused const&) = delete;
    ~refused() { error = 0; }

    int& error;
};

int listen_fails = 0;
int chmod_fails = 0;

} // namespace

// The program's own come before the C library's.

extern "C" int listen(int socket, int backlog) noexcept
{
    if (listen_fails != 0) {
        errno = listen_fails;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_listen, socket, backlog));
}

extern "C" int chmod(char const* path, ::mode_t mode) noexcept
{
    if (chmod_fails != 0) {
        errno = chmod_fails;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_fchmodat, AT_FDCWD, path, mode));
}

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

namespace {

/// A parent's sockets, and a child that inherits them.
struct two_generations
{
    ~two_generations()
    {
        childs.close(os::unlinked::none);
        parents.close(os::unlinked::all);
    }

    auto open(socket_kind kind, address const& where, listen_options const& options = {})
    {
        return parents.claim_or_open(io, connections, kind, where, options, nullptr, true);
    }
    /// What the parent hands over; the child has copies.
    handoff::bequest const& hand_over()
    {
        handed_over = parents.bequeath();
        for (std::size_t i = 0; i != handed_over.fds.size(); ++i)
            from.add(handed_over.records[i], os::owned_fd{::fcntl(handed_over.fds[i].get(), F_DUPFD_CLOEXEC, 50)});
        return handed_over;
    }
    auto claim(socket_kind kind, address const& where, listen_options const& options = {})
    {
        return childs.claim_or_open(io, connections, kind, where, options, &from, false);
    }
    std::vector<std::string> commit()
    {
        std::vector<std::string> warnings;
        childs.open([&](std::string what) { warnings.push_back(std::move(what)); });
        return warnings;
    }

    io::sync io;
    std::shared_ptr<open_connections> connections = std::make_shared<open_connections>();
    inventory<io::sync> parents;
    inventory<io::sync> childs;
    handoff::bequest handed_over;
    handoff::inheritance from;
};

os::owned_fd connect_to(os::borrowed_fd listener)
{
    error_code ec;
    auto const where = address::bound(listener, ec);
    os::owned_fd client{::socket(where.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (::connect(client.get(), where.data(), where.size()) != 0)
        client.reset();
    return client;
}

/// One accept in a thread of its own: whether it got a connection.
std::future<bool> accept(std::shared_ptr<io::sync::source> const& source)
{
    return std::async(std::launch::async, [listener = io::sync::listener{source}]() mutable {
        error_code ec;
        return listener.accept(ec).has_value();
    });
}

bool is_ready(std::future<bool> const& future)
{
    return future.wait_for(std::chrono::milliseconds{30}) == std::future_status::ready;
}

} // namespace

BOOST_AUTO_TEST_CASE(an_inherited_listener_that_cannot_listen_again_works_on)
{
    directory const place;
    two_generations it;
    auto const tcp = it.open(socket_kind::tcp, "127.0.0.1:0", {.backlog = 7});
    (void)it.open(socket_kind::unix_stream, place / "x");
    (void)it.hand_over();
    auto const claimed = it.claim(socket_kind::tcp, "127.0.0.1:0", {.backlog = 3});
    auto const path = it.claim(socket_kind::unix_stream, place / "x", {.backlog = 5});
    {
        refused const memory{listen_fails};
        BOOST_TEST(it.commit() ==
                       (std::vector<std::string>{
                           "set the backlog of tcp 127.0.0.1:0 to 3: Cannot allocate memory; the inherited listener works "
                           "on with its old backlog",
                           "set the backlog of unix " + (place / "x") +
                               " to 5: Cannot allocate memory; the inherited listener works on with its old backlog"}),
                   boost::test_tools::per_element());
    }
    BOOST_TEST(backlog(claimed->fd()) == 7U);
    BOOST_TEST(it.childs.bequeath().fds.size() == 2U);
    BOOST_TEST(fs::exists(place / "x"));
    it.parents.close(os::unlinked::none);
    for (auto const& source : {claimed, path}) {
        auto const client = connect_to(source->fd());
        BOOST_TEST(static_cast<bool>(client));
        BOOST_TEST(accept(source).get());
    }
}

BOOST_AUTO_TEST_CASE(an_inherited_path_whose_mode_cannot_be_set_works_on)
{
    directory const place;
    inherited_path differs{place / "differs", 0666};
    refused const memory{chmod_fails};
    auto const warnings = differs.commit(0600);
    BOOST_TEST(warnings == std::vector<std::string>{"set the mode of " + (place / "differs") +
                                                    ", 0666, to 0600: Cannot allocate memory"},
               boost::test_tools::per_element());
    BOOST_TEST(mode_of(place / "differs") == 0666U);
    BOOST_TEST(differs.childs.bequeath().fds.size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_new_listener_that_cannot_listen_is_given_up)
{
    directory const place;
    two_generations it;
    (void)it.hand_over();
    auto const fresh = it.claim(socket_kind::unix_stream, place / "x");
    {
        refused const memory{listen_fails};
        auto const warnings = it.commit();
        BOOST_REQUIRE(warnings.size() == 1U);
        BOOST_TEST(warnings.front().starts_with("listen on unix " + (place / "x") + ": Cannot allocate memory"));
    }
    BOOST_TEST(!fresh->fd());
    BOOST_TEST(!fs::exists(place / "x"));
    BOOST_TEST(it.childs.bequeath().fds.empty());
    it.childs.resume();
    BOOST_TEST(!accept(fresh).get());
    BOOST_TEST(it.childs.bequeath().fds.empty());
}

BOOST_AUTO_TEST_CASE(what_a_child_claimed_pauses_until_it_failed)
{
    two_generations it;
    auto const claimed = it.open(socket_kind::tcp, "127.0.0.1:0");
    auto const unclaimed = it.open(socket_kind::tcp, "127.0.0.1:0"); // of the same name, so another by its index only
    auto const& records = it.hand_over().records;
    auto const opened_meanwhile = it.open(socket_kind::unix_stream, "@ecdysis inventory " + std::to_string(::getpid()));
    for (int upgrade = 0; upgrade != 2; ++upgrade) {
        it.parents.pause(records, {true, false});
        for (auto const& source : {unclaimed, opened_meanwhile}) {
            auto const client = connect_to(source->fd());
            BOOST_TEST(accept(source).get());
        }
        auto waiting = accept(claimed);
        auto const client = connect_to(claimed->fd());
        BOOST_TEST(static_cast<bool>(client));
        BOOST_TEST(!is_ready(waiting));
        it.parents.resume();
        BOOST_TEST(waiting.get());
    }

    it.parents.pause(records, {true, false});
    auto waiting = accept(claimed);
    auto const in_queue = connect_to(claimed->fd());
    auto const last = connect_to(unclaimed->fd());
    it.parents.end_claimed(records, {true, false});
    BOOST_TEST(!waiting.get()); // the queue is the child's now
    BOOST_TEST(accept(unclaimed).get());
    BOOST_TEST(!accept(unclaimed).get());
    it.parents.resume(); // too late
    BOOST_TEST(!accept(claimed).get());
    BOOST_TEST(!accept(unclaimed).get());
}

BOOST_AUTO_TEST_CASE(of_shards_those_that_the_child_has_not_got_accept_on)
{
    two_generations it;
    auto const shards =
        it.parents.claim_or_open_shards(it.io, it.connections, socket_kind::tcp, "127.0.0.1:0", 3, {}, nullptr, true);
    auto const& records = it.hand_over().records;
    it.parents.pause(records, {true, false, true});
    std::vector<std::future<bool>> accepts;
    for (auto const& shard : shards)
        accepts.push_back(accept(shard));
    std::vector<os::owned_fd> clients;
    for (int i = 0; i != 60; ++i) // between which the kernel spreads them
        clients.push_back(connect_to(shards.front()->fd()));
    BOOST_TEST((accepts[1].wait_for(std::chrono::seconds{10}) == std::future_status::ready));
    BOOST_TEST(!is_ready(accepts[0]));
    BOOST_TEST(!is_ready(accepts[2]));
    it.parents.resume();
    for (auto& one : accepts)
        BOOST_TEST(one.get());
}
