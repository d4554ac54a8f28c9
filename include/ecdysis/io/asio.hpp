// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_ASIO_HPP
#define ECDYSIS_IO_ASIO_HPP

#include <ecdysis/io/asio_listener.hpp>
#include <ecdysis/io/asio_outcome.hpp>
#include <ecdysis/io/asio_registration.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <boost/asio/deferred.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/generic/seq_packet_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace ecdysis::io {

/// The policy of Asio hosts. Its callbacks run on one strand of the host's execution context, with the policy's lock
/// held.
///
/// Thread safety: all members may be called from any thread, and any number of threads may run the context.
/// Lifetimes: handles, sources and posters may outlive it; nothing but a poster may outlive the context.
class asio
{
public:
    static constexpr std::string_view name = "asio";
    static constexpr bool blocking = false;

    using executor_type = boost::asio::any_io_executor;
    using handle = io::handle;
    using source = asio_source;
    template <class Protocol>
    using listener = asio_listener<Protocol>;
    using tcp_listener = listener<boost::asio::ip::tcp>;
    using unix_listener = listener<boost::asio::local::stream_protocol>;
    using seqpacket_listener = listener<boost::asio::generic::seq_packet_protocol>;
    using datagram = asio_datagram;
    template <class Protocol>
    using connection = asio_connection<Protocol>;
    using default_token = boost::asio::deferred_t;

    class poster;

    static constexpr auto system_calls = seccomp::declare(
        "io::asio", accept_calls, signal_calls,
        std::array{
            seccomp::calls("accept4", "connections", seccomp::is(3, SOCK_CLOEXEC | SOCK_NONBLOCK)),
            seccomp::calls("epoll_create1", "the reactor", seccomp::is(0, EPOLL_CLOEXEC)),
            seccomp::calls("epoll_ctl", "the reactor"),
            seccomp::calls("epoll_wait", "the reactor").only_on(seccomp::architecture::x86_64),
            seccomp::calls("epoll_pwait", "the reactor").only_on(seccomp::architecture::aarch64),
            seccomp::calls("timerfd_create", "the reactor's timers", seccomp::is(0, CLOCK_MONOTONIC), seccomp::is(1, TFD_CLOEXEC)),
            seccomp::calls("timerfd_settime", "the reactor's timers"),
            seccomp::calls("eventfd2", "wakes the reactor", seccomp::is(1, EFD_CLOEXEC | EFD_NONBLOCK)),
            seccomp::calls("pipe2", "tells the reactor of signals", seccomp::is(1, 0)),
            seccomp::calls("fcntl", "Asio's pipe for signals", seccomp::is(1, F_SETFL)),
            seccomp::calls("ioctl", "so that it does not wait", seccomp::is(1, FIONBIO)),
            seccomp::calls("read", "signals and wakings"),
            seccomp::calls("write", "signals and wakings"),
        });

    /// Runs on a strand of its own over `executor`, whose context must outlive the upgrader. Handlers that have no
    /// executor of their own complete on `executor`, and accepted sockets get it.
    template <class Executor>
        requires(!std::is_same_v<Executor, asio>) && is_executor_v<Executor>
    asio(Executor const& executor) : state_{std::make_shared<asio_state>(executor)}
    {}
    /// The same over the executor of `context`: an io_context, a thread_pool.
    template <class Context>
        requires(!std::is_same_v<Context, asio>) && std::is_convertible_v<Context&, boost::asio::execution_context&>
    asio(Context& context) : asio{context.get_executor()}
    {}
    asio(asio&&) noexcept = default;
    asio& operator=(asio&&) = delete;
    ~asio()
    {
        if (state_) {
            auto const keep = state_;
            std::lock_guard const hold{keep->mutex};
            keep->gone = true;
        }
    }

    /// What it was constructed with.
    [[nodiscard]] executor_type get_executor() const { return state_->executor; }

    [[nodiscard]] std::unique_lock<std::recursive_mutex> lock() const { return std::unique_lock{state_->mutex}; }

    [[nodiscard]] handle watch(os::borrowed_fd fd, std::function<void()> f, error_code& ec)
    {
        auto const hold = lock();
        auto added = std::make_shared<asio_watching>(state_, std::move(f));
        handle result{added};
        added->start(fd, ec);
        return ec ? handle{} : std::move(result);
    }

    [[nodiscard]] handle at(clock::time_point time, std::function<void()> f)
    {
        auto const hold = lock();
        auto added = std::make_shared<asio_timing>(state_, std::move(f));
        handle result{added};
        added->start(time);
        return result;
    }

    /// By Asio's signal_set, so that the host may have others on the same signals. `f` runs once for each time a signal
    /// came, as far as the kernel and Asio do not merge them.
    [[nodiscard]] handle signals(std::span<int const> set, std::function<void(int)> f, error_code& ec)
    {
        auto const hold = lock();
        auto added = std::make_shared<asio_signalling>(state_, std::move(f));
        handle result{added};
        added->start(set, ec);
        return ec ? handle{} : std::move(result);
    }

    void post(std::function<void()> f) { asio_state::post(state_, std::move(f)); }
    [[nodiscard]] poster get_poster() const noexcept;

    [[nodiscard]] std::shared_ptr<source> make_source(os::owned_fd socket,
                                                      std::shared_ptr<open_connections> connections, error_code& ec)
    {
        auto made = std::make_shared<source>(state_->executor, std::move(socket), std::move(connections), ec);
        return ec ? nullptr : made;
    }

    /// Waits for an outcome: `void(error_code, T)`, for `nothing` `void(error_code)`. `init()` is called once, with the
    /// lock held, when the operation is initiated, and gives the `outcome<T>&`. Whoever owns that sets it before it
    /// goes.
    ///
    /// Errors: those of the outcome; `errc::already_waiting` when somebody waits for it already; `operation_aborted`.
    /// Completion: on the handler's associated executor, never inside this call nor with the lock held; else on the
    /// upgrader's.
    /// Cancellation: per operation, all types, from any thread; the outcome is then no longer awaited, nothing else.
    template <class T, class Init, class Token = default_token>
    auto async_wait(Init init, Token&& token = Token{})
    {
        return boost::asio::async_initiate<Token, typename outcome_signature<T>::type>(
            [state = state_](auto&& handler, Init init) {
                using handler_type = std::decay_t<decltype(handler)>;
                handler_type copy(std::forward<decltype(handler)>(handler));
                std::make_shared<asio_outcome_operation<T, handler_type>>(state, std::move(copy))->start(init);
            },
            token, std::move(init));
    }

private:
    std::shared_ptr<asio_state> state_;
};

/// Posts to the policy it came from, from any thread, also after that policy has gone: then nothing happens.
class asio::poster
{
public:
    poster() noexcept = default;
    void operator()(std::function<void()> f) const
    {
        if (auto const to = state_.lock(); to && !to->gone)
            asio_state::post(to, std::move(f));
    }

private:
    friend class asio;
    explicit poster(std::weak_ptr<asio_state> to) noexcept : state_{std::move(to)} {}

    std::weak_ptr<asio_state> state_;
};

inline asio::poster asio::get_poster() const noexcept
{
    return poster{state_};
}

static_assert(Policy<asio>);

} // namespace ecdysis::io

#endif
