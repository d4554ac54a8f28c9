// SPDX-License-Identifier: BSL-1.0
// A filter cannot be taken off again, and ends the process: each is loaded in a process of its own.
#pragma once

#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>

#include <seccomp.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <ostream>
#include <string>
#include <string_view>

namespace apart {

namespace os = ecdysis::os;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool is_sanitized = true;
#else
inline constexpr bool is_sanitized = false;
#endif
#else
inline constexpr bool is_sanitized = false;
#endif

struct end
{
    int status = -1;
    std::string said;

    [[nodiscard]] bool exited(int with = 0) const { return WIFEXITED(status) && WEXITSTATUS(status) == with; }
    [[nodiscard]] bool turned_away() const { return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS; }
    [[nodiscard]] bool said_that(std::string_view words) const { return said.find(words) != std::string::npos; }

    friend std::ostream& operator<<(std::ostream& to, end const& e)
    {
        return WIFEXITED(e.status) ? to << "exited with " << WEXITSTATUS(e.status) << ": " << e.said
                                   : to << "ended by signal " << WTERMSIG(e.status) << ": " << e.said;
    }
};

inline void say(os::borrowed_fd to, std::string_view words)
{
    [[maybe_unused]] auto const written = ::write(to.get(), words.data(), words.size());
}

/// How `f` ends in a fork of this process, and what it writes to the descriptor that it is given. Its result is the exit
/// status; an exception is 99, and what it says is written.
template <class F>
end run(F f)
{
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return {};
    os::owned_fd ours{ends[0]}, its{ends[1]};
    auto const pid = ::fork();
    if (pid == 0) {
        ::alarm(60);
        int status = 99;
        try {
            status = f(os::borrowed_fd{its});
        } catch (std::exception const& e) {
            say(its, e.what());
        }
        ::_exit(status);
    }
    its.reset();
    end result;
    char buffer[4096];
    for (::ssize_t got = 1; got > 0 || (got == -1 && errno == EINTR);)
        if (got = ::read(ours.get(), buffer, sizeof buffer); got > 0)
            result.said.append(buffer, static_cast<std::size_t>(got));
    while (::waitpid(pid, &result.status, 0) == -1 && errno == EINTR) {
    }
    return result;
}

/// A filter of libseccomp's, as a host makes it.
class filter
{
public:
    explicit filter(std::uint32_t otherwise) : filter_{::seccomp_init(otherwise)}
    {
        // What the sanitizers call; not possible, nor needed, where all is allowed.
        if (is_sanitized)
            for (int const call : {SCMP_SYS(sigaltstack), SCMP_SYS(madvise), SCMP_SYS(gettid), SCMP_SYS(sched_getaffinity), SCMP_SYS(prctl),
                                   SCMP_SYS(pipe2), SCMP_SYS(gettimeofday), SCMP_SYS(nanosleep)})
                ::seccomp_rule_add(filter_, SCMP_ACT_ALLOW, call, 0);
    }
    filter(filter const&) = delete;
    filter& operator=(filter const&) = delete;
    ~filter() { ::seccomp_release(filter_); }

    [[nodiscard]] ::scmp_filter_ctx get() const { return filter_; }
    void load() const
    {
        if (int const result = ::seccomp_load(filter_); result != 0)
            throw ecdysis::error{{-result, boost::system::system_category()}, "load the filter"};
    }

private:
    ::scmp_filter_ctx filter_;
};

} // namespace apart
