// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "client.hpp"
#include "folder.hpp"
#include "manager.hpp"
#include "process.hpp"
#include "prober.hpp"
#include "wait.hpp"

#include <boost/test/results_collector.hpp>
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace restart {

/// One of the eight that host.cpp is built as.
struct assembly
{
    std::string io, notify, transport;

    [[nodiscard]] std::string name() const { return io + "_" + notify + "_" + transport; }
    [[nodiscard]] bool is_sync() const { return io == "sync"; }
    [[nodiscard]] bool has_manager() const { return notify == "systemd"; }

    /// The program; the directory is the test's one argument.
    [[nodiscard]] std::string path() const
    {
        auto const& suite = boost::unit_test::framework::master_test_suite();
        BOOST_REQUIRE_MESSAGE(suite.argc >= 2, "usage: " << suite.argv[0] << " -- DIRECTORY-OF-HOSTS");
        return std::filesystem::absolute(std::string{suite.argv[1]} + "/host_" + name()).string();
    }
    [[nodiscard]] assembly with_other_transport() const
    {
        return {io, notify, transport == "socketpair" ? "named_pipe" : "socketpair"};
    }
};

/// Whether the hosts are those with launch::spawner.
[[nodiscard]] inline bool is_spawner()
{
    char const* const launch = std::getenv("ECDYSIS_TEST_LAUNCH");
    return launch != nullptr && launch == std::string_view{"spawner"};
}

/// Whether a child has its parent's filter: launch::direct in a sandbox.
[[nodiscard]] inline bool inherits_filter()
{
    return std::getenv("ECDYSIS_TEST_SANDBOX") != nullptr && !is_spawner();
}

/// One line of the log that all generations of a service write.
struct step
{
    unsigned generation = 0;
    ::pid_t pid = 0;
    std::string kind, phase, text;
};

[[nodiscard]] inline std::vector<step> read_steps(std::string const& path)
{
    std::vector<step> result;
    std::ifstream file{path};
    for (std::string line; std::getline(file, line);) {
        std::istringstream words{line};
        step one;
        words >> one.generation >> one.pid >> one.kind >> one.phase >> std::ws;
        std::getline(words, one.text);
        result.push_back(std::move(one));
    }
    return result;
}

/// Who asks a service all the time, from its start to its stop.
struct probing
{
    enum class expectation {
        nobody,     ///< asks
        no_failure, ///< every request is answered
        no_refusal, ///< some may fail with a process that is killed, but none is refused
    };
    expectation expected = expectation::nobody;
    std::size_t fresh = 1, kept = 1; ///< see prober
};
inline constexpr probing answers_all{.expected = probing::expectation::no_failure};
inline constexpr probing refuses_none{.expected = probing::expectation::no_refusal};

/// How a service is to be started. The defaults are a whole one.
struct wish
{
    std::vector<std::string> listens{"127.0.0.1:0"};
    std::vector<std::string> arguments{};   ///< more of them, or later ones that replace defaults
    std::string behave{};                   ///< of the first generation
    std::vector<std::string> environment{}; ///< more of it
    std::string argv0{};                    ///< empty: its absolute path
    std::string directory{};                ///< to start in; empty: its own
    probing probed{};                       ///< on its first listener
    std::string script{};                   ///< what runs instead of the first generation's program, see run_next_script()
    bool manager_reads = true;              ///< false: its queue is full, until manager().stand_still(false)
    bool awaited = true;                    ///< until it serves; false: it may stand still on the way, see expect_generation()
};

/// What must be as before after an upgrade that failed.
struct footprint
{
    unsigned generation = 0;
    ::pid_t pid = 0;
    std::vector<std::string> descriptors{};
};

/// host.cpp, run in a directory of its own, with all its generations. It is started through a symlink, `program()`, that
/// can be pointed elsewhere. Nothing outlives it.
class service
{
public:
    explicit service(assembly what, wish how = {}) : built_{std::move(what)}
    {
        static_cast<void>(family::instance());
        char pattern[] = "/tmp/ecdysis-restart-XXXXXX";
        BOOST_REQUIRE(::mkdtemp(pattern) != nullptr);
        directory_ = pattern;
        std::filesystem::permissions(directory_, std::filesystem::perms::all); // it may change its user
        std::filesystem::create_directory(temporary());
        std::filesystem::permissions(temporary(), std::filesystem::perms::all);
        BOOST_REQUIRE_MESSAGE(std::filesystem::exists(built_.path()), "there is no " << built_.path());
        run_next(built_.path());
        behave(how.behave);
        if (built_.has_manager()) {
            manager_ = std::make_unique<restart::manager>(path("notify"));
            if (!how.manager_reads)
                manager_->stand_still(true);
        }
        if (!how.script.empty())
            run_next_script(how.script);
        start(how);
        now_ = {0, first_};
        if (!how.awaited)
            return;
        auto const is_up = [this] { return family::instance().ended(first_) || !steps("serving").empty(); };
        BOOST_REQUIRE_MESSAGE(wait_until(is_up) && !family::instance().ended(first_), "the service did not start");
        probed_ = how.probed;
        if (probed_.expected != probing::expectation::nobody)
            prober_.emplace(address(), SOCK_STREAM, probed_.fresh, probed_.kept);
    }
    service(service const&) = delete;
    service& operator=(service const&) = delete;

    ~service()
    {
        using namespace boost::unit_test;
        if (!results_collector.results(framework::current_test_unit().p_id).passed())
            BOOST_TEST_MESSAGE("---- the log:\n" << read("log") << "---- what it wrote:\n" << read("output") << "----");
        family::instance().kill_all();
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }

    // ---- where things are

    [[nodiscard]] assembly const& built() const noexcept { return built_; }
    [[nodiscard]] std::string path(std::string const& name) const { return directory_ + "/" + name; }
    [[nodiscard]] std::string temporary() const { return path("tmp"); } ///< its TMPDIR
    [[nodiscard]] std::string program() const { return path("host"); }
    [[nodiscard]] restart::manager& manager() { return *manager_; } ///< of an assembly that has one

    /// The text of one of its files; empty if there is none.
    [[nodiscard]] std::string read(std::string const& name) const
    {
        std::ifstream file{path(name)};
        return {std::istreambuf_iterator<char>{file}, {}};
    }
    void write(std::string const& name, std::string const& text) const { std::ofstream{path(name)} << text; }

    // ---- the next generation

    /// What it does wrong: `POINT ACTION [ARGUMENT]` lines, see host_settings.hpp. Each generation reads it when it starts.
    void behave(std::string const& lines) const { write("behave", lines + "\n"); }
    /// Its program, by the symlink.
    void run_next(std::string const& target) const
    {
        std::filesystem::remove(path("host.new"));
        std::filesystem::create_symlink(target, path("host.new"));
        std::filesystem::rename(path("host.new"), program());
    }
    /// A shell script; $HOST is the real program. Not for dash: it leaks its own script to what it executes.
    void run_next_script(std::string const& text, ::mode_t mode = 0755) const
    {
        auto const name = path("script" + std::to_string(++scripts_));
        std::ofstream{name} << "#!/bin/bash\nHOST=" << built_.path() << '\n' << text << '\n';
        ::chmod(name.c_str(), mode);
        run_next(name);
    }
    /// The same program where any user may execute it.
    void run_next_for_anybody() const
    {
        std::filesystem::copy_file(built_.path(), path("copy"));
        run_next(path("copy"));
    }
    void run_next_well() const
    {
        behave("");
        run_next(built_.path());
    }

    // ---- the log

    [[nodiscard]] std::vector<step> steps() const { return read_steps(path("log")); }
    [[nodiscard]] std::vector<step> steps(std::string const& kind) const
    {
        auto result = steps();
        std::erase_if(result, [&](auto const& one) { return one.kind != kind; });
        return result;
    }
    /// The `count`th step of that kind (of anybody), when it has come.
    step wait_for(std::string const& kind, std::size_t count = 1) const
    {
        std::vector<step> found;
        BOOST_REQUIRE_MESSAGE(wait_until([&] { return (found = steps(kind)).size() >= count; }),
                              "no step \"" << kind << "\" number " << count);
        return found[count - 1];
    }

    // ---- what it answers

    [[nodiscard]] ecdysis::address address(std::size_t index = 0) const
    {
        auto const text = steps("listening").at(index).text;
        return ecdysis::address{text.substr(text.find(' ') + 1)};
    }

    /// A new connection's answer to one line.
    [[nodiscard]] reply ask(std::string const& line = "who", std::size_t index = 0) const
    {
        connection one{address(index)};
        auto const got = one.ask(line);
        BOOST_REQUIRE_MESSAGE(got.has_value(), "the service does not answer, result " << static_cast<int>(one.state()));
        return *got;
    }

    /// A client of a control socket, that has connected.
    [[nodiscard]] connection at_control(std::string const& name = "control") const
    {
        connection one{ecdysis::address{path(name)}};
        BOOST_REQUIRE_MESSAGE(one.state() == result::answered, "cannot connect to " << name);
        return one;
    }
    /// Asks a control socket, and gives its line.
    [[nodiscard]] std::string ask_control(std::string const& name = "control") const
    {
        auto one = at_control(name);
        auto const line = one.receive();
        BOOST_REQUIRE_MESSAGE(line.has_value(), "no answer from " << name);
        BOOST_TEST(!one.receive().has_value()); // one line, then the end
        return *line;
    }

    /// An upgrade by the control socket, and its line. If that is ok, the child is now who serves.
    std::string upgrade() { return heard(ask_control()); }
    /// The same for a line that was received otherwise.
    std::string heard(std::string const& line)
    {
        if (line.starts_with("ok generation=")) {
            std::istringstream{line.substr(line.find('=') + 1)} >> now_.generation;
            std::istringstream{line.substr(line.find("pid=") + 4)} >> now_.pid;
        }
        return line;
    }
    /// Waits until that generation serves and has the service: its parent said so, or has ended. It is now who does.
    void expect_generation(unsigned number)
    {
        auto const is_its_own = [&](::pid_t pid) {
            auto const words = " pid " + std::to_string(pid) + " ";
            auto const given = steps("upgraded");
            return number == 0 || family::instance().ended(now_.pid) || !look_at(now_.pid) ||
                   std::ranges::any_of(given, [&](auto const& one) { return one.text.find(words) != one.text.npos; });
        };
        auto const arrived = [&] {
            for (auto const& one : steps("serving"))
                if (one.generation == number && is_its_own(one.pid)) {
                    now_ = {number, one.pid};
                    return true;
                }
            return false;
        };
        BOOST_REQUIRE_MESSAGE(wait_until(arrived), "generation " << number << " does not serve");
    }

    [[nodiscard]] unsigned generation() const noexcept { return now_.generation; } ///< that serves
    [[nodiscard]] ::pid_t pid() const noexcept { return now_.pid; }
    [[nodiscard]] ::pid_t first() const noexcept { return first_; }
    void signal(int number) const { ::kill(pid(), number); }

    /// The child of the upgrade that runs, when it has been launched. It is told by name: a worker that the host forks
    /// is a child of its process as well.
    [[nodiscard]] ::pid_t child() const
    {
        ::pid_t found = 0;
        auto const launched = [&] {
            auto const all = steps("launched");
            if (all.empty() || all.back().pid != pid())
                return false;
            auto const& text = all.back().text;
            std::istringstream{text.substr(text.rfind(' ') + 1)} >> found;
            auto const child = look_at(found);
            return child && child->parent == pid();
        };
        BOOST_REQUIRE_MESSAGE(wait_until(launched), "there is no child");
        return found;
    }

    // ---- how it is

    [[nodiscard]] footprint look() const { return {generation(), pid(), descriptors(pid())}; }

    /// The same when the upgrade before and its clients have gone: nothing changes any more, and all threads wait at the same
    /// time, for one that has an end to see may not have the processor.
    [[nodiscard]] footprint settled()
    {
        auto const quiet = hold_prober();
        auto found = look();
        int same = 0;
        BOOST_TEST(wait_until([&] {
            bool const all_wait = std::ranges::all_of(threads(pid()), [](auto const& one) { return one.state == 'S'; });
            auto now = look();
            bool const no_child = std::ranges::count(now.descriptors, "anon_inode:[pidfd]") == (is_spawner() ? 1 : 0);
            same = all_wait && no_child && now.descriptors == found.descriptors ? same + 1 : 0;
            found = std::move(now);
            return same >= 8;
        }));
        return found;
    }

    /// An upgrade failed, and it shows nowhere: the same process answers, with the same descriptors, and nothing is left.
    void check_unharmed(footprint const& before)
    {
        auto const quiet = hold_prober();
        check_answers(before.generation, before.pid);
        check_descriptors(before.pid, before.descriptors);
        check_nothing_left();
        BOOST_TEST(read("pid") == std::to_string(before.pid) + "\n");
    }

    /// An upgrade succeeded: the parent has ended well, and the child has what the parent had before.
    void check_succeeded(footprint const& before)
    {
        BOOST_TEST(pid() != before.pid);
        check_ended_well(before.pid);
        auto const quiet = hold_prober();
        check_answers(generation(), pid());
        check_descriptors(pid(), before.descriptors);
        check_nothing_left();
        BOOST_TEST(read("pid") == std::to_string(pid()) + "\n");
    }

    /// That process answers on everything that it has said to listen on, and accepts from.
    void check_answers(unsigned generation, ::pid_t from) const
    {
        std::size_t asked = 0;
        for (auto const& one : steps("listening")) {
            auto const space = one.text.find(' ');
            auto const kind = one.text.substr(0, space);
            if (one.pid != from || (kind != "tcp" && kind != "shards" && kind != "unix" && kind != "seqpacket"))
                continue;
            ++asked;
            connection client{ecdysis::address{one.text.substr(space + 1)},
                              kind == "seqpacket" ? SOCK_SEQPACKET : SOCK_STREAM};
            auto const answer = client.ask();
            BOOST_REQUIRE_MESSAGE(answer.has_value(),
                                  "no answer on " << one.text << ", result " << static_cast<int>(client.state()));
            BOOST_TEST(answer->generation == generation, one.text);
            BOOST_TEST(answer->pid == from, one.text);
        }
        BOOST_TEST(asked != 0U);
    }

    /// No descriptor too many or too few (closing takes a moment, here and there).
    static void check_descriptors(::pid_t pid, std::vector<std::string> const& expected)
    {
        std::vector<std::string> found;
        BOOST_TEST(wait_until([&] { return (found = descriptors(pid)) == expected; }, std::chrono::seconds{20}));
        std::vector<std::string> difference;
        std::ranges::set_difference(found, expected, std::back_inserter(difference));
        for (auto const& one : difference)
            BOOST_ERROR("open, and was not: " << one);
        difference.clear();
        std::ranges::set_difference(expected, found, std::back_inserter(difference));
        for (auto const& one : difference)
            BOOST_ERROR("was open, and is not: " << one);
    }

    /// No zombie or other child, no FIFO, file or directory.
    void check_nothing_left() const
    {
        std::vector<process> left;
        BOOST_TEST(wait_until([&] { return (left = children(pid())).empty(); }, std::chrono::seconds{20}));
        for (auto const& one : left)
            BOOST_ERROR("the service has a child " << one.name << ", state " << one.state);
        BOOST_TEST(std::filesystem::is_empty(temporary()));
    }

    /// With status 0, as far as that can be known: a generation that drains reaps a child that ends meanwhile.
    static void check_ended_well(::pid_t pid)
    {
        std::optional<int> status;
        BOOST_TEST(wait_until([&] { return (status = family::instance().ended(pid)).has_value() || !look_at(pid); }),
                   "pid " << pid << " still runs");
        if (!status) // it may have become ours in between
            status = family::instance().ended(pid);
        BOOST_TEST(status.value_or(0) == 0, "pid " << pid << " ended with wait status " << status.value_or(0));
    }

    /// No request of its prober has failed.
    void end_prober()
    {
        if (!prober_)
            return;
        bool const all = probed_.expected == probing::expectation::no_failure;
        BOOST_TEST((all ? prober_->go_on() : prober_->is_answered_again()));
        auto const counts = prober_->stop();
        prober_.reset();
        BOOST_TEST((all ? counts.failed() : counts.refused + counts.late) == 0U, counts.text());
    }

    /// Stops it, and sees that it leaves nothing behind.
    void stop()
    {
        end_prober();
        signal(SIGTERM);
        check_ended_well(pid());
        check_gone();
    }
    void check_gone() const
    {
        BOOST_TEST(wait_until([] { return family::instance().living().empty(); }, std::chrono::seconds{20}));
        for (auto const& one : family::instance().living())
            BOOST_ERROR("left over: " << one.name << ", pid " << one.pid);
        for (auto const* name : {"control", "stop", "partial", "pid"})
            BOOST_TEST(!std::filesystem::exists(path(name)), name << " is left over");
        BOOST_TEST(std::filesystem::is_empty(temporary()));
        BOOST_TEST(read("output") == ""); // it never writes to stdout or stderr
    }

private:
    /// Where its descriptors are counted.
    [[nodiscard]] std::unique_ptr<prober::held> hold_prober()
    {
        return prober_ ? std::make_unique<prober::held>(*prober_) : nullptr;
    }

    void start(wish const& how)
    {
        std::vector<std::string> arguments{how.argv0.empty() ? program() : how.argv0,
                                           "--log", path("log"),
                                           "--behave", path("behave"),
                                           "--control", path("control"),
                                           "--control-stop", path("stop"),
                                           "--control-partial", path("partial"),
                                           "--pid-file", path("pid"),
                                           "--upgrade-on", std::to_string(SIGHUP),
                                           "--stop-on", std::to_string(SIGTERM),
                                           "--partial-stop-on", std::to_string(SIGUSR1),
                                           "--idle-grace", "10000"};
        for (auto const& one : how.listens)
            arguments.insert(arguments.end(), {"--listen", one});
        arguments.insert(arguments.end(), how.arguments.begin(), how.arguments.end());

        std::vector<std::string> environment;
        for (char** one = ::environ; *one != nullptr; ++one)
            if (std::string_view const text{*one}; !text.starts_with("TMPDIR=") && !text.starts_with("NOTIFY_SOCKET="))
                environment.emplace_back(text);
        environment.push_back("TMPDIR=" + temporary());
        environment.insert(environment.end(), how.environment.begin(), how.environment.end()); // of two, the first counts
        if (manager_)
            environment.push_back("NOTIFY_SOCKET=" + path("notify"));

        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 1, path("output").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
        ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
        ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        auto const where = how.directory.empty() ? directory_ : how.directory;
        ::posix_spawn_file_actions_addchdir_np(&actions, where.c_str());
        int const failure = ::posix_spawn(&first_, program().c_str(), &actions, nullptr, pointers(arguments).data(),
                                          pointers(environment).data());
        ::posix_spawn_file_actions_destroy(&actions);
        BOOST_REQUIRE_EQUAL(failure, 0);
    }

    static std::vector<char*> pointers(std::vector<std::string>& strings)
    {
        std::vector<char*> result;
        for (auto& one : strings)
            result.push_back(one.data());
        result.push_back(nullptr);
        return result;
    }

    assembly built_;
    std::string directory_;
    std::unique_ptr<restart::manager> manager_;
    ::pid_t first_ = -1;
    footprint now_;
    mutable int scripts_ = 0;
    probing probed_;
    std::optional<prober> prober_;
};

} // namespace restart
