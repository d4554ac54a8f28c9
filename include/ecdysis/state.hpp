// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_STATE_HPP
#define ECDYSIS_STATE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#ifndef MFD_NOEXEC_SEAL
#    define MFD_NOEXEC_SEAL 0x0008U // Linux 6.3; glibc 2.36 does not know it
#endif

namespace ecdysis {

/// When state is filled.
enum class handover {
    early, ///< at the start of the upgrade: what a child needs to start
    late,  ///< at commit, sealed then: no snapshot from before a slow start
};

/// Where a host writes its state for the next generation. Valid while `fill` runs, in its thread.
class state_writer
{
public:
    explicit state_writer(os::borrowed_fd file) noexcept : file_{file} {}

    /// Appends all; any number of calls, to any size. Throws `error` with what write(2) says, such as
    /// no_space_on_device where the memory of its control group or file system is at its limit.
    void write(std::span<std::byte const> bytes)
    {
        while (!bytes.empty()) {
            error_code ec;
            auto const written = os::call(ec, [&] { return ::write(file_.get(), bytes.data(), bytes.size()); });
            if (ec)
                throw error{ec, "write state"};
            bytes = bytes.subspan(static_cast<std::size_t>(written));
        }
    }
    void write(std::string_view text) { write(std::as_bytes(std::span{text})); }

    /// For serializers that write to a descriptor: a memfd, with its offset where the next write() goes. Not to be
    /// closed, nor mapped writable when `fill` returns: then it cannot be sealed, and the upgrade fails.
    [[nodiscard]] int native_handle() const noexcept { return file_.get(); }

private:
    os::borrowed_fd file_;
};

/// Fills the state, with the upgrader's lock held; what it throws fails the upgrade, with its words: an `error` with
/// its code, else with errc::state_failed. Empty: the state is.
using state_filler = std::function<void(state_writer&)>;
/// Called once for each upgrade that fails after `fill` was called, also if that threw, unless this generation ends
/// with it; with the upgrader's lock held. What it throws ends the process.
using state_undo = std::function<void()>;

/// State from the parent, read-only in memory as long as this lives: nobody can change it. Movable; one that was moved
/// from is empty. Several threads may read it.
class inherited_state
{
public:
    inherited_state(inherited_state&& other) noexcept
        : data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)}
    {}
    inherited_state& operator=(inherited_state&& other) noexcept
    {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~inherited_state()
    {
        if (data_ != nullptr)
            ::munmap(data_, size_);
    }

    /// All of it, page-aligned; valid as long as this, or what it was moved to, lives. The same as text().
    [[nodiscard]] std::span<std::byte const> bytes() const noexcept
    {
        return {static_cast<std::byte const*>(data_), size_};
    }
    [[nodiscard]] std::string_view text() const noexcept { return {static_cast<char const*>(data_), size_}; }

    /// Maps `file`, which must be a memfd that nobody can change any more, and may be closed then. `name` is for the
    /// words of the `error` it throws: errc::state_not_sealed, and what fstat(2) and mmap(2) say.
    [[nodiscard]] static inherited_state map(os::borrowed_fd file, std::string const& name)
    {
        constexpr int needed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
        error_code ec;
        int const seals = os::call(ec, [&] { return ::fcntl(file.get(), F_GET_SEALS); });
        if (ec || (seals & needed) != needed)
            throw error{errc::state_not_sealed, "map state \"" + name + "\""};
        struct ::stat status{};
        os::call(ec, [&] { return ::fstat(file.get(), &status); });
        if (ec)
            throw error{ec, "map state \"" + name + "\""};
        auto const size = static_cast<std::size_t>(status.st_size);
        if (size == 0)
            return {nullptr, 0};
        void* const data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
        if (data == MAP_FAILED)
            throw error{os::last_error(), "map " + std::to_string(size) + " bytes of state \"" + name + "\""};
        return {data, size};
    }

private:
    inherited_state(void* data, std::size_t size) noexcept : data_{data}, size_{size} {}

    void* data_;
    std::size_t size_;
};

/// A memfd, empty, that can be sealed.
[[nodiscard]] inline os::owned_fd make_state_file(std::string const& name, error_code& ec) noexcept
{
    unsigned const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    auto file = os::owned_fd{os::call(ec, [&] { return ::memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL); })};
    if (ec == boost::system::errc::invalid_argument) // a kernel before 6.3
        file = os::owned_fd{os::call(ec, [&] { return ::memfd_create(name.c_str(), flags); })};
    return file;
}

/// Fills and seals; throws what `fill` throws, and `error`.
inline void fill_state_file(os::borrowed_fd file, state_filler const& fill)
{
    state_writer writer{file};
    if (fill)
        fill(writer);
    error_code ec;
    os::call(ec, [&] {
        return ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    });
    if (ec)
        throw error{ec, "seal state"};
}

} // namespace ecdysis

#endif
