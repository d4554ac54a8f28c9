// SPDX-License-Identifier: BSL-1.0
// With two.cpp: whatever <ecdysis.hpp> defines may be defined in every translation unit of a program.
#include <ecdysis.hpp>

// Everything that needs no library but Boost.Filesystem, and so nothing of these.
#if defined(BOOST_LOG_DETAIL_CONFIG_HPP_INCLUDED_) || defined(_SECCOMP_H)
#    error "<ecdysis.hpp> includes Boost.Log or libseccomp"
#endif

int second_unit();

int main()
{
    return second_unit();
}
