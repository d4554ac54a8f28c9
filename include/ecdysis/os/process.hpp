// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_PROCESS_HPP
#define ECDYSIS_OS_PROCESS_HPP

#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstdint>
#include <string>

namespace ecdysis::os {

/// A process id as a type of its own.
enum class process_id : pid_t { none = -1 };

[[nodiscard]] constexpr pid_t number(process_id pid) noexcept { return static_cast<pid_t>(pid); }

[[nodiscard]] inline process_id this_process() noexcept { return process_id{::getpid()}; }
[[nodiscard]] inline process_id parent_process() noexcept { return process_id{::getppid()}; }

/// How a process ended, as far as it can be known.
struct exit_status
{
    enum class kind {
        unknown, ///< somebody else reaped it (a host that waits for all its children or ignores SIGCHLD; systemd)
        exited,  ///< `value` is its exit status
        killed,  ///< `value` is the signal
    };

    kind how = kind::unknown;
    int value = 0;

    friend bool operator==(exit_status const&, exit_status const&) = default;

    /// "exit status 3", "killed by signal 9 (Killed)", or "ended, its status is not known".
    [[nodiscard]] std::string text() const
    {
        switch (how) {
        case kind::exited:
            return "exit status " + std::to_string(value);
        case kind::killed:
            return "killed by signal " + std::to_string(value) + " (" + signal_name(value) +
                   (value == SIGSYS ? ": a seccomp filter does not allow what it called)" : ")");
        case kind::unknown:
            break;
        }
        return "ended, its status is not known";
    }

private:
    static std::string signal_name(int number)
    {
        // Not strsignal(): its buffer is shared between threads in old libcs (strsignal(3)).
        char const* name = ::sigdescr_np(number);
        return name != nullptr ? name : "unknown signal";
    }
};

/// What the three functions below call.
inline constexpr std::array process_calls{
    seccomp::calls("pidfd_send_signal", "ends a child", seccomp::is(3, 0)),
    seccomp::calls("waitid", "takes a child's status", seccomp::is(0, P_PIDFD), seccomp::is(3, WEXITED | WNOHANG)),
    seccomp::calls("ioctl", "the status of a child that somebody else reaps", seccomp::is(1, _IOWR(0xFF, 11, char[64]))),
};

/// A descriptor that becomes readable when `pid` ends (Linux 5.3, pidfd_open(2)); close-on-exec.
[[nodiscard]] inline owned_fd open_pidfd(process_id pid, error_code& ec) noexcept
{
    return owned_fd{static_cast<int>(call(ec, [&] { return ::syscall(SYS_pidfd_open, number(pid), 0U); }))};
}

/// Sends a signal to the process behind `pidfd`; one that has ended already is no error.
inline void send_signal(borrowed_fd pidfd, int signal, error_code& ec) noexcept
{
    call(ec, [&] { return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0U); });
    if (ec == boost::system::errc::no_such_process)
        ec.clear();
}

/// What the kernel knows of a process by its pidfd (PIDFD_GET_INFO, linux/pidfd.h), in its first form.
struct pidfd_info
{
    static constexpr std::uint64_t has_exit_status = 1U << 3; ///< Linux 6.15

    std::uint64_t mask = 0; ///< asked for, then given
    std::uint64_t control_group = 0;
    std::uint32_t ids[11] = {};
    std::int32_t exit_status = 0; ///< as of wait(2)
};
static_assert(sizeof(pidfd_info) == 64);

/// How a process ended that somebody else reaps or has reaped. Unknown before Linux 6.15. A process that nobody has reaped
/// yet gives `resource_unavailable_try_again`.
[[nodiscard]] inline exit_status status_of_reaped(borrowed_fd pidfd, error_code& ec) noexcept
{
    pidfd_info info;
    auto const ask = [&] {
        info = {.mask = pidfd_info::has_exit_status};
        call(ec, [&] { return ::ioctl(pidfd.get(), _IOWR(0xFF, 11, pidfd_info), &info); });
    };
    ask();
    // Also where it is reaped between the kernel's look at the status, which was not there yet, and its look at the
    // process, which is not there any more: 363 of 4,000 times that somebody did so meanwhile (6.18).
    if (ec == boost::system::errc::no_such_process)
        ask();
    if (ec) { // ENOTTY: before 6.13; ESRCH: it was reaped, and 6.13 and 6.14 keep nothing
        ec.clear();
        return {};
    }
    if ((info.mask & pidfd_info::has_exit_status) == 0) {
        ec = make_error_code(boost::system::errc::resource_unavailable_try_again);
        return {};
    }
    if (WIFEXITED(info.exit_status))
        return {exit_status::kind::exited, WEXITSTATUS(info.exit_status)};
    return {exit_status::kind::killed, WTERMSIG(info.exit_status)};
}

/// Takes the status of an ended child, and only its own. Never waits: a child that still runs gives
/// `resource_unavailable_try_again`. Of one that is not ours to reap it is what `status_of_reaped` says.
[[nodiscard]] inline exit_status reap(borrowed_fd pidfd, error_code& ec) noexcept
{
    ::siginfo_t info{};
    call(ec, [&] { return ::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG); });
    if (ec == boost::system::errc::no_child_process)
        return status_of_reaped(pidfd, ec);
    if (!ec && info.si_pid == 0)
        ec = make_error_code(boost::system::errc::resource_unavailable_try_again);
    else if (!ec && info.si_code == CLD_EXITED)
        return {exit_status::kind::exited, info.si_status};
    else if (!ec)
        return {exit_status::kind::killed, info.si_status};
    return {};
}

} // namespace ecdysis::os

#endif
