// SPDX-License-Identifier: BSL-1.0
// Service managers that do not read, or are not there, and one that is our parent process.
#define BOOST_TEST_MODULE restart_manager
#include "harness.hpp"

using namespace restart;

namespace {

/// What it heard with that sign, in order; `READY=1` alone does not tell who serves.
std::vector<std::string> heard(service& one)
{
    std::vector<std::string> result;
    for (auto const& each : one.manager().messages())
        result.push_back(each.text.substr(0, each.text.find('\n')) +
                         (each.text.find("STATUS=") != std::string::npos ? " " + each.text.substr(each.text.find("STATUS=")) : ""));
    return result;
}

/// The places of those words in what it heard: each once, and in this order.
void check_order(service& one, std::vector<std::string> const& expected)
{
    std::vector<std::string> found;
    auto const complete = [&] {
        found = heard(one);
        std::size_t next = 0;
        for (auto const& each : found)
            if (next != expected.size() && each.find(expected[next]) != each.npos)
                ++next;
        return next == expected.size();
    };
    BOOST_TEST(wait_until(complete, std::chrono::seconds{10}));
    if (!complete()) {
        for (auto const& each : expected)
            BOOST_TEST_MESSAGE("expected " << each);
        for (auto const& each : found)
            BOOST_TEST_MESSAGE("heard    " << each);
    }
}

::pid_t launched(service const& one)
{
    auto const text = one.steps("launched").back().text;
    return std::stoi(text.substr(text.rfind(' ') + 1));
}

} // namespace

// ---- one that does not read

RESTART_TEST(a_manager_that_does_not_read_at_the_start)
{
    if (!built.has_manager())
        return;
    service one{built, {.probed = answers_all, .manager_reads = false}};
    auto const before = one.settled();
    BOOST_TEST(one.ask().pid == before.pid);
    one.manager().stand_still(false);
    check_order(one, {"EXTEND_TIMEOUT_USEC=", "READY=1 STATUS=generation 0 serving"});
    BOOST_TEST(one.steps("warning").empty());
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

// Without word of the child the manager would take the end of the parent for the service's.
RESTART_TEST(a_manager_that_does_not_read_fails_an_upgrade)
{
    if (!built.has_manager())
        return;
    service one{built, {.arguments = {"--barrier-timeout", "300"}, .probed = answers_all, .manager_reads = false}};
    auto const before = one.settled();
    auto const line = one.upgrade();
    BOOST_TEST(line == "failed phase=committing reason=\"the service manager could not be told anything within 300 ms\"", line);
    BOOST_TEST(one.steps("committed").empty());
    one.check_unharmed(before);
    one.manager().stand_still(false);
    check_order(one, {"READY=1 STATUS=generation 0 serving",
                      "READY=1 STATUS=upgrade failed: the service manager could not be told anything"});
    for (auto const& each : one.manager().messages())
        BOOST_TEST(each.text.find("MAINPID=") == each.text.npos, each.text);
    BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

// One that reads again in time is told first, and the child has no commit before that.
RESTART_TEST(a_manager_that_reads_during_an_upgrade)
{
    if (!built.has_manager())
        return;
    service one{built, {.arguments = {"--barrier-timeout", "60000"}, .probed = answers_all, .manager_reads = false}};
    auto const before = one.settled();
    auto asker = one.at_control();
    one.wait_for("child_ready");
    BOOST_TEST(one.ask().pid == before.pid);
    BOOST_TEST(one.steps("committed").empty());
    one.manager().stand_still(false);
    BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
    check_order(one, {"READY=1 STATUS=generation 0 serving", "STATUS=the new generation is ready", "BARRIER=1",
                      "MAINPID=" + std::to_string(one.pid()) + " STATUS=generation 1 serving", "BARRIER=1"});
    one.check_succeeded(before);
    one.stop();
}

// The child serves meanwhile, and is announced when it does.
RESTART_TEST(a_manager_that_does_not_read_at_the_announcement)
{
    if (!built.has_manager())
        return;
    service one{built, {.arguments = {"--barrier-timeout", "60000"}, .probed = answers_all}};
    auto const before = one.settled();
    one.behave("may-accept until " + one.path("go"));
    auto asker = one.at_control();
    one.wait_for("committed");
    BOOST_REQUIRE(wait_until([&] { return std::filesystem::exists(one.path("go.awaited")); }));
    one.manager().stand_still(true);
    one.write("go", "");
    one.wait_for("child_serves");
    BOOST_TEST(one.ask().generation == 1U);
    BOOST_TEST(one.steps("upgraded").empty());
    BOOST_TEST(one.read("pid") == std::to_string(before.pid) + "\n");
    one.manager().stand_still(false);
    BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
    one.behave("");
    one.check_succeeded(before);
    check_order(one, {"STATUS=the new generation is ready", "BARRIER=1",
                      "MAINPID=" + std::to_string(one.pid()) + " STATUS=generation 1 serving", "BARRIER=1"});
    BOOST_TEST(one.manager().heard("READY=1", before.pid));
    one.stop();
}

RESTART_TEST(a_stop_past_a_manager_that_does_not_read)
{
    if (!built.has_manager())
        return;
    service one{built, {.manager_reads = false}};
    one.stop();
}

// ---- none that is there

namespace {

/// Values of NOTIFY_SOCKET that lead nowhere, and what is said of each.
struct nowhere
{
    folder place{};
    ecdysis::os::owned_fd closed{};

    /// Where nobody reads, a file, a directory and nothing at all: each is found out when something is sent.
    std::vector<std::pair<std::string, std::string>> places{
        {place / "none", "No such file or directory"},
        {place / "closed", "Connection refused"},
        {place / "file", "Connection refused"},
        {place / "directory", "Connection refused"},
        {"@ecdysis-nobody-" + std::to_string(::getpid()), "Connection refused"},
    };
    /// What cannot be an address is known at once.
    std::vector<std::pair<std::string, std::string>> values{
        {"/tmp/" + std::string(200, 'x'), "File name too long"},
        {"vsock:2:1234", "Address family not supported"},
        {"relative/notify", "Address family not supported"},
        {"/", "the address cannot be read"},
    };

    nowhere()
    {
        {
            ecdysis::address const where{place / "closed"};
            ecdysis::os::owned_fd const bound{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
            BOOST_REQUIRE(::bind(bound.get(), where.data(), where.size()) == 0);
        }
        std::ofstream{place / "file"};
        std::filesystem::create_directory(place / "directory");
    }
};

} // namespace

// It serves, says so to whoever reads its warnings, and does not upgrade where it should tell a manager of that.
RESTART_TEST(a_manager_that_is_not_there)
{
    if (!built.has_manager())
        return;
    nowhere const names;
    for (bool const required : {true, false})
        for (auto const& [where, why] : names.places)
            BOOST_TEST_CONTEXT(where << ", " << required)
            {
                wish how{.environment = {"NOTIFY_SOCKET=" + where}};
                if (!required)
                    how.arguments = {"--manager-optional"};
                service one{built, how};
                BOOST_TEST(one.ask().pid == one.pid());
                BOOST_REQUIRE(!one.steps("warning").empty());
                auto const warning = one.steps("warning").front().text;
                BOOST_TEST(warning == "tell the service manager: " + why, warning);
                auto const line = one.upgrade();
                BOOST_TEST(line == "failed phase=committing reason=\"tell the service manager: " + why + "\"", line);
                BOOST_TEST(one.ask().pid == one.pid());
                one.signal(SIGTERM);
                service::check_ended_well(one.pid());
            }
}

namespace {

/// One run of a host that cannot serve: the sentence that its observer hears, or that it ends with.
std::string ends_with_error(assembly const& built, std::string const& notify_socket)
{
    folder const place;
    auto program = built.path();
    std::vector<std::string> words{program, "--log", place / "log", "--listen", "127.0.0.1:0"};
    auto variable = "NOTIFY_SOCKET=" + notify_socket;
    std::vector<char*> arguments, environment{variable.data(), nullptr};
    for (auto& one : words)
        arguments.push_back(one.data());
    arguments.push_back(nullptr);
    static_cast<void>(family::instance());
    ::pid_t pid = -1;
    BOOST_REQUIRE(::posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments.data(), environment.data()) == 0);
    std::optional<int> status;
    bool const ended = wait_until([&] { return (status = family::instance().ended(pid)).has_value(); }, std::chrono::seconds{10});
    if (!ended)
        ::kill(pid, SIGKILL);
    BOOST_TEST(ended);
    BOOST_TEST(WIFEXITED(status.value_or(-1)));
    BOOST_TEST(WEXITSTATUS(status.value_or(0)) == 1);
    std::string said;
    for (auto const& one : read_steps(place / "log"))
        if (one.kind == "warning" || (one.kind == "error" && said.empty()))
            said = one.text;
    return said;
}

} // namespace

RESTART_TEST(a_manager_that_cannot_be)
{
    if (!built.has_manager())
        return;
    nowhere const names;
    for (auto const& [value, why] : names.values)
        BOOST_TEST_CONTEXT(value)
        {
            auto const said = ends_with_error(built, value);
            BOOST_TEST(said.find(why) != said.npos, said);
            BOOST_TEST(said.starts_with("tell the service manager: "), said);
        }
}

// Where none is required there is a warning, and it serves and upgrades as without one.
RESTART_TEST(a_manager_that_cannot_be_and_need_not)
{
    if (!built.has_manager())
        return;
    nowhere const names;
    for (auto const& [value, why] : names.values)
        BOOST_TEST_CONTEXT(value)
        {
            service one{built, {.arguments = {"--manager-optional"}, .environment = {"NOTIFY_SOCKET=" + value}}};
            auto const warning = one.wait_for("warning").text;
            BOOST_TEST(warning.starts_with("nobody is told what happens: NOTIFY_SOCKET=" + value + " cannot be used: "), warning);
            BOOST_TEST(warning.find(why) != warning.npos, warning);
            BOOST_TEST(one.upgrade().starts_with("ok generation=1 "));
            BOOST_TEST(one.ask().generation == 1U);
            one.stop();
        }
}

// ---- one that is our parent process: systemd says so by SYSTEMD_EXEC_PID, and gets the child as its own

namespace {

/// Started as systemd starts a service; we are then the parent process of all generations.
wish executed()
{
    return {.probed = answers_all, .script = "SYSTEMD_EXEC_PID=$$ exec \"$HOST\" \"$@\""};
}

/// As a service manager does, which reaps its own children; the service cannot.
void reap(::pid_t pid)
{
    BOOST_TEST(wait_until([&] { return family::instance().ended(pid).has_value(); }));
}

/// The kernel tells the exit status of a process that another has reaped.
bool tells_exit_status()
{
    std::ifstream file{"/proc/sys/kernel/osrelease"};
    int major = 0, minor = 0;
    char dot = 0;
    file >> major >> dot >> minor;
    return std::pair{major, minor} >= std::pair{6, 15};
}

} // namespace

RESTART_TEST(each_child_is_a_child_of_who_started_the_first)
{
    if (!built.has_manager())
        return;
    service one{built, executed()};
    BOOST_TEST(look_at(one.pid())->parent == ::getpid());
    for (unsigned generation = 1; generation != 6; ++generation) {
        auto const before = one.pid();
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with("ok generation=" + std::to_string(generation) + " "), line);
        BOOST_TEST(look_at(one.pid())->parent == ::getpid()); // while its parent may be there still
        BOOST_TEST(children(before).empty());
        service::check_ended_well(before);
    }
    BOOST_TEST(one.steps("warning").empty());
    one.stop();
}

RESTART_TEST(a_child_of_who_started_the_first_that_fails)
{
    if (!built.has_manager())
        return;
    service one{built, executed()};
    if (one.upgrade().starts_with("ok "))
        one.wait_for("drained"); // the same from a generation that was a child itself
    auto const before = one.settled();
    auto const status = [](std::string const& text) {
        return tells_exit_status() ? text : std::string{"ended"};
    };
    for (auto const& [behaviour, phase, why] :
         {std::tuple{"begin exit 7", "handing-over", status("exit status 7")},
          std::tuple{"claimed exit 7", "starting", status("exit status 7")},
          std::tuple{"claimed kill", "starting", status("killed by signal 9")},
          std::tuple{"claimed fail no such upstream", "starting", status("exit status 3") + ": no such upstream"}})
        BOOST_TEST_CONTEXT(behaviour)
        {
            one.behave(behaviour);
            auto const count = one.steps("upgrade_failed").size();
            auto asker = one.at_control();
            one.wait_for("launched", count + 2);
            BOOST_TEST(launched(one) != before.pid);
            reap(launched(one));
            auto const line = asker.receive().value_or("no answer");
            BOOST_TEST(line.starts_with(std::string{"failed phase="} + phase + " reason=\"" + why), line);
        }
    for (auto const& each : one.steps("warning"))
        BOOST_TEST(each.pid != before.pid, each.text); // a child says why it fails
    one.behave("");
    one.check_unharmed(before);
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before);
    one.stop();
}
