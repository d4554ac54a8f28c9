// refused: a system call has the arguments 0 to 5
// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/seccomp/rule.hpp>

namespace seccomp = ecdysis::seccomp;

auto const seventh = seccomp::calls("mmap", "memory", seccomp::is(6, 0));
