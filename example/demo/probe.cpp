// SPDX-License-Identifier: BSL-1.0
// usage: probe PORT RATE SECONDS
// Asks http_asio on 127.0.0.1 RATE times a second, each time on a new connection, and prints a line for each request:
//
//     START(us since 1970) LATENCY(us) KIND         KIND: ok refused reset cut timeout bad-answer other
//
// Requests are due by the clock, whatever became of those before, and their latency counts from then: a stall is seen by
// all that fall into it.
#include <ecdysis/os/fd.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using clock_type = std::chrono::system_clock;
using namespace std::chrono_literals;

constexpr auto limit = 5s; // for one request

class request
{
public:
    explicit request(std::uint16_t port) : port_{port} {}

    /// The kind of its end.
    char const* run()
    {
        ::sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port_);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(socket_.get(), reinterpret_cast<::sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS)
            return by(errno);
        if (!wait(POLLOUT))
            return "timeout";
        int error = 0;
        ::socklen_t size = sizeof error;
        ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0)
            return by(error);
        static constexpr char text[] = "GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
        if (::send(socket_.get(), text, sizeof text - 1, MSG_NOSIGNAL) != sizeof text - 1)
            return by(errno);
        return answer();
    }

private:
    /// Reads to the end of the connection: an answer that does not end cleanly is none.
    char const* answer()
    {
        std::string got;
        for (char buffer[1024];;) {
            if (!wait(POLLIN))
                return "timeout";
            auto const size = ::recv(socket_.get(), buffer, sizeof buffer, 0);
            if (size < 0)
                return by(errno);
            if (size == 0)
                break;
            got.append(buffer, static_cast<std::size_t>(size));
        }
        auto const head = got.find("\r\n\r\n");
        auto const length = got.find("Content-Length: ");
        if (head == got.npos || length > head)
            return "cut";
        auto const body = got.size() - head - 4;
        auto const promised = std::strtoul(got.c_str() + length + 16, nullptr, 10);
        if (body < promised)
            return "cut";
        bool const right = got.starts_with("HTTP/1.1 200 ") && body == promised && got.compare(head + 4, 11, "generation ") == 0;
        return right ? "ok" : "bad-answer";
    }

    static char const* by(int error)
    {
        switch (error) {
        case ECONNREFUSED: return "refused";
        case ECONNRESET:
        case EPIPE: return "reset";
        default: return "other";
        }
    }

    bool wait(short events)
    {
        auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
        ::pollfd entry{socket_.get(), events, 0};
        return left.count() > 0 && ::poll(&entry, 1, static_cast<int>(left.count())) == 1;
    }

    std::uint16_t port_;
    std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + limit;
    ecdysis::os::owned_fd socket_{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
};

long long micros(clock_type::duration time) { return std::chrono::duration_cast<std::chrono::microseconds>(time).count(); }

} // namespace

int main(int argc, char** argv)
{
    auto const number = [&](int i) { return argc == 4 ? std::atol(argv[i]) : 0; };
    auto const port = number(1), rate = number(2), seconds = number(3);
    if (port <= 0 || rate <= 0 || seconds <= 0) {
        std::fputs("usage: probe PORT RATE SECONDS\n", stderr);
        return 2;
    }
    auto const start = clock_type::now();
    std::atomic<long> next = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i != 16; ++i)
        threads.emplace_back([&] {
            for (long at = 0; (at = next++) < rate * seconds;) {
                auto const due = start + std::chrono::microseconds{1'000'000 * at / rate};
                std::this_thread::sleep_until(due);
                if (clock_type::now() > start + std::chrono::seconds{seconds})
                    return;
                auto const* const kind = request{static_cast<std::uint16_t>(port)}.run();
                std::printf("%lld %lld %s\n", micros(due.time_since_epoch()), micros(clock_type::now() - due), kind);
            }
        });
}
