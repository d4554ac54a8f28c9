// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HPP
#define ECDYSIS_HPP

// Everything but what needs more than Asio and Boost.Process: log.hpp (Boost.Log). A host that wants less includes
// ecdysis/upgrader.hpp and the headers of the policies that it uses.

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#endif
