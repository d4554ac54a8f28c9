// SPDX-License-Identifier: BSL-1.0
// An HTTP/1.1 server in a sandbox: it is not root any more, gets no privileges back, and can neither fork nor execute a
// program. A helper that was forked before starts the next generation, which puts up a sandbox of its own: a new version
// may call what the old one's filter denies.
//
// As root it becomes --user, who must be able to write in the directories of --control and --pid-file.
#include "arguments.hpp"
#include "http_connection.hpp"
#include "sandbox.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio.hpp>

#include <seccomp.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair, ecdysis::launch::spawner>;

namespace {

/// From here on any other call than those of the server and its upgrader ends the process.
void load_filter(ecdysis::launch::spawner const& launch)
{
    ::scmp_filter_ctx const filter = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
    ecdysis::seccomp::allow(filter, example::http_calls);
    ecdysis::seccomp::allow<upgrader>(filter, launch);
    int const result = ::seccomp_load(filter);
    ::seccomp_release(filter);
    if (result != 0)
        throw ecdysis::error{{-result, boost::system::system_category()}, "load the seccomp filter"};
}

asio::awaitable<void> run(upgrader& up, upgrader::tcp_listener& from, asio::io_context& context)
{
    co_await up.async_ready();
    example::log("listening on " + example::bound_to(from.native_handle()));
    asio::co_spawn(context, example::accept_all(from, context, up.generation()), example::rethrow);
    co_await up.async_wait();
    co_await up.async_drain(30s);
}

} // namespace

int main(int argc, char** argv)
try {
    auto launch = ecdysis::launch::spawner::fork(); // first: the helper keeps what is given up below
    std::string user = "nobody";
    unsigned ready_timeout = 60'000;
    auto const arguments = example::arguments::read(
        argc, argv, "Answers each HTTP/1.1 request with its generation, in a sandbox.",
        {{"--user", "NAME", "to become if started as root, nobody by default", [&user](auto& text) { user = text; }},
         example::number("--ready-timeout", ready_timeout, "for the next generation to start, in ms, 60000 by default")});

    // Before the upgrader: what a parent hands over that was taken over by somebody is read in the sandbox.
    example::drop_privileges(user);
    load_filter(launch);

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .ready_timeout = std::chrono::milliseconds{ready_timeout},
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}},
                {},
                std::move(launch)};
    auto from = up.listen_tcp(arguments.listen);
    asio::co_spawn(context, run(up, from, context), [&context](std::exception_ptr failure) {
        context.stop(); // what is left after the drain goes with the context
        example::rethrow(failure);
    });
    context.run();
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
