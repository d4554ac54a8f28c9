// SPDX-License-Identifier: BSL-1.0
// A next generation that never gets ready.
#include "failing.hpp"

#include <unistd.h>

int main(int argc, char** argv)
{
    return demo::take_over_and(argc, argv, [] { return ::pause(); });
}
