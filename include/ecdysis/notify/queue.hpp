// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_NOTIFY_QUEUE_HPP
#define ECDYSIS_NOTIFY_QUEUE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/os/fd.hpp>

#include <boost/system/errc.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

namespace ecdysis::notify {

/// What the service manager is to be told, in order. Its socket holds few messages (net.unix.max_dgram_qlen) and it may
/// be busy: what finds no room waits here, and is tried again by a timer. Everything with the lock of the io policy held.
template <class Io, class Notify>
class queue
{
public:
    /// `ec`: why it could not be sent; none when the manager's socket has taken it.
    using done = std::function<void(error_code ec)>;
    /// The descriptor that a message carries, asked for when it is sent: what waits takes up no number. None: it has gone.
    using lender = std::function<os::borrowed_fd()>;
    using id = std::uint64_t;

    queue(Io& io, Notify& notify) : io_{io}, notify_{notify} {}
    queue(queue const&) = delete;
    queue& operator=(queue const&) = delete;

    /// Sends a copy of `what` when all before it has been sent, which may be now, and then calls `f`, but for what the
    /// same kind of words replaced. An error that is about this message alone does not stop the others.
    id add(step const& what, done f, lender descriptor = {})
    {
        auto const extra = drop_replaced(what);
        waiting_.push_back({++last_, what, std::string{what.status}, std::string{what.name}, std::move(descriptor), std::move(f)});
        waiting_.back().what.extra = std::max(what.extra, extra);
        auto const key = waiting_.back().key;
        if (waiting_.size() == 1 && !sending_)
            send_all();
        return key;
    }

    /// What waits still is not sent, and its `f` not called.
    void cancel(id key) noexcept
    {
        std::erase_if(waiting_, [&](message const& one) { return one.key == key; });
    }

    /// Nothing that waits is sent any more.
    void close() noexcept
    {
        retry_ = {};
        waiting_.clear();
    }

    /// The manager was told of another main process.
    [[nodiscard]] bool handed_over() const noexcept { return handed_over_; }
    /// This process is the main one after all.
    void take_back() noexcept { handed_over_ = false; }

private:
    struct message
    {
        id key;
        step what;
        std::string status;
        std::string name;
        lender descriptor;
        done f;
    };

    [[nodiscard]] static bool is_replaceable(step const& what) noexcept
    {
        return what.what == step::kind::status || what.what == step::kind::watchdog || what.what == step::kind::extend;
    }

    /// Of words, signs of life and times only the last counts, as long as nothing else was to be said after it: so what
    /// waits stays bounded, however long it does. Gives the time that the replaced one asked for.
    std::chrono::microseconds drop_replaced(step const& what) noexcept
    {
        if (is_replaceable(what))
            for (auto old = waiting_.rbegin(); old != waiting_.rend() && is_replaceable(old->what); ++old)
                if (old->what.what == what.what) {
                    auto const extra = old->what.extra;
                    waiting_.erase(std::next(old).base());
                    return extra;
                }
        return {};
    }

    void send_all()
    {
        retry_ = {};
        sending_ = true;
        while (!waiting_.empty()) {
            auto& next = waiting_.front();
            next.what.status = next.status;
            next.what.name = next.name;
            error_code ec;
            if (next.descriptor) {
                next.what.descriptor = next.descriptor();
                if (!next.what.descriptor)
                    ec = make_error_code(boost::system::errc::bad_file_descriptor);
            }
            if (!ec)
                notify_.send(next.what, ec);
            if (ec == boost::system::errc::resource_unavailable_try_again) {
                retry_ = io_.at(io::after(pause), [this] { send_all(); });
                break;
            }
            handed_over_ = handed_over_ || (!ec && next.what.what == step::kind::handing_over);
            auto const f = std::move(next.f);
            waiting_.pop_front(); // first, for who is told may say something
            if (f)
                f(ec);
        }
        sending_ = false;
    }

    static constexpr std::chrono::milliseconds pause{2};

    Io& io_;
    Notify& notify_;
    std::deque<message> waiting_;
    id last_ = 0;
    bool sending_ = false;
    bool handed_over_ = false;
    typename Io::handle retry_;
};

} // namespace ecdysis::notify

#endif
