// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ASIO_OUTCOME_HPP
#define ECDYSIS_IO_ASIO_OUTCOME_HPP

#include <ecdysis/io/asio_registration.hpp>
#include <ecdysis/io/completion.hpp>
#include <ecdysis/io/outcome.hpp>

#include <boost/asio/error.hpp>

#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

namespace ecdysis::io {

template <class T>
struct outcome_signature
{
    using type = void(error_code, T);
};

template <>
struct outcome_signature<nothing>
{
    using type = void(error_code);
};

/// One wait for an outcome, in an execution context.
template <class T, class Handler>
class asio_outcome_operation : public std::enable_shared_from_this<asio_outcome_operation<T, Handler>>
{
public:
    asio_outcome_operation(std::shared_ptr<asio_state> state, Handler&& handler)
        : state_{std::move(state)}, handler_{std::move(handler), state_->executor}
    {}

    template <class Init>
    void start(Init& init)
    {
        handler_.on_cancel([weak = this->weak_from_this()] {
            if (auto const self = weak.lock())
                self->cancel();
        });
        std::lock_guard const hold{state_->mutex};
        outcome<T>& wanted = init();
        if (wanted.known()) {
            complete(wanted.get());
        } else if (wanted.awaited()) {
            complete({errc::already_waiting, T{}});
        } else {
            awaited_ = &wanted;
            wanted.await([self = this->shared_from_this()] {
                self->complete(std::exchange(self->awaited_, nullptr)->get());
            });
        }
    }

private:
    void cancel()
    {
        std::lock_guard const hold{state_->mutex};
        if (auto const wanted = std::exchange(awaited_, nullptr)) {
            wanted->forget_waiter();
            complete({boost::asio::error::operation_aborted, T{}});
        }
    }

    void complete(typename outcome<T>::result result)
    {
        if constexpr (std::is_same_v<T, nothing>)
            handler_.complete(way::post, result.ec);
        else
            handler_.complete(way::post, result.ec, std::move(result.value));
    }

    std::shared_ptr<asio_state> state_;
    waiting_handler<Handler> handler_;
    outcome<T>* awaited_ = nullptr;
};

} // namespace ecdysis::io

#endif
