// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OPTIONS_HPP
#define ECDYSIS_OPTIONS_HPP

#include <ecdysis/event.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace ecdysis {

/// Unix sockets that trigger by being connected to: an absolute path (mode 0600), or @name for an abstract one; empty:
/// none. Whoever connects must run as our user or root, and reads one line that says how it ended.
struct control_sockets
{
    std::string upgrade{};
    std::string stop{};
    std::string partial_stop{};
};

/// What an upgrader does and how long it waits. A plain aggregate; everything has a default.
struct options
{
    std::vector<int> upgrade_on{};      ///< signals that ask for an upgrade; handled from construction on
    /// Signals that ask for a stop. Until the first generation's ready(), or a child's commit, they keep the disposition that
    /// they came with, and as a rule end the process: it has nothing to drain. Handled from construction on are those whose
    /// default does not end a process or dumps core, and all of them in process 1: then ready() fails with errc::stopped.
    std::vector<int> stop_on{};
    std::vector<int> partial_stop_on{}; ///< signals that close the listeners, and tell the service manager nothing
    control_sockets control{};

    std::string program{};                ///< of the next generation; empty: argv[0] as it was given at start
    std::vector<std::string> arguments{}; ///< of the next generation, argv[0] included; empty: ours
    std::string pid_file{};               ///< empty: none
    bool channel = false;                 ///< a datagram pair between each generation and the next
    /// The first generation takes what systemd passed (LISTEN_FDS), sockets of socket units and what was kept in the
    /// store: claims find it there. False: those descriptors and variables are left to the host.
    bool socket_activation = true;

    std::chrono::milliseconds handoff_timeout{10'000}; ///< child: from its start until it has all
    std::chrono::milliseconds ready_timeout{60'000};   ///< parent: from launch until the child is ready
    std::chrono::milliseconds barrier_timeout{5'000};  ///< parent: for the service manager to work through its messages
    /// Parent: from commit until the child says that it serves, and from the end of its probation until it answers from its
    /// loop. Then the service is taken back. Work of the child between ready() and wait() counts.
    std::chrono::milliseconds serving_timeout{10'000};
    /// Parent: how long the child must serve before it is announced to the service manager. Meanwhile the parent has paused,
    /// and accepts again at once if the child ends or says fail(). At the end the child must answer from its loop. 0: it must
    /// only answer.
    std::chrono::milliseconds probation{0};
    /// Parent: how long a child that said fail() before commit may take to end, and one from which the service was taken back
    /// to answer that; then SIGKILL. How long one may take to end by that, before it is left to itself. And how long after the
    /// deadline of its own drain it waits for a child's end.
    std::chrono::milliseconds kill_grace{5'000};
    /// Parent: how long a child with a commit may drain after the service was taken back, or stopped; then SIGKILL.
    std::chrono::milliseconds drain_timeout{60'000};
    /// Signals that ask for an upgrade sooner than this after the last attempt ended, or after this generation
    /// got the service, are merged into one upgrade when it has passed. Those that come during an upgrade are one more
    /// upgrade afterwards.
    std::chrono::milliseconds signal_interval{100};

    /// Drain: connections that wait for a next request are told to close after this.
    std::chrono::milliseconds idle_grace{1'000};

    ecdysis::observer observer{};
};

} // namespace ecdysis

#endif
