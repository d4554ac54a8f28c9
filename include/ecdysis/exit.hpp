// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_EXIT_HPP
#define ECDYSIS_EXIT_HPP

#include <ecdysis/os/process.hpp>

#include <string>

namespace ecdysis {

/// What asked for an upgrade or a stop.
struct trigger
{
    enum class source {
        call,
        signal,
        control,
        handoff, ///< the other generation was told to, and passed it on
    };

    source from = source::call;
    int signal = 0;                                  ///< for a signal
    os::process_id peer = os::process_id::none;      ///< for a control socket: who connected

    /// "signal 1", "control socket, pid 4711", "call", "the other generation".
    [[nodiscard]] std::string text() const
    {
        switch (from) {
        case source::call: return "call";
        case source::signal: return "signal " + std::to_string(signal);
        case source::control: return "control socket, pid " + std::to_string(os::number(peer));
        case source::handoff: return "the other generation";
        }
        return {};
    }
};

/// Why the process should end.
struct exit
{
    enum class kind {
        upgraded,          ///< a child serves
        stopped,           ///< nobody follows; the service manager has been told
        partially_stopped, ///< the listeners are closed, the service manager was told nothing: that is the host's part
    };

    kind why = kind::stopped;
    trigger by{};

    [[nodiscard]] bool upgraded() const noexcept { return why == kind::upgraded; }
    [[nodiscard]] char const* text() const noexcept
    {
        switch (why) {
        case kind::upgraded: return "upgraded";
        case kind::stopped: return "stopped";
        case kind::partially_stopped: return "partially stopped";
        }
        return "";
    }
};

} // namespace ecdysis

#endif
