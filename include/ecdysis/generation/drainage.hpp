// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_DRAINAGE_HPP
#define ECDYSIS_GENERATION_DRAINAGE_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/outcome.hpp>

#include <chrono>
#include <cstddef>

namespace ecdysis {

/// The drain of one generation: its clock, and what waits for its end. With the lock of the io policy held.
///
/// `Generation` says whether a child is awaited, and lets everything go at the end; see generation/generation.hpp.
template <class Generation>
class drainage
{
public:
    drainage(Generation& generation, life& of) : generation_{generation}, life_{of} {}
    drainage(drainage const&) = delete;
    drainage& operator=(drainage const&) = delete;

    [[nodiscard]] outcome<std::size_t>& begin(std::chrono::milliseconds deadline)
    {
        if (life_.drains() || over_.known())
            return over_;
        auto& io = generation_.policies.io;
        auto const idle_grace = generation_.options().idle_grace;
        generation_.tell(events::draining{open().count()});
        open().begin_draining();
        generation_.supervision().drains([this] { return open().count(); }, deadline);
        open().watch([this] { generation_.post([this] { check(); }); });
        deadline_ = io.at(io::after(deadline), [this] {
            perform(life_.on(life::event::drain_deadline, generation_.parent_side().awaits_end()));
        });
        if (idle_grace < deadline)
            idle_ = io.at(io::after(idle_grace), [this] {
                generation_.tell(events::closing_idle{open().count()});
                open().begin_closing_idle();
            });
        perform(life_.on(life::event::drain_begins));
        return over_;
    }

    /// It may be over.
    void check()
    {
        if (life_.drains_late() && !generation_.parent_side().awaits_end())
            return perform(life_.on(life::event::grace_deadline));
        if (!life_.drains() || life_.drained() || open().count() != 0 || generation_.holds_drain())
            return;
        // What stayed open during the drain ends first: it may have accepted one more just now.
        generation_.holdings().sockets().end_all();
        if (open().count() == 0)
            perform(life_.on(life::event::nothing_open));
    }

    void perform(life::actions const& todo)
    {
        for (auto const action : todo)
            switch (action) {
            case life::action::pass_stop: generation_.pass_stop(); break;
            case life::action::count_open: check(); break;
            case life::action::arm_grace:
                deadline_ = generation_.policies.io.at(io::after(generation_.options().kill_grace),
                                                       [this] { perform(life_.on(life::event::grace_deadline)); });
                break;
            case life::action::finish: finish(); break;
            }
    }

    /// Nobody is called any more.
    void close() noexcept
    {
        open().unwatch();
        deadline_ = {};
        idle_ = {};
    }
    /// `why`: it will not end any more.
    void give_up(error_code why) { over_.set(why); }

private:
    [[nodiscard]] open_connections& open() const noexcept { return *generation_.holdings().connections(); }

    void finish()
    {
        auto const left = open().count();
        generation_.tell(events::drained{left});
        generation_.close();
        over_.set({}, left);
    }

    Generation& generation_;
    life& life_;
    outcome<std::size_t> over_;
    typename Generation::io_policy::handle deadline_;
    typename Generation::io_policy::handle idle_;
};

} // namespace ecdysis

#endif
