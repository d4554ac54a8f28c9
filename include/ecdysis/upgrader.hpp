// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_UPGRADER_HPP
#define ECDYSIS_UPGRADER_HPP

#include <ecdysis/generation/generation.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/transport/concept.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ecdysis {

/// The completion token of an asynchronous form that is given none; of no use with a blocking io policy.
template <class Io>
struct default_token
{
    using type = nothing;
};
template <class Io>
    requires(!Io::blocking)
struct default_token<Io>
{
    using type = typename Io::default_token;
};

/// Restarts the service that it is embedded in: a new process gets the listening sockets, and takes the service over when it
/// has proved that it serves. In an upgrade that succeeds no connection is refused, and those that are open may finish within
/// the deadline of drain().
///
///     upgrader<io::sync, notify::none, transport::named_pipe> up{{.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM}}};
///     auto listener = up.listen_tcp("0.0.0.0:8080"); // claimed from the parent, or bound anew
///     up.ready();                                    // returns at commit: now accept
///     std::jthread worker{[&] { while (auto connection = listener.accept()) serve(std::move(*connection)); }};
///     auto const exit = up.wait();                   // says that it serves; upgraded or stopped: accept() gives nothing more
///     up.drain(30s);                                 // until no connection is open, or 30 s
///
/// A host constructs it, names what it listens on and what it hands over, says ready, waits, drains, and ends. The
/// same lines serve the first generation and every later one. One upgrader in a process.
///
/// The order of an upgrade: ready, commit, serving, probation, alive, announcement, yours. Until the service manager's socket
/// has accepted the announcement (MAINPID= and READY=1 in one datagram), whatever happens to the child costs nothing: the
/// parent accepts again, and whoever asked hears why. Pid file, store, watchdog and control sockets are the child's after that.
///
/// Policies: `Io` io::sync or io::asio; `Notify` notify::none or notify::systemd; `Transport` transport::named_pipe or
/// transport::socketpair; `Launch` launch::direct or launch::spawner. Parent and child must be built with the same transport.
///
/// Errors: every call that can fail has a form that throws `error`, whose what() says what was tried, and on what; and
/// one with `error_code&` last, which does not throw `error`, and tells the observer (options) that sentence. Async
/// forms complete with the code and tell the observer, too. The constructors throw only.
///
/// Exception safety: a call that fails has changed nothing but where it says so. What a callback of the host throws
/// that is no `error` comes out of the call that ran it, of either form.
///
/// Thread safety: all members may be called from any thread, but ready(), wait() and drain() of a sync upgrader by one
/// thread at a time; none from a signal handler. Construct before starting threads: it takes a variable out of the
/// environment. Callbacks of the host (observer, state, setup) run with the upgrader's lock held, and must not wait.
///
/// Lifetimes: does not move. Listeners, connections, guards and offers may outlive it. The destructor kills a child that does
/// not serve yet, and waits for its end; a child that serves gets the service, announced without waiting. It throws nothing.
template <class Io, class Notify, class Transport, class Launch = launch::direct>
class upgrader
{
    static_assert(io::Policy<Io>, "the first policy of an upgrader is an io policy: use io::sync or io::asio, or see io/concept.hpp");
    static_assert(notify::Policy<Notify>, "the second policy of an upgrader is a notify policy: use notify::none or notify::systemd, or see notify/concept.hpp");
    static_assert(transport::Policy<Transport>, "the third policy of an upgrader is a transport policy: use transport::named_pipe or transport::socketpair, or see transport/concept.hpp");
    static_assert(launch::Policy<Launch>, "the fourth policy of an upgrader is a launch policy: use launch::direct, or see launch/concept.hpp");

public:
    // What the calls below give: handles on sockets that the upgrader owns. They move, accept in any number of threads
    // from commit on, may outlive the upgrader, and then say errc::ended. With io::sync all three listeners are one
    // type, whose accept() waits in line; with io::asio each has its protocol's socket, and async_accept().

    using tcp_listener = typename Io::tcp_listener;             ///< gives connections of TCP
    using unix_listener = typename Io::unix_listener;           ///< gives connections of a Unix stream socket
    using seqpacket_listener = typename Io::seqpacket_listener; ///< gives connections that keep messages apart
    using datagram = typename Io::datagram;                     ///< says when there is something to read

    using launch_policy = Launch;

    /// The first generation, or a later one: it then has got all from its parent when the constructor returns.
    ///
    /// Throws `error`: condition::bad_handoff when it was started by a parent and cannot take over, with the reason in
    /// words, which the parent is told too; what options name and cannot be had; errc::second_upgrader.
    explicit upgrader(ecdysis::options options, Notify notify = {}, Transport transport = {}, Launch launch = {})
        requires std::default_initializable<Io>
        : upgrader{Io{}, std::move(options), std::move(notify), std::move(transport), std::move(launch)}
    {}
    /// `io`: for io::asio an execution context or an executor.
    upgrader(Io io, ecdysis::options options, Notify notify = {}, Transport transport = {}, Launch launch = {})
        : generation_{{std::move(io), std::move(notify), std::move(transport), std::move(launch)}, std::move(options)}
    {}

    /// How many generations came before.
    [[nodiscard]] unsigned generation() const noexcept { return generation_.number(); }

    // ---- what it listens on: before ready, and later for new addresses. Each claims what the parent has under the
    // same kind and address, as it was asked for (port 0 keeps its port), or opens it. The first generation claims what
    // systemd passed (options.socket_activation): by listen_options::name, from its store, or by kind and address.
    // `where`: see address; its text may be given as it is. Nothing is accepted before commit, and a child's new listener
    // does not listen before.
    //
    // Errors: invalid_address (text that is none, or not of this kind); address_in_use (a Unix path where something
    // answers, or that is no socket); descriptor_mismatch (what the parent has is not what is asked for);
    // name_too_long; too_late between ready and commit; not_serving after a stop, or once the service is a child's; and what
    // socket(2), setsockopt(2), bind(2), listen(2) and chmod(2) say.

    /// A TCP listener on an IPv4 or IPv6 address, with SO_REUSEADDR.
    [[nodiscard]] tcp_listener listen_tcp(address const& where, listen_options const& options = {})
    {
        return tcp_listener{listen(socket_kind::tcp, where, options)};
    }
    template <AddressLike Where = address>
    [[nodiscard]] tcp_listener listen_tcp(Where const& where, listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return listen_tcp(address{where}, options); });
    }

    /// A Unix stream listener: a path, or @name. A path that a process which has gone left behind is replaced; it is
    /// unlinked when no generation listens there any more, while it is still that socket.
    [[nodiscard]] unix_listener listen_unix(address const& where, listen_options const& options = {})
    {
        return unix_listener{listen(socket_kind::unix_stream, where, options)};
    }
    template <AddressLike Where = address>
    [[nodiscard]] unix_listener listen_unix(Where const& where, listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return listen_unix(address{where}, options); });
    }

    /// The same with SOCK_SEQPACKET.
    [[nodiscard]] seqpacket_listener listen_seqpacket(address const& where, listen_options const& options = {})
    {
        return seqpacket_listener{listen(socket_kind::unix_seqpacket, where, options)};
    }
    template <AddressLike Where = address>
    [[nodiscard]] seqpacket_listener listen_seqpacket(Where const& where, listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return listen_seqpacket(address{where}, options); });
    }

    /// A UDP socket on an IPv4 or IPv6 address, non-blocking. Between commit and serving, and after a take-back until the child
    /// has stopped, parent and child read from one queue.
    [[nodiscard]] datagram bind_udp(address const& where, listen_options const& options = {})
    {
        return datagram{listen(socket_kind::udp, where, options)};
    }
    template <AddressLike Where = address>
    [[nodiscard]] datagram bind_udp(Where const& where, listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return bind_udp(address{where}, options); });
    }

    /// A Unix datagram socket: a path, or @name, as listen_unix() has it; otherwise as bind_udp().
    [[nodiscard]] datagram bind_unix(address const& where, listen_options const& options = {})
    {
        return datagram{listen(socket_kind::unix_datagram, where, options)};
    }
    template <AddressLike Where = address>
    [[nodiscard]] datagram bind_unix(Where const& where, listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return bind_unix(address{where}, options); });
    }

    /// SO_REUSEPORT shards: all that the parent has, whatever `count` says, for none of them may go with connections
    /// in its queue; and new ones up to `count`, which take part from commit on. At least one, also for a `count` of 0.
    /// When one fails none is opened, and those of the parent can be claimed again.
    [[nodiscard]] std::vector<tcp_listener> listen_tcp_shards(address const& where, std::size_t count,
                                                              listen_options const& options = {})
    {
        return shards<tcp_listener>(socket_kind::tcp, where, count, options);
    }
    template <AddressLike Where = address>
    [[nodiscard]] std::vector<tcp_listener> listen_tcp_shards(Where const& where, std::size_t count,
                                                              listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return listen_tcp_shards(address{where}, count, options); });
    }
    /// The same of UDP sockets. A datagram of one peer goes to one shard as long as their number stays the same.
    [[nodiscard]] std::vector<datagram> bind_udp_shards(address const& where, std::size_t count,
                                                        listen_options const& options = {})
    {
        return shards<datagram>(socket_kind::udp, where, count, options);
    }
    template <AddressLike Where = address>
    [[nodiscard]] std::vector<datagram> bind_udp_shards(Where const& where, std::size_t count,
                                                        listen_options const& options, error_code& ec)
    {
        return guarded(ec, [&] { return bind_udp_shards(address{where}, count, options); });
    }

    // ---- what it hands over besides

    /// Hands a duplicate of `fd` to the next generation under `name`, with `bytes` beside it (at most 256), for as long
    /// as the result lives: any file, a live connection too. Several may have one name; they keep their order. `fd`
    /// stays the caller's. Errors: name_too_long (also for more than 256 bytes), and what fcntl(2) says.
    [[nodiscard]] ecdysis::offer offer(std::string name, int fd, std::string bytes = {})
    {
        auto const hold = generation_.policies.io.lock();
        return offer_file(generation_.holdings().files(), std::move(name), fd, std::move(bytes));
    }
    [[nodiscard]] ecdysis::offer offer(std::string name, int fd, std::string bytes, error_code& ec)
    {
        return guarded(ec, [&] { return offer(std::move(name), fd, std::move(bytes)); });
    }
    /// The same, and kept in the service manager's store where the notify policy has one (notify::systemd::options::store):
    /// when the whole service was killed, the first generation of the one that is started again claims it by `name`. When
    /// the result goes while this generation serves, the file goes from the store; not with an exit or with this process.
    /// What a child or that first generation claimed and does not keep anew goes, too, when the service is its own. The manager
    /// keeps each file once, under the first of its names.
    [[nodiscard]] ecdysis::offer keep(std::string name, int fd)
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.claims().keep(std::move(name), fd);
    }
    [[nodiscard]] ecdysis::offer keep(std::string name, int fd, error_code& ec)
    {
        return guarded(ec, [&] { return keep(std::move(name), fd); });
    }
    /// The next file that the parent offers under `name`, or that the service manager passed to the first generation: from
    /// its store, or of a socket unit where it is no listener and no datagram socket (a FIFO, a special file, the
    /// "connection" of Accept=yes). Returns `nullopt` if no file of that name is left. Claim before ready: what was not claimed
    /// is closed at commit. What was claimed stays this generation's, also if the service is taken back. Errors: too_late between
    /// ready and commit; not_serving after a stop, or once the service is a child's.
    [[nodiscard]] std::optional<handed_over_file> claim(std::string const& name)
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.claims().file(name);
    }
    [[nodiscard]] std::optional<handed_over_file> claim(std::string const& name, error_code& ec)
    {
        return guarded(ec, [&] { return claim(name); });
    }
    /// The names of all files that claim() would find, in their order, one for each file.
    /// Empty after commit. Cannot fail.
    [[nodiscard]] std::vector<std::string> unclaimed_files()
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.holdings().unclaimed_files();
    }

    /// State of any size for the next generation. `fill` is called in each upgrade, `undo` if that fails afterwards, also if the
    /// service is taken back from a child that has read the state. So `fill` must not destroy what it writes down. What `fill`
    /// throws fails the upgrade: an `error` with its code, else with state_failed. Early state is there when the child starts,
    /// late state, filled at commit, after its ready(). State that is named during an upgrade is for the next one. Both are kept
    /// as long as the upgrader lives.
    ///
    /// Errors: name_too_long (more than 200 bytes); invalid_argument (there is one of that name).
    void hand_over_state(std::string name, handover when, state_filler fill, state_undo undo = {})
    {
        auto const hold = generation_.policies.io.lock();
        generation_.holdings().states().add(std::move(name), when, std::move(fill), std::move(undo));
    }
    void hand_over_state(std::string name, handover when, state_filler fill, state_undo undo, error_code& ec)
    {
        guarded(ec, [&] { hand_over_state(std::move(name), when, std::move(fill), std::move(undo)); });
    }
    /// The parent's state of that name, once; `nullopt` if there is none. The result may outlive the upgrader. What was not
    /// read is dropped and reported: early state at commit, late state when this generation retires or stops.
    ///
    /// Errors: not_serving for late state before commit; state_not_sealed if somebody could still change it; what
    /// fstat(2) and mmap(2) say, such as not_enough_memory. It can be asked for again after an error.
    [[nodiscard]] std::optional<ecdysis::inherited_state> inherited_state(std::string const& name)
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.claims().state(name);
    }
    [[nodiscard]] std::optional<ecdysis::inherited_state> inherited_state(std::string const& name, error_code& ec)
    {
        return guarded(ec, [&] { return inherited_state(name); });
    }

    /// The datagram pair between this generation and the one before, and after (options.channel): AF_UNIX SOCK_DGRAM,
    /// non-blocking, the caller's own; empty if there is none, or it was taken. To the parent from construction on, to
    /// the child from the exit `upgraded` on. Neither can fail.
    [[nodiscard]] os::owned_fd take_channel_to_parent()
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.holdings().take_parent_channel();
    }
    [[nodiscard]] os::owned_fd take_channel_to_child()
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.holdings().take_child_channel();
    }

    // ---- ready

    /// Says that this generation could serve, and returns at commit: from then on it may accept. In the first generation it
    /// returns at once, and the service is its own. Claim and open all descriptors before.
    ///
    /// Stop signals (options.stop_on) end the process until the first generation's ready(), or a child's commit. What the host
    /// does between ready() and wait() must fit the parent's options.serving_timeout.
    ///
    /// Errors: condition::bad_handoff (the parent died under a service manager, or said nonsense); stopped;
    /// no_service_manager, or why the service manager cannot be told; a pid file that cannot be written;
    /// already_waiting. All but the last are final: the parent is told and serves on, and later calls return the same result.
    void ready(error_code& ec)
        requires(Io::blocking)
    {
        (void)pump("become ready", [this]() -> auto& { return generation_.begin_ready(); }, ec);
    }
    void ready()
        requires(Io::blocking)
    {
        (void)pump("become ready", [this]() -> auto& { return generation_.begin_ready(); });
    }
    /// The same as an asynchronous operation, void(error_code). Cancelling it (terminal, partial, total) cancels the
    /// waiting, never the upgrade: it can be waited for again. Errors: those of ready(), and operation_aborted when it
    /// was cancelled or the upgrader has gone.
    template <class Token = typename default_token<Io>::type>
    auto async_ready(Token&& token = {})
        requires(!Io::blocking)
    {
        return generation_.policies.io.template async_wait<nothing>(
            [this]() -> outcome<nothing>& { return generation_.begin_ready(); }, std::forward<Token>(token));
    }

    /// Says in a child why it cannot serve: the parent reports it, the upgrade fails, and the parent serves on. Before commit
    /// ready() fails: end the process then. From commit until the service is the child's, during options.probation too (a
    /// health check), the parent takes the service back, and wait() gives `stopped`: drain, then end. No effect in the first
    /// generation, once the announcement was accepted, and when the service is this generation's. Only the first call counts.
    /// Line breaks become spaces where it is told in one line.
    void fail(std::string_view why)
    {
        auto const hold = generation_.policies.io.lock();
        generation_.fail(std::string{why});
    }

    // ---- wait

    /// Returns when the process should end: upgraded, stopped, or partially stopped. Its first call tells the parent
    /// that this generation serves, so call it when accepting has begun; the parent accepts until then. An async_wait()
    /// that was called before commit tells it at commit. The parent then watches this child for options.probation, asks whether
    /// it is alive, which is answered from here (or, with io::asio, from its context), and announces it.
    ///
    /// In a child from which the parent took the service back it gives `stopped` by trigger::source::handoff.
    ///
    /// Later calls return the same result. Errors: already_waiting; in a child that gave up, why.
    exit wait(error_code& ec)
        requires(Io::blocking)
    {
        return pump("wait for an exit", [this]() -> auto& { return generation_.begin_wait(); }, ec);
    }
    exit wait()
        requires(Io::blocking)
    {
        return pump("wait for an exit", [this]() -> auto& { return generation_.begin_wait(); });
    }
    /// The same as an asynchronous operation, void(error_code, exit). One at a time, a second completes with
    /// already_waiting; cancelling it (terminal, partial, total) cancels the waiting. Errors: those of wait(), and
    /// operation_aborted when it was cancelled or the upgrader has gone.
    template <class Token = typename default_token<Io>::type>
    auto async_wait(Token&& token = {})
        requires(!Io::blocking)
    {
        return generation_.policies.io.template async_wait<exit>(
            [this]() -> outcome<exit>& { return generation_.begin_wait(); }, std::forward<Token>(token));
    }

    // ---- drain

    /// Waits until no guard is left, or `deadline` has passed, or a stop ends it, and gives the number left. It ends all that
    /// the upgrader does; what is left is for the host to close, and then the process should end.
    ///
    /// A call or a control socket that asks for a stop ends a drain now. So does a second stop signal, but not in a generation
    /// that drains under a service manager and is not its main process: a manager sends the signal of one stop twice. A stop
    /// that the other generation passed on and a signal are one. The drain is not over before a child that failed or was stopped
    /// has ended, at most options.kill_grace past `deadline`.
    ///
    /// Guards and connections() tell when to say `Connection: close`, and after options.idle_grace when to close idle
    /// ones. `deadline` counts from the first call; later calls wait for the same end. Zero or less ends it at once.
    ///
    /// Errors: already_waiting.
    std::size_t drain(std::chrono::milliseconds deadline, error_code& ec)
        requires(Io::blocking)
    {
        return pump("drain", [&]() -> auto& { return generation_.begin_drain(deadline); }, ec);
    }
    std::size_t drain(std::chrono::milliseconds deadline)
        requires(Io::blocking)
    {
        return pump("drain", [&]() -> auto& { return generation_.begin_drain(deadline); });
    }
    /// The same as an asynchronous operation, void(error_code, std::size_t). Cancelling it (terminal, partial, total)
    /// cancels the waiting, never the drain. Errors: already_waiting, and operation_aborted when it was cancelled or
    /// the upgrader has gone.
    template <class Token = typename default_token<Io>::type>
    auto async_drain(std::chrono::milliseconds deadline, Token&& token = {})
        requires(!Io::blocking)
    {
        return generation_.policies.io.template async_wait<std::size_t>(
            [this, deadline]() -> outcome<std::size_t>& { return generation_.begin_drain(deadline); },
            std::forward<Token>(token));
    }

    /// The open connections, for a host that counts its own beside the accepted ones:
    /// `connection_guard{up.connections()}`.
    [[nodiscard]] std::shared_ptr<open_connections> const& connections() const noexcept
    {
        return generation_.holdings().connections();
    }

    // ---- triggers by call, from any thread. They return at once; the request is looked at where the upgrader runs,
    // with io::sync once a thread is in ready(), wait() or drain(). `told`, if given, gets the line that a control
    // socket would get, without its line break, once, from there with the lock held; what it throws ends the process.
    // It is not called when the upgrader goes before the request was looked at.

    /// Starts the next generation. Told when the service is that one's, or why it is not; at once if it is refused:
    ///
    ///     ok generation=3 pid=4711 took_ms=2.1
    ///     ok generation=3 pid=4711 took_ms=2.1 warnings="write the pid file /run/x/pid: No space left on device"
    ///     failed phase=starting reason="exit status 3: config: no such upstream"
    ///     busy
    void request_upgrade(std::function<void(std::string const&)> told = {}) { ask(request::upgrade, std::move(told)); }
    /// Ends accepting and the service: wait() gives `stopped`; a drain that is under way ends now. Told
    /// `ok exit=stopped connections=0` when the drain is over, with the number that was left.
    void request_stop(std::function<void(std::string const&)> told = {}) { ask(request::stop, std::move(told)); }
    /// Ends accepting and tells the service manager nothing: wait() gives `partially_stopped`, and notifier() is the
    /// host's from then on. Told `ok exit=partially-stopped connections=2` at once, with the number of open ones.
    void request_partial_stop(std::function<void(std::string const&)> told = {})
    {
        ask(request::partial_stop, std::move(told));
    }

    /// For a host that speaks to the service manager itself, as after a partial stop. Lives as long as the upgrader.
    [[nodiscard]] Notify& notifier() noexcept { return generation_.policies.notify; }

private:
    [[nodiscard]] auto listen(socket_kind kind, address const& where, listen_options const& options)
    {
        auto const hold = generation_.policies.io.lock();
        return generation_.claims().socket(kind, where, options);
    }

    template <class Handle>
    [[nodiscard]] std::vector<Handle> shards(socket_kind kind, address const& where, std::size_t count,
                                             listen_options const& options)
    {
        auto const hold = generation_.policies.io.lock();
        std::vector<Handle> result;
        for (auto& source : generation_.claims().shards(kind, where, count, options))
            result.emplace_back(std::move(source));
        return result;
    }

    void ask(request what, std::function<void(std::string const&)> told)
    {
        generation_.post(
            [this, what, told = std::move(told)] { generation_.ask(what, {}, told ? requester{told} : requester{}); });
    }

    /// The error_code form of a throwing one; the sentence goes to the observer.
    template <class F>
    auto guarded(error_code& ec, F&& f)
    {
        try {
            ec.clear();
            return f();
        } catch (error const& e) {
            ec = e.code();
            auto const hold = generation_.policies.io.lock();
            generation_.warn(e.what());
            return decltype(f())();
        }
    }

    /// Waits in line for the outcome that `begin` gives. What failed has said its sentence to the observer then, but
    /// for a wait that could not begin.
    template <class F>
    auto pump(char const* what, F&& begin, error_code& ec)
    {
        auto result = outcome_of(std::forward<F>(begin), ec);
        if (ec == errc::already_waiting) {
            auto const hold = generation_.policies.io.lock();
            generation_.warn(error{ec, what}.what());
        }
        return std::move(result.value);
    }
    /// The throwing form. `what` is the sentence of an outcome that has none.
    template <class F>
    auto pump(char const* what, F&& begin)
    {
        error_code ec;
        auto result = outcome_of(std::forward<F>(begin), ec);
        if (ec)
            throw error{ec, result.tried.empty() ? what : result.tried};
        return std::move(result.value);
    }
    template <class F>
    [[nodiscard]] auto outcome_of(F&& begin, error_code& ec)
    {
        auto hold = generation_.policies.io.lock();
        auto& outcome = begin();
        hold.unlock();
        return generation_.policies.io.wait(outcome, ec);
    }

    ecdysis::generation<Io, Notify, Transport, Launch> generation_;
};

} // namespace ecdysis

#endif
