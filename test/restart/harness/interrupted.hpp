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

/// The next generation, stopped (SIGSTOP) at `point`, and whoever asked for it.
struct interrupted
{
    connection asker;
    ::pid_t child;

    interrupted(service& it, std::string const& point, std::string const& more = {})
        : asker{(it.behave(point + " stop\n" + more), it.at_control())}, child{it.child()}
    {
        BOOST_REQUIRE(paused(child));
        it.behave("");
    }
    void go_on() const { ::kill(child, SIGCONT); }
    [[nodiscard]] std::string line() { return asker.receive().value_or("no answer"); }
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
