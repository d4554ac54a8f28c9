// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server whose upgrades no client notices.
//
// Once the next generation serves, each answer of the old one says `Connection: close`; after a second the connections
// that no request comes on are closed, and what is still being received is answered.
#include "arguments.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <signal.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;
using listener = upgrader::tcp_listener;

namespace {

// co_await gives [error_code, result] instead of throwing.
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

http::response<http::string_body> answer(http::request<http::string_body> const& to, unsigned generation)
{
    auto const pid = std::to_string(ecdysis::os::number(ecdysis::os::this_process()));
    http::response<http::string_body> result{http::status::ok, to.version()};
    result.set("X-Generation", std::to_string(generation) + " pid " + pid);
    result.body() = "generation " + std::to_string(generation) + " pid " + pid + "\n";
    result.prepare_payload();
    return result;
}

/// False when the peer has gone, or should go: no request has come, and `end_of_patience` is requested.
asio::awaitable<bool> request_comes(asio::ip::tcp::socket& socket, std::stop_token end_of_patience)
{
    // Requested in another thread: posted to this connection's executor, and no harm when this wait is over by then.
    auto const signal = std::make_shared<asio::cancellation_signal>();
    std::stop_callback const stop{end_of_patience, [signal, executor = socket.get_executor()] {
                                      asio::post(executor, [signal] { signal->emit(asio::cancellation_type::all); });
                                  }};
    auto const [ec] = co_await socket.async_wait(socket.wait_read, asio::bind_cancellation_slot(signal->slot(), as_result));
    co_return !ec || socket.available() > 0;
}

asio::awaitable<void> serve(listener::connection connection, unsigned generation)
{
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

asio::awaitable<void> accept_all(listener& from, asio::io_context& context, unsigned generation)
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

void rethrow(std::exception_ptr failure)
{
    if (failure)
        std::rethrow_exception(failure);
}

asio::awaitable<void> run(upgrader& up, listener& from, asio::io_context& context)
{
    co_await up.async_ready();
    example::log("listening on " + example::bound_to(from.native_handle()));
    asio::co_spawn(context, accept_all(from, context, up.generation()), rethrow);
    co_await up.async_wait();
    co_await up.async_drain(30s);
}

} // namespace

int main(int argc, char** argv)
try {
    unsigned threads = 1, ready_timeout = 60'000;
    auto const arguments = example::arguments::read(
        argc, argv, "Answers each HTTP/1.1 request with its generation.",
        {example::number("--threads", threads, "that serve, 1 by default"),
         example::number("--ready-timeout", ready_timeout, "for the next generation to start, in ms, 60000 by default")});

    asio::io_context context{static_cast<int>(threads)};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .ready_timeout = std::chrono::milliseconds{ready_timeout},
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}}};
    auto from = up.listen_tcp(arguments.listen);
    asio::co_spawn(context, run(up, from, context), [&context](std::exception_ptr failure) {
        context.stop(); // what is left after the drain goes with the context
        rethrow(failure);
    });
    std::vector<std::jthread> others;
    while (others.size() + 1 < threads)
        others.emplace_back([&context] { context.run(); });
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
