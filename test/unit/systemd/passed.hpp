// SPDX-License-Identifier: BSL-1.0
// What a service manager passes to a process, set up in this one.
#pragma once

#include <ecdysis/os/fd.hpp>
#include <ecdysis/systemd/activation.hpp>

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

/// The numbers from 3 on as a manager would pass them; all as before at the end of the scope.
class passed
{
    static constexpr int first = ecdysis::systemd::activation::first;
    static constexpr int room = 12;

public:
    static constexpr char const* variables[] = {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"};

    passed()
    {
        for (int number = first; number != first + room; ++number)
            before_.push_back(ecdysis::os::owned_fd{::fcntl(number, F_DUPFD_CLOEXEC, 100)});
        clear();
        set("LISTEN_PID", std::to_string(::getpid()));
    }
    ~passed()
    {
        clear();
        for (int number = first; auto const& one : before_) {
            if (one)
                ::dup3(one.get(), number, O_CLOEXEC);
            ++number;
        }
        for (auto const* name : variables)
            ::unsetenv(name);
    }

    /// As exec leaves it: not close-on-exec.
    void add(ecdysis::os::owned_fd fd, std::string const& name = {})
    {
        fd = away(std::move(fd));
        BOOST_REQUIRE(::dup2(fd.get(), first + count_) >= 0);
        if (!name.empty())
            names_ += (count_ == 0 ? "" : ":") + name;
        ++count_;
        set("LISTEN_FDS", std::to_string(count_));
        if (!names_.empty())
            set("LISTEN_FDNAMES", names_);
    }
    void skip() { ++count_; }
    static void set(char const* name, std::string const& value) { ::setenv(name, value.c_str(), 1); }

    /// Moves it out of the way of the numbers that are passed.
    [[nodiscard]] static ecdysis::os::owned_fd away(ecdysis::os::owned_fd fd)
    {
        ecdysis::os::owned_fd result{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 50)};
        fd.reset(); // now, and not only when the caller's whole expression ends
        return result;
    }

private:
    static void clear()
    {
        for (int number = first; number != first + room; ++number)
            ::close(number);
    }
    std::vector<ecdysis::os::owned_fd> before_;
    int count_ = 0;
    std::string names_;
};
