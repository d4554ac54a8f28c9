// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TRANSPORT_NAMED_PIPE_HPP
#define ECDYSIS_TRANSPORT_NAMED_PIPE_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/fifo.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/seccomp/rule.hpp>
#include <ecdysis/transport/concept.hpp>

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis::transport {

/// Two FIFOs without a name. The child inherits its end of each and all descriptors through exec, in this order;
/// a frame only says which of them are meant.
class named_pipe
{
public:
    static constexpr std::string_view name = "named_pipe";

    class end;

    static constexpr auto system_calls = seccomp::declare(
        "transport::named_pipe",
        std::array{
            seccomp::calls("getrandom", "the name of the fresh directory"),
            seccomp::calls("mkdir", "the fresh directory").only_on(seccomp::architecture::x86_64),
            seccomp::calls("mkdirat", "the fresh directory").only_on(seccomp::architecture::aarch64),
            seccomp::calls("fchmod", "the fresh directory's mode, whatever the umask is", seccomp::is(1, S_IRWXU)),
            seccomp::calls("rmdir", "the fresh directory").only_on(seccomp::architecture::x86_64),
            seccomp::calls("unlinkat", "the fresh directory", seccomp::is(2, AT_REMOVEDIR)).only_on(seccomp::architecture::aarch64),
            seccomp::calls("mknodat", "the FIFOs", seccomp::is(2, S_IFIFO | S_IRUSR | S_IWUSR)),
            seccomp::calls("unlinkat", "the FIFOs' names", seccomp::is(2, 0)),
            seccomp::calls("openat", "the FIFOs", seccomp::has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)),
            seccomp::calls("openat", "the FIFOs", seccomp::has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_WRONLY)),
            seccomp::calls("openat", "the FIFOs", seccomp::has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDWR)),
            seccomp::calls("newfstatat", "whether the FIFOs are ours alone"),
            seccomp::calls("fstat", "whether the FIFOs are ours alone").untested_because("glibc calls newfstatat from 2.33 to 2.38"),
            seccomp::calls("geteuid", "whether the FIFOs are ours alone"),
            seccomp::calls("read", "frames"),
            seccomp::calls("write", "frames"),
            seccomp::calls("fcntl", "what is inherited", seccomp::is(1, F_GETFD)),
            seccomp::calls("fcntl", "what is inherited", seccomp::is(1, F_SETFD))
                .untested_because("close_range does it since Linux 5.11"),
            seccomp::calls("fcntl", "what is inherited", seccomp::is(1, F_GETFL)),
            seccomp::calls("fcntl", "the child's ends do not wait", seccomp::is(1, F_SETFL)),
            seccomp::calls("close_range", "what is inherited is not for the child's own children",
                           seccomp::is(2, CLOSE_RANGE_CLOEXEC)),
        });

    /// The FIFOs are made, for a moment, in the first place that will have them: $TMPDIR as it is now (if this is not
    /// a set-user-id program), /tmp, /run, /dev/shm.
    named_pipe();
    /// They are made in `directory` or not at all.
    explicit named_pipe(std::string directory) : places_{std::move(directory)} {}

    /// Where `make` tries, for words about its errors.
    [[nodiscard]] std::vector<std::string> const& places() const noexcept { return places_; }

    /// The text is "<first number> <number of descriptors> <device>:<inode> <device>:<inode>": what the child reads
    /// is the first number, what it writes the next, and then the descriptors.
    ///
    /// Errors: of several places that all failed, the first one's.
    [[nodiscard]] offer<end> make(std::span<os::borrowed_fd const> descriptors, error_code& ec) const;
    [[nodiscard]] end adopt(std::string_view text, error_code& ec) const;

private:
    std::array<os::fifo, 2> make_fifos(error_code& ec) const;

    std::vector<std::string> places_;
};

class named_pipe::end
{
public:
    end() = default;

    [[nodiscard]] os::borrowed_fd fd() const noexcept { return reader_; }

    /// Errors: `resource_unavailable_try_again` as the concept says, `invalid_argument` if `frame` is not one whole
    /// frame of `fds.size()` descriptors. Never `broken_pipe`: a writer of a FIFO that could be its reader as well
    /// cannot see that nobody reads.
    void send(std::span<std::byte const> frame, std::span<os::borrowed_fd const> fds, error_code& ec);
    received receive(std::span<std::byte> buffer, std::vector<os::owned_fd>& fds, error_code& ec);

private:
    friend class named_pipe;
    end(os::owned_fd reader, os::owned_fd writer, std::vector<os::owned_fd> left) noexcept
        : reader_{std::move(reader)}, writer_{std::move(writer)}, left_{std::move(left)}
    {}

    os::owned_fd reader_;
    os::owned_fd writer_;
    /// What was inherited and not yet given out; the next is the last.
    std::vector<os::owned_fd> left_;
    /// The beginning of a frame; never more than one frame.
    std::array<std::byte, handoff::max_frame> partial_{};
    std::size_t filled_ = 0;
};

static_assert(handoff::max_frame <= PIPE_BUF, "a frame must be written whole or not at all");

inline named_pipe::named_pipe() : places_{"/tmp", "/run", "/dev/shm"}
{
    if (char const* chosen = ::secure_getenv("TMPDIR"); chosen != nullptr && *chosen == '/')
        places_.insert(places_.begin(), chosen);
}

inline std::array<os::fifo, 2> named_pipe::make_fifos(error_code& ec) const
{
    error_code first;
    for (auto const& place : places_) {
        os::fresh_directory const directory{place, ec};
        std::array<os::fifo, 2> fifos;
        if (!ec)
            fifos[0] = directory.make_fifo("to-child", ec);
        if (!ec)
            fifos[1] = directory.make_fifo("to-parent", ec);
        if (!ec)
            return fifos;
        if (!first)
            first = ec;
    }
    ec = first;
    return {};
}

inline offer<named_pipe::end> named_pipe::make(std::span<os::borrowed_fd const> descriptors, error_code& ec) const
{
    auto [to_child, to_parent] = make_fifos(ec);
    if (ec)
        return {};
    auto const reads = os::status_of(to_child.reader, ec);
    auto const writes = ec ? reads : os::status_of(to_parent.writer, ec);
    if (ec)
        return {};
    offer<end> result;
    result.text = "3 " + std::to_string(descriptors.size()) + ' ' + os::identity_of(reads).text() + ' '
                + os::identity_of(writes).text();
    result.inherited = {to_child.reader, to_parent.writer};
    result.inherited.insert(result.inherited.end(), descriptors.begin(), descriptors.end());
    result.theirs.push_back(std::move(to_child.reader));
    result.theirs.push_back(std::move(to_parent.writer));
    result.ours = end{std::move(to_parent.reader), std::move(to_child.writer), {}};
    return result;
}

inline named_pipe::end named_pipe::adopt(std::string_view text, error_code& ec) const
{
    auto const first = os::take_number<unsigned>(text, ' ');
    auto const count = first ? os::take_number<unsigned>(text, ' ') : std::nullopt;
    auto const reads = count ? os::take_identity(text, ' ') : std::nullopt;
    auto const writes = reads ? os::take_identity(text, '\0') : std::nullopt;
    if (!writes || *first > INT_MAX - 2 || *count > INT_MAX - 2 - *first) {
        ec = errc::handoff_variable;
        return {};
    }
    auto const number = static_cast<int>(*first);
    auto const last = number + 2 + static_cast<int>(*count);
    auto const is = [&](int fd, os::identity expected, int access) {
        auto const status = os::status_of(os::borrowed_fd{fd}, ec);
        auto const flags = ec ? -1 : os::call(ec, [&] { return ::fcntl(fd, F_GETFL); });
        return !ec && S_ISFIFO(status.st_mode) && os::identity_of(status) == expected && (flags & O_ACCMODE) == access;
    };
    auto ours = is(number, *reads, O_RDONLY) && is(number + 1, *writes, O_RDWR);
    for (auto fd = number + 2; ours && fd != last; ++fd)
        ours = os::call(ec, [&] { return ::fcntl(fd, F_GETFD); }) != -1;
    if (!ours) {
        ec = errc::stale_handoff;
        return {};
    }
    std::vector<os::owned_fd> left;
    left.reserve(*count);
    // A program in between may have made them wait again.
    os::call(ec, [&] { return ::fcntl(number, F_SETFL, O_NONBLOCK); });
    if (!ec)
        os::call(ec, [&] { return ::fcntl(number + 1, F_SETFL, O_NONBLOCK); });
    // All at once; kernels before 5.11 and some filters of system calls want them one by one.
    if (!ec && ::close_range(static_cast<unsigned>(number), static_cast<unsigned>(last - 1), CLOSE_RANGE_CLOEXEC) != 0)
        for (auto fd = number; !ec && fd != last; ++fd)
            os::call(ec, [&] { return ::fcntl(fd, F_SETFD, FD_CLOEXEC); });
    if (ec)
        return {};
    for (auto fd = last; fd != number + 2; --fd)
        left.emplace_back(fd - 1);
    return {os::owned_fd{number}, os::owned_fd{number + 1}, std::move(left)};
}

inline void named_pipe::end::send(std::span<std::byte const> frame, std::span<os::borrowed_fd const> fds, error_code& ec)
{
    auto const head = handoff::peek_header(frame, ec);
    if (ec || head.length != frame.size() || head.descriptors != fds.size()) {
        ec = make_error_code(boost::system::errc::invalid_argument);
        return;
    }
    // All or nothing, for it is not more than PIPE_BUF.
    os::call(ec, [&] { return ::write(writer_.get(), frame.data(), frame.size()); });
}

inline received named_pipe::end::receive(std::span<std::byte> buffer, std::vector<os::owned_fd>& fds, error_code& ec)
{
    // First the header, then what it announces, and never a byte of the next frame: what is not read yet keeps the
    // descriptor readable.
    handoff::header head;
    for (;;) {
        if (filled_ >= handoff::header_size) {
            head = handoff::peek_header(partial_, ec);
            if (ec || head.length > buffer.size()) {
                ec = errc::corrupt_handoff;
                return {};
            }
            if (filled_ == head.length)
                break;
        }
        auto const wanted = filled_ < handoff::header_size ? handoff::header_size : head.length;
        auto const got = os::call(ec, [&] { return ::read(reader_.get(), partial_.data() + filled_, wanted - filled_); });
        if (ec == boost::system::errc::resource_unavailable_try_again) {
            ec.clear();
            return {received::kind::again};
        }
        if (ec)
            return {};
        if (got == 0 && filled_ == 0)
            return {received::kind::closed};
        if (got == 0) {
            ec = errc::corrupt_handoff;
            return {};
        }
        filled_ += static_cast<std::size_t>(got);
    }
    if (head.descriptors > left_.size()) {
        ec = errc::corrupt_handoff;
        return {};
    }
    auto const from = left_.end() - head.descriptors;
    fds.insert(fds.end(), std::make_move_iterator(left_.rbegin()),
               std::make_move_iterator(std::make_reverse_iterator(from)));
    left_.erase(from, left_.end());
    std::ranges::copy_n(partial_.begin(), static_cast<std::ptrdiff_t>(filled_), buffer.begin());
    return {received::kind::frame, std::exchange(filled_, 0)};
}

static_assert(Policy<named_pipe>, "transport::named_pipe must offer what transport/concept.hpp asks for");

} // namespace ecdysis::transport

#endif
