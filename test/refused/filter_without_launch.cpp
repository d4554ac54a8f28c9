// refused: this launch policy must be there before the filter is: give its object too, as allow<upgrader>\(filter, launch\)
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

using up = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::socketpair, ecdysis::launch::spawner>;

void without_launch(::scmp_filter_ctx filter)
{
    ecdysis::seccomp::allow<up>(filter);
}
