// SPDX-License-Identifier: BSL-1.0
// The units of example/systemd under a system's manager, where a service has a user of its own, and each generation is a
// child of process 1.
#define BOOST_TEST_MODULE systemd_system
#include "harness/example.hpp"

#include <future>
#include <string>

using namespace restart;

namespace {

[[maybe_unused]] auto const chosen = real_manager::wanted = real_manager::scope::system;

/// A line of /proc/PID/status, as it is to be read in the manager's pid namespace.
std::string status_of(::pid_t pid, std::string const& line)
{
    auto text = example::manager().run("sed -n 's/^" + line + ":[[:space:]]*//p' /proc/" + std::to_string(pid) + "/status").output;
    while (text.ends_with('\n'))
        text.pop_back();
    return text;
}

/// The user of a process, by number.
std::string user_of(::pid_t pid)
{
    auto const all = status_of(pid, "Uid");
    return all.substr(0, all.find('\t'));
}

/// Not only when the one that has started it is gone: then any process is.
void check_is_a_child_of_the_manager(example const& one, unsigned generation)
{
    held_request held{one.address()};
    BOOST_TEST(one.systemctl("reload").ok());
    auto const answer = one.answer_of(generation);
    BOOST_TEST(answer.generation == generation);
    auto const all = one.processes();
    BOOST_TEST(all.size() == 2U);
    for (auto const pid : all)
        BOOST_TEST(status_of(pid, "PPid") == "1");
    BOOST_TEST(one.show("MainPID") == std::to_string(answer.pid));
    BOOST_TEST(held.finish().generation == generation - 1);
    one.check_serves(generation);
}

/// A request that has begun is answered, new ones are refused meanwhile, and nothing is left.
void check_stop_drains(example const& one, std::string const& name)
{
    held_request held{one.address()};
    auto stop = std::async(std::launch::async, [&] { return one.systemctl("stop"); });
    BOOST_TEST(wait_until([&] { return connection{one.address()}.state() != result::answered; }));
    BOOST_TEST(one.show("ActiveState") == "deactivating");
    BOOST_TEST(one.processes().size() == 1U);
    BOOST_TEST(!held.finish().text.empty());
    BOOST_TEST(stop.get().ok());
    one.check_stopped();
    auto const left = one.manager().run("find /run /tmp /var/tmp -xdev -name '*" + name + "*' -not -path '/run/systemd/*'");
    BOOST_TEST(left.output == "");
}

void check_life_of(example const& one, std::string const& name)
{
    one.check_verified();
    one.start();
    one.check_serves(0);
    one.check_reloads(3);
    check_is_a_child_of_the_manager(one, 4);
    one.check_no_advice();
    check_stop_drains(one, name);
    one.check_nothing_was_said();
}

void check_killed_one_is_restarted(example const& one)
{
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    auto const pid = one.check_serves(1);
    BOOST_TEST(one.systemctl("kill --kill-whom=main --signal=KILL").ok());
    BOOST_TEST(wait_until([&] { return one.show("NRestarts") == "1" && one.show("ActiveState") == "active"; }));
    BOOST_TEST(one.check_serves(0) != pid);
    one.check_stops();
}

} // namespace

EXAMPLE_TEST(hardened, reload_by::control)
{
    check_life_of(example{"http-hardened"}, "http-hardened");
}

EXAMPLE_TEST(hardened_is_what_it_says, reload_by::control)
{
    example const one{"http-hardened"};
    one.start();
    BOOST_TEST(one.systemctl("reload").ok());
    auto const pid = one.check_serves(1);
    BOOST_TEST(status_of(pid, "NoNewPrivs") == "1");
    BOOST_TEST(status_of(pid, "Seccomp") == "2");
    BOOST_TEST(status_of(pid, "CapBnd") == "0000000000000000");
    auto const user = std::stoi(user_of(pid));
    BOOST_TEST((user >= 61184 && user <= 65519), "not a dynamic user: " << user);
    one.check_stops();
}

EXAMPLE_TEST(hardened_and_a_program_that_fails, reload_by::control)
{
    example const one{"http-hardened"};
    one.start();
    auto const pid = one.check_serves(0);
    {
        programs::replaced const broken{"/bin/false"};
        BOOST_TEST(!one.systemctl("reload").ok());
    }
    BOOST_TEST(get(one.address()).pid == pid);
    BOOST_TEST(one.show("StatusText") == "upgrade failed: exit status 1");
    BOOST_TEST(one.systemctl("reload").ok());
    one.check_serves(1);
    one.check_stops();
    one.check_nothing_was_said();
}

EXAMPLE_TEST(hardened_and_killed, reload_by::control)
{
    check_killed_one_is_restarted(example{"http-hardened"});
}

EXAMPLE_TEST(notify_reload, reload_by::signal)
{
    check_life_of(example{"http-notify-reload"}, "http-notify-reload");
}

EXAMPLE_TEST(notify_reload_and_killed, reload_by::signal)
{
    check_killed_one_is_restarted(example{"http-notify-reload"});
}

namespace {

void check_another_user(std::string const& name)
{
    example const one{name, "User=nobody\n"};
    one.start();
    BOOST_TEST(user_of(one.check_serves(0)) == "65534");
    one.check_reloads(3);
    check_is_a_child_of_the_manager(one, 4);
    check_stop_drains(one, name);
    one.check_nothing_was_said();
}

} // namespace

EXAMPLE_TEST(notify_reload_of_another_user, reload_by::signal)
{
    check_another_user("http-notify-reload");
}

EXAMPLE_TEST(notify_of_another_user, reload_by::control)
{
    check_another_user("http-notify");
}

// The last: nothing outlives the manager, not even what one call has not stopped.
EXAMPLE_TEST(end_of_the_manager, reload_by::control)
{
    example const one{"http-notify"};
    one.start();
    auto const group = one.manager().group();
    BOOST_TEST(std::filesystem::exists(group));
    BOOST_TEST(one.manager().end());
    BOOST_TEST(!std::filesystem::exists(group));
    BOOST_TEST(get(one.address()).text.empty());
}
