// refused: the second policy of an upgrader is a notify policy: use notify::none or notify::systemd
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

struct forgetful : ecdysis::notify::none
{
    void stores() const noexcept;
};

using up = ecdysis::upgrader<ecdysis::io::sync, forgetful, ecdysis::transport::socketpair>;
auto const size = sizeof(up);
