// SPDX-License-Identifier: BSL-1.0
// What host.cpp is told: its arguments, where it writes what happens, and how it is to misbehave.
#pragma once

#include <ecdysis/event.hpp>
#include <ecdysis/options.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace host {

/// One --listen: [name=NAME:][stay:][v6only:]KIND:[COUNT:]ADDRESS.
struct listen
{
    std::string name; ///< that a socket unit gives it
    std::string kind;
    std::size_t count = 1;
    std::string address;
    bool stays = false; ///< on a stop
    bool v6_only = false;

    explicit listen(std::string text)
    {
        if (text.starts_with("name=")) {
            auto const end = text.find(':');
            name = text.substr(5, end - 5);
            text.erase(0, end + 1);
        }
        stays = take(text, "stay");
        v6_only = take(text, "v6only");
        for (auto const* known : {"tcp", "unix", "seqpacket", "udp", "datagram", "shards", "udp-shards", "idle"})
            if (kind.empty() && take(text, known))
                kind = known;
        if (kind.empty())
            kind = "tcp";
        if (kind == "shards" || kind == "udp-shards" || kind == "idle") {
            count = std::stoul(text);
            text.erase(0, text.find(':') + 1);
        }
        address = std::move(text);
    }

private:
    static bool take(std::string& text, std::string const& word)
    {
        if (!text.starts_with(word + ":"))
            return false;
        text.erase(0, word.size() + 1);
        return true;
    }
};

struct settings
{
    ecdysis::options options{};
    std::vector<listen> listens{};
    std::vector<std::pair<std::string, std::size_t>> offers{}; ///< name, and how many files
    std::vector<std::string> keeps{};                          ///< in the manager's store
    std::string log = "/dev/null";
    std::string behave = "/dev/null";
    std::size_t threads = 2;   ///< that run the io_context
    std::size_t acceptors = 1; ///< threads or coroutines a listener
    int backlog = SOMAXCONN;
    std::chrono::milliseconds drain{20'000};
    bool state = false;
    bool manager_required = true;
    bool store = false;
    bool watchdog = false;

    settings(int argc, char** argv)
    {
        std::vector<std::string> const arguments(argv + 1, argv + argc);
        for (std::size_t i = 0; i != arguments.size(); ++i) {
            auto const& name = arguments[i];
            if (name == "--channel")
                options.channel = true;
            else if (name == "--state")
                state = true;
            else if (name == "--manager-optional")
                manager_required = false;
            else if (name == "--store")
                store = true;
            else if (name == "--watchdog")
                watchdog = true;
            else if (i + 1 == arguments.size())
                throw std::runtime_error{"what is " + name + "?"};
            else
                set(name, arguments[++i]);
        }
    }

private:
    void set(std::string const& name, std::string const& value)
    {
        using std::chrono::milliseconds;
        auto const time = [&] { return milliseconds{std::stol(value)}; };
        if (name == "--listen")
            listens.emplace_back(value);
        else if (name == "--log")
            log = value;
        else if (name == "--behave")
            behave = value;
        else if (name == "--control")
            options.control.upgrade = value;
        else if (name == "--control-stop")
            options.control.stop = value;
        else if (name == "--control-partial")
            options.control.partial_stop = value;
        else if (name == "--pid-file")
            options.pid_file = value;
        else if (name == "--program")
            options.program = value;
        else if (name == "--upgrade-on")
            options.upgrade_on.push_back(std::stoi(value));
        else if (name == "--stop-on")
            options.stop_on.push_back(std::stoi(value));
        else if (name == "--partial-stop-on")
            options.partial_stop_on.push_back(std::stoi(value));
        else if (name == "--handoff-timeout")
            options.handoff_timeout = time();
        else if (name == "--ready-timeout")
            options.ready_timeout = time();
        else if (name == "--barrier-timeout")
            options.barrier_timeout = time();
        else if (name == "--serving-timeout")
            options.serving_timeout = time();
        else if (name == "--probation")
            options.probation = time();
        else if (name == "--drain-timeout")
            options.drain_timeout = time();
        else if (name == "--kill-grace")
            options.kill_grace = time();
        else if (name == "--signal-interval")
            options.signal_interval = time();
        else if (name == "--idle-grace")
            options.idle_grace = time();
        else if (name == "--drain")
            drain = time();
        else if (name == "--threads")
            threads = std::stoul(value);
        else if (name == "--acceptors")
            acceptors = std::stoul(value);
        else if (name == "--backlog")
            backlog = std::stoi(value);
        else if (name == "--keep")
            keeps.push_back(value);
        else if (name == "--offer") // NAME:COUNT
            offers.emplace_back(value.substr(0, value.find(':')), std::stoul(value.substr(value.find(':') + 1)));
        else
            throw std::runtime_error{"what is " + name + "?"};
    }
};

/// One line a step, `GENERATION PID KIND PHASE TEXT`, each written at once: all generations append to one file.
class journal
{
public:
    explicit journal(std::string const& path)
        : file_{::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)}
    {
        if (file_ < 0)
            throw std::runtime_error{"cannot open " + path};
    }
    journal(journal const&) = delete;
    journal& operator=(journal const&) = delete;
    ~journal() { ::close(file_); }

    void write(unsigned generation, std::string_view kind, std::string phase, std::string text) const
    {
        std::ranges::replace(phase, ' ', '-');
        std::ranges::replace(text, '\n', ' ');
        std::ostringstream line;
        line << generation << ' ' << ::getpid() << ' ' << kind << ' ' << phase << ' ' << text << '\n';
        [[maybe_unused]] auto const written = ::write(file_, line.str().data(), line.str().size());
    }

private:
    int file_;
};

/// The name of an event's type.
[[nodiscard]] inline char const* kind(ecdysis::event const& what)
{
    constexpr char const* names[] = {"inherited", "unclaimed",   "heir",     "serving", "yours", "upgrade_requested", "refused",
                                     "launched",  "handed_over", "postponed", "child_ready", "committed", "child_serves", "taken_back", "upgraded", "upgrade_failed",
                                     "stopping",  "draining",    "closing_idle", "drained",    "warning"};
    static_assert(std::size(names) == std::variant_size_v<ecdysis::event::variant>);
    return names[what.what.index()];
}

/// What a file asks for, one `POINT ACTION [ARGUMENT]` a line; read once, when the process starts. Points are the
/// kinds of events, and where the host calls at(); actions are those of act().
class behaviour
{
public:
    using failing = std::function<void(std::string const&)>;

    explicit behaviour(std::string const& path)
    {
        std::ifstream file{path};
        for (std::string line; std::getline(file, line);) {
            std::istringstream words{line};
            step one;
            words >> one.point >> one.action >> std::ws;
            std::getline(words, one.argument);
            if (!one.action.empty())
                steps_.push_back(std::move(one));
        }
    }

    /// Does what is asked for at `point`; `fail` says why the generation cannot serve.
    void at(std::string_view point, failing const& fail = {}) const
    {
        for (auto const& one : steps_)
            if (one.point == point)
                act(one.action, one.argument, fail);
    }

    [[nodiscard]] bool knows(std::string_view point) const
    {
        return std::ranges::any_of(steps_, [&](auto const& one) { return one.point == point; });
    }

    /// For what the host itself has to do otherwise.
    [[nodiscard]] std::optional<std::string> asked(std::string_view point, std::string_view action) const
    {
        for (auto const& one : steps_)
            if (one.point == point && one.action == action)
                return one.argument;
        return {};
    }

private:
    struct step
    {
        std::string point, action, argument;
    };

    static void act(std::string const& action, std::string const& argument, failing const& fail)
    {
        auto const number = [&](int otherwise) { return argument.empty() ? otherwise : std::stoi(argument); };
        if (action == "exit") {
            ::_exit(number(3));
        } else if (action == "kill") {
            ::raise(SIGKILL);
        } else if (action == "abort") {
            std::abort();
        } else if (action == "stop") {
            ::raise(SIGSTOP);
        } else if (action == "hang") {
            for (;;)
                ::pause();
        } else if (action == "sleep") {
            std::this_thread::sleep_for(std::chrono::milliseconds{number(100)});
        } else if (action == "until") { // there is such a file; another says that it is waited for
            ::close(::open((argument + ".awaited").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
            while (::access(argument.c_str(), F_OK) != 0)
                std::this_thread::sleep_for(std::chrono::milliseconds{1});
        } else if (action == "fail") {
            fail(argument);
            ::_exit(3);
        } else if (action == "unfit") { // and it goes on
            fail(argument);
        } else if (action == "close-from") {
            ::closefrom(number(3));
        } else if (action == "close-stdio") {
            for (int const fd : {0, 1, 2})
                ::close(fd);
        } else if (action == "fork-worker") {
            fork_worker();
        } else if (action == "reap-all") {
            std::thread{[] {
                for (;;)
                    if (::waitpid(-1, nullptr, 0) < 0)
                        std::this_thread::sleep_for(std::chrono::milliseconds{1});
            }}.detach();
        } else if (action == "ignore-sigchld") {
            ::signal(SIGCHLD, SIG_IGN);
        } else if (action == "threads") {
            for (int i = 0; i != number(50); ++i)
                std::thread{[] {
                    for (;;)
                        ::pause();
                }}.detach();
        } else if (action == "nofile") {
            ::rlimit const limit{static_cast<::rlim_t>(number(64)), static_cast<::rlim_t>(number(64))};
            ::setrlimit(RLIMIT_NOFILE, &limit);
        } else if (action == "exhaust") { // all numbers but N; one more is left each time it is asked for
            static int left = number(0);
            release();
            for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
                taken().push_back(fd);
            for (int i = 0; i != left && !taken().empty(); ++i, taken().pop_back())
                ::close(taken().back());
            ++left;
        } else if (action == "release") {
            release();
        } else if (action == "user") {
            auto const id = static_cast<::uid_t>(number(65534));
            if (::setresgid(id, id, id) != 0 || ::setresuid(id, id, id) != 0)
                ::_exit(98);
        } else if (action == "sysinfo") {
            struct ::sysinfo ignored;
            ::sysinfo(&ignored);
        } else if (action == "chdir") {
            if (::chdir(argument.c_str()) != 0)
                ::_exit(97);
        }
    }

    /// One that keeps all descriptors. Nothing goes on before it can be told by its name.
    static void fork_worker()
    {
        int named[2];
        if (::pipe2(named, O_CLOEXEC) != 0)
            ::_exit(96);
        if (::fork() == 0) {
            ::prctl(PR_SET_NAME, "worker");
            ::close(named[0]);
            ::close(named[1]);
            for (;;)
                ::pause();
        }
        ::close(named[1]);
        char byte;
        while (::read(named[0], &byte, 1) < 0 && errno == EINTR) {}
        ::close(named[0]);
    }

    static std::vector<int>& taken()
    {
        static std::vector<int> numbers;
        return numbers;
    }
    static void release()
    {
        for (int const fd : taken())
            ::close(fd);
        taken().clear();
    }

    std::vector<step> steps_;
};

} // namespace host
