// SPDX-License-Identifier: BSL-1.0
// A real systemd, started by manager.sh beside this directory.
#pragma once

#include "../../restart/harness/wait.hpp"

#include <ecdysis/os/fd.hpp>

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace restart {

/// What a command came to.
struct outcome
{
    int status = -1; ///< 128 + signal, if that ended it
    std::string output{};

    [[nodiscard]] bool ok() const noexcept { return status == 0; }
};

/// A systemd of the version that this test is asked to try, with no units but ours. One serves all cases of a test program.
/// It ends with this process, however that ends, and everything that it started ends with it.
class real_manager
{
public:
    enum class scope {
        user,   ///< systemd --user
        system, ///< process 1 of a pid namespace: pids are those that it knows, unless said otherwise
    };
    /// A test program that wants the other says so before main.
    static inline scope wanted = scope::user;

    [[nodiscard]] static real_manager& instance()
    {
        static real_manager one;
        return one;
    }

    real_manager(real_manager const&) = delete;
    real_manager& operator=(real_manager const&) = delete;
    ~real_manager() { end(); }

    /// Why it cannot run here; empty: it runs.
    [[nodiscard]] std::string const& skipped() const noexcept { return skipped_; }

    [[nodiscard]] static int version() { return std::stoi(argument(2)); }
    [[nodiscard]] static std::string argument(int index)
    {
        auto const& suite = boost::unit_test::framework::master_test_suite();
        if (suite.argc != 4)
            throw std::runtime_error{std::string{"usage: "} + suite.argv[0] + " -- DIRECTORY-OF-HOSTS 252|257 MANAGER.SH"};
        return suite.argv[index];
    }

    [[nodiscard]] std::string path(std::string const& name) const { return directory_ + "/" + name; }

    /// A shell's command, in its mounts and control groups; what it writes, also to stderr, is the output.
    [[nodiscard]] outcome run(std::string const& command) const
    {
        outcome result;
        auto const whole = "timeout --kill-after=1 60 '" + path("in") + "' " + command + " 2>&1 < /dev/null";
        auto* const pipe = ::popen(whole.c_str(), "re");
        if (pipe == nullptr)
            throw std::runtime_error{"cannot run " + whole};
        std::array<char, 4096> buffer;
        for (std::size_t size; (size = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
            result.output.append(buffer.data(), size);
        int const status = ::pclose(pipe);
        result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        return result;
    }
    [[nodiscard]] outcome systemctl(std::string const& arguments) const { return run("systemctl " + option() + " " + arguments); }
    [[nodiscard]] static std::string option() { return wanted == scope::user ? "--user" : "--system"; }

    /// What it has said about that unit until now, debug messages too.
    [[nodiscard]] std::vector<std::string> said_about(std::string const& unit) const
    {
        // Its words are on their way to the file. When a later one is there, they are.
        auto const mark = "until now " + std::to_string(++marks_);
        std::vector<std::string> result;
        if (std::fstream words{path("kmsg"), std::ios::in | std::ios::out}; !(words << mark << std::endl))
            return result; // it has ended
        auto const all_said = [&] {
            result.clear();
            std::ifstream file{path("log")};
            for (std::string line; std::getline(file, line) && line != mark;)
                if (line.find(unit) != line.npos)
                    result.push_back(std::move(line));
            return file.good();
        };
        BOOST_TEST(wait_until(all_said), "what systemd says does not come to its log");
        return result;
    }

    /// The directory of its control group.
    [[nodiscard]] std::string const& group() const noexcept { return group_; }

    /// Those in a service's control group.
    [[nodiscard]] std::vector<::pid_t> processes(std::string const& service) const
    {
        std::vector<::pid_t> result;
        for (auto const outside : processes_outside(service))
            if (auto const pid = known_as(outside); pid > 0)
                result.push_back(pid);
        return result;
    }
    /// Whatever is left of it.
    void kill_all(std::string const& service) const
    {
        for (auto const outside : processes_outside(service))
            ::kill(outside, SIGKILL);
    }

    /// Ends it with all that it started. Whether nothing is left; true if it does not run.
    bool end()
    {
        if (supervisor_ < 0)
            return true;
        input_.reset();
        int status = 0;
        bool const ended =
            wait_until([&] { return ::waitpid(supervisor_, &status, WNOHANG) == supervisor_; }, std::chrono::seconds{20});
        supervisor_ = -1;
        bool const nothing_left = ended && status == 0 && !std::filesystem::exists(group_);
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
        return nothing_left;
    }

private:
    real_manager()
    {
        char pattern[] = "/tmp/ecdysis-systemd-XXXXXX";
        if (::mkdtemp(pattern) == nullptr)
            throw std::runtime_error{"cannot make a directory in /tmp"};
        directory_ = pattern;
        std::array<int, 2> in, out;
        if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
            throw std::runtime_error{"cannot make a pipe"};
        input_ = ecdysis::os::owned_fd{in[1]};
        ecdysis::os::owned_fd const their_input{in[0]}, output{out[0]};
        {
            ecdysis::os::owned_fd const their_output{out[1]};
            start(in[0], out[1]);
        }
        auto const line = first_line(output.get());
        if (line == "ready") {
            std::getline(std::ifstream{path("cgroup")}, group_);
            return;
        }
        auto const why = line.empty() ? "it said nothing: " + text_of("stderr") : line;
        static_cast<void>(end());
        if (!line.starts_with("skipped: "))
            throw std::runtime_error{"the manager did not start: " + why};
        skipped_ = line.substr(line.find(' ') + 1);
        std::cout << line << std::endl; // the report looks for it
    }

    // By the numbers that this process knows.
    [[nodiscard]] std::vector<::pid_t> processes_outside(std::string const& service) const
    {
        std::vector<::pid_t> result;
        std::ifstream file{group_ + (wanted == scope::user ? "/app.slice/" : "/system.slice/") + service + "/cgroup.procs"};
        for (::pid_t pid; file >> pid;)
            result.push_back(pid);
        return result;
    }

    // The innermost number of a process; 0 if it has gone.
    [[nodiscard]] static ::pid_t known_as(::pid_t outside)
    {
        std::ifstream status{"/proc/" + std::to_string(outside) + "/status"};
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("NSpid:"))
                return std::stoi(line.substr(line.find_last_of('\t') + 1));
        return 0;
    }

    // In a session of its own: who ends this test by its process group leaves the one that ends the rest.
    void start(int input, int output)
    {
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, input, 0);
        ::posix_spawn_file_actions_adddup2(&actions, output, 1);
        ::posix_spawn_file_actions_addopen(&actions, 2, path("stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
        ::posix_spawnattr_t attributes;
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        auto script = argument(3), version = argument(2);
        std::string system = "--system";
        std::vector<char*> arguments{script.data(), version.data(), directory_.data(), nullptr};
        if (wanted == scope::system)
            arguments.insert(arguments.begin() + 1, system.data());
        int const failure = ::posix_spawn(&supervisor_, script.c_str(), &actions, &attributes, arguments.data(), ::environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::posix_spawnattr_destroy(&attributes);
        if (failure != 0)
            throw std::runtime_error{"cannot start " + script};
    }

    // It comes, or the end does: the script has deadlines.
    [[nodiscard]] static std::string first_line(int fd)
    {
        std::string result;
        for (char byte; ::read(fd, &byte, 1) == 1 && byte != '\n';)
            result += byte;
        return result;
    }

    [[nodiscard]] std::string text_of(std::string const& name) const
    {
        std::ifstream file{path(name)};
        return {std::istreambuf_iterator<char>{file}, {}};
    }

    std::string directory_;
    std::string group_;
    std::string skipped_;
    ecdysis::os::owned_fd input_;
    ::pid_t supervisor_ = -1;
    mutable unsigned marks_ = 0;
};

} // namespace restart
