// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server for systemd: example/systemd/ has units for it.
//
// It listens on what a socket unit passes, on what the descriptor store kept for it, on what its parent hands over, or on
// a socket of its own, in this order and by one and the same line. From a shell it is a server like the others.
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
#include <string>

namespace asio = boost::asio;
namespace notify = ecdysis::notify;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, notify::systemd, ecdysis::transport::socketpair>;

namespace {

asio::awaitable<void> run(upgrader& up, upgrader::tcp_listener& from, asio::io_context& context)
{
    co_await up.async_ready(); // first generation: the unit is active; a later one: accept, it is announced when it serves
    example::log("listening on " + example::bound_to(from.native_handle()));
    asio::co_spawn(context, example::accept_all(from, context, up.generation()), example::rethrow);
    co_await up.async_wait();     // says that it serves
    co_await up.async_drain(30s); // less than TimeoutStopSec= of the unit, 90 s by default
}

} // namespace

int main(int argc, char** argv)
try {
    std::string name;
    notify::systemd::options manager{.required = false};
    auto const arguments = example::arguments::read(
        argc, argv, "Answers each HTTP/1.1 request with its generation, under systemd.",
        {{"--name", "NAME", "the FileDescriptorName= of the socket unit to serve", [&name](auto& text) { name = text; }},
         example::flag("--store", manager.store, "whether to keep the listener in the descriptor store"),
         example::flag("--watchdog", manager.watchdog, "whether to feed the watchdog of the unit")});

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .observer = example::log_event},
                notify::systemd{manager}};
    auto from = up.listen_tcp(arguments.listen, {.name = name});
    asio::co_spawn(context, run(up, from, context), [&context](std::exception_ptr failure) {
        context.stop(); // what is left after the drain goes with the context
        example::rethrow(failure);
    });
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
