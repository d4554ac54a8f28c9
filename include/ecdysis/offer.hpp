// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OFFER_HPP
#define ECDYSIS_OFFER_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/identity.hpp>
#include <ecdysis/os/unix_path.hpp>

#include <fcntl.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// A file that the parent handed over by name, with the bytes that came beside it.
struct handed_over_file
{
    os::owned_fd fd;
    std::string bytes;
};

/// The files that a host would hand over. Shared with their handles, so that either may go first.
struct offered_files
{
    struct file
    {
        std::string name;
        std::string bytes;
        std::shared_ptr<os::owned_fd const> fd;
        os::identity which{};  ///< none where it is not kept
        bool kept = false;     ///< in the service manager's store too
        bool in_store = false; ///< and that was told so
    };

    /// Adds all that are offered now, in the order in which they were.
    void bequeath(handoff::bequest& to)
    {
        std::lock_guard const hold{mutex};
        std::map<std::string, std::uint16_t> indexes;
        for (auto const& [key, file] : all)
            to.add({.kind = handoff::descriptor_kind::connection,
                    .index = indexes[file.name]++,
                    .name = file.name,
                    .bytes = file.bytes,
                    .flags = file.in_store ? handoff::in_store : std::uint8_t{0}},
                   *file.fd, file.fd);
    }

    /// Those that are to be kept in the store and are not there; the caller puts them there.
    [[nodiscard]] std::vector<file> take_unstored()
    {
        std::vector<file> result;
        std::lock_guard const hold{mutex};
        for (auto& [key, file] : all)
            if (file.kept && !std::exchange(file.in_store, true))
                result.push_back(file);
        return result;
    }
    /// What was kept under that name is not in the store any more: it knows names, and each file once, under its first.
    void took_out_of_store(std::string const& name, os::identity same)
    {
        std::lock_guard const hold{mutex};
        for (auto& [key, file] : all)
            if (file.name == name || file.which == same)
                file.in_store = false;
    }
    /// What hears of each that was in the store and is withdrawn; from any thread, and not to wait. Null: nobody.
    void on_withdrawal(std::function<void(std::string const&, os::identity)> f)
    {
        std::lock_guard const hold{mutex};
        withdrawn = std::move(f);
    }

    std::mutex mutex;
    std::map<std::uint64_t, file> all;
    std::uint64_t next = 0;
    std::function<void(std::string const&, os::identity)> withdrawn;
};

/// Keeps one file offered to the next generation, as long as it lives. Movable; any thread may drop it.
class offer
{
public:
    offer() = default;
    offer(std::shared_ptr<offered_files> files, offered_files::file what) : files_{std::move(files)}
    {
        std::lock_guard const hold{files_->mutex};
        key_ = files_->next++;
        files_->all.emplace(key_, std::move(what));
    }
    offer(offer&&) noexcept = default;
    offer& operator=(offer&& other) noexcept
    {
        if (this != &other) {
            withdraw();
            files_ = std::move(other.files_);
            key_ = other.key_;
        }
        return *this;
    }
    ~offer() { withdraw(); }

    /// The file is not handed over by an upgrade that starts from now on; while the service serves it goes from the
    /// store, too.
    void withdraw() noexcept
    {
        auto const files = std::exchange(files_, nullptr);
        if (!files)
            return;
        std::lock_guard const hold{files->mutex};
        auto const gone = files->all.extract(key_);
        if (gone.mapped().in_store && files->withdrawn)
            files->withdrawn(gone.mapped().name, gone.mapped().which);
    }

private:
    std::shared_ptr<offered_files> files_;
    std::uint64_t key_ = 0;
};

/// Offers a duplicate of `fd`; `kept`: in the store, too. Throws `error`: errc::name_too_long, and what fcntl(2) says.
[[nodiscard]] inline offer offer_file(std::shared_ptr<offered_files> files, std::string name, int fd, std::string bytes,
                                      bool kept = false)
{
    if (name.size() > handoff::max_name || bytes.size() > handoff::max_bytes)
        throw error{errc::name_too_long, "offer \"" + name + "\""};
    error_code ec;
    os::owned_fd copy{os::call(ec, [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 3); })};
    if (ec)
        throw error{ec, "offer \"" + name + "\", descriptor " + std::to_string(fd)};
    auto const which = kept ? os::identify(copy) : os::identity{};
    return {std::move(files),
            {std::move(name), std::move(bytes), std::make_shared<os::owned_fd const>(std::move(copy)), which, kept}};
}

} // namespace ecdysis

#endif
