// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_CORE_HPP
#define ECDYSIS_SECCOMP_CORE_HPP

#include <ecdysis/seccomp/rule.hpp>

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

/// What is called whichever policies are chosen. Seen with glibc 2.36; older than 2.33 has other names for stat(2).
namespace ecdysis::seccomp {

/// Memory, locks and what else the C and C++ libraries do for everybody.
inline constexpr auto runtime_calls = declare(
    "the C library",
    std::array{
        calls("brk", "memory"),
        calls("mmap", "memory; never executable", lacks(2, PROT_EXEC)),
        calls("mprotect", "memory; never executable", lacks(2, PROT_EXEC)),
        calls("munmap", "memory"),
        calls("mremap", "memory of large blocks").untested_because("a vector of descriptors would need 128 KiB to grow so"),
        calls("madvise", "memory is given back", is(2, MADV_DONTNEED)),
        calls("madvise", "guards of stacks", is(2, 102)) // MADV_GUARD_INSTALL, Linux 6.13
            .untested_because("only glibc 2.42 and later"),
        calls("futex", "locks", has(1, FUTEX_CMD_MASK, FUTEX_WAIT)),
        calls("futex", "locks", has(1, FUTEX_CMD_MASK, FUTEX_WAKE)),
        calls("futex", "locks, with a time or of conditions", has(1, FUTEX_CMD_MASK, FUTEX_WAIT_BITSET)),
        calls("sched_yield", "another thread is at the same std::stop_token, or in a signal's handler")
            .untested_because("only at a moment that no test can bring about"),
        calls("sched_getaffinity", "malloc counts processors")
            .untested_because("only where /sys and /proc are not to be seen, as after chroot, and with some threads"),
        calls("gettid", "abort"),
        calls("tgkill", "abort", is(2, SIGABRT)),
        calls("writev", "why it aborts", is(0, STDERR_FILENO)).untested_because("only with memory that is corrupt"),
        calls("clock_gettime", "the time, where the clock cannot be read without a call")
            .untested_because("only with a clock that vdso(7) does not read, as on some virtual machines"),
        calls("restart_syscall", "a wait goes on after SIGSTOP and SIGCONT"),
        calls("rt_sigreturn", "a signal's handler returns"),
        calls("exit_group", "the end"),
        answers("clone3", ENOSYS, "its flags cannot be checked: glibc then calls clone, whose flags can"),
    });

/// The upgrader itself: listeners, handoff, state, pid file, control sockets.
inline constexpr auto upgrader_calls = declare(
    "upgrader",
    std::array{
        calls("close", "each descriptor, when its owner goes"),
        calls("read", "the pid file, and what /proc says of the program"),
        calls("write", "events between threads; state for the child"),
        calls("fcntl", "whether it is open, and close-on-exec", is(1, F_GETFD)),
        calls("fcntl", "close-on-exec", is(1, F_SETFD)),
        calls("fcntl", "whether it waits", is(1, F_GETFL)),
        calls("fcntl", "so that it does not wait", is(1, F_SETFL)),
        calls("fcntl", "copies of what is handed over", is(1, F_DUPFD_CLOEXEC)),
        calls("fcntl", "whether state is sealed", is(1, F_GET_SEALS)),
        calls("fcntl", "state is sealed", is(1, F_ADD_SEALS)),
        calls("newfstatat", "which file it is"),
        calls("fstat", "which file it is").untested_because("glibc calls newfstatat from 2.33 to 2.38"),
        calls("poll", "waits").only_on(architecture::x86_64),
        calls("ppoll", "waits").only_on(architecture::aarch64),
        calls("getpid", "the pid file and the handoff"),
        calls("getppid", "the parent, and whether it is that still"),
        calls("geteuid", "whose file it is"),
        calls("pidfd_open", "the parent's end is seen on it", is(1, 0)),
        calls("prlimit64", "how many descriptors a child could have", is(1, RLIMIT_NOFILE), has(2, ~std::uint64_t{0}, 0)),
        calls("statx", "Boost.Process looks for the program in PATH; whether the directory of the start is there still"),
        calls("access", "Boost.Process looks for the program in PATH").only_on(architecture::x86_64),
        calls("faccessat", "Boost.Process looks for the program in PATH").only_on(architecture::aarch64),
        calls("getcwd", "a relative path is made absolute"),
        calls("getdents64", "getcwd(3) goes up from a directory that is out of reach").untested_because("only after chroot without chdir"),

        calls("socket", "listens", is(0, AF_INET), is(1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "listens", is(0, AF_INET6), is(1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "binds", is(0, AF_INET), is(1, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "binds", is(0, AF_INET6), is(1, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "listens; control sockets", is(0, AF_UNIX), is(1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "listens", is(0, AF_UNIX), is(1, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("socket", "binds; asks whether a path is stale", is(0, AF_UNIX), is(1, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)),
        calls("bind", "what it listens on"),
        calls("listen", "what it listens on"),
        calls("connect", "asks whether anybody has a Unix path still"),
        calls("setsockopt", "listens", is(1, SOL_SOCKET), is(2, SO_REUSEADDR)),
        calls("setsockopt", "shards", is(1, SOL_SOCKET), is(2, SO_REUSEPORT)),
        calls("setsockopt", "listens", is(1, IPPROTO_IPV6), is(2, IPV6_V6ONLY)),
        calls("getsockopt", "verifies", is(1, SOL_SOCKET), is(2, SO_TYPE)),
        calls("getsockopt", "verifies", is(1, SOL_SOCKET), is(2, SO_ACCEPTCONN)),
        calls("getsockopt", "verifies", is(1, SOL_SOCKET), is(2, SO_DOMAIN)),
        calls("getsockopt", "sockets of socket units", is(1, SOL_SOCKET), is(2, SO_PROTOCOL))
            .untested_because("a socket unit needs a service manager; under it the hosts have no filter"),
        calls("getsockopt", "verifies", is(1, IPPROTO_IPV6), is(2, IPV6_V6ONLY)),
        calls("getsockopt", "whether somebody else listens at the address", is(1, IPPROTO_TCP), is(2, TCP_INFO)),
        calls("getsockopt", "who asks at a control socket", is(1, SOL_SOCKET), is(2, SO_PEERCRED)),
        calls("getsockname", "where it is bound"),
        calls("getpeername", "sockets of socket units")
            .untested_because("a socket unit needs a service manager; under it the hosts have no filter"),
        calls("fstatfs", "whether LISTEN_PIDFDID names this process")
            .untested_because("a socket unit needs a service manager; under it the hosts have no filter"),
        calls("socket", "the number of an interface in an address", is(0, AF_UNIX), is(1, SOCK_DGRAM | SOCK_CLOEXEC), is(2, 0)),
        calls("ioctl", "the number of an interface in an address", is(1, SIOCGIFINDEX)),
        calls("chmod", "the mode of a Unix path").only_on(architecture::x86_64),
        calls("fchmodat", "the mode of a Unix path").only_on(architecture::aarch64),
        calls("fchmod", "the mode of a Unix socket before it is bound"),
        calls("unlink", "a Unix path, the pid file").only_on(architecture::x86_64),
        calls("unlinkat", "a Unix path, the pid file", is(2, 0)).only_on(architecture::aarch64),

        calls("openat", "what is only read", has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)),
        calls("openat", "a pid file that is not there yet", has(2, O_ACCMODE | O_CREAT | O_EXCL, O_RDWR | O_CREAT | O_EXCL)),
        calls("faccessat2", "whether the pid file can be written"),
        calls("pwrite64", "the pid file"),
        calls("ftruncate", "the pid file"),
        calls("fsync", "whether there was room for the pid file"),
        calls("rename", "the pid file").only_on(architecture::x86_64),
        calls("renameat", "the pid file").only_on(architecture::aarch64),
        calls("memfd_create", "state for the child", is(1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8)), // MFD_NOEXEC_SEAL
        calls("memfd_create", "state for the child", is(1, MFD_CLOEXEC | MFD_ALLOW_SEALING)).untested_because("only before Linux 6.3"),

        calls("accept4", "control sockets", is(3, SOCK_CLOEXEC | SOCK_NONBLOCK)),
        calls("sendto", "the answer at a control socket", is(3, MSG_NOSIGNAL | MSG_DONTWAIT)),
        calls("recvfrom", "what is unread at a control socket", is(3, MSG_DONTWAIT)),
        calls("shutdown", "the end of a control socket's answer", is(1, SHUT_RDWR)),
        calls("socketpair", "the channel between parent and child", is(0, AF_UNIX), is(1, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)),
    });

inline constexpr auto core_calls = join(runtime_calls, upgrader_calls);

/// What a program does between exec and the first line of main: the dynamic loader, and the libraries' own start.
inline constexpr auto program_calls = declare(
    "the start of a program",
    std::array{
        calls("brk", "memory"),
        calls("mmap", "the program's libraries are mapped to be executed, but not to be written, too", lacks(2, PROT_WRITE)),
        calls("mmap", "memory", lacks(2, PROT_EXEC)),
        calls("mprotect", "what the loader has written is made read-only", lacks(2, PROT_EXEC)),
        calls("munmap", "memory"),
        calls("access", "the loader looks for what it must preload").only_on(architecture::x86_64),
        calls("faccessat", "the loader looks for what it must preload").only_on(architecture::aarch64),
        calls("openat", "libraries", has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)),
        calls("read", "libraries"),
        calls("pread64", "libraries"),
        calls("readlink", "where the program is").only_on(architecture::x86_64)
            .untested_because("only of a static program, or one that finds libraries by $ORIGIN"),
        calls("readlinkat", "where the program is")
            .untested_because("only of a static program, or one that finds libraries by $ORIGIN"),
        calls("mprotect", "branch targets of the program are guarded", has(2, PROT_WRITE | PROT_EXEC | 0x10, PROT_EXEC | 0x10)) // PROT_BTI
            .only_on(architecture::aarch64),
        calls("newfstatat", "libraries"),
        calls("fstat", "libraries").untested_because("glibc calls newfstatat from 2.33 to 2.38"),
        calls("close", "libraries"),
        calls("arch_prctl", "the thread's own memory", is(0, 0x1002)).only_on(architecture::x86_64), // ARCH_SET_FS
        calls("arch_prctl", "whether shadow stacks are on", is(0, 0x3001)).only_on(architecture::x86_64) // ARCH_CET_STATUS
            .untested_because("only of a glibc built for them"),
        calls("set_tid_address", "the first thread"),
        calls("set_robust_list", "the first thread"),
        calls("rseq", "the first thread"),
        calls("prlimit64", "how large its stack may be", is(1, RLIMIT_STACK), has(2, ~std::uint64_t{0}, 0)),
        calls("getrandom", "what makes addresses hard to guess"),
        calls("futex", "what is done once", has(1, FUTEX_CMD_MASK, FUTEX_WAKE)),
        calls("writev", "the loader says why it cannot start the program"),
        calls("uname", "Boost.Filesystem asks which kernel it is"),
    });

/// For hosts that start threads: no upgrader does. Not executable memory, and no flags of clone(2) but a thread's.
inline constexpr auto threads = declare(
    "threads of the host",
    std::array{
        calls("clone", "a thread",
              is(0, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                        CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)),
        answers("clone3", ENOSYS, "its flags cannot be checked: glibc then calls clone, whose flags can"),
        calls("set_robust_list", "its locks"),
        calls("rseq", "its memory that belongs to a processor"),
        calls("rt_sigprocmask", "its signals"),
        calls("mmap", "its stack", lacks(2, PROT_EXEC)),
        calls("mprotect", "its stack", lacks(2, PROT_EXEC)),
        calls("munmap", "its stack"),
        calls("madvise", "its stack is given back", is(2, MADV_DONTNEED)),
        calls("madvise", "its stack's guard", is(2, 102)), // MADV_GUARD_INSTALL, of glibc 2.42
        calls("futex", "its end is waited for", has(1, FUTEX_CMD_MASK, FUTEX_WAIT)),
        calls("futex", "its end is waited for", has(1, FUTEX_CMD_MASK, FUTEX_WAIT_BITSET)),
        calls("futex", "it is woken", has(1, FUTEX_CMD_MASK, FUTEX_WAKE)),
        calls("exit", "its end"),
    });

} // namespace ecdysis::seccomp

#endif
