// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_LINK_HPP
#define ECDYSIS_HANDOFF_LINK_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/transport/concept.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// A send that finds no room is tried again after this: no descriptor tells when there is some (unix(7), ETOOMANYREFS).
inline constexpr std::chrono::milliseconds retry_pause{2};

[[nodiscard]] inline bool is_again(error_code const& ec) noexcept
{
    return ec == boost::system::errc::resource_unavailable_try_again;
}

/// Whether to send the same again later: there was no room, or no memory. Who reads no more, and what cannot be sent at all,
/// stays so.
[[nodiscard]] inline bool may_succeed_later(error_code const& ec) noexcept
{
    using namespace boost::system::errc;
    if (is_again(ec)) // also what a transport has made of ETOOMANYREFS and the like, which is of another category
        return true;
    return ec && ec.category() == boost::system::system_category() && ec != broken_pipe && ec != connection_reset &&
           ec != bad_file_descriptor && ec != not_a_socket && ec != message_size && ec != invalid_argument;
}

/// What one look at a link gave.
enum class heard {
    nothing, ///< there is nothing now
    frame,
    garbage, ///< a frame that makes no sense; others may follow
    closed,  ///< the other side closed its end, and all it sent has been read. This says nothing of its life
    broken,  ///< nothing more can be read
};

/// One side's end of a transport, in frames.
template <transport::End End>
class link
{
public:
    link() = default;
    explicit link(End end) : end_{std::move(end)} {}

    [[nodiscard]] os::borrowed_fd fd() const noexcept { return end_.fd(); }

    /// Never waits. Errors: those of `encode`, and of the transport's `send`.
    void send(frame const& what, error_code& ec) { send(what, {}, ec); }
    void send(frame const& what, std::span<os::borrowed_fd const> fds, error_code& ec)
    {
        auto const bytes = encode(what, ec);
        if (!ec)
            end_.send(bytes.bytes(), fds, ec);
    }

    /// Never waits. `ec` says why it is garbage, or broken.
    [[nodiscard]] heard receive(frame& said, std::vector<os::owned_fd>& fds, error_code& ec)
    {
        std::array<std::byte, max_frame> buffer;
        auto const got = end_.receive(buffer, fds, ec);
        if (ec)
            return heard::broken;
        if (got.what == transport::received::kind::again)
            return heard::nothing;
        if (got.what == transport::received::kind::closed)
            return heard::closed;
        said = decode(std::span{buffer}.first(got.size), ec);
        return ec ? heard::garbage : heard::frame;
    }

private:
    End end_;
};

} // namespace ecdysis::handoff

#endif
