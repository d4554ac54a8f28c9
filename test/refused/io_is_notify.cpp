// refused: the first policy of an upgrader is an io policy: use io::sync or io::asio
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

using up = ecdysis::upgrader<ecdysis::notify::none, ecdysis::notify::none, ecdysis::transport::socketpair>;
auto const size = sizeof(up);
