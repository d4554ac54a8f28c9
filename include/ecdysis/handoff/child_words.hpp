// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_WORDS_HPP
#define ECDYSIS_HANDOFF_CHILD_WORDS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/process.hpp>

#include <optional>
#include <string>
#include <variant>

namespace ecdysis::handoff {

/// What a frame of the child's means to the parent's machine, which is in the state `state`; nothing for one of a later
/// version. What it says is kept in `now`, also why it makes no sense.
template <class Attempt>
[[nodiscard]] std::optional<parent::event> interpret(frame const& said, parent::state state, Attempt& now)
{
    using event = parent::event;
    auto const refuse = [&](errc why, std::string const& words) {
        now.fail_with(words + ": " + message(why), why);
        return event::garbage;
    };
    now.last_heard = name(said);
    if (auto const* asks = std::get_if<more>(&said)) {
        if (asks->sender != now.pid)
            return refuse(errc::wrong_parent, "pid " + std::to_string(os::number(asks->sender)) + " answers instead of pid " +
                                                  std::to_string(os::number(now.pid)) + ", which was started");
        if (asks->version != protocol_version)
            return refuse(errc::version_mismatch, "the new program speaks version " + std::to_string(asks->version) +
                                                      ", this one version " + std::to_string(protocol_version));
        return event::asked;
    }
    if (auto const* claims = std::get_if<ready>(&said)) {
        if (claims->claimed.size() != now.sent)
            return refuse(errc::corrupt_handoff, "the child claims from " + std::to_string(claims->claimed.size()) +
                                                     " descriptors, but got " + std::to_string(now.sent));
        if (state == parent::state::starting)
            now.claims = claims->claimed;
        return event::ready;
    }
    if (auto const* failure = std::get_if<fail>(&said)) {
        now.words = failure->why;
        return event::failed;
    }
    if (auto const* answer = std::get_if<taken>(&said)) {
        now.warnings = answer->warnings;
        now.child_has_taken = true;
        return event::taken;
    }
    if (auto const* ends = std::get_if<stopping>(&said)) {
        now.child_stops = true;
        now.partial_stop = ends->partial;
        return event::child_stops;
    }
    if (std::holds_alternative<serving>(said))
        return event::serving;
    if (std::holds_alternative<alive>(said))
        return event::alive;
    if (std::holds_alternative<unknown>(said))
        return {};
    return event::garbage;
}

} // namespace ecdysis::handoff

#endif
