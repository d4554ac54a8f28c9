// SPDX-License-Identifier: BSL-1.0
// A next generation that crashes while it starts.
#include "failing.hpp"

#include <signal.h>

int main(int argc, char** argv)
{
    return demo::take_over_and(argc, argv, [] { return ::raise(SIGSEGV); });
}
