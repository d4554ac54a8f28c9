// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_STOP_REQUESTS_HPP
#define ECDYSIS_GENERATION_STOP_REQUESTS_HPP

#include <ecdysis/exit.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/life.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// The stop that was asked for: of which kind, by what, and who waits to hear of its end. What it means, the life says. With
/// the lock of the io policy held.
///
/// `Generation` does what its life says; see generation/generation.hpp.
template <class Generation>
class stop_requests
{
public:
    stop_requests(Generation& generation, life& of) : generation_{generation}, life_{of} {}
    stop_requests(stop_requests const&) = delete;
    stop_requests& operator=(stop_requests const&) = delete;

    /// A trigger of our own asks; `who` hears of the end.
    void ask(request what, trigger by, requester who)
    {
        if (who)
            requesters_.push_back(std::move(who));
        note(what == request::partial_stop, by);
        auto const by_signal = by.from == trigger::source::signal;
        auto const todo = life_.on(by_signal ? life::event::stop_signal : life::event::stop_request);
        if (is_partial() && life_.leaves())
            answer();
        generation_.perform(todo);
    }

    /// The first stop counts; one that was passed on is that of a trigger that comes later.
    void note(bool partially, trigger by)
    {
        if (!why_)
            why_ = exit{partially ? exit::kind::partially_stopped : exit::kind::stopped, by};
        else if (why_->by.from == trigger::source::handoff)
            why_->by = by;
    }

    [[nodiscard]] std::optional<exit> const& why() const noexcept { return why_; }
    [[nodiscard]] bool is_partial() const noexcept { return why_ && why_->why == exit::kind::partially_stopped; }

    void answer()
    {
        auto const connections = generation_.holdings().connections()->count();
        for (auto& who : std::exchange(requesters_, {}))
            who.answer(std::string{"ok exit="} + (is_partial() ? "partially-stopped" : "stopped") +
                       " connections=" + std::to_string(connections));
    }

private:
    Generation& generation_;
    life& life_;
    std::optional<exit> why_;
    std::vector<requester> requesters_;
};

} // namespace ecdysis

#endif
