// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_SIGNAL_TRIGGERS_HPP
#define ECDYSIS_GENERATION_SIGNAL_TRIGGERS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/signal_disposition.hpp>
#include <ecdysis/options.hpp>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

namespace ecdysis {

/// The signals that a host named, each as the request that it means: a stop, if one is named for several.
template <class Io>
class signal_triggers
{
public:
    using asked = std::function<void(request, trigger)>;

    /// From now on `f` is called for each. `blocked`: those that a parent had blocked for the start of this process;
    /// the ones that this host has no use for are the process's again, and what came of them was meant for the parent.
    void install(Io& io, options const& chosen, std::vector<int> blocked, asked f, error_code& ec)
    {
        ec.clear();
        std::vector<int> all;
        for (auto const* some : {&chosen.upgrade_on, &chosen.stop_on, &chosen.partial_stop_on})
            all.insert(all.end(), some->begin(), some->end());
        if (!all.empty())
            installed_ = io.signals(
                all,
                [&chosen, f = std::move(f)](int signal) {
                    f(meaning(chosen, signal), trigger{.from = trigger::source::signal, .signal = signal});
                },
                ec);
        std::erase_if(blocked, [&](int signal) { return is_in(all, signal); });
        if (ec || blocked.empty())
            return;
        io::discard(blocked);
        io::unblock(blocked);
    }

    /// Brings the previous dispositions back.
    void close() noexcept { installed_ = {}; }

private:
    [[nodiscard]] static bool is_in(std::vector<int> const& some, int signal) noexcept
    {
        return std::ranges::find(some, signal) != some.end();
    }

    [[nodiscard]] static request meaning(options const& chosen, int signal) noexcept
    {
        if (is_in(chosen.stop_on, signal))
            return request::stop;
        return is_in(chosen.partial_stop_on, signal) ? request::partial_stop : request::upgrade;
    }

    typename Io::handle installed_;
};

} // namespace ecdysis

#endif
