// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_ATTEMPT_HPP
#define ECDYSIS_HANDOFF_ATTEMPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/event.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/handoff/announcement.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/process.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// One upgrade of the parent's, from its trigger to its end: what it holds, how far it is, and the words for it.
template <class Io, class Notify, class End>
struct attempt
{
    using handle = typename Io::handle;

    trigger by{};
    requester who{};
    io::clock::time_point began = io::clock::now();
    phase during = phase::launching; ///< where it was when it began to fail
    std::string reason{};            ///< why it fails, if not by the child's own end
    error_code why = errc::child_failed;
    std::string words{};             ///< what the child said of its failure
    os::exit_status status{};
    bool child_was_killed = false;
    bool child_was_reaped = false;

    handoff::bequest bequest{};
    std::size_t sent = 0; ///< of its records
    bool said_hello = false;
    std::vector<bool> claims{};
    os::owned_fd channel{};

    launch::process child{};
    unsigned looks = 0; ///< at how the child ended, so far
    std::vector<os::owned_fd> theirs{}; ///< the child's side, until it was started
    std::vector<os::borrowed_fd> inherited{}; ///< what it is started with
    std::optional<handoff::link<End>> link{};
    std::optional<handoff::announcement<Io, Notify>> announcement{};
    bool partial_stop = false; ///< what the child was told is one
    bool was_committed = false;

    handle frame_watch{};
    handle child_watch{};
    handle timer{};
    handle retry{};

    /// The first cause is the one to tell.
    void fail_with(std::string cause, error_code code)
    {
        if (!reason.empty())
            return;
        reason = std::move(cause);
        why = code;
    }

    [[nodiscard]] std::string failure() const
    {
        auto const said = words.empty() ? std::string{} : ": " + words;
        // An end of the child's own says more than what we noticed of it on the way, unless it was told to end, or is that
        // of a wrapper whose own child was refused.
        bool const says_more = why == errc::stopped || why == errc::wrong_parent;
        if ((child_was_reaped && !child_was_killed && !says_more) || reason.empty())
            return status.text() + said;
        return reason + said;
    }

    [[nodiscard]] std::chrono::nanoseconds since_trigger() const { return io::clock::now() - began; }

    // ---- what a requester reads

    [[nodiscard]] std::string ok_line(unsigned generation) const
    {
        auto const us = std::chrono::duration_cast<std::chrono::microseconds>(since_trigger()).count();
        return "ok generation=" + std::to_string(generation) + " pid=" + std::to_string(os::number(child.pid)) +
               " took_ms=" + std::to_string(us / 1000) + "." + std::to_string(us / 100 % 10);
    }

    [[nodiscard]] static std::string failed_line(phase where, std::string text)
    {
        std::ranges::replace(text, '"', '\'');
        std::string place = name(where);
        std::ranges::replace(place, ' ', '-');
        return "failed phase=" + place + " reason=\"" + one_line(text) + "\"";
    }
};

} // namespace ecdysis::handoff

#endif
