// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>

#define BOOST_TEST_MODULE io/threads
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/mpl/list.hpp>

#include <signal.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

// What several threads do to each other; meant for the sanitizers as much as for the checks.

namespace {

using namespace test;

/// What the host does with a listener: accepts until it ends. Counts what it got.
struct log
{
    void add(os::borrowed_fd socket)
    {
        std::lock_guard const hold{mutex};
        got.insert(peer_port_of(socket));
    }
    std::size_t count()
    {
        std::lock_guard const hold{mutex};
        return got.size();
    }

    std::mutex mutex;
    std::multiset<int> got;
    std::atomic<int> ended{0};
};

struct sync_server
{
    explicit sync_server(int loops) : count{loops} {}
    void start(io::sync::listener& from)
    {
        for (int i = 0; i != count; ++i)
            threads.emplace_back([&] {
                while (auto connection = from.accept())
                    log.add(connection->socket);
                ++log.ended;
            });
    }
    using policy = io::sync;
    using listener = io::sync::listener;

    struct log log;
    int count;
    policy io;
    std::vector<std::jthread> threads;
};

struct asio_server
{
    explicit asio_server(int loops) : count{loops}
    {
        for (int i = 0; i != 4; ++i)
            threads.emplace_back([this] { context.run(); });
    }
    ~asio_server()
    {
        work.reset();
        threads.clear();
    }
    using policy = io::asio;
    using listener = io::asio::tcp_listener;

    void start(listener& from)
    {
        for (int i = 0; i != count; ++i)
            accept(from);
    }
    void accept(listener& from)
    {
        from.async_accept([this, &from](error_code ec, listener::connection connection) {
            if (ec) {
                ++log.ended;
                return;
            }
            log.add(os::borrowed_fd{connection.socket.native_handle()});
            accept(from);
        });
    }

    struct log log;
    int count;
    net::io_context context;
    net::executor_work_guard<net::io_context::executor_type> work{context.get_executor()};
    policy io{context};
    std::vector<std::jthread> threads;
};

using servers = boost::mpl::list<sync_server, asio_server>;

BOOST_AUTO_TEST_CASE_TEMPLATE(no_connection_is_lost_at_the_end, Server, servers)
{
    constexpr int loops = 8;
    for (int round = 0; round != 200; ++round) {
        Server server{loops};
        auto const connections = std::make_shared<ecdysis::open_connections>();
        auto socket = listening();
        auto const other_generation = duplicate(socket);
        auto const address = address_of(socket);
        error_code ec;
        auto const source = server.io.make_source(std::move(socket), connections, ec);
        typename Server::listener listener{source};
        server.start(listener);

        std::vector<os::owned_fd> clients;
        std::atomic<int> connected = 0;
        std::jthread load{[&] {
            for (int i = 0; i != 24; ++i) {
                clients.push_back(connect_to(address));
                ++connected;
            }
        }};
        source->open();
        while (connected < round % 24)
            std::this_thread::yield();
        bool const empty_first = round % 4 == 3;
        {
            auto const hold = server.io.lock();
            source->end(empty_first);
        }
        std::size_t taken = 0;
        if (!empty_first) {
            // All that was accepted has been counted by now, if not yet logged: that is what a drain relies on.
            while (connections->count() != 0)
                std::this_thread::yield();
            std::lock_guard const hold{server.log.mutex};
            taken = server.log.got.size();
        }
        while (server.log.ended != loops)
            std::this_thread::yield();
        load.join();
        if (!empty_first)
            BOOST_TEST_REQUIRE(server.log.got.size() == taken);

        std::multiset<int> seen = server.log.got;
        os::owned_fd left;
        while (io::try_accept(other_generation, 0, left, ec) == io::attempt::done)
            seen.insert(peer_port_of(left));
        std::multiset<int> expected;
        for (auto const& client : clients)
            expected.insert(port_of(client));
        BOOST_TEST_REQUIRE((seen == expected));
        while (connections->count() != 0) // the last handlers may still be leaving
            std::this_thread::yield();
        source->close();
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_connection_is_lost_by_pauses, Server, servers)
{
    constexpr int loops = 8;
    for (int round = 0; round != 20; ++round) {
        Server server{loops};
        auto const connections = std::make_shared<ecdysis::open_connections>();
        auto socket = listening();
        auto const address = address_of(socket);
        error_code ec;
        auto const source = server.io.make_source(std::move(socket), connections, ec);
        typename Server::listener listener{source};
        server.start(listener);
        std::atomic<bool> loaded = false;
        std::multiset<int> connected;
        std::jthread load{[&] {
            std::vector<os::owned_fd> clients;
            for (int i = 0; i != 100; ++i) {
                clients.push_back(connect_to(address));
                connected.insert(port_of(clients.back()));
            }
            loaded = true;
            // Their ports are not used again while they are open.
            auto const limit = io::clock::now() + deadline;
            while (server.log.count() != 100U && io::clock::now() < limit)
                std::this_thread::yield();
        }};
        while (!loaded) {
            source->open();
            std::this_thread::yield();
            source->pause();
            // What is in flight has its guard, and no other comes.
            while (connections->count() != 0)
                std::this_thread::yield();
            auto const before = server.log.count();
            std::this_thread::yield();
            BOOST_TEST_REQUIRE(server.log.count() == before);
        }
        source->open();
        load.join();
        source->close();
        while (server.log.ended != loops)
            std::this_thread::yield();
        BOOST_TEST((server.log.got == connected));
    }
}

BOOST_AUTO_TEST_CASE(asio_cancellations_race_with_connections)
{
    asio_server server{0};
    auto socket = listening();
    auto const address = address_of(socket);
    error_code ec;
    auto const source = server.io.make_source(std::move(socket), nullptr, ec);
    io::asio::tcp_listener listener{source};
    source->open();
    std::atomic<int> completed = 0;
    std::atomic<int> accepted = 0;
    int lost = 0;
    for (int i = 0; i != 500; ++i) {
        net::cancellation_signal signal;
        completed = 0;
        accepted = 0;
        for (int j = 0; j != 2; ++j)
            listener.async_accept(net::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto) {
                accepted += !ec;
                ++completed;
            }));
        // The second took the slot over.
        auto const client = connect_to(address);
        signal.emit(net::cancellation_type::total);
        listener.cancel();
        while (completed != 2)
            std::this_thread::yield();
        if (accepted == 0) { // then it is still in the queue
            std::promise<error_code> promise;
            listener.async_accept([&](error_code ec, auto) { promise.set_value(ec); });
            auto future = promise.get_future();
            lost += static_cast<bool>(get(future));
        }
        BOOST_TEST_REQUIRE(accepted <= 1);
    }
    BOOST_TEST(lost == 0);
    source->close();
}

BOOST_AUTO_TEST_CASE(asio_handles_dropped_in_any_thread_never_call_again)
{
    asio_server server{0};
    pipe_pair pipe;
    pipe.write();
    for (int i = 0; i != 500; ++i) {
        // Alive as long as the handles: a call after they went would be a use after free.
        auto calls = std::make_unique<std::atomic<int>>(0);
        auto const count = [to = calls.get()] { ++*to; };
        std::array<io::handle, 3> handles;
        {
            auto const hold = server.io.lock();
            error_code ec;
            handles[0] = server.io.watch(pipe.reader, count, ec);
            handles[1] = server.io.at(io::clock::now(), count);
            handles[2] = server.io.signals(std::array{SIGUSR1}, [count](int) { count(); }, ec);
            BOOST_TEST_REQUIRE(!ec);
        }
        ::raise(SIGUSR1);
        while (i % 3 == 0 && *calls < 2)
            std::this_thread::yield();
        {
            auto const hold = server.io.lock();
            for (auto& handle : handles)
                handle = {};
        }
        calls.reset();
    }
}

BOOST_AUTO_TEST_CASE(sync_handles_dropped_in_any_thread_never_call_again)
{
    io::sync io;
    outcome<nothing> done;
    std::jthread pump{[&] {
        error_code ec;
        io.wait(done, ec);
    }};
    pipe_pair pipe;
    pipe.write();
    for (int i = 0; i != 500; ++i) {
        auto calls = std::make_unique<std::atomic<int>>(0);
        auto const count = [to = calls.get()] { ++*to; };
        std::array<io::handle, 3> handles;
        {
            auto const hold = io.lock();
            error_code ec;
            handles[0] = io.watch(pipe.reader, count, ec);
            handles[1] = io.at(io::clock::now(), count);
            handles[2] = io.signals(std::array{SIGUSR1}, [count](int) { count(); }, ec);
            BOOST_TEST_REQUIRE(!ec);
        }
        ::raise(SIGUSR1);
        while (i % 3 == 0 && *calls < 2)
            std::this_thread::yield();
        {
            auto const hold = io.lock();
            for (auto& handle : handles)
                handle = {};
        }
        calls.reset();
    }
    auto const hold = io.lock();
    done.set({});
}

BOOST_AUTO_TEST_CASE(posts_from_all_sides_arrive)
{
    asio_server server{0};
    io::sync sync;
    outcome<nothing> all;
    int in_sync = 0; // each policy's lock guards its counter
    int in_asio = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t != 4; ++t)
            threads.emplace_back([&, to_asio = server.io.get_poster(), to_sync = sync.get_poster()] {
                for (int i = 0; i != 1000; ++i) {
                    to_asio([&] { ++in_asio; });
                    to_sync([&] {
                        if (++in_sync == 4000)
                            all.set({});
                    });
                }
            });
        error_code ec;
        sync.wait(all, ec);
    }
    auto const count = [&] {
        auto const hold = server.io.lock();
        return in_asio;
    };
    auto const limit = io::clock::now() + deadline;
    while (count() != 4000 && io::clock::now() < limit)
        std::this_thread::yield();
    BOOST_TEST(count() == 4000);
}

} // namespace
