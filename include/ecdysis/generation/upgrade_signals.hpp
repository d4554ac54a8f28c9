// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_UPGRADE_SIGNALS_HPP
#define ECDYSIS_GENERATION_UPGRADE_SIGNALS_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/io/concept.hpp>

#include <optional>
#include <utility>

namespace ecdysis {

/// Signals that ask for an upgrade. One that comes when none can begin is kept: it is one more upgrade afterwards, by
/// whoever has the service then. With the lock of the io policy held.
///
/// `Generation` says whether an upgrade runs and begins one; see generation/generation.hpp.
template <class Generation>
class upgrade_signals
{
public:
    upgrade_signals(Generation& generation, life const& of) : generation_{generation}, life_{of} {}
    upgrade_signals(upgrade_signals const&) = delete;
    upgrade_signals& operator=(upgrade_signals const&) = delete;

    void came(trigger by)
    {
        if (life_.now() == life::state::retired) // whoever sent it may have read an older pid; later it is dropped
            return static_cast<void>(generation_.parent_side().pass_signal_on());
        if (life_.leaves() || life_.stops())
            return;
        if (!may_begin())
            return keep(by);
        auto const earliest = generation_.earliest_upgrade();
        if (io::clock::now() >= earliest)
            return generation_.ask(request::upgrade, by, {});
        // Sooner than is good: all that come until then are one.
        if (!std::exchange(delayed_, by))
            delay_ = generation_.policies.io.at(earliest, [this] {
                delay_ = {};
                if (auto const late = std::exchange(delayed_, {}))
                    came(*late);
            });
    }

    void keep(trigger by)
    {
        if (std::exchange(kept_, kept_ ? kept_ : std::optional{by}))
            return;
        generation_.tell(events::postponed{by});
    }

    /// One upgrade answers all that came.
    [[nodiscard]] std::optional<trigger> take() noexcept
    {
        auto const first = kept_ ? kept_ : delayed_;
        clear();
        return first;
    }

    /// An upgrade may begin now: it does if a signal was kept. Later, for what goes on now is worked off first.
    void begin_kept()
    {
        if (kept_)
            generation_.post([this] {
                if (may_begin() && kept_)
                    generation_.ask(request::upgrade, *take(), {});
            });
    }

    void clear() noexcept
    {
        kept_.reset();
        delayed_.reset();
        delay_ = {};
    }

private:
    [[nodiscard]] bool may_begin() const { return life_.may_upgrade() && !generation_.parent_side().upgrading(); }

    Generation& generation_;
    life const& life_;
    std::optional<trigger> kept_;
    std::optional<trigger> delayed_;
    typename Generation::io_policy::handle delay_;
};

} // namespace ecdysis

#endif
