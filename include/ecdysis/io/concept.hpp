// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_CONCEPT_HPP
#define ECDYSIS_IO_CONCEPT_HPP

#include <ecdysis/drain.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/io/outcome.hpp>
#include <ecdysis/os/fd.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace ecdysis::io {

using clock = std::chrono::steady_clock;

/// `time` from now; the clock's end if that is later, as after milliseconds::max().
[[nodiscard]] inline clock::time_point after(std::chrono::milliseconds time) noexcept
{
    auto const now = clock::now();
    auto const left = std::chrono::floor<std::chrono::milliseconds>(clock::time_point::max() - now);
    return time < left ? now + time : clock::time_point::max();
}

/// What a policy of the axis `io` must offer: waiting.
///
/// | expression              | result | meaning                                                              |
/// | ----------------------- | ------ | -------------------------------------------------------------------- |
/// | `T::name`               | string_view | the word for it in messages                                     |
/// | `T::blocking`           | bool   | true: has `wait(outcome, ec)`; false: has `async_wait<T>(init, token)`, where `init()` gives the outcome |
/// | `io.lock()`             | guard  | nothing of this policy runs while it is held; recursive, RAII        |
/// | `io.watch(fd, f, ec)`   | handle | `f()` each time `fd` is readable or at its end (level-triggered), until the handle goes, whatever fails meanwhile; one watch for a descriptor at a time |
/// | `io.at(time, f)`        | handle | `f()` once, not before `time`                                        |
/// | `io.signals(set, f, ec)`| handle | `f(signal)`; handlers are installed and the set unblocked in this thread. Dropping the handle brings the previous dispositions back |
/// | `io.post(f)`            | void   | `f()` soon; from any thread; takes no lock that is held during a callback |
/// | `io.get_poster()`       | T::poster | copyable; `poster(f)` is `post(f)`, and after the policy's end nothing |
/// | `io.make_source(fd, connections, ec)` | `shared_ptr<T::source>` | owns a listening or datagram socket, and makes it non-blocking |
/// | `source.fd()`           | borrowed_fd | valid until `close()`, none after                               |
/// | `source.open()`         | void   | from now on the host's calls complete; before, they wait             |
/// | `source.pause()`        | void   | from now on the host's calls wait again, until `open()`; what is in the queue stays there |
/// | `source.end(empty_first)` | void | the host's calls end with `errc::ended`; `empty_first`: when the queue is empty, and until then a guard is held |
/// | `source.close()`        | void   | ends, and closes the socket when the last call in flight has left. To be called before the policy's user goes |
/// | `T::tcp_listener`, `T::unix_listener`, `T::seqpacket_listener` | type | the host's handles on listening sockets, made from a `shared_ptr<T::source>` |
/// | `T::datagram`           | type   | the host's handle on a datagram socket, made likewise                |
///
/// A handle is movable and default-constructible (empty). Its destructor, or assigning an empty one, cancels:
/// `f` is never called after. Handles are made and dropped with the lock held, or before anything runs.
/// Every `f` is called with the lock held, never two at once, never from inside the call that registered it.
/// A callback may drop its own handle. Sources and handles may outlive the policy.
/// An accepted connection has its guard from before accept4 is called. Guards are dropped with locks of the source held,
/// so what `open_connections::watch` calls should do no more than post.
///
/// For seccomp::allowlist it also says which system calls it makes: a `static constexpr` array `system_calls`, see seccomp/rule.hpp.
template <class T>
concept Policy = requires(T& io, os::borrowed_fd fd, std::function<void()> f, std::function<void(int)> on_signal,
                          clock::time_point time, std::span<int const> set, error_code& ec,
                          outcome<nothing>& what, std::function<outcome<nothing>&()> init) {
    { T::name } -> std::convertible_to<std::string_view>;
    { T::blocking } -> std::convertible_to<bool>;
    requires std::default_initializable<typename T::handle> && std::movable<typename T::handle>;
    io.lock();
    { io.watch(fd, f, ec) } -> std::same_as<typename T::handle>;
    { io.at(time, f) } -> std::same_as<typename T::handle>;
    { io.signals(set, on_signal, ec) } -> std::same_as<typename T::handle>;
    { io.post(f) } -> std::same_as<void>;
    { io.get_poster() } -> std::same_as<typename T::poster>;
    requires std::copyable<typename T::poster> && std::invocable<typename T::poster const&, std::function<void()>>;
    requires(!T::blocking) || requires { io.wait(what, ec); };
    requires T::blocking || requires { io.template async_wait<nothing>(init); };
    { io.make_source(os::owned_fd{}, std::shared_ptr<open_connections>{}, ec) }
        -> std::same_as<std::shared_ptr<typename T::source>>;
    requires requires(typename T::source& source, bool empty_first) {
        { source.fd() } -> std::same_as<os::borrowed_fd>;
        source.open();
        source.pause();
        source.end(empty_first);
        source.close();
    };
    requires std::constructible_from<typename T::tcp_listener, std::shared_ptr<typename T::source>>;
    requires std::constructible_from<typename T::unix_listener, std::shared_ptr<typename T::source>>;
    requires std::constructible_from<typename T::seqpacket_listener, std::shared_ptr<typename T::source>>;
    requires std::constructible_from<typename T::datagram, std::shared_ptr<typename T::source>>;
};

} // namespace ecdysis::io

#endif
