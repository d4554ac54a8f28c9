// SPDX-License-Identifier: BSL-1.0
// The host on io::sync: a thread for each listener and each connection.
#include <ecdysis/io/sync.hpp>

#include <poll.h>

#include <condition_variable>
#include <mutex>

namespace host {

using assembly = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::ECDYSIS_TEST_NOTIFY, ecdysis::transport::ECDYSIS_TEST_TRANSPORT>;

void serve(ecdysis::io::sync_connection connection, unsigned generation)
{
    std::string data;
    int const fd = connection.socket.get();
    std::stop_callback const idle{connection.guard.close_idle(), [fd] { ::shutdown(fd, SHUT_RD); }};
    char buffer[512];
    for (;;) {
        auto const got = ::recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0)
            return;
        data.append(buffer, static_cast<std::size_t>(got));
        for (auto end = data.find('\n'); end != data.npos; end = data.find('\n')) {
            data.erase(0, end + 1);
            bool const last = connection.guard.draining();
            auto const text = answer(generation, last);
            if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0 || last)
                return;
        }
    }
}

int run(settings const& s, behaviour const& behave, event_log const& log)
{
    assembly up{s.options};
    std::jthread reaper;
    if (behave.is("reap-all"))
        reaper = std::jthread{[](std::stop_token stop) {
            while (!stop.stop_requested())
                if (::waitpid(-1, nullptr, WNOHANG) <= 0)
                    ::usleep(200);
        }};
    std::list<std::jthread> idlers;
    std::stop_source idle;
    for (int i = 0; i < behave.number("threads", 0); ++i)
        idlers.emplace_back([token = idle.get_token()] {
            std::mutex mutex;
            std::unique_lock lock{mutex};
            std::condition_variable_any{}.wait(lock, token, [] { return false; });
        });

    long counter = 0;
    if (!s.counter.empty())
        up.hand_over_state("counter", ecdysis::handover::late,
                           [&](ecdysis::state_writer& to) { to.write(std::to_string(counter + 1)); },
                           [&] { log.write("undone\n"); });

    std::list<assembly::tcp_listener> listeners;
    std::list<assembly::datagram> datagrams;
    if (!behave.is("claim-nothing"))
        listen(
            up, s, behave, [&](auto one) { listeners.push_back(std::move(one)); },
            [&](auto one, auto) { listeners.push_back(std::move(one)); },
            [&](auto one) { datagrams.push_back(std::move(one)); });
    for (auto const& one : listeners)
        log_ports(log, one.native_handle());
    for (auto const& one : datagrams)
        log_ports(log, one.native_handle());

    start_up(up, behave);
    if (behave.is("crash-after-claiming"))
        ::_exit(4);
    after_ready_frame(behave);
    up.ready();
    if (behave.is("crash-after-commit"))
        ::_exit(6);
    if (!s.counter.empty())
        if (auto const state = up.inherited_state("counter"))
            counter = std::stol(std::string{state->text()});
    log.write("counter " + std::to_string(counter) + "\n");

    std::mutex mutex;
    std::list<std::jthread> connections;
    std::list<std::jthread> workers;
    for (auto& one : listeners)
        workers.emplace_back([&up, &one, &mutex, &connections, generation = up.generation()] {
            while (auto connection = one.accept()) {
                std::lock_guard const hold{mutex};
                connections.emplace_back(
                    [generation](auto accepted) { serve(std::move(accepted), generation); }, std::move(*connection));
            }
        });
    for (auto& one : datagrams)
        workers.emplace_back([&one, generation = up.generation()] {
            while (one.wait())
                answer_datagrams(one.native_handle(), generation);
        });

    if (behave.is("never-serving"))
        hang();
    if (s.options.channel) {
        if (auto const to_parent = up.take_channel_to_parent())
            (void)!::send(to_parent.get(), "hello", 5, MSG_NOSIGNAL);
    }
    auto const why = up.wait();
    if (auto const to_child = up.take_channel_to_child()) {
        char text[16] = {};
        ::pollfd ready{to_child.get(), POLLIN, 0};
        ::poll(&ready, 1, 5000);
        if (::recv(to_child.get(), text, sizeof text - 1, MSG_DONTWAIT) > 0)
            log.write(std::string{"channel "} + text + "\n");
    }
    log.write(std::string{"exit "} + why.text() + " by " + why.by.text() + "\n");
    auto const left = up.drain(s.drain);
    log.write("left " + std::to_string(left) + "\n");
    if (left != 0)
        ::_exit(0);
    idle.request_stop();
    return 0;
}

} // namespace host
