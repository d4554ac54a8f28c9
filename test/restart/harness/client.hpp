// SPDX-License-Identifier: BSL-1.0
// Clients of host.cpp, on blocking sockets.
#pragma once

#include "wait.hpp"

#include <ecdysis/address.hpp>
#include <ecdysis/os/fd.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace restart {

/// What became of a request.
enum class result {
    answered,
    refused, ///< could not connect
    reset,   ///< the connection was
    cut,     ///< it ended without the answer
    late,    ///< no answer came
};

/// What host.cpp answers with.
struct reply
{
    unsigned generation = 0;
    ::pid_t pid = 0;
    bool last = false; ///< the connection ends with it
    std::string text{};

    explicit reply(std::string line) : text{std::move(line)}
    {
        std::istringstream words{text};
        words >> generation >> pid;
        last = text.ends_with(" last");
    }
};

class connection
{
public:
    explicit connection(ecdysis::address const& to, int type = SOCK_STREAM)
        : socket_{::socket(to.family(), type | SOCK_CLOEXEC, 0)}
    {
        set_patience();
        int connected;
        do
            connected = ::connect(socket_.get(), to.data(), to.size());
        while (connected != 0 && errno == EINTR);
        state_ = connected == 0 ? result::answered : errno == ECONNRESET ? result::reset : result::refused;
    }
    /// One that has connected already, whether or not it waits.
    explicit connection(ecdysis::os::owned_fd connected) : socket_{std::move(connected)}, state_{result::answered}
    {
        ::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) & ~O_NONBLOCK);
        set_patience();
    }
    connection(connection&&) = default;
    connection& operator=(connection&&) = default;

    /// What became of it so far.
    [[nodiscard]] result state() const noexcept { return state_; }
    [[nodiscard]] int native_handle() const noexcept { return socket_.get(); }

    void send(std::string const& line)
    {
        auto const text = line + "\n";
        if (state_ == result::answered && ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0)
            state_ = failure();
    }

    /// The next line; nothing when the connection has come to its end, see state().
    [[nodiscard]] std::optional<std::string> receive()
    {
        for (;;) {
            if (auto const end = text_.find('\n'); end != text_.npos) {
                auto line = text_.substr(0, end);
                text_.erase(0, end + 1);
                return line;
            }
            if (state_ != result::answered)
                return {};
            char buffer[1024];
            auto const size = ::recv(socket_.get(), buffer, sizeof buffer, 0);
            if (size < 0 && errno == EINTR)
                continue;
            if (size > 0)
                text_.append(buffer, static_cast<std::size_t>(size));
            else
                state_ = size == 0 ? result::cut : failure();
        }
    }

    [[nodiscard]] std::optional<reply> ask(std::string const& line = "who")
    {
        send(line);
        auto answer = receive();
        return answer ? std::optional<reply>{std::move(*answer)} : std::nullopt;
    }

    /// Ends with a reset, so that the port is free at once: for one who makes thousands.
    void abandon()
    {
        ::linger const at_once{1, 0};
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        socket_.reset();
    }

private:
    void set_patience() const
    {
        ::timeval const time{patience.count(), 0};
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    }
    [[nodiscard]] static result failure() noexcept
    {
        return errno == EAGAIN ? result::late : errno == ECONNRESET || errno == EPIPE ? result::reset : result::cut;
    }

    ecdysis::os::owned_fd socket_;
    result state_;
    std::string text_;
};

} // namespace restart
