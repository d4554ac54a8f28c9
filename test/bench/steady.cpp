// SPDX-License-Identifier: BSL-1.0
// A small HTTP server in one thread, on plain Asio or with an upgrader; what comes after the accept is the same code.

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>
#include <utility>

namespace {

namespace net = boost::asio;
using net::ip::tcp;
using ecdysis::error_code;

constexpr char const* usage = R"(usage: steady plain|upgrader

Serves HTTP on a port of 127.0.0.1 that it prints, until SIGTERM. Keeps connections alive unless a request says
`Connection: close`.
)";

constexpr std::string_view answer = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world\n";
constexpr std::string_view last_answer =
    "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHello, world\n";

/// What plain Asio has in the place of a guard.
struct nothing
{
    [[nodiscard]] static bool draining() noexcept { return false; }
};

template <class Guard>
net::awaitable<void> serve(tcp::socket socket, Guard guard)
{
    error_code ec;
    char request[2048];
    std::size_t filled = 0;
    for (;;) {
        filled += co_await socket.async_read_some(net::buffer(request + filled, sizeof request - filled),
                                                  net::redirect_error(net::use_awaitable, ec));
        if (ec)
            co_return;
        std::string_view const text{request, filled};
        if (!text.ends_with("\r\n\r\n"))
            continue;
        filled = 0;
        bool const close = guard.draining() || text.find("Connection: close") != text.npos;
        auto const reply = close ? last_answer : answer;
        co_await net::async_write(socket, net::buffer(reply), net::redirect_error(net::use_awaitable, ec));
        if (ec || close)
            co_return;
    }
}

void announce(int listener)
{
    error_code ec;
    std::printf("%u\n", ecdysis::address::bound(ecdysis::os::borrowed_fd{listener}, ec).port());
    std::fflush(stdout);
}

net::awaitable<void> accept_plain(tcp::acceptor& acceptor)
{
    for (;;) {
        error_code ec;
        auto socket = co_await acceptor.async_accept(net::redirect_error(net::use_awaitable, ec));
        if (!ec)
            net::co_spawn(acceptor.get_executor(), serve(std::move(socket), nothing{}), net::detached);
    }
}

void run_plain()
{
    net::io_context context{1};
    tcp::acceptor acceptor{context, {net::ip::address_v4::loopback(), 0}};
    acceptor.listen(SOMAXCONN);
    announce(acceptor.native_handle());
    net::co_spawn(context, accept_plain(acceptor), net::detached);
    context.run();
}

using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::none, ecdysis::transport::socketpair>;

net::awaitable<void> accept_with(upgrader::tcp_listener& listener)
{
    for (;;) {
        error_code ec;
        auto connection = co_await listener.async_accept(net::redirect_error(net::use_awaitable, ec));
        if (ec == ecdysis::errc::ended)
            co_return;
        if (!ec)
            net::co_spawn(listener.get_executor(), serve(std::move(connection.socket), std::move(connection.guard)),
                          net::detached);
    }
}

void run_with_upgrader()
{
    net::io_context context{1};
    upgrader up{context, {.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM, SIGINT}}};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.async_ready([&](error_code) {
        announce(listener.native_handle());
        net::co_spawn(context, accept_with(listener), net::detached);
        up.async_wait([&](error_code, ecdysis::exit) {
            up.async_drain(std::chrono::seconds{1}, [&](error_code, std::size_t) { context.stop(); });
        });
    });
    context.run();
}

} // namespace

int main(int count, char** arguments)
{
    std::string_view const mode = count == 2 ? arguments[1] : "";
    try {
        if (mode == "plain")
            run_plain();
        else if (mode == "upgrader")
            run_with_upgrader();
        else {
            std::fputs(usage, mode == "--help" ? stdout : stderr);
            return mode == "--help" ? 0 : 2;
        }
    } catch (std::exception const& e) {
        std::fprintf(stderr, "steady: %s\n", e.what());
        return 1;
    }
}
