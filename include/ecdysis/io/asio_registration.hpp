// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ASIO_REGISTRATION_HPP
#define ECDYSIS_IO_ASIO_REGISTRATION_HPP

#include <ecdysis/io/accept.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/handle.hpp>
#include <ecdysis/io/signal_disposition.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace ecdysis::io {

/// What `io::asio`, its registrations and its posters share.
struct asio_state
{
    explicit asio_state(boost::asio::any_io_executor on) : executor{std::move(on)}, strand{executor} {}

    static void post(std::shared_ptr<asio_state> const& to, std::function<void()> f)
    {
        boost::asio::post(to->strand, [to, f = std::move(f)] {
            std::lock_guard const hold{to->mutex};
            if (!to->gone)
                f();
        });
    }

    std::recursive_mutex mutex;
    boost::asio::any_io_executor executor;
    boost::asio::strand<boost::asio::any_io_executor> strand;
    std::atomic<bool> gone{false};
};

/// What all registrations of `io::asio` have in common. Their Asio objects are touched with the lock held only;
/// completions keep the registration alive and find out whether it was cancelled.
class asio_registration : public registration
{
public:
    explicit asio_registration(std::shared_ptr<asio_state> state) noexcept : state_{std::move(state)} {}

    void cancel() noexcept final
    {
        std::lock_guard const hold{state_->mutex};
        if (!std::exchange(cancelled_, true))
            stop();
    }

protected:
    virtual void stop() noexcept = 0;

    /// `f(*self, ec, ...)` on the strand, with the lock held, unless this was cancelled.
    template <class Self, class F>
    [[nodiscard]] static auto guarded(std::shared_ptr<Self> self, F f)
    {
        auto& strand = self->state_->strand;
        return boost::asio::bind_executor(strand, [self = std::move(self), f](error_code ec, auto... arguments) {
            auto const state = self->state_;
            std::lock_guard const hold{state->mutex};
            if (!self->cancelled_)
                f(*self, ec, arguments...);
        });
    }

    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
    [[nodiscard]] boost::asio::any_io_executor const& executor() const noexcept { return state_->executor; }

private:
    std::shared_ptr<asio_state> state_;
    bool cancelled_ = false;
};

class asio_watching final : public asio_registration, public std::enable_shared_from_this<asio_watching>
{
public:
    asio_watching(std::shared_ptr<asio_state> state, std::function<void()> f)
        : asio_registration{std::move(state)}, descriptor_{executor()}, timer_{executor()}, f_{std::move(f)}
    {}

    void start(os::borrowed_fd fd, error_code& ec)
    {
        descriptor_.assign(fd.get(), ec);
        if (!ec)
            arm();
    }

private:
    void arm()
    {
        descriptor_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                               guarded(shared_from_this(), [](asio_watching& self, error_code ec) {
                                   if (ec)
                                       return self.rest(ec);
                                   self.backoff_.reset();
                                   // With several threads Asio (1.81) may hand this descriptor the event of another
                                   // one, whose state it has just recycled: epoll_wait had returned it before.
                                   if (is_readable(os::borrowed_fd{self.descriptor_.native_handle()}))
                                       self.f_();
                                   if (!self.cancelled())
                                       self.arm();
                               }));
    }

    /// The wait could not begin: memory has run out, for instance. Who watches cannot be told, and counts on `f`, so it
    /// is tried again until it is cancelled.
    void rest(error_code ec)
    {
        if (ec == boost::asio::error::operation_aborted)
            return;
        timer_.expires_after(backoff_.next());
        timer_.async_wait(guarded(shared_from_this(), [](asio_watching& self, error_code) { self.arm(); }));
    }

    void stop() noexcept override
    {
        timer_.cancel();
        if (!descriptor_.is_open())
            return;
        error_code ignored;
        descriptor_.cancel(ignored);
        descriptor_.release(); // it is somebody else's, who keeps it open until here
    }

    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer timer_;
    std::function<void()> const f_;
    backoff backoff_;
};

class asio_timing final : public asio_registration, public std::enable_shared_from_this<asio_timing>
{
public:
    asio_timing(std::shared_ptr<asio_state> state, std::function<void()> f)
        : asio_registration{std::move(state)}, timer_{executor()}, f_{std::move(f)}
    {}

    void start(clock::time_point time)
    {
        timer_.expires_at(time);
        timer_.async_wait(guarded(shared_from_this(), [](asio_timing& self, error_code ec) {
            if (!ec)
                self.f_();
        }));
    }

private:
    void stop() noexcept override { timer_.cancel(); }

    boost::asio::steady_timer timer_;
    std::function<void()> const f_;
};

class asio_signalling final : public asio_registration, public std::enable_shared_from_this<asio_signalling>
{
public:
    asio_signalling(std::shared_ptr<asio_state> state, std::function<void(int)> f)
        : asio_registration{std::move(state)}, signals_{executor()}, f_{std::move(f)}
    {}

    void start(std::span<int const> set, error_code& ec)
    {
        ec.clear();
        previous_.reserve(set.size());
        for (int const signal : set) {
            signal_disposition previous{signal, ec};
            if (!ec)
                signals_.add(signal, ec);
            if (ec)
                return;
            previous.installed();
            previous_.push_back(previous);
        }
        arm();
        unblock(set);
    }

private:
    void arm()
    {
        signals_.async_wait(guarded(shared_from_this(), [](asio_signalling& self, error_code ec, int signal) {
            if (ec)
                return;
            self.f_(signal);
            if (!self.cancelled())
                self.arm();
        }));
    }

    void stop() noexcept override
    {
        for (auto const& previous : previous_)
            previous.bring_back_after([&] {
                error_code ignored;
                signals_.remove(previous.signal(), ignored);
            });
        error_code ignored;
        signals_.cancel(ignored);
    }

    boost::asio::signal_set signals_;
    std::function<void(int)> const f_;
    std::vector<signal_disposition> previous_;
};

} // namespace ecdysis::io

#endif
