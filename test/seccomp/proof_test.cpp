// SPDX-License-Identifier: BSL-1.0
// Under a filter that kills: generations without end, and what either launch policy makes of a program that calls more than
// the one before it.
#define BOOST_TEST_MODULE seccomp_proof
#include "../restart/harness.hpp"

using namespace restart;

namespace {

bool begins(std::string const& line, std::string const& start)
{
    return line.starts_with(start);
}

/// What /proc says of a process's sandbox.
struct confinement
{
    int mode = -1, filters = -1, no_new_privileges = -1;

    explicit confinement(::pid_t pid)
    {
        std::ifstream file{"/proc/" + std::to_string(pid) + "/status"};
        for (std::string name; file >> name; file.ignore(4096, '\n'))
            if (name == "Seccomp:")
                file >> mode;
            else if (name == "Seccomp_filters:")
                file >> filters;
            else if (name == "NoNewPrivs:")
                file >> no_new_privileges;
    }
    friend bool operator==(confinement const&, confinement const&) = default;
    friend std::ostream& operator<<(std::ostream& to, confinement const& one)
    {
        return to << "mode " << one.mode << ", " << one.filters << " filters, no_new_privs " << one.no_new_privileges;
    }
};

std::vector<process> living_helpers()
{
    auto result = family::instance().living();
    std::erase_if(result, [](auto const& one) { return !is_helper(one); });
    return result;
}

/// One helper with launch::spawner, once that of the generation before has ended, and none with launch::direct.
void check_helpers()
{
    std::size_t const expected = is_spawner() ? 1 : 0;
    std::size_t found = 0;
    BOOST_TEST(wait_until([&] { return (found = living_helpers().size()) == expected; }, std::chrono::seconds{20}),
               found << " helpers");
}

/// A file that lets the next generations call more, see host_sandbox.hpp.
class permission
{
public:
    void give() const { std::ofstream{file()} << '\n'; }
    void take_back() const { std::filesystem::remove(file()); }
    [[nodiscard]] std::vector<std::string> environment() const { return {"ECDYSIS_TEST_ALLOW=" + file()}; }

private:
    [[nodiscard]] std::string file() const { return own_ / "allow"; }
    folder own_;
};

std::string const killed_by_the_filter = "killed by signal 31 (Bad system call: a seccomp filter does not allow what it called)";

boost::test_tools::assertion_result spawns(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{is_spawner()};
    result.message() << "launch::direct has no helper";
    return result;
}
boost::test_tools::assertion_result hands_its_filter_on(boost::unit_test::test_unit_id)
{
    boost::test_tools::assertion_result result{inherits_filter()};
    result.message() << "launch::spawner does not hand the filter on";
    return result;
}

} // namespace

RESTART_TEST(five_hundred_upgrades)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    confinement const at_first{before.pid};
    BOOST_TEST(at_first.mode == 2);
    BOOST_TEST(at_first.filters == confinement{::getpid()}.filters + 1); // we may be in a sandbox, too
    BOOST_TEST(at_first.no_new_privileges == 1);
    check_helpers();
    for (unsigned i = 1; i <= 500; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST_REQUIRE(begins(line, "ok generation=" + std::to_string(i) + " "), line);
        BOOST_TEST_REQUIRE(confinement{one.pid()} == at_first);
        if (i % 100 == 0)
            check_helpers();
    }
    one.check_succeeded(before);
    check_helpers();
    one.stop();
    BOOST_TEST(one.steps("warning").empty());
    BOOST_TEST(one.steps("error").empty());
}

RESTART_TEST(what_the_filter_does_not_allow_kills)
{
    service one{built, {.behave = "more sysinfo"}};
    connection client{one.address()};
    BOOST_TEST(client.ask().has_value());
    BOOST_TEST(!client.ask("more").has_value());
    std::optional<int> status;
    BOOST_TEST_REQUIRE(wait_until([&] { return (status = family::instance().ended(one.first())).has_value(); }));
    BOOST_TEST_REQUIRE(WIFSIGNALED(*status));
    BOOST_TEST(WTERMSIG(*status) == SIGSYS);
}

RESTART_TEST_(a_new_program_calls_more, spawns)
{
    permission const more;
    service one{built, {.environment = more.environment(), .probed = answers_all}};
    auto const before = one.settled();
    one.behave("claimed sysinfo\nmore sysinfo");
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"" + killed_by_the_filter + "\"");
    one.check_unharmed(before);
    more.give();
    BOOST_TEST(begins(one.upgrade(), "ok generation=1 "));
    one.check_succeeded(before);
    BOOST_TEST(one.ask("more").generation == 1U);
    // And one that allows less again.
    auto const second = one.settled();
    more.take_back();
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"" + killed_by_the_filter + "\"");
    one.check_unharmed(second);
    BOOST_TEST(one.ask("more").generation == 1U);
    one.stop();
}

RESTART_TEST_(a_new_program_has_the_old_filter, hands_its_filter_on)
{
    permission const more;
    service one{built, {.environment = more.environment(), .probed = answers_all}};
    auto const before = one.settled();
    more.give();
    one.behave("claimed sysinfo");
    BOOST_TEST(one.upgrade() == "failed phase=starting reason=\"" + killed_by_the_filter + "\"");
    one.check_unharmed(before);
    one.run_next_well();
    BOOST_TEST(begins(one.upgrade(), "ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
    // One that begins with it has it.
    service other{built, {.behave = "more sysinfo", .environment = more.environment()}};
    BOOST_TEST(other.ask("more").generation == 0U);
    other.stop();
}

namespace {

/// The helper of the only generation that runs.
::pid_t the_helper()
{
    auto const helpers = living_helpers();
    BOOST_TEST_REQUIRE(helpers.size() == 1U);
    return helpers.front().pid;
}

void kill_helper(::pid_t pid)
{
    ::kill(pid, SIGKILL);
    BOOST_TEST_REQUIRE(wait_until([&] {
        auto const left = look_at(pid);
        return !left || left->state == 'Z';
    }));
}

} // namespace

RESTART_TEST_(the_helper_is_killed, spawns)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    auto const helper = the_helper();
    kill_helper(helper);
    for (int i = 0; i != 2; ++i) {
        auto const line = one.upgrade();
        BOOST_TEST(begins(line, "failed phase=launching reason=\""), line);
        BOOST_TEST(line.find(ecdysis::make_error_code(ecdysis::errc::spawner_gone).message()) != line.npos, line);
    }
    one.check_answers(before.generation, before.pid);
    one.check_nothing_left();
    BOOST_TEST(!look_at(helper).has_value());
    one.stop();
}

RESTART_TEST_(a_helper_that_hangs_holds_nobody, spawns)
{
    service one{built, {.arguments = {"--threads", "1"}, .probed = answers_all}};
    auto const before = one.settled();
    auto const helper = the_helper();
    ::kill(helper, SIGSTOP);
    auto asker = one.at_control();
    one.wait_for("upgrade_requested");
    for (int i = 0; i != 20; ++i)
        BOOST_TEST(one.ask().pid == before.pid);
    BOOST_TEST(begins(one.ask_control(), "busy"));
    ::kill(helper, SIGCONT);
    BOOST_TEST(begins(one.heard(asker.receive().value_or("no answer")), "ok generation=1 "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_(a_stop_while_the_helper_hangs, spawns)
{
    service one{built, {.arguments = {"--kill-grace", "200"}}};
    auto const helper = the_helper();
    ::kill(helper, SIGSTOP);
    auto asker = one.at_control();
    one.wait_for("upgrade_requested");
    one.signal(SIGTERM);
    service::check_ended_well(one.pid());
    BOOST_TEST(asker.receive().value_or("no answer") == "failed phase=launching reason=\"stopped\"");
    ::kill(helper, SIGCONT); // it finds out, and starts nobody
    one.check_gone();
}

// Nobody can end a child that hangs then, for the filter allows the service no signals: it is left to itself.
RESTART_TEST_(the_helper_is_killed_while_a_child_hangs, spawns)
{
    service one{built, {.arguments = {"--ready-timeout", "1500", "--kill-grace", "200"}, .probed = answers_all}};
    auto const before = one.settled();
    auto const helper = the_helper();
    one.behave("claimed hang");
    auto asker = one.at_control();
    auto const child = one.child();
    kill_helper(helper);
    BOOST_TEST(asker.receive().value_or("no answer") == "failed phase=starting reason=\"not ready within 1500 ms\"");
    auto const line = one.upgrade(); // not busy
    BOOST_TEST(line.find(ecdysis::make_error_code(ecdysis::errc::spawner_gone).message()) != line.npos, line);
    one.check_answers(before.generation, before.pid);
    BOOST_TEST(look_at(child).has_value());
    ::kill(child, SIGKILL);
    BOOST_TEST(wait_until([&] { return !look_at(child).has_value(); })); // reaped all the same
    one.check_nothing_left();
    one.stop();
}
