// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "wait.hpp"

#include <ecdysis/address.hpp>
#include <ecdysis/os/fd.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace restart {

/// A service manager's socket: it records what it is told and by whom, and closes the descriptor of each BARRIER.
class manager
{
public:
    struct message
    {
        ::pid_t sender;
        std::string text;

        [[nodiscard]] bool says(std::string const& assignment) const
        {
            return ("\n" + text + "\n").find("\n" + assignment + "\n") != std::string::npos;
        }
    };

    explicit manager(std::string const& path)
        : address_{path}, socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)}
    {
        auto const& where = address_;
        int const on = 1;
        if (::bind(socket_.get(), where.data(), where.size()) != 0 ||
            ::chmod(path.c_str(), 0666) != 0 || // as systemd does: services have users of their own
            ::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
            throw std::runtime_error{"cannot be a service manager at " + path};
        thread_ = std::jthread{[this](std::stop_token ends) {
            while (!ends.stop_requested()) {
                short const what = stands_still_ ? 0 : POLLIN;
                ::pollfd ready{socket_.get(), what, 0};
                if (::poll(&ready, 1, 20) > 0) {
                    std::lock_guard const hold{mutex_};
                    receive_all();
                }
            }
        }};
    }

    /// All that has been sent.
    [[nodiscard]] std::vector<message> messages()
    {
        std::lock_guard const hold{mutex_};
        receive_all();
        return messages_;
    }

    /// Whether it heard that, from `sender` if one is named.
    [[nodiscard]] bool heard(std::string const& assignment, ::pid_t sender = 0)
    {
        for (auto const& one : messages())
            if ((sender == 0 || one.sender == sender) && one.says(assignment))
                return true;
        return false;
    }

    /// While true, barriers wait; then those that wait are answered.
    void hold_barriers(bool hold)
    {
        std::lock_guard const lock{mutex_};
        holding_ = hold;
        if (!hold)
            held_.clear();
    }
    [[nodiscard]] bool holds_one() const
    {
        std::lock_guard const hold{mutex_};
        return !held_.empty();
    }

    /// While true, it reads nothing, and its queue is full of what is not recorded.
    void stand_still(bool stand)
    {
        std::lock_guard const hold{mutex_};
        stands_still_ = stand;
        if (!stand)
            return;
        for (bool sent = true; sent;) { // what one socket may send has a limit too
            ecdysis::os::owned_fd const other{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
            sent = false;
            while (::sendto(other.get(), filler.data(), filler.size(), 0, address_.data(), address_.size()) > 0)
                sent = true;
        }
    }

private:
    void receive_all()
    {
        while (!stands_still_ && receive()) {}
    }

    /// The next message, if there is one.
    bool receive()
    {
        char text[8192];
        ::iovec data{text, sizeof text};
        alignas(::cmsghdr) char control[CMSG_SPACE(sizeof(::ucred)) + CMSG_SPACE(8 * sizeof(int))];
        ::msghdr header{};
        header.msg_iov = &data;
        header.msg_iovlen = 1;
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        auto const size = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
        if (size < 0)
            return false;
        message got{0, std::string(text, static_cast<std::size_t>(size))};
        while (got.text.ends_with('\n'))
            got.text.pop_back();
        std::vector<ecdysis::os::owned_fd> fds;
        for (auto* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
            if (one->cmsg_level != SOL_SOCKET)
                continue;
            if (one->cmsg_type == SCM_CREDENTIALS) {
                ::ucred who;
                std::memcpy(&who, CMSG_DATA(one), sizeof who);
                got.sender = who.pid;
            } else if (one->cmsg_type == SCM_RIGHTS) {
                auto const count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (std::size_t i = 0; i != count; ++i) {
                    int fd;
                    std::memcpy(&fd, CMSG_DATA(one) + i * sizeof fd, sizeof fd);
                    fds.emplace_back(fd);
                }
            }
        }
        if (got.text == filler)
            return true;
        messages_.push_back(std::move(got));
        if (holding_)
            for (auto& fd : fds)
                held_.push_back(std::move(fd));
        return true;
    }

    static constexpr std::string_view filler = "X_FILLS=1";

    ecdysis::address address_;
    ecdysis::os::owned_fd socket_;
    mutable std::mutex mutex_;
    std::vector<message> messages_;
    std::atomic<bool> stands_still_ = false;
    std::vector<ecdysis::os::owned_fd> held_;
    bool holding_ = false;
    std::jthread thread_;
};

} // namespace restart
