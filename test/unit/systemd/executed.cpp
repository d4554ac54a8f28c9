// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/systemd/executed.hpp>

#define BOOST_TEST_MODULE systemd_executed
#include <boost/test/unit_test.hpp>

#include "place.hpp"

#include <unistd.h>

using ecdysis::systemd::executed_this_process;

BOOST_AUTO_TEST_CASE(only_where_the_variable_names_this_process)
{
    auto const ours = std::to_string(::getpid());
    {
        variable const pid{"SYSTEMD_EXEC_PID", ours};
        BOOST_TEST(executed_this_process());
    }
    for (auto const& other : {std::to_string(::getppid()), ours + " ", " " + ours, ours + "x", "-" + ours, std::string{},
                              std::string{"99999999999999999999"}}) {
        variable const pid{"SYSTEMD_EXEC_PID", other};
        BOOST_TEST(!executed_this_process(), "taken for ours: \"" << other << '"');
    }
    variable const none{"SYSTEMD_EXEC_PID", {}};
    BOOST_TEST(!executed_this_process());
}
