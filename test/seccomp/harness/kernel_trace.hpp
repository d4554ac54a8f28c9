// SPDX-License-Identifier: BSL-1.0
// The system calls of all processes that descend from this one, as the kernel tells them (tracefs). Unlike ptrace(2) that
// hardly slows them down, so that deadlines hold.
#pragma once

#include <ecdysis/os/fd.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace confined {

/// Why nothing can be traced here.
struct cannot_trace : std::runtime_error
{
    using runtime_error::runtime_error;
};

class kernel_trace
{
public:
    /// What is told, in the order of time, by a thread of this one's own.
    struct listener
    {
        std::function<void(::pid_t parent, ::pid_t child)> forked; ///< a thread, too
        std::function<void(::pid_t old_pid, ::pid_t pid)> executed;
        std::function<void(::pid_t, long number, std::array<std::uint64_t, 6> const&)> called; ///< and no filter denied it
        std::function<void(::pid_t, long number, long result)> answered; ///< of the calls that are asked for
    };

    /// Calls of processes whose names fit `without` are not told. Answers are told of those that fulfil `answers`, a
    /// condition as in tracefs's filters. What is forked from now on is followed.
    ///
    /// Throws cannot_trace.
    kernel_trace(listener to, std::string const& without, std::string const& answers) : to_{std::move(to)}
    {
        if (::geteuid() != 0)
            throw cannot_trace{"only root can trace system calls"};
        auto const root = mounted();
        remove_stale(root);
        path_ = root + "/instances/" + prefix + std::to_string(::getpid());
        if (::mkdir(path_.c_str(), 0700) != 0)
            throw cannot_trace{"cannot make " + path_ + ": " + std::strerror(errno)};
        try {
            auto const processors = std::max(1U, std::thread::hardware_concurrency());
            write("buffer_size_kb", std::to_string(std::max(8U, 512U / processors) * 1024));
            write("trace_clock", "mono"); // the same on all processors
            write("options/event-fork", "1");
            auto const others = "!(comm ~ \"" + without + "\")";
            write("events/raw_syscalls/sys_enter/filter", others);
            write("events/raw_syscalls/sys_exit/filter", others + " && (" + answers + ")");
            write("set_event_pid", std::to_string(::getpid()));
            pipe_ = ecdysis::os::owned_fd{::open((path_ + "/trace_pipe").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
            if (!pipe_)
                throw cannot_trace{"cannot read " + path_ + "/trace_pipe: " + std::strerror(errno)};
            for (auto const* event : {"sched/sched_process_fork", "sched/sched_process_exec", "raw_syscalls/sys_enter", "raw_syscalls/sys_exit"})
                write(std::string{"events/"} + event + "/enable", "1");
        } catch (...) {
            pipe_.reset();
            ::rmdir(path_.c_str());
            throw;
        }
        reader_ = std::jthread{[this](std::stop_token ends) { read_all(ends); }};
    }
    kernel_trace(kernel_trace const&) = delete;
    kernel_trace& operator=(kernel_trace const&) = delete;
    ~kernel_trace()
    {
        finish();
        pipe_.reset();
        ::rmdir(path_.c_str());
    }

    /// Tells what there is still. How many events were lost, for the buffer was full.
    std::size_t finish()
    {
        if (!reader_.joinable())
            return lost_;
        write("tracing_on", "0");
        reader_.request_stop();
        reader_.join();
        for (auto const& processor : std::filesystem::directory_iterator{path_ + "/per_cpu"}) {
            std::ifstream file{processor.path() / "stats"};
            for (std::string line; std::getline(file, line);)
                for (std::string_view const name : {"overrun: ", "dropped events: "})
                    if (line.starts_with(name))
                        lost_ += std::stoul(line.substr(name.size()));
        }
        return lost_;
    }

private:
    static constexpr auto prefix = "ecdysis-coverage-";

    /// Where tracefs is; if nowhere, it is put where no other process sees it.
    [[nodiscard]] static std::string mounted()
    {
        for (auto const* place : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"})
            if (::access((std::string{place} + "/instances").c_str(), W_OK) == 0)
                return place;
        constexpr auto place = "/sys/kernel/tracing";
        if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("tracefs", place, "tracefs", 0, nullptr) != 0)
            throw cannot_trace{std::string{"tracefs is not there, and cannot be mounted: "} + std::strerror(errno)};
        return place;
    }

    /// What a test that was killed has left: its buffers are memory.
    static void remove_stale(std::string const& root)
    {
        for (auto const& one : std::filesystem::directory_iterator{root + "/instances"}) {
            auto const name = one.path().filename().string();
            if (!name.starts_with(prefix))
                continue;
            auto const pid = std::atoi(name.c_str() + std::strlen(prefix));
            if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH)
                ::rmdir(one.path().c_str());
        }
    }

    void write(std::string const& name, std::string const& text) const
    {
        ecdysis::os::owned_fd const file{::open((path_ + "/" + name).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC)};
        if (!file || ::write(file.get(), text.data(), text.size()) < 0)
            throw cannot_trace{"cannot write \"" + text + "\" to " + path_ + "/" + name + ": " + std::strerror(errno)};
    }

    void read_all(std::stop_token const& ends)
    {
        std::string text;
        for (std::array<char, 65536> buffer;;) {
            bool const last = ends.stop_requested(); // asked before the read: nothing comes after it
            auto const size = ::read(pipe_.get(), buffer.data(), buffer.size());
            if (size > 0) {
                text.append(buffer.data(), static_cast<std::size_t>(size));
                std::size_t begin = 0;
                for (auto end = text.find('\n'); end != text.npos; begin = end + 1, end = text.find('\n', begin))
                    tell(std::string_view{text}.substr(begin, end - begin));
                text.erase(0, begin);
            } else if (last) {
                return;
            } else {
                ::pollfd ready{pipe_.get(), POLLIN, 0};
                ::poll(&ready, 1, 20);
            }
        }
    }

    template <class T>
    static T number(std::string_view& text, int base = 10)
    {
        T result{};
        auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), result, base);
        if (ec != std::errc{})
            throw std::runtime_error{"not a number: " + std::string{text}};
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        return result;
    }
    /// What follows the last `word`.
    static std::string_view after(std::string_view text, std::string_view word)
    {
        auto const at = text.rfind(word);
        return at == text.npos ? std::string_view{} : text.substr(at + word.size());
    }

    /// `NAME-PID [PROCESSOR] FLAGS TIME: EVENT: WHAT`, where a name may hold anything.
    void tell(std::string_view line)
    {
        if (auto what = after(line, ": sys_enter: NR "); !what.empty()) {
            auto const call = number<long>(what);
            std::array<std::uint64_t, 6> arguments{};
            for (auto& one : arguments) {
                what.remove_prefix(2); // " (" or ", "
                one = number<std::uint64_t>(what, 16);
            }
            to_.called(caller(line), call, arguments);
        } else if (what = after(line, ": sys_exit: NR "); !what.empty()) {
            auto const call = number<long>(what);
            what.remove_prefix(3); // " = "
            to_.answered(caller(line), call, number<long>(what));
        } else if (line.find(": sched_process_fork: ") != line.npos) {
            auto parent = after(line.substr(0, line.rfind(" child_comm=")), " pid="), child = after(line, " child_pid=");
            auto const of = number<::pid_t>(parent);
            to_.forked(of, number<::pid_t>(child));
        } else if (line.find(": sched_process_exec: ") != line.npos) {
            auto before = after(line, " old_pid="), now = after(line.substr(0, line.rfind(" old_pid=")), " pid=");
            auto const old = number<::pid_t>(before);
            to_.executed(old, number<::pid_t>(now));
        }
    }

    static ::pid_t caller(std::string_view line)
    {
        auto const bracket = line.find(" [0");
        auto text = line.substr(0, bracket);
        text = after(text, "-");
        while (text.starts_with(' '))
            text.remove_prefix(1);
        return number<::pid_t>(text);
    }

    listener to_;
    std::string path_;
    ecdysis::os::owned_fd pipe_;
    std::size_t lost_ = 0;
    std::jthread reader_;
};

} // namespace confined
