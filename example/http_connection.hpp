// SPDX-License-Identifier: BSL-1.0
#ifndef EXAMPLE_HTTP_CONNECTION_HPP
#define EXAMPLE_HTTP_CONNECTION_HPP

// What the HTTP examples do with a connection.
//
// When the service is the next generation's, each answer of the old one says `Connection: close`. After a second the
// connections that no request comes on are closed, and what is still being received is answered.
#include <ecdysis/error.hpp>
#include <ecdysis/io/asio.hpp>
#include <ecdysis/os/process.hpp>

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

namespace example {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using listener = ecdysis::io::asio::tcp_listener;

// co_await gives [error_code, result] instead of throwing.
inline constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

inline http::response<http::string_body> answer(http::request<http::string_body> const& to, unsigned generation)
{
    auto const pid = std::to_string(ecdysis::os::number(ecdysis::os::this_process()));
    http::response<http::string_body> result{http::status::ok, to.version()};
    result.set("X-Generation", std::to_string(generation) + " pid " + pid);
    result.body() = "generation " + std::to_string(generation) + " pid " + pid + "\n";
    result.prepare_payload();
    return result;
}

/// False when the peer has gone, or should go: no request has come, and `end_of_patience` is requested.
inline asio::awaitable<bool> request_comes(asio::ip::tcp::socket& socket, std::stop_token end_of_patience)
{
    // Requested in another thread: posted to this connection's executor, and no harm when this wait is over by then.
    auto const signal = std::make_shared<asio::cancellation_signal>();
    std::stop_callback const stop{end_of_patience, [signal, executor = socket.get_executor()] {
                                      asio::post(executor, [signal] { signal->emit(asio::cancellation_type::all); });
                                  }};
    auto const [ec] = co_await socket.async_wait(socket.wait_read, asio::bind_cancellation_slot(signal->slot(), as_result));
    co_return !ec || socket.available() > 0;
}

/// Until either side is done with it.
inline asio::awaitable<void> serve(listener::connection connection, unsigned generation)
{
    using namespace std::chrono_literals;
    beast::tcp_stream stream{std::move(connection.socket)};
    auto const guard = std::move(connection.guard); // the drain waits until it goes
    beast::flat_buffer buffer;
    for (bool more = true; more;) {
        if (buffer.size() == 0 && !co_await request_comes(stream.socket(), guard.close_idle()))
            break;
        http::request<http::string_body> request;
        stream.expires_after(30s);
        if (auto const [ec, size] = co_await http::async_read(stream, buffer, request, as_result); ec)
            break;
        auto response = answer(request, generation);
        more = request.keep_alive() && !guard.draining();
        response.keep_alive(more);
        if (auto const [ec, size] = co_await http::async_write(stream, response, as_result); ec)
            break;
    }
    // Closing with something unread would reset the connection, and take the last answer from under the peer's eyes.
    ecdysis::error_code ec;
    stream.socket().shutdown(asio::socket_base::shutdown_send, ec);
    stream.expires_after(2s);
    for (char rest[1024]; !ec;)
        ec = std::get<0>(co_await stream.async_read_some(asio::buffer(rest), as_result));
}

/// Serves each connection on a strand of its own, until accepting has ended.
inline asio::awaitable<void> accept_all(listener& from, asio::io_context& context, unsigned generation)
{
    for (;;) {
        auto [ec, connection] = co_await from.async_accept(asio::make_strand(context), as_result);
        if (ec == ecdysis::errc::ended)
            co_return; // the next generation accepts, or we stop
        if (ec)
            throw ecdysis::error{ec, "accept"};
        auto const executor = connection.socket.get_executor();
        asio::co_spawn(executor, serve(std::move(connection), generation), asio::detached);
    }
}

/// For co_spawn: what a coroutine throws comes out of run().
inline void rethrow(std::exception_ptr failure)
{
    if (failure)
        std::rethrow_exception(failure);
}

} // namespace example

#endif
