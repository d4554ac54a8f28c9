// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_COMPLETION_HPP
#define ECDYSIS_IO_COMPLETION_HPP

#include <ecdysis/error.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <tuple>
#include <utility>

namespace ecdysis::io {

/// A handler and what it is called with, on the way to `Executor`.
template <class Executor, class Handler, class... Arguments>
class completion
{
public:
    using executor_type = Executor;
    using allocator_type = boost::asio::associated_allocator_t<Handler>;

    completion(Executor const& executor, Handler&& handler, Arguments&&... arguments)
        : executor_{executor}, handler_{std::move(handler)}, arguments_{std::move(arguments)...}
    {}

    [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }
    [[nodiscard]] allocator_type get_allocator() const noexcept
    {
        return boost::asio::get_associated_allocator(handler_);
    }

    void operator()()
    {
        std::apply([this](auto&... arguments) { std::move(handler_)(std::move(arguments)...); }, arguments_);
    }

private:
    Executor executor_;
    Handler handler_;
    std::tuple<Arguments...> arguments_;
};

/// How a completion gets to the handler's executor.
enum class way {
    post,     ///< over the operation's own executor, so never inside the call that completes
    dispatch, ///< from here, where the operation's own executor runs and no lock is held: perhaps at once
};

/// The handler of an operation that waits, with the work that keeps its executor and the operation's own running.
template <class Handler>
class waiting_handler
{
public:
    waiting_handler(Handler&& handler, boost::asio::any_io_executor const& own)
        : handler_{std::move(handler)}, work_{boost::asio::get_associated_executor(handler_, own)}, own_work_{own}
    {}

    /// `cancel()` is called when the handler's cancellation slot says so; any type of cancellation will do, for the
    /// operation has no effect before it completes. The slot may keep `cancel` longer than the operation lives.
    template <class F>
    void on_cancel(F cancel)
    {
        auto slot = boost::asio::get_associated_cancellation_slot(handler_);
        if (slot.is_connected())
            slot.assign([cancel = std::move(cancel)](boost::asio::cancellation_type type) {
                if (type != boost::asio::cancellation_type::none)
                    cancel();
            });
    }

    /// To be called once.
    template <class... Arguments>
    void complete(way by, Arguments... arguments)
    {
        completion<executor, Handler, Arguments...> call{work_.get_executor(), std::move(handler_),
                                                         std::move(arguments)...};
        // Not posted to the handler's executor itself: that of use_future would start a pool of threads.
        if (by == way::post)
            boost::asio::post(own_work_.get_executor(), std::move(call));
        else
            boost::asio::dispatch(std::move(call));
        work_.reset();
        own_work_.reset();
    }

private:
    using executor = boost::asio::associated_executor_t<Handler, boost::asio::any_io_executor>;

    Handler handler_;
    boost::asio::executor_work_guard<executor> work_;
    boost::asio::executor_work_guard<boost::asio::any_io_executor> own_work_;
};

} // namespace ecdysis::io

#endif
