// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>

#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

#define BOOST_TEST_MODULE upgrader_asio
#include <boost/test/unit_test.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

using namespace ecdysis;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio_upgrader = upgrader<io::asio, notify::none, transport::socketpair>;

namespace {

constexpr auto every_type = {asio::cancellation_type::terminal, asio::cancellation_type::partial,
                             asio::cancellation_type::total};

/// Options of a generation whose child plays `role`, a test below that is disabled.
options with(char const* role)
{
    auto const self = std::filesystem::read_symlink("/proc/self/exe").string();
    return {.program = self,
            .arguments = {self, std::string{"--run_test="} + role, "--log_level=nothing", "--report_level=no"}};
}

/// Starts the operation that `start` gives a slot's handler, and cancels it, once by each type.
template <class Start>
void cancel_by_every_type(asio::io_context& context, Start start)
{
    for (auto const type : every_type) {
        asio::cancellation_signal signal;
        std::optional<error_code> got;
        start(asio::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto...) { got = ec; }));
        BOOST_TEST(!got);
        signal.emit(type);
        while (!got && context.run_one() != 0) {}
        context.restart();
        BOOST_REQUIRE((got.value() == asio::error::operation_aborted)); // in a child it ends the upgrade
    }
}

/// What a child is given: it is to end when the test has seen what it wants to.
class lifeline
{
public:
    explicit lifeline(asio_upgrader& up)
    {
        int pipe[2];
        BOOST_REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
        os::owned_fd const childs{pipe[0]};
        ours_ = os::owned_fd{pipe[1]};
        offered_ = up.offer("lifeline", childs.get());
    }

private:
    os::owned_fd ours_;
    offer offered_;
};

void stop_when_the_test_is_over(asio::io_context& context, asio_upgrader& up)
{
    auto const line = std::make_shared<asio::posix::stream_descriptor>(context, up.claim("lifeline").value().fd.release());
    line->async_wait(asio::posix::stream_descriptor::wait_read, [&up, line](error_code) { up.request_stop(); });
}

} // namespace

BOOST_AUTO_TEST_CASE(a_coroutine_lives_a_whole_life)
{
    asio::io_context context;
    asio_upgrader up{context, {}};
    bool ended = false;
    auto const life = [&]() -> asio::awaitable<void> {
        auto listener = up.listen_tcp(asio::ip::tcp::endpoint{asio::ip::address_v4::loopback(), 0});
        co_await up.async_ready();
        up.request_stop();
        auto const why = co_await up.async_wait();
        BOOST_TEST((why.why == ecdysis::exit::kind::stopped));
        BOOST_TEST(co_await up.async_drain(5s) == 0U);
        ended = true;
    };
    asio::co_spawn(context, life(), [](std::exception_ptr thrown) { BOOST_TEST((thrown == nullptr)); });
    context.run(); // returns, for nothing of the upgrader's is left
    BOOST_TEST(ended);
}

// What the child below does.
BOOST_AUTO_TEST_CASE(waits_for_its_exit_from_the_start, *boost::unit_test::disabled())
{
    asio::io_context context;
    asio_upgrader up{context, {}};
    stop_when_the_test_is_over(context, up);
    up.async_wait([&](error_code, ecdysis::exit) { up.async_drain(5s, [](error_code, std::size_t) {}); });
    up.async_ready([](error_code) {});
    context.run_for(10s);
}

BOOST_AUTO_TEST_CASE(a_child_that_waits_from_before_commit_serves_at_commit)
{
    asio::io_context context;
    asio_upgrader up{context, with("waits_for_its_exit_from_the_start")};
    lifeline const line{up};
    up.async_ready([&](error_code) { up.request_upgrade(); });
    bool upgraded = false;
    up.async_wait([&](error_code, ecdysis::exit why) {
        upgraded = why.upgraded();
        up.async_drain(5s, [](error_code, std::size_t) {});
    });
    context.run();
    BOOST_TEST(upgraded);
}

BOOST_AUTO_TEST_CASE(futures_work_over_a_pool_of_threads)
{
    asio::thread_pool pool{4};
    {
        asio_upgrader up{pool.get_executor(), {}};
        up.async_ready(asio::use_future).get();
        auto exit = up.async_wait(asio::use_future);
        up.request_stop();
        BOOST_TEST((exit.get().why == ecdysis::exit::kind::stopped));
        BOOST_TEST(up.async_drain(5s, asio::use_future).get() == 0U);
    }
    pool.join();
}

BOOST_AUTO_TEST_CASE(cancelling_a_wait_cancels_nothing_else)
{
    asio::io_context context;
    asio_upgrader up{context, {}};
    up.async_ready([](error_code ec) { BOOST_TEST(!ec); });
    cancel_by_every_type(context, [&](auto handler) { up.async_wait(std::move(handler)); });
    asio::cancellation_signal signal;
    std::optional<error_code> cancelled;
    up.async_wait(asio::bind_cancellation_slot(signal.slot(), [&](error_code ec, ecdysis::exit) { cancelled = ec; }));
    error_code second;
    up.async_wait([&](error_code ec, ecdysis::exit) { second = ec; });
    while (!second && context.run_one() != 0) {}
    BOOST_TEST((second == errc::already_waiting));
    signal.emit(asio::cancellation_type::total);
    while (!cancelled && context.run_one() != 0) {}
    BOOST_TEST((cancelled.value() == asio::error::operation_aborted));

    context.restart(); // without signals and control sockets the upgrader alone keeps no context running
    std::optional<ecdysis::exit> why;
    up.async_wait([&](error_code ec, ecdysis::exit got) {
        BOOST_TEST(!ec);
        why = got;
    });
    up.request_partial_stop();
    while (!why && context.run_one() != 0) {}
    BOOST_TEST((why.value().why == ecdysis::exit::kind::partially_stopped));
}

// What the child below does.
BOOST_AUTO_TEST_CASE(cancels_its_wait_for_the_commit, *boost::unit_test::disabled())
{
    asio::io_context context;
    asio_upgrader up{context, {}};
    stop_when_the_test_is_over(context, up);
    auto const cancelled = up.claim("cancelled").value();
    cancel_by_every_type(context, [&](auto handler) { up.async_ready(std::move(handler)); });
    (void)!::write(cancelled.fd.get(), "x", 1);
    up.async_ready([&](error_code ec) {
        up.async_wait([&](error_code, ecdysis::exit) {});
        if (ec)
            up.fail(ec.message());
    });
    context.run_for(10s);
}

BOOST_AUTO_TEST_CASE(cancelling_ready_cancels_the_waiting_and_never_the_upgrade)
{
    asio::io_context context;
    asio_upgrader up{context, with("cancels_its_wait_for_the_commit")};
    lifeline const line{up};
    int pipe[2];
    BOOST_REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    os::owned_fd const reader{pipe[0]};
    os::owned_fd writer{pipe[1]};
    auto const offered = up.offer("cancelled", writer.get());
    bool heard = false;
    up.hand_over_state("late", handover::late, [&](state_writer&) { // keeps the commit back until then
        ::pollfd entry{reader.get(), POLLIN, 0};
        heard = ::poll(&entry, 1, 10'000) == 1;
    });
    std::string told;
    up.async_ready([&](error_code) {
        up.request_upgrade([&](std::string const& line) {
            told = line;
            up.request_partial_stop();
        });
    });
    up.async_wait([](error_code, ecdysis::exit) {});
    while (told.empty() && context.run_one() != 0) {}
    BOOST_TEST(heard);
    BOOST_TEST(told.starts_with("ok "), told);
}

BOOST_AUTO_TEST_CASE(cancelling_a_drain_cancels_the_waiting_and_never_the_drain)
{
    asio::io_context context;
    asio_upgrader up{context, {}};
    connection_guard open{up.connections()};
    up.async_ready([&](error_code) { up.request_stop(); });
    up.async_wait([](error_code, ecdysis::exit) {});
    context.run();
    context.restart();
    cancel_by_every_type(context, [&](auto handler) { up.async_drain(1h, std::move(handler)); });
    BOOST_TEST(open.draining());
    std::optional<std::size_t> left;
    up.async_drain(1h, [&](error_code ec, std::size_t count) {
        BOOST_TEST(!ec);
        left = count;
    });
    open.reset();
    context.run(); // returns long before the hour
    BOOST_TEST(left.value() == 0U);
}

BOOST_AUTO_TEST_CASE(whoever_waits_when_it_goes_is_told)
{
    asio::io_context context;
    std::optional<error_code> told;
    {
        asio_upgrader up{context, {}};
        up.async_wait([&](error_code ec, ecdysis::exit) { told = ec; });
        up.request_stop(); // comes late
    }
    context.run();
    BOOST_TEST((told.value() == asio::error::operation_aborted));
}

BOOST_AUTO_TEST_CASE(a_listener_may_outlive_it)
{
    asio::io_context context;
    std::optional<error_code> told;
    asio_upgrader::tcp_listener listener;
    {
        asio_upgrader up{context, {}};
        listener = up.listen_tcp("127.0.0.1:0");
        up.async_ready([](error_code) {});
        listener.async_accept([&](error_code ec, auto) { told = ec; });
    }
    context.run();
    BOOST_TEST((told.value() == errc::ended));
}
