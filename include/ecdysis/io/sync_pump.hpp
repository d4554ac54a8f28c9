// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_SYNC_PUMP_HPP
#define ECDYSIS_IO_SYNC_PUMP_HPP

#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/handle.hpp>
#include <ecdysis/io/signal_disposition.hpp>
#include <ecdysis/io/signal_relay.hpp>
#include <ecdysis/io/sync_source.hpp>

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace ecdysis::io {

/// What `io::sync`, its handles and its posters share: who waits for what, and the poll that serves them.
struct sync_pump
{
    /// What `cancel` does is the same for all: out of the list, and never called again.
    template <class Self>
    class entry : public registration
    {
    public:
        explicit entry(std::shared_ptr<sync_pump> of) noexcept : pump_{std::move(of)} {}

        void cancel() noexcept override
        {
            std::lock_guard const hold{pump_->mutex};
            if (std::exchange(cancelled_, true))
                return;
            auto& list = static_cast<Self*>(this)->list(*pump_);
            std::erase_if(list, [this](auto const& other) { return other.get() == this; });
        }

        [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }

    private:
        std::shared_ptr<sync_pump> pump_;
        bool cancelled_ = false;
    };

    class watching final : public entry<watching>
    {
    public:
        watching(std::shared_ptr<sync_pump> of, os::borrowed_fd on, std::function<void()> call)
            : entry{std::move(of)}, fd{on}, f{std::move(call)}
        {}
        static auto& list(sync_pump& of) noexcept { return of.watches; }

        os::borrowed_fd const fd;
        std::function<void()> const f;
    };

    class timing final : public entry<timing>
    {
    public:
        timing(std::shared_ptr<sync_pump> of, clock::time_point at, std::function<void()> call)
            : entry{std::move(of)}, time{at}, f{std::move(call)}
        {}
        static auto& list(sync_pump& of) noexcept { return of.timers; }

        clock::time_point const time;
        std::function<void()> const f;
    };

    class signalling final : public entry<signalling>
    {
    public:
        signalling(std::shared_ptr<sync_pump> of, std::function<void(int)> call)
            : entry{of}, wake_{of->wake}, f_{std::move(call)}
        {}
        // Also where it was never given out: an installation that failed half way.
        ~signalling() override { remove(); }
        static auto& list(sync_pump& of) noexcept { return of.signals; }

        void install(std::span<int const> set, error_code& ec)
        {
            previous_.reserve(set.size());
            for (int const signal : set) {
                signal_disposition previous{signal, ec};
                if (!ec)
                    signal_relay::install(signal, *wake_, ec);
                if (ec)
                    return;
                previous.installed();
                previous_.push_back(previous);
            }
        }

        void deliver()
        {
            for (std::size_t i = 0; i != previous_.size() && !cancelled(); ++i) // f may cancel, which empties previous_
                if (int const signal = previous_[i].signal(); signal_relay::take(signal))
                    f_(signal);
        }

        void cancel() noexcept override
        {
            entry::cancel();
            remove();
        }

    private:
        void remove() noexcept
        {
            for (auto const& previous : std::exchange(previous_, {})) {
                previous.bring_back();
                signal_relay::forget(previous.signal());
            }
        }

        std::shared_ptr<os::eventfd> wake_;
        std::function<void(int)> const f_;
        std::vector<signal_disposition> previous_;
    };

    sync_pump()
    {
        error_code ec;
        wake = std::make_shared<os::eventfd>(ec);
        if (!ec)
            gate = std::make_shared<sync_gate>(ec);
        if (ec)
            throw error{ec, "eventfd"};
    }

    template <class List, class Entry>
    handle add(List& list, std::shared_ptr<Entry> added)
    {
        list.push_back(added);
        if (polling)
            wake->notify();
        return handle{std::move(added)};
    }

    void post(std::function<void()> f)
    {
        {
            std::lock_guard const hold{post_mutex};
            posted.push_back(std::move(f));
        }
        wake->notify();
    }

    /// Waits once, without the lock, and calls what is due.
    void turn(std::unique_lock<std::recursive_mutex>& hold)
    {
        auto const watched = watches;
        std::vector<::pollfd> entries;
        entries.reserve(watched.size() + 1);
        entries.push_back({wake->fd().get(), POLLIN, 0});
        for (auto const& watch : watched)
            entries.push_back({watch->fd.get(), POLLIN, 0});
        auto const timeout = until_next_timer();

        polling = true;
        hold.unlock();
        int const ready = ::ppoll(entries.data(), entries.size(), timeout ? &*timeout : nullptr, nullptr);
        hold.lock();
        polling = false;

        if (ready > 0 && entries.front().revents != 0) {
            wake->clear();
            for (auto const& signal : std::vector{signals})
                signal->deliver();
            run_posted();
        }
        for (std::size_t i = 0; ready > 0 && i != watched.size(); ++i)
            if (entries[i + 1].revents != 0 && !watched[i]->cancelled())
                watched[i]->f();
        run_timers();
    }

    [[nodiscard]] std::optional<::timespec> until_next_timer() const
    {
        auto const earlier = [](auto const& a, auto const& b) { return a->time < b->time; };
        auto const next = std::min_element(timers.begin(), timers.end(), earlier);
        if (next == timers.end())
            return {};
        using namespace std::chrono;
        auto const left = std::max<nanoseconds>((*next)->time - clock::now(), nanoseconds::zero());
        auto const whole = duration_cast<seconds>(left);
        return ::timespec{static_cast<std::time_t>(whole.count()), static_cast<long>((left - whole).count())};
    }

    void run_posted()
    {
        std::deque<std::function<void()>> now;
        {
            std::lock_guard const hold{post_mutex};
            now.swap(posted);
        }
        for (auto const& f : now)
            if (!gone)
                f();
    }

    void run_timers()
    {
        auto const now = clock::now();
        auto due = timers;
        std::erase_if(due, [&](auto const& timer) { return timer->time > now; });
        std::ranges::stable_sort(due, {}, [](auto const& timer) { return timer->time; });
        for (auto const& timer : due) {
            if (timer->cancelled())
                continue;
            timer->cancel(); // once
            timer->f();
        }
    }

    std::recursive_mutex mutex;
    std::shared_ptr<os::eventfd> wake;
    std::shared_ptr<sync_gate> gate;
    std::vector<std::shared_ptr<watching>> watches;
    std::vector<std::shared_ptr<timing>> timers;
    std::vector<std::shared_ptr<signalling>> signals;
    bool waiting = false;
    bool polling = false;
    std::atomic<bool> gone{false};

    std::mutex post_mutex; // its own, so that posting never waits for a callback
    std::deque<std::function<void()>> posted;
};

} // namespace ecdysis::io

#endif
