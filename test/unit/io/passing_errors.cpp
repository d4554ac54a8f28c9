// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/asio.hpp>

#define BOOST_TEST_MODULE io/passing_errors
#include <boost/test/unit_test.hpp>

#include "world.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/use_future.hpp>

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>
#include <utility>

// Asio's reactor cannot wait, for memory has run out: once, or for a while.

namespace {

/// The next `times` calls fail with `with`.
struct failing
{
    bool operator()()
    {
        if (times == 0)
            return false;
        --times;
        errno = with;
        return true;
    }

    int times = 0;
    int with = ENOMEM;
};

failing set_non_blocking; // by Asio, when it waits for a descriptor for the first time
failing add_to_epoll;

} // namespace

// The program's own come before the C library's.

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept
{
    std::va_list arguments;
    va_start(arguments, request);
    auto* const argument = va_arg(arguments, void*);
    va_end(arguments);
    if (request == FIONBIO && set_non_blocking())
        return -1;
    return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

extern "C" int epoll_ctl(int epoll, int operation, int fd, ::epoll_event* event) noexcept
{
    // Whether an accepted connection gets its place is between Asio and the host.
    ::sockaddr_in peer{};
    ::socklen_t size = sizeof peer;
    bool const is_connection = ::getpeername(fd, reinterpret_cast<::sockaddr*>(&peer), &size) == 0;
    if (operation == EPOLL_CTL_ADD && !is_connection && add_to_epoll())
        return -1;
    return static_cast<int>(::syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

namespace {

using namespace test;

struct fixture
{
    fixture()
    {
        auto socket = listening();
        address = address_of(socket);
        error_code ec;
        source = world.io.make_source(std::move(socket), connections, ec);
        BOOST_TEST_REQUIRE(!ec);
        listener = io::asio::tcp_listener{source};
        source->open();
    }
    ~fixture()
    {
        set_non_blocking = {};
        add_to_epoll = {};
        source->close();
    }

    asio_pumped world;
    std::shared_ptr<ecdysis::open_connections> connections = std::make_shared<ecdysis::open_connections>();
    std::shared_ptr<io::asio::source> source;
    io::asio::tcp_listener listener;
    ::sockaddr_in address{};
};

BOOST_FIXTURE_TEST_CASE(a_watch_outlives_them, fixture)
{
    for (int const with : {ENOMEM, ENOBUFS, EIO})
        for (int const times : {1, 3}) {
            pipe_pair pipe;
            int calls = 0;
            error_code ec;
            set_non_blocking = {times, with};
            auto watch = world.io.watch(pipe.reader, [&] { ++calls; }, ec);
            BOOST_TEST(!ec);
            BOOST_TEST(set_non_blocking.times == times - 1);
            pipe.write();
            BOOST_TEST(world.until([&] { return calls >= 3; }));
            BOOST_TEST(set_non_blocking.times == 0);
            pipe.read();
            world.settle();
            BOOST_TEST(std::exchange(calls, 0) >= 3);
            world.settle();
            BOOST_TEST(calls == 0);
        }
}

BOOST_FIXTURE_TEST_CASE(a_watch_that_goes_meanwhile_never_calls, fixture)
{
    for (bool const rests_already : {false, true}) {
        pipe_pair pipe;
        pipe.write();
        int calls = 0;
        error_code ec;
        set_non_blocking = {1000, ENOMEM};
        auto watch = world.io.watch(pipe.reader, [&] { ++calls; }, ec);
        if (rests_already)
            BOOST_TEST(world.until([&] { return set_non_blocking.times < 998; }));
        watch = {};
        set_non_blocking = {};
        world.context.restart();
        world.context.run_for(deadline); // nothing is left that waits
        BOOST_TEST(world.context.stopped());
        BOOST_TEST(calls == 0);
    }
}

BOOST_FIXTURE_TEST_CASE(a_watch_that_cannot_begin_is_an_error_for_its_caller, fixture)
{
    pipe_pair pipe;
    pipe.write();
    int calls = 0;
    error_code ec;
    add_to_epoll = {1, ENOSPC};
    BOOST_TEST(!world.io.watch(pipe.reader, [&] { ++calls; }, ec));
    BOOST_TEST(ec == boost::system::errc::no_space_on_device);
    auto const watch = world.io.watch(pipe.reader, [&] { ++calls; }, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(world.until([&] { return calls != 0; }));
}

BOOST_AUTO_TEST_CASE(accepts_outlive_them)
{
    for (auto* const call : {&set_non_blocking, &add_to_epoll})
        for (int const with : {ENOMEM, ENOBUFS, EMFILE, ENFILE, ENOSPC, EINTR, EAGAIN})
            for (int const times : {1, 3}) {
                fixture it;
                *call = {times, with};
                auto first = it.listener.async_accept(net::use_future);
                auto second = it.listener.async_accept(net::use_future);
                auto const client = connect_to(it.address);
                BOOST_TEST(it.world.until([&] { return ready(first, 0ms); }));
                BOOST_TEST(static_cast<bool>(first.get().guard));
                BOOST_TEST(!ready(second, 0ms));
                auto const another = connect_to(it.address);
                BOOST_TEST(it.world.until([&] { return ready(second, 0ms); }));
                BOOST_TEST(static_cast<bool>(second.get().guard));
                // The first may have found its connection before the reactor was asked again.
                auto third = it.listener.async_accept(net::use_future);
                BOOST_TEST(it.world.until([&] { return call->times == 0; }));
                BOOST_TEST(!ready(third, 0ms));
                auto const last = connect_to(it.address);
                BOOST_TEST(it.world.until([&] { return ready(third, 0ms); }));
                BOOST_TEST(static_cast<bool>(third.get().guard));
            }
}

BOOST_AUTO_TEST_CASE(what_does_not_pass_is_told)
{
    for (auto* const call : {&set_non_blocking, &add_to_epoll}) {
        fixture it;
        *call = {1, EINVAL};
        auto failed = it.listener.async_accept(net::use_future);
        BOOST_TEST(it.world.until([&] { return ready(failed, 0ms); }));
        BOOST_CHECK_THROW(failed.get(), ecdysis::error);
        auto accept = it.listener.async_accept(net::use_future);
        auto const client = connect_to(it.address);
        BOOST_TEST(it.world.until([&] { return ready(accept, 0ms); }));
        BOOST_TEST(static_cast<bool>(accept.get().guard));
    }
}

BOOST_AUTO_TEST_CASE(an_accept_that_cannot_wait_can_be_cancelled)
{
    for (auto* const call : {&set_non_blocking, &add_to_epoll})
        for (bool const rests_already : {false, true}) {
            fixture it;
            *call = {1000, ENOMEM};
            error_code got;
            net::cancellation_signal signal;
            it.listener.async_accept(
                net::bind_cancellation_slot(signal.slot(), [&](error_code ec, auto) { got = ec; }));
            if (rests_already)
                BOOST_TEST(it.world.until([&] { return call->times < 998; }));
            signal.emit(net::cancellation_type::terminal);
            it.world.context.restart();
            it.world.context.run_for(deadline);
            BOOST_TEST(it.world.context.stopped());
            BOOST_TEST(got == net::error::operation_aborted);
        }
}

BOOST_AUTO_TEST_CASE(an_accept_that_cannot_wait_hears_of_pauses_and_of_the_end)
{
    for (auto* const call : {&set_non_blocking, &add_to_epoll}) {
        fixture it;
        *call = {1000, ENOMEM};
        auto accept = it.listener.async_accept(net::use_future);
        BOOST_TEST(it.world.until([&] { return call->times < 998; }));
        it.source->pause();
        *call = {};
        auto const client = connect_to(it.address);
        it.world.settle();
        BOOST_TEST(!ready(accept, 0ms));
        it.source->open();
        BOOST_TEST(it.world.until([&] { return ready(accept, 0ms); }));
        BOOST_TEST(static_cast<bool>(accept.get().guard));

        *call = {1000, ENOMEM};
        auto last = it.listener.async_accept(net::use_future);
        it.world.settle();
        it.source->end(true);
        BOOST_TEST(it.world.until([&] { return ready(last, 0ms); }));
        BOOST_CHECK_THROW(last.get(), ecdysis::error);
        it.world.context.restart();
        it.world.context.run_for(deadline);
        BOOST_TEST(it.world.context.stopped());
    }
}

} // namespace
