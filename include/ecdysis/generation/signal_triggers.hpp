// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_SIGNAL_TRIGGERS_HPP
#define ECDYSIS_GENERATION_SIGNAL_TRIGGERS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/signal_disposition.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/process.hpp>

#include <signal.h>

#include <algorithm>
#include <array>
#include <functional>
#include <utility>
#include <vector>

namespace ecdysis {

/// The signals that a host named, each as the request that it means: a stop, if one is named for several.
///
/// Handlers are installed in two steps. Until a process is ready, it has nothing to drain, and one whose start hangs
/// must not outlive who started it: until then a stop signal has the disposition that it came with, and as a rule ends
/// the process.
template <class Io>
class signal_triggers
{
public:
    using asked = std::function<void(request, trigger)>;

    /// From now on `f` is called for each signal that asks for an upgrade, and for each stop signal that would not end
    /// this process. `blocked`: those that a parent had blocked for the start of this process. What came of them was
    /// meant as an upgrade: it is dropped where this host means anything else by it, or nothing. `io` and `chosen` must
    /// live until close().
    ///
    /// Errors: those of `io.signals`; `invalid_argument` also for what only install_late() would install.
    void install_early(Io& io, options const& chosen, std::vector<int> blocked, asked f, error_code& ec)
    {
        ec.clear();
        std::vector<int> early;
        std::vector<int> late;
        for (auto const* some : {&chosen.upgrade_on, &chosen.stop_on, &chosen.partial_stop_on})
            for (int const signal : *some) {
                check(signal, ec);
                if (ec)
                    return;
                bool const stops = meaning(chosen, signal) != request::upgrade;
                bool const waits = stops && ends_process(signal);
                hears_stops_ = hears_stops_ || (stops && !waits);
                if (auto& list = waits ? late : early; !is_in(list, signal))
                    list.push_back(signal);
            }
        std::erase_if(blocked, [&](int signal) {
            return is_in(chosen.upgrade_on, signal) && meaning(chosen, signal) == request::upgrade;
        });
        if (!blocked.empty())
            io::discard(blocked); // before a handler could take it for a stop
        io_ = &io;
        chosen_ = &chosen;
        f_ = std::move(f);
        late_ = std::move(late);
        if (!early.empty())
            installed_early_ = handlers_of(early, ec);
        if (!ec && !blocked.empty())
            io::unblock(blocked);
    }

    /// A signal that asks for a stop has a handler from the start.
    [[nodiscard]] bool hears_stops() const noexcept { return hears_stops_; }

    /// The same for the other stop signals, from now on. Once: later calls do nothing, nor one after close().
    void install_late(error_code& ec)
    {
        ec.clear();
        if (auto const late = std::exchange(late_, {}); !late.empty())
            installed_late_ = handlers_of(late, ec);
    }

    /// Brings the previous dispositions back.
    void close() noexcept
    {
        late_.clear();
        installed_late_ = {};
        installed_early_ = {};
    }

private:
    using handle = typename Io::handle;

    [[nodiscard]] handle handlers_of(std::vector<int> const& some, error_code& ec) const
    {
        return io_->signals(
            some,
            [&chosen = *chosen_, f = f_](int signal) {
                f(meaning(chosen, signal), trigger{.from = trigger::source::signal, .signal = signal});
            },
            ec);
    }

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

    /// Whether `signal` can have a handler: to be known at the start, and not when this process has the service.
    static void check(int signal, error_code& ec) noexcept
    {
        io::signal_disposition const current{signal, ec};
        if (signal == SIGKILL || signal == SIGSTOP)
            ec = make_error_code(boost::system::errc::invalid_argument);
    }

    /// Whether its default ends this process, and does nothing else (signal(7)).
    [[nodiscard]] static bool ends_process(int signal) noexcept
    {
        if (os::this_process() == os::process_id{1}) // for which the kernel drops each signal that has no handler
            return false;
        static constexpr std::array others{
            SIGCHLD, SIGCONT, SIGURG, SIGWINCH, // are ignored
            SIGTSTP, SIGTTIN, SIGTTOU,          // stop it
            SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS, // dump core
        };
        return std::ranges::find(others, signal) == others.end();
    }

    Io* io_ = nullptr;
    options const* chosen_ = nullptr;
    asked f_;
    std::vector<int> late_; ///< those that install_late() will install
    bool hears_stops_ = false;
    handle installed_early_;
    handle installed_late_;
};

} // namespace ecdysis

#endif
