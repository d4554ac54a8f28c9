// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWN_HPP
#define ECDYSIS_LAUNCH_SPAWN_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/moves.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/descriptor_limit.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/signal_set.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// clone(2) by its other name, which every glibc exports. The thread sanitizer puts itself in front of `clone`, and takes the
/// new process for a fork that has memory of its own (gcc 12): of the service's descriptors it then knows nothing any more.
extern "C" int __clone(int (*f)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace ecdysis::launch {

/// What `spawn` and the new process call, up to exec.
inline constexpr std::array spawn_calls{
    seccomp::calls("clone", "a new generation; no plain fork, and no thread",
                   seccomp::is(0, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD)),
    seccomp::calls("clone", "a new generation that is systemd's own child",
                   seccomp::is(0, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_PARENT | SIGCHLD))
        .untested_because("notify::none asks for none; with notify::systemd it is tested"),
    seccomp::calls("execve", "the program of the new generation"),
    seccomp::calls("mmap", "a stack for the steps before exec", seccomp::lacks(2, PROT_EXEC)),
    seccomp::calls("mprotect", "a stack for the steps before exec", seccomp::lacks(2, PROT_EXEC)),
    seccomp::calls("munmap", "a stack for the steps before exec"),
    seccomp::calls("rt_sigprocmask", "no handler runs before exec, and what is blocked then"),
    seccomp::calls("rt_sigaction", "no handler is inherited"),
    seccomp::calls("fchdir", "its working directory"),
    seccomp::calls("fcntl", "which of 0 to 2 are open", seccomp::is(1, F_GETFD)),
    seccomp::calls("fcntl", "what is in its place already", seccomp::is(1, F_SETFD)),
    seccomp::calls("dup3", "its descriptors, each at its number", seccomp::is(2, 0)),
    seccomp::calls("openat", "/dev/null for those of 0 to 2 that are closed", seccomp::is(2, O_RDWR)),
    seccomp::calls("close", "/dev/null for those of 0 to 2 that are closed"),
    seccomp::calls("close_range", "all others", seccomp::is(2, 0)),
    seccomp::calls("exit_group", "the program could not be executed"),
    seccomp::calls("prlimit64", "whether its descriptors are too many", seccomp::is(1, RLIMIT_NOFILE), seccomp::has(2, ~std::uint64_t{0}, 0)),
    seccomp::calls("waitid", "one that could not execute the program", seccomp::is(0, P_PIDFD), seccomp::is(3, WEXITED)),
};

/// Whether the child may have our `number`, 0 to 2. Where those were closed, another file may have got the number.
[[nodiscard]] inline bool is_standard_stream(int number) noexcept
{
    auto const flags = ::fcntl(number, F_GETFD);
    return flags != -1 && (flags & FD_CLOEXEC) == 0;
}

/// What the new process does between its first instruction and exec. It runs in the memory of this one, which may have
/// been doing anything, so all is laid out before, and it makes nothing but system calls; not by glibc's functions, which a
/// sanitizer takes for this process's own (the thread sanitizer then thinks that its descriptors were closed).
///
/// Not posix_spawn, which does much the same: that knows neither CLONE_PARENT nor CLONE_PIDFD.
class last_steps
{
public:
    static constexpr int first_inherited = 3;

    /// Borrows from `what`. Errors: EINVAL for a signal that does not exist.
    last_steps(request const& what, error_code& ec)
        : program_{what.program.c_str()}, arguments_{pointers(what.arguments)},
          environment_{pointers(what.environment)}, directory_{what.directory.get()},
          first_closed_{first_inherited + static_cast<int>(what.inherited.size())}
    {
        ec.clear();
        std::vector<int> sources(what.inherited.size());
        std::ranges::transform(what.inherited, sources.begin(), &os::borrowed_fd::get);
        moves_ = plan_moves(sources, first_inherited);
        for (int number = 0; number != first_inherited; ++number)
            null_[static_cast<std::size_t>(number)] =
                !is_standard_stream(number) || std::ranges::find(sources, number) != sources.end();
        blocked_ = os::signal_set{what.blocked, ec};
        if (!ec)
            ignored_ = os::signal_set{what.ignored, ec};
    }

    /// The function of clone(2). Returns only where exec or what comes before it failed; `error()` says why then.
    [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    static int take(void* self) noexcept
    {
        auto& steps = *static_cast<last_steps*>(self);
        if (steps.reset_signals() && steps.arrange_descriptors())
            ::syscall(SYS_execve, steps.program_, steps.arguments_.data(), steps.environment_.data());
        steps.error_ = errno;
        ::syscall(SYS_exit_group, 127);
        return 127;
    }

    [[nodiscard]] int error() const noexcept { return error_; }

private:
    /// What the kernel takes for a signal's handling: SIG_DFL or SIG_IGN, and no flags. Larger than it is on any architecture.
    using disposition = std::array<std::uintptr_t, 8>;

    // By system call: glibc keeps two signals to itself (32 and 33), and would leave their handlers where they are.
    [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    bool reset_signals() noexcept
    {
        for (int signal = 1; signal <= os::signal_set::last; ++signal)
            if (signal != SIGKILL && signal != SIGSTOP &&
                ::syscall(SYS_rt_sigaction, signal, (ignored_.has(signal) ? ignore_ : default_).data(), nullptr,
                          sizeof blocked_) != 0)
                return false;
        return ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked_, nullptr, sizeof blocked_) == 0;
    }

    [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    bool arrange_descriptors() noexcept
    {
        // First, while its number still means what it means in this process.
        if (::syscall(SYS_fchdir, directory_) != 0)
            return false;
        for (move const* one = moves_.data(), * const end = one + moves_.size(); one != end; ++one)
            if (one->from == one->to ? ::syscall(SYS_fcntl, one->to, F_SETFD, 0) != 0 : !duplicate(one->from, one->to))
                return false;
        // After the moves, which may read 0 to 2.
        for (int number = 0; number != first_inherited; ++number)
            if (null_.data()[number] && !open_null(number))
                return false;
        return ::syscall(SYS_close_range, first_closed_, UINT_MAX, 0) == 0;
    }

    [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    static bool open_null(int number) noexcept
    {
        ::syscall(SYS_close, number); // so that it is the lowest free one, or a lower one is, which is opened by itself
        int const opened = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR));
        if (opened == number || opened == -1)
            return opened != -1;
        bool const moved = duplicate(opened, number);
        ::syscall(SYS_close, opened);
        return moved;
    }

    [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    static bool duplicate(int from, int to) noexcept
    {
        return ::syscall(SYS_dup3, from, to, 0) != -1;
    }

    static std::vector<char*> pointers(std::vector<std::string> const& strings)
    {
        std::vector<char*> result;
        result.reserve(strings.size() + 1);
        for (auto const& one : strings)
            result.push_back(const_cast<char*>(one.c_str())); // execve takes it so for C's sake, and only reads
        result.push_back(nullptr);
        return result;
    }

    char const* program_;
    std::vector<char*> arguments_;
    std::vector<char*> environment_;
    int directory_;
    std::vector<move> moves_;
    std::array<bool, first_inherited> null_{};
    int first_closed_;
    os::signal_set blocked_;
    os::signal_set ignored_;
    disposition default_{};
    disposition ignore_{reinterpret_cast<std::uintptr_t>(SIG_IGN)};
    int error_ = 0;
};

/// While it lives, nothing but the new process's own steps happens to this thread: no handler of the host's runs in the
/// memory that both have, and a cancellation that is pending does not end the thread in the wrong process.
class undisturbed
{
public:
    undisturbed() noexcept
    {
        ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_);
        // But for SIGSYS: where a filter forbids clone(2), seccomp::trap says so. Nobody else sends it.
        constexpr auto all = os::signal_set::all_but(SIGSYS);
        ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask_, sizeof mask_);
    }
    undisturbed(undisturbed const&) = delete;
    undisturbed& operator=(undisturbed const&) = delete;
    ~undisturbed()
    {
        ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask_, nullptr, sizeof mask_);
        ::pthread_setcancelstate(cancel_, nullptr);
    }

private:
    int cancel_ = 0;
    os::signal_set mask_;
};

/// A stack for the steps, with a page below it that faults.
class spawn_stack
{
public:
    explicit spawn_stack(error_code& ec) noexcept
        : memory_{::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0)}
    {
        ec.clear();
        if (memory_ == MAP_FAILED || ::mprotect(static_cast<char*>(memory_) + guard, size - guard, PROT_READ | PROT_WRITE) != 0)
            ec = os::last_error();
    }
    spawn_stack(spawn_stack const&) = delete;
    spawn_stack& operator=(spawn_stack const&) = delete;
    ~spawn_stack()
    {
        if (memory_ != MAP_FAILED)
            ::munmap(memory_, size);
    }

    [[nodiscard]] void* top() const noexcept { return static_cast<char*>(memory_) + size; }

private:
    // A page is at most 64 KiB (aarch64); the steps themselves need less than one of 4 KiB.
    static constexpr std::size_t guard = 64 * 1024;
    static constexpr std::size_t size = 2 * guard;

    void* memory_;
};

/// Starts a program in a new process, and returns when exec has happened or failed: clone(2) with CLONE_VM and
/// CLONE_VFORK, which borrows this process's memory. Never fork(): it write-locks and copies the page tables of the whole
/// process (334 ms for 8 GiB).
///
/// The child has the numbers 0 to 2, the inherited descriptors from 3 on, and no others. Its 0 to 2 are ours; one
/// that we have closed, marked close-on-exec, or hand over as an inherited descriptor is /dev/null there.
/// Exactly `request::ignored` is ignored, all other signals have their default, and exactly `request::blocked` is blocked.
///
/// Errors: `errc::descriptor_limit` when the child would have fewer than 64 numbers to itself; EBADF for a
/// descriptor that is not open; EMFILE when not one number is free here; EINVAL for a signal that does not exist,
/// and for a sibling of a process that is the first of its pid namespace; else what chdir or exec said (ENOENT,
/// EACCES, …), and ENOENT also where /dev/null is needed and missing. No child is left behind by an error; a sibling that
/// could not execute the program has ended, and is given, for whoever is its parent process to reap.
///
/// Exceptions: std::bad_alloc, with nothing started.
[[nodiscard]] inline process spawn(request const& what, error_code& ec)
{
    os::check_descriptor_limit(what.inherited.size(), ec);
    if (ec)
        return {};
    last_steps steps{what, ec};
    if (ec)
        return {};
    spawn_stack const stack{ec};
    if (ec)
        return {};

    int pidfd = -1;
    ::pid_t pid = -1;
    {
        undisturbed const quiet;
        auto const parentage = what.as_sibling ? CLONE_PARENT : 0;
        pid = ::__clone(&last_steps::take, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | parentage | SIGCHLD, &steps, &pidfd);
        if (pid == -1)
            ec = os::last_error();
    }
    if (ec)
        return {};
    process child{os::process_id{pid}, os::owned_fd{pidfd}};
    if (steps.error() != 0) {
        error_code ignored; // ECHILD: somebody else has reaped it
        if (!what.as_sibling)
            os::call(ignored, [&] { return ::waitid(P_PIDFD, static_cast<::id_t>(pidfd), nullptr, WEXITED); });
        ec.assign(steps.error(), boost::system::system_category());
        if (!what.as_sibling)
            return {};
    }
    return child;
}

} // namespace ecdysis::launch

#endif
