// refused: the second policy of an upgrader is a notify policy: use notify::none or notify::systemd
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

struct no_advice : ecdysis::notify::none
{
    void advice() = delete;
};

using up = ecdysis::upgrader<ecdysis::io::sync, no_advice, ecdysis::transport::socketpair>;
auto const size = sizeof(up);
