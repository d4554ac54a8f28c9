// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_HANDOFF_NAMES_HPP
#define ECDYSIS_TEST_HANDOFF_NAMES_HPP

#include <ecdysis/handoff/child.hpp>
#include <ecdysis/handoff/parent.hpp>

#include <array>
#include <cstddef>
#include <ostream>

namespace ecdysis::handoff {

// In the order of the enumerations; the assertions below see to the number.

inline constexpr std::array parent_states{"serving",    "launching", "handing_over", "starting", "announcing",
                                          "committing", "committed", "ending",       "retired",  "stopped"};
inline constexpr std::array parent_events{
    "upgrade", "stop",    "launched", "launch_failed", "asked",        "handed_over", "ready",       "failed",  "serving", "child_stopped",
    "garbage", "closed",  "child_ended", "nothing_left", "announced",  "unannounced", "commit_sent", "commit_lost", "deadline"};
inline constexpr std::array parent_actions{
    "tell_reloading", "launch",    "send_next",     "announce",         "commit",      "retire",
    "stop",           "forward_stop", "end_drain",  "ask_to_end",       "kill",        "read_rest",
    "reap",           "close_handoff", "restore",   "report_committed", "report_ok",   "report_failed",
    "report_barrier_late", "report_serving_late",   "refuse_busy",      "refuse_not_serving", "arm_ready",
    "arm_barrier",    "arm_serving", "arm_kill",    "disarm"};

inline constexpr std::array child_states{"receiving", "starting", "waiting", "committed",
                                         "serving",   "given_up", "stopped"};
inline constexpr std::array child_events{"began",  "frame",        "end",          "commit",   "stop_frame",
                                         "garbage", "closed",      "parent_ended", "nothing_left", "deadline",
                                         "host_ready", "host_failed", "host_serves", "stop"};
inline constexpr std::array child_actions{"ask",         "send_ready", "send_fail", "send_serving", "send_stop", "take_over",
                                          "become_heir", "give_up",    "stop",      "read_rest",    "close_handoff"};

static_assert(parent_states.size() == static_cast<std::size_t>(parent::state::stopped) + 1);
static_assert(parent_events.size() == static_cast<std::size_t>(parent::event::deadline) + 1);
static_assert(parent_actions.size() == static_cast<std::size_t>(parent::action::disarm) + 1);
static_assert(child_states.size() == static_cast<std::size_t>(child::state::stopped) + 1);
static_assert(child_events.size() == static_cast<std::size_t>(child::event::stop) + 1);
static_assert(child_actions.size() == static_cast<std::size_t>(child::action::close_handoff) + 1);

constexpr char const* name(parent::state s) { return parent_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(parent::event e) { return parent_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(parent::action a) { return parent_actions[static_cast<std::size_t>(a)]; }
constexpr char const* name(child::state s) { return child_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(child::event e) { return child_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(child::action a) { return child_actions[static_cast<std::size_t>(a)]; }

inline std::ostream& operator<<(std::ostream& out, parent::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, parent::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, parent::action a) { return out << name(a); }
inline std::ostream& operator<<(std::ostream& out, child::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, child::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, child::action a) { return out << name(a); }

} // namespace ecdysis::handoff

#endif
