// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_TURNS_HPP
#define ECDYSIS_IO_TURNS_HPP

#include <ecdysis/io/concept.hpp>

#include <functional>
#include <utility>

namespace ecdysis::io {

/// `f()` after two turns of the host's loop, in which a signal that has come by now is heard: Asio reads its pipe of signals
/// in the first, and calls handlers in the second. `as`: what cancels it; it must live until then.
template <Policy Io>
void after_two_turns(Io& io, typename Io::handle& as, std::function<void()> f)
{
    as = io.at(clock::now(), [&io, &as, f = std::move(f)] {
        as = io.at(clock::now(), [&as, f] {
            auto const call = f;
            as = {};
            call();
        });
    });
}

} // namespace ecdysis::io

#endif
