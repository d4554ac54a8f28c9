// SPDX-License-Identifier: BSL-1.0
// Sends back what it is sent; a thread a connection, and neither a reactor nor a service manager.
//
// Connections that are open when the service becomes the next generation's go on in the old one until their peers close them,
// at most 30 seconds.
#include "arguments.hpp"
#include "stderr_log.hpp"

#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/upgrader.hpp>

#include <signal.h>
#include <sys/socket.h>

#include <cstdlib>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using upgrader = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::named_pipe>;

namespace {

bool send_all(int socket, std::string_view bytes)
{
    while (!bytes.empty()) {
        auto const sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        bytes.remove_prefix(sent < 0 ? 0 : static_cast<std::size_t>(sent));
    }
    return true;
}

// The connection's guard ends with it: until then the drain waits.
void serve(ecdysis::io::sync_connection connection)
{
    char buffer[4096];
    for (;;) {
        auto const size = ::recv(connection.socket.get(), buffer, sizeof buffer, 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0 || !send_all(connection.socket.get(), {buffer, static_cast<std::size_t>(size)}))
            return;
    }
}

} // namespace

int main(int argc, char** argv)
try {
    auto const arguments = example::arguments::read(argc, argv, "Sends back what it is sent (threads, named pipe).");

    upgrader up{{.upgrade_on = {SIGHUP},
                 .stop_on = {SIGTERM, SIGINT},
                 .control = {.upgrade = arguments.control},
                 .pid_file = arguments.pid_file,
                 .observer = example::log_event}};
    auto listener = up.listen_tcp(arguments.listen);
    up.ready(); // returns at commit: accept
    example::log("listening on " + example::bound_to(listener.native_handle()));

    std::jthread const acceptor{[&listener] {
        while (auto connection = listener.accept())
            std::thread{serve, std::move(*connection)}.detach();
    }};
    up.wait(); // says that it serves; returns when the service is the next generation's, or stops
    up.drain(30s);
    return EXIT_SUCCESS;
} catch (std::exception const& e) {
    example::log(e.what());
    return EXIT_FAILURE;
}
