// SPDX-License-Identifier: BSL-1.0
// A container of crun's.
#pragma once

#include "program.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace example {

/// What runs in a container.
struct container_wish
{
    std::vector<std::string> arguments;
    std::string filter{};                ///< as an OCI runtime reads it; empty: none
    std::vector<std::string> programs{}; ///< paths; each is in /programs by its name
    bool own_pids = false;               ///< then the first process is process 1, and all others end with it
};

/// The directory `programs` of it is /programs in it, and `here` is /here. Nothing outlives it.
class container
{
public:
    explicit container(container_wish const& wish)
    {
        std::filesystem::create_directories(folder_ / "programs");
        std::filesystem::create_directories(folder_ / "here");
        for (std::filesystem::path const program : wish.programs)
            std::filesystem::copy_file(program, folder_ / ("programs/" + program.filename().string()));
        std::string mounts = R"({"destination": "/proc", "type": "proc", "source": "proc"})";
        std::vector<std::pair<std::string, std::string>> all{{"/programs", folder_ / "programs"}, {"/here", folder_ / "here"}};
        for (std::string const of_the_machine : {"/usr", "/lib", "/lib64", "/etc"})
            if (std::filesystem::exists(of_the_machine))
                all.emplace_back(of_the_machine, of_the_machine);
        for (auto const* name : {"proc", "dev"})
            std::filesystem::create_directories(folder_ / ("bundle/rootfs/" + std::string{name}));
        for (auto const& [to, from] : all) {
            std::filesystem::create_directories((folder_ / "bundle/rootfs") + to);
            mounts += R"(, {"destination": ")" + to + R"(", "type": "bind", "source": ")" + from + R"(", "options": ["rbind"]})";
        }
        std::string words;
        for (auto const& one : wish.arguments)
            words += (words.empty() ? "\"" : ", \"") + one + "\"";
        std::ofstream{folder_ / "bundle/config.json"}
            << R"({"ociVersion": "1.0.0", "root": {"path": "rootfs", "readonly": true}, "process": {"user": {"uid": 0, "gid": 0},)"
            << R"("cwd": "/", "env": ["PATH=/programs"], "noNewPrivileges": true, "args": [)" << words << R"(]}, "mounts": [)" << mounts
            << R"(], "linux": {"namespaces": [{"type": "mount"}, {"type": "ipc"})" << (wish.own_pids ? R"(, {"type": "pid"}])" : "]")
            << (wish.filter.empty() ? "" : R"(, "seccomp": )" + wish.filter) << "}}";
        // It needs a cgroup2 to look at, even if it is to make no control group.
        runtime_ = launch("/bin/sh",
                         {"-c",
                          "exec unshare --mount --propagation private -- sh -c 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && "
                          "exec crun --cgroup-manager=disabled --root \"$0/state\" run --bundle \"$0/bundle\" ecdysis' \"$0\"",
                          folder_.path()},
                         folder_);
    }
    container(container const&) = delete;
    container& operator=(container const&) = delete;
    ~container() { family::instance().kill_all(); }

    [[nodiscard]] std::string path(std::string const& name) const { return folder_ / name; }
    [[nodiscard]] std::string log() const { return read(path("err")) + read(path("out")); }
    /// That of its first process; 128 + signal, if that ended it.
    [[nodiscard]] int status() const { return exit_status(runtime_); }
    /// Its first process, by the number outside; 0 if it is not there yet, or no more.
    [[nodiscard]] ::pid_t first() const
    {
        auto const all = restart::children(runtime_);
        return all.empty() ? 0 : all.front().pid;
    }
    [[nodiscard]] bool has_ended() const { return family::instance().ended(runtime_).has_value(); }

private:
    folder folder_;
    ::pid_t runtime_ = -1;
};

/// Why there can be no container here; empty: there can.
inline std::string const& skipped()
{
    static auto const why = [] {
        if (::geteuid() != 0)
            return std::string{"it takes root"};
        container const plain{{.arguments = {"/programs/allowlist", "--help"}, .programs = {directory_of(false) + "/allowlist"}}};
        if (plain.status() == 0 && read(plain.path("out")).starts_with("usage: allowlist "))
            return std::string{};
        auto const words = plain.log();
        return "crun cannot run a container: " + words.substr(0, words.find('\n'));
    }();
    static bool const said = [] {
        if (!why.empty())
            std::cout << "skipped: " << why << std::endl; // the report looks for it
        return !why.empty();
    }();
    static_cast<void>(said);
    return why;
}

inline boost::test_tools::assertion_result can_run(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{skipped().empty()};
    result.message() << skipped();
    return result;
}

} // namespace example
