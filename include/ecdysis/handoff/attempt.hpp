// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_ATTEMPT_HPP
#define ECDYSIS_HANDOFF_ATTEMPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/child_process.hpp>
#include <ecdysis/handoff/confirmed_message.hpp>
#include <ecdysis/handoff/conversation.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/options.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// Where an upgrade is, for events and requesters.
[[nodiscard]] constexpr phase phase_of(parent::state where) noexcept
{
    using state = parent::state;
    switch (where) {
    case state::launching: return phase::launching;
    case state::handing_over: return phase::handing_over;
    case state::starting:
    case state::ending: return phase::starting;
    case state::reaching:
    case state::committing: return phase::committing;
    case state::probation:
    case state::asking: return phase::probation;
    case state::announcing:
    case state::confirming:
    case state::settling:
    case state::yielding: return phase::announcing;
    case state::yielded:
    case state::retired:
    case state::stopped: return phase::draining;
    case state::serving:
    case state::committed: break;
    }
    return phase::serving;
}

[[nodiscard]] inline std::string in_ms(std::chrono::milliseconds time) { return std::to_string(time.count()) + " ms"; }

/// One upgrade of the parent's, from its trigger to its end: what it holds, how far it is, and the words for it.
template <class Io, class Notify, class Launch, class End>
struct attempt
{
    using handle = typename Io::handle;
    using message = handoff::confirmed_message<Io, Notify>;

    trigger by{};
    requester who{};
    io::clock::time_point began = io::clock::now();
    phase during = phase::launching; ///< where it was when it began to fail
    std::string reason{};            ///< why it fails, if not by the child's own end
    error_code why = errc::child_failed;
    std::string words{};             ///< what the child said of its failure
    std::string warnings{};          ///< what the child could not do as it took over
    bool child_was_reaped = false;

    handoff::bequest bequest{};
    std::size_t sent = 0; ///< of its records
    bool said_hello = false;
    std::vector<bool> claims{};
    os::owned_fd channel{};

    std::unique_ptr<child_process<Io, Launch>> child{};
    os::process_id pid = os::process_id::none; ///< the child's
    std::vector<os::owned_fd> theirs{}; ///< the child's side, until it was started
    std::vector<os::borrowed_fd> inherited{}; ///< what it is started with
    std::unique_ptr<conversation<Io, End>> link{};
    std::optional<message> reaching{};
    std::optional<message> announcement{};
    bool child_stops = false;   ///< it has said that it ends accepting
    bool child_has_taken = false; ///< it has said that the service is its own
    bool partial_stop = false;  ///< and that its stop is a partial one
    char const* last_heard = "nothing"; ///< the name of its last frame
    std::optional<trigger> passed_on{}; ///< a signal for an upgrade that goes with `yours`, until that is sent

    handle timer{};
    unsigned armed = 0; ///< how often the timer was armed or disarmed
    handle later{};     ///< a turn of the loop, or the end of listening to signals

    /// Nothing is waited for any more.
    void unwatch()
    {
        if (child)
            child->unwatch();
        if (link)
            link->unwatch();
        timer = {};
        later = {};
        reaching.reset();
        announcement.reset();
    }

    /// The first cause is the one to tell.
    void fail_with(std::string cause, error_code code)
    {
        if (!reason.empty())
            return;
        reason = std::move(cause);
        why = code;
    }

    /// Where nothing else is known, it is what the child said: that it stops, or something out of turn.
    void blame_words()
    {
        if (!words.empty())
            return;
        if (child_stops)
            fail_with("it was stopped", errc::child_failed);
        else
            fail_with("protocol error: the child sent `" + std::string{last_heard} + "` while " + name(during),
                      errc::corrupt_handoff);
    }

    /// The armed time has passed.
    void explain_deadline(parent::state where, options const& chosen)
    {
        using state = parent::state;
        switch (where) {
        case state::launching:
        case state::handing_over:
        case state::starting:
            return fail_with("not ready within " + in_ms(chosen.ready_timeout), errc::ready_timeout);
        case state::reaching:
            if (reaching->was_sent()) // else it goes on
                return;
            return fail_with("the service manager could not be told anything within " + in_ms(chosen.barrier_timeout),
                             errc::manager_timeout);
        case state::committing:
            return fail_with("the commit could not be sent within " + in_ms(chosen.serving_timeout), errc::serving_timeout);
        case state::committed:
            return fail_with("no word that it serves within " + in_ms(chosen.serving_timeout), errc::serving_timeout);
        case state::asking:
            return fail_with("no answer from its loop within " + in_ms(chosen.serving_timeout), errc::serving_timeout);
        case state::announcing:
            return fail_with("the service manager could not be told of the new main process within " +
                                 in_ms(chosen.barrier_timeout), errc::manager_timeout);
        default: return;
        }
    }

    [[nodiscard]] std::string failure() const
    {
        auto const said = words.empty() ? std::string{} : ": " + words;
        // An end of the child's own says more than what we noticed of it on the way, unless it was told to end, or is that
        // of a wrapper whose own child was refused, or of another version.
        bool const says_more = why == errc::stopped || why == errc::wrong_parent || why == errc::version_mismatch;
        bool const ended = child && child_was_reaped;
        if (ended && (reason.empty() || (!child->was_killed() && !child->exec_error() && !says_more)))
            return child->status().text() + said;
        return (reason.empty() ? "the new generation gave up" : reason) + said;
    }

    [[nodiscard]] std::chrono::nanoseconds since_trigger() const { return io::clock::now() - began; }

    // ---- what a requester reads

    [[nodiscard]] std::string ok_line(unsigned generation) const
    {
        auto const us = std::chrono::duration_cast<std::chrono::microseconds>(since_trigger()).count();
        auto line = "ok generation=" + std::to_string(generation) + " pid=" + std::to_string(os::number(pid)) +
                    " took_ms=" + std::to_string(us / 1000) + "." + std::to_string(us / 100 % 10);
        if (!warnings.empty())
            line += " warnings=" + quoted(warnings);
        return line;
    }

    [[nodiscard]] static std::string failed_line(phase where, std::string const& text)
    {
        std::string place = name(where);
        std::ranges::replace(place, ' ', '-');
        return "failed phase=" + place + " reason=" + quoted(text);
    }

private:
    [[nodiscard]] static std::string quoted(std::string text)
    {
        std::ranges::replace(text, '"', '\'');
        return '"' + one_line(text) + '"';
    }
};

} // namespace ecdysis::handoff

#endif
