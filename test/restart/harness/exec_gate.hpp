// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_TEST_RESTART_HARNESS_EXEC_GATE_HPP
#define ECDYSIS_TEST_RESTART_HARNESS_EXEC_GATE_HPP

#include <ecdysis/os/fd.hpp>

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace restart {

/// Holds whoever executes a program in execve(2), as a disk does that is slow, until it is opened: fanotify(7), which takes
/// CAP_SYS_ADMIN. SIGKILL ends who is held. Nobody is any more when it goes.
class exec_gate
{
public:
    explicit exec_gate(std::string const& program)
        : group_{::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC)}
    {
        BOOST_REQUIRE_MESSAGE(group_ && ::fanotify_mark(group_.get(), FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, program.c_str()) == 0,
                              std::strerror(errno));
    }

    /// Waits until somebody is held; gives its pid, 0 if nobody comes.
    [[nodiscard]] ::pid_t held()
    {
        ::pollfd one{group_.get(), POLLIN, 0};
        ::fanotify_event_metadata event{};
        if (::poll(&one, 1, 60'000) != 1 || ::read(group_.get(), &event, sizeof event) != sizeof event)
            return 0;
        file_ = ecdysis::os::owned_fd{event.fd};
        return event.pid;
    }

    void open() { answer(FAN_ALLOW); }
    void refuse() { answer(FAN_DENY); }

    static boost::test_tools::assertion_result is_possible(boost::unit_test::test_unit_id)
    {
        ecdysis::os::owned_fd const group{::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY)};
        boost::test_tools::assertion_result result{static_cast<bool>(group)};
        result.message() << "fanotify(7) cannot be used: " << std::strerror(errno);
        return result;
    }

private:
    void answer(unsigned what)
    {
        ::fanotify_response const said{file_.get(), what};
        BOOST_TEST(::write(group_.get(), &said, sizeof said) == static_cast<::ssize_t>(sizeof said));
        file_.reset();
    }

    ecdysis::os::owned_fd group_;
    ecdysis::os::owned_fd file_; ///< of who is held
};

} // namespace restart

#endif
