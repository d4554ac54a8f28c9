// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_PROGRAM_HPP
#define ECDYSIS_LAUNCH_PROGRAM_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>

// Boost 1.81's environment.hpp counts on these, which reach it by way of Boost.Filesystem, but not when a host sets
// BOOST_PROCESS_USE_STD_FS in order not to link that.
#include <boost/optional.hpp>
#include <boost/type_traits.hpp>

#include <boost/process/v2/environment.hpp>
#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis::launch {

/// What the next generation is started from, fixed when this one started: program, arguments and directory.
///
/// The program is a path, not a file. Symlinks in it are resolved at each upgrade, so that one that was pointed at a
/// new version starts the new version; /proc/self/exe would be the old one.
class program
{
public:
    /// Fixes what to start. An empty `path` is what this process was called by, its argv[0]; empty `arguments` are
    /// its own, argv[0] included. A path without a slash is looked for in PATH, any other is relative to the
    /// working directory; whether there is such a file is found out at the upgrade.
    ///
    /// Construct it before the arguments are written over (setproctitle) and the working directory is left.
    ///
    /// Throws `error`: `errc::program_unknown` when the path is empty, not in PATH, or relative to a directory that
    /// is gone; what open or read said where there is no /proc; EMFILE. Also std::bad_alloc.
    explicit program(std::string path = {}, std::vector<std::string> arguments = {})
        : arguments_{std::move(arguments)}, root_at_start_{identity_of_root()}
    {
        if (path.empty() || arguments_.empty()) {
            auto own = own_arguments();
            if (path.empty() && !own.empty())
                path = own.front();
            if (arguments_.empty())
                arguments_ = std::move(own);
        }
        path_ = absolute(path);
        open_directory();
    }

    /// The program, an absolute path; symlinks in it are not resolved.
    [[nodiscard]] std::string const& path() const noexcept { return path_; }

    /// argv, argv[0] included.
    [[nodiscard]] std::vector<std::string> const& arguments() const noexcept { return arguments_; }

    /// The signals that were ignored when this was constructed. Exec keeps that, and so it is part of how a program is
    /// started: systemd's IgnoreSIGPIPE= is on by default, and a child that is not so started dies of a write to a
    /// connection that its peer has closed, which its parent survived. Not SIGCHLD: that is ignored by a program's own
    /// choice, and the next version may wait for its children.
    [[nodiscard]] std::vector<int> const& ignored() const noexcept { return ignored_; }

    /// The directory in which this generation was started; none if it could not be entered even then.
    [[nodiscard]] os::borrowed_fd directory() const noexcept { return directory_; }

    /// The directory to start the child in: that of the start, or "/" with `gone` set where the former has been
    /// deleted, could not be entered even at the start, or is outside of the root (after chroot). No file system is asked,
    /// which may not answer; whether it may be entered now is found out by the child.
    ///
    /// Valid until the next call. If there is no number left to open "/", it gives what there is: the launch then
    /// reports the full table.
    [[nodiscard]] os::borrowed_fd directory_or_root(bool& gone) noexcept
    {
        gone = !(directory_ && is_there());
        if (!gone)
            return directory_;
        error_code ec;
        auto root = open_path("/", ec); // anew each time: after chroot an older one would lead out
        if (ec)
            return directory_;
        root_ = std::move(root);
        return root_;
    }

    /// The environment as it is now, without any ECDYSIS_HANDOFF, and with `assignment` (NAME=value) at the end.
    /// Nor has it a WATCHDOG_PID that names this process: the child would take the watchdog for another's
    /// (sd_watchdog_enabled(3)), and the service manager would end it for its silence. Nor what names this process as
    /// the one that the manager passed descriptors to (sd_listen_fds(3)), or that it executed (SYSTEMD_EXEC_PID in
    /// systemd.exec(5)).
    ///
    /// Not safe while another thread changes the environment (setenv(3)).
    [[nodiscard]] static std::vector<std::string> child_environment(std::string_view assignment)
    {
        auto const own_watchdog = "WATCHDOG_PID=" + std::to_string(::getpid());
        std::vector<std::string> result;
        for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry)
            if (!is_of_one_process(*entry) && *entry != own_watchdog)
                result.emplace_back(*entry);
        result.emplace_back(assignment);
        return result;
    }

private:
    static std::array<std::uint64_t, 3> identity_of_root() noexcept
    {
        error_code ignored;
        auto const root = look_at(os::borrowed_fd{}, "/", ignored);
        return {root.stx_dev_major, root.stx_dev_minor, root.stx_ino};
    }

    static bool is_of_one_process(std::string_view entry) noexcept
    {
        constexpr std::array<std::string_view, 6> names{"ECDYSIS_HANDOFF", "LISTEN_PID",     "LISTEN_PIDFDID",
                                                        "LISTEN_FDS",      "LISTEN_FDNAMES", "SYSTEMD_EXEC_PID"};
        return std::ranges::find(names, entry.substr(0, entry.find('='))) != names.end();
    }

    static std::vector<std::string> own_arguments()
    {
        error_code ec;
        os::owned_fd const file{os::call(ec, [] { return ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC); })};
        std::string bytes;
        char buffer[4096];
        for (::ssize_t got = 1; !ec && got > 0;) {
            got = os::call(ec, [&] { return ::read(file.get(), buffer, sizeof buffer); });
            if (got > 0)
                bytes.append(buffer, static_cast<std::size_t>(got));
        }
        if (ec)
            throw error(ec, "cannot read this process's arguments from /proc/self/cmdline; mount /proc, or give both program and arguments");

        std::vector<std::string> result;
        for (std::size_t begin = 0; begin < bytes.size();) {
            auto const end = std::min(bytes.find('\0', begin), bytes.size());
            result.emplace_back(bytes, begin, end - begin);
            begin = end + 1;
        }
        return result;
    }

    static std::string absolute(std::string const& path)
    {
        if (path.empty())
            throw error(make_error_code(errc::program_unknown), "this process has no argv[0]; give the program's path");
        auto found = path;
        if (path.find('/') == std::string::npos) {
            // It reads through a null environ, which clearenv(3) leaves.
            found = std::getenv("PATH") == nullptr ? "" : boost::process::v2::environment::find_executable(path).string();
            if (found.empty())
                throw error(make_error_code(errc::program_unknown), "no executable \"" + path + "\" in PATH; give the program's path");
        }
        if (found.front() == '/')
            return found;

        std::unique_ptr<char, decltype(&std::free)> const directory{::getcwd(nullptr, 0), &std::free};
        // One that is outside of the root has a name too, but a relative one: "(unreachable)/…" (getcwd(3)).
        if (directory == nullptr || *directory != '/')
            throw error(make_error_code(errc::program_unknown),
                        "\"" + found + "\" is relative to a working directory that is gone; give the program's absolute path");
        std::string result = directory.get();
        if (result.back() != '/')
            result += '/';
        return result + found;
    }

    static os::owned_fd open_path(char const* path, error_code& ec) noexcept
    {
        return os::owned_fd{os::call(ec, [&] { return ::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); })};
    }

    void open_directory()
    {
        error_code ec;
        auto opened = open_path(".", ec);
        if (ec == boost::system::errc::permission_denied || ec == boost::system::errc::no_such_file_or_directory)
            return; // not to be entered: as good as gone
        // Not at 0 to 2 where those are closed: a daemon's own opening of /dev/null there would close it again.
        if (!ec && opened.get() <= STDERR_FILENO)
            opened = os::owned_fd{os::call(ec, [&] { return ::fcntl(opened.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1); })};
        if (ec)
            throw error(ec, "cannot keep the working directory open; is the limit of open files too low?");
        directory_ = std::move(opened);
    }

    [[nodiscard]] bool is_there() const noexcept
    {
        error_code ec;
        auto const found = look_at(directory_, "", ec);
        return (ec || found.stx_nlink != 0) && identity_of_root() == root_at_start_; // an error is the child's to find
    }

    /// What is known without asking a server for it.
    static struct ::statx look_at(os::borrowed_fd directory, char const* path, error_code& ec) noexcept
    {
        struct ::statx found{};
        os::call(ec, [&] {
            return ::statx(directory.get(), path, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK | STATX_INO, &found);
        });
        return found;
    }

    std::string path_;
    [[nodiscard]] static std::vector<int> ignored_signals()
    {
        std::vector<int> result;
        for (int signal = 1; signal != NSIG; ++signal) {
            struct ::sigaction now{};
            if (signal != SIGCHLD && ::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_IGN)
                result.push_back(signal);
        }
        return result;
    }

    std::vector<std::string> arguments_;
    std::vector<int> ignored_ = ignored_signals();
    std::array<std::uint64_t, 3> root_at_start_;
    os::owned_fd directory_;
    os::owned_fd root_;
};

} // namespace ecdysis::launch

#endif
