// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TRANSPORT_CONCEPT_HPP
#define ECDYSIS_TRANSPORT_CONCEPT_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ecdysis::transport {

/// What came of a `receive`.
struct received
{
    enum class kind {
        frame,  ///< one whole frame of `size` bytes
        again,  ///< nothing there now
        closed, ///< the other side closed its end, and all it sent has been read. This says nothing of its life
    };
    kind what = kind::again;
    std::size_t size = 0;
};

/// What the parent makes for one upgrade.
template <class End>
struct offer
{
    End ours;
    /// The child's side: to be dropped once the child was started, or was not.
    std::vector<os::owned_fd> theirs;
    /// What the child must inherit, to be its numbers 3, 4, 5 … in this order.
    std::vector<os::borrowed_fd> inherited;
    /// What `adopt` in the child needs: where it is, and its identity (device and inode).
    std::string text;
};

/// One side of a handoff.
///
/// | expression                    | result      | meaning                                                       |
/// | ----------------------------- | ----------- | ------------------------------------------------------------- |
/// | `end.fd()`                    | borrowed_fd | readable when `receive` has something, or at the end          |
/// | `end.send(frame, fds, ec)`    | void        | all of it or nothing; `resource_unavailable_try_again`: try again by a timer; `broken_pipe`: nobody reads |
/// | `end.receive(buffer, fds, ec)`| received    | never waits; appends the frame's descriptors, close-on-exec. A frame that is corrupt gives `errc::corrupt_handoff` |
template <class E>
concept End = std::movable<E> && requires(E& end, E const& c, std::span<std::byte const> frame, std::span<std::byte> buffer,
                                          std::span<os::borrowed_fd const> lent, std::vector<os::owned_fd>& fds, error_code& ec) {
    { c.fd() } noexcept -> std::same_as<os::borrowed_fd>;
    { end.send(frame, lent, ec) } -> std::same_as<void>;
    { end.receive(buffer, fds, ec) } -> std::same_as<received>;
};

/// What a policy of the axis `transport` must offer: carrying frames and descriptors between parent and child.
///
/// | expression                | result     | meaning                                                            |
/// | ------------------------- | ---------- | ------------------------------------------------------------------ |
/// | `T::name`                 | string_view| the first word of ECDYSIS_HANDOFF, no spaces                       |
/// | `t.make(descriptors, ec)` | offer<end> | in the parent; `descriptors` are all that this handoff will send, in the order of sending |
/// | `t.adopt(text, ec)`       | end        | in the child; `errc::handoff_variable` if unreadable, `errc::stale_handoff` if the numbers are not that handoff's. On an error no descriptor is touched |
///
/// For seccomp::allowlist it also says which system calls it makes: a `static constexpr` array `system_calls`, see seccomp/rule.hpp.
template <class T>
concept Policy = End<typename T::end> && requires(T& t, std::span<os::borrowed_fd const> descriptors, std::string_view text, error_code& ec) {
    { T::name } -> std::convertible_to<std::string_view>;
    { t.make(descriptors, ec) } -> std::same_as<offer<typename T::end>>;
    { t.adopt(text, ec) } -> std::same_as<typename T::end>;
};

} // namespace ecdysis::transport

#endif
