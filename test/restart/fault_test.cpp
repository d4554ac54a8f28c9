// SPDX-License-Identifier: BSL-1.0
// System calls that fail once in a child: strace(1) makes them, as kernel memory that has run out does.
#define BOOST_TEST_MODULE restart_fault
#include "harness.hpp"

#include <cstdlib>

using namespace restart;

namespace {

/// The next generation runs under strace, which is no parent of it, with what `inject` says of one system call.
void run_next_with(service const& it, std::string const& call, std::string const& inject)
{
    it.run_next_script("exec strace -D -f -qq -o " + it.path("trace") + " -e signal=none -e trace=" + call + " -e inject=" + call + ":" +
                       inject + " \"$HOST\" \"$@\"");
}

bool has_failed(service const& it)
{
    return it.read("trace").find("(INJECTED)") != std::string::npos;
}

boost::test_tools::assertion_result can_trace(boost::unit_test::test_unit_id id)
{
    auto result = runs_other_programs(id);
    if (!result)
        return result;
    boost::test_tools::assertion_result traces{std::system("strace -D -qq -o /dev/null true 2>/dev/null") == 0};
    traces.message() << "there is no strace, or it may not trace";
    return traces;
}

} // namespace

// Whatever it has to say is said again, that it serves no less than all before and after it. A pipe would need write(2)
// to fail, which wakes threads and writes the log, too; what tries again is the same.
RESTART_TEST_(each_frame_that_cannot_be_sent_at_first, can_trace)
{
    if (built.transport != "socketpair")
        return;
    service one{built, {.arguments = {"--threads", "1"}, .probed = answers_all}}; // strace counts for each thread
    // It asks for hello, descriptors and the end, is ready, serves, is alive, and has taken over.
    for (unsigned i = 1; i <= 7; ++i)
        BOOST_TEST_CONTEXT("frame " << i)
        {
            run_next_with(one, "sendmsg", "error=ENOMEM:when=" + std::to_string(i));
            auto const before = one.pid();
            auto const line = one.upgrade();
            BOOST_TEST(line.starts_with("ok generation=" + std::to_string(i) + " "), line);
            BOOST_TEST(has_failed(one));
            service::check_ended_well(before);
        }
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok generation=8 "));
    one.stop();
}

// A listener that cannot have this generation's backlog listens with its parent's.
RESTART_TEST_(listen_that_fails, can_trace)
{
    service one{built, {.probed = answers_all}};
    run_next_with(one, "listen", "error=ENOMEM:when=1");
    auto const before = one.pid();
    auto const line = one.upgrade();
    BOOST_TEST(line.starts_with("ok generation=1 "), line);
    BOOST_TEST(line.find(" warnings=\"") != line.npos, line);
    BOOST_TEST(line.find("Cannot allocate memory") != line.npos, line);
    BOOST_TEST(has_failed(one));
    service::check_ended_well(before);
    BOOST_TEST(one.ask().generation == 1U);
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok generation=2 "));
    one.stop();
}
