// SPDX-License-Identifier: BSL-1.0
// Processes as /proc shows them, and the orphans of the services under test.
#pragma once

#include "wait.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace restart {

struct process
{
    ::pid_t pid;
    ::pid_t parent;
    char state; ///< Z: zombie, T: stopped
    std::string name;
};

[[nodiscard]] inline std::optional<process> look_at_file(std::string const& name)
{
    std::ifstream file{name};
    std::string text;
    std::getline(file, text, '\0'); // which does not throw when the process ends meanwhile, as iterators do
    auto const open = text.find('('), close = text.rfind(')'); // the name may hold anything
    if (open == text.npos || close == text.npos)
        return {};
    process result{std::atoi(text.c_str()), 0, 0, text.substr(open + 1, close - open - 1)};
    std::istringstream{text.substr(close + 1)} >> result.state >> result.parent;
    return result;
}

[[nodiscard]] inline std::optional<process> look_at(::pid_t pid)
{
    return look_at_file("/proc/" + std::to_string(pid) + "/stat");
}

[[nodiscard]] inline std::vector<process> processes()
{
    std::vector<process> result;
    for (auto const& entry : std::filesystem::directory_iterator{"/proc"}) {
        auto const pid = static_cast<::pid_t>(std::atol(entry.path().filename().c_str()));
        if (pid <= 0)
            continue;
        if (auto found = look_at(pid))
            result.push_back(std::move(*found));
    }
    return result;
}

/// The helper of launch::spawner, as long as it lives.
[[nodiscard]] inline bool is_helper(process const& one)
{
    return one.name == "ecdysis-spawner" && one.state != 'Z';
}

/// All others.
[[nodiscard]] inline std::vector<process> children(::pid_t parent)
{
    auto result = processes();
    std::erase_if(result, [&](auto const& one) { return one.parent != parent || is_helper(one); });
    return result;
}

[[nodiscard]] inline std::vector<process> helpers(::pid_t parent)
{
    auto result = processes();
    std::erase_if(result, [&](auto const& one) { return one.parent != parent || !is_helper(one); });
    return result;
}

/// Of one look at all: whose parent ends meanwhile is not missed, for that parent is there still, as a zombie.
[[nodiscard]] inline std::vector<process> descendants(::pid_t parent)
{
    auto const all = processes();
    std::vector<process> result;
    auto const add = [&](::pid_t of) {
        std::ranges::copy_if(all, std::back_inserter(result), [&](auto const& one) { return one.parent == of; });
    };
    add(parent);
    for (std::size_t i = 0; i != result.size(); ++i)
        add(result[i].pid);
    return result;
}

/// The threads of a process, each with its state; S: it waits.
[[nodiscard]] inline std::vector<process> threads(::pid_t pid)
{
    std::vector<process> result;
    auto const folder = "/proc/" + std::to_string(pid) + "/task";
    std::error_code ec;
    for (std::filesystem::directory_iterator one{folder, ec}, end; !ec && one != end; one.increment(ec))
        if (auto found = look_at_file(one->path().string() + "/stat"))
            result.push_back(std::move(*found));
    return result;
}

/// What a process has open, sorted, so that two of them can be compared: the numbers of sockets and pipes are left out.
[[nodiscard]] inline std::vector<std::string> descriptors(::pid_t pid)
{
    std::vector<std::string> result;
    std::error_code ec;
    std::filesystem::directory_iterator const all{"/proc/" + std::to_string(pid) + "/fd", ec};
    if (ec)
        return result;
    for (auto const& entry : all) {
        auto target = std::filesystem::read_symlink(entry, ec).string();
        if (ec)
            continue;
        for (auto const* kind : {"socket:[", "pipe:["})
            if (target.starts_with(kind))
                target = std::string{kind} + "]";
        result.push_back(std::move(target));
    }
    std::ranges::sort(result);
    return result;
}

/// All processes that descend from this test: an orphan becomes ours (PR_SET_CHILD_SUBREAPER), so that none is lost.
/// Not for several threads.
class family
{
public:
    [[nodiscard]] static family& instance()
    {
        static family one;
        return one;
    }

    /// How `pid`, which is ours, ended, as waitpid(2) has it; nothing while it runs.
    [[nodiscard]] std::optional<int> ended(::pid_t pid)
    {
        collect();
        auto const found = statuses_.find(pid);
        return found != statuses_.end() ? std::optional{found->second} : std::nullopt;
    }

    /// Those that live.
    [[nodiscard]] std::vector<process> living()
    {
        collect();
        auto result = descendants(::getpid());
        std::erase_if(result, [](auto const& one) { return one.state == 'Z' && one.parent == ::getpid(); });
        return result;
    }

    void kill_all()
    {
        static_cast<void>(wait_until([this] {
            auto const left = living();
            for (auto const& one : left)
                ::kill(one.pid, SIGKILL);
            return left.empty();
        }));
        statuses_.clear();
    }

private:
    family() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

    void collect()
    {
        int status = 0;
        for (::pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
            statuses_.insert_or_assign(pid, status);
    }

    std::map<::pid_t, int> statuses_;
};

} // namespace restart
