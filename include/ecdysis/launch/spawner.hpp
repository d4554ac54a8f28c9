// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWNER_HPP
#define ECDYSIS_LAUNCH_SPAWNER_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/launch/spawn.hpp>
#include <ecdysis/launch/spawner_helper.hpp>
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
#include <cstdlib>
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
/// environment, and end what it started last; nothing else.
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
            seccomp::calls("waitid", "one that could not execute the program", seccomp::is(0, P_PIDFD), seccomp::is(3, WEXITED)),
            seccomp::calls("waitid", "a child for whose pidfd no number was free", seccomp::is(0, P_PID), seccomp::is(3, WEXITED))
                .untested_because("transport::named_pipe has just let go of some; with transport::socketpair it is tested"),
            seccomp::calls("ioctl", "the status of a child that somebody else reaps", seccomp::is(1, _IOWR(0xFF, 11, char[64]))),
            seccomp::calls("poll", "the helper's answer, and its end").only_on(seccomp::architecture::x86_64),
            seccomp::calls("ppoll", "the helper's answer, and its end").only_on(seccomp::architecture::aarch64),
            seccomp::calls("fcntl", "whether what is handed over is open", seccomp::is(1, F_GETFD)),
            seccomp::calls("prlimit64", "the limit that the child gets", seccomp::is(1, RLIMIT_NOFILE), seccomp::has(2, ~std::uint64_t{0}, 0)),
            seccomp::calls("clock_nanosleep", "while too many descriptors are in flight"),
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

        spawner result{std::move(ours), what.path(), is_managers_child()};
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
            spawner_helper{std::move(theirs), std::move(what), std::move(environment)}.run();
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
    /// Ends the helper, and waits for that; it has nothing to finish.
    ~spawner() { let_helper_end(); }

    /// Whether the helper has not been found to have gone.
    [[nodiscard]] bool is_there() const noexcept { return static_cast<bool>(socket_); }

    /// The helper's parent process is that of all its children, whatever is wanted.
    [[nodiscard]] bool as_sibling(bool /*wanted*/) const noexcept { return siblings_; }

    /// Has the helper start `what`, and calls `done(ec, process)` before it returns. Program, arguments, directory and
    /// environment are those of the time of the fork, but for the handoff's variable.
    ///
    /// Errors: those of `spawn`; `errc::spawner_gone`; `errc::spawner_program` for another program than was fixed;
    /// `invalid_argument` for a sibling where `as_sibling` says otherwise; ETOOMANYREFS; ENOMEM and EMFILE also of the helper.
    ///
    /// Exceptions: std::bad_alloc, and what `done` throws.
    template <class Done>
    void start(request const& what, Done&& done)
    {
        error_code ec;
        auto child = ask_to_spawn(what, ec);
        std::forward<Done>(done)(ec, std::move(child));
    }

    /// Has the helper send `signal`, which may do so where this process may not any more. One that has ended already is no
    /// error, and one that the helper did not start last or before that is an error, ESRCH: a child that is set aside, and the
    /// next one.
    void kill(process const& child, int signal, error_code& ec) noexcept
    {
        spawner_wire::request const what{.what = spawner_wire::verb::kill, .signal = signal, .pid = os::number(child.pid)};
        try {
            auto none = room_for_answers();
            static_cast<void>(converse(std::as_bytes(std::span{&what, 1}), {}, none, ec));
        } catch (std::bad_alloc const&) { // nothing was said
            ec = make_error_code(boost::system::errc::not_enough_memory);
        }
    }

    /// Takes the status of an ended child; never waits (see `os::reap`).
    [[nodiscard]] os::exit_status reap(process const& child, error_code& ec) const noexcept
    {
        return os::reap(child.pidfd, ec);
    }

private:
    spawner(os::owned_fd socket, std::string program, bool siblings)
        : socket_{std::move(socket)}, program_{std::move(program)}, siblings_{siblings}
    {}

    void let_helper_end() noexcept
    {
        socket_.reset();
        if (!helper_)
            return;
        error_code ignored; // a worker that the host forked may have the socket too: then it goes on, as long as that
        static_cast<void>(os::is_readable_within(helper_, std::chrono::seconds{1}));
        (void)os::reap(helper_, ignored);
        helper_.reset();
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

    [[nodiscard]] process ask_to_spawn(request const& what, error_code& ec)
    {
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
        if (ec)
            return {};
        auto const text = variable_of(what.environment);
        if (text.size() > spawner_wire::max_text) {
            ec = make_error_code(boost::system::errc::argument_list_too_long);
            return {};
        }
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

        std::string head{reinterpret_cast<char const*>(&asked), sizeof asked};
        head += text;
        auto came = room_for_answers(); // from here on nothing throws
        auto said = converse(std::as_bytes(std::span{head}), {}, came, ec);
        for (std::span<os::borrowed_fd const> left = fds; !ec && !left.empty();) {
            auto const some = left.first(std::min(left.size(), os::max_message_descriptors));
            said = converse({&spawner_wire::some_descriptors, 1}, some, came, ec);
            left = left.subspan(some.size());
        }
        return started(said, came, ec);
    }

    /// What the answer gives; a child that could not execute the program is reaped, for it is nobody else's.
    [[nodiscard]] process started(spawner_wire::answer const& said, std::vector<os::owned_fd>& came, error_code& ec)
    {
        if (came.empty()) {
            if (said.pid > 0)
                end_without_pidfd(os::process_id{said.pid});
            if (!ec)
                ec = errc::spawner_gone;
            return {};
        }
        process child{os::process_id{said.pid}, std::move(came.front())};
        if (!ec)
            return child;
        error_code ignored;
        if (!siblings_)
            os::call(ignored, [&] { return ::waitid(P_PIDFD, static_cast<::id_t>(child.pidfd.get()), nullptr, WEXITED); });
        return {};
    }

    /// There was no number left for its pidfd (EMFILE): it must not be left behind.
    void end_without_pidfd(os::process_id pid)
    {
        error_code ec;
        kill({.pid = pid, .pidfd = {}}, SIGKILL, ec);
        if (!ec && !siblings_)
            os::call(ec, [&] { return ::waitid(P_PID, static_cast<::id_t>(os::number(pid)), nullptr, WEXITED); });
    }

    /// An exception between a message and its answer would leave both sides out of step.
    [[nodiscard]] static std::vector<os::owned_fd> room_for_answers()
    {
        std::vector<os::owned_fd> result;
        result.reserve(1 + os::max_message_descriptors); // one comes, and receive_message wants so much room
        return result;
    }

    /// One message and its answer. What comes beside that is appended to `came`, which must be of room_for_answers().
    spawner_wire::answer converse(std::span<std::byte const> bytes, std::span<os::borrowed_fd const> fds,
                                  std::vector<os::owned_fd>& came, error_code& ec)
    {
        using namespace boost::system::errc;
        spawner_wire::answer said;
        os::send_message(socket_, bytes, fds, MSG_DONTWAIT, ec);
        for (int tries = 0; ec == resource_unavailable_try_again && !fds.empty() && tries != 1000; ++tries) {
            ::usleep(1000); // too many in flight, of this user: no descriptor tells when there are fewer
            os::send_message(socket_, bytes, fds, MSG_DONTWAIT, ec);
        }
        if (ec && !fds.empty() && ec != broken_pipe && ec != connection_reset) {
            auto const why = ec == resource_unavailable_try_again ? error_code{ETOOMANYREFS, boost::system::system_category()} : ec;
            // The helper waits for them: it must not take the next request for that.
            said = converse({&spawner_wire::no_descriptors, 1}, {}, came, ec);
            if (ec == operation_canceled) {
                ec = why;
            } else {
                ec = errc::spawner_gone;
                let_helper_end();
            }
            return said;
        }
        if (ec == no_buffer_space || ec == not_enough_memory) // nothing was said
            return said;
        // In line, as it would wait for a spawn of its own, but not for ever.
        os::received_message got;
        if (!ec && os::is_readable_within(socket_, std::chrono::seconds{10}))
            got = os::receive_message(socket_, std::as_writable_bytes(std::span{&said, 1}), came, MSG_DONTWAIT, ec);
        if (!ec && got.cut)
            ec = make_error_code(too_many_files_open); // here
        else if (!ec && !got.end && got.size == sizeof said)
            ec = said.error != 0 ? spawner_wire::error_of(said) : error_code{};
        else {
            // It has ended, or it hangs: what it says later would be taken for the answer to something else.
            said = {};
            ec = errc::spawner_gone;
            let_helper_end();
        }
        return said;
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
};

static_assert(Policy<spawner>);

} // namespace ecdysis::launch

#endif
