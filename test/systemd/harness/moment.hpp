// SPDX-License-Identifier: BSL-1.0
// For tests of single moments: what is asked for in the middle of an upgrade, and a manager that stands still.
#pragma once

#include "../harness.hpp"

#include <algorithm>
#include <future>
#include <string>
#include <string_view>
#include <vector>

namespace restart {

/// It is started anew where it fails.
inline unit_wish restarting(std::string behave = {}, std::vector<std::string> arguments = {})
{
    return {.settings = {"Restart=on-failure", "RestartSec=0"}, .arguments = std::move(arguments), .behave = std::move(behave)};
}

/// An upgrade by the control socket, asked for by us and not by systemd; gives the line.
inline std::string upgrade(unit const& one)
{
    connection asker{ecdysis::address{one.path("control")}};
    return asker.receive().value_or("no answer");
}

/// The same meanwhile; or a reload, where that is a signal. A stop ends what ExecReload= runs too, and then shows the unit
/// as failed: not the service's doing.
inline std::future<outcome> begin_upgrade(unit const& one)
{
    if (one.reloads_by(reload_by::signal))
        return one.begin("reload");
    return std::async(std::launch::async, [&one] {
        auto const line = upgrade(one);
        return outcome{line.starts_with("ok ") ? 0 : 1, line};
    });
}

inline std::future<outcome> begin_stop(unit const& one, std::string const& verb = "stop")
{
    auto stop = one.begin(verb);
    BOOST_TEST(wait_until([&] {
        auto const state = one.show("ActiveState");
        return state == "deactivating" || state == "inactive" || state == "failed";
    }));
    return stop;
}

/// A request on a connection that was there before: it is answered, and then there is no more.
inline void check_drains(connection& open)
{
    auto const answer = open.ask();
    BOOST_REQUIRE_MESSAGE(answer.has_value(), "an open connection was cut, result " << static_cast<int>(open.state()));
    BOOST_TEST(answer->last);
}

/// Who answers is who systemd takes for the main process, and nothing else is there.
inline void check_settles(unit const& one, std::chrono::seconds within = std::chrono::seconds{15})
{
    auto const settled = [&] {
        auto const shown = one.show();
        auto const answer = connection{one.address()}.ask();
        return answer && shown.at("ActiveState") == "active" && shown.at("MainPID") == std::to_string(answer->pid) &&
               one.processes() == std::vector{answer->pid};
    };
    BOOST_TEST(wait_until(settled, within),
               one.show("ActiveState") << ", MainPID " << one.show("MainPID") << ", processes " << one.processes().size());
}

/// An upgrade that failed has left no mark but its reason: the unit is as it was, and the next one succeeds.
inline void check_serves_on(unit const& one, ::pid_t pid, std::string_view reason)
{
    BOOST_TEST(wait_until([&] { return one.show("ActiveState") == "active"; }));
    auto const status = one.show("StatusText");
    BOOST_TEST(status.starts_with("upgrade failed: "), status);
    BOOST_TEST(status.find(reason) != status.npos, status);
    BOOST_TEST(one.check_serves(0, status) == pid);
    BOOST_TEST(one.show("NRestarts") == "0");
    for (auto const& line : one.said("Main process exited"))
        BOOST_ERROR(line);
}

inline void check_next_reload(unit const& one)
{
    one.behave("");
    auto const before = one.steps("serving").size();
    auto const reload = one.systemctl("reload");
    BOOST_TEST(reload.ok(), reload.output);
    auto const serving = one.wait_for("serving", before + 1);
    one.check_serves(1, "generation 1 serving");
    BOOST_TEST(one.main_pid() == serving.pid);
}

/// The manager of that unit does not run, as long as this lives. Meanwhile nothing may be asked of it.
class paused_manager
{
public:
    explicit paused_manager(::pid_t main) : pid_{look_at(main).value().parent} { ::kill(pid_, SIGSTOP); }
    paused_manager(paused_manager const&) = delete;
    paused_manager& operator=(paused_manager const&) = delete;
    ~paused_manager() { ::kill(pid_, SIGCONT); }

private:
    ::pid_t pid_;
};

/// Pipes that have no path: those of signals, and one while the manager's answer is awaited.
inline std::size_t pipes(::pid_t pid)
{
    std::size_t result = 0;
    std::error_code ec;
    for (auto const& entry : std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/fd", ec})
        result += std::filesystem::read_symlink(entry, ec).string().starts_with("pipe:") ? 1 : 0;
    return result;
}

/// `during(parent, child)` is called when the manager's socket has accepted the announcement, and before the manager runs
/// again. The unit needs some --probation, in which the manager is paused. Gives what the upgrade came to.
template <class F>
outcome upgrade_past_the_manager(unit const& one, F during)
{
    auto const parent = one.main_pid();
    auto asked = begin_upgrade(one);
    one.wait_for("child_serves");
    auto const child = one.launched();
    {
        paused_manager const paused{parent};
        auto const before = pipes(parent);
        auto const announced = wait_until([&] { return pipes(parent) > before; });
        BOOST_TEST(announced);
        if (announced)
            during(parent, child);
    }
    return asked.get();
}
inline std::vector<std::string> pausable(std::string const& barrier_timeout = "60000")
{
    return {"--probation 500", "--barrier-timeout " + barrier_timeout};
}

} // namespace restart
