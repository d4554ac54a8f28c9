// SPDX-License-Identifier: BSL-1.0
// usage: ask CONTROL-SOCKET
// Asks by connecting, and prints the one line that says how it ended; status 0 only if it begins with `ok`, within two
// minutes. `ok` says that the service is the new generation's; `warnings="..."` after it, what that could not do.
// For ExecReload= and for shells: a reload fails if the upgrade does.
#include <ecdysis/address.hpp>
#include <ecdysis/os/fd.hpp>

#include <sys/socket.h>
#include <sys/time.h>

#include <cstdio>
#include <iostream>
#include <string>

int main(int argc, char** argv)
try {
    if (argc != 2) {
        std::cerr << "usage: ask CONTROL-SOCKET\n";
        return 2;
    }
    ecdysis::address const where{argv[1]};
    ecdysis::os::owned_fd const socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ::timeval const two_minutes{120, 0}; // more than an upgrade takes with default timeouts, 96 s; add probation
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &two_minutes, sizeof two_minutes);
    if (::connect(socket.get(), where.data(), where.size()) != 0) {
        std::perror(argv[1]);
        return 1;
    }
    std::string answer;
    char buffer[512];
    for (::ssize_t size = 0; (size = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;)
        answer.append(buffer, static_cast<std::size_t>(size));
    std::cout << answer;
    return answer.starts_with("ok ") && answer.ends_with('\n') ? 0 : 1;
} catch (std::exception const& e) {
    std::cerr << "ask: " << e.what() << '\n';
    return 1;
}
