// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/accept.hpp>

#define BOOST_TEST_MODULE io/accept
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <boost/mpl/list.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <set>
#include <thread>

// Sources, listeners and datagram sockets: the same for both policies.

namespace {

using namespace test;
using worlds = boost::mpl::list<sync_threads, asio_threads>;

template <class World>
struct served
{
    served()
        : socket{listening()}, other_generation{duplicate(socket)}, address{address_of(socket)},
          connections{std::make_shared<ecdysis::open_connections>()}
    {
        error_code ec;
        source = world.io.make_source(std::move(socket), connections, ec);
        BOOST_TEST_REQUIRE(!ec);
        listener = typename World::listener{source};
    }
    ~served() { source->close(); }

    auto accept() { return World::accept(listener); }
    auto connect() const { return connect_to(address); }

    /// How many connections are left in the queue.
    int queued() const
    {
        int count = 0;
        os::owned_fd connection;
        error_code ec;
        while (io::try_accept(other_generation, 0, connection, ec) == io::attempt::done)
            ++count;
        return count;
    }

    World world;
    os::owned_fd socket;
    os::owned_fd other_generation;
    ::sockaddr_in address;
    std::shared_ptr<ecdysis::open_connections> connections;
    std::shared_ptr<typename World::policy::source> source;
    typename World::listener listener;
};

BOOST_AUTO_TEST_CASE_TEMPLATE(accepts_wait_until_open, World, worlds)
{
    served<World> it;
    auto accept = it.accept();
    auto const client = it.connect();
    BOOST_TEST(!ready(accept));
    BOOST_TEST(it.connections->count() == 0U);
    it.source->open();
    auto result = get(accept);
    BOOST_TEST(!result.ec);
    BOOST_TEST(peer_port_of(result.socket) == port_of(client));
    BOOST_TEST(it.connections->count() == 1U);
    result.guard.reset();
    BOOST_TEST(it.connections->count() == 0U);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(accepts_wait_for_clients, World, worlds)
{
    served<World> it;
    it.source->open();
    for (int i = 0; i != 10; ++i) {
        auto accept = it.accept();
        if (i % 2 == 0)
            BOOST_TEST(!ready(accept, 5ms));
        BOOST_TEST(it.connections->count() == 0U); // to wait is not to have a connection
        auto const client = it.connect();
        auto const result = get(accept);
        BOOST_TEST(!result.ec);
        BOOST_TEST(peer_port_of(result.socket) == port_of(client));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_accepted_socket_is_as_the_host_wants_it, World, worlds)
{
    served<World> it;
    it.source->open();
    BOOST_TEST((::fcntl(it.listener.native_handle(), F_GETFL) & O_NONBLOCK) != 0);
    auto const client = it.connect();
    auto accept = it.accept();
    auto const result = get(accept);
    BOOST_TEST((::fcntl(result.socket.get(), F_GETFD) & FD_CLOEXEC) != 0);
    BOOST_TEST(((::fcntl(result.socket.get(), F_GETFL) & O_NONBLOCK) == 0) == World::policy::blocking);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(many_accepts_at_once, World, worlds)
{
    served<World> it;
    std::vector<std::future<accepted>> accepts;
    for (int i = 0; i != 8; ++i)
        accepts.push_back(it.accept());
    it.source->open();
    std::vector<os::owned_fd> clients;
    std::set<int> connected;
    std::set<int> got;
    for (int i = 0; i != 8; ++i) {
        clients.push_back(it.connect());
        connected.insert(port_of(clients.back()));
    }
    std::vector<accepted> results;
    for (auto& accept : accepts) {
        results.push_back(get(accept));
        got.insert(peer_port_of(results.back().socket));
    }
    BOOST_TEST((got == connected));
    BOOST_TEST(it.connections->count() == 8U);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(end_leaves_the_queue_to_the_other_generation, World, worlds)
{
    served<World> it;
    it.source->open();
    std::vector<std::future<accepted>> accepts;
    for (int i = 0; i != 3; ++i)
        accepts.push_back(it.accept());
    it.source->end(false);
    auto const client = it.connect();
    for (auto& accept : accepts)
        BOOST_TEST(get(accept).ec == errc::ended);
    auto late = it.accept();
    BOOST_TEST(get(late).ec == errc::ended);
    BOOST_TEST(it.connections->count() == 0U);
    BOOST_TEST(it.queued() == 1);
    BOOST_TEST(it.listener.native_handle() == -1); // closed, so that who connects when no generation is left is refused
    it.source->open(); // there is no way back
    late = it.accept();
    BOOST_TEST(get(late).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(end_before_open_ends_too, World, worlds)
{
    for (bool const empty_first : {false, true}) {
        served<World> it;
        auto accept = it.accept();
        auto const client = it.connect();
        it.source->end(empty_first);
        BOOST_TEST(get(accept).ec == errc::ended);
        BOOST_TEST(it.connections->count() == 0U);
        BOOST_TEST(it.queued() == 1);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(end_may_empty_the_queue_first, World, worlds)
{
    served<World> it;
    it.source->open();
    std::vector<os::owned_fd> clients;
    for (int i = 0; i != 3; ++i)
        clients.push_back(it.connect());
    it.source->end(true);
    BOOST_TEST(it.connections->count() == 1U); // the queue's: a drain must not end before it is empty
    it.source->end(true);
    BOOST_TEST(it.connections->count() == 1U);
    std::vector<accepted> results;
    for (int i = 0; i != 3; ++i) {
        auto accept = it.accept();
        results.push_back(get(accept));
        BOOST_TEST(!results.back().ec);
    }
    auto accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
    BOOST_TEST(it.connections->count() == 3U);
    auto const late = it.connect();
    accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(end_of_an_empty_queue_is_at_once, World, worlds)
{
    served<World> it;
    it.source->open();
    auto accept = it.accept();
    auto another = it.accept();
    it.source->end(true);
    BOOST_TEST(get(accept).ec == errc::ended);
    BOOST_TEST(get(another).ec == errc::ended);
    BOOST_TEST(it.connections->count() == 0U);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(emptying_may_be_cut_short, World, worlds)
{
    served<World> it;
    it.source->open();
    auto const client = it.connect();
    it.source->end(true);
    it.source->end(false);
    BOOST_TEST(it.connections->count() == 0U);
    auto accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
    BOOST_TEST(it.queued() == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pause_leaves_what_connects_in_the_queue, World, worlds)
{
    served<World> it;
    it.source->open();
    std::vector<std::future<accepted>> accepts;
    accepts.push_back(it.accept());
    BOOST_TEST(!ready(accepts.front(), 5ms)); // it waits for a client
    std::vector<os::owned_fd> clients;
    for (int i = 0; i != 3; ++i) {
        it.source->pause();
        clients.push_back(it.connect());
        accepts.push_back(it.accept());
        for (auto const& accept : accepts)
            BOOST_TEST(!ready(accept));
        BOOST_TEST(it.connections->count() == 0U);
        it.source->pause(); // again
        it.source->open();
        // One of those that wait gets it.
        auto const any = [&] {
            return std::ranges::find_if(accepts, [](auto const& accept) { return ready(accept, 0ms); });
        };
        auto const limit = io::clock::now() + deadline;
        while (any() == accepts.end() && io::clock::now() < limit)
            std::this_thread::sleep_for(1ms);
        auto const done = any();
        BOOST_TEST_REQUIRE((done != accepts.end()));
        auto const result = done->get();
        accepts.erase(done);
        BOOST_TEST(!result.ec);
        BOOST_TEST(peer_port_of(result.socket) == port_of(clients.back()));
    }
    it.source->end(false);
    BOOST_TEST(get(accepts.front()).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pause_costs_nothing_although_clients_wait, World, worlds)
{
    served<World> it;
    it.source->open();
    std::vector<std::future<accepted>> accepts;
    for (int i = 0; i != 3; ++i)
        accepts.push_back(it.accept());
    BOOST_TEST(!ready(accepts.front(), 5ms));
    it.source->pause();
    auto const client = it.connect();
    accepts.push_back(it.accept());
    BOOST_TEST(!ready(accepts.front(), 5ms));
    auto const before = used_time();
    std::this_thread::sleep_for(300ms);
    BOOST_TEST((used_time() - before < 100ms)); // one thread that spins takes it all
    it.source->close();
    for (auto& accept : accepts)
        BOOST_TEST(get(accept).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pause_holds_up_no_end, World, worlds)
{
    for (bool const empty_first : {false, true}) {
        served<World> it;
        it.source->open();
        auto accept = it.accept();
        BOOST_TEST(!ready(accept, 5ms));
        it.source->pause();
        auto const client = it.connect();
        it.source->end(empty_first); // this generation has been open, so the queue is its own
        auto const result = get(accept);
        BOOST_TEST((result.ec == errc::ended) == !empty_first);
        BOOST_TEST(it.queued() == (empty_first ? 0 : 1));
        it.source->pause();
        it.source->open();
        auto late = it.accept();
        BOOST_TEST(get(late).ec == errc::ended);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pause_counts_only_while_open, World, worlds)
{
    served<World> it;
    it.source->pause();
    auto accept = it.accept();
    auto const client = it.connect();
    BOOST_TEST(!ready(accept));
    it.source->open();
    BOOST_TEST(!get(accept).ec);

    auto const last = it.connect();
    it.source->end(true);
    it.source->pause(); // emptying goes on
    BOOST_TEST(it.connections->count() == 1U);
    accept = it.accept();
    BOOST_TEST(!get(accept).ec);
    accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(running_out_of_descriptors_does_not_outlast_a_pause, World, worlds)
{
    served<World> it;
    it.source->open();
    auto const client = it.connect();
    ::rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    auto const next = duplicate(client);
    ::rlimit limit{static_cast<::rlim_t>(next.get()), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    auto accept = it.accept();
    bool const early = ready(accept, 5ms);
    it.source->pause();
    ::setrlimit(RLIMIT_NOFILE, &before);
    BOOST_TEST(!early);
    BOOST_TEST(!ready(accept));
    it.source->open();
    BOOST_TEST(!get(accept).ec);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(close_ends_and_closes, World, worlds)
{
    served<World> it;
    it.source->open();
    auto accept = it.accept();
    BOOST_TEST(!ready(accept, 5ms));
    it.other_generation.reset();
    it.source->close();
    BOOST_TEST(!it.source->fd());
    BOOST_TEST(it.listener.native_handle() == -1);
    BOOST_TEST(get(accept).ec == errc::ended);
    BOOST_CHECK_THROW(it.connect(), ecdysis::error); // nobody listens
    accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
    it.source->end(true);
    it.source->close();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_socket_that_does_not_listen_is_an_error, World, worlds)
{
    World world;
    error_code ec;
    auto const source = world.io.make_source(loopback(SOCK_STREAM), nullptr, ec);
    BOOST_TEST_REQUIRE(!ec);
    source->open();
    typename World::listener listener{source};
    auto accept = World::accept(listener);
    BOOST_TEST(get(accept).ec == boost::system::errc::invalid_argument);
    source->close();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_closed_descriptor_makes_no_source, World, worlds)
{
    World world;
    error_code ec;
    BOOST_TEST(!world.io.make_source(os::owned_fd{}, nullptr, ec));
    BOOST_TEST(ec == boost::system::errc::bad_file_descriptor);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(running_out_of_descriptors_is_waited_out, World, worlds)
{
    served<World> it;
    it.source->open();
    auto const client = it.connect();
    ::rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    auto const next = duplicate(client); // the lowest number that is free
    ::rlimit limit{static_cast<::rlim_t>(next.get()), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    auto accept = it.accept();
    bool const early = ready(accept);
    bool const counted = it.connections->count() != 0;
    ::setrlimit(RLIMIT_NOFILE, &before);
    BOOST_TEST(!early);
    BOOST_TEST(!counted);
    BOOST_TEST(!get(accept).ec);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(running_out_of_descriptors_does_not_outlast_the_end, World, worlds)
{
    served<World> it;
    it.source->open();
    auto const client = it.connect();
    ::rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    auto const next = duplicate(client);
    ::rlimit limit{static_cast<::rlim_t>(next.get()), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    auto accept = it.accept();
    bool const early = ready(accept);
    it.source->end(false);
    bool const ended = ready(accept, deadline);
    ::setrlimit(RLIMIT_NOFILE, &before);
    BOOST_TEST(!early);
    BOOST_TEST(ended);
    BOOST_TEST(get(accept).ec == errc::ended);
    BOOST_TEST(it.queued() == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_listener_may_outlive_its_policy, World, worlds)
{
    served<World> it;
    it.source->open();
    auto accept = it.accept();
    {
        auto const gone = std::move(it.world.io);
    }
    auto const client = it.connect();
    BOOST_TEST(!get(accept).ec);
    it.source->close();
    accept = it.accept();
    BOOST_TEST(get(accept).ec == errc::ended);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(datagrams_are_waited_for, World, worlds)
{
    World world;
    error_code ec;
    auto socket = loopback(SOCK_DGRAM);
    auto const client = connect_to(address_of(socket), SOCK_DGRAM);
    auto const source = world.io.make_source(std::move(socket), nullptr, ec);
    typename World::policy::datagram datagram{source};
    auto const send = [&] { BOOST_TEST(::send(client.get(), "x", 1, 0) == 1); };
    auto const receive = [&] {
        char byte;
        return ::recv(datagram.native_handle(), &byte, 1, 0) == 1;
    };

    auto wait = World::wait(datagram);
    send();
    BOOST_TEST(!ready(wait));
    source->open();
    BOOST_TEST(!get(wait));
    wait = World::wait(datagram);
    BOOST_TEST(!get(wait)); // as long as nobody reads
    BOOST_TEST(receive());
    BOOST_TEST(!receive());
    wait = World::wait(datagram);
    BOOST_TEST(!ready(wait));
    send();
    BOOST_TEST(!get(wait));
    BOOST_TEST(receive());

    wait = World::wait(datagram);
    BOOST_TEST(!ready(wait, 5ms));
    source->pause();
    send();
    BOOST_TEST(!ready(wait));
    source->open();
    BOOST_TEST(!get(wait));

    source->end(true);
    wait = World::wait(datagram);
    BOOST_TEST(!get(wait));
    BOOST_TEST(receive());
    wait = World::wait(datagram);
    BOOST_TEST(get(wait) == errc::ended);
    source->close();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(waits_for_datagrams_end, World, worlds)
{
    World world;
    error_code ec;
    auto const source = world.io.make_source(loopback(SOCK_DGRAM), nullptr, ec);
    typename World::policy::datagram datagram{source};
    source->open();
    auto one = World::wait(datagram);
    auto two = World::wait(datagram);
    BOOST_TEST(!ready(one, 5ms));
    source->end(false);
    BOOST_TEST(get(one) == errc::ended);
    BOOST_TEST(get(two) == errc::ended);
    source->close();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(emptying_ends_although_datagrams_keep_coming, World, worlds)
{
    World world;
    error_code ec;
    auto socket = loopback(SOCK_DGRAM);
    auto const client = connect_to(address_of(socket), SOCK_DGRAM);
    auto const connections = std::make_shared<ecdysis::open_connections>();
    auto const source = world.io.make_source(std::move(socket), connections, ec);
    typename World::policy::datagram datagram{source};
    source->open();
    auto const send = [&] { BOOST_TEST_REQUIRE(::send(client.get(), "x", 1, 0) == 1); };
    send();
    source->end(true);
    BOOST_TEST(connections->count() == 1U);
    std::size_t read = 0;
    for (auto const most = 2 * io::most_datagrams(source->fd()); read != most; ++read) {
        send();
        auto wait = World::wait(datagram);
        if (get(wait) == errc::ended)
            break;
        char byte;
        BOOST_TEST_REQUIRE(::recv(datagram.native_handle(), &byte, 1, 0) == 1);
    }
    BOOST_TEST(read <= io::most_datagrams(source->fd()));
    BOOST_TEST(read >= 100U);
    BOOST_TEST(connections->count() == 0U);
    source->close();
}

// Whoever answers does so by number, outside of any call of ours.
BOOST_AUTO_TEST_CASE_TEMPLATE(a_datagram_socket_is_open_until_nobody_has_it, World, worlds)
{
    World world;
    error_code ec;
    auto socket = loopback(SOCK_DGRAM);
    auto const address = address_of(socket);
    auto const client = connect_to(address, SOCK_DGRAM);
    auto const from = address_of(client);
    auto source = world.io.make_source(std::move(socket), nullptr, ec);
    typename World::policy::datagram datagram{source};
    source->open();
    auto wait = World::wait(datagram);
    BOOST_TEST(!ready(wait, 5ms));
    source->close();
    BOOST_TEST(get(wait) == errc::ended);
    auto const number = datagram.native_handle();
    BOOST_TEST(::sendto(number, "x", 1, 0, reinterpret_cast<::sockaddr const*>(&from), sizeof from) == 1);
    char byte;
    BOOST_TEST(::recv(client.get(), &byte, 1, 0) == 1);
    source.reset();
    datagram = {};
    BOOST_TEST(::fcntl(number, F_GETFD) == -1);
}

BOOST_AUTO_TEST_CASE(backoff_grows_to_a_second)
{
    io::backoff pause;
    auto total = 0ms;
    for (int i = 0; i != 8; ++i)
        total += pause.next();
    BOOST_TEST(total.count() == 5 + 10 + 20 + 40 + 80 + 160 + 320 + 640);
    BOOST_TEST(pause.next().count() == 1000);
    BOOST_TEST(pause.next().count() == 1000);
    pause.reset();
    BOOST_TEST(pause.next().count() == 5);
}

} // namespace
