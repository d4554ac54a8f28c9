// SPDX-License-Identifier: BSL-1.0
// With two.cpp: whatever <ecdysis.hpp> defines may be defined in every translation unit of a program.
#include <ecdysis.hpp>

int second_unit();

int main()
{
    return second_unit();
}
