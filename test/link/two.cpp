// SPDX-License-Identifier: BSL-1.0
#include <ecdysis.hpp>

int second_unit();

int second_unit()
{
    return 0;
}
