// SPDX-License-Identifier: BSL-1.0
// Upgrades that stand still at a point of the child's, and how services end.
#pragma once

#include "service.hpp"

namespace restart {

/// Whether the process has stopped (SIGSTOP) at the point where it was asked to.
[[nodiscard]] inline bool paused(::pid_t pid)
{
    return wait_until([pid] {
        auto const found = look_at(pid);
        return found && found->state == 'T';
    });
}

/// Whoever reaps it.
[[nodiscard]] inline bool gone(::pid_t pid)
{
    return wait_until([pid] { return family::instance().ended(pid) || !look_at(pid); });
}

/// An upgrade that was asked for, whose child does what `behaviour` says.
struct begun
{
    std::size_t before;
    connection asker;
    ::pid_t child;

    begun(service& it, std::string const& behaviour)
        : before{it.steps("launched").size()}, asker{(it.behave(behaviour), it.at_control())},
          child{(it.wait_for("launched", before + 1), it.child())} // not one that is set aside
    {}
    [[nodiscard]] std::string line() { return asker.receive().value_or("no answer"); }
};

/// The next generation, stopped (SIGSTOP) at `point`, and whoever asked for it.
struct interrupted : begun
{
    interrupted(service& it, std::string const& point) : begun{it, point + " stop"}
    {
        BOOST_REQUIRE(paused(child));
        it.behave("");
    }
    void go_on() const { ::kill(child, SIGCONT); }
};

/// The next generation, which serves, on probation.
struct on_probation : begun
{
    explicit on_probation(service& it, std::string const& behaviour = {}) : begun{it, behaviour}
    {
        auto const expected = "pid " + std::to_string(child) + " serves, on probation";
        BOOST_REQUIRE(wait_until([&] {
            auto const all = it.steps("child_serves");
            return !all.empty() && all.back().text == expected;
        }));
        // Its parent says so before it has paused, and an accept may be under way there.
        int in_a_row = 0;
        BOOST_REQUIRE(wait_until([&] {
            in_a_row = it.ask().pid == child ? in_a_row + 1 : 0;
            return in_a_row == 3;
        }));
        it.behave("");
    }
};

/// The service ended as it was asked to: nothing runs, nothing is left, all ended well.
inline void check_over(service& it)
{
    service::check_ended_well(it.pid());
    it.check_gone();
}

[[nodiscard]] inline bool refuses(ecdysis::address const& where)
{
    return wait_until([&] { return connection{where}.state() == result::refused; });
}

/// Whether there is an answer yet, without waiting.
[[nodiscard]] inline bool has_answer(connection const& from)
{
    char byte;
    return ::recv(from.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

} // namespace restart
