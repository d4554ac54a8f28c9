// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_PROCESS_HPP
#define ECDYSIS_HANDOFF_CHILD_PROCESS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/readable.hpp>

#include <signal.h>

#include <chrono>
#include <functional>
#include <string>
#include <utility>

namespace ecdysis::handoff {

/// A child that was started, until its end was seen and its status taken. With the lock of the io policy held.
template <class Io, class Launch>
class child_process
{
public:
    using warn = std::function<void(std::string)>;

    child_process(Io& io, Launch& launch, warn w) : io_{io}, launch_{launch}, warn_{std::move(w)} {}
    child_process(child_process const&) = delete;
    child_process& operator=(child_process const&) = delete;

    void started(launch::process child) { child_ = std::move(child); }

    [[nodiscard]] os::process_id pid() const noexcept { return child_.pid; }
    /// It was started, and its status is not taken.
    [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(child_.pidfd); }
    /// Its end was seen, and whoever has to reap it may still do so.
    [[nodiscard]] bool has_ended() const noexcept
    {
        return looks_ != 0 || (child_.pidfd && os::is_readable_within(child_.pidfd, std::chrono::milliseconds{0}));
    }
    /// How it ended, when `ended` was called.
    [[nodiscard]] os::exit_status status() const noexcept { return status_; }
    /// Why it never was the program, when `ended` was called.
    [[nodiscard]] error_code exec_error() const noexcept { return child_.exec_error(); }
    [[nodiscard]] bool starts_in_root() const noexcept { return child_.starts_in_root(); }
    /// It was killed by us, so how it ended says nothing about it.
    [[nodiscard]] bool was_killed() const noexcept { return was_killed_; }

    /// Calls `ended` once when it has, and is reaped; `seen` when its end is seen, which may be sooner. Where it cannot be
    /// watched now that is tried again, and `ec` says why.
    void watch(std::function<void()> ended, error_code& ec, std::function<void()> seen = {})
    {
        ended_ = std::move(ended);
        seen_ = std::move(seen);
        watch_ = {}; // one watch for a descriptor at a time
        watch(ec);
    }
    /// `ended` is not called any more.
    void unwatch() noexcept { watch_ = {}; }

    void kill()
    {
        error_code ec;
        launch_.kill(child_, SIGKILL, ec);
        if (looks_ == 0 && !ec) // else it has ended, and waits for whoever reaps it
            was_killed_ = true;
        if (ec)
            warn_("end the child, " + name() + ": " + ec.message());
    }

    /// In line, for an end of our own: a process that was killed ends, unless the kernel holds it.
    void kill_and_reap() noexcept
    {
        error_code ignored;
        launch_.kill(child_, SIGKILL, ignored);
        static_cast<void>(os::is_readable_within(child_.pidfd, std::chrono::seconds{1}));
        status_ = launch_.reap(child_, ignored);
        was_killed_ = true;
        release();
    }

    /// Nothing more is to be known of it.
    void release() noexcept
    {
        watch_ = {};
        child_.pidfd.reset();
    }

    [[nodiscard]] std::string name() const { return "pid " + std::to_string(os::number(child_.pid)); }

private:
    void watch(error_code& ec)
    {
        watch_ = io_.watch(child_.pidfd, [this] { reap(); }, ec);
        if (ec)
            watch_ = io_.at(io::after(std::chrono::milliseconds{100}), [this] {
                error_code again;
                watch(again);
            });
    }

    /// A child that is the manager's is the manager's to reap, and not at once, and how it ended is known only then.
    void reap()
    {
        if (auto const seen = std::exchange(seen_, nullptr))
            seen();
        error_code ec;
        status_ = launch_.reap(child_, ec);
        if (is_again(ec) && ++looks_ != 500) {
            watch_ = io_.at(io::after(retry_pause), [this] { reap(); });
            return;
        }
        watch_ = {};
        if (ec && !is_again(ec))
            warn_("reap the child, " + name() + ": " + ec.message());
        looks_ = 500;
        std::exchange(ended_, nullptr)();
    }

    Io& io_;
    Launch& launch_;
    warn warn_;
    launch::process child_{};
    os::exit_status status_{};
    bool was_killed_ = false;
    unsigned looks_ = 0; ///< at how it ended, so far
    std::function<void()> ended_;
    std::function<void()> seen_;
    typename Io::handle watch_;
};

} // namespace ecdysis::handoff

#endif
