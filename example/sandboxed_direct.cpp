// SPDX-License-Identifier: BSL-1.0
// The server of sandboxed.cpp without a helper: it starts the next generation itself.
//
// So the filter must allow that, and is inherited, and with it that this is not root any more. That costs:
// - Whoever takes the service over can execute programs, in the same sandbox.
// - A new version can never do more than the filter of the first generation allows: a call that it adds needs a restart.
// - Only the first generation may load a filter. Each would come on top of those before, and all are run for each call; at
//   some 250 of them the kernel refuses one more.
// - A next generation is started as --user, who must be able to execute the program, and binds no new low ports.
#include "arguments.hpp"
#include "http_connection.hpp"
#include "sandbox.hpp"
#include "stderr_log.hpp"

#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/io/asio.hpp>
#include <ecdysis/launch/direct.hpp>
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

namespace asio = boost::asio;
using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair, ecdysis::launch::direct>;

namespace {

/// From here on any other call than those of the server and its upgrader ends the process.
void load_filter()
{
    ::scmp_filter_ctx const filter = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
    ecdysis::seccomp::allow(filter, example::http_calls);
    ecdysis::seccomp::allow<upgrader>(filter);
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
    std::string user = "nobody";
    unsigned ready_timeout = 60'000;
    auto const arguments = example::arguments::read(
        argc, argv, "Answers each HTTP/1.1 request with its generation, in a sandbox.",
        {{"--user", "NAME", "to become if started as root, nobody by default", [&user](auto& text) { user = text; }},
         example::number("--ready-timeout", ready_timeout, "for the next generation to start, in ms, 60000 by default")});

    // A later generation is in the sandbox already. Where the variable is set and names no handoff, the upgrader throws.
    if (std::getenv(ecdysis::handoff::variable::name.data()) == nullptr) {
        example::drop_privileges(user);
        load_filter();
    }

    asio::io_context context{1};
    upgrader up{context,
                {.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .ready_timeout = std::chrono::milliseconds{ready_timeout},
                 .observer = example::log_event},
                ecdysis::notify::systemd{{.required = false}}};
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
