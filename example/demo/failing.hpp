// SPDX-License-Identifier: BSL-1.0
#ifndef EXAMPLE_DEMO_FAILING_HPP
#define EXAMPLE_DEMO_FAILING_HPP

#include "../arguments.hpp"

#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

namespace demo {

/// The beginning of a next generation of http_asio: it takes the sockets over, and then does `what` instead of serving.
template <class F>
int take_over_and(int argc, char** argv, F what)
{
    unsigned ignored = 0;
    auto const arguments = example::arguments::read(
        argc, argv, "Takes http_asio's place, and fails.",
        {example::number("--threads", ignored, "ignored"), example::number("--ready-timeout", ignored, "ignored")});
    ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, ecdysis::transport::socketpair> up{
        {.control = {.upgrade = arguments.control}, .pid_file = arguments.pid_file}};
    auto const listener = up.listen_tcp(arguments.listen);
    return what();
}

} // namespace demo

#endif
