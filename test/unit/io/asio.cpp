// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/asio.hpp>

#define BOOST_TEST_MODULE io/asio
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/asio/write.hpp>

#include <signal.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

// What only the Asio policy has: completion tokens, executors, cancellation.

namespace {

using namespace test;

constexpr auto every_type = {net::cancellation_type::terminal, net::cancellation_type::partial,
                             net::cancellation_type::total};

/// Runs `context` until `predicate()`, or too long.
template <class F>
bool run_until(net::io_context& context, F predicate)
{
    auto const end = io::clock::now() + deadline;
    while (!predicate()) {
        if (io::clock::now() > end)
            return false;
        context.restart();
        context.run_one_for(1ms);
    }
    return true;
}

struct fixture
{
    ~fixture()
    {
        if (source)
            source->close();
    }

    void listen()
    {
        auto socket = listening();
        address = address_of(socket);
        error_code ec;
        source = io.make_source(std::move(socket), connections, ec);
        BOOST_TEST_REQUIRE(!ec);
        listener = io::asio::tcp_listener{source};
        source->open();
    }

    auto init()
    {
        return [this]() -> outcome<int>& { return value; };
    }

    net::io_context context;
    io::asio io{context};
    outcome<int> value;
    std::shared_ptr<ecdysis::open_connections> connections = std::make_shared<ecdysis::open_connections>();
    std::shared_ptr<io::asio::source> source;
    io::asio::tcp_listener listener;
    ::sockaddr_in address{};
};

/// A handler that can only be moved, and says what it got.
struct once
{
    explicit once(std::optional<std::pair<error_code, int>>& to) : to{&to} {}
    once(once&&) = default;
    void operator()(error_code ec, int value) { *to = std::pair{ec, value}; }

    std::optional<std::pair<error_code, int>>* to;
    std::unique_ptr<int> only_movable;
};

BOOST_FIXTURE_TEST_CASE(wait_completes_later, fixture)
{
    std::optional<std::pair<error_code, int>> got;
    io.async_wait<int>(init(), once{got});
    context.poll();
    BOOST_TEST(!got);
    BOOST_TEST(!context.stopped()); // what waits is work
    BOOST_TEST(value.awaited());
    {
        auto const hold = io.lock();
        value.set(errc::stopped, 7);
    }
    BOOST_TEST(!got); // never inside
    BOOST_TEST(context.run() == 1U);
    BOOST_TEST(got->first == errc::stopped);
    BOOST_TEST(got->second == 7);
}

BOOST_FIXTURE_TEST_CASE(wait_for_what_is_known_is_posted, fixture)
{
    value.set({}, 7);
    std::optional<std::pair<error_code, int>> got;
    io.async_wait<int>(init(), once{got});
    BOOST_TEST(!got);
    context.run();
    BOOST_TEST(got->second == 7);
}

BOOST_FIXTURE_TEST_CASE(a_second_wait_is_refused, fixture)
{
    std::optional<std::pair<error_code, int>> first;
    std::optional<std::pair<error_code, int>> second;
    io.async_wait<int>(init(), once{first});
    io.async_wait<int>(init(), once{second});
    context.poll();
    BOOST_TEST(!first);
    BOOST_TEST(second->first == errc::already_waiting);
    value.set({}, 1);
    context.run();
    BOOST_TEST(first->second == 1);
}

BOOST_FIXTURE_TEST_CASE(wait_takes_every_kind_of_token, fixture)
{
    auto future = io.async_wait<int>(init(), net::use_future);
    value.set({}, 7);
    context.run();
    BOOST_TEST(future.get() == 7);

    int coroutines = 0;
    net::co_spawn(
        context,
        [&]() -> net::awaitable<void> {
            BOOST_TEST(co_await io.async_wait<int>(init(), net::use_awaitable) == 7);
            BOOST_TEST(co_await io.async_wait<int>(init()) == 7); // deferred
            outcome<nothing> none;
            none.set({});
            co_await io.async_wait<nothing>([&]() -> outcome<nothing>& { return none; });
            none.clear();
            none.set(errc::stopped);
            try {
                co_await io.async_wait<nothing>([&]() -> outcome<nothing>& { return none; }, net::use_awaitable);
            } catch (ecdysis::error const& e) {
                BOOST_TEST(e.code() == errc::stopped);
                ++coroutines;
            }
        },
        net::detached);
    context.restart();
    context.run();
    BOOST_TEST(coroutines == 1);

    auto deferred = io.async_wait<int>(init(), net::deferred);
    std::optional<std::pair<error_code, int>> got;
    std::move(deferred)(once{got});
    context.restart();
    context.run();
    BOOST_TEST(got->second == 7);

    int calls = 0;
    auto const lvalue = [&, kept = std::make_shared<int>(1)](error_code, int) { calls += *kept; };
    auto not_const = lvalue;
    io.async_wait<int>(init(), lvalue);
    io.async_wait<int>(init(), not_const);
    io.async_wait<int>(init(), not_const); // it was copied, not moved from
    context.restart();
    context.run();
    BOOST_TEST(calls == 3);
}

BOOST_FIXTURE_TEST_CASE(the_start_has_the_lock_and_the_completion_has_not, fixture)
{
    std::jthread other;
    std::atomic<bool> entered = false;
    bool early = true;
    bool called = false;
    io.async_wait<int>(
        [&]() -> outcome<int>& {
            other = std::jthread{[&] {
                auto const hold = io.lock();
                entered = true;
            }};
            auto const until = io::clock::now() + 5ms;
            while (io::clock::now() < until) {}
            early = entered;
            value.set({}, 1);
            return value;
        },
        [&](error_code, int) {
            auto lock = std::async(std::launch::async, [&] { auto const hold = io.lock(); });
            called = ready(lock, deadline);
        });
    BOOST_TEST(!early);
    context.run();
    BOOST_TEST(called);
}

BOOST_FIXTURE_TEST_CASE(completion_is_on_the_handlers_executor, fixture)
{
    net::thread_pool pool{1};
    auto strand = net::make_strand(pool);
    auto const here = std::this_thread::get_id();
    std::promise<bool> done;
    io.async_wait<int>(init(), net::bind_executor(strand, [&](error_code, int) {
                           done.set_value(strand.running_in_this_thread() && std::this_thread::get_id() != here);
                       }));
    value.set({}, 1);
    context.run();
    auto future = done.get_future();
    BOOST_TEST(get(future));
    pool.join();
}

BOOST_FIXTURE_TEST_CASE(wait_can_be_cancelled, fixture)
{
    for (auto const type : every_type) {
        net::cancellation_signal signal;
        std::optional<std::pair<error_code, int>> got;
        io.async_wait<int>(init(), net::bind_cancellation_slot(signal.slot(), once{got}));
        context.restart();
        context.poll();
        BOOST_TEST(!got);
        std::jthread{[&] { signal.emit(type); }}; // from any thread
        BOOST_TEST(!value.awaited());
        context.run();
        BOOST_TEST(got->first == net::error::operation_aborted);
        signal.emit(type); // too late
    }
    value.set({}, 7);
    auto future = io.async_wait<int>(init(), net::use_future);
    context.restart();
    context.run();
    BOOST_TEST(future.get() == 7);
}

BOOST_FIXTURE_TEST_CASE(cancelling_and_completing_at_once_completes_once, fixture)
{
    for (int i = 0; i != 500; ++i) {
        outcome<int> result;
        net::cancellation_signal signal;
        int calls = 0;
        io.async_wait<int>([&]() -> outcome<int>& { return result; },
                           net::bind_cancellation_slot(signal.slot(), [&](error_code, int) { ++calls; }));
        {
            std::jthread const cancel{[&] { signal.emit(net::cancellation_type::terminal); }};
            auto const hold = io.lock();
            result.set({}, 1);
        }
        context.restart();
        context.run();
        BOOST_TEST_REQUIRE(calls == 1);
    }
}

BOOST_FIXTURE_TEST_CASE(accept_takes_every_kind_of_token, fixture)
{
    listen();
    auto const client = connect_to(address);
    auto future = listener.async_accept(net::use_future);
    BOOST_TEST(run_until(context, [&] { return ready(future, 0ms); }));
    auto connection = future.get();
    BOOST_TEST(connection.socket.remote_endpoint().port() == ntohs(static_cast<std::uint16_t>(port_of(client))));
    BOOST_TEST(connections->count() == 1U);

    bool done = false;
    auto const second = connect_to(address);
    auto const third = connect_to(address);
    net::co_spawn(
        context,
        [&]() -> net::awaitable<void> {
            auto [socket, guard] = co_await listener.async_accept();
            BOOST_TEST(static_cast<bool>(guard));
            char byte = 0;
            BOOST_TEST(::send(second.get(), "x", 1, 0) == 1);
            co_await net::async_read(socket, net::buffer(&byte, 1), net::use_awaitable);
            BOOST_TEST(byte == 'x');
            auto last = co_await listener.async_accept(net::use_awaitable);
            BOOST_TEST(connections->count() == 3U);
            done = true;
        },
        [](std::exception_ptr error) {
            if (error)
                std::rethrow_exception(error);
        });
    BOOST_TEST(run_until(context, [&] { return done; }));
    run_until(context, [&] { return connections->count() == 1U; });
    BOOST_TEST(connections->count() == 1U);
    source->end(false);
    future = listener.async_accept(net::use_future);
    context.restart();
    context.run();
    BOOST_CHECK_THROW(future.get(), ecdysis::error);
}

int threads()
{
    int count = 0;
    for ([[maybe_unused]] auto const& entry : std::filesystem::directory_iterator{"/proc/self/task"})
        ++count;
    return count;
}

BOOST_FIXTURE_TEST_CASE(futures_start_no_threads, fixture)
{
    // Posting to their executor would: it is the system's.
    int const before = threads();
    listen();
    auto const client = connect_to(address);
    auto accepted = listener.async_accept(net::use_future);
    auto waited = io.async_wait<int>(init(), net::use_future);
    value.set({}, 1);
    context.run();
    accepted.get();
    waited.get();
    BOOST_TEST(threads() == before);
}

BOOST_FIXTURE_TEST_CASE(accept_never_completes_inside, fixture)
{
    listen();
    auto const client = connect_to(address);
    bool called = false;
    net::post(context, [&] {
        listener.async_accept([&](error_code, auto) { called = true; });
        BOOST_TEST(!called);
    });
    context.run();
    BOOST_TEST(called);
}

BOOST_FIXTURE_TEST_CASE(accept_completes_on_the_handlers_executor, fixture)
{
    listen();
    net::thread_pool pool{1};
    auto strand = net::make_strand(pool);
    for (int i = 0; i != 2; ++i) {
        std::promise<bool> done;
        auto future = done.get_future();
        auto client = i == 0 ? connect_to(address) : os::owned_fd{}; // at once, and by the reactor
        listener.async_accept(net::bind_executor(strand, [&](error_code ec, auto) {
            done.set_value(!ec && strand.running_in_this_thread());
        }));
        if (i == 1)
            client = connect_to(address);
        context.restart();
        context.run();
        BOOST_TEST(get(future));
    }
    pool.join();
}

BOOST_FIXTURE_TEST_CASE(the_sockets_executor_can_be_chosen, fixture)
{
    listen();
    net::io_context other;
    auto const client = connect_to(address);
    bool called = false;
    listener.async_accept(other.get_executor(), [&](error_code ec, io::asio::connection<net::ip::tcp> connection) {
        BOOST_TEST(!ec);
        BOOST_TEST((connection.socket.get_executor() == net::any_io_executor{other.get_executor()}));
        called = true;
    });
    context.run();
    BOOST_TEST(called);
    auto future = listener.async_accept(net::make_strand(other), net::use_future);
    source->end(false);
    context.restart();
    context.run();
    BOOST_CHECK_THROW(future.get(), ecdysis::error);
}

BOOST_FIXTURE_TEST_CASE(accept_can_be_cancelled, fixture)
{
    listen();
    error_code second;
    listener.async_accept([&](error_code ec, auto) { second = ec; });
    for (auto const type : every_type) {
        net::cancellation_signal signal;
        error_code first;
        listener.async_accept(net::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto) { first = ec; }));
        context.restart();
        context.poll();
        BOOST_TEST(!first);
        std::jthread{[&] { signal.emit(type); }};
        BOOST_TEST(run_until(context, [&] { return first == net::error::operation_aborted; }));
        BOOST_TEST(!second);
    }
    listener.cancel();
    context.restart();
    context.run(); // nothing is left that waits
    BOOST_TEST(second == net::error::operation_aborted);
    BOOST_TEST(connections->count() == 0U);

    // and it accepts again
    auto const client = connect_to(address);
    auto future = listener.async_accept(net::use_future);
    context.restart();
    context.run();
    BOOST_TEST(static_cast<bool>(future.get().guard));
}

BOOST_FIXTURE_TEST_CASE(a_listener_that_goes_cancels, fixture)
{
    listen();
    error_code got;
    listener.async_accept([&](error_code ec, auto) { got = ec; });
    listener = {};
    context.run();
    BOOST_TEST(got == net::error::operation_aborted);
    BOOST_TEST(static_cast<bool>(source->fd())); // the socket is the upgrader's
}

BOOST_FIXTURE_TEST_CASE(an_accept_before_commit_is_work_and_can_be_cancelled, fixture)
{
    error_code ec;
    source = io.make_source(listening(), connections, ec);
    listener = io::asio::tcp_listener{source};
    for (auto const type : every_type) {
        net::cancellation_signal signal;
        error_code got;
        listener.async_accept(net::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto) { got = ec; }));
        context.restart();
        context.poll();
        BOOST_TEST(!context.stopped());
        signal.emit(type);
        context.run();
        BOOST_TEST(got == net::error::operation_aborted);
    }
}

BOOST_FIXTURE_TEST_CASE(an_accept_in_a_pause_is_work_and_can_be_cancelled, fixture)
{
    listen();
    for (bool const waits_already : {true, false}) {
        source->open();
        error_code got;
        net::cancellation_signal signal;
        auto const accept = [&] {
            listener.async_accept(net::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto) { got = ec; }));
            context.restart();
            context.poll();
        };
        if (waits_already)
            accept();
        source->pause();
        if (!waits_already)
            accept();
        auto const client = connect_to(address);
        context.poll();
        BOOST_TEST(context.poll() == 0U); // the reactor is asked no more
        BOOST_TEST(!got);
        BOOST_TEST(!context.stopped());
        signal.emit(net::cancellation_type::terminal);
        context.run();
        BOOST_TEST(got == net::error::operation_aborted);
        BOOST_TEST(connections->count() == 0U);
        // and it is still in the queue
        source->open();
        auto future = listener.async_accept(net::use_future);
        context.restart();
        context.run();
        BOOST_TEST(static_cast<bool>(future.get().guard));
    }
}

BOOST_FIXTURE_TEST_CASE(a_coroutine_may_be_destroyed_while_it_waits, fixture)
{
    listen();
    net::co_spawn(
        context,
        [](auto& from) -> net::awaitable<void> {
            for (;;)
                static_cast<void>(co_await from.async_accept());
        }(listener),
        net::detached);
    context.poll();
    // The order of a host's destruction: the upgrader closes its sources, then the context goes.
}

BOOST_AUTO_TEST_CASE(other_families_and_kinds)
{
    net::io_context context;
    io::asio io{context};
    auto const unix_listening = [](int type, std::string const& name) {
        os::owned_fd socket{check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0))};
        ::sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name.copy(address.sun_path + 1, name.size()); // abstract
        auto const size = static_cast<::socklen_t>(offsetof(::sockaddr_un, sun_path) + 1 + name.size());
        check(::bind(socket.get(), reinterpret_cast<::sockaddr*>(&address), size));
        check(::listen(socket.get(), 8));
        os::owned_fd client{check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0))};
        check(::connect(client.get(), reinterpret_cast<::sockaddr*>(&address), size));
        return std::pair{std::move(socket), std::move(client)};
    };
    auto const try_one = [&]<class Listener>(std::type_identity<Listener>, os::owned_fd socket,
                                             os::owned_fd const& client) {
        error_code ec;
        auto const source = io.make_source(std::move(socket), nullptr, ec);
        source->open();
        Listener listener{source};
        auto future = listener.async_accept(net::use_future);
        context.restart();
        context.run();
        auto connection = future.get();
        check(static_cast<int>(::send(client.get(), "x", 1, 0)));
        char byte = 0;
        if constexpr (requires { connection.socket.read_some(net::buffer(&byte, 1)); }) {
            connection.socket.read_some(net::buffer(&byte, 1));
        } else {
            net::socket_base::message_flags flags = 0;
            connection.socket.receive(net::buffer(&byte, 1), flags);
        }
        BOOST_TEST(byte == 'x');
        source->close();
    };
    auto const name = "ecdysis/io/asio " + std::to_string(::getpid());
    auto stream = unix_listening(SOCK_STREAM, name);
    try_one(std::type_identity<io::asio::unix_listener>{}, std::move(stream.first), stream.second);
    auto packets = unix_listening(SOCK_SEQPACKET, name + "p");
    try_one(std::type_identity<io::asio::seqpacket_listener>{}, std::move(packets.first), packets.second);

    os::owned_fd six{::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ::sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    if (six && ::bind(six.get(), reinterpret_cast<::sockaddr*>(&address), sizeof address) == 0) {
        check(::listen(six.get(), 8));
        ::socklen_t size = sizeof address;
        check(::getsockname(six.get(), reinterpret_cast<::sockaddr*>(&address), &size));
        os::owned_fd client{check(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0))};
        check(::connect(client.get(), reinterpret_cast<::sockaddr*>(&address), size));
        try_one(std::type_identity<io::asio::tcp_listener>{}, std::move(six), client);
    } else {
        BOOST_TEST_MESSAGE("no IPv6 here");
    }
}

BOOST_AUTO_TEST_CASE(datagram_waits_take_tokens_and_can_be_cancelled)
{
    net::io_context context;
    io::asio io{context};
    error_code ec;
    auto const source = io.make_source(loopback(SOCK_DGRAM), nullptr, ec);
    source->open();
    io::asio::datagram datagram{source};
    auto const client = connect_to(address_of(source->fd()), SOCK_DGRAM);
    for (auto const type : every_type) {
        net::cancellation_signal signal;
        error_code got;
        datagram.async_wait(net::bind_cancellation_slot(signal.slot(), [&](error_code ec) { got = ec; }));
        context.restart();
        context.poll();
        BOOST_TEST(!got);
        signal.emit(type);
        context.run();
        BOOST_TEST(got == net::error::operation_aborted);
    }
    auto future = datagram.async_wait(net::use_future);
    check(static_cast<int>(::send(client.get(), "x", 1, 0)));
    context.restart();
    context.run();
    future.get();
    bool done = false;
    net::co_spawn(
        context,
        [&]() -> net::awaitable<void> {
            co_await datagram.async_wait();
            done = true;
        },
        net::detached);
    context.restart();
    context.run();
    BOOST_TEST(done);
    source->close();
}

BOOST_AUTO_TEST_CASE(it_is_made_of_contexts_and_executors)
{
    net::io_context context;
    net::thread_pool pool{1};
    io::asio const from_context = context;
    io::asio const from_executor = context.get_executor();
    io::asio const from_strand = net::make_strand(context);
    io::asio const from_any = net::any_io_executor{context.get_executor()};
    io::asio const from_pool = pool;
    BOOST_TEST((from_context.get_executor() == from_executor.get_executor()));
}

BOOST_AUTO_TEST_CASE(a_second_watch_of_a_descriptor_is_an_error)
{
    net::io_context context;
    io::asio io{context};
    pipe_pair pipe;
    error_code ec;
    auto const first = io.watch(pipe.reader, [] {}, ec);
    auto const second = io.watch(pipe.reader, [] {}, ec);
    BOOST_TEST(ec == boost::system::errc::file_exists);
    BOOST_TEST(!second);
}

BOOST_AUTO_TEST_CASE(handles_are_work_and_no_longer_once_dropped)
{
    net::io_context context;
    io::asio io{context};
    pipe_pair pipe;
    error_code ec;
    auto watch = io.watch(pipe.reader, [] {}, ec);
    auto timer = io.at(io::clock::now() + 1h, [] {});
    auto signals = io.signals(std::array{SIGUSR1}, [](int) {}, ec);
    context.poll();
    BOOST_TEST(!context.stopped());
    watch = {};
    timer = {};
    signals = {};
    BOOST_TEST(context.run_for(deadline) != 0U);
    BOOST_TEST(context.stopped());
}

} // namespace
