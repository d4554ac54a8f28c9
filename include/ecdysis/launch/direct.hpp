// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_DIRECT_HPP
#define ECDYSIS_LAUNCH_DIRECT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/moves.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/descriptor_limit.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::launch {

/// Starts the child with posix_spawn, as a child process of this one.
///
/// The child has the numbers 0 to 2, the inherited descriptors from 3 on, and no others. Its 0 to 2 are ours; one
/// that we have closed, marked close-on-exec, or hand over as an inherited descriptor is /dev/null there.
/// All its signal dispositions are default, and exactly `request::blocked` is blocked.
///
/// Never fork(): it write-locks and copies the page tables of the whole process (334 ms for 8 GiB).
/// glibc's posix_spawn borrows the parent's memory instead, and returns the child's exec error as its own.
///
/// Holds no state; any thread may call it, as long as no other one closes what the request borrows.
class direct
{
public:
    /// Starts `what` and calls `done(ec, process)` before it returns.
    ///
    /// Errors: `errc::descriptor_limit` when the child would have fewer than 64 numbers to itself; EBADF for a
    /// descriptor that is not open or not below RLIMIT_NOFILE; EMFILE when not one number is free here;
    /// EINVAL for a blocked signal that does not exist; else what chdir or exec said (ENOENT, EACCES, …), and
    /// ENOENT also where /dev/null is needed and missing. No child is left behind by an error.
    ///
    /// Exceptions: std::bad_alloc, with nothing started; and what `done` throws.
    template <class Done>
    void start(request const& what, Done&& done) const
    {
        error_code ec;
        auto child = spawn(what, ec);
        std::forward<Done>(done)(ec, std::move(child));
    }

    /// Sends `signal` to the child; one that has ended already is no error.
    void kill(process const& child, int signal, error_code& ec) const noexcept
    {
        ec.clear();
        if (child.pidfd)
            os::send_signal(child.pidfd, signal, ec);
    }

    /// Takes the status of an ended child; never waits (see `os::reap`). Unknown if somebody else took it.
    [[nodiscard]] os::exit_status reap(process const& child, error_code& ec) const noexcept
    {
        ec.clear();
        return child.pidfd ? os::reap(child.pidfd, ec) : os::exit_status{};
    }

private:
    static constexpr int first_inherited = 3;

    /// What the child does with its descriptors before exec, in order. Keeps the first error.
    class file_actions
    {
    public:
        file_actions() { keep(::posix_spawn_file_actions_init(&actions_)); }
        file_actions(file_actions const&) = delete;
        file_actions& operator=(file_actions const&) = delete;
        ~file_actions() { ::posix_spawn_file_actions_destroy(&actions_); }

        void change_directory(os::borrowed_fd to) { keep(::posix_spawn_file_actions_addfchdir_np(&actions_, to.get())); }
        void duplicate(move one) { keep(::posix_spawn_file_actions_adddup2(&actions_, one.from, one.to)); }
        void open_null(int number) { keep(::posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", O_RDWR, 0)); }
        void close_from(int number) { keep(::posix_spawn_file_actions_addclosefrom_np(&actions_, number)); }

        [[nodiscard]] int error() const noexcept { return error_; }
        [[nodiscard]] ::posix_spawn_file_actions_t const* get() const noexcept { return &actions_; }

    private:
        void keep(int error) noexcept
        {
            if (error_ == 0)
                error_ = error;
        }

        ::posix_spawn_file_actions_t actions_;
        int error_ = 0;
    };

    /// All dispositions default, exactly `blocked` blocked.
    class attributes
    {
    public:
        explicit attributes(std::span<int const> blocked)
        {
            ::posix_spawnattr_init(&attributes_);
            ::sigset_t mask;
            ::sigemptyset(&mask);
            for (auto const signal : blocked)
                if (::sigaddset(&mask, signal) != 0)
                    error_ = EINVAL;
            // Not sigfillset(): it leaves out the two signals that glibc keeps to itself (32 and 33), and what is
            // not in this set and has a handler here, posix_spawn ignores in the child, and so would the child's
            // children (glibc, sysdeps/unix/sysv/linux/spawni.c).
            ::sigset_t all;
            std::memset(&all, 0xff, sizeof all);
            ::posix_spawnattr_setsigmask(&attributes_, &mask);
            ::posix_spawnattr_setsigdefault(&attributes_, &all);
            ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        }
        attributes(attributes const&) = delete;
        attributes& operator=(attributes const&) = delete;
        ~attributes() { ::posix_spawnattr_destroy(&attributes_); }

        [[nodiscard]] int error() const noexcept { return error_; }
        [[nodiscard]] ::posix_spawnattr_t const* get() const noexcept { return &attributes_; }

    private:
        ::posix_spawnattr_t attributes_;
        int error_ = 0;
    };

    static process spawn(request const& what, error_code& ec)
    {
        os::check_descriptor_limit(what.inherited.size(), ec);
        if (ec)
            return {};

        // Holds a number free for the pidfd, so that a full table is found out while there is no child yet.
        os::owned_fd spare{os::call(ec, [&] { return ::fcntl(what.directory.get(), F_DUPFD_CLOEXEC, first_inherited); })};
        if (ec)
            return {};

        file_actions actions;
        describe_descriptors(what, actions);
        attributes const settings{what.blocked};
        auto const arguments = pointers(what.arguments);
        auto const environment = pointers(what.environment);

        ::pid_t pid = -1;
        int error = actions.error() != 0 ? actions.error() : settings.error();
        if (error == 0)
            error = ::posix_spawn(&pid, what.program.c_str(), actions.get(), settings.get(), arguments.data(), environment.data());
        if (error != 0) {
            ec.assign(error, boost::system::system_category());
            return {};
        }

        spare.reset();
        auto pidfd = open_own(os::process_id{pid}, ec);
        if (ec) {
            end_without_pidfd(pid);
            return {};
        }
        return {os::process_id{pid}, std::move(pidfd)};
    }

    static void describe_descriptors(request const& what, file_actions& actions)
    {
        std::vector<int> sources(what.inherited.size());
        std::ranges::transform(what.inherited, sources.begin(), &os::borrowed_fd::get);

        actions.change_directory(what.directory); // first, while its number still means what it means here
        for (auto const one : plan_moves(sources, first_inherited))
            actions.duplicate(one);
        // Upwards and after the moves: each open() then finds its own number to be the lowest free one.
        for (int number = 0; number != first_inherited; ++number)
            if (!is_standard_stream(number) || std::ranges::find(sources, number) != sources.end())
                actions.open_null(number);
        actions.close_from(first_inherited + static_cast<int>(sources.size()));
    }

    /// Whether the child may have our `number`. Where 0 to 2 were closed, another file may have got the number.
    static bool is_standard_stream(int number) noexcept
    {
        auto const flags = ::fcntl(number, F_GETFD);
        return flags != -1 && (flags & FD_CLOEXEC) == 0;
    }

    static std::vector<char*> pointers(std::vector<std::string> const& strings)
    {
        std::vector<char*> result;
        result.reserve(strings.size() + 1);
        for (auto const& one : strings)
            result.push_back(const_cast<char*>(one.c_str())); // posix_spawn takes it so for C's sake, and only reads
        result.push_back(nullptr);
        return result;
    }

    /// The pidfd of our child `pid`; none, and no error, if somebody else has reaped it already.
    static os::owned_fd open_own(os::process_id pid, error_code& ec) noexcept
    {
        auto pidfd = os::open_pidfd(pid, ec);
        // EINVAL too: the number of a reaped process can live on as that of its group or session.
        if (ec == boost::system::errc::no_such_process || ec == boost::system::errc::invalid_argument) {
            ec.clear();
            return {};
        }
        if (ec)
            return {};
        // The number of a reaped child may be a stranger's by now. He must not be waited for, nor killed.
        ::siginfo_t info{};
        error_code mine;
        os::call(mine, [&] { return ::waitid(P_PIDFD, static_cast<::id_t>(pidfd.get()), &info, WEXITED | WNOHANG | WNOWAIT); });
        return mine == boost::system::errc::no_child_process ? os::owned_fd{} : std::move(pidfd);
    }

    static void end_without_pidfd(::pid_t pid) noexcept
    {
        if (::kill(pid, SIGKILL) != 0)
            return; // a program of another user (set-user-ID): waiting for it could take for ever
        error_code ignored; // ECHILD: somebody else has reaped it
        os::call(ignored, [&] { return ::waitid(P_PID, static_cast<::id_t>(pid), nullptr, WEXITED); });
    }
};

static_assert(Policy<direct>);

} // namespace ecdysis::launch

#endif
