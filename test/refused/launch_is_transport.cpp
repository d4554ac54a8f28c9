// refused: the fourth policy of an upgrader is a launch policy: use launch::direct
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

using up = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::socketpair, ecdysis::transport::socketpair>;
auto const size = sizeof(up);
