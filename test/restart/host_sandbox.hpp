// SPDX-License-Identifier: BSL-1.0
// The filter of host.cpp: ECDYSIS_TEST_SANDBOX=kill, or =trap:FILE, which writes down what is missing, and ends it
// all the same.
#pragma once

#include <ecdysis/launch/direct.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/seccomp/trap.hpp>

#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace host {

/// What this host calls besides its upgrader, to serve and to misbehave.
inline constexpr auto own_calls = [] {
    using namespace ecdysis::seccomp;
    return declare("the host",
                   std::array{
                       calls("openat", "its log", has(2, O_ACCMODE | O_CREAT, O_WRONLY | O_CREAT)),
                       calls("openat", "behaviour; exhaust", has(2, O_ACCMODE | O_CREAT, O_RDONLY)),
                       calls("openat", "what it offers", has(2, O_ACCMODE | O_CREAT, O_RDWR)),
                       calls("write", "its log"),
                       calls("read", "behaviour"),
                       calls("recvfrom", "questions"),
                       calls("recvmsg", "questions"),
                       calls("sendto", "answers"),
                       calls("sendmsg", "answers"),
                       calls("shutdown", "the end of a connection"),
                       calls("dup", "a connection for the next generation"),
                       calls("clock_nanosleep", "sleep"),
                       calls("pause", "hang"),
                       calls("access", "until"),
                       calls("gettid", "kill"),
                       calls("tgkill", "kill"),
                       calls("chdir", "chdir"),
                       calls("setresgid", "user"),
                       calls("setresuid", "user"),
                       calls("wait4", "reap-all"),
                       calls("prlimit64", "nofile", is(1, RLIMIT_NOFILE)),
                       calls("close_range", "close-from", is(2, 0)),
                       calls("pipe2", "fork-worker", is(1, O_CLOEXEC)),
                       calls("clone", "fork-worker", is(0, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)),
                       calls("prctl", "fork-worker", is(0, PR_SET_NAME)),
                   });
}();

/// What it calls besides where there is such a file as ECDYSIS_TEST_ALLOW names: a program that was changed.
inline constexpr auto calls_of_a_new_program =
    ecdysis::seccomp::declare("the host", std::array{ecdysis::seccomp::calls("sysinfo", "sysinfo")});

/// Puts up the sandbox that is asked for, and keeps what explains it.
class sandbox
{
public:
    template <class Upgrader>
    void enter(typename Upgrader::launch_policy const& launch)
    {
        char const* const asked = std::getenv("ECDYSIS_TEST_SANDBOX");
        if (asked == nullptr)
            return;
        // launch::direct: the filter is inherited, and a second one would be one more for each generation.
        constexpr bool is_inherited = std::is_same_v<typename Upgrader::launch_policy, ecdysis::launch::direct>;
        bool const traps = std::string_view{asked}.starts_with("trap:");
        if (traps) {
            words_ = ecdysis::os::owned_fd{::open(asked + 5, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)};
            trap_.emplace(ecdysis::seccomp::declarations<Upgrader>::from_start, words_.get());
        }
        if (is_inherited && std::getenv("ECDYSIS_HANDOFF") != nullptr)
            return;
        ::scmp_filter_ctx const filter = ::seccomp_init(traps ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
        ecdysis::seccomp::allow(filter, ecdysis::seccomp::threads);
        ecdysis::seccomp::allow(filter, own_calls);
        if (char const* const more = std::getenv("ECDYSIS_TEST_ALLOW"); more != nullptr && ::access(more, F_OK) == 0)
            ecdysis::seccomp::allow(filter, calls_of_a_new_program);
        ecdysis::seccomp::allow<Upgrader>(filter, launch);
        int const result = ::seccomp_load(filter);
        ::seccomp_release(filter);
        if (result != 0)
            throw ecdysis::error{{-result, boost::system::system_category()}, "load the filter"};
    }

private:
    ecdysis::os::owned_fd words_;
    std::optional<ecdysis::seccomp::trap> trap_;
};

} // namespace host
