// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_DRAIN_RUN_HPP
#define ECDYSIS_GENERATION_DRAIN_RUN_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/io/concept.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

namespace ecdysis {

/// The clock of one drain. With the lock of the io policy held; its end cancels all.
template <class Io>
class drain_run
{
public:
    struct calls
    {
        std::function<void()> empty;    ///< no connection is open; from any thread, and without the lock
        std::function<void()> idle;     ///< idle ones are to be closed
        std::function<void()> deadline;
    };

    drain_run(Io& io, std::shared_ptr<open_connections> connections, std::chrono::milliseconds deadline,
              std::chrono::milliseconds idle_grace, calls f)
        : io_{io}, connections_{std::move(connections)}
    {
        connections_->watch(std::move(f.empty));
        deadline_ = io_.at(io::after(deadline), std::move(f.deadline));
        if (idle_grace < deadline)
            idle_ = io_.at(io::after(idle_grace), [this, idle = std::move(f.idle)] {
                idle();
                connections_->begin_closing_idle();
            });
    }
    drain_run(drain_run const&) = delete;
    drain_run& operator=(drain_run const&) = delete;
    ~drain_run() { connections_->unwatch(); }

    /// The deadline has passed: `f` so much later.
    void extend(std::chrono::milliseconds more, std::function<void()> f) { deadline_ = io_.at(io::after(more), std::move(f)); }

private:
    Io& io_;
    std::shared_ptr<open_connections> connections_;
    typename Io::handle deadline_;
    typename Io::handle idle_;
};

} // namespace ecdysis

#endif
