// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_NOTIFY_SUPERVISION_HPP
#define ECDYSIS_NOTIFY_SUPERVISION_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/exit.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/queue.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/process.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>

namespace ecdysis::notify {

/// What is said of a generation that serves.
[[nodiscard]] inline std::string serving_status(unsigned generation)
{
    return "generation " + std::to_string(generation) + " serving";
}

/// What one generation tells its service manager over its life. Everything with the lock of the io policy held.
///
/// Only the main process is listened to (NotifyAccess=main, the default): the first generation from its start, a child
/// when the service is its own, and neither after it has handed over.
template <class Io, class Notify>
class supervision
{
public:
    using queue = notify::queue<Io, Notify>;
    using warn = std::function<void(std::string)>;

    supervision(Io& io, Notify& notify, warn w) : io_{io}, notify_{notify}, warn_{std::move(w)}, queue_{io, notify} {}
    supervision(supervision const&) = delete;
    supervision& operator=(supervision const&) = delete;

    [[nodiscard]] queue& messages() noexcept { return queue_; }

    /// Says it, as far as anybody listens; what fails is a warning.
    void say(step const& what)
    {
        if (queue_.handed_over())
            return;
        (void)queue_.add(what, [this](error_code ec) { warn_of(ec); });
    }
    void warn_of(error_code ec)
    {
        if (ec)
            warn_("tell the service manager: " + ec.message());
    }

    /// The first generation starts: it may take as long as a child. Said once, for a host may run nothing of ours meanwhile.
    void starts(options const& chosen)
    {
        auto const time = std::min<std::chrono::milliseconds>(chosen.ready_timeout, std::chrono::hours{24});
        if (time.count() > 0)
            say({.what = step::kind::extend, .extra = time});
    }

    /// The first generation serves.
    void serves()
    {
        auto const status = serving_status(0);
        say({.what = step::kind::ready, .status = status});
        feed_watchdog();
    }

    /// The service is a child's now, which is this process: the parent has told the manager so.
    void takes_over() { feed_watchdog(); }

    /// This process ends, and the child has the service: told without waiting.
    void hands_over(os::process_id child, unsigned generation)
    {
        auto const status = serving_status(generation);
        say({.what = step::kind::handing_over, .status = status, .child = child});
    }

    /// An upgrade begins. One that a control socket asked for may be what `ExecReload=` waits
    /// for, and then the manager knows that a reload is under way. Told so, version 257 would wait for its end even when
    /// the main process has gone (seen).
    void upgrades(trigger const& by)
    {
        auto const what = by.from == trigger::source::control ? step::kind::status : step::kind::reloading;
        ask_for_time({.what = what, .status = "upgrading", .extra = extension});
        extend_later();
    }

    /// This generation serves on. After it has handed over only a manager with `NotifyAccess=all` hears that.
    void failed(std::string const& why)
    {
        auto const status = "upgrade failed: " + why;
        step what{.what = step::kind::failed, .status = status};
        if (queue_.handed_over())
            what.child = os::this_process();
        queue_.take_back();
        extend_ = {};
        say(what);
        feed_watchdog();
    }

    /// Accepting ends, and what the manager hears of that is the host's to say; but the reload that it was told of is over.
    void stops_partially()
    {
        if (std::exchange(extend_, {}))
            say({.what = step::kind::ready, .status = "partially stopped"});
    }

    void stops()
    {
        stops_ = true;
        extend_ = {};
        say({.what = step::kind::stopping, .status = "stopping"});
    }

    /// Finishing open connections, until `deadline`. After an upgrade that is no news of the service.
    void drains(std::function<std::size_t()> count, std::chrono::milliseconds deadline)
    {
        if (!stops_)
            return;
        count_ = std::move(count);
        deadline_ = io::after(deadline);
        say_draining();
    }

    /// Nothing more is said, not even what waits still: a manager that does not read must not keep a process that is done.
    void close() noexcept
    {
        feed_ = {};
        extend_ = {};
        status_ = {};
        queue_.close();
    }

private:
    // The manager's own timeout may be shorter than what the host has asked for (EXTEND_TIMEOUT_USEC= in sd_notify(3)).
    // More time is asked for again and again, so that a host whose loop stands still is still found out.

    void extend_later()
    {
        extend_ = io_.at(io::after(extension / 3), [this] {
            if (queue_.handed_over())
                return;
            ask_for_time({.what = step::kind::extend, .extra = extension});
            extend_later();
        });
    }

    /// It puts off the watchdog too, until the next sign of life (systemd 252, seen): that is given at once.
    void ask_for_time(step const& what)
    {
        say(what);
        feed_watchdog();
    }

    void feed_watchdog()
    {
        auto const interval = notify_.watchdog_interval();
        if (interval.count() == 0 || queue_.handed_over())
            return;
        say({.what = step::kind::watchdog});
        feed_ = io_.at(io::clock::now() + interval / 2, [this] { feed_watchdog(); });
    }

    void say_draining()
    {
        auto const open = count_();
        auto const left = std::chrono::ceil<std::chrono::seconds>(deadline_ - io::clock::now());
        if (open == 0 || left.count() <= 0)
            return;
        auto status = "draining: " + std::to_string(open) + (open == 1 ? " connection" : " connections");
        if (left <= std::chrono::hours{24}) // else it is no deadline to wait for
            status += ", " + std::to_string(left.count()) + " s left";
        ask_for_time({.what = step::kind::status,
                      .status = status,
                      .extra = std::min<std::chrono::milliseconds>(left + time_to_end, extension)});
        status_ = io_.at(io::after(std::chrono::seconds{1}), [this] { say_draining(); });
    }

    static constexpr std::chrono::milliseconds extension{30'000};
    /// From the end of the drain to that of the process.
    static constexpr std::chrono::milliseconds time_to_end{5'000};

    Io& io_;
    Notify& notify_;
    warn warn_;
    queue queue_;
    bool stops_ = false;
    std::function<std::size_t()> count_;
    io::clock::time_point deadline_{};
    typename Io::handle feed_;
    typename Io::handle extend_;
    typename Io::handle status_;
};

} // namespace ecdysis::notify

#endif
