// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_UNIT_IO_WORLD_HPP
#define ECDYSIS_TEST_UNIT_IO_WORLD_HPP

// The same tests for both policies: real sockets on loopback, and two worlds that differ in who waits.

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace ecdysis {

inline std::ostream& operator<<(std::ostream& out, errc value)
{
    return out << message(value);
}

} // namespace ecdysis

namespace test {

namespace net = boost::asio;
namespace io = ecdysis::io;
namespace os = ecdysis::os;
using ecdysis::errc;
using ecdysis::error_code;
using ecdysis::nothing;
using ecdysis::outcome;
using namespace std::chrono_literals;

/// Far longer than anything takes, for waits that must end.
inline constexpr auto deadline = 10s;
/// Long enough for what must not happen to happen.
inline constexpr auto moment = 30ms;

inline int check(int result)
{
    if (result < 0)
        throw ecdysis::error{os::last_error()};
    return result;
}

inline os::owned_fd loopback(int type)
{
    os::owned_fd socket{check(::socket(AF_INET, type | SOCK_CLOEXEC, 0))};
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(::bind(socket.get(), reinterpret_cast<::sockaddr*>(&address), sizeof address));
    return socket;
}

inline os::owned_fd listening()
{
    auto socket = loopback(SOCK_STREAM);
    check(::listen(socket.get(), 128));
    return socket;
}

inline ::sockaddr_in address_of(os::borrowed_fd socket)
{
    ::sockaddr_in address{};
    ::socklen_t size = sizeof address;
    check(::getsockname(socket.get(), reinterpret_cast<::sockaddr*>(&address), &size));
    return address;
}

inline int port_of(os::borrowed_fd socket)
{
    return address_of(socket).sin_port;
}

inline int peer_port_of(os::borrowed_fd socket)
{
    ::sockaddr_in address{};
    ::socklen_t size = sizeof address;
    check(::getpeername(socket.get(), reinterpret_cast<::sockaddr*>(&address), &size));
    return address.sin_port;
}

inline os::owned_fd connect_to(::sockaddr_in address, int type = SOCK_STREAM)
{
    os::owned_fd socket{check(::socket(AF_INET, type | SOCK_CLOEXEC, 0))};
    check(::connect(socket.get(), reinterpret_cast<::sockaddr*>(&address), sizeof address));
    return socket;
}

inline os::owned_fd duplicate(os::borrowed_fd fd)
{
    return os::owned_fd{check(::dup(fd.get()))};
}

struct pipe_pair
{
    pipe_pair()
    {
        int ends[2];
        check(::pipe2(ends, O_CLOEXEC | O_NONBLOCK));
        reader = os::owned_fd{ends[0]};
        writer = os::owned_fd{ends[1]};
    }
    void write() const { check(static_cast<int>(::write(writer.get(), "x", 1))); }
    void read() const
    {
        char byte;
        [[maybe_unused]] auto const size = ::read(reader.get(), &byte, 1);
    }

    os::owned_fd reader;
    os::owned_fd writer;
};

/// How long all threads of this process have run.
inline std::chrono::nanoseconds used_time()
{
    ::timespec time{};
    check(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time));
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
}

/// What one accept gave.
struct accepted
{
    error_code ec;
    os::owned_fd socket;
    ecdysis::connection_guard guard;
};

template <class T>
bool ready(std::future<T> const& future, std::chrono::milliseconds wait = moment)
{
    return future.wait_for(wait) == std::future_status::ready;
}

template <class T>
T get(std::future<T>& future)
{
    if (!ready(future, deadline))
        throw std::runtime_error{"what was waited for did not happen"};
    return future.get();
}

/// Callbacks run in the test's own thread, inside `until`.
struct sync_pumped
{
    using policy = io::sync;

    template <class F>
    bool until(F predicate, std::chrono::milliseconds wait = deadline)
    {
        auto const end = io::clock::now() + wait;
        while (!predicate()) {
            if (io::clock::now() > end)
                return false;
            outcome<nothing> later;
            auto const tick = io.at(io::clock::now() + 1ms, [&] { later.set({}); });
            error_code ec;
            io.wait(later, ec);
        }
        return true;
    }
    void settle()
    {
        until([] { return false; }, moment);
    }

    policy io;
};

struct asio_pumped
{
    using policy = io::asio;

    template <class F>
    bool until(F predicate, std::chrono::milliseconds wait = deadline)
    {
        auto const end = io::clock::now() + wait;
        while (!predicate()) {
            if (io::clock::now() > end)
                return false;
            context.restart();
            context.run_one_for(1ms);
        }
        return true;
    }
    void settle()
    {
        until([] { return false; }, moment);
    }

    net::io_context context;
    policy io{context};
};

/// Accepts run in threads of their own.
struct sync_threads
{
    using policy = io::sync;
    using listener = io::sync_listener;

    static std::future<accepted> accept(listener& from)
    {
        return std::async(std::launch::async, [&from] {
            accepted result;
            if (auto connection = from.accept(result.ec)) {
                result.socket = std::move(connection->socket);
                result.guard = std::move(connection->guard);
            }
            return result;
        });
    }
    static std::future<error_code> wait(io::sync_datagram& on)
    {
        return std::async(std::launch::async, [&on] {
            error_code ec;
            static_cast<void>(on.wait(ec));
            return ec;
        });
    }

    policy io;
};

struct asio_threads
{
    using policy = io::asio;
    using listener = policy::tcp_listener;

    explicit asio_threads(int count = 2)
    {
        for (int i = 0; i != count; ++i)
            threads.emplace_back([this] { context.run(); });
    }
    ~asio_threads()
    {
        work.reset();
        threads.clear();
    }

    static std::future<accepted> accept(listener& from)
    {
        auto promise = std::make_unique<std::promise<accepted>>();
        auto future = promise->get_future();
        from.async_accept([promise = std::move(promise)](error_code ec, listener::connection connection) {
            os::owned_fd socket;
            if (!ec)
                socket = os::owned_fd{connection.socket.release()};
            promise->set_value({ec, std::move(socket), std::move(connection.guard)});
        });
        return future;
    }
    static std::future<error_code> wait(io::asio_datagram& on)
    {
        auto promise = std::make_unique<std::promise<error_code>>();
        auto future = promise->get_future();
        on.async_wait([promise = std::move(promise)](error_code ec) { promise->set_value(ec); });
        return future;
    }

    net::io_context context;
    net::executor_work_guard<net::io_context::executor_type> work{context.get_executor()};
    std::vector<std::jthread> threads;
    policy io{context};
};

} // namespace test

#endif
