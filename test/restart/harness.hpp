// SPDX-License-Identifier: BSL-1.0
// What the tests with real processes share: a service that is started, asked, watched and ended, and who talks to it.
#ifndef ECDYSIS_TEST_RESTART_HARNESS_HPP
#define ECDYSIS_TEST_RESTART_HARNESS_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/os/fd.hpp>

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace test {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
namespace fs = std::filesystem;

inline fs::path hosts_directory()
{
    auto const& suite = boost::unit_test::framework::master_test_suite();
    if (suite.argc < 2)
        throw std::runtime_error{"the directory of the hosts must be given"};
    return suite.argv[1];
}

/// The names of all hosts: io_notify_transport.
inline std::vector<std::string> const& assemblies()
{
    static std::vector<std::string> const all = [] {
        std::vector<std::string> result;
        for (auto const* io : {"sync", "asio"})
            for (auto const* notify : {"none", "systemd"})
                for (auto const* transport : {"named_pipe", "socketpair"})
                    result.push_back(std::string{io} + "_" + notify + "_" + transport);
        return result;
    }();
    return all;
}

inline bool is_sync(std::string const& assembly) { return assembly.starts_with("sync"); }
inline bool is_supervised(std::string const& assembly) { return assembly.find("systemd") != assembly.npos; }
inline bool is_pipe(std::string const& assembly) { return assembly.ends_with("named_pipe"); }

/// Whether `predicate()` comes true before the deadline.
template <class F>
[[nodiscard]] bool wait_until(F&& predicate, std::chrono::milliseconds deadline = 20s)
{
    auto const end = steady_clock::now() + deadline;
    do {
        if (predicate())
            return true;
        ::poll(nullptr, 0, 2);
    } while (steady_clock::now() < end);
    return predicate();
}

inline std::string read_file(fs::path const& path)
{
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// What a process has open, as the kernel names it, without numbers that differ from one file to the next of its kind.
inline std::vector<std::string> descriptors(pid_t pid)
{
    std::vector<std::string> result;
    std::error_code ec;
    for (auto const& entry : fs::directory_iterator{"/proc/" + std::to_string(pid) + "/fd", ec}) {
        auto target = fs::read_symlink(entry.path(), ec).string();
        if (!ec)
            result.push_back(std::regex_replace(target, std::regex{R"(:\[\d+\])"}, ":[]"));
    }
    std::ranges::sort(result);
    return result;
}

struct process_state
{
    pid_t pid;
    pid_t parent;
    char state;
    std::string name;
};

inline std::vector<process_state> all_processes()
{
    std::vector<process_state> result;
    std::error_code ec;
    for (auto const& entry : fs::directory_iterator{"/proc", ec}) {
        auto const file = entry.path().filename().string();
        if (!std::ranges::all_of(file, [](unsigned char c) { return std::isdigit(c) != 0; }))
            continue;
        auto const text = read_file(entry.path() / "stat");
        auto const open = text.find('(');
        auto const close = text.rfind(')');
        if (close == text.npos)
            continue;
        process_state one{std::stoi(file), 0, '?', text.substr(open + 1, close - open - 1)};
        std::istringstream rest{text.substr(close + 2)};
        rest >> one.state >> one.parent;
        result.push_back(one);
    }
    return result;
}

inline std::vector<process_state> children_of(pid_t pid)
{
    auto all = all_processes();
    std::erase_if(all, [pid](auto const& one) { return one.parent != pid; });
    return all;
}

/// A connection of a client.
class client
{
public:
    explicit client(ecdysis::address const& where, int type = SOCK_STREAM)
        : fd_{::socket(where.family(), type | SOCK_CLOEXEC, 0)}
    {
        ::timeval const patience{20, 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (type == SOCK_DGRAM && where.family() == AF_UNIX) { // an address to be answered to
            ::sockaddr_un none{};
            none.sun_family = AF_UNIX;
            ::bind(fd_.get(), reinterpret_cast<::sockaddr const*>(&none), sizeof(::sa_family_t));
        }
        error_ = ::connect(fd_.get(), where.data(), where.size()) == 0 ? 0 : errno;
    }

    [[nodiscard]] int error() const noexcept { return error_; }
    [[nodiscard]] int get() const noexcept { return fd_.get(); }

    /// The answer to one line; what went wrong instead is its own word: "refused", "reset", "cut", "late".
    std::string ask()
    {
        if (error_ != 0)
            return error_ == ECONNREFUSED || error_ == ENOENT ? "refused" : std::strerror(error_);
        if (::send(fd_.get(), "?\n", 2, MSG_NOSIGNAL) < 0)
            return std::string{"reset on send: "} + std::strerror(errno);
        return line();
    }

    std::string line()
    {
        std::string text;
        char byte[256];
        while (text.find('\n') == text.npos) {
            auto const got = ::recv(fd_.get(), byte, sizeof byte, 0);
            if (got == 0)
                return "cut" + (text.empty() ? "" : " after " + text);
            if (got < 0)
                return errno == EAGAIN ? "late" : std::string{"reset: "} + std::strerror(errno);
            text.append(byte, static_cast<std::size_t>(got));
        }
        return text.substr(0, text.find('\n'));
    }

private:
    ecdysis::os::owned_fd fd_;
    int error_ = 0;
};

/// Whether an answer is one: "GENERATION PID" or "GENERATION PID last".
inline bool is_answer(std::string const& text)
{
    return !text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) != 0;
}

/// Clients that never stop asking: one that connects anew each time, and some that keep their connection.
class prober
{
public:
    explicit prober(ecdysis::address where, int type = SOCK_STREAM, int keeping = 3)
    {
        threads_.emplace_back([this, where, type](std::stop_token stop) {
            while (!stop.stop_requested())
                note(client{where, type}.ask(), "a new connection");
        });
        for (int i = 0; i < keeping; ++i)
            threads_.emplace_back([this, where, type](std::stop_token stop) {
                std::optional<client> kept;
                while (!stop.stop_requested()) {
                    if (!kept)
                        kept.emplace(where, type);
                    auto const answer = kept->ask();
                    note(answer, "a kept connection");
                    if (answer.ends_with("last") || !is_answer(answer))
                        kept.reset();
                }
            });
    }
    ~prober() { stop(); }

    /// Ends, and gives what failed.
    std::map<std::string, int> stop()
    {
        for (auto& one : threads_)
            one.request_stop();
        threads_.clear();
        return failed_;
    }
    [[nodiscard]] long answered() const noexcept { return answered_; }

private:
    void note(std::string const& answer, char const* of)
    {
        if (is_answer(answer)) {
            ++answered_;
            return;
        }
        std::lock_guard const hold{mutex_};
        ++failed_[answer + " on " + of];
    }

    std::atomic<long> answered_{0};
    std::mutex mutex_;
    std::map<std::string, int> failed_;
    std::vector<std::jthread> threads_;
};

/// A service manager, as far as sd_notify goes.
class manager
{
public:
    explicit manager(fs::path const& path) : path_{path}, socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)}
    {
        ecdysis::address const at{path.string()};
        if (::bind(socket_.get(), at.data(), at.size()) != 0)
            throw std::runtime_error{"cannot bind the manager's socket"};
        thread_ = std::jthread{[this](std::stop_token stop) { listen(stop); }};
    }

    [[nodiscard]] std::vector<std::string> heard() const
    {
        std::lock_guard const hold{mutex_};
        return heard_;
    }
    /// Hears, and does not answer barriers any more.
    void keep_barriers() { keep_ = true; }

private:
    void listen(std::stop_token const& stop)
    {
        std::vector<ecdysis::os::owned_fd> kept;
        while (!stop.stop_requested()) {
            ::pollfd ready{socket_.get(), POLLIN, 0};
            if (::poll(&ready, 1, 20) <= 0)
                continue;
            char text[4096];
            alignas(::cmsghdr) char space[CMSG_SPACE(sizeof(int) * 4)];
            ::iovec part{text, sizeof text};
            ::msghdr message{};
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            message.msg_control = space;
            message.msg_controllen = sizeof space;
            auto const got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
            if (got < 0)
                continue;
            {
                std::lock_guard const hold{mutex_};
                heard_.emplace_back(text, static_cast<std::size_t>(got));
            }
            for (auto* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
                int fd = -1;
                std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
                ecdysis::os::owned_fd answer{fd};
                if (keep_)
                    kept.push_back(std::move(answer));
            }
        }
    }

    fs::path path_;
    ecdysis::os::owned_fd socket_;
    mutable std::mutex mutex_;
    std::vector<std::string> heard_;
    std::atomic<bool> keep_{false};
    std::jthread thread_;
};

/// A service under test, in a directory of its own. All its generations are found again and must be gone at the end.
class service
{
public:
    struct setting
    {
        std::vector<std::string> arguments{};
        std::vector<std::string> listen{"tcp:127.0.0.1:0"};
        bool control = true;
        std::function<void()> before_start{};      ///< in this process
        std::string program{"./program"};          ///< argv[0] and what is started
        std::vector<std::string> environment{};
        bool start = true;
    };

    explicit service(std::string const& assembly, setting how) : how_{std::move(how)}, assembly_{assembly}
    {
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        char pattern[] = "/tmp/ecdysis-test-XXXXXX";
        directory_ = ::mkdtemp(pattern);
        ::chmod(directory_.c_str(), 0755);
        fs::create_directory(directory_ / "tmp");
        ::chmod((directory_ / "tmp").c_str(), 01777);
        use(assembly_);
        if (is_supervised(assembly_))
            manager_.emplace(directory_ / "notify");
        if (how_.start)
            start();
    }
    explicit service(std::string const& assembly, std::vector<std::string> arguments = {})
        : service{assembly, setting{.arguments = std::move(arguments)}}
    {}
    service(service const&) = delete;
    service& operator=(service const&) = delete;

    ~service()
    {
        for (auto const& one : children_of(::getpid()))
            ::kill(one.pid, SIGKILL);
        reap_all(10s);
        std::error_code ec;
        fs::remove_all(directory_, ec);
    }

    void start()
    {
        std::vector<std::string> arguments{how_.program};
        for (auto const& where : how_.listen) {
            arguments.push_back("--listen");
            arguments.push_back(std::regex_replace(where, std::regex{"DIR"}, directory_.string()));
        }
        if (how_.control) {
            arguments.push_back("--control");
            arguments.push_back((directory_ / "control").string());
        }
        for (auto const* name : {"log", "behave"}) {
            arguments.push_back(std::string{"--"} + name);
            arguments.push_back((directory_ / name).string());
        }
        for (auto const& one : how_.arguments)
            arguments.push_back(std::regex_replace(one, std::regex{"DIR"}, directory_.string()));
        std::vector<std::string> environment{"TMPDIR=" + (directory_ / "tmp").string(), "PATH=/usr/bin:/bin"};
        for (char** one = ::environ; *one != nullptr; ++one)
            if (std::string_view const it{*one}; it.starts_with("ASAN") || it.starts_with("UBSAN") || it.starts_with("TSAN"))
                environment.emplace_back(it);
        if (manager_)
            environment.push_back("NOTIFY_SOCKET=" + (directory_ / "notify").string());
        for (auto const& one : how_.environment)
            environment.push_back(std::regex_replace(one, std::regex{"DIR"}, directory_.string()));
        auto const pointers = [](std::vector<std::string>& strings) {
            std::vector<char*> result;
            for (auto& one : strings)
                result.push_back(one.data());
            result.push_back(nullptr);
            return result;
        };
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_addchdir_np(&actions, directory_.c_str());
        ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 1, (directory_ / "out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
        ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
        for (int const closed : closed_)
            ::posix_spawn_file_actions_addclose(&actions, closed);
        ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        auto argv = pointers(arguments);
        auto envp = pointers(environment);
        if (how_.before_start)
            how_.before_start();
        auto const executable = how_.program.find('/') == std::string::npos ? (directory_ / how_.program).string() : how_.program;
        int const error = ::posix_spawn(&first_, executable.c_str(), &actions, nullptr, argv.data(), envp.data());
        ::posix_spawn_file_actions_destroy(&actions);
        BOOST_REQUIRE_MESSAGE(error == 0, "start " << executable << ": " << std::strerror(error));
        BOOST_REQUIRE_MESSAGE(wait_until([&] { return !grep(R"(serving serving$)").empty(); }),
                              "it does not serve:\n" << log() << output());
        at_start_ = descriptors(first_);
    }

    /// Closes these of 0 to 2 in the service that is started next.
    void close_at_start(std::vector<int> numbers) { closed_ = std::move(numbers); }

    // ---- what it is

    [[nodiscard]] fs::path const& directory() const noexcept { return directory_; }
    [[nodiscard]] std::string log() const { return read_file(directory_ / "log"); }
    [[nodiscard]] std::string output() const { return read_file(directory_ / "out"); }
    [[nodiscard]] test::manager& manager() { return *manager_; }
    [[nodiscard]] pid_t first() const noexcept { return first_; }
    [[nodiscard]] std::vector<std::string> const& at_start() const noexcept { return at_start_; }

    /// The lines of the log in which `pattern` is found.
    [[nodiscard]] std::vector<std::string> grep(std::string const& pattern) const
    {
        std::vector<std::string> result;
        std::regex const wanted{pattern};
        std::istringstream text{log()};
        for (std::string line; std::getline(text, line);)
            if (std::regex_search(line, wanted))
                result.push_back(line);
        return result;
    }
    [[nodiscard]] bool logs(std::string const& pattern, std::chrono::milliseconds deadline = 20s) const
    {
        return wait_until([&] { return !grep(pattern).empty(); }, deadline);
    }

    /// The pid of the generation that began to serve last.
    [[nodiscard]] pid_t serving() const
    {
        auto const lines = grep("serving serving$");
        BOOST_REQUIRE(!lines.empty());
        return std::stoi(lines.back().substr(lines.back().find(' ') + 1));
    }

    /// Where its `index`th socket listens.
    [[nodiscard]] ecdysis::address where(std::size_t index = 0) const
    {
        auto const lines = grep("^listening ");
        BOOST_REQUIRE(lines.size() > index);
        return ecdysis::address{lines[index].substr(10)};
    }

    // ---- what is done to it

    void use(std::string const& assembly) { use_program(hosts_directory() / ("host_" + assembly)); }
    /// What the symlink names that it was started through.
    void use_program(fs::path const& program)
    {
        std::error_code ec;
        fs::remove(directory_ / "program", ec);
        fs::create_symlink(program, directory_ / "program");
    }
    [[nodiscard]] fs::path script(std::string const& text)
    {
        auto const path = directory_ / "script";
        std::ofstream{path} << "#!/bin/bash\n" << text << '\n';
        ::chmod(path.c_str(), 0755);
        return path;
    }

    /// What the generations that start from now on do wrong.
    void behave(std::string const& how) { std::ofstream{directory_ / "behave"} << how << '\n'; }

    std::string control(std::string const& name = "control") { return client{(directory_ / name).string()}.line(); }
    std::string upgrade() { return control(); }
    std::string ask() { return client{where()}.ask(); }
    std::string ask(std::size_t index, int type) { return client{where(index), type}.ask(); }

    // ---- how it must be

    /// It answers, holds what it held at the start, and has left nothing behind.
    void check_unharmed()
    {
        BOOST_TEST(is_answer(ask()));
        check_clean();
    }
    void check_clean()
    {
        auto const pid = serving();
        // Connections that were answered are closed by the server a moment later.
        if (!wait_until([&] { return descriptors(pid) == at_start_; }, 10s))
            BOOST_TEST(descriptors(pid) == at_start_, boost::test_tools::per_element());
        BOOST_TEST(wait_until([&] { return children_of(pid).empty(); }, 10s));
        for (auto const& one : children_of(pid))
            BOOST_ERROR("left: " << one.name << " in state " << one.state);
        BOOST_TEST(fs::is_empty(directory_ / "tmp"));
    }

    /// Ends it by a signal, and nothing may be left.
    void stop(int signal = SIGTERM)
    {
        ::kill(serving(), signal);
        check_gone();
    }
    void check_gone()
    {
        BOOST_TEST(reap_all(20s), "left over after the end:\n" << log() << output());
        BOOST_TEST(fs::is_empty(directory_ / "tmp"));
        if (how_.control)
            BOOST_TEST(!fs::exists(directory_ / "control"));
    }

    /// Waits for all children of this process, which the subreaper makes all generations; the status of each is kept.
    bool reap_all(std::chrono::milliseconds deadline)
    {
        return wait_until(
            [&] {
                for (;;) {
                    int status = 0;
                    auto const pid = ::waitpid(-1, &status, WNOHANG);
                    if (pid < 0)
                        return errno == ECHILD;
                    if (pid == 0)
                        return false;
                    statuses_[pid] = status;
                }
            },
            deadline);
    }
    [[nodiscard]] std::map<pid_t, int> const& statuses() const noexcept { return statuses_; }

private:
    setting how_;
    std::string assembly_;
    fs::path directory_;
    std::optional<test::manager> manager_;
    std::vector<int> closed_;
    pid_t first_ = -1;
    std::vector<std::string> at_start_;
    std::map<pid_t, int> statuses_;
};

} // namespace test

#endif
