// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWNER_HPP
#define ECDYSIS_LAUNCH_SPAWNER_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/launch/spawn.hpp>
#include <ecdysis/launch/spawner_helper.hpp>
#include <ecdysis/launch/spawner_start.hpp>
#include <ecdysis/launch/spawner_wire.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/os/message.hpp>
#include <ecdysis/os/process.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/os/signal_set.hpp>
#include <ecdysis/seccomp/rule.hpp>
#include <ecdysis/systemd/executed.hpp>

#include <boost/system/errc.hpp>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis::launch {

/// Starts the child through a helper process, for services that give up what starting a program takes: a seccomp filter
/// that allows neither fork nor exec, or root. A filter is inherited, and each generation's own would come on top of it:
/// a child of the helper has the filter, the privileges and the limits that its parent had in the first line of main.
///
///     int main()
///     {
///         auto launch = ecdysis::launch::spawner::fork(); // before threads, before the sandbox
///         // drop root, load the filter …
///         ecdysis::upgrader<…, ecdysis::launch::spawner> up{options, {}, {}, std::move(launch)};
///
/// The child is the service's own child, and is watched and reaped as such; or its parent process's, where that is
/// systemd. Whoever takes the service over can have the helper start that one program, with those arguments and that
/// environment, and end what it started; nothing else.
///
/// Thread safety: one call at a time. Lifetimes: moves; the helper ends with the last copy of its socket, which no program
/// that is executed gets. A generation that has none left (it was killed) fails its upgrades, and serves on.
class spawner
{
public:
    static constexpr auto system_calls = seccomp::declare(
        "launch::spawner", os::message_calls,
        std::array{
            seccomp::calls("waitid", "takes a child's status", seccomp::is(0, P_PIDFD), seccomp::is(3, WEXITED | WNOHANG)),
            seccomp::calls("waitid", "a child for whose pidfd no number was free", seccomp::is(0, P_PID), seccomp::is(3, WEXITED | WNOHANG))
                .untested_because("transport::named_pipe has just let go of some; with transport::socketpair it is tested"),
            seccomp::calls("ioctl", "the status of a child that somebody else reaps", seccomp::is(1, _IOWR(0xFF, 11, char[64]))),
            seccomp::calls("poll", "the helper's end").only_on(seccomp::architecture::x86_64),
            seccomp::calls("ppoll", "the helper's end").only_on(seccomp::architecture::aarch64),
            seccomp::calls("fcntl", "whether what is handed over is open", seccomp::is(1, F_GETFD)),
            seccomp::calls("prlimit64", "the limit that the child gets", seccomp::is(1, RLIMIT_NOFILE), seccomp::has(2, ~std::uint64_t{0}, 0)),
        });
    /// What `fork` and the helper call.
    static constexpr auto system_calls_from_start = seccomp::declare(
        "launch::spawner, before the filter", os::message_calls, spawn_calls,
        std::array{
            seccomp::calls("clone", "forks the helper: spawner::fork() comes before the filter", seccomp::is(0, CLONE_PIDFD | SIGCHLD)),
            seccomp::calls("clone", "forks the helper as systemd's own child: spawner::fork() comes before the filter",
                           seccomp::is(0, CLONE_PIDFD | CLONE_PARENT | SIGCHLD)),
            seccomp::calls("socketpair", "between service and helper", seccomp::is(0, AF_UNIX), seccomp::is(1, SOCK_SEQPACKET | SOCK_CLOEXEC)),
            seccomp::calls("fcntl", "not at 0 to 2", seccomp::is(1, F_DUPFD_CLOEXEC)),
            seccomp::calls("prctl", "the helper's name", seccomp::is(0, PR_SET_NAME)),
            seccomp::calls("prctl", "nobody of its user gets at the helper's memory", seccomp::is(0, PR_GET_DUMPABLE)),
            seccomp::calls("prctl", "nobody of its user gets at the helper's memory", seccomp::is(0, PR_SET_DUMPABLE)),
            seccomp::calls("openat", "/dev/null for the helper's own 0 to 2", seccomp::is(2, O_RDWR | O_CLOEXEC)),
            seccomp::calls("dup2", "the child's 0 to 2").only_on(seccomp::architecture::x86_64),
            seccomp::calls("prlimit64", "the helper holds as many descriptors as the service", seccomp::is(1, RLIMIT_NOFILE)),
            seccomp::calls("pidfd_send_signal", "ends a child", seccomp::is(3, 0)),
        });

    /// Forks the helper. `what` is fixed by now: the program as this process was called, its arguments and directory.
    ///
    /// Not while another thread runs: what that holds locked is never unlocked in the helper.
    ///
    /// Throws `error`: what `program` says of `what`; what socketpair(2) and clone(2) say, and where a filter forbids them
    /// also that.
    [[nodiscard]] static spawner fork(program what = program{})
    {
        std::array<int, 2> pair{-1, -1};
        error_code ec;
        os::call(ec, [&] { return ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()); });
        os::owned_fd ours{pair[0]}, theirs{pair[1]};
        // Not at 0 to 2 where those are closed: there the helper opens /dev/null, and a daemon may, too.
        for (auto* const end : {&ours, &theirs})
            if (!ec && end->get() <= STDERR_FILENO)
                *end = os::owned_fd{os::call(ec, [&] { return ::fcntl(end->get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1); })};
        if (ec)
            throw error{ec, forbidden_or("make the socket between this process and its spawner", ec)};

        spawner result{std::move(ours), what.path(), is_managers_child(), shared_memory(ec)};
        if (ec)
            throw error{ec, "make the memory that this process and its spawner share"};
        auto environment = program::child_environment(""); // while WATCHDOG_PID is ours
        environment.pop_back();
        int pidfd = -1;
        auto const flags = CLONE_PIDFD | SIGCHLD | (result.siblings_ ? CLONE_PARENT : 0);
        // A service that was taken over may write to files: not to /proc/PID/mem of the helper, which has no filter (proc(5)).
        // Before the helper is there, for nobody waits until it has done so itself.
        bool const dumpable = ::prctl(PR_GET_DUMPABLE) == 1; // 2 is for root alone, and cannot be set again
        if (dumpable)
            ::prctl(PR_SET_DUMPABLE, 0);
        auto const pid = static_cast<::pid_t>(::syscall(SYS_clone, flags, nullptr, &pidfd, nullptr, nullptr));
        if (pid == 0)
            spawner_helper{std::move(theirs), std::move(what), std::move(environment), std::move(result.exec_errors_)}.run();
        if (pid == -1)
            ec = os::last_error();
        if (dumpable)
            ::prctl(PR_SET_DUMPABLE, 1);
        if (ec)
            throw error{ec, forbidden_or("fork the spawner", ec)};
        result.helper_ = os::owned_fd{pidfd};
        return result;
    }
    spawner(spawner&&) noexcept = default;
    spawner& operator=(spawner&&) = delete;
    /// Ends the helper, and waits for that, at most a second; it has nothing to finish.
    ~spawner()
    {
        socket_.reset();
        reap_helper_within(std::chrono::seconds{1}); // a worker that the host forked may have the socket too: then it goes on
    }

    /// Whether the helper has not been found to have gone.
    [[nodiscard]] bool is_there() const noexcept { return static_cast<bool>(socket_); }

    /// The helper's parent process is that of all its children, whatever is wanted.
    [[nodiscard]] bool as_sibling(bool /*wanted*/) const noexcept { return siblings_; }

    /// Has the helper start `what`; `done(ec, process)` is called here, or by `go_on()` when the helper has answered. Program,
    /// arguments, directory and environment are those of the time of the fork, but for the handoff's variable.
    ///
    /// Errors: those of `spawn`; `errc::spawner_gone`; `errc::spawner_silent` for a helper that has not answered for 10 s;
    /// `errc::spawner_program` for another program than was fixed; `invalid_argument` for a sibling where `as_sibling` says
    /// otherwise; `errc::busy` while another start is under way; ETOOMANYREFS; ENOMEM and EMFILE also of the helper.
    ///
    /// Exceptions: std::bad_alloc, with nothing started; and what `done` throws.
    template <class Done>
    void start(request const& what, Done&& done)
    {
        std::function<void(error_code, process)> f{std::forward<Done>(done)}; // first: nothing is to fail once something was said
        error_code ec;
        if (now_)
            ec = errc::busy;
        else
            prepare(what, ec);
        if (ec)
            return f(ec, process{});
        done_ = std::move(f);
        work();
    }

    [[nodiscard]] awaited awaits() const noexcept { return now_ ? now_->awaits() : awaited{}; }

    void go_on()
    {
        if (now_)
            work();
    }

    /// The helper kills what it may have started, when it hears of it; that is reaped at a later start. Where it cannot even
    /// be told so any more it is given up, too: it finds out, and ends.
    void give_up() noexcept
    {
        if (!now_)
            return;
        error_code ec;
        now_->give_up(ec);
        if (ec)
            socket_.reset();
        now_.reset();
        done_ = {};
    }

    /// Has the helper send `signal`, which may do so where this process may not any more. The helper does not answer: one that
    /// has ended already, and one that it did not start, are no error.
    void kill(process const& child, int signal, error_code& ec) const noexcept
    {
        if (socket_)
            spawner_start::ask_to_kill(socket_, child.pid, signal, ec);
        else
            ec = errc::spawner_gone;
    }

    /// Takes the status of an ended child; never waits (see `os::reap`).
    [[nodiscard]] os::exit_status reap(process const& child, error_code& ec) const noexcept
    {
        return os::reap(child.pidfd, ec);
    }

private:
    spawner(os::owned_fd socket, std::string program, bool siblings, std::shared_ptr<int volatile[]> exec_errors)
        : socket_{std::move(socket)}, program_{std::move(program)}, siblings_{siblings}, exec_errors_{std::move(exec_errors)}
    {}

    [[nodiscard]] static std::shared_ptr<int volatile[]> shared_memory(error_code& ec)
    {
        constexpr auto size = spawner_wire::exec_errors * sizeof(int);
        auto* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            ec = os::last_error();
            return {};
        }
        return {static_cast<int volatile*>(memory), [](int volatile* it) { ::munmap(const_cast<int*>(it), size); }};
    }

    /// `what`, and if a filter stands in its way, what to do about it. Filters answer with these where they do not kill.
    [[nodiscard]] static std::string forbidden_or(std::string what, error_code why)
    {
        using namespace boost::system::errc;
        if ((why == operation_not_permitted || why == permission_denied || why == function_not_supported) && has_filter())
            what += ": a seccomp filter forbids it; call spawner::fork() before the filter is loaded";
        return what;
    }

    [[nodiscard]] static bool has_filter() noexcept
    {
        error_code ec;
        os::owned_fd const file{os::call(ec, [] { return ::open("/proc/self/status", O_RDONLY | O_CLOEXEC); })};
        std::array<char, 4096> text;
        auto const got = os::call(ec, [&] { return ::read(file.get(), text.data(), text.size()); });
        return got > 0 && std::string_view{text.data(), static_cast<std::size_t>(got)}.find("\nSeccomp:\t2\n") != std::string_view::npos;
    }

    /// Whether this process's parent process is the service manager, which should have its children, too: of the first
    /// generation systemd says so, of a later one the handoff.
    [[nodiscard]] static bool is_managers_child()
    {
        if (char const* const value = std::getenv(handoff::variable::name.data())) {
            auto const said = handoff::variable::read(value);
            return said && said->is_sibling();
        }
        return std::getenv("NOTIFY_SOCKET") != nullptr && systemd::is_our_parent_process();
    }

    void prepare(request const& what, error_code& ec)
    {
        reap_given_up();
        if (!socket_) // it may have closed its end before it had ended
            reap_helper_within(std::chrono::milliseconds{0});
        os::check_descriptor_limit(what.inherited.size(), ec);
        if (!ec && !socket_)
            ec = errc::spawner_gone;
        // Before the conversation, which such a one would break off in its middle.
        for (auto const one : what.inherited)
            if (!ec)
                os::call(ec, [&] { return ::fcntl(one.get(), F_GETFD); });
        if (!ec && what.program != program_)
            ec = errc::spawner_program;
        if (!ec && what.as_sibling != siblings_)
            ec = make_error_code(boost::system::errc::invalid_argument);
        spawner_wire::request asked;
        if (!ec)
            asked.blocked = os::signal_set{what.blocked, ec}.bits();
        if (!ec)
            asked.ignored = os::signal_set{what.ignored, ec}.bits();
        auto const text = variable_of(what.environment);
        if (!ec && text.size() > spawner_wire::max_text)
            ec = make_error_code(boost::system::errc::argument_list_too_long);
        if (ec)
            return;
        std::vector<os::borrowed_fd> fds;
        for (int number = 0; number != 3; ++number)
            if (is_standard_stream(number) && std::ranges::find(what.inherited, number, &os::borrowed_fd::get) == what.inherited.end()) {
                asked.streams |= 1U << number;
                fds.emplace_back(number);
            }
        fds.insert(fds.end(), what.inherited.begin(), what.inherited.end());
        ::rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        asked.descriptor_limit = limit.rlim_cur;
        asked.descriptors = static_cast<std::uint32_t>(fds.size());
        asked.start = ++starts_;
        now_.emplace(socket_, siblings_, asked, text, std::move(fds));
        exec_errno_ = {exec_errors_, &exec_errors_[asked.start % spawner_wire::exec_errors]};
    }

    void work()
    {
        error_code ec;
        bool const is_over = now_->go_on(ec);
        now_->move_strays(given_up_);
        reap_given_up();
        if (!is_over)
            return;
        auto child = now_->take_child();
        if (child.pidfd)
            child.exec_errno = std::move(exec_errno_);
        auto const done = std::move(done_); // who hears of it may start the next
        if (ec == errc::spawner_silent)
            give_up();
        now_.reset();
        if (ec == errc::spawner_gone)
            socket_.reset();
        else if (ec == errc::spawner_silent && !socket_) // it could not be told so
            ec = errc::spawner_gone;
        if (!socket_)
            reap_helper_within(std::chrono::milliseconds{0});
        done(ec, std::move(child));
    }

    void reap_given_up() noexcept
    {
        std::erase_if(given_up_, [this](auto const& one) {
            error_code ec;
            if (one.pidfd) {
                (void)os::reap(one.pidfd, ec);
                return ec != boost::system::errc::resource_unavailable_try_again;
            }
            return siblings_ || !spawner_start::is_there(one.pid);
        });
    }

    void reap_helper_within(std::chrono::milliseconds time) noexcept
    {
        if (!helper_ || !os::is_readable_within(helper_, time))
            return;
        error_code ignored;
        (void)os::reap(helper_, ignored);
        helper_.reset();
    }

    [[nodiscard]] static std::string variable_of(std::vector<std::string> const& environment)
    {
        auto const start = std::string{handoff::variable::name} + "=";
        for (auto const& one : environment)
            if (one.starts_with(start))
                return one.substr(start.size());
        return {};
    }

    os::owned_fd socket_;
    os::owned_fd helper_; ///< its pidfd
    std::string program_;
    bool siblings_;
    std::shared_ptr<int volatile[]> exec_errors_; ///< the helper has it, too
    std::uint32_t starts_ = 0;
    std::vector<process> given_up_; ///< children to be reaped
    std::optional<spawner_start> now_; ///< what is under way, and who hears how it went
    std::shared_ptr<int volatile const> exec_errno_;
    std::function<void(error_code, process)> done_;
};

static_assert(Policy<spawner>);

} // namespace ecdysis::launch

#endif
