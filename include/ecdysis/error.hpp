// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_ERROR_HPP
#define ECDYSIS_ERROR_HPP

#include <boost/system/error_code.hpp>
#include <boost/system/system_error.hpp>

#include <string>

namespace ecdysis {

/// The error_code of every call: Boost.System's (header-only), so that Asio hosts meet one type.
using error_code = boost::system::error_code;

/// What every throwing form throws. `what()` says what was tried, on what, what came back, and what to do.
using error = boost::system::system_error;

/// What this library itself finds wrong. Failures of system calls keep their errno, in the system category.
enum class errc {
    second_upgrader = 1,  ///< this process has an upgrader already
    handoff_variable,     ///< ECDYSIS_HANDOFF cannot be read
    stale_handoff,        ///< ECDYSIS_HANDOFF is of another process: leaked, or its numbers were reused
    transport_mismatch,   ///< the parent was built with another transport
    version_mismatch,     ///< the parent speaks a version of the handoff that this build does not
    corrupt_handoff,      ///< a frame of the handoff that makes no sense
    handoff_closed,       ///< the other side closed the handoff before it was complete
    handoff_timeout,      ///< the parent did not hand over in time
    parent_gone,          ///< the parent ended before this generation could take over
    wrong_parent,         ///< started through a wrapper that forks: our parent process is not the generation that hands over
    descriptor_mismatch,  ///< an inherited descriptor is not what was asked for
    unknown_descriptor,   ///< no descriptor of that name was handed over, or it is claimed already
    descriptor_limit,     ///< more descriptors than RLIMIT_NOFILE lets the child have
    invalid_address,      ///< an address that cannot be read
    address_in_use,       ///< something still answers at that Unix path
    name_too_long,        ///< a name or a host's bytes beside a descriptor exceed what a frame carries
    too_late,             ///< descriptors and state are claimed and named before ready
    busy,                 ///< an upgrade is under way already
    not_serving,          ///< this generation does not serve (not yet ready, or draining)
    already_waiting,      ///< a second wait while the first still waits
    ended,                ///< accepting has ended: this generation has retired or stops
    stopped,              ///< a stop came first
    child_failed,         ///< the child ended before it was ready, or said that it fails
    child_closed,         ///< the child closed the handoff and lives on
    ready_timeout,        ///< the child was not ready in time
    serving_timeout,      ///< the child was committed, but did not say in time that it serves, or is alive
    no_service_manager,   ///< NOTIFY_SOCKET is not set
    state_not_sealed,     ///< state that was handed over could still be changed by another process
    program_unknown,      ///< the program cannot be found as it was given at start
    state_failed,         ///< the host's function that fills state threw
    spawner_gone,         ///< the helper of launch::spawner has ended
    spawner_program,      ///< launch::spawner was forked for another program
    seccomp_architecture, ///< a filter for another architecture than the allowlist's
    seccomp_allows_all,   ///< a filter that allows what it does not name
    manager_timeout,      ///< the service manager's socket did not accept a message in time
    spawner_silent,       ///< the helper of launch::spawner does not answer; a later start may succeed
};

/// Groups of errors that a caller would test for together.
enum class condition {
    bad_handoff = 1, ///< what the parent handed over cannot be used; this generation must not serve
    upgrade_failed,  ///< the upgrade failed, this generation serves on
    retryable,       ///< the same call may succeed later
};

/// The category of `errc`, named "ecdysis".
[[nodiscard]] boost::system::error_category const& category() noexcept;
[[nodiscard]] boost::system::error_category const& condition_category() noexcept;

[[nodiscard]] inline error_code make_error_code(errc value) noexcept
{
    return {static_cast<int>(value), category()};
}

[[nodiscard]] inline boost::system::error_condition make_error_condition(condition value) noexcept
{
    return {static_cast<int>(value), condition_category()};
}

/// What `value` means, for people.
[[nodiscard]] constexpr char const* message(errc value) noexcept
{
    switch (value) {
    case errc::second_upgrader: return "this process has an upgrader already; one is the limit";
    case errc::handoff_variable: return "ECDYSIS_HANDOFF cannot be read";
    case errc::stale_handoff: return "ECDYSIS_HANDOFF does not belong to this process; remove it from the environment";
    case errc::transport_mismatch: return "parent and child are built with different transports";
    case errc::version_mismatch: return "parent and child speak different versions of the handoff; restart the service once";
    case errc::corrupt_handoff: return "the handoff is corrupt";
    case errc::handoff_closed: return "the handoff was closed before it was complete";
    case errc::handoff_timeout: return "the parent did not hand over in time";
    case errc::parent_gone: return "the parent ended before this generation could take over";
    case errc::wrong_parent: return "started through a wrapper that forks; use exec in it";
    case errc::descriptor_mismatch: return "the inherited descriptor is not what was asked for";
    case errc::unknown_descriptor: return "no descriptor of that name was handed over";
    case errc::descriptor_limit: return "too many descriptors for RLIMIT_NOFILE; raise its soft limit";
    case errc::invalid_address: return "the address cannot be read";
    case errc::address_in_use: return "another process answers at this address";
    case errc::name_too_long: return "the name is too long to be handed over";
    case errc::too_late: return "this must be done before ready";
    case errc::busy: return "an upgrade is under way already";
    case errc::not_serving: return "not serving";
    case errc::already_waiting: return "another wait is under way";
    case errc::ended: return "accepting has ended";
    case errc::stopped: return "stopped";
    case errc::child_failed: return "the new generation failed";
    case errc::child_closed: return "the new generation closed the handoff";
    case errc::ready_timeout: return "the new generation was not ready in time";
    case errc::serving_timeout: return "the new generation did not say in time that it serves";
    case errc::manager_timeout: return "the service manager does not read what it is told";
    case errc::no_service_manager: return "NOTIFY_SOCKET is not set; run under systemd with Type=notify, or let it be optional";
    case errc::state_not_sealed: return "the state that was handed over is not sealed";
    case errc::program_unknown: return "the program cannot be found";
    case errc::state_failed: return "state for the new generation could not be filled";
    case errc::spawner_gone: return "the helper that starts new generations has gone; restart the service";
    case errc::spawner_silent: return "the helper that starts new generations does not answer";
    case errc::spawner_program: return "the helper was forked for another program; give spawner::fork() and the options the same one, and change the directory after both";
    case errc::seccomp_architecture: return "the allowlist covers x86_64 and aarch64, and the filter is for another architecture, too; take that out of the filter, or do without one";
    case errc::seccomp_allows_all: return "the filter allows what it does not name; make it with another default, such as SCMP_ACT_KILL_PROCESS";
    }
    return "unknown error";
}

namespace error_categories {

class codes final : public boost::system::error_category
{
public:
    [[nodiscard]] char const* name() const noexcept override { return "ecdysis"; }
    [[nodiscard]] std::string message(int value) const override
    {
        return ecdysis::message(static_cast<errc>(value));
    }
};

class conditions final : public boost::system::error_category
{
public:
    [[nodiscard]] char const* name() const noexcept override { return "ecdysis.condition"; }
    [[nodiscard]] std::string message(int value) const override
    {
        switch (static_cast<condition>(value)) {
        case condition::bad_handoff: return "the handoff cannot be used";
        case condition::upgrade_failed: return "the upgrade failed";
        case condition::retryable: return "may succeed later";
        }
        return "unknown condition";
    }
    [[nodiscard]] bool equivalent(error_code const& code, int value) const noexcept override
    {
        if (code.category() != category())
            return false;
        auto const is = [&](auto... candidates) { return ((code.value() == static_cast<int>(candidates)) || ...); };
        switch (static_cast<condition>(value)) {
        case condition::bad_handoff:
            return is(errc::handoff_variable, errc::stale_handoff, errc::transport_mismatch, errc::version_mismatch,
                      errc::corrupt_handoff, errc::handoff_closed, errc::handoff_timeout, errc::parent_gone,
                      errc::wrong_parent, errc::descriptor_mismatch, errc::state_not_sealed);
        case condition::upgrade_failed:
            return is(errc::child_failed, errc::child_closed, errc::ready_timeout, errc::serving_timeout,
                      errc::descriptor_limit, errc::program_unknown, errc::corrupt_handoff, errc::state_failed,
                      errc::spawner_gone, errc::spawner_program, errc::manager_timeout, errc::spawner_silent);
        case condition::retryable:
            return is(errc::busy, errc::not_serving, errc::already_waiting, errc::spawner_silent);
        }
        return false;
    }
};

} // namespace error_categories

inline boost::system::error_category const& category() noexcept
{
    static error_categories::codes const instance;
    return instance;
}

inline boost::system::error_category const& condition_category() noexcept
{
    static error_categories::conditions const instance;
    return instance;
}

} // namespace ecdysis

template <>
struct boost::system::is_error_code_enum<ecdysis::errc> : std::true_type
{};

template <>
struct boost::system::is_error_condition_enum<ecdysis::condition> : std::true_type
{};

#endif
