// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_HANDOFF_NAMES_HPP
#define ECDYSIS_TEST_HANDOFF_NAMES_HPP

#include <ecdysis/generation/life.hpp>
#include <ecdysis/handoff/child.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/set_aside.hpp>

#include <array>
#include <cstddef>
#include <ostream>

namespace ecdysis::handoff {

// In the order of the enumerations; the assertions below see to the number.

inline constexpr std::array parent_states{"serving",    "launching", "handing_over", "starting",   "reaching",
                                          "committing", "committed", "probation",    "asking",     "announcing",
                                          "confirming", "settling",  "yielding",     "yielded",    "retired",
                                          "ending",     "stopped"};
inline constexpr std::array parent_events{
    "upgrade",     "stop",        "launched",    "launch_failed", "asked",      "handed_over", "ready",
    "failed",      "serving",     "alive",       "child_stops",   "taken",      "garbage",     "closed",
    "child_ended", "nothing_left", "reached",    "unreachable",   "commit_sent", "commit_lost", "announced",
    "unannounced", "confirmed",   "settled",     "yours_sent",    "yours_lost", "deadline"};
inline constexpr std::array parent_actions{
    "tell_reloading", "launch",    "give_up_launch", "send_next",     "reach_manager", "commit",        "pause",         "resume",
    "ask_alive",      "announce",  "settle",        "send_yours",    "retire",        "stop",          "send_stop",
    "kill",           "leave_alone", "set_aside",   "stop_child",    "read_rest",     "reap",          "close_handoff", "restore",
    "report_committed", "report_ok", "report_failed", "report_manager_late", "refuse_busy", "refuse_not_serving",
    "arm_ready",      "arm_barrier", "arm_serving", "arm_probation", "arm_taken",     "arm_kill",      "disarm"};

inline constexpr std::array child_states{"receiving", "starting",  "waiting",  "committed", "serving",
                                         "in_charge", "stopping",  "given_up", "stopped"};
inline constexpr std::array child_events{"began",        "frame",      "end",         "commit",
                                         "alive_asked",  "yours",      "stop_frame",  "garbage",
                                         "closed",       "parent_ended", "nothing_left", "deadline",
                                         "host_ready",   "host_failed", "host_serves", "stop"};
inline constexpr std::array child_actions{"ask",           "send_ready", "send_fail", "send_serving", "send_alive",
                                          "send_taken",    "send_stopping", "accept", "be_heir",      "take_service",
                                          "heed_signals",  "give_up",    "stop",      "end_service",  "read_rest",
                                          "close_handoff"};

inline constexpr std::array set_aside_states{"telling", "draining", "killed", "left_alone", "gone"};
inline constexpr std::array set_aside_events{"began",    "left_alone",    "child_stops", "replaced",
                                             "deadline", "parent_leaves", "child_ended"};
inline constexpr std::array set_aside_actions{"send_stop", "arm_grace", "arm_drain", "disarm", "release_drain",
                                              "kill",      "reap"};

static_assert(parent_states.size() == static_cast<std::size_t>(parent::state::stopped) + 1);
static_assert(parent_events.size() == static_cast<std::size_t>(parent::event::deadline) + 1);
static_assert(parent_actions.size() == static_cast<std::size_t>(parent::action::disarm) + 1);
static_assert(child_states.size() == static_cast<std::size_t>(child::state::stopped) + 1);
static_assert(child_events.size() == static_cast<std::size_t>(child::event::stop) + 1);
static_assert(child_actions.size() == static_cast<std::size_t>(child::action::close_handoff) + 1);
static_assert(set_aside_states.size() == static_cast<std::size_t>(set_aside::state::gone) + 1);
static_assert(set_aside_events.size() == static_cast<std::size_t>(set_aside::event::child_ended) + 1);
static_assert(set_aside_actions.size() == static_cast<std::size_t>(set_aside::action::reap) + 1);

constexpr char const* name(parent::state s) { return parent_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(parent::event e) { return parent_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(parent::action a) { return parent_actions[static_cast<std::size_t>(a)]; }
constexpr char const* name(child::state s) { return child_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(child::event e) { return child_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(child::action a) { return child_actions[static_cast<std::size_t>(a)]; }
constexpr char const* name(set_aside::state s) { return set_aside_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(set_aside::event e) { return set_aside_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(set_aside::action a) { return set_aside_actions[static_cast<std::size_t>(a)]; }

inline std::ostream& operator<<(std::ostream& out, parent::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, parent::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, parent::action a) { return out << name(a); }
inline std::ostream& operator<<(std::ostream& out, child::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, child::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, child::action a) { return out << name(a); }
inline std::ostream& operator<<(std::ostream& out, set_aside::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, set_aside::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, set_aside::action a) { return out << name(a); }

} // namespace ecdysis::handoff

namespace ecdysis {

inline constexpr std::array life_states{"starting", "accepting", "serving", "retired", "stopping", "given_up"};
inline constexpr std::array life_events{"committed",   "service_ours", "child_took",   "stopped",
                                        "gave_up",     "stop_signal",  "stop_request", "drain_begins",
                                        "nothing_open", "drain_deadline", "grace_deadline"};
inline constexpr std::array life_actions{"pass_stop", "count_open", "arm_grace", "finish"};

static_assert(life_states.size() == static_cast<std::size_t>(life::state::given_up) + 1);
static_assert(life_events.size() == static_cast<std::size_t>(life::event::grace_deadline) + 1);
static_assert(life_actions.size() == static_cast<std::size_t>(life::action::finish) + 1);

constexpr char const* name(life::state s) { return life_states[static_cast<std::size_t>(s)]; }
constexpr char const* name(life::event e) { return life_events[static_cast<std::size_t>(e)]; }
constexpr char const* name(life::action a) { return life_actions[static_cast<std::size_t>(a)]; }

inline std::ostream& operator<<(std::ostream& out, life::state s) { return out << name(s); }
inline std::ostream& operator<<(std::ostream& out, life::event e) { return out << name(e); }
inline std::ostream& operator<<(std::ostream& out, life::action a) { return out << name(a); }

} // namespace ecdysis

#endif
