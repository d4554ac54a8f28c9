// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/process.hpp>

#define BOOST_TEST_MODULE os_process
#include <boost/test/unit_test.hpp>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace os = ecdysis::os;
using kind = os::exit_status::kind;

namespace {

struct child
{
    template <class F>
    explicit child(F&& f) : pid{::fork()}
    {
        if (os::number(pid) == 0) {
            f();
            ::_exit(0);
        }
        pidfd = os::open_pidfd(pid, ec);
        BOOST_REQUIRE(!ec);
    }
    void wait() const
    {
        ::pollfd entry{pidfd.get(), POLLIN, 0};
        BOOST_REQUIRE(::poll(&entry, 1, 5000) == 1);
    }

    os::process_id pid;
    os::owned_fd pidfd;
    ecdysis::error_code ec;
};

} // namespace

BOOST_AUTO_TEST_CASE(an_exit_status_in_words)
{
    BOOST_TEST((os::exit_status{kind::exited, 3}.text() == "exit status 3"));
    BOOST_TEST((os::exit_status{kind::killed, 9}.text() == "killed by signal 9 (Killed)"));
    BOOST_TEST((os::exit_status{kind::killed, SIGSYS}.text() ==
                "killed by signal 31 (Bad system call: a seccomp filter does not allow what it called)"));
    BOOST_TEST((os::exit_status{kind::killed, 40}.text() == "killed by signal 40 (unknown signal)"));
    BOOST_TEST(os::exit_status{}.text() == "ended, its status is not known");
}

BOOST_AUTO_TEST_CASE(a_child_that_exits_is_reaped_once)
{
    child one{[] { ::_exit(3); }};
    one.wait();
    BOOST_TEST((os::reap(one.pidfd, one.ec) == os::exit_status{kind::exited, 3}));
    BOOST_TEST(!one.ec);
    auto const again = os::reap(one.pidfd, one.ec); // which the kernel remembers since Linux 6.15
    BOOST_TEST((again == os::exit_status{} || again == os::exit_status{kind::exited, 3}));
    BOOST_TEST(!one.ec);
    os::send_signal(one.pidfd, SIGTERM, one.ec);
    BOOST_TEST(!one.ec);
}

BOOST_AUTO_TEST_CASE(a_child_that_runs_is_not_waited_for)
{
    child one{[] { ::pause(); }};
    (void)os::reap(one.pidfd, one.ec);
    BOOST_TEST((one.ec == boost::system::errc::resource_unavailable_try_again));
    os::send_signal(one.pidfd, SIGKILL, one.ec);
    BOOST_TEST(!one.ec);
    one.wait();
    BOOST_TEST((os::reap(one.pidfd, one.ec) == os::exit_status{kind::killed, SIGKILL}));
}

BOOST_AUTO_TEST_CASE(no_other_child_is_reaped)
{
    child first{[] { ::_exit(1); }};
    child second{[] { ::_exit(2); }};
    first.wait();
    second.wait();
    BOOST_TEST(os::reap(second.pidfd, second.ec).value == 2);
    BOOST_TEST(os::reap(first.pidfd, first.ec).value == 1);
}

BOOST_AUTO_TEST_CASE(a_process_that_is_none_is_an_error)
{
    ecdysis::error_code ec;
    BOOST_TEST(!os::open_pidfd(os::process_id::none, ec));
    BOOST_TEST(bool{ec});
    BOOST_TEST((os::this_process() != os::parent_process()));
}

BOOST_AUTO_TEST_CASE(a_status_is_known_at_the_moment_another_thread_reaps)
{
    os::exit_status const expected{kind::exited, 3};
    child probe{[] { ::_exit(3); }};
    probe.wait();
    static_cast<void>(os::reap(probe.pidfd, probe.ec));
    if (os::status_of_reaped(probe.pidfd, probe.ec) != expected)
        return; // before Linux 6.15 nobody knows it later
    for (int i = 0; i != 500; ++i) {
        child one{[] { ::_exit(3); }};
        std::jthread const reaper{[&] {
            while (::waitpid(os::number(one.pid), nullptr, 0) == -1 && errno == EINTR) {}
        }};
        os::exit_status status;
        do
            status = os::status_of_reaped(one.pidfd, one.ec);
        while (one.ec == boost::system::errc::resource_unavailable_try_again);
        BOOST_TEST_REQUIRE((status == expected), status.text());
    }
}
