// SPDX-License-Identifier: BSL-1.0
// The system calls of a host, for people, container runtimes and systemd. Here for http_systemd.cpp; for a host of your own
// take its upgrader type, and say what it calls besides.
#include <ecdysis/io/asio.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/seccomp/allowlist.hpp>
#include <ecdysis/seccomp/formats.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace seccomp = ecdysis::seccomp;
using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::systemd, ecdysis::transport::socketpair>;

namespace {

// Found with strace(1), and what else a test of this program was killed for.
constexpr auto own_calls = seccomp::declare(
    "the host",
    std::array{
        seccomp::calls("recvmsg", "requests", seccomp::is(2, 0)),
        seccomp::calls("sendmsg", "answers", seccomp::is(2, MSG_NOSIGNAL)),
        seccomp::calls("shutdown", "the last answer", seccomp::is(1, SHUT_WR)),
        seccomp::calls("ioctl", "whether more has come on a connection that is idle", seccomp::is(1, FIONREAD)),
        seccomp::calls("write", "its log", seccomp::is(0, STDERR_FILENO)),
        seccomp::calls("openat", "the time zone", seccomp::has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)),
        seccomp::calls("newfstatat", "the time zone"),
        seccomp::calls("read", "the time zone"),
        seccomp::calls("lseek", "the time zone"),
    });

// With threads: this host has none, but one that serves on several needs no other list.
constexpr auto in_main = seccomp::join(seccomp::declarations<upgrader>::in_main, seccomp::threads, own_calls);
constexpr auto from_start = seccomp::join(seccomp::declarations<upgrader>::from_start, seccomp::threads, own_calls);
constexpr auto in_container = seccomp::join(from_start, seccomp::container_calls);

constexpr std::string_view usage = R"(usage: allowlist [--text [--from-start] | --oci | --systemd] [--architecture x86_64|aarch64]

Prints which system calls an HTTP server as http_systemd makes.

  --text                   for people: each call, who makes it, and why. This is the default
  --from-start             with what is called before main could load a filter. With launch::direct this makes no difference,
                           for each new generation has the filter from the start
  --oci                    for a container: `linux.seccomp` of an OCI config.json, or Docker's --security-opt seccomp=FILE,
                           which takes --security-opt no-new-privileges, too
  --systemd                for a unit: a drop-in, as /etc/systemd/system/NAME.service.d/calls.conf
  --architecture NAME      x86_64 or aarch64; this machine's by default

A container's and a unit's filter are always there from the start.
)";

constexpr std::optional<seccomp::architecture> here =
#if defined(__x86_64__)
    seccomp::architecture::x86_64;
#elif defined(__aarch64__)
    seccomp::architecture::aarch64;
#else
    std::nullopt;
#endif

seccomp::architecture architecture_of(std::string_view name)
{
    if (name == "x86_64")
        return seccomp::architecture::x86_64;
    if (name == "aarch64")
        return seccomp::architecture::aarch64;
    throw std::invalid_argument{std::string{name} + ": expected x86_64 or aarch64"};
}

std::string list(std::span<char* const> arguments)
{
    std::string_view format;
    bool whole = false;
    auto architecture = here;
    for (std::size_t i = 0; i != arguments.size(); ++i) {
        std::string_view const one = arguments[i];
        if (one == "--help")
            return std::string{usage};
        if (one == "--from-start")
            whole = true;
        else if (one == "--architecture" && i + 1 != arguments.size())
            architecture = architecture_of(arguments[++i]);
        else if (one != "--text" && one != "--oci" && one != "--systemd")
            throw std::invalid_argument{std::string{one} + (one == "--architecture" ? ": expected x86_64 or aarch64 after it" : ": no such argument")};
        else if (!format.empty() && format != one)
            throw std::invalid_argument{std::string{format} + " and " + std::string{one} + ": one at a time"};
        else
            format = one;
    }
    if (!architecture)
        throw std::invalid_argument{"there is no list for this machine; use --architecture"};
    if (format == "--oci")
        return seccomp::oci(in_container, *architecture);
    if (format == "--systemd")
        return seccomp::system_call_filter(from_start, *architecture);
    return whole ? seccomp::text(from_start, *architecture) : seccomp::text(in_main, *architecture);
}

} // namespace

int main(int argc, char** argv)
try {
    std::cout << list(std::span{argv, static_cast<std::size_t>(argc)}.subspan(1));
    return std::cout.flush() ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (std::invalid_argument const& e) {
    std::cerr << "allowlist: " << e.what() << "; see allowlist --help\n";
    return 2;
}
