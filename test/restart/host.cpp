// SPDX-License-Identifier: BSL-1.0
// A small real service for the tests beside it: it answers each line with `GENERATION PID`, on everything it listens
// on, and ends as it is told. It is built once for each assembly:
//
//     -DECDYSIS_TEST_IO=sync|asio -DECDYSIS_TEST_NOTIFY=none|systemd -DECDYSIS_TEST_TRANSPORT=named_pipe|socketpair
//     -DECDYSIS_TEST_LAUNCH=direct|spawner
//
// Arguments: host_settings.hpp. What it answers to: service::answer in host_service.hpp.
#include "host_settings.hpp"

#define ECDYSIS_TEST_JOIN_(a, b) a##b
#define ECDYSIS_TEST_JOIN(a, b) ECDYSIS_TEST_JOIN_(a, b)
#define ECDYSIS_TEST_IS_sync 1
#define ECDYSIS_TEST_IS_asio 2
#if ECDYSIS_TEST_JOIN(ECDYSIS_TEST_IS_, ECDYSIS_TEST_IO) == ECDYSIS_TEST_IS_sync
#    include "host_sync.hpp"
#else
#    include "host_asio.hpp"
#endif

#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>

template <class Notify>
Notify manager(host::settings const& chosen)
{
    if constexpr (requires { typename Notify::options; })
        return Notify{{.required = chosen.manager_required, .store = chosen.store, .watchdog = chosen.watchdog}};
    else
        return Notify{};
}

#ifndef ECDYSIS_TEST_LAUNCH
#    define ECDYSIS_TEST_LAUNCH direct
#endif

template <class Launch>
Launch begin()
{
    if constexpr (requires { Launch::fork(); })
        return Launch::fork();
    else
        return Launch{};
}

int main(int argc, char** argv)
{
    auto launch = begin<ecdysis::launch::ECDYSIS_TEST_LAUNCH>();
    host::settings const chosen{argc, argv};
    host::behaviour const behave{chosen.behave};
    bool const is_child = std::getenv("ECDYSIS_HANDOFF") != nullptr;
    behave.at("begin");
    host::journal const log{chosen.log};
    try {
        using notify = ecdysis::notify::ECDYSIS_TEST_NOTIFY;
        using transport = ecdysis::transport::ECDYSIS_TEST_TRANSPORT;
        host::run<notify, transport>(chosen, log, behave, is_child, manager<notify>(chosen), std::move(launch));
        return 0;
    } catch (ecdysis::error const& e) {
        log.write(0, "error", "-", e.what());
        return e.code() == ecdysis::errc::stopped ? 0 : 1;
    } catch (std::exception const& e) {
        log.write(0, "error", "-", e.what());
        return 2;
    }
}
