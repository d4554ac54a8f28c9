// SPDX-License-Identifier: BSL-1.0
// Sends each datagram back with the generation that answers; over an upgrade none is lost, for both generations read
// from one queue.
#include "arguments.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;

namespace {

/// Answers one datagram; false when there is none.
bool answer_one(int socket, std::string const& generation)
{
    char data[2048];
    ::sockaddr_storage peer;
    ::socklen_t size = sizeof peer;
    auto* const from = reinterpret_cast<::sockaddr*>(&peer);
    auto const got = ::recvfrom(socket, data, sizeof data, 0, from, &size);
    if (got < 0) // nothing there (any more), for the other generation reads too; or an error of an answer sent before
        return errno != EAGAIN && errno != EBADF;
    auto const answer = generation + ": " + std::string(data, static_cast<std::size_t>(got));
    ::sendto(socket, answer.data(), answer.size(), 0, from, size); // a datagram may be lost: nothing to do about it
    return true;
}

asio::awaitable<void> answer_all(upgrader::datagram& socket, std::string generation)
{
    for (;;) {
        auto const [ec] = co_await socket.async_wait(asio::as_tuple(asio::use_awaitable));
        if (ec == ecdysis::errc::ended)
            co_return; // the next generation answers, or we stop
        if (ec)
            throw ecdysis::error{ec, "wait for a datagram"};
        for (int i = 0; i != 64 && answer_one(socket.native_handle(), generation); ++i) // a stop wants its turn, too
            ;
    }
}

void rethrow(std::exception_ptr failure)
{
    if (failure)
        std::rethrow_exception(failure);
}

asio::awaitable<void> run(upgrader& up, upgrader::datagram& socket)
{
    co_await up.async_ready();
    example::log("answering on " + example::bound_to(socket.native_handle()));

    auto const generation = "generation " + std::to_string(up.generation());
    asio::co_spawn(socket.get_executor(), answer_all(socket, generation), rethrow);
    co_await up.async_wait();
    co_await up.async_drain(30s); // at once: a datagram is answered when it is read
}

} // namespace

int main(int argc, char** argv)
try {
    auto const arguments = example::arguments::read(argc, argv, "Sends datagrams back with its generation.");

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}}};
    auto socket = up.bind_udp(arguments.listen);
    asio::co_spawn(context, run(up, socket), rethrow);
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
