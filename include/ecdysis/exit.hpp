// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_EXIT_HPP
#define ECDYSIS_EXIT_HPP

#include <ecdysis/os/process.hpp>

#include <string>

namespace ecdysis {

/// What asked for an upgrade or a stop.
struct trigger
{
    /// Where it came from.
    enum class source {
        call,    ///< request_upgrade(), request_stop() or request_partial_stop()
        signal,  ///< one that the host named in options
        control, ///< a connection to a control socket
        handoff, ///< the other generation passed a stop or an upgrade signal on, or took the service back
    };

    source from = source::call;
    int signal = 0;                             ///< its number, for a signal; else 0
    os::process_id peer = os::process_id::none; ///< for a control socket: who connected, as SO_PEERCRED says

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

/// Why the process should end. What wait() gives; the library never ends the process itself.
struct exit
{
    /// What is left for the host to do: in each case to drain, and then to end.
    enum class kind {
        upgraded,          ///< the service is a child's
        stopped,           ///< the service stops, and the service manager has been told; or the parent took the service back
                           ///< from this child (`by` is trigger::source::handoff), and serves on
        partially_stopped, ///< the listeners are closed, the service manager was told nothing: that is the host's part
    };

    kind why = kind::stopped;
    trigger by{}; ///< the first one, where several came; one of this process rather than one that was passed on

    [[nodiscard]] bool upgraded() const noexcept { return why == kind::upgraded; }
    /// "upgraded", "stopped", "partially stopped".
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
