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

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace ecdysis {

/// A file that names the serving generation. It is replaced atomically where its directory lets us, and otherwise
/// (a service that has dropped root) written in place through the descriptor that the parent handed over.
///
/// It takes two steps. prepare() does all that can fail for want of rights or room; nobody reads what it writes.
/// publish() makes the file name this process.
class pid_file
{
public:
    pid_file() = default;
    /// `inherited`: the parent's descriptor of the same file, if any.
    pid_file(std::string path, os::owned_fd inherited)
        : path_{absolute(path)}, file_{std::move(inherited)}
    {}
    pid_file(pid_file&&) noexcept = default;
    pid_file& operator=(pid_file&& other) noexcept
    {
        if (this != &other) {
            discard();
            path_ = std::move(other.path_);
            file_ = std::move(other.file_);
            fresh_path_ = std::move(other.fresh_path_);
            fresh_ = std::move(other.fresh_);
            maker_ = other.maker_;
        }
        return *this;
    }
    ~pid_file() { discard(); }

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

    /// What the next generation inherits; empty before the first publish().
    [[nodiscard]] os::borrowed_fd file() const noexcept { return file_; }

    /// Writes a fresh file beside the path, so that only rename(2) is left for publish(). Where no file can be made
    /// there, but the inherited one can be written in place, nothing is written yet. Later calls do nothing. Throws
    /// `error` if publish() could not succeed.
    void prepare()
    {
        if (is_prepared())
            return;
        std::string why;
        error_code ec;
        os::call(ec, [&] { return ::faccessat(AT_FDCWD, directory().c_str(), W_OK | X_OK, AT_EACCESS); });
        if (ec)
            why = ": its directory must be writable for uid " + std::to_string(::geteuid());
        else if (!replaceable(ec))
            why = ": what is there cannot be replaced by uid " + std::to_string(::geteuid());
        else
            make_fresh(ec);
        if (ec && !writable_in_place())
            throw error{ec, "write the pid file " + path_ + why};
    }

    /// Makes the file name this process. Throws `error`.
    void publish()
    {
        if (!is_prepared() && !writable_in_place())
            prepare(); // somebody has replaced the inherited file since: this says what is in the way, if anything is
        error_code ec;
        if (is_prepared()) {
            os::call(ec, [&] { return ::rename(fresh_path_.c_str(), path_.c_str()); });
            if (!ec) {
                file_ = std::move(fresh_);
                return;
            }
            discard();
            if (!writable_in_place())
                throw error{ec, "write the pid file " + path_};
        }
        put(file_, line_of(os::this_process()), ec);
        if (ec)
            throw error{ec, "write the pid file " + path_ + " in place"};
    }

    /// Removes the fresh file, if there is one. In a process that the host forked it stays: it is the host's.
    void discard() noexcept
    {
        if (is_prepared())
            ::unlink(fresh_path_.c_str());
        fresh_.reset();
    }

    /// Removes the fresh file of a child that was killed before it could publish or discard it.
    void discard_of(os::process_id child) const
    {
        if (!path_.empty())
            ::unlink(fresh_path_of(child).c_str());
    }

    /// Both steps at once, where nobody has to agree in between.
    void write()
    {
        prepare();
        publish();
    }

    [[nodiscard]] bool is_ours() const noexcept { return names({os::this_process()}); }

    /// Removes the file while it names this process; a newer one's stays.
    void remove_if_ours() noexcept { remove_if_names({os::this_process()}); }

    /// Removes the file while it names one of `these`. A child that gets the service and stops at once has to remove
    /// one that names its parent, too: the parent leaves it alone from then on.
    void remove_if_names(std::initializer_list<os::process_id> these) noexcept
    {
        if (path_.empty() || !names(these))
            return;
        // A directory that is not ours keeps an empty file.
        if (::unlink(path_.c_str()) != 0 && writable_in_place()) {
            error_code ignored;
            os::call(ignored, [&] { return ::ftruncate(file_.get(), 0); });
        }
    }

private:
    [[nodiscard]] std::string directory() const { return std::filesystem::path{path_}.parent_path().string(); }

    /// In the same directory, for rename() to be atomic; the pid makes it that process's alone.
    [[nodiscard]] std::string fresh_path_of(os::process_id pid) const
    {
        return path_ + "." + std::to_string(os::number(pid));
    }

    [[nodiscard]] static std::string line_of(os::process_id pid) { return std::to_string(os::number(pid)) + "\n"; }

    [[nodiscard]] bool is_prepared() const noexcept { return fresh_ && maker_ == os::this_process(); }

    [[nodiscard]] bool names(std::initializer_list<os::process_id> these) const noexcept
    {
        error_code ec;
        os::owned_fd const file{os::call(ec, [&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); })};
        if (ec)
            return false;
        char text[32] = {};
        auto const size = os::call(ec, [&] { return ::read(file.get(), text, sizeof text - 1); });
        if (ec)
            return false;
        std::string_view const line{text, static_cast<std::size_t>(size)};
        return std::ranges::any_of(these, [&](os::process_id one) { return line == line_of(one); });
    }

    void make_fresh(error_code& ec)
    {
        fresh_path_ = fresh_path_of(os::this_process());
        int const flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        auto const open_fresh = [&] { return ::open(fresh_path_.c_str(), flags, 0644); };
        os::owned_fd file{os::call(ec, open_fresh)};
        if (ec == boost::system::errc::file_exists) { // an earlier process of our number died before it published
            ::unlink(fresh_path_.c_str());
            file = os::owned_fd{os::call(ec, open_fresh)};
        }
        if (ec)
            return;
        fresh_ = std::move(file);
        maker_ = os::this_process();
        put(fresh_, line_of(maker_), ec);
        // Some file systems find out only now that there is no room. The directory need not be synced, too: after a
        // crash of the machine no file names a process that lives.
        if (!ec)
            os::call(ec, [&] { return ::fsync(fresh_.get()); });
        if (ec)
            discard();
    }

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
    std::string fresh_path_;
    os::owned_fd fresh_; ///< between prepare() and publish()
    os::process_id maker_ = os::process_id::none; ///< of `fresh_`: a fork has a copy of it
};

} // namespace ecdysis

#endif
