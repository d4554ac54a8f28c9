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
#include <ecdysis/os/raw_call.hpp>
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
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// clone(2) by its other name, which every glibc exports. The thread sanitizer puts itself in front of `clone`, and takes the
/// new process for a fork that has memory of its own (gcc 12): of the service's descriptors it then knows nothing any more.
extern "C" int __clone(int (*f)(void*), void* stack, int flags, void* argument, ...) noexcept;

namespace ecdysis::launch {

/// Of clone(2), for a new process that takes its last steps to exec in this one's memory. Where those would write to the errno
/// of the thread that starts it, the thread waits.
inline constexpr int spawn_flags =
    CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | SIGCHLD | (os::raw_calls_leave_errno ? 0 : CLONE_VFORK);

/// What `spawn` and the new process call, up to exec.
inline constexpr std::array spawn_calls{
    seccomp::calls("clone", "a new generation; no plain fork, and no thread", seccomp::is(0, spawn_flags)),
    seccomp::calls("clone", "a new generation that is systemd's own child", seccomp::is(0, spawn_flags | CLONE_PARENT))
        .untested_because("notify::none asks for none; with notify::systemd it is tested"),
    seccomp::calls("execve", "the program of the new generation"),
    seccomp::calls("mmap", "a stack for the steps before exec", seccomp::lacks(2, PROT_EXEC)),
    seccomp::calls("mprotect", "a stack for the steps before exec", seccomp::lacks(2, PROT_EXEC)),
    seccomp::calls("munmap", "a stack for the steps before exec"),
    seccomp::calls("rt_sigprocmask", "no handler runs before exec, and what is blocked then"),
    seccomp::calls("rt_sigaction", "no handler is inherited"),
    seccomp::calls("fchdir", "its working directory"),
    seccomp::calls("chdir", "its working directory, where that of the start must not be entered any more")
        .untested_because("the suite's services may enter theirs; unit/launch/direct has one that may not"),
    seccomp::calls("fcntl", "which of 0 to 2 are open", seccomp::is(1, F_GETFD)),
    seccomp::calls("fcntl", "what is in its place already, and what is not inherited", seccomp::is(1, F_SETFD)),
    seccomp::calls("dup3", "its descriptors, each at its number", seccomp::is(2, 0)),
    seccomp::calls("openat", "/dev/null for those of 0 to 2 that are closed", seccomp::is(2, O_RDWR)),
    seccomp::calls("close", "/dev/null for those of 0 to 2 that are closed"),
    seccomp::calls("close_range", "all others", seccomp::is(2, 0)),
    seccomp::calls("exit_group", "the program could not be executed"),
    seccomp::calls("prlimit64", "whether its descriptors are too many", seccomp::is(1, RLIMIT_NOFILE), seccomp::has(2, ~std::uint64_t{0}, 0)),
};

/// Whether the child may have our `number`, 0 to 2. Where those were closed, another file may have got the number.
[[nodiscard]] inline bool is_standard_stream(int number) noexcept
{
    auto const flags = ::fcntl(number, F_GETFD);
    return flags != -1 && (flags & FD_CLOEXEC) == 0;
}

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

/// What the new process does between its first instruction and exec. It runs in the memory of this one, which goes on
/// meanwhile, so all is laid out before, and it makes nothing but system calls: not by glibc's functions, which write to the
/// errno of the thread that started it, and which a sanitizer takes for this process's own; nor by any function that a
/// sanitizer has instrumented, or that looks for a canary in that thread's memory, which goes with the thread.
///
/// Not posix_spawn, which does much the same: that knows neither CLONE_PARENT nor CLONE_PIDFD, and waits for exec.
class last_steps
{
public:
    static constexpr int first_inherited = 3;

    /// `says_why`: where it says why the program could not be executed, if not to `own_error()`; to be in memory that lives as
    /// long. Errors: EINVAL for a signal that does not exist; what mmap(2) says.
    last_steps(request what, int volatile* says_why, error_code& ec)
        : stack_{ec}, program_{std::move(what.program)}, arguments_{std::move(what.arguments)},
          environment_{std::move(what.environment)}, argv_{pointers(arguments_)}, envp_{pointers(environment_)}
    {
        if (ec)
            return;
        std::vector<int> sources(what.inherited.size());
        std::ranges::transform(what.inherited, sources.begin(), &os::borrowed_fd::get);
        for (int number = 0; number != first_inherited; ++number)
            if (!is_standard_stream(number) || std::ranges::find(sources, number) != sources.end())
                plan_.null |= 1U << number;
        plan_.directory = first_inherited + static_cast<int>(sources.size());
        sources.push_back(what.directory.get());
        moves_ = plan_moves(sources, first_inherited);
        plan_.blocked = os::signal_set{what.blocked, ec}.bits();
        if (!ec)
            plan_.ignored = os::signal_set{what.ignored, ec}.bits();
        plan_.ignore[0] = reinterpret_cast<std::uintptr_t>(SIG_IGN);
        plan_.program = program_.c_str();
        plan_.argv = argv_.data();
        plan_.envp = envp_.data();
        plan_.moves = moves_.data();
        plan_.moves_end = moves_.data() + moves_.size();
        plan_.error = says_why != nullptr ? says_why : &error_;
        *plan_.error = 0;
    }
    last_steps(last_steps const&) = delete;
    last_steps& operator=(last_steps const&) = delete;

    /// By clone(2) with these flags and more: a new process that takes the steps. -1: errno says why not.
    [[nodiscard]] ::pid_t begin(int flags, int& pidfd) noexcept
    {
        in_use_ = 1;
        auto const pid = ::__clone(&take, stack_.top(), flags, &plan_, &pidfd, nullptr, &in_use_);
        if (pid == -1)
            in_use_ = 0;
        return pid;
    }

    /// Whether the new process is in this memory still: it has neither executed the program nor ended.
    [[nodiscard]] bool in_use() const noexcept { return in_use_ != 0; }
    [[nodiscard]] int volatile const* own_error() const noexcept { return &error_; }

private:
    /// What the kernel takes for a signal's handling: SIG_DFL or SIG_IGN, and no flags. Larger than it is on any architecture.
    using disposition = std::uintptr_t[8];

    /// All that the new process reads.
    struct plan
    {
        char const* program;
        char** argv;
        char* const* envp;
        move const* moves;
        move const* moves_end;
        int directory; ///< its number after the moves, the last that is open
        unsigned null; ///< bit n: number n, 0 to 2, is /dev/null
        std::uint64_t blocked; ///< bit 0 is signal 1
        std::uint64_t ignored;
        disposition by_default;
        disposition ignore;
        int volatile* error;
    };

    /// The function of clone(2). Returns only where exec or what comes before it failed.
    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static int take(void* given) noexcept
    {
        auto const& p = *static_cast<plan const*>(given);
        long failed = reset_signals(p);
        if (failed == 0)
            failed = arrange_descriptors(p);
        if (failed >= 0)
            failed = enter_directory(p);
        // Late: before Linux 5.16 a signal that dumps core ends all who share the memory (fs/coredump.c), so the service, too.
        if (failed >= 0)
            failed = os::raw_call(SYS_rt_sigprocmask, SIG_SETMASK, address(&p.blocked), 0, sizeof p.blocked);
        if (failed >= 0)
            failed = os::raw_call(SYS_execve, address(p.program), address(p.argv), address(p.envp));
        *p.error = static_cast<int>(-failed);
        os::raw_call(SYS_exit_group, 127);
        return 127;
    }

    // By system call also because glibc keeps two signals to itself (32 and 33), and would leave their handlers where they are.
    // SIGSYS first: a filter that forbids one of these calls raises it, and a handler of the host's must not run here.
    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long reset_signals(plan const& p) noexcept
    {
        long failed = reset(p, SIGSYS);
        for (int signal = 1; failed == 0 && signal <= os::signal_set::last; ++signal)
            if (signal != SIGKILL && signal != SIGSTOP && signal != SIGSYS)
                failed = reset(p, signal);
        return failed;
    }

    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long reset(plan const& p, int signal) noexcept
    {
        auto const& to = (p.ignored >> (signal - 1) & 1U) != 0 ? p.ignore : p.by_default;
        return os::raw_call(SYS_rt_sigaction, signal, address(to), 0, sizeof p.blocked);
    }

    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long arrange_descriptors(plan const& p) noexcept
    {
        long failed = 0;
        for (auto const* one = p.moves; failed >= 0 && one != p.moves_end; ++one)
            failed = one->from == one->to ? os::raw_call(SYS_fcntl, one->to, F_SETFD, 0)
                                          : os::raw_call(SYS_dup3, one->from, one->to, 0);
        if (failed >= 0)
            failed = os::raw_call(SYS_fcntl, p.directory, F_SETFD, FD_CLOEXEC);
        if (failed >= 0)
            failed = os::raw_call(SYS_close_range, p.directory + 1, UINT_MAX, 0);
        // After the moves, which may read 0 to 2.
        for (int number = 0; failed >= 0 && number != first_inherited; ++number)
            if ((p.null >> number & 1U) != 0)
                failed = open_null(number);
        return failed;
    }

    /// It may be of a file system that does not answer: so last, when nothing is open any more that the service may close
    /// meanwhile. (To close may wait, too: for what was written to a file on such a one. Then it has copies of the rest.)
    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long enter_directory(plan const& p) noexcept
    {
        long const failed = os::raw_call(SYS_fchdir, p.directory);
        if (failed != -EACCES && failed != -ENOENT && failed != -ESTALE)
            return failed;
        *p.error = process::in_root;
        if (p.argv[0] != nullptr)
            p.argv[0] = const_cast<char*>(p.program); // a relative one would mean nothing there
        return os::raw_call(SYS_chdir, address("/"));
    }

    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long open_null(int number) noexcept
    {
        os::raw_call(SYS_close, number); // so that it is the lowest free one, or a lower one is, which is opened by itself
        long const opened = os::raw_call(SYS_openat, AT_FDCWD, address("/dev/null"), O_RDWR);
        if (opened == number || opened < 0)
            return opened;
        long const moved = os::raw_call(SYS_dup3, opened, number, 0);
        os::raw_call(SYS_close, opened);
        return moved;
    }

    __attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
    static long address(void const* of) noexcept
    {
        return reinterpret_cast<long>(of);
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

    spawn_stack stack_;
    std::string program_;
    std::vector<std::string> arguments_;
    std::vector<std::string> environment_;
    std::vector<char*> argv_;
    std::vector<char*> envp_;
    std::vector<move> moves_;
    plan plan_{};
    int volatile error_ = 0;
    int volatile in_use_ = 0; ///< the kernel sets it to 0 (CLONE_CHILD_CLEARTID)
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

/// Starts a program in a new process, and returns when there is one, whatever exec takes: clone(2) with CLONE_VM, which
/// borrows this process's memory until exec. Never fork(): it write-locks and copies the page tables of the whole process
/// (334 ms for 8 GiB). Not CLONE_VFORK, which stops this thread until exec has happened: a slow disk held a service for as long.
///
/// The child has the numbers 0 to 2, the inherited descriptors from 3 on, and no others. Its 0 to 2 are ours; one
/// that we have closed, marked close-on-exec, or hand over as an inherited descriptor is /dev/null there.
/// Exactly `request::ignored` is ignored, all other signals have their default, and exactly `request::blocked` is blocked.
///
/// Errors: `errc::descriptor_limit` when the child would have fewer than 64 numbers to itself; EMFILE when not one number is
/// free here; EINVAL for a signal that does not exist, and for a sibling of a process that is the first of its pid namespace;
/// what mmap and clone say. No child is left behind by an error. What fails in the new process ends it, and is its
/// `process::exec_error()`: EBADF for a descriptor that is not open, what exec said (ENOENT, EACCES, …), and ENOENT also where
/// /dev/null is needed and missing. `says_why` is where it says so, if given. A directory that must not be entered, or has
/// gone, is / instead, and argv[0] the program's path.
///
/// Exceptions: std::bad_alloc, with nothing started.
[[nodiscard]] inline process spawn(request what, error_code& ec, std::shared_ptr<int volatile> says_why = {})
{
    os::check_descriptor_limit(what.inherited.size(), ec);
    if (ec)
        return {};
    auto const parentage = what.as_sibling ? CLONE_PARENT : 0;
    auto const unless_in_use = [](last_steps* steps) {
        if (!steps->in_use()) // else it is left for good to a process that neither executes nor ends
            delete steps;
    };
    std::shared_ptr<last_steps> const steps{new last_steps{std::move(what), says_why.get(), ec}, unless_in_use};
    if (ec)
        return {};
    int pidfd = -1;
    ::pid_t pid = -1;
    {
        undisturbed const quiet;
        pid = steps->begin(spawn_flags | parentage, pidfd);
        if (pid == -1)
            ec = os::last_error();
    }
    if (ec)
        return {};
    process child{.pid = os::process_id{pid}, .pidfd = os::owned_fd{pidfd}};
    child.exec_errno = {steps, says_why ? says_why.get() : steps->own_error()};
    return child;
}

} // namespace ecdysis::launch

#endif
