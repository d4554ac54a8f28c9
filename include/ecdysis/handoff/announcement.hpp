// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_ANNOUNCEMENT_HPP
#define ECDYSIS_HANDOFF_ANNOUNCEMENT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/queue.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace ecdysis::handoff {

/// Tells the service manager that the child is the main process from now on, and waits until the manager has worked
/// through that. With the lock of the io policy held; its end cancels it.
///
/// Ready is the child's own to say, when it serves: with the new main process it would end a reload too soon.
template <class Io, class Notify>
class announcement
{
public:
    /// `told`: why the manager could not be told; otherwise `heard`: why it is not known whether it has heard. The call
    /// may be this object's end.
    using done = std::function<void(error_code told, error_code heard)>;

    announcement(Io& io, Notify& notify, notify::queue<Io, Notify>& queue, os::process_id child, done f)
        : io_{io}, notify_{notify}, queue_{queue}, child_{child}, done_{std::move(f)}
    {}
    announcement(announcement const&) = delete;
    announcement& operator=(announcement const&) = delete;
    ~announcement()
    {
        if (queued_ && !was_told_)
            queue_.cancel(queued_);
    }

    /// Calls `done` once, here or later.
    void start()
    {
        std::weak_ptr const alive = alive_; // it may be told at once, and with that end
        auto const key = queue_.add({.what = notify::step::kind::handing_over, .child = child_}, [this](error_code ec) {
            if (ec)
                return finish(ec, {});
            was_told_ = true;
            await();
        });
        if (!alive.expired())
            queued_ = key;
    }

    /// The manager's socket has taken it.
    [[nodiscard]] bool was_told() const noexcept { return was_told_; }

private:
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
    notify::queue<Io, Notify>& queue_;
    os::process_id child_;
    done done_;
    typename notify::queue<Io, Notify>::id queued_ = 0;
    bool was_told_ = false;
    os::owned_fd barrier_;
    typename Io::handle wait_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace ecdysis::handoff

#endif
