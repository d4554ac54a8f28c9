// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_ANNOUNCEMENT_HPP
#define ECDYSIS_HANDOFF_ANNOUNCEMENT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <functional>
#include <string>
#include <utility>

namespace ecdysis::handoff {

/// Tells the service manager that the child is the main process from now on, and waits until the manager has worked
/// through that. With the lock of the io policy held; its end cancels it.
template <class Io, class Notify>
class announcement
{
public:
    /// `told`: why the manager could not be told; otherwise `heard`: why it is not known whether it has heard. The call
    /// may be this object's end.
    using done = std::function<void(error_code told, error_code heard)>;

    announcement(Io& io, Notify& notify, os::process_id child, std::string status, done f)
        : io_{io}, notify_{notify}, child_{child}, status_{std::move(status)}, done_{std::move(f)}
    {}
    announcement(announcement const&) = delete;
    announcement& operator=(announcement const&) = delete;

    /// Calls `done` once, here or later.
    void start() { tell(); }

    /// The manager's socket has taken it.
    [[nodiscard]] bool was_told() const noexcept { return was_told_; }

private:
    void tell()
    {
        error_code ec;
        notify_.send({.what = notify::step::kind::handing_over, .status = status_, .child = child_}, ec);
        if (is_again(ec)) {
            wait_ = io_.at(io::after(retry_pause), [this] { tell(); });
            return;
        }
        if (ec)
            return finish(ec, {});
        was_told_ = true;
        await();
    }

    void await()
    {
        error_code ec;
        barrier_ = notify_.barrier(ec);
        if (is_again(ec)) {
            wait_ = io_.at(io::after(retry_pause), [this] { await(); });
            return;
        }
        if (!ec && barrier_)
            wait_ = io_.watch(barrier_, [this] { finish({}, {}); }, ec);
        if (ec || !barrier_)
            finish({}, ec);
    }

    void finish(error_code told, error_code heard)
    {
        wait_ = {};
        auto const f = std::exchange(done_, nullptr);
        f(told, heard);
    }

    Io& io_;
    Notify& notify_;
    os::process_id child_;
    std::string status_;
    done done_;
    bool was_told_ = false;
    os::owned_fd barrier_;
    typename Io::handle wait_;
};

} // namespace ecdysis::handoff

#endif
