// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_SET_ASIDE_CHILD_HPP
#define ECDYSIS_HANDOFF_SET_ASIDE_CHILD_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/handoff/child_process.hpp>
#include <ecdysis/handoff/conversation.hpp>
#include <ecdysis/handoff/set_aside.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/transport/concept.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <variant>

namespace ecdysis::handoff {

/// Drives the machine of a child that is set aside. With the lock of the io policy held.
template <class Io, class Launch, transport::End End>
class set_aside_child
{
public:
    using process = child_process<Io, Launch>;
    using link = handoff::conversation<Io, End>;

    struct times
    {
        std::chrono::milliseconds kill_grace;
        std::chrono::milliseconds drain_timeout;
    };

    set_aside_child(Io& io, std::unique_ptr<process> child, std::unique_ptr<link> link, stop::reason why, times limits)
        : io_{io}, child_{std::move(child)}, link_{std::move(link)}, why_{why}, limits_{limits}
    {}
    set_aside_child(set_aside_child const&) = delete;
    set_aside_child& operator=(set_aside_child const&) = delete;

    /// `stopped`: it has said already that it ends accepting. Without a link it is one that was killed and has not ended.
    /// `moved(gone)` is called when the parent's drain is not held any more, and once when the child has ended and is reaped,
    /// which may be this object's end.
    void begin(bool stopped, std::function<void(bool)> moved)
    {
        moved_ = std::move(moved);
        error_code ignored; // is tried again
        child_->watch([this] { feed(set_aside::event::child_ended); }, ignored);
        if (!link_)
            return feed(set_aside::event::left_alone);
        link_->tell([this](heard what, frame& said, auto&, error_code) {
            if (what == heard::frame && std::holds_alternative<stopping>(said))
                feed(set_aside::event::child_stops);
        });
        feed(set_aside::event::began);
        if (stopped)
            feed(set_aside::event::child_stops);
    }

    void replaced() { feed(set_aside::event::replaced); }
    void parent_leaves()
    {
        feed(set_aside::event::parent_leaves);
        child_->unwatch();
        timer_ = {};
    }

    [[nodiscard]] process const& child() const noexcept { return *child_; }
    [[nodiscard]] bool holds_drain() const noexcept { return machine_.holds_drain(); }

private:
    void feed(set_aside::event what)
    {
        for (auto const todo : machine_.on(what))
            perform(todo);
    }

    void perform(set_aside::action todo)
    {
        switch (todo) {
        case set_aside::action::send_stop: link_->send(stop{why_}); return;
        case set_aside::action::arm_grace: arm(limits_.kill_grace); return;
        case set_aside::action::arm_drain: arm(limits_.drain_timeout); return;
        case set_aside::action::disarm: timer_ = {}; return;
        case set_aside::action::kill: child_->kill(); return;
        case set_aside::action::reap:
            child_->release();
            link_.reset();
            std::exchange(moved_, nullptr)(true); // the last: it may be the end of this
            return;
        case set_aside::action::release_drain: moved_(false); return;
        }
    }

    void arm(std::chrono::milliseconds time)
    {
        timer_ = io_.at(io::after(time), [this] {
            link_->read(256); // both may be due: this process, or the machine, may have stood still
            if (timer_due())
                feed(set_aside::event::deadline);
        });
        armed_for_ = machine_.now();
    }

    /// What was read just now may have been the answer.
    [[nodiscard]] bool timer_due() const noexcept { return machine_.now() == armed_for_; }

    Io& io_;
    std::unique_ptr<process> child_;
    std::unique_ptr<link> link_;
    stop::reason why_;
    times limits_;
    std::function<void(bool)> moved_;
    set_aside machine_;
    set_aside::state armed_for_ = set_aside::state::telling;
    typename Io::handle timer_;
};

} // namespace ecdysis::handoff

#endif
