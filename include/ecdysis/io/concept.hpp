// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_CONCEPT_HPP
#define ECDYSIS_IO_CONCEPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <span>

namespace ecdysis::io {

using clock = std::chrono::steady_clock;

/// What a policy of the axis `io` must offer: waiting.
///
/// | expression              | result | meaning                                                              |
/// | ----------------------- | ------ | -------------------------------------------------------------------- |
/// | `T::name`               | string_view | the word for it in messages                                     |
/// | `T::blocking`           | bool   | true: has `wait(outcome)`; false: has `async_wait(initiate, token)`  |
/// | `io.lock()`             | guard  | nothing of this policy runs while it is held; recursive, RAII        |
/// | `io.watch(fd, f, ec)`   | handle | `f()` each time `fd` is readable or at its end (level-triggered)     |
/// | `io.at(time, f)`        | handle | `f()` once, not before `time`                                        |
/// | `io.signals(set, f, ec)`| handle | `f(signal)`; handlers are installed and the set unblocked in this thread. Dropping the handle brings the previous dispositions back |
/// | `io.post(f)`            | void   | `f()` soon; from any thread, also after the policy's end (then never)|
/// | `T::template listener<P>`| type  | the host's handle on a listening socket (see io/sync.hpp, io/asio.hpp)|
/// | `T::datagram`           | type   | the host's handle on a datagram socket                               |
///
/// A handle is movable and default-constructible (empty). Its destructor, or assigning an empty one, cancels:
/// `f` is never called after. Handles are made and dropped with the lock held, or before anything runs.
/// Every `f` is called with the lock held, never two at once, never from inside the call that registered it.
/// A callback may drop its own handle.
template <class T>
concept Policy = requires(T& io, os::borrowed_fd fd, std::function<void()> f, std::function<void(int)> on_signal,
                          clock::time_point time, std::span<int const> set, error_code& ec) {
    { T::blocking } -> std::convertible_to<bool>;
    requires std::default_initializable<typename T::handle> && std::movable<typename T::handle>;
    io.lock();
    { io.watch(fd, f, ec) } -> std::same_as<typename T::handle>;
    { io.at(time, f) } -> std::same_as<typename T::handle>;
    { io.signals(set, on_signal, ec) } -> std::same_as<typename T::handle>;
    { io.post(f) } -> std::same_as<void>;
};

} // namespace ecdysis::io

#endif
