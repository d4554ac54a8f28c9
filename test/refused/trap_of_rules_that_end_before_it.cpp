// refused: the rules must outlive the trap: make them a static constexpr array
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/seccomp/trap.hpp>

ecdysis::seccomp::trap const words{ecdysis::seccomp::join(ecdysis::seccomp::core_calls, ecdysis::seccomp::threads)};
