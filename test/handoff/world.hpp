// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_HANDOFF_WORLD_HPP
#define ECDYSIS_TEST_HANDOFF_WORLD_HPP

#include "names.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

namespace ecdysis::handoff::test {

/// Everything that can happen next. Each is enabled or not; which one comes is anybody's choice.
enum class move : std::uint8_t {
    // the environment's: they may come or not
    request_upgrade,
    stop_parent,
    stop_child,
    kill_parent,
    host_ready,
    host_failed,
    host_serves,
    announced,
    unannounced,
    drain_over,
    launch_ours,
    launch_other,
    other_asks,
    other_ready,
    other_fails,
    other_serves,
    other_garbage,
    other_closes,
    commit_into_the_void,
    // these come at last, if nothing else takes them away
    end_child, ///< the environment's, unless it was killed by the parent
    launch_fails,
    launched,
    send_goes_out,
    commit_goes_out,
    parent_reads,
    parent_sees_closed,
    parent_sees_end,
    parent_has_read_rest,
    parent_deadline,
    child_reads,
    child_sees_closed,
    child_sees_end,
    child_has_read_rest,
    child_deadline,
    child_hears_sigterm,
    child_exits,
};

inline constexpr std::array move_names{
    "somebody asks for an upgrade",
    "somebody stops the parent",
    "somebody stops the child",
    "the parent is killed",
    "the child's host is ready",
    "the child's host fails",
    "the child's host accepts",
    "the manager has worked through what it was told",
    "the manager cannot be told",
    "the parent's drain is over, it exits",
    "a child of ours comes to life",
    "a program that is not ours comes to life",
    "the other program asks",
    "the other program says ready",
    "the other program says failed",
    "the other program says serving",
    "the other program sends garbage",
    "the other program closes its end and lives on",
    "the commit is sent to a child that closed its end",
    "the child's process dies",
    "the launch fails",
    "the launch is answered",
    "the frame that was to be sent goes out",
    "the commit that was to be sent goes out, or is lost",
    "the parent reads a frame",
    "the parent sees the end of file",
    "the parent sees the child's death",
    "the parent has read the rest",
    "the parent's deadline passes",
    "the child reads a frame",
    "the child sees the end of file",
    "the child sees the parent's death",
    "the child has read the rest",
    "the child's deadline passes",
    "the child hears SIGTERM",
    "the child exits",
};
inline constexpr std::size_t move_count = move_names.size();
static_assert(move_count == static_cast<std::size_t>(move::child_exits) + 1);

enum class frame : std::uint8_t { none, part, end, commit, stop, asked, ready, failed, serving, garbage };
inline constexpr std::array frame_names{"none",  "part",  "end",    "commit",  "stop",
                                        "asked", "ready", "failed", "serving", "garbage"};

/// One direction of a transport in memory.
class frames
{
public:
    bool empty() const noexcept { return list_[0] == frame::none; }
    bool full() const noexcept { return list_.back() != frame::none; }
    std::size_t size() const noexcept
    {
        std::size_t n = 0;
        while (n < list_.size() && list_[n] != frame::none)
            ++n;
        return n;
    }
    /// False if there is no room: the machines never need more.
    [[nodiscard]] bool push(frame f) noexcept
    {
        if (full())
            return false;
        list_[size()] = f;
        return true;
    }
    frame pop() noexcept
    {
        auto const first = list_[0];
        for (std::size_t i = 1; i < list_.size(); ++i)
            list_[i - 1] = list_[i];
        list_.back() = frame::none;
        return first;
    }
    void clear() noexcept { list_ = {}; }

private:
    std::array<frame, 5> list_{};
};

enum class timer : std::uint8_t { none, ready, barrier, serving, kill };
enum class launching : std::uint8_t { none, pending, born };
enum class program : std::uint8_t { nobody, ours, other };

/// What the two processes, their drivers and the transport between them know. Bytes only, without padding.
struct facts
{
    // constant for one world
    bool heir = false;           ///< no manager supervises the parent
    bool parent_workers = false; ///< workers of the parent's host hold its end after its death
    bool child_workers = false;
    std::uint8_t upgrades_left = 0;
    std::uint8_t stops_left = 2; ///< at the parent

    // the parent's process and driver
    bool parent_alive = true;
    bool parent_killed = false;
    bool parent_open = false; ///< its end
    timer armed = timer::none;
    launching launch = launching::none;
    std::uint8_t sent = 0;       ///< frames of the handoff; the second is the end
    bool to_send = false;        ///< a frame that could not go out yet
    bool to_commit = false;      ///< a commit that could not go out yet
    bool watching = false;       ///< the child's pidfd and our end
    bool saw_child_end = false;
    bool saw_child_closed = false;
    bool parent_reads_rest = false;
    bool manager_asked = false;

    // the child's process and driver; fresh for each attempt
    program kind = program::nobody;
    bool child_alive = false;
    bool child_open = false;
    bool child_leaves = false; ///< its stop came when it was the service already
    bool saw_parent_end = false;
    bool saw_parent_closed = false;
    bool child_reads_rest = false;
    bool sigterm = false; ///< on its way
    bool doomed = false;  ///< SIGKILL is
    std::uint8_t others_frames = 0;

    // the record, to judge by
    bool owed = false;      ///< a requester waits for its report
    bool reloading = false; ///< the manager was told so, and nothing since
    bool committed = false; ///< a commit was sent to this child
    bool told_committed = false;
    bool given_up = false; ///< the parent wants this child to end
    bool reaped = false;
    bool told_late = false;
    bool accepted = false;    ///< the child was allowed to accept
    bool says_serving = false;
    bool says_stopped = false;
    bool to_forward = false; ///< a stop came after commit and before the parent heard of serving
    bool parent_stopped = false;
    bool child_stopped = false;
    bool service_stopped = false; ///< a stop reached the generation that was the service
    bool child_killed = false;    ///< by the environment
    bool host_gave_up = false;
    bool child_late = false;
    bool not_announced = false; ///< the manager could not be told
    bool cleaned_up = false; ///< what the last generation removes is gone: paths, pid file
    frames down; ///< to the child
    frames up;

    void fresh_child() noexcept
    {
        facts now;
        now.heir = heir;
        now.parent_workers = parent_workers;
        now.child_workers = child_workers;
        now.parent_stopped = parent_stopped;
        now.upgrades_left = upgrades_left;
        now.stops_left = stops_left;
        now.owed = owed;
        now.reloading = reloading;
        now.armed = armed;
        *this = now;
    }

    std::size_t hash() const noexcept
    {
        std::array<unsigned char, sizeof(facts)> bytes;
        std::memcpy(bytes.data(), this, sizeof(facts));
        std::uint64_t h = 14695981039346656037u;
        std::size_t i = 0;
        for (; i + 8 <= bytes.size(); i += 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes.data() + i, 8);
            h = (h ^ word) * 0x9E3779B97F4A7C15u;
            h ^= h >> 29;
        }
        for (; i < bytes.size(); ++i)
            h = (h ^ bytes[i]) * 1099511628211u;
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

/// A parent, a child, what lies between them, and a driver for each that does what the machine wants.
template <class Parent, class Child>
class world
{
public:
    world(std::uint8_t upgrades, bool heir, bool parent_workers, bool child_workers) : child_{heir}
    {
        is.upgrades_left = upgrades;
        is.heir = heir;
        is.parent_workers = parent_workers;
        is.child_workers = child_workers;
    }

    friend bool operator==(world const& a, world const& b) noexcept
    {
        return std::memcmp(&a.is, &b.is, sizeof(facts)) == 0 && a.parent_ == b.parent_ && a.child_ == b.child_;
    }
    std::size_t hash() const noexcept
    {
        return is.hash() * 131 + static_cast<std::size_t>(parent_.now()) * 11 + static_cast<std::size_t>(child_.now());
    }

    /// Whether the move will come at last, where nothing else does.
    bool mandatory(move m) const noexcept
    {
        if (m == move::end_child)
            return is.doomed;
        return m > move::end_child;
    }

    bool enabled(move m) const noexcept
    {
        auto const ours = is.kind == program::ours && is.child_alive;
        auto const other = is.kind == program::other && (is.child_alive || is.child_workers) && is.parent_open;
        auto const c = child_.now();
        auto const done = c == Child::state::given_up || c == Child::state::stopped;
        switch (m) {
        case move::request_upgrade:
            return is.parent_alive && (parent_.now() != Parent::state::serving || is.upgrades_left > 0);
        case move::stop_parent:
            return is.parent_alive && is.stops_left > 0;
        case move::stop_child:
            return ours && !is.child_stopped && !done;
        case move::kill_parent:
            return is.parent_alive;
        case move::host_ready:
            return ours && c == Child::state::starting;
        case move::host_failed:
            return ours && (c == Child::state::receiving || c == Child::state::starting || c == Child::state::waiting);
        case move::host_serves:
            return ours && c == Child::state::committed;
        case move::announced:
        case move::unannounced:
            return is.parent_alive && is.manager_asked;
        case move::drain_over:
            return is.parent_alive && !is.parent_reads_rest &&
                   (parent_.now() == Parent::state::retired || parent_.now() == Parent::state::stopped);
        case move::launch_ours:
        case move::launch_other:
        case move::launch_fails:
            return is.parent_alive && is.launch == launching::pending;
        case move::other_asks:
        case move::other_ready:
        case move::other_fails:
        case move::other_serves:
        case move::other_garbage:
            return other && is.child_open && is.others_frames > 0 && is.up.size() < 2;
        case move::other_closes:
            return other && is.child_alive && is.child_open;
        case move::commit_into_the_void:
            return is.to_commit && !is.child_open;
        case move::end_child:
            return is.child_alive;
        case move::launched:
            return is.parent_alive && is.launch == launching::born;
        case move::send_goes_out:
            return is.to_send;
        case move::commit_goes_out:
            return is.to_commit;
        case move::parent_reads:
            // A driver reads no further ask while it still owes the frame of the last one.
            return is.parent_alive && is.watching && is.parent_open && !is.up.empty() &&
                   (!is.to_send || is.parent_reads_rest);
        case move::parent_sees_closed:
            return is.parent_alive && is.watching && is.parent_open && is.up.empty() && !is.saw_child_closed &&
                   !is.child_open && !is.child_workers;
        case move::parent_sees_end:
            return is.parent_alive && is.watching && !is.child_alive && !is.saw_child_end;
        case move::parent_has_read_rest:
            return is.parent_alive && is.parent_reads_rest && is.up.empty();
        case move::parent_deadline:
            return is.parent_alive && is.armed != timer::none;
        case move::child_reads:
            return ours && is.child_open && !is.down.empty();
        case move::child_sees_closed:
            return ours && is.child_open && is.down.empty() && !is.saw_parent_closed && !is.parent_open &&
                   !is.parent_workers;
        case move::child_sees_end:
            return ours && !done && !is.parent_alive && !is.saw_parent_end;
        case move::child_has_read_rest:
            return ours && is.child_reads_rest && is.down.empty();
        case move::child_deadline:
            return ours && c == Child::state::receiving;
        case move::child_hears_sigterm:
            return ours && is.sigterm;
        case move::child_exits:
            return ours && (done || is.child_leaves);
        }
        return false;
    }

    void make(move m, witness& w)
    {
        switch (m) {
        case move::request_upgrade:
            request(w);
            break;
        case move::stop_parent:
            --is.stops_left;
            is.parent_stopped = true;
            if (parent_.now() != Parent::state::retired)
                is.service_stopped = true; // later it is the child that is the service
            is.to_forward = is.to_forward || (parent_.now() == Parent::state::committed && !is.saw_child_end);
            parent(Parent::event::stop, w);
            break;
        case move::stop_child:
            is.child_stopped = true;
            if (child_.may_accept() || !is.parent_alive)
                is.service_stopped = true;
            // Once it serves, its stop is its own parent's side's affair.
            if (child_.now() == Child::state::serving)
                is.child_leaves = true;
            stop_child(w);
            break;
        case move::kill_parent:
            is.parent_killed = true;
            parent_ends();
            break;
        case move::drain_over:
            clean_up_after_parent(w);
            parent_ends();
            break;
        case move::host_ready:
            child(Child::event::host_ready, w);
            break;
        case move::host_failed:
            is.host_gave_up = true;
            child(Child::event::host_failed, w);
            break;
        case move::host_serves:
            child(Child::event::host_serves, w);
            break;
        case move::announced:
            is.manager_asked = false;
            parent(Parent::event::announced, w);
            break;
        case move::unannounced:
            is.manager_asked = false;
            is.not_announced = true;
            parent(Parent::event::unannounced, w);
            break;
        case move::launch_ours:
            comes_to_life(program::ours);
            child(Child::event::began, w);
            break;
        case move::launch_other:
            comes_to_life(program::other);
            is.others_frames = 6;
            break;
        case move::other_asks:
            other_sends(frame::asked, w);
            break;
        case move::other_ready:
            other_sends(frame::ready, w);
            break;
        case move::other_fails:
            other_sends(frame::failed, w);
            break;
        case move::other_serves:
            is.says_serving = true;
            other_sends(frame::serving, w);
            break;
        case move::other_garbage:
            other_sends(frame::garbage, w);
            break;
        case move::other_closes:
            is.child_open = false;
            break;
        case move::commit_into_the_void:
            commit(w);
            break;
        case move::end_child:
            if (!is.doomed)
                is.child_killed = true;
            child_ends();
            break;
        case move::launch_fails:
            is.launch = launching::none;
            is.parent_open = false;
            parent(Parent::event::launch_failed, w);
            break;
        case move::launched:
            is.launch = launching::none;
            is.watching = true;
            parent(Parent::event::launched, w);
            break;
        case move::send_goes_out:
            is.to_send = false;
            ++is.sent;
            if (is.child_open && is.kind == program::ours)
                send_down(is.sent == 2 ? frame::end : frame::part, w);
            if (is.sent == 2)
                parent(Parent::event::handed_over, w);
            break;
        case move::commit_goes_out:
            if (!is.child_open) {
                is.to_commit = false;
                parent(Parent::event::commit_lost, w);
                break;
            }
            if (is.kind == program::ours)
                send_down(frame::commit, w);
            commit(w);
            break;
        case move::parent_reads:
            parent_reads(w);
            break;
        case move::parent_sees_closed:
            is.saw_child_closed = true;
            parent(Parent::event::closed, w);
            break;
        case move::parent_sees_end:
            is.saw_child_end = true;
            parent(Parent::event::child_ended, w);
            break;
        case move::parent_has_read_rest:
            is.parent_reads_rest = false;
            parent(Parent::event::nothing_left, w);
            break;
        case move::parent_deadline:
            is.armed = timer::none;
            parent(Parent::event::deadline, w);
            break;
        case move::child_reads:
            child_reads(w);
            break;
        case move::child_sees_closed:
            is.saw_parent_closed = true;
            child(Child::event::closed, w);
            break;
        case move::child_sees_end:
            is.saw_parent_end = true;
            child(Child::event::parent_ended, w);
            break;
        case move::child_has_read_rest:
            is.child_reads_rest = false;
            child(Child::event::nothing_left, w);
            break;
        case move::child_deadline:
            is.child_late = true;
            child(Child::event::deadline, w);
            break;
        case move::child_hears_sigterm:
            is.sigterm = false;
            child(Child::event::stop, w);
            break;
        case move::child_exits:
            clean_up_after_child(w);
            child_ends();
            break;
        }
    }

    /// What must hold at every moment.
    void check(witness& w) const
    {
        check_somebody_accepts(w);
        if (!is.parent_alive)
            return;
        check_timers(w);
        w.expect(!is.parent_stopped || !parent_.accepting(), "a parent that is stopped accepts no more");
        auto const p = parent_.now();
        if (p == Parent::state::serving) {
            w.expect(!is.says_stopped, "a service that is stopped is not taken back");
            w.expect(!is.owed, "an upgrade that is over has been reported");
            w.expect(!is.reloading, "the manager hears ready again");
            w.expect(!is.parent_open && !is.watching, "a parent that serves on has dropped its end");
            w.expect(!is.child_alive && is.launch == launching::none, "a parent that serves on has no child");
            w.expect(is.kind == program::nobody || is.reaped, "a child that ended is reaped");
        }
        if (p == Parent::state::retired)
            w.expect(!is.owed, "an upgrade that is over has been reported");
    }

    /// What must hold where nothing more needs to happen.
    void check_terminal(witness& w) const
    {
        auto const c = child_.now();
        auto const ours = is.kind == program::ours && is.child_alive;
        if (ours) {
            w.expect(c != Child::state::receiving, "a child does not wait for the handoff forever");
            w.expect(c != Child::state::given_up && c != Child::state::stopped, "a child that is to end ends");
            w.expect(!is.to_forward, "a stop after commit ends the child");
            w.expect(c != Child::state::serving || !is.child_open || is.parent_open ||
                         (is.parent_alive && is.parent_workers),
                     "a child that serves drops its end when its parent has");
            if (!is.parent_alive) {
                w.expect(c != Child::state::waiting, "a child does not wait for a parent that is gone");
                w.expect(c != Child::state::starting || is.heir, "only an heir goes on alone");
            }
        }
        if (is.parent_killed && is.kind == program::ours && parent_.now() != Parent::state::retired) {
            auto const promised = is.committed || (is.heir && is.sent == 2);
            auto const prevented = is.given_up || is.parent_stopped || is.child_stopped || is.child_killed ||
                                   is.host_gave_up || is.child_late;
            auto const kept = ours && (child_.may_accept() || (c == Child::state::starting && !is.committed));
            w.expect(!promised || prevented || kept, "an heir, or a child with a commit, takes over");
        }
        auto const killed = is.parent_killed || is.child_killed;
        if (!is.parent_alive && !is.child_alive && is.kind != program::other && !killed)
            w.expect(is.cleaned_up, "the last generation leaves nothing behind");
        if (!is.parent_alive)
            return;
        switch (parent_.now()) {
        case Parent::state::serving:
            break;
        case Parent::state::retired:
        case Parent::state::stopped:
            w.expect(!is.owed, "an upgrade that is over has been reported");
            w.expect(is.child_alive || is.kind == program::nobody || is.reaped, "a child that ended is reaped");
            w.expect(is.child_alive || !is.parent_open, "the end of a child that is gone is dropped");
            break;
        case Parent::state::committed: // the child never says that it serves, and lives
            w.expect(is.child_alive && is.told_late, "a parent waits after commit only for a child that lives");
            w.expect(ours ? c != Child::state::serving : !is.says_serving, "a parent hears that its child serves");
            break;
        default:
            w.expect(false, "every path leads to an end");
        }
    }

    void introduce(std::string& out) const
    {
        out += is.heir ? "no manager supervises the parent" : "a manager supervises the parent";
        if (is.parent_workers)
            out += ", its workers hold its end";
        if (is.child_workers)
            out += ", the child's workers hold the child's end";
        out += '\n';
    }

    void describe(std::string& out) const
    {
        out += "    parent: ";
        out += is.parent_alive ? name(parent_.now()) : is.parent_killed ? "dead" : "gone";
        out += ", child: ";
        out += is.kind == program::nobody  ? "none"
               : !is.child_alive           ? (is.reaped ? "reaped" : "dead")
               : is.kind == program::other ? "not ours"
                                           : name(child_.now());
        out += '\n';
    }

private:
    static constexpr char const* room = "few frames are ever unread";

    void check_somebody_accepts(witness& w) const
    {
        if (is.parent_alive && parent_.accepting())
            return;
        if (is.child_alive && (is.kind == program::ours ? child_.may_accept() : is.says_serving))
            return;
        if (is.service_stopped)
            return;
        // A service that crashes after the upgrade is not the upgrade's; and an heir is judged at the end.
        if (parent_.now() == Parent::state::retired ? is.child_killed : is.parent_killed)
            return;
        w.expect(false, "somebody accepts");
    }

    void check_timers(witness& w) const
    {
        auto const armed = [&](timer t) { return is.armed == t || is.saw_child_end; };
        char const* const rule = "a timer runs where the parent waits for the child";
        switch (parent_.now()) {
        case Parent::state::launching:
        case Parent::state::handing_over:
        case Parent::state::starting:
            w.expect(armed(timer::ready), rule);
            break;
        case Parent::state::announcing:
            w.expect(armed(timer::barrier), rule);
            break;
        case Parent::state::committing:
            w.expect(armed(timer::serving), rule);
            break;
        case Parent::state::committed:
            w.expect(armed(timer::serving) || is.told_late, rule);
            break;
        case Parent::state::ending:
            w.expect(armed(timer::kill) || is.doomed || is.launch != launching::none, rule);
            break;
        case Parent::state::serving:
        case Parent::state::retired:
        case Parent::state::stopped:
            w.expect(is.armed == timer::none, "no timer runs where the parent waits for nobody");
            break;
        }
    }

    // The parent's driver.

    void parent(typename Parent::event e, witness& w)
    {
        auto const list = parent_.on(e);
        w.tell("    parent: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        w.expect(list.size() <= 8, "a list of actions fits");
        for (auto const a : list)
            perform(a, w);
        // What could not go out yet is dropped with the state that wanted it.
        if (parent_.now() != Parent::state::handing_over)
            is.to_send = false;
        if (parent_.now() != Parent::state::committing)
            is.to_commit = false;
    }

    void request(witness& w)
    {
        auto const before = parent_;
        if (before.now() == Parent::state::serving) {
            --is.upgrades_left;
            is.owed = true;
            parent(Parent::event::upgrade, w);
            w.expect(is.launch == launching::pending, "an upgrade that is accepted launches");
            return;
        }
        auto const list = parent_.on(Parent::event::upgrade);
        auto const answer = before.accepting() ? Parent::action::refuse_busy : Parent::action::refuse_not_serving;
        w.expect(list.size() == 1 && *list.begin() == answer, "an upgrade that cannot be is refused at once");
        w.expect(parent_ == before, "a refusal changes nothing");
    }

    void perform(typename Parent::action a, witness& w)
    {
        using action = typename Parent::action;
        switch (a) {
        case action::tell_reloading:
            is.reloading = true;
            break;
        case action::launch:
            w.expect(is.kind == program::nobody || is.reaped, "one child at a time");
            is.fresh_child();
            is.launch = launching::pending;
            is.parent_open = true;
            break;
        case action::send_next:
            w.expect(is.sent < 2 && !is.to_send, "nothing is sent after the end of the handoff");
            is.to_send = true;
            break;
        case action::announce:
            is.manager_asked = true;
            break;
        case action::commit:
            w.expect(!is.committed && !is.to_commit, "a child is committed once");
            w.expect(!is.not_announced, "a child that the manager was not told of gets no commit");
            w.expect(parent_.now() == Parent::state::committing, "a commit is sent when all was said to the manager");
            is.to_commit = true;
            break;
        case action::retire:
            w.expect(is.committed && (is.kind == program::ours ? is.accepted : is.says_serving),
                     "the parent retires only when the child accepts");
            is.reloading = false;
            is.parent_open = false; // nothing is left to be said; the child is watched on, to reap it
            is.up.clear();
            break;
        case action::stop:
            w.expect(is.parent_stopped || is.says_stopped, "the parent stops only when it is told to");
            is.reloading = false;
            break;
        case action::forward_stop:
            w.expect(is.to_forward, "a stop is forwarded only after commit");
            if (is.child_open && is.kind == program::ours)
                send_down(frame::stop, w);
            break;
        case action::end_drain:
            break;
        case action::ask_to_end:
            w.expect(!is.committed, "a child with a commit is never told to end");
            w.expect(is.watching, "only a child that was launched is told to end");
            is.given_up = true;
            is.sigterm = is.kind == program::ours && is.child_alive;
            break;
        case action::kill:
            w.expect(!is.committed, "a child with a commit is never killed");
            w.expect(is.given_up && is.watching, "only a child that had its time is killed");
            is.doomed = true;
            break;
        case action::read_rest:
            w.expect(is.saw_child_end, "the rest is read after a death");
            is.parent_reads_rest = true;
            break;
        case action::reap:
            w.expect(is.saw_child_end, "only a child that ended is reaped");
            w.expect(!is.reaped, "a child is reaped once");
            w.expect(!is.owed || is.up.empty(), "what a dead child said is read before it is judged");
            is.reaped = true;
            break;
        case action::close_handoff:
            w.expect(is.kind == program::nobody || is.reaped, "a child is watched until it is reaped");
            is.parent_open = false;
            is.watching = false;
            is.up.clear();
            break;
        case action::restore:
            is.reloading = false;
            break;
        case action::report_committed:
            w.expect(is.committed && !is.told_committed, "a commit is reported once");
            is.told_committed = true;
            break;
        case action::report_ok:
        case action::report_failed:
            w.expect(is.owed, "an upgrade is reported once");
            w.expect((a == action::report_ok) == (parent_.now() == Parent::state::retired),
                     "an upgrade is reported as it ended");
            is.owed = false;
            break;
        case action::report_barrier_late:
            break;
        case action::report_serving_late:
            w.expect(is.committed && !is.told_late, "a child that is late is reported once, after commit");
            is.told_late = true;
            break;
        case action::refuse_busy:
        case action::refuse_not_serving:
            w.expect(false, "only a request is refused");
            break;
        case action::arm_ready:
            is.armed = timer::ready;
            break;
        case action::arm_barrier:
            is.armed = timer::barrier;
            break;
        case action::arm_serving:
            is.armed = timer::serving;
            break;
        case action::arm_kill:
            is.given_up = true;
            is.armed = timer::kill;
            break;
        case action::disarm:
            is.armed = timer::none;
            break;
        }
    }

    void parent_reads(witness& w)
    {
        using event = typename Parent::event;
        auto const f = is.up.pop();
        w.tell("    parent <- ", frame_names[static_cast<std::size_t>(f)], "\n");
        switch (f) {
        case frame::asked:
            return parent(event::asked, w);
        case frame::ready:
            return parent(event::ready, w);
        case frame::failed:
            return parent(event::failed, w);
        case frame::serving:
            return parent(event::serving, w);
        case frame::stop:
            return parent(event::child_stopped, w);
        default:
            return parent(event::garbage, w);
        }
    }

    void commit(witness& w)
    {
        w.expect(!is.given_up, "a child that was given up gets no commit");
        is.to_commit = false;
        is.committed = true;
        parent(Parent::event::commit_sent, w);
    }

    void send_down(frame f, witness& w) { w.expect(is.down.push(f), room); }

    void clean_up_after_parent(witness& w)
    {
        if (!parent_.ends_service())
            return;
        auto const goes_on = is.kind == program::ours && is.child_alive && child_.may_accept();
        w.expect(!goes_on || is.to_forward || is.says_stopped, "a generation that serves on keeps its paths");
        is.cleaned_up = true;
    }

    void clean_up_after_child(witness& w)
    {
        if (!is.accepted || child_.may_be_taken_back())
            return;
        w.expect(!is.parent_alive || !parent_.accepting() || is.says_stopped,
                 "a generation that serves on keeps its paths");
        is.cleaned_up = true;
    }

    void parent_ends()
    {
        is.parent_alive = false;
        is.parent_open = false;
        is.watching = is.parent_reads_rest = is.manager_asked = is.to_send = is.to_commit = false;
        is.saw_child_end = is.saw_child_closed = false;
        is.armed = timer::none;
        is.launch = launching::none;
        is.up.clear();
    }

    // The child's driver.

    void comes_to_life(program kind)
    {
        is.launch = launching::born;
        is.kind = kind;
        is.child_alive = is.child_open = true;
        child_ = Child{is.heir};
    }

    void child_ends()
    {
        is.child_alive = false;
        is.child_open = false;
        is.child_reads_rest = is.child_leaves = is.sigterm = false;
        is.saw_parent_end = is.saw_parent_closed = false;
        is.down.clear();
        if (!is.child_workers)
            is.others_frames = 0;
    }

    void child(typename Child::event e, witness& w)
    {
        auto const list = child_.on(e);
        w.tell("    child: ", name(e), " ->");
        for (auto const a : list)
            w.tell(" ", name(a));
        w.tell("\n");
        w.expect(list.size() <= 8, "a list of actions fits");
        for (auto const a : list)
            perform(a, w);
        w.expect(!child_.may_accept() || is.accepted, "a child accepts only when it was told that it may");
    }

    void perform(typename Child::action a, witness& w)
    {
        using action = typename Child::action;
        switch (a) {
        case action::ask:
            return child_sends(frame::asked, w);
        case action::send_ready:
            return child_sends(frame::ready, w);
        case action::send_fail:
            return child_sends(frame::failed, w);
        case action::send_serving:
            w.expect(is.accepted, "a child serves only when it was told that it may");
            is.says_serving = true;
            return child_sends(frame::serving, w);
        case action::send_stop:
            w.expect(is.accepted, "a child stops the service only as the service");
            is.says_stopped = true;
            return child_sends(frame::stop, w);
        case action::take_over:
            w.expect(is.committed && !is.given_up, "a child takes over with a commit");
            w.expect(!is.accepted, "a child takes over once");
            is.accepted = true;
            break;
        case action::become_heir:
            w.expect(is.heir, "a child that a manager ends with its parent inherits nothing");
            w.expect(!is.parent_alive && is.saw_parent_end, "a child inherits on its parent's death only");
            w.expect(is.sent == 2, "an heir has the whole handoff");
            w.expect(is.down.empty(), "an heir has read the rest");
            w.expect(!is.accepted, "a child takes over once");
            is.accepted = true;
            break;
        case action::give_up:
            w.expect(!is.accepted, "a child that accepts does not give up");
            break;
        case action::stop:
            w.expect(is.child_stopped || is.given_up || is.to_forward, "a child stops only when it is told to");
            break;
        case action::read_rest:
            w.expect(is.saw_parent_end, "the rest is read after a death");
            is.child_reads_rest = true;
            break;
        case action::close_handoff:
            is.child_open = false;
            is.child_reads_rest = false;
            is.down.clear();
            break;
        }
    }

    void stop_child(witness& w)
    {
        auto const is_service = child_.now() == Child::state::committed; // later its own parent's side stops it
        child(Child::event::stop, w);
        w.expect(!is_service || is.says_stopped, "a service that is stopped is not taken back");
    }

    void child_reads(witness& w)
    {
        using event = typename Child::event;
        auto const f = is.down.pop();
        w.tell("    child <- ", frame_names[static_cast<std::size_t>(f)], "\n");
        switch (f) {
        case frame::part:
            return child(event::frame, w);
        case frame::end:
            return child(event::end, w);
        case frame::commit:
            return child(event::commit, w);
        case frame::stop:
            return child(event::stop_frame, w);
        default:
            return child(event::garbage, w);
        }
    }

    void child_sends(frame f, witness& w)
    {
        if (is.parent_open && is.child_open)
            w.expect(is.up.push(f), room);
    }

    void other_sends(frame f, witness& w)
    {
        --is.others_frames;
        w.expect(is.up.push(f), room);
    }

    Parent parent_;
    Child child_;
    facts is;
};

} // namespace ecdysis::handoff::test

#endif
