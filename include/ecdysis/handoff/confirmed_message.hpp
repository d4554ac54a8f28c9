// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CONFIRMED_MESSAGE_HPP
#define ECDYSIS_HANDOFF_CONFIRMED_MESSAGE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/queue.hpp>
#include <ecdysis/os/fd.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace ecdysis::handoff {

/// Tells the service manager something, and waits until it has worked through that. With the lock of the io policy held;
/// its end withdraws what was not sent yet, and cancels the waiting.
template <class Io, class Notify>
class confirmed_message
{
public:
    /// Of both: `ec` says why not. Either call may be this object's end.
    using done = std::function<void(error_code ec)>;

    /// `sent`: the manager's socket has accepted it. `confirmed`: the manager has worked through it; called after `sent`
    /// without an error.
    confirmed_message(Io& io, Notify& notify, notify::queue<Io, Notify>& queue, done sent, done confirmed)
        : io_{io}, notify_{notify}, queue_{queue}, sent_{std::move(sent)}, confirmed_{std::move(confirmed)}
    {}
    confirmed_message(confirmed_message const&) = delete;
    confirmed_message& operator=(confirmed_message const&) = delete;
    ~confirmed_message()
    {
        if (queued_ && sent_)
            queue_.cancel(queued_);
    }

    void send(notify::step const& what)
    {
        std::weak_ptr const alive = alive_; // it may be sent at once, and with that end
        auto const key = queue_.add(what, [this](error_code ec) {
            was_sent_ = !ec;
            std::weak_ptr const still = alive_;
            std::exchange(sent_, nullptr)(ec);
            if (!ec && !still.expired())
                await();
        });
        if (!alive.expired())
            queued_ = key;
    }

    /// The manager's socket has accepted it.
    [[nodiscard]] bool was_sent() const noexcept { return was_sent_; }
    [[nodiscard]] bool is_confirmed() const noexcept { return !confirmed_; }

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
            wait_ = io_.watch(barrier_, [this] { finish({}); }, ec);
        if (ec || !barrier_)
            finish(ec);
    }

    void finish(error_code ec)
    {
        wait_ = {};
        std::exchange(confirmed_, nullptr)(ec);
    }

    Io& io_;
    Notify& notify_;
    notify::queue<Io, Notify>& queue_;
    done sent_;
    done confirmed_;
    typename notify::queue<Io, Notify>::id queued_ = 0;
    bool was_sent_ = false;
    os::owned_fd barrier_;
    typename Io::handle wait_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace ecdysis::handoff

#endif
