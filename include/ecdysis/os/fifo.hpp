// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_FIFO_HPP
#define ECDYSIS_OS_FIFO_HPP

#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace ecdysis::os {

/// A FIFO that has no name (any more). Neither end ever waits; all is close-on-exec.
struct fifo
{
    owned_fd reader; ///< O_RDONLY: 0 bytes read mean that all writers are gone
    owned_fd writer; ///< O_RDWR: never raises SIGPIPE, and can be opened and written before anybody reads
};

[[nodiscard]] inline error_code refused() noexcept
{
    return make_error_code(boost::system::errc::operation_not_permitted);
}

/// Opens both ends of the FIFO `name` in `directory`, then takes the name away, whatever comes of it.
///
/// Errors: `operation_not_permitted` if it is not a FIFO, or not ours alone: another owner, rights for others, a second
/// name, both ends not the same file, or somebody else has it open.
[[nodiscard]] inline fifo take_fifo(borrowed_fd directory, char const* name, error_code& ec)
{
    auto const open = [&](int how, error_code& error) {
        return owned_fd{
            call(error, [&] { return ::openat(directory.get(), name, how | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC); })};
    };
    auto const open_both = [&]() -> fifo {
        struct ::stat before{};
        if (call(ec, [&] { return ::fstatat(directory.get(), name, &before, AT_SYMLINK_NOFOLLOW); }) == -1)
            return {};
        if (!S_ISFIFO(before.st_mode) || (before.st_mode & 077) != 0 || before.st_uid != ::geteuid()) {
            ec = refused();
            return {};
        }
        // No reader yet: a writer that does not wait is turned away (ENXIO, fifo(7)).
        error_code no_reader;
        if (open(O_WRONLY, no_reader) || no_reader != boost::system::errc::no_such_device_or_address) {
            ec = no_reader ? no_reader : refused();
            return {};
        }
        fifo result;
        result.reader = open(O_RDONLY, ec);
        if (ec)
            return {};
        // No writer yet: reading is at the end.
        char byte{};
        auto const got = call(ec, [&] { return ::read(result.reader.get(), &byte, 1); });
        if (got > 0 || ec == boost::system::errc::resource_unavailable_try_again)
            ec = refused();
        if (!ec)
            result.writer = open(O_RDWR, ec);
        if (ec)
            return {};
        auto const reader = status_of(result.reader, ec);
        auto const writer = ec ? reader : status_of(result.writer, ec);
        if (!ec && (identity_of(reader) != identity_of(before) || identity_of(writer) != identity_of(before)))
            ec = refused();
        return result;
    };
    auto result = open_both();
    error_code unlinked;
    call(unlinked, [&] { return ::unlinkat(directory.get(), name, 0); });
    if (!ec)
        ec = unlinked;
    if (!ec && status_of(result.reader, ec).st_nlink != 0 && !ec)
        ec = refused();
    return ec ? fifo{} : std::move(result);
}

/// A fresh directory of ours, mode 0700, that is removed at the end of its life.
class fresh_directory
{
public:
    /// Makes it in `place`.
    fresh_directory(std::string const& place, error_code& ec)
    {
        call(ec, [&] {
            path_ = place + "/ecdysis.XXXXXX";
            return ::mkdtemp(path_.data()) == nullptr ? -1 : 0;
        });
        if (ec) {
            path_.clear();
            return;
        }
        fd_ = owned_fd{call(ec, [&] { return ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); })};
        if (!ec && status_of(fd_, ec).st_uid != ::geteuid() && !ec)
            ec = refused();
        // The umask, or default rights of the place, may have given it another mode.
        if (!ec)
            call(ec, [&] { return ::fchmod(fd_.get(), S_IRWXU); });
        if (!ec && (status_of(fd_, ec).st_mode & 0777) != S_IRWXU && !ec)
            ec = refused();
    }
    fresh_directory(fresh_directory const&) = delete;
    fresh_directory& operator=(fresh_directory const&) = delete;
    ~fresh_directory()
    {
        if (!path_.empty())
            ::rmdir(path_.c_str());
    }

    [[nodiscard]] borrowed_fd fd() const noexcept { return fd_; }

    /// A new FIFO, mode 0600, whose name is gone before this returns.
    [[nodiscard]] fifo make_fifo(char const* name, error_code& ec) const
    {
        if (call(ec, [&] { return ::mkfifoat(fd_.get(), name, S_IRUSR | S_IWUSR); }) == -1)
            return {};
        return take_fifo(fd_, name, ec);
    }

private:
    std::string path_;
    owned_fd fd_;
};

} // namespace ecdysis::os

#endif
