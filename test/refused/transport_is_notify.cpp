// refused: the third policy of an upgrader is a transport policy: use transport::named_pipe or transport::socketpair
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>

using up = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::notify::none>;
auto const size = sizeof(up);
