// refused: each policy of the upgrader must say which system calls it makes: a static constexpr array `system_calls`
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/seccomp/allowlist.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

struct no_calls : ecdysis::notify::none
{
    void system_calls() = delete;
};

using up = ecdysis::upgrader<ecdysis::io::sync, no_calls, ecdysis::transport::socketpair>;
auto const size = ecdysis::seccomp::allowlist<up>.size();
