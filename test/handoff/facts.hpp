// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_HANDOFF_FACTS_HPP
#define ECDYSIS_TEST_HANDOFF_FACTS_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace ecdysis::handoff::test {

/// Everything that can happen next. Each is enabled or not; which one comes is anybody's choice.
enum class what : std::uint8_t {
    // the environment's: they may come or not
    request_upgrade,
    signal_to_parent,
    signal_parent_to_stop,
    ask_parent_to_stop,
    kill_parent,
    reached,
    unreachable,
    announced,
    unannounced,
    manager_works,
    launch_ours,
    launch_other,
    launch_fails,
    commit_into_the_void,
    signal_to_child,
    signal_child_to_stop,
    child_hangs,
    host_ready,
    host_failed,
    host_serves,
    other_asks,
    other_ready,
    other_fails,
    other_serves,
    other_lives,
    other_stops,
    other_takes,
    other_sends_garbage,
    other_closes,
    // these come at last, if nothing else takes them away
    end_child, ///< the environment's, unless it was killed by the parent
    launched,
    send_goes_out,
    commit_goes_out,
    yours_goes_out,
    parent_settles,
    parent_hears_confirmation,
    parent_deadline,
    parent_drained,
    parent_drain_deadline,
    parent_grace,
    killed_child_ends,
    parent_reads,
    parent_sees_closed,
    parent_sees_end,
    parent_has_read_rest,
    set_aside_deadline,
    serving_goes_out,
    child_reads,
    child_sees_closed,
    child_sees_end,
    child_has_read_rest,
    child_deadline,
    child_drained,
    child_exits,
};

inline constexpr std::array what_names{
    "somebody asks for an upgrade",
    "a signal asks the parent for an upgrade",
    "a signal stops the parent",
    "somebody asks the parent to stop",
    "the parent is killed",
    "the manager answers",
    "the manager cannot be reached",
    "the manager's socket accepts the announcement",
    "the manager cannot be told",
    "the manager works through what it was told",
    "a child of ours comes to life",
    "a program that is not ours comes to life",
    "the launch fails",
    "the commit is sent to a child that closed its end",
    "a signal asks the child for an upgrade",
    "a signal stops the child",
    "the child hangs",
    "the child's host is ready",
    "the child's host fails",
    "the child's host accepts",
    "the other program asks",
    "the other program says ready",
    "the other program says failed",
    "the other program says serving",
    "the other program says alive",
    "the other program says stopping",
    "the other program says taken",
    "the other program sends garbage",
    "the other program closes its end and lives on",
    "the child's process dies",
    "the launch is answered",
    "the frame that was to be sent goes out",
    "the commit that was to be sent goes out, or is lost",
    "the `yours` that was to be sent goes out, or is lost",
    "the parent looks for its child's end",
    "the parent hears the manager's confirmation",
    "the parent's deadline passes",
    "the parent's connections have ended",
    "the deadline of the parent's drain passes",
    "the grace after the deadline of the parent's drain passes",
    "a child that was set aside and killed ends",
    "the parent reads a frame",
    "the parent sees the end of file",
    "the parent sees the child's death",
    "the parent has read the rest",
    "the deadline of the child that was set aside passes",
    "the word that the child serves goes out",
    "the child reads a frame",
    "the child sees the end of file",
    "the child sees the parent's death",
    "the child has read the rest",
    "the child's deadline passes",
    "the child's connections have ended, it exits",
    "the child exits",
};
static_assert(what_names.size() == static_cast<std::size_t>(what::child_exits) + 1);

/// The child of the upgrade, and the one that was set aside.
inline constexpr std::size_t slots = 2;
inline constexpr std::size_t aside = 1;

struct move
{
    what kind{};
    std::uint8_t slot = 0;
};
inline constexpr std::size_t move_count = what_names.size() * slots;
constexpr move move_of(std::size_t i)
{
    return {static_cast<what>(i / slots), static_cast<std::uint8_t>(i % slots)};
}

enum class frame : std::uint8_t {
    none,
    // to the child
    part,
    end,
    commit,
    alive_question,
    yours,
    yours_again,
    stop,
    // to the parent
    asked,
    ready,
    failed,
    serving,
    alive,
    taken,
    stopping,
    garbage,
};
inline constexpr std::array frame_names{"none",  "part",         "end",  "commit", "alive?", "yours",
                                        "yours, again", "stop",  "asked", "ready", "failed", "serving",
                                        "alive", "taken",        "stopping", "garbage"};
static_assert(frame_names.size() == static_cast<std::size_t>(frame::garbage) + 1);

/// A queue in memory: one direction of a transport, or what the service manager has not worked through.
template <class T, std::size_t Room>
class queue
{
public:
    bool empty() const noexcept { return list_[0] == T{}; }
    std::size_t size() const noexcept
    {
        std::size_t n = 0;
        while (n < Room && list_[n] != T{})
            ++n;
        return n;
    }
    bool has(T it) const noexcept
    {
        for (auto const each : list_)
            if (each == it)
                return true;
        return false;
    }
    /// False if there is no room: the machines never need more.
    [[nodiscard]] bool push(T it) noexcept
    {
        auto const n = size();
        if (n == Room)
            return false;
        list_[n] = it;
        return true;
    }
    T pop() noexcept
    {
        auto const first = list_[0];
        for (std::size_t i = 1; i < Room; ++i)
            list_[i - 1] = list_[i];
        list_.back() = T{};
        return first;
    }
    void replace(T it, T by) noexcept
    {
        for (auto& each : list_)
            if (each == it)
                each = by;
    }
    void clear() noexcept { list_ = {}; }

private:
    std::array<T, Room> list_{};
};

/// What the service manager may be told. An announcement names a process, which may have ended when it is heard.
enum class message : std::uint8_t { none, reloading, ready, child_is_main, child_aside_is_main, dead_is_main };

enum class timer : std::uint8_t { none, ready, barrier, serving, probation, taken, kill, grace, drain };
enum class launching : std::uint8_t { none, pending, born };
enum class program : std::uint8_t { nobody, ours, other };

/// What is known of one child: by its own process, and by the parent's. Bytes only, without padding.
struct child_facts
{
    program kind = program::nobody;
    bool alive = false;
    bool hung = false;   ///< it makes no move any more
    bool doomed = false; ///< SIGKILL is on its way
    bool open = false;   ///< its end
    bool saw_parent_end = false;
    bool saw_parent_closed = false;
    bool reads_rest = false;
    bool to_say_serving = false; ///< a word that could not go out yet
    bool again = false;          ///< a signal asked it for an upgrade, which it must not begin yet
    std::uint8_t others_frames = 0;

    // the parent's
    launching launch = launching::none;
    std::uint8_t sent = 0; ///< frames of the handoff; the second is the end
    bool parent_open = false; ///< the parent's end
    bool watched = false;     ///< its pidfd, and the parent's end
    bool saw_end = false;
    bool saw_closed = false;
    bool parent_reads_rest = false;
    timer armed = timer::none; ///< of one that was set aside

    // the record, to judge by
    bool committed = false; ///< a commit was sent
    bool given_up = false;  ///< the parent wants it to end
    bool reaped = false;
    bool accepts = false; ///< it was allowed to
    bool has_served = false; ///< it said so
    bool heard_serving = false;
    bool asked_alive = false;
    bool heard_alive = false;
    bool heard_stopping = false; ///< of one that was set aside
    bool announced = false; ///< the manager's socket has accepted the announcement
    bool yours_sent = false;
    bool yours_read = false;
    bool parents_death_read = false; ///< seen on its pidfd, and the transport read empty
    bool told_stop = false;
    bool stopped = false; ///< a stop of its own
    bool failed = false;
    bool late = false;
    bool begun_again = false;
    queue<frame, 5> down; ///< to the child
    queue<frame, 5> up;
};

/// What the processes, their drivers, the transports between them and the service manager know. Bytes only, no padding.
struct facts
{
    // constant for one world
    bool supervised = false;     ///< by a service manager
    bool parent_workers = false; ///< workers of the parent's host hold its end after its death
    bool child_workers = false;
    bool others = false; ///< a program that is not ours may be launched

    // what may still come
    std::uint8_t upgrades_left = 0; ///< asked for, or by a signal during one
    std::uint8_t stops_left = 2;
    std::uint8_t hangs_left = 0;

    // the parent's process and driver
    bool parent_alive = true;
    bool parent_killed = false;
    bool paused = false;
    bool ended_accepting = false;
    timer armed = timer::none;
    bool to_send = false;   ///< a frame that could not go out yet
    bool to_commit = false; ///< a commit that could not go out yet
    bool to_yours = false;
    bool to_settle = false;
    bool to_reach = false;
    bool to_announce = false; ///< an announcement that the manager's socket has not accepted yet
    bool again = false;       ///< a signal came during an upgrade
    std::uint8_t dying = 0;   ///< children that were set aside and killed for another, and have not ended yet

    // the manager, and the way to it
    bool reloading = false; ///< it was told so, and nothing since
    bool child_is_main = false;
    bool confirmed = false;    ///< the parent has not heard it yet
    std::uint8_t stale = 0;    ///< announcements on the way that the parent does not wait for any more
    queue<message, 10> manager; ///< what it has not worked through

    // the record, to judge by
    bool owed = false; ///< a requester waits for its report
    bool told_committed = false;
    bool stopped = false;  ///< a stop reached the generation that was the service
    bool cut_short = false; ///< the parent's drain
    bool crashed = false;   ///< the generation that was the service, or to be it, was killed: its paths may stay
    bool path = true;      ///< the line's own Unix path
    std::array<child_facts, slots> child{};

    std::size_t hash() const noexcept
    {
        std::array<unsigned char, (sizeof(facts) + 7) / 8 * 8> bytes{};
        std::memcpy(bytes.data(), this, sizeof(facts));
        std::uint64_t h = 14695981039346656037u;
        for (std::size_t i = 0; i != bytes.size(); i += 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes.data() + i, 8);
            h = (h ^ word) * 0x9E3779B97F4A7C15u;
            h ^= h >> 29;
        }
        return static_cast<std::size_t>(h ^ (h >> 32));
    }
};
static_assert(std::has_unique_object_representations_v<facts>);

/// Who looks on: it keeps the first rule that was broken and, if asked to, the conversation.
struct witness
{
    char const* broken = nullptr;
    std::string* story = nullptr;

    void expect(bool kept, char const* rule) noexcept
    {
        if (!kept && !broken)
            broken = rule;
    }
    template <class... Words>
    void tell(Words... words)
    {
        if (story)
            ((*story += words), ...);
    }
};

} // namespace ecdysis::handoff::test

#endif
