// SPDX-License-Identifier: BSL-1.0
// What is particular to a pair of sockets; the rest is in conversation.cpp.
#include <ecdysis/transport/socketpair.hpp>

#define BOOST_TEST_MODULE transport_socketpair
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>
#include <sys/wait.h>

#include <filesystem>

using namespace ecdysis;
using transport::received;

namespace {

std::ptrdiff_t open_descriptors()
{
    std::filesystem::directory_iterator const numbers{"/proc/self/fd"};
    return std::distance(begin(numbers), end(numbers)) - 1; // its own
}

/// Our end, and the child's socket as a program would have it that is not this library.
struct to_a_stranger
{
    to_a_stranger()
    {
        auto offer = transport::socketpair{}.make({}, ec);
        BOOST_REQUIRE(!ec);
        BOOST_REQUIRE(offer.theirs.size() == 1);
        BOOST_REQUIRE(offer.inherited.size() == 1);
        ours = std::move(offer.ours);
        stranger = std::move(offer.theirs.front());
    }

    /// Sends bytes with `count` descriptors beside them.
    void stranger_sends(std::string_view text, std::size_t count)
    {
        ::iovec bytes{const_cast<char*>(text.data()), text.size()};
        alignas(::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 253)> beside{};
        ::msghdr message{};
        message.msg_iov = &bytes;
        message.msg_iovlen = 1;
        if (count != 0) {
            message.msg_control = beside.data();
            message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
            auto* const rights = CMSG_FIRSTHDR(&message);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
            std::vector<int> const numbers(count, 0);
            std::memcpy(CMSG_DATA(rights), numbers.data(), sizeof(int) * count);
        }
        BOOST_REQUIRE(::sendmsg(stranger.get(), &message, 0) == static_cast<ssize_t>(text.size()));
    }

    received::kind receive() { return ours.receive(buffer, fds, ec).what; }

    error_code ec;
    transport::socketpair::end ours;
    os::owned_fd stranger;
    std::array<std::byte, handoff::max_frame> buffer{};
    std::vector<os::owned_fd> fds;
};

using namespace std::string_view_literals;
constexpr auto end_frame = "\x8\0\0\0\x4\0\0\0"sv;
constexpr auto end_frame_with_2 = "\x8\0\0\0\x4\0\x2\0"sv;

} // namespace

BOOST_FIXTURE_TEST_CASE(descriptors_that_were_not_announced_are_closed, to_a_stranger)
{
    auto const before = open_descriptors();
    for (std::size_t const count : {1U, 3U, 253U}) {
        stranger_sends(end_frame_with_2, count);
        receive();
        BOOST_TEST(ec == error_code{errc::corrupt_handoff});
        BOOST_TEST(fds.empty());
        BOOST_TEST(open_descriptors() == before);
    }
    stranger_sends(end_frame, 1);
    receive();
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
    BOOST_TEST(open_descriptors() == before);
    stranger_sends(end_frame_with_2, 2);
    BOOST_TEST((receive() == received::kind::frame));
    BOOST_TEST(fds.size() == 2);
    // What was there before stays, and stays first.
    auto const first = fds.front().get();
    stranger_sends(end_frame_with_2, 2);
    BOOST_TEST((receive() == received::kind::frame));
    BOOST_TEST(fds.size() == 4);
    BOOST_TEST(fds.front().get() == first);
}

BOOST_FIXTURE_TEST_CASE(an_empty_message_with_descriptors_is_not_the_end, to_a_stranger)
{
    auto const before = open_descriptors();
    stranger_sends("", 2);
    BOOST_TEST((receive() != received::kind::closed));
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
    BOOST_TEST(open_descriptors() == before);
}

BOOST_FIXTURE_TEST_CASE(a_message_longer_than_any_frame_is_corrupt, to_a_stranger)
{
    std::string long_one(5000, 'x');
    std::ranges::copy("\0\x10\0\0\x4\0\0\0"sv, long_one.begin()); // says 4096
    stranger_sends(long_one, 0);
    receive();
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
}

BOOST_FIXTURE_TEST_CASE(a_full_table_is_an_error_and_leaks_nothing, to_a_stranger)
{
    stranger_sends(end_frame_with_2, 2);
    auto const before = open_descriptors();
    ::rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    os::owned_fd const lowest{::dup(0)};
    auto full = limit;
    full.rlim_cur = static_cast<rlim_t>(lowest.get()) + 2; // room for one
    ::setrlimit(RLIMIT_NOFILE, &full);
    receive();
    ::setrlimit(RLIMIT_NOFILE, &limit);
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
    BOOST_TEST(fds.empty());
    BOOST_TEST(open_descriptors() == before + 1);
}

BOOST_FIXTURE_TEST_CASE(nobody_reads, to_a_stranger)
{
    auto const frame = handoff::encode(handoff::commit{}, ec);
    ours.send(frame.bytes(), {}, ec);
    BOOST_TEST(!ec);
    stranger.reset(); // with that frame unread
    for (int i = 0; i != 3; ++i) {
        ours.send(frame.bytes(), {}, ec); // and no SIGPIPE
        BOOST_TEST((ec == boost::system::errc::broken_pipe));
    }
    BOOST_TEST((receive() == received::kind::closed));
    BOOST_TEST(!ec);
}

BOOST_FIXTURE_TEST_CASE(too_many_descriptors_in_flight_is_worth_another_try, to_a_stranger)
{
    // The kernel lets a privileged process do as it likes, so an unprivileged one must find out.
    std::vector<os::borrowed_fd> const lent(2, stranger);
    std::array<std::byte, handoff::header_size> const frame{std::byte{8}, {}, {}, {}, std::byte{99}, {}, std::byte{2}, {}};
    auto const pid = ::fork();
    BOOST_REQUIRE(pid != -1);
    if (pid == 0) {
        constexpr uid_t nobody_else = 61234;
        if (::geteuid() == 0 && ::setresuid(nobody_else, nobody_else, nobody_else) != 0)
            ::_exit(2);
        ::rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = 3; // fewer than are open; and more than this may not be in flight
        ::setrlimit(RLIMIT_NOFILE, &limit);
        for (int i = 0; i != 5 && !ec; ++i)
            ours.send(frame, lent, ec);
        if (ec != boost::system::errc::resource_unavailable_try_again)
            ::_exit(3);
        std::array<char, 64> bytes{};
        while (::recv(stranger.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) >= 0)
            ;
        ours.send(frame, lent, ec);
        ::_exit(ec ? 4 : 0);
    }
    int status = 0;
    BOOST_REQUIRE(::waitpid(pid, &status, 0) == pid);
    BOOST_TEST(WIFEXITED(status));
    BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_CASE(another_socket_at_the_number_is_refused)
{
    error_code ec;
    auto const offer = transport::socketpair{}.make({}, ec);
    auto const identity = offer.text.substr(2);
    auto const adopt_at = [&](os::borrowed_fd fd) {
        (void)transport::socketpair{}.adopt(std::to_string(fd.get()) + ' ' + identity, ec);
        return ec;
    };
    BOOST_TEST(adopt_at(offer.ours.fd()) == error_code{errc::stale_handoff}); // not even the other one of the pair
    os::owned_fd const file{::open("/dev/null", O_RDWR)};
    BOOST_TEST(adopt_at(file) == error_code{errc::stale_handoff});
    BOOST_TEST(::fcntl(file.get(), F_GETFD) == 0);

    // A file that is the very one that is named, but not a socket.
    auto const of_file = os::identity_of(os::status_of(file, ec)).text();
    (void)transport::socketpair{}.adopt(std::to_string(file.get()) + ' ' + of_file, ec);
    BOOST_TEST(ec == error_code{errc::stale_handoff});
}
