// SPDX-License-Identifier: BSL-1.0
// Sends back what it is sent; a coroutine a connection, under systemd or without.
//
// Connections that are open when the service becomes the next generation's go on in the old one until their peers close them,
// at most 30 seconds.
#include "arguments.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/log.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/log/expressions.hpp>
#include <boost/log/support/date_time.hpp>
#include <boost/log/trivial.hpp>
#include <boost/log/utility/setup/common_attributes.hpp>
#include <boost/log/utility/setup/console.hpp>

#include <signal.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;
using listener = upgrader::tcp_listener;

namespace {

// co_await gives [error_code, result] instead of throwing.
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

// The connection's guard ends with it: until then the drain waits.
asio::awaitable<void> serve(listener::connection connection)
{
    char data[4096];
    for (;;) {
        auto const [failed, size] = co_await connection.socket.async_read_some(asio::buffer(data), as_result);
        if (failed)
            co_return;
        if (auto const [ec, sent] = co_await asio::async_write(connection.socket, asio::buffer(data, size), as_result); ec)
            co_return;
    }
}

asio::awaitable<void> accept_all(listener& from)
{
    for (;;) {
        auto [ec, connection] = co_await from.async_accept(as_result);
        if (ec == ecdysis::errc::ended)
            co_return; // the next generation accepts, or we stop
        if (ec)
            throw ecdysis::error{ec, "accept"};
        asio::co_spawn(from.get_executor(), serve(std::move(connection)), asio::detached);
    }
}

void rethrow(std::exception_ptr failure)
{
    if (failure)
        std::rethrow_exception(failure);
}

asio::awaitable<void> run(upgrader& up, listener& from)
{
    co_await up.async_ready(); // the commit: accept
    BOOST_LOG_TRIVIAL(info) << "listening on " << example::bound_to(from.native_handle());

    asio::co_spawn(from.get_executor(), accept_all(from), rethrow);
    co_await up.async_wait(); // says that it serves; ends when the service is the next generation's, or stops
    co_await up.async_drain(30s);
}

/// The time, who speaks, and what; more than one would think of is possible, see Boost.Log.
void log_to_stderr()
{
    namespace expressions = boost::log::expressions;
    boost::log::add_common_attributes();
    boost::log::add_console_log(
        std::cerr, boost::log::keywords::auto_flush = true,
        boost::log::keywords::format =
            (expressions::stream << expressions::format_date_time<boost::posix_time::ptime>("TimeStamp", "%H:%M:%S.%f")
                                 << " [" << boost::log::trivial::severity << "] "
                                 << expressions::if_(expressions::has_attr<unsigned>("Generation"))
                                        [expressions::stream << "generation " << expressions::attr<unsigned>("Generation")
                                                             << " pid " << expressions::attr<int>("Pid") << ": "]
                                 << expressions::smessage));
}

} // namespace

int main(int argc, char** argv)
try {
    auto const arguments = example::arguments::read(argc, argv, "Sends back what it is sent (coroutines, socket pair).");
    log_to_stderr();

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .observer = ecdysis::log_events()},
                ecdysis::notify::systemd{{.required = false}}};
    auto from = up.listen_tcp(arguments.listen);
    asio::co_spawn(context, run(up, from), [&context](std::exception_ptr failure) {
        context.stop(); // what is left after the drain goes with the context
        rethrow(failure);
    });
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    BOOST_LOG_TRIVIAL(error) << e.what();
    return EXIT_FAILURE;
}
