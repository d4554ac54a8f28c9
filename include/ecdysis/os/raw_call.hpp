// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_RAW_CALL_HPP
#define ECDYSIS_OS_RAW_CALL_HPP

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace ecdysis::os {

/// Whether `raw_call` leaves errno alone. On other architectures it is made by glibc's syscall(3), which writes to it.
#if (defined(__x86_64__) && defined(__LP64__)) || defined(__aarch64__)
inline constexpr bool raw_calls_leave_errno = true;
#else
inline constexpr bool raw_calls_leave_errno = false;
#endif

/// A system call for a process that runs in the memory of another: what it gives, or an error as a negative number. errno
/// and all else that belongs to a thread is that of the thread which runs on meanwhile. `__attribute__` here and where it is used:
/// no form of these in brackets is known to both gcc 12 and clang 14.
__attribute__((no_sanitize_address, no_sanitize_thread, no_stack_protector))
inline long raw_call(long number, long a, long b = 0, long c = 0, long d = 0) noexcept
{
#if defined(__x86_64__) && defined(__LP64__)
    register long fourth asm("r10") = d; // syscall(2), "Architecture calling conventions"
    long result = number;
    asm volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long call asm("x8") = number;
    register long first asm("x0") = a;
    register long second asm("x1") = b;
    register long third asm("x2") = c;
    register long fourth asm("x3") = d;
    asm volatile("svc 0" : "+r"(first) : "r"(call), "r"(second), "r"(third), "r"(fourth) : "memory");
    return first;
#else
    long const result = ::syscall(number, a, b, c, d);
    return result == -1 ? -errno : result;
#endif
}

} // namespace ecdysis::os

#endif
