// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_EVENT_QUEUE_HPP
#define ECDYSIS_HANDOFF_EVENT_QUEUE_HPP

#include <deque>
#include <utility>

namespace ecdysis::handoff {

/// Events on their way to a machine. What an action brings about at once (a launch that fails) comes while its event is
/// still worked off: it waits here, so that a machine never hears one event inside another.
template <class Event>
class event_queue
{
public:
    /// Adds `what`, and unless a call further out does so already, works off all that is there by `work(event)`.
    template <class F>
    void feed(Event what, F&& work)
    {
        add(what);
        work_off(work);
    }

    /// The same, before all that waits.
    template <class F>
    void feed_first(Event what, F&& work)
    {
        waiting_.push_front(what);
        work_off(work);
    }

    /// For the call of `feed` that this one is inside of.
    void add(Event what) { waiting_.push_back(what); }

private:
    template <class F>
    void work_off(F& work)
    {
        if (std::exchange(working_, true))
            return;
        while (!waiting_.empty()) {
            auto const next = waiting_.front();
            waiting_.pop_front();
            work(next);
        }
        working_ = false;
    }

    std::deque<Event> waiting_;
    bool working_ = false;
};

} // namespace ecdysis::handoff

#endif
