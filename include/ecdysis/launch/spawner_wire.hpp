// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_SPAWNER_WIRE_HPP
#define ECDYSIS_LAUNCH_SPAWNER_WIRE_HPP

#include <ecdysis/error.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// What a service and the helper of launch::spawner say to each other. Both are the same program at the same moment, so
/// these are its own structures; but the service may have been taken over by whoever it talks to, so the helper believes
/// nothing of what it reads.
namespace ecdysis::launch::spawner_wire {

enum class verb : std::uint32_t {
    spawn, ///< the text of the handoff's variable follows in the same message, the descriptors in others
    kill,  ///< `pid`, if it was started by this helper and lives; not answered, as give_up is, and possible between any two messages
    give_up, ///< the spawn with that number; what was started by it is killed
};

struct request
{
    verb what = verb::spawn;
    std::uint32_t start = 0;          ///< the number of this spawn
    std::int32_t signal = 0;          ///< for kill
    ::pid_t pid = -1;                 ///< for kill
    std::uint32_t descriptors = 0;    ///< how many, at most `max_message_descriptors` in each message, each answered
    std::uint32_t streams = 0;        ///< bit n: the next of them is to be number n, 0 to 2; the rest are inherited
    std::uint64_t blocked = 0;        ///< bit 0 is signal 1
    std::uint64_t ignored = 0;
    std::uint64_t descriptor_limit = 0; ///< the service's soft limit of open files, which its child gets
};

/// Memory that both have: where a child says why its program could not be executed, at the number of its start modulo this.
/// The helper and its children write there, and believe nothing of it.
inline constexpr std::size_t exec_errors = 1024;

/// To each message of a spawn. With `pid` comes its pidfd: the process is there, and its program not yet. With an error too, and
/// without a pidfd: it is killed, and to be reaped.
struct answer
{
    std::uint32_t start = 0; ///< an answer to one that was given up may come late
    std::int32_t error = 0; ///< an errno or, if `ours`, an errc; 0: go on, or done
    std::uint32_t ours = 0;
    ::pid_t pid = -1;
};

static_assert(std::is_trivially_copyable_v<request> && std::is_trivially_copyable_v<answer>);

inline constexpr std::size_t max_text = 3072;

/// What a message with descriptors says, and one that comes in its place when they cannot be sent.
inline constexpr std::byte some_descriptors{0};
inline constexpr std::byte no_descriptors{1};

[[nodiscard]] inline answer answer_of(error_code ec, std::uint32_t start) noexcept
{
    return {.start = start, .error = ec.value(), .ours = ec.category() == category()};
}
[[nodiscard]] inline error_code error_of(answer const& said) noexcept
{
    if (said.ours != 0)
        return static_cast<errc>(said.error);
    return {said.error, boost::system::system_category()};
}

} // namespace ecdysis::launch::spawner_wire

#endif
