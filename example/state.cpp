// SPDX-License-Identifier: BSL-1.0
// Numbers what it is asked: each datagram is answered with the next number, and over an upgrade that succeeds none is skipped
// or given twice.
//
// The count is late state: it goes over at commit, not at the start of the upgrade. From that moment the old generation
// reads no more, since its count is not the count any longer; what arrives waits in the queue, which is the new one's
// too. If the upgrade fails even then, `undo` is called and the old one goes on counting, from its own count: filling has not
// changed that. Where the service is taken back after the new one has answered, the numbers that it gave are given again. A
// service that cannot bear this keeps its count outside of both.
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
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <signal.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;

namespace {

// co_await gives [error_code, result] instead of throwing.
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

void rethrow(std::exception_ptr failure)
{
    if (failure)
        std::rethrow_exception(failure);
}

class counter
{
public:
    counter(upgrader& up, std::string const& where) : socket_{up.bind_udp(where)}, given_back_{socket_.get_executor()}
    {
        given_back_.expires_at(asio::steady_timer::time_point::max());
        up.hand_over_state(
            "count", ecdysis::handover::late,
            [this](ecdysis::state_writer& to) {
                to.write(std::to_string(count_));
                handed_over_ = true;
            },
            [this] {
                handed_over_ = false;
                given_back_.cancel();
            });
    }

    /// After ready: what the parent had come to.
    void take_over(upgrader& up)
    {
        if (auto const count = up.inherited_state("count"))
            count_ = std::stoull(std::string{count->text()});
        example::log("counting on " + example::bound_to(socket_.native_handle()) + " from " + std::to_string(count_));
    }

    asio::awaitable<void> run()
    {
        for (;;) {
            if (auto const [ec] = co_await socket_.async_wait(as_result); ec)
                co_return; // the next generation counts, or we stop
            if (handed_over_)
                co_await given_back_.async_wait(as_result);
            else
                answer_one();
        }
    }
    /// When this generation has ended.
    void stop() { given_back_.cancel(); }

    [[nodiscard]] auto get_executor() const { return socket_.get_executor(); }

private:
    /// Reads, counts and answers in one go, so that the state is never filled in between.
    void answer_one()
    {
        char data[2048];
        ::sockaddr_storage peer;
        ::socklen_t size = sizeof peer;
        auto* const from = reinterpret_cast<::sockaddr*>(&peer);
        if (::recvfrom(socket_.native_handle(), data, sizeof data, 0, from, &size) < 0)
            return; // nothing there (any more), or an error of an answer sent before
        auto const answer = std::to_string(++count_) + "\n";
        ::sendto(socket_.native_handle(), answer.data(), answer.size(), 0, from, size);
    }

    upgrader::datagram socket_;
    asio::steady_timer given_back_;
    std::uint64_t count_ = 0;
    bool handed_over_ = false; // the callbacks run where this does: one thread runs the context
};

asio::awaitable<void> run(upgrader& up, counter& numbers)
{
    co_await up.async_ready();
    numbers.take_over(up);
    asio::co_spawn(numbers.get_executor(), numbers.run(), rethrow);
    co_await up.async_wait();
    numbers.stop();
    co_await up.async_drain(30s);
}

} // namespace

int main(int argc, char** argv)
try {
    auto const arguments = example::arguments::read(argc, argv, "Answers each datagram with the next number.");

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}}};
    counter numbers{up, arguments.listen};
    asio::co_spawn(context, run(up, numbers), rethrow);
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
