// SPDX-License-Identifier: BSL-1.0
// host.cpp with io::sync: a thread for each acceptor and each connection.
#pragma once

#include "host_sandbox.hpp"
#include "host_service.hpp"

#include <ecdysis/io/sync.hpp>

#include <condition_variable>
#include <set>

namespace host {

/// Threads that end by themselves, and the connections that they serve.
class thread_group
{
public:
    thread_group() = default;
    thread_group(thread_group const&) = delete;
    thread_group& operator=(thread_group const&) = delete;

    template <class F>
    void start(F f)
    {
        {
            std::lock_guard const hold{mutex_};
            ++count_;
        }
        std::thread{[this, f = std::move(f)]() mutable {
            {
                auto const here = std::move(f);
                here();
            }
            std::lock_guard const hold{mutex_};
            if (--count_ == 0)
                none_.notify_all();
        }}.detach();
    }

    void add(int socket)
    {
        std::lock_guard const hold{mutex_};
        sockets_.insert(socket);
        if (ending_)
            ::shutdown(socket, SHUT_RDWR);
    }
    void remove(int socket)
    {
        std::lock_guard const hold{mutex_};
        sockets_.erase(socket);
    }

    /// Cuts what is still open, and waits.
    ~thread_group()
    {
        std::unique_lock hold{mutex_};
        ending_ = true;
        for (int const socket : sockets_)
            ::shutdown(socket, SHUT_RDWR);
        none_.wait(hold, [this] { return count_ == 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable none_;
    bool ending_ = false;
    std::size_t count_ = 0;
    std::set<int> sockets_;
};

template <class Upgrader>
void talk(service<Upgrader>& with, thread_group& threads, ecdysis::os::owned_fd& socket, ecdysis::connection_guard const& guard,
          std::string text = {})
{
    int const fd = socket.get();
    threads.add(fd);
    std::stop_callback const idle{guard.close_idle(), [fd] { ::shutdown(fd, SHUT_RD); }};
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
        auto const size = ::recv(fd, buffer, sizeof buffer, 0);
        if (size <= 0)
            break;
        text.append(buffer, static_cast<std::size_t>(size));
    }
    threads.remove(fd);
}

template <class Upgrader>
void accept(service<Upgrader>& with, thread_group& threads, ecdysis::io::sync_listener& listener)
{
    for (;;) {
        while (with.leaves_queued())
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        ecdysis::error_code ec;
        auto accepted = listener.accept(ec);
        if (ec && ec != ecdysis::errc::ended)
            with.log("error", "accept: " + ec.message());
        if (!accepted)
            return;
        auto const kept = std::make_shared<ecdysis::io::sync_connection>(std::move(*accepted));
        threads.start([&with, &threads, kept] { talk(with, threads, kept->socket, kept->guard); });
    }
}

template <class Upgrader>
void answer_datagrams(service<Upgrader>& with, ecdysis::io::sync_datagram& socket)
{
    while (with.leaves_queued())
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    while (socket.wait()) {
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

template <class Notify, class Transport, class Launch>
void run(settings const& chosen, journal const& log, behaviour const& behave, bool is_child, Notify notify, Launch launch)
{
    using upgrader = ecdysis::upgrader<ecdysis::io::sync, Notify, Transport, Launch>;
    sandbox confined;
    confined.enter<upgrader>(launch);
    upgrader up{observed(chosen, log, behave), std::move(notify), Transport{}, std::move(launch)};
    service<upgrader> with{up, chosen, log, behave};
    with.at("constructed");
    with.open();
    // Asking before ready is refused, at once, by whoever waits in ready(): when it has said so.
    if (is_child && with.knows("said-ready"))
        up.request_upgrade([&](std::string const&) { with.at("said-ready"); });
    up.ready();
    with.opened();

    thread_group threads;
    for (std::size_t i = 0; i != chosen.acceptors; ++i) {
        for (auto* const list : {&with.tcp, &with.unix_streams, &with.seqpackets})
            for (auto& listener : *list)
                threads.start([&] { accept(with, threads, listener); });
        for (auto& socket : with.datagrams)
            threads.start([&] { answer_datagrams(with, socket); });
    }
    for (auto& one : with.handed_over) {
        auto const kept = std::make_shared<ecdysis::io::sync_connection>(
            ecdysis::io::sync_connection{std::move(one.socket), ecdysis::connection_guard{up.connections()}});
        ::fcntl(kept->socket.get(), F_SETFL, ::fcntl(kept->socket.get(), F_GETFL) & ~O_NONBLOCK);
        threads.start([&with, &threads, kept, unread = std::move(one.unread)] {
            talk(with, threads, kept->socket, kept->guard, unread);
        });
    }
    with.at("accepting");
    with.leaving(up.wait());
    up.drain(chosen.drain);
}

} // namespace host
