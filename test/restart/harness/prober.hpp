// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "client.hpp"

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <stop_token>
#include <thread>
#include <vector>

namespace restart {

/// Asks for as long as it lives: a new connection for each request, and a few that are kept alive until an answer says
/// that it is the last. Not one request may fail.
class prober
{
public:
    struct counts
    {
        std::size_t answered = 0, refused = 0, reset = 0, cut = 0, late = 0;
        std::set<unsigned> generations{};

        [[nodiscard]] std::size_t failed() const noexcept { return refused + reset + cut + late; }
        [[nodiscard]] std::string text() const
        {
            std::ostringstream result;
            result << answered << " answered, " << refused << " refused, " << reset << " reset, " << cut << " cut, "
                   << late << " late";
            return result.str();
        }
    };

    explicit prober(ecdysis::address const& to, int type = SOCK_STREAM, std::size_t fresh = 2, std::size_t kept = 3)
        : active_{fresh + kept}
    {
        for (std::size_t i = 0; i != fresh; ++i)
            threads_.emplace_back([this, to, type](std::stop_token ends) {
                while (goes_on(ends)) {
                    connection one{to, type};
                    note(one.ask(), one);
                    one.abandon();
                    pause();
                }
            });
        for (std::size_t i = 0; i != kept; ++i)
            threads_.emplace_back([this, to, type](std::stop_token ends) {
                while (goes_on(ends)) {
                    connection one{to, type};
                    for (bool last = false; !last && !ends.stop_requested() && !is_held(); pause()) {
                        auto const got = one.ask();
                        note(got, one);
                        last = !got || got->last;
                    }
                    one.abandon();
                }
            });
    }

    /// Waits until all that was asked from now on by everyone has been answered.
    [[nodiscard]] bool go_on(std::size_t requests = 20)
    {
        auto const enough = now().answered + requests;
        return wait_until([&] { return now().answered >= enough || now().failed() != 0; });
    }
    /// The same where some requests may fail.
    [[nodiscard]] bool is_answered_again(std::size_t requests = 20)
    {
        auto const enough = now().answered + requests;
        return wait_until([&] { return now().answered >= enough; });
    }

    [[nodiscard]] counts now() const
    {
        std::lock_guard const hold{mutex_};
        return counts_;
    }

    /// As long as one of these lives it has no connection. Not once it has ended.
    class held
    {
    public:
        explicit held(prober& of) : of_{of}
        {
            std::unique_lock lock{of_.mutex_};
            ++of_.holders_;
            of_.changed_.wait(lock, [&] { return of_.active_ == 0; });
        }
        held(held const&) = delete;
        held& operator=(held const&) = delete;
        ~held()
        {
            {
                std::lock_guard const lock{of_.mutex_};
                --of_.holders_;
            }
            of_.changed_.notify_all();
        }

    private:
        prober& of_;
    };

    /// Ends it.
    [[nodiscard]] counts stop()
    {
        for (auto& thread : threads_)
            thread.request_stop();
        threads_.clear();
        return now();
    }

private:
    /// Called where a thread has no connection: it has none before the next ones may be made.
    [[nodiscard]] bool goes_on(std::stop_token const& ends)
    {
        std::unique_lock lock{mutex_};
        --active_;
        changed_.notify_all();
        changed_.wait(lock, ends, [this] { return holders_ == 0; });
        ++active_;
        return !ends.stop_requested();
    }
    [[nodiscard]] bool is_held() const
    {
        std::lock_guard const lock{mutex_};
        return holders_ != 0;
    }

    void note(std::optional<reply> const& got, connection const& from)
    {
        std::lock_guard const hold{mutex_};
        if (got) {
            ++counts_.answered;
            counts_.generations.insert(got->generation);
            return;
        }
        switch (from.state()) {
        case result::answered: break;
        case result::refused: ++counts_.refused; break;
        case result::reset: ++counts_.reset; break;
        case result::cut: ++counts_.cut; break;
        case result::late: ++counts_.late; break;
        }
    }

    // Whoever is probed needs some of the processor too.
    static void pause() { std::this_thread::sleep_for(std::chrono::microseconds{300}); }

    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::size_t active_;      ///< threads that may have a connection
    std::size_t holders_ = 0;
    counts counts_;
    std::vector<std::jthread> threads_;
};

} // namespace restart
