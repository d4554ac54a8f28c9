// refused: the first policy of an upgrader is an io policy: use io::sync or io::asio
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/upgrader.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>

struct no_watch : ecdysis::io::sync
{
    void watch() = delete;
};

using up = ecdysis::upgrader<no_watch, ecdysis::notify::none, ecdysis::transport::socketpair>;
auto const size = sizeof(up);
