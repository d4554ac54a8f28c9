// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server. During an upgrade no connection is refused; requests that are under way are answered within 30 s.
#include "arguments.hpp"
#include "http_connection.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio.hpp>

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;
using listener = upgrader::tcp_listener;

namespace {

asio::awaitable<void> run(upgrader& up, listener& from, asio::io_context& context)
{
    co_await up.async_ready();
    example::log("listening on " + example::bound_to(from.native_handle()));
    asio::co_spawn(context, example::accept_all(from, context, up.generation()), example::rethrow);
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
        example::rethrow(failure);
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
