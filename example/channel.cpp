// SPDX-License-Identifier: BSL-1.0
// Sends back what it is sent, and hands its live connections over: none has to end for an upgrade.
//
// Each is offered as long as it lives, by its number. The child claims what there is and says so over the channel,
// "claimed 1 2 5". When the service is the child's, and not sooner, the parent sends back what it has read of each and lets go
// of it, "yours 2". So two never read from one connection, but for a child that is taken back and outlives its patience below.
#include "arguments.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio.hpp>

#include <signal.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using channel = asio::local::datagram_protocol::socket;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;
using connection = upgrader::tcp_listener::connection; // a socket, and the guard that the drain waits for

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable); // co_await gives [error_code, result] and does not throw

struct service
{
    upgrader& up;
    asio::io_context& context;
    upgrader::tcp_listener listener;
    channel to_parent{context}, to_child{context};
    std::map<std::size_t, connection> claimed{};          // the parent still reads from them
    std::map<std::size_t, asio::ip::tcp::socket*> open{}; // we read from them; null: no more, the child will
    std::size_t last = 0;

    asio::awaitable<void> run()
    {
        while (auto file = up.claim("connection")) {
            connection one{{context, asio::ip::tcp::v4(), file->fd.release()}, ecdysis::connection_guard{up.connections()}};
            last = std::max(last, claimed.emplace(std::stoul(file->bytes), std::move(one)).first->first);
        }
        co_await up.async_ready();
        example::log("listening on " + example::bound_to(listener.native_handle()));
        asio::co_spawn(context, accept_all(), asio::detached);
        if (auto fd = up.take_channel_to_parent())
            asio::co_spawn(context, take_over(std::move(fd)), asio::detached);
        if (auto const exit = co_await up.async_wait(asio::use_awaitable); exit.upgraded())
            asio::co_spawn(context, let_go(ecdysis::connection_guard{up.connections()}), asio::detached);
        else
            claimed.clear(); // the service was taken back, or stops: the parent goes on with these
        co_await up.async_drain(30s); // what came too late to be handed over goes on here until then
        context.stop();
    }

    asio::awaitable<void> accept_all()
    {
        for (;;) // until it throws that this has ended: the next generation accepts, or we stop
            asio::co_spawn(context, serve(++last, co_await listener.async_accept(asio::use_awaitable)), asio::detached);
    }

    asio::awaitable<void> serve(std::size_t number, connection from)
    {
        auto const offer = up.offer("connection", from.socket.native_handle(), std::to_string(number));
        auto const generation = "generation " + std::to_string(up.generation()) + ": ";
        auto const& ours = open[number] = &from.socket;
        for (char data[4096]; ours != nullptr;) {
            auto const [failed, size] = co_await from.socket.async_read_some(asio::buffer(data), as_result);
            if (failed == asio::error::operation_aborted)
                continue;
            auto const answer = generation + std::string(data, size);
            if (failed || std::get<0>(co_await asio::async_write(from.socket, asio::buffer(answer), as_result)))
                break;
        }
        if (ours == nullptr)
            co_await say(to_child, "yours " + std::to_string(number));
        open.erase(number);
    }

    asio::awaitable<void> let_go(ecdysis::connection_guard)
    {
        to_child.assign({}, up.take_channel_to_child().release());
        std::istringstream words{co_await hear(to_child)};
        for (std::size_t number; words >> number;) {
            if (auto const found = open.find(number); found != open.end())
                std::exchange(found->second, nullptr)->cancel();
            else // it has ended meanwhile, as the child will find
                co_await say(to_child, "yours " + std::to_string(number));
        }
    }

    /// A parent that has died says nothing; after longer than it would drain, all is ours. With options.probation, add that.
    asio::awaitable<void> take_over(ecdysis::os::owned_fd fd)
    {
        to_parent.assign({}, fd.release());
        std::string line = "claimed";
        for (auto const& [number, one] : claimed)
            line += " " + std::to_string(number);
        co_await say(to_parent, line);
        asio::steady_timer patience{context, 31s};
        patience.async_wait([this](ecdysis::error_code ec) { ec ? void() : to_parent.cancel(); });
        while (!claimed.empty()) {
            auto const said = co_await hear(to_parent);
            if (auto found = claimed.extract(said.empty() ? claimed.begin()->first : std::stoul(said)))
                asio::co_spawn(context, serve(found.key(), std::move(found.mapped())), asio::detached);
        }
    }

    asio::awaitable<void> say(channel& to, std::string line) { co_await to.async_send(asio::buffer(line), as_result); }
    /// What comes after the first word; nothing when cancelled.
    asio::awaitable<std::string> hear(channel& from)
    {
        std::string line(65536, '\0');
        line.resize(std::get<1>(co_await from.async_receive(asio::buffer(line), as_result)));
        example::log("the other generation says: " + line);
        co_return line.substr(std::min(line.size(), line.find(' ')));
    }
};

} // namespace

int main(int argc, char** argv)
try {
    auto const arguments = example::arguments::read(argc, argv, "Echoes, and hands its live connections over.");
    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .channel = true,
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}}};
    service echo{.up = up, .context = context, .listener = up.listen_tcp(arguments.listen)};
    auto const ended = [](std::exception_ptr failure) { failure ? std::rethrow_exception(failure) : void(); };
    asio::co_spawn(context, echo.run(), ended);
    context.run();
    return 0;
} catch (std::exception const& e) {
    example::log(e.what());
    return 1;
}
