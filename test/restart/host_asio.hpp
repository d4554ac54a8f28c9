// SPDX-License-Identifier: BSL-1.0
// host.cpp with io::asio: several threads run the context, each connection is a coroutine on its own strand.
#pragma once

#include "host_sandbox.hpp"
#include "host_service.hpp"

#include <ecdysis/io/asio.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <exception>

namespace host {

namespace asio = boost::asio;

inline constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

template <class Upgrader, class Socket>
asio::awaitable<void> talk(service<Upgrader>& with, std::shared_ptr<Socket> socket, ecdysis::connection_guard guard,
                            std::string text = {})
{
    std::stop_callback const idle{guard.close_idle(), [socket] {
                                      asio::post(socket->get_executor(), [socket] {
                                          boost::system::error_code ignored;
                                          socket->cancel(ignored);
                                      });
                                  }};
    // co_spawn may begin inside the coroutine that has accepted, which a slow answer would hold up.
    co_await asio::post(asio::use_awaitable);
    auto const fd = socket->native_handle();
    for (bool last = false;;) {
        for (auto end = text.find('\n'); end != text.npos && !last; end = text.find('\n')) {
            auto const line = text.substr(0, end);
            text.erase(0, end + 1);
            last = guard.draining() || line == "quit";
            auto const answer = with.answer(line, last);
            if (line == "offer")
                with.park(ecdysis::os::owned_fd{::dup(fd)}, text);
            ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
            last = last || line == "offer";
        }
        if (last)
            break;
        char buffer[512];
        auto const size = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (size == 0 || (size < 0 && errno != EAGAIN))
            break;
        if (size < 0) {
            if (guard.close_idle().stop_requested())
                break;
            co_await socket->async_wait(Socket::wait_read, as_result);
            continue;
        }
        text.append(buffer, static_cast<std::size_t>(size));
    }
    // Here and not with the last copy, which the callback may have: the guard says that the connection has ended.
    boost::system::error_code ignored;
    socket->close(ignored);
}

template <class Upgrader, class Listener>
asio::awaitable<void> accept(service<Upgrader>& with, asio::io_context& context, Listener& listener)
{
    for (;;) {
        asio::any_io_executor const own = asio::make_strand(context);
        while (with.leaves_queued())
            co_await asio::steady_timer{context, std::chrono::milliseconds{1}}.async_wait(as_result);
        auto [ec, accepted] = co_await listener.async_accept(own, as_result);
        if (ec) {
            if (ec != ecdysis::errc::ended)
                with.log("error", "accept: " + ec.message());
            co_return;
        }
        using socket = decltype(accepted.socket);
        asio::co_spawn(own, talk(with, std::make_shared<socket>(std::move(accepted.socket)), std::move(accepted.guard)),
                       asio::detached);
    }
}

template <class Upgrader>
asio::awaitable<void> answer_datagrams(service<Upgrader>& with, ecdysis::io::asio_datagram& socket)
{
    for (;;) {
        while (with.leaves_queued())
            co_await asio::steady_timer{co_await asio::this_coro::executor, std::chrono::milliseconds{1}}.async_wait(as_result);
        auto [ec] = co_await socket.async_wait(as_result);
        if (ec)
            co_return;
        char buffer[512];
        ::sockaddr_storage peer;
        ::socklen_t length = sizeof peer;
        auto* const from = reinterpret_cast<::sockaddr*>(&peer);
        auto const size = ::recvfrom(socket.native_handle(), buffer, sizeof buffer, MSG_DONTWAIT, from, &length);
        if (size < 0)
            continue;
        auto const answer = with.answer({}, false);
        ::sendto(socket.native_handle(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL, from, length);
    }
}

template <class Upgrader>
asio::awaitable<void> life(service<Upgrader>& with, asio::io_context& context)
{
    auto& up = with.up;
    co_await up.async_ready(asio::use_awaitable);
    with.opened();

    auto const start = [&](auto work) { asio::co_spawn(asio::make_strand(context), std::move(work), asio::detached); };
    for (std::size_t i = 0; i != with.chosen.acceptors; ++i) {
        for (auto& listener : with.tcp)
            start(accept(with, context, listener));
        for (auto& listener : with.unix_streams)
            start(accept(with, context, listener));
        for (auto& listener : with.seqpackets)
            start(accept(with, context, listener));
        for (auto& socket : with.datagrams)
            start(answer_datagrams(with, socket));
    }
    for (auto& one : with.handed_over) {
        asio::any_io_executor const own = asio::make_strand(context);
        auto const socket = std::make_shared<asio::ip::tcp::socket>(own, asio::ip::tcp::v4(), one.socket.release());
        asio::co_spawn(own, talk(with, socket, ecdysis::connection_guard{up.connections()}, std::move(one.unread)),
                       asio::detached);
    }
    with.at("accepting");
    auto const why = co_await up.async_wait(asio::use_awaitable);
    with.leaving(why);
    co_await up.async_drain(with.chosen.drain, asio::use_awaitable);
}

template <class Notify, class Transport, class Launch>
void run(settings const& chosen, journal const& log, behaviour const& behave, bool is_child, Notify notify, Launch launch)
{
    using upgrader = ecdysis::upgrader<ecdysis::io::asio, Notify, Transport, Launch>;
    sandbox confined;
    confined.enter<upgrader>(launch);
    asio::io_context context;
    upgrader up{context, observed(chosen, log, behave), std::move(notify), Transport{}, std::move(launch)};
    service<upgrader> with{up, chosen, log, behave};
    with.leave = [&context] { context.stop(); };
    with.at("constructed");
    with.open();

    std::exception_ptr failure;
    asio::co_spawn(context, life(with, context), [&](std::exception_ptr how) {
        failure = how;
        context.stop();
    });
    // The coroutine runs first, up to where it has said ready; alone, so that nothing goes on meanwhile.
    bool const acts_then = is_child && with.knows("said-ready");
    if (acts_then)
        asio::post(context, [&] { with.at("said-ready"); });
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < chosen.threads && !acts_then; ++i)
        others.emplace_back([&] { context.run(); });
    context.run();
    others.clear();
    if (failure)
        std::rethrow_exception(failure);
}

} // namespace host
