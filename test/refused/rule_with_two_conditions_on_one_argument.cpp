// refused: there are two conditions on one argument: join them in one has\(argument, mask, value\)
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/rule.hpp>

namespace seccomp = ecdysis::seccomp;

constexpr auto flags = seccomp::calls("openat", "its log", seccomp::has(2, 3, 1), seccomp::lacks(2, 0x200));
