// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_PID_FILE_HPP
#define ECDYSIS_GENERATION_PID_FILE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/unix_path.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace ecdysis {

/// A file that names the serving generation. It is replaced atomically where its directory lets us, and otherwise
/// (a service that has dropped root) written in place through the descriptor that the parent handed over.
class pid_file
{
public:
    pid_file() = default;
    /// `inherited`: the parent's descriptor of the same file, if any.
    pid_file(std::string path, os::owned_fd inherited)
        : path_{absolute(path)}, file_{std::move(inherited)}
    {}

    /// `path` as the next generation will name it. Throws `error` if it is relative to a directory that is gone.
    [[nodiscard]] static std::string absolute(std::string const& path)
    {
        std::error_code ec;
        auto const result = std::filesystem::absolute(path, ec);
        if (ec)
            throw error{error_code{ec}, "find the pid file " + path + ": give an absolute path"};
        return result.string();
    }

    [[nodiscard]] explicit operator bool() const noexcept { return !path_.empty(); }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }

    /// What the next generation inherits; empty before the first write.
    [[nodiscard]] os::borrowed_fd file() const noexcept { return file_; }

    /// Throws `error` if write() could not succeed: to be known before ready, not after commit.
    void check() const
    {
        error_code ec;
        os::call(ec, [&] { return ::faccessat(AT_FDCWD, directory().c_str(), W_OK | X_OK, AT_EACCESS); });
        if (ec && !writable_in_place())
            throw error{ec, "write the pid file " + path_ + ": its directory must be writable for uid " +
                                std::to_string(::geteuid())};
        if (!ec && !replaceable(ec) && !writable_in_place())
            throw error{ec, "write the pid file " + path_ + ": what is there cannot be replaced by uid " +
                                std::to_string(::geteuid())};
    }

    /// Makes the file name this process. Throws `error`.
    void write()
    {
        auto const text = std::to_string(::getpid()) + "\n";
        // In the same directory, for rename() to be atomic; our pid makes it ours alone.
        auto const fresh = path_ + "." + std::to_string(::getpid());
        error_code ec;
        int const flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        auto const open_fresh = [&] { return ::open(fresh.c_str(), flags, 0644); };
        os::owned_fd file{os::call(ec, open_fresh)};
        if (ec == boost::system::errc::file_exists) { // an earlier process of our number died while it wrote
            ::unlink(fresh.c_str());
            file = os::owned_fd{os::call(ec, open_fresh)};
        }
        if (!ec)
            put(file, text, ec);
        if (!ec)
            os::call(ec, [&] { return ::rename(fresh.c_str(), path_.c_str()); });
        if (!ec) {
            file_ = std::move(file);
            return;
        }
        if (file)
            ::unlink(fresh.c_str());
        if (!writable_in_place())
            throw error{ec, "write the pid file " + path_};
        put(file_, text, ec);
        if (ec)
            throw error{ec, "write the pid file " + path_ + " in place"};
    }

    [[nodiscard]] bool is_ours() const noexcept
    {
        error_code ec;
        os::owned_fd const file{os::call(ec, [&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); })};
        if (ec)
            return false;
        char text[32] = {};
        auto const size = os::call(ec, [&] { return ::read(file.get(), text, sizeof text - 1); });
        return !ec && std::string_view{text, static_cast<std::size_t>(size)} == std::to_string(::getpid()) + "\n";
    }

    /// Removes the file while it names this process; a newer one's stays.
    void remove_if_ours() noexcept
    {
        if (path_.empty() || !is_ours())
            return;
        // A directory that is not ours keeps an empty file.
        if (::unlink(path_.c_str()) != 0 && file_) {
            error_code ignored;
            os::call(ignored, [&] { return ::ftruncate(file_.get(), 0); });
        }
    }

private:
    [[nodiscard]] std::string directory() const { return std::filesystem::path{path_}.parent_path().string(); }

    /// In a directory with the sticky bit only the owner of either may rename over a file (rename(2)).
    [[nodiscard]] bool replaceable(error_code& ec) const
    {
        struct ::stat file{};
        struct ::stat place{};
        if (::lstat(path_.c_str(), &file) != 0 || ::stat(directory().c_str(), &place) != 0)
            return true;
        auto const us = ::geteuid();
        if (S_ISDIR(file.st_mode))
            ec = make_error_code(boost::system::errc::is_a_directory);
        else if ((place.st_mode & S_ISVTX) != 0 && us != 0 && us != file.st_uid && us != place.st_uid)
            ec = make_error_code(boost::system::errc::operation_not_permitted);
        return !ec;
    }

    [[nodiscard]] bool writable_in_place() const noexcept
    {
        return file_ && os::identify(os::borrowed_fd{file_}) == os::identify(path_);
    }

    static void put(os::borrowed_fd file, std::string const& text, error_code& ec) noexcept
    {
        auto const written = os::call(ec, [&] { return ::pwrite(file.get(), text.data(), text.size(), 0); });
        if (!ec && static_cast<std::size_t>(written) != text.size())
            ec = make_error_code(boost::system::errc::no_space_on_device);
        if (!ec)
            os::call(ec, [&] { return ::ftruncate(file.get(), static_cast<::off_t>(text.size())); });
    }

    std::string path_;
    os::owned_fd file_;
};

} // namespace ecdysis

#endif
