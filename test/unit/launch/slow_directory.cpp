// SPDX-License-Identifier: BSL-1.0
// The directory of the start is on a file system that does not answer: neither the service nor its connections wait for it.
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/program.hpp>

#define BOOST_TEST_MODULE launch/slow_directory
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <type_traits>

namespace {

namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
using ecdysis::error_code;

/// A directory of fuse(4), which answers until it is told not to.
class slow_directory
{
public:
    slow_directory()
    {
        BOOST_REQUIRE(::mkdtemp(path.data()) != nullptr);
        device_ = os::owned_fd{::open("/dev/fuse", O_RDWR | O_CLOEXEC)};
        auto const how = "fd=" + std::to_string(device_.get()) + ",rootmode=40755,user_id=0,group_id=0";
        mounted = device_ && ::mount("ecdysis-test", path.c_str(), "fuse", MS_NOSUID | MS_NODEV, how.c_str()) == 0;
        if (mounted)
            server_ = std::jthread{[this] { serve(); }};
    }
    ~slow_directory()
    {
        ::umount2(path.c_str(), MNT_FORCE | MNT_DETACH); // whoever waits hears of it
        server_ = {};
        ::rmdir(path.c_str());
    }

    static boost::test_tools::assertion_result is_possible(boost::unit_test::test_unit_id)
    {
        slow_directory const one;
        boost::test_tools::assertion_result result{one.mounted};
        result.message() << "a file system of fuse(4) cannot be mounted here";
        return result;
    }

    std::string path = "/tmp/ecdysis-slow-XXXXXX";
    bool mounted = false;
    std::atomic<bool> answers = true;
    std::atomic<int> asked = 0; ///< in vain

private:
    void serve()
    {
        std::array<char, 1 << 17> buffer;
        while (::read(device_.get(), buffer.data(), buffer.size()) > 0 || errno == EINTR || errno == ENOENT) {
            ::fuse_in_header asks;
            std::memcpy(&asks, buffer.data(), sizeof asks);
            if (asks.opcode == FUSE_INIT) {
                ::fuse_init_out said{};
                said.major = 7;
                said.minor = 31;
                said.max_write = said.max_readahead = 4096;
                answer(asks, said);
            } else if (asks.opcode == FUSE_GETATTR && answers) {
                ::fuse_attr_out said{};
                said.attr.ino = 1;
                said.attr.mode = S_IFDIR | 0755;
                said.attr.nlink = 2;
                answer(asks, said);
            } else if (asks.opcode == FUSE_ACCESS && answers) {
                answer(asks, std::array<char, 0>{});
            } else if (asks.opcode == FUSE_GETATTR || asks.opcode == FUSE_ACCESS) {
                ++asked;
            }
        }
    }

    template <class Body>
    void answer(::fuse_in_header const& to, Body const& body) const
    {
        constexpr std::size_t size = std::is_empty_v<Body> || sizeof body <= 1 ? 0 : sizeof body;
        std::array<char, sizeof(::fuse_out_header) + sizeof body> bytes{};
        ::fuse_out_header const head{static_cast<std::uint32_t>(sizeof head + size), 0, to.unique};
        std::memcpy(bytes.data(), &head, sizeof head);
        std::memcpy(bytes.data() + sizeof head, &body, size);
        (void)!::write(device_.get(), bytes.data(), head.len);
    }

    os::owned_fd device_;
    std::jthread server_;
};

bool readable(os::borrowed_fd fd)
{
    ::pollfd one{fd.get(), POLLIN, 0};
    return ::poll(&one, 1, 20'000) == 1;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_directory_that_does_not_answer, *boost::unit_test::precondition(&slow_directory::is_possible))
{
    slow_directory where;
    BOOST_TEST_REQUIRE(::chdir(where.path.c_str()) == 0);
    launch::program what{"/bin/true", {"true"}};
    BOOST_TEST(::chdir("/") == 0);
    where.answers = false;

    bool gone = true;
    auto const cwd = what.directory_or_root(gone); // it would not return
    BOOST_TEST(!gone);
    std::array<int, 2> pair;
    BOOST_TEST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    os::owned_fd connection{pair[0]};
    os::owned_fd const client{pair[1]};
    launch::process child;
    error_code ec;
    launch::direct{}.start({.program = what.path(), .arguments = what.arguments(), .environment = {}, .directory = cwd, .inherited = {}, .blocked = {}},
                           [&](error_code why, launch::process started) {
                               ec = why;
                               child = std::move(started);
                           });
    BOOST_TEST_REQUIRE(!ec);
    auto const deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (where.asked == 0 && std::chrono::steady_clock::now() < deadline)
        std::this_thread::yield();
    BOOST_TEST_REQUIRE(where.asked != 0); // the new process waits for its directory
    connection.reset();
    BOOST_TEST(readable(client)); // and has no copy of what this one closes
    launch::direct{}.kill(child, SIGKILL, ec);
    ::umount2(where.path.c_str(), MNT_FORCE);
    BOOST_TEST_REQUIRE(readable(child.pidfd));
    BOOST_TEST(launch::direct{}.reap(child, ec).value == SIGKILL);
}
