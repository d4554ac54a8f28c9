// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_CONTEXT_HPP
#define ECDYSIS_GENERATION_CONTEXT_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/process.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace ecdysis {

/// What all parts of one generation share: the policies, what the host chose, and whom they tell.
template <class Io, class Notify, class Transport, class Launch>
class context
{
public:
    using io_policy = Io;
    using notify_policy = Notify;
    using transport_policy = Transport;
    using launch_policy = Launch;

    struct policy_set
    {
        Io io;
        [[no_unique_address]] Notify notify;
        [[no_unique_address]] Transport transport;
        [[no_unique_address]] Launch launch;
    };

    /// Where this generation is, for its events.
    struct place
    {
        unsigned generation;
        phase during;
    };

    context(policy_set chosen, ecdysis::options options, std::function<place()> where)
        : policies{std::move(chosen)}, options_{std::move(options)}, where_{std::move(where)}
    {}
    context(context const&) = delete;
    context& operator=(context const&) = delete;

    policy_set policies;

    [[nodiscard]] ecdysis::options const& options() const noexcept { return options_; }

    /// This is a process that the host forked: all that is here is its parent's, and its end says nothing to anybody. (A
    /// host on Asio has to see to its context itself: the epoll instance is shared, see fork(2) and notify_fork.)
    [[nodiscard]] bool in_fork() const noexcept { return os::this_process() != process_; }
    [[nodiscard]] os::process_id process() const noexcept { return process_; }

    void tell(event::variant what) noexcept // what an observer throws would leave an upgrade half way
    {
        if (!options_.observer)
            return;
        auto const here = where_();
        options_.observer(event{std::chrono::system_clock::now(), std::chrono::steady_clock::now(), here.generation,
                                os::this_process(), here.during, std::move(what)});
    }

    /// `f()` from where this generation runs, if it still does by then. From any thread, without the lock.
    template <class F>
    void post(F f)
    {
        policies.io.post([alive = std::weak_ptr{alive_}, f = std::move(f)] {
            if (!alive.expired())
                f();
        });
    }

    /// Nothing that was posted runs any more.
    void end_posts() noexcept { alive_.reset(); }

private:
    os::process_id const process_ = os::this_process();
    ecdysis::options options_;
    std::function<place()> where_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true); ///< for what was posted and comes late
};

} // namespace ecdysis

#endif
