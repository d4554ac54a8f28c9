// SPDX-License-Identifier: BSL-1.0
// The host on io::asio: a coroutine for each listener and each connection.
#include <ecdysis/io/asio.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <condition_variable>
#include <mutex>

namespace host {

namespace asio = boost::asio;

using assembly = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::ECDYSIS_TEST_NOTIFY, ecdysis::transport::ECDYSIS_TEST_TRANSPORT>;

template <class Connection>
asio::awaitable<void> serve(Connection connection, unsigned generation)
{
    auto& socket = connection.socket;
    // The callback goes before the socket does, and waits for a call of it that runs.
    std::stop_callback const idle{connection.guard.close_idle(), [fd = socket.native_handle()] { ::shutdown(fd, SHUT_RD); }};
    std::string data;
    char buffer[512];
    for (;;) {
        ecdysis::error_code ec;
        std::size_t got = 0;
        if constexpr (requires { socket.read_some(asio::buffer(buffer), ec); }) {
            got = co_await socket.async_read_some(asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, ec));
        } else {
            asio::socket_base::message_flags flags = 0;
            got = co_await socket.async_receive(asio::buffer(buffer), flags, asio::redirect_error(asio::use_awaitable, ec));
        }
        if (ec || got == 0)
            co_return;
        data.append(buffer, got);
        for (auto end = data.find('\n'); end != data.npos; end = data.find('\n')) {
            data.erase(0, end + 1);
            bool const last = connection.guard.draining();
            auto const text = answer(generation, last);
            if constexpr (requires { socket.write_some(asio::buffer(text), ec); })
                co_await socket.async_write_some(asio::buffer(text), asio::redirect_error(asio::use_awaitable, ec));
            else
                co_await socket.async_send(asio::buffer(text), asio::socket_base::message_flags{},
                                           asio::redirect_error(asio::use_awaitable, ec));
            if (ec || last)
                co_return;
        }
    }
}

template <class Listener>
asio::awaitable<void> accept_all(Listener& listener, unsigned generation, asio::io_context& context)
{
    for (;;) {
        ecdysis::error_code ec;
        auto const strand = asio::make_strand(context);
        auto connection = co_await listener.async_accept(strand, asio::redirect_error(asio::use_awaitable, ec));
        if (ec)
            co_return;
        asio::co_spawn(strand, serve(std::move(connection), generation), asio::detached);
    }
}

asio::awaitable<void> answer_all(assembly::datagram& socket, unsigned generation)
{
    for (;;) {
        ecdysis::error_code ec;
        co_await socket.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        if (ec)
            co_return;
        answer_datagrams(socket.native_handle(), generation);
    }
}

struct service
{
    service(settings const& given, behaviour const& wrong, event_log const& to)
        : up{context, given.options}, s{given}, behave{wrong}, log{to}
    {}

    asio::io_context context;
    assembly up;
    settings const& s;
    behaviour const& behave;
    event_log const& log;
    long counter = 0;
    std::list<assembly::tcp_listener> tcp{};
    std::list<assembly::unix_listener> local{};
    std::list<assembly::seqpacket_listener> packets{};
    std::list<assembly::datagram> datagrams{};

    void claim()
    {
        if (!s.counter.empty())
            up.hand_over_state("counter", ecdysis::handover::late,
                               [this](ecdysis::state_writer& to) { to.write(std::to_string(counter + 1)); },
                               [this] { log.write("undone\n"); });
        if (!behave.is("claim-nothing"))
            listen(
                up, s, behave, [&](auto one) { tcp.push_back(std::move(one)); },
                [&](auto one, auto kind) {
                    if constexpr (std::is_same_v<decltype(kind), int>)
                        local.push_back(std::move(one));
                    else
                        packets.push_back(std::move(one));
                },
                [&](auto one) { datagrams.push_back(std::move(one)); });
        auto const say = [&](auto const& some) {
            for (auto const& one : some)
                log_ports(log, one.native_handle());
        };
        say(tcp);
        say(local);
        say(packets);
        say(datagrams);
    }

    asio::awaitable<void> live()
    {
        co_await up.async_ready();
        if (behave.is("crash-after-commit"))
            ::_exit(6);
        if (!s.counter.empty())
            if (auto const state = up.inherited_state("counter"))
                counter = std::stol(std::string{state->text()});
        log.write("counter " + std::to_string(counter) + "\n");
        auto const accept = [&](auto& some) {
            for (auto& one : some)
                for (int i = 0; i < behave.number("accepts", 1); ++i)
                    asio::co_spawn(asio::make_strand(context), accept_all(one, up.generation(), context), asio::detached);
        };
        accept(tcp);
        accept(local);
        accept(packets);
        for (auto& one : datagrams)
            asio::co_spawn(context, answer_all(one, up.generation()), asio::detached);
        if (s.options.channel)
            if (auto const to_parent = up.take_channel_to_parent())
                (void)!::send(to_parent.get(), "hello", 5, MSG_NOSIGNAL);
        if (behave.is("never-serving"))
            co_return;
        auto const why = co_await up.async_wait();
        if (auto to_child = up.take_channel_to_child()) {
            asio::posix::stream_descriptor channel{context, to_child.release()};
            co_await channel.async_wait(asio::posix::descriptor_base::wait_read, asio::use_awaitable);
            char text[16] = {};
            if (::recv(channel.native_handle(), text, sizeof text - 1, MSG_DONTWAIT) > 0)
                log.write(std::string{"channel "} + text + "\n");
        }
        log.write(std::string{"exit "} + why.text() + " by " + why.by.text() + "\n");
        auto const left = co_await up.async_drain(s.drain);
        log.write("left " + std::to_string(left) + "\n");
        if (left != 0)
            ::_exit(0);
    }
};

int run(settings const& s, behaviour const& behave, event_log const& log)
{
    service it{s, behave, log};
    std::list<std::jthread> threads;
    if (behave.is("reap-all"))
        threads.emplace_back([](std::stop_token stop) {
            while (!stop.stop_requested())
                if (::waitpid(-1, nullptr, WNOHANG) <= 0)
                    ::usleep(200);
        });
    it.claim();
    start_up(it.up, behave);
    if (behave.is("crash-after-claiming"))
        ::_exit(4);
    after_ready_frame(behave);
    std::exception_ptr failure;
    asio::co_spawn(it.context, it.live(), [&](std::exception_ptr thrown) { failure = thrown; });
    auto const count = behave.number("threads", static_cast<int>(s.threads));
    for (int i = 1; i < count; ++i)
        threads.emplace_back([&it] { it.context.run(); });
    it.context.run();
    threads.clear();
    if (failure)
        std::rethrow_exception(failure);
    return 0;
}

} // namespace host
