// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_SOCKET_RECORD_HPP
#define ECDYSIS_HANDOFF_SOCKET_RECORD_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/listener.hpp>

namespace ecdysis::handoff {

/// What a socket of that kind is on the wire.
[[nodiscard]] constexpr descriptor_kind wire_kind(socket_kind kind) noexcept
{
    return is_datagram(kind) ? descriptor_kind::datagram : descriptor_kind::listener;
}

} // namespace ecdysis::handoff

#endif
