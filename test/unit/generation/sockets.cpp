// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/sockets.hpp>

#define BOOST_TEST_MODULE listener
#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace sockets = ecdysis::sockets;
namespace os = ecdysis::os;
using ecdysis::address;
using ecdysis::errc;
using ecdysis::listen_options;
using ecdysis::socket_kind;

namespace {

struct directory
{
    directory()
    {
        std::string name = (std::filesystem::temp_directory_path() / "ecdysis-listener.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~directory() { std::filesystem::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

struct umask_of
{
    explicit umask_of(::mode_t mask) : before{::umask(mask)} {}
    ~umask_of() { ::umask(before); }
    ::mode_t before;
};

/// As a host has it: opened, bound, listening.
os::owned_fd serve(socket_kind kind, address const& where, listen_options const& options = {})
{
    auto socket = sockets::open(kind, where, options);
    (void)sockets::bind(socket, kind, where, options);
    if (!ecdysis::is_datagram(kind))
        sockets::listen(socket, kind, where, options);
    return socket;
}

address bound(os::borrowed_fd socket)
{
    ecdysis::error_code ec;
    auto const result = address::bound(socket, ec);
    BOOST_REQUIRE(!ec);
    return result;
}

bool connects(address const& where, int type)
{
    os::owned_fd const client{::socket(where.family(), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    return ::connect(client.get(), where.data(), where.size()) == 0 || errno == EINPROGRESS;
}

/// Sees whether IPv4 gets through: a blocking connect on the loopback answers at once.
bool connects_v4(std::uint16_t port)
{
    address const where{"127.0.0.1:" + std::to_string(port)};
    os::owned_fd const client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    return ::connect(client.get(), where.data(), where.size()) == 0;
}

template <class F>
ecdysis::error thrown(F&& f)
{
    try {
        f();
    } catch (ecdysis::error const& e) {
        return e;
    }
    BOOST_ERROR("nothing was thrown");
    return ecdysis::error{ecdysis::error_code{}};
}

void check_refused(os::borrowed_fd socket, socket_kind kind, address const& asked, listen_options const& options,
                   std::string const& came)
{
    auto const e = thrown([&] { sockets::verify(socket, kind, asked, options); });
    BOOST_TEST((e.code() == errc::descriptor_mismatch));
    std::string const words = e.what();
    BOOST_TEST(words.find("expected a ") != words.npos, words);
    BOOST_TEST(words.find(asked.text()) != words.npos, words);
    BOOST_TEST(words.find("came " + came) != words.npos, words);
}

::mode_t mode_of(std::string const& path)
{
    struct ::stat status
    {};
    return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

constexpr socket_kind unix_kinds[] = {socket_kind::unix_stream, socket_kind::unix_seqpacket,
                                      socket_kind::unix_datagram};

} // namespace

BOOST_AUTO_TEST_CASE(new_sockets_never_block_and_are_not_inherited)
{
    for (auto const& [kind, where] : std::vector<std::pair<socket_kind, address>>{
             {socket_kind::tcp, "127.0.0.1:0"}, {socket_kind::udp, "[::1]:0"}, {socket_kind::unix_seqpacket, "@x"}}) {
        auto const socket = sockets::open(kind, where, {});
        BOOST_TEST((::fcntl(socket.get(), F_GETFL) & O_NONBLOCK) != 0);
        BOOST_TEST((::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
}

BOOST_AUTO_TEST_CASE(an_address_of_another_kind_is_refused)
{
    using pair = std::pair<socket_kind, char const*>;
    for (auto const& [kind, where] :
         {pair{socket_kind::tcp, "/run/x"}, pair{socket_kind::udp, "@x"}, pair{socket_kind::unix_stream, "127.0.0.1:0"},
          pair{socket_kind::unix_datagram, "[::1]:0"}}) {
        auto const e = thrown([&, kind = kind, where = where] { (void)sockets::open(kind, where, {}); });
        BOOST_TEST((e.code() == errc::invalid_address));
        BOOST_TEST(std::string{e.what()}.find(where) != std::string::npos);
    }
}

BOOST_AUTO_TEST_CASE(any_v6_accepts_v4_unless_asked_not_to)
{
    auto const dual = serve(socket_kind::tcp, "[::]:0");
    BOOST_TEST(connects_v4(bound(dual).port()));
    auto const six = serve(socket_kind::tcp, "[::]:0", {.v6_only = true});
    BOOST_TEST(!connects_v4(bound(six).port()));
    BOOST_TEST(connects("[::1]:" + std::to_string(bound(six).port()), SOCK_STREAM));
}

BOOST_AUTO_TEST_CASE(setup_sees_a_new_socket_before_it_is_bound)
{
    int calls = 0;
    auto const socket = serve(socket_kind::tcp, "127.0.0.1:0", {.setup = [&](int number) {
                                  ++calls;
                                  BOOST_TEST(bound(os::borrowed_fd{number}).port() == 0);
                                  int const one = 1;
                                  ::setsockopt(number, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
                              }});
    BOOST_TEST(calls == 1);
    ecdysis::error_code ec;
    BOOST_TEST(sockets::get(socket, SOL_SOCKET, SO_KEEPALIVE, ec) == 1);
}

BOOST_AUTO_TEST_CASE(shards_share_an_address_and_others_do_not)
{
    auto const first = serve(socket_kind::tcp, "127.0.0.1:0", {.reuse_port = true});
    auto const where = bound(first);
    auto const second = serve(socket_kind::tcp, where, {.reuse_port = true});
    BOOST_TEST(bound(second).port() == where.port());
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::tcp, where); }).code() == boost::system::errc::address_in_use));
}

BOOST_AUTO_TEST_CASE(the_mode_of_a_path_is_what_was_asked_for_whatever_the_umask)
{
    directory const place;
    for (::mode_t const mask : {0, 022, 077, 0777})
        for (::mode_t const mode : {0600, 0660, 0666, 0777, 0}) {
            umask_of const masked{mask};
            auto const path = place / "mode";
            auto const socket = serve(socket_kind::unix_stream, path, {.mode = mode});
            BOOST_TEST(mode_of(path) == mode);
            ::unlink(path.c_str());
        }
    umask_of const masked{027};
    auto const socket = serve(socket_kind::unix_stream, place / "default");
    BOOST_TEST(mode_of(place / "default") == 0750);
}

BOOST_AUTO_TEST_CASE(a_path_is_never_wider_than_asked_even_for_a_moment)
{
    directory const place;
    auto const path = place / "narrow";
    umask_of const masked{0};
    std::atomic<bool> done{false};
    std::atomic<unsigned> seen{0};
    std::thread watcher{[&] {
        while (!done)
            seen |= mode_of(path);
    }};
    for (int i = 0; i != 2000; ++i) {
        auto const socket = serve(socket_kind::unix_stream, path, {.mode = 0600});
        ::unlink(path.c_str());
    }
    done = true;
    watcher.join();
    BOOST_TEST((seen & ~0600U) == 0U);
}

BOOST_AUTO_TEST_CASE(a_path_that_a_dead_process_left_is_replaced)
{
    directory const place;
    auto const path = place / "stale";
    for (auto const before : unix_kinds)
        for (auto const kind : unix_kinds) {
            {
                auto const gone = serve(before, path);
            }
            BOOST_REQUIRE(std::filesystem::exists(path));
            auto const socket = sockets::open(kind, path, {});
            auto const made = sockets::bind(socket, kind, path, {});
            BOOST_TEST((made == os::identify(path)));
            BOOST_TEST(bool{made});
            ::unlink(path.c_str());
        }
}

BOOST_AUTO_TEST_CASE(a_living_path_is_refused_whatever_its_type)
{
    directory const place;
    auto const path = place / "living";
    for (auto const living : unix_kinds)
        for (auto const kind : unix_kinds) {
            auto const there = serve(living, path);
            auto const e = thrown([&] { (void)serve(kind, path); });
            BOOST_TEST((e.code() == errc::address_in_use));
            BOOST_TEST(std::string{e.what()}.find(path) != std::string::npos);
            BOOST_TEST(connects(path, ecdysis::type(living)));
            ::unlink(path.c_str());
        }
}

BOOST_AUTO_TEST_CASE(a_living_path_with_a_full_queue_is_refused)
{
    directory const place;
    auto const path = place / "full";
    auto const there = serve(socket_kind::unix_stream, path, {.backlog = 0});
    address const where{path};
    std::vector<os::owned_fd> clients;
    for (;;) {
        clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (::connect(clients.back().get(), where.data(), where.size()) != 0)
            break;
    }
    BOOST_REQUIRE(errno == EAGAIN);
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::unix_stream, path); }).code() == errc::address_in_use));
}

BOOST_AUTO_TEST_CASE(a_path_that_is_bound_and_does_not_listen_yet_is_refused)
{
    // A child between claim and commit.
    directory const place;
    auto const path = place / "bound";
    auto const there = sockets::open(socket_kind::unix_stream, path, {});
    auto const identity = sockets::bind(there, socket_kind::unix_stream, path, {});
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::unix_stream, path); }).code() == errc::address_in_use));
    BOOST_TEST((os::identify(path) == identity));
}

BOOST_AUTO_TEST_CASE(who_lives_at_a_path_does_not_notice_that_it_is_asked_for)
{
    directory const place;
    auto const path = place / "asked";
    auto const there = serve(socket_kind::unix_stream, path);
    (void)thrown([&] { (void)serve(socket_kind::unix_stream, path); });
    BOOST_TEST(::accept4(there.get(), nullptr, nullptr, SOCK_CLOEXEC) == -1);
    BOOST_TEST(errno == EAGAIN);
}

BOOST_AUTO_TEST_CASE(what_is_no_socket_is_not_removed)
{
    directory const place;
    auto const file = place / "file";
    std::ofstream{file} << "precious";
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::unix_stream, file); }).code() == errc::address_in_use));
    BOOST_TEST(std::filesystem::file_size(file) == 8);

    auto const link = place / "link";
    {
        auto const gone = serve(socket_kind::unix_stream, place / "stale");
    }
    std::filesystem::create_symlink(place / "stale", link);
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::unix_stream, link); }).code() == errc::address_in_use));
    BOOST_TEST(std::filesystem::is_symlink(link));

    std::filesystem::create_directory(place / "folder");
    BOOST_TEST(
        (thrown([&] { (void)serve(socket_kind::unix_stream, place / "folder"); }).code() == errc::address_in_use));
    BOOST_TEST((thrown([&] { (void)serve(socket_kind::unix_stream, place / "none/x"); }).code() ==
                boost::system::errc::no_such_file_or_directory));
}

BOOST_AUTO_TEST_CASE(only_paths_have_an_identity)
{
    address const where{"@ecdysis test of listener " + std::to_string(::getpid())};
    auto const socket = sockets::open(socket_kind::unix_stream, where, {.mode = 0600});
    BOOST_TEST(!sockets::bind(socket, socket_kind::unix_stream, where, {.mode = 0600}));
    auto const again = sockets::open(socket_kind::unix_stream, where, {});
    auto const e = thrown([&] { (void)sockets::bind(again, socket_kind::unix_stream, where, {}); });
    BOOST_TEST((e.code() == boost::system::errc::address_in_use));
}

BOOST_AUTO_TEST_CASE(an_inherited_socket_that_is_right_is_accepted)
{
    directory const place;
    auto const check = [](socket_kind kind, address const& where, listen_options const& options = {}) {
        BOOST_TEST_CONTEXT(sockets::describe(kind, where))
        {
            auto const socket = serve(kind, where, options);
            BOOST_CHECK_NO_THROW(sockets::verify(socket, kind, where, options));
            BOOST_CHECK_NO_THROW(sockets::verify(socket, kind, bound(socket), options));
        }
    };
    check(socket_kind::tcp, "127.0.0.1:0");
    check(socket_kind::tcp, "[::]:0");
    check(socket_kind::tcp, "[::]:0", {.v6_only = true});
    check(socket_kind::tcp, "[::1%lo]:0");
    check(socket_kind::udp, "0.0.0.0:0");
    check(socket_kind::udp, "[::1]:0");
    check(socket_kind::unix_stream, place / "a");
    check(socket_kind::unix_seqpacket, place / "b");
    check(socket_kind::unix_datagram, place / "c");
    check(socket_kind::unix_stream, "@ecdysis verify " + std::to_string(::getpid()));
}

BOOST_AUTO_TEST_CASE(each_kind_of_mismatch_is_refused_in_words)
{
    directory const place;
    os::owned_fd const file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    check_refused(file, socket_kind::tcp, "127.0.0.1:80", {}, "no socket");
    check_refused(os::borrowed_fd{-1}, socket_kind::tcp, "127.0.0.1:80", {}, "no socket");

    auto const tcp = serve(socket_kind::tcp, "127.0.0.1:0");
    check_refused(tcp, socket_kind::udp, "127.0.0.1:0", {}, "a socket of type");
    check_refused(tcp, socket_kind::tcp, "127.0.0.2:0", {}, "one on " + bound(tcp).text());
    check_refused(tcp, socket_kind::tcp, "127.0.0.1:1", {}, "one on " + bound(tcp).text());
    check_refused(tcp, socket_kind::tcp, "[::1]:0", {}, "one on " + bound(tcp).text());
    check_refused(tcp, socket_kind::unix_stream, "/run/x", {}, "one on " + bound(tcp).text());

    auto const silent = sockets::open(socket_kind::tcp, "127.0.0.1:0", {});
    (void)sockets::bind(silent, socket_kind::tcp, "127.0.0.1:0", {});
    check_refused(silent, socket_kind::tcp, "127.0.0.1:0", {}, "one that does not listen");

    auto const udp = sockets::open(socket_kind::udp, "0.0.0.0:0", {});
    check_refused(udp, socket_kind::udp, "0.0.0.0:0", {}, "one that is not bound");
    check_refused(udp, socket_kind::udp, "0.0.0.0:53", {}, "one on");

    auto const dual = serve(socket_kind::tcp, "[::]:0");
    check_refused(dual, socket_kind::tcp, "[::]:0", {.v6_only = true}, "one that accepts IPv4 too");
    auto const six = serve(socket_kind::tcp, "[::]:0", {.v6_only = true});
    check_refused(six, socket_kind::tcp, "[::]:0", {}, "one that accepts IPv6 alone");

    auto const path = serve(socket_kind::unix_stream, place / "a");
    check_refused(path, socket_kind::unix_stream, place / "b", {}, "one on " + (place / "a"));
    check_refused(path, socket_kind::unix_seqpacket, place / "a", {}, "a socket of type");
    auto const nameless = sockets::open(socket_kind::unix_datagram, "@x", {});
    check_refused(nameless, socket_kind::unix_datagram, place / "a", {}, "one on");
}

BOOST_AUTO_TEST_CASE(names_begin_with_the_kind)
{
    BOOST_TEST(sockets::describe(socket_kind::tcp, "127.0.0.1:80") == "tcp 127.0.0.1:80");
    BOOST_TEST(sockets::describe(socket_kind::udp, "[::1]:53") == "udp [::1]:53");
    BOOST_TEST(sockets::describe(socket_kind::unix_stream, "/run/x") == "unix /run/x");
    BOOST_TEST(sockets::describe(socket_kind::unix_seqpacket, "/run/x") == "seqpacket /run/x");
    BOOST_TEST(sockets::describe(socket_kind::unix_datagram, "@x") == "datagram @x");
}
