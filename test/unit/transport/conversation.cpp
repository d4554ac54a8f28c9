// SPDX-License-Identifier: BSL-1.0
// What every transport carries, whichever it is.
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>

#define BOOST_TEST_MODULE transport_conversation
#include <boost/mpl/list.hpp>
#include <boost/test/unit_test.hpp>

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <filesystem>
#include <optional>

using namespace ecdysis;
using transport::received;

namespace {

using transports = boost::mpl::list<transport::socketpair, transport::named_pipe>;

constexpr int child_numbers = 2000; ///< where the child's numbers start: 3 is in use here

std::ptrdiff_t open_descriptors()
{
    std::filesystem::directory_iterator const numbers{"/proc/self/fd"};
    return std::distance(begin(numbers), end(numbers)) - 1; // its own
}

bool is_open(int number)
{
    return ::fcntl(number, F_GETFD) != -1;
}

bool is_close_on_exec(int number)
{
    return (::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0;
}

os::identity identity_of(os::borrowed_fd fd)
{
    error_code ec;
    return os::identity_of(os::status_of(fd, ec));
}

std::vector<os::owned_fd> files(std::size_t count)
{
    std::vector<os::owned_fd> result;
    for (std::size_t i = 0; i != count; ++i)
        result.emplace_back(::memfd_create("test", 0));
    return result;
}

std::vector<os::borrowed_fd> lend(std::vector<os::owned_fd> const& fds)
{
    return {fds.begin(), fds.end()};
}

/// Parent and child in one process. What exec would do is done with dup2().
template <class T>
struct conversation
{
    using end = typename T::end;

    explicit conversation(std::vector<os::borrowed_fd> const& descriptors = {})
    {
        auto offer = T{}.make(descriptors, ec);
        BOOST_REQUIRE(!ec);
        inherit(offer);
        // The transport's last number is the one that the child writes to.
        auto const writer = child_numbers + static_cast<int>(offer.theirs.size()) - 1;
        child_writes = os::owned_fd{::fcntl(writer, F_DUPFD_CLOEXEC, 3)};
        parent = std::move(offer.ours);
        offer.theirs.clear();
        child = T{}.adopt(text, ec);
        BOOST_REQUIRE(!ec);
    }

    void inherit(transport::offer<end> const& offer)
    {
        BOOST_REQUIRE(offer.text.starts_with("3 "));
        text = std::to_string(child_numbers) + offer.text.substr(1);
        for (std::size_t i = 0; i != offer.inherited.size(); ++i) {
            auto const number = child_numbers + static_cast<int>(i);
            BOOST_REQUIRE(!is_open(number));
            BOOST_REQUIRE(::dup2(offer.inherited[i].get(), number) == number);
        }
    }

    void send(end& from, handoff::frame const& f, std::span<os::borrowed_fd const> lent = {})
    {
        auto const bytes = handoff::encode(f, ec);
        BOOST_REQUIRE(!ec);
        from.send(bytes.bytes(), lent, ec);
    }

    std::optional<handoff::frame> receive(end& at)
    {
        last = at.receive(buffer, fds, ec);
        if (ec || last.what != received::kind::frame)
            return {};
        auto f = handoff::decode(std::span{buffer}.first(last.size), ec);
        BOOST_TEST(!ec);
        return f;
    }

    error_code ec;
    std::string text;
    end parent;
    end child;
    os::owned_fd child_writes; ///< to send what no transport would
    std::array<std::byte, handoff::max_frame> buffer{};
    std::vector<os::owned_fd> fds;
    received last;
};

bool readable(os::borrowed_fd fd)
{
    ::pollfd what{fd.get(), POLLIN, 0};
    return ::poll(&what, 1, 0) == 1;
}

struct many_descriptors
{
    many_descriptors()
    {
        ::rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
};

/// Nothing may stay open after a test.
struct no_leak
{
    ~no_leak() { BOOST_TEST(open_descriptors() == before); }
    std::ptrdiff_t before = open_descriptors();
};

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(many_descriptors);
BOOST_FIXTURE_TEST_SUITE(conversations, no_leak)

BOOST_AUTO_TEST_CASE_TEMPLATE(frames_go_both_ways, T, transports)
{
    static_assert(!std::is_copy_constructible_v<typename T::end>);
    conversation<T> talk;
    handoff::frame const asks = handoff::more{os::this_process()};
    handoff::frame const answers = handoff::hello{.generation = 1, .blocked = 1};

    BOOST_TEST(!readable(talk.parent.fd()));
    talk.send(talk.child, asks);
    BOOST_TEST(!talk.ec);
    BOOST_TEST(readable(talk.parent.fd()));
    BOOST_TEST((talk.receive(talk.parent) == asks));
    BOOST_TEST(!readable(talk.parent.fd()));
    talk.send(talk.parent, answers);
    BOOST_TEST((talk.receive(talk.child) == answers));

    // Frames that are waiting together stay apart.
    talk.send(talk.child, handoff::ready{{true, false}});
    talk.send(talk.child, handoff::fail{std::string(1024, 'x')});
    BOOST_TEST((talk.receive(talk.parent) == handoff::frame{handoff::ready{{true, false}}}));
    BOOST_TEST(readable(talk.parent.fd()));
    BOOST_TEST((talk.receive(talk.parent) == handoff::frame{handoff::fail{std::string(1024, 'x')}}));
    BOOST_TEST(talk.fds.empty());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(it_never_waits, T, transports)
{
    conversation<T> talk;
    BOOST_TEST(!talk.receive(talk.parent));
    BOOST_TEST(!talk.ec);
    BOOST_TEST((talk.last.what == received::kind::again));
    BOOST_TEST(!talk.receive(talk.child));
    BOOST_TEST((talk.last.what == received::kind::again));

    handoff::frame const large = handoff::ready{std::vector<bool>(handoff::max_descriptors)};
    std::size_t sent = 0;
    for (; !talk.ec && sent != 100'000; ++sent)
        talk.send(talk.parent, large);
    BOOST_TEST((talk.ec == boost::system::errc::resource_unavailable_try_again));
    std::size_t arrived = 0;
    while (talk.receive(talk.child) == large)
        ++arrived;
    BOOST_TEST(arrived == sent - 1);
    talk.send(talk.parent, handoff::end{});
    BOOST_TEST((talk.receive(talk.child) == handoff::frame{handoff::end{}}));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_thousand_descriptors_arrive_in_order, T, transports)
{
    auto const originals = files(1000);
    auto const lent = lend(originals);
    conversation<T> talk{lent};
    std::vector<handoff::record> records(lent.size());
    for (std::size_t i = 0; i != records.size(); ++i)
        records[i] = {.kind = handoff::descriptor_kind::listener, .name = "0.0.0.0:" + std::to_string(i)};

    std::vector<handoff::record> arrived;
    std::size_t frames = 0;
    for (std::size_t done = 0; done != records.size(); ++frames) {
        talk.send(talk.child, handoff::more{});
        BOOST_REQUIRE(talk.receive(talk.parent));
        auto const some = handoff::pack(std::span{records}.subspan(done), talk.ec);
        talk.send(talk.parent, some.frame, std::span{lent}.subspan(done, some.taken));
        BOOST_REQUIRE(!talk.ec);
        done += some.taken;
        auto const f = talk.receive(talk.child);
        BOOST_REQUIRE(f);
        auto const& all = std::get<handoff::descriptors>(*f).records;
        arrived.insert(arrived.end(), all.begin(), all.end());
        BOOST_TEST(talk.fds.size() == arrived.size());
    }
    BOOST_TEST((arrived == records));
    BOOST_TEST(frames > 5);
    for (std::size_t i = 0; i != records.size(); ++i) {
        BOOST_TEST((identity_of(talk.fds[i]) == identity_of(lent[i])));
        BOOST_TEST(talk.fds[i].get() != lent[i].get());
        BOOST_TEST(is_close_on_exec(talk.fds[i].get()));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_frame_takes_as_many_descriptors_as_there_can_be, T, transports)
{
    auto const originals = files(handoff::max_frame_descriptors);
    auto const lent = lend(originals);
    conversation<T> talk{lent};
    std::array<std::byte, handoff::header_size> const frame{std::byte{8}, {}, {}, {}, std::byte{99}, {}, std::byte{253}, {}};
    talk.parent.send(frame, lent, talk.ec);
    BOOST_TEST(!talk.ec);
    BOOST_TEST((talk.receive(talk.child) == handoff::frame{handoff::unknown{99}}));
    BOOST_REQUIRE(talk.fds.size() == lent.size());
    BOOST_TEST((identity_of(talk.fds.back()) == identity_of(lent.back())));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(everything_sent_is_read_before_the_end, T, transports)
{
    conversation<T> talk;
    talk.child_writes.reset();
    talk.send(talk.parent, handoff::end{}); // which nobody will read
    talk.send(talk.child, handoff::ready{});
    talk.send(talk.child, handoff::fail{"then exit"});
    talk.child = {};
    BOOST_TEST(readable(talk.parent.fd()));
    BOOST_TEST((talk.receive(talk.parent) == handoff::frame{handoff::ready{}}));
    BOOST_TEST((talk.receive(talk.parent) == handoff::frame{handoff::fail{"then exit"}}));
    for (int i = 0; i != 3; ++i) {
        BOOST_TEST(!talk.receive(talk.parent));
        BOOST_TEST(!talk.ec);
        BOOST_TEST((talk.last.what == received::kind::closed));
        BOOST_TEST(readable(talk.parent.fd()));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_child_sees_the_end_too, T, transports)
{
    conversation<T> talk;
    talk.send(talk.child, handoff::serving{});
    talk.send(talk.parent, handoff::commit{});
    talk.parent = {};
    BOOST_TEST((talk.receive(talk.child) == handoff::frame{handoff::commit{}}));
    BOOST_TEST(!talk.receive(talk.child));
    BOOST_TEST((talk.last.what == received::kind::closed));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sending_what_is_not_one_frame_is_a_mistake, T, transports)
{
    auto const file = files(1);
    conversation<T> talk{lend(file)};
    auto const invalid = boost::system::errc::invalid_argument;
    auto const bytes = handoff::encode(handoff::fail{"no"}, talk.ec);
    talk.parent.send({}, {}, talk.ec);
    BOOST_TEST((talk.ec == invalid));
    talk.parent.send(bytes.bytes().first(9), {}, talk.ec);
    BOOST_TEST((talk.ec == invalid));
    talk.parent.send(bytes.bytes(), lend(file), talk.ec);
    BOOST_TEST((talk.ec == invalid));
    BOOST_TEST(!readable(talk.child.fd()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(garbage_is_reported, T, transports)
{
    auto const arrives = [](std::vector<unsigned char> const& bytes) {
        conversation<T> talk;
        BOOST_TEST(::write(talk.child_writes.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
        talk.child_writes.reset();
        talk.child = {};
        BOOST_TEST(!talk.receive(talk.parent));
        BOOST_TEST((talk.last.what != received::kind::closed));
        return talk.ec;
    };
    error_code const corrupt = errc::corrupt_handoff;
    BOOST_TEST(arrives({'H', 'T', 'T', 'P', '/', '1', '.', '1', ' ', '2', '0', '0'}) == corrupt);
    BOOST_TEST(arrives({1}) == corrupt);
    BOOST_TEST(arrives({8, 0, 0, 0, 4, 0, 0}) == corrupt);
    BOOST_TEST(arrives({7, 0, 0, 0, 4, 0, 0, 0}) == corrupt);
    BOOST_TEST(arrives({9, 0, 0, 0, 4, 0, 0, 0}) == corrupt);
    BOOST_TEST(arrives({8, 0, 0, 0, 4, 0, 1, 0}) == corrupt); // a descriptor that did not come along
    BOOST_TEST(arrives({255, 255, 255, 255, 4, 0, 0, 0}) == corrupt);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_frame_longer_than_the_buffer_is_not_cut, T, transports)
{
    conversation<T> talk;
    talk.send(talk.child, handoff::fail{"a few words"});
    BOOST_TEST((talk.parent.receive(std::span{talk.buffer}.first(10), talk.fds, talk.ec).what == received::kind::again));
    BOOST_TEST(talk.ec == error_code{errc::corrupt_handoff});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_variable_that_cannot_be_read, T, transports)
{
    error_code ec;
    auto const offer = T{}.make({}, ec);
    auto const& good = offer.text;
    for (auto const& text : {std::string{}, std::string{" "}, std::string{"3"}, std::string{"3 "}, std::string{"socketpair"},
                             " " + good, good + " ", good + "x", good + '\0', "-" + good, "+" + good, "0x" + good,
                             good.substr(0, good.rfind(':')), good + ":1", std::string{"3 1:2:3"},
                             std::string{"3 0 1:2 3"}, std::string{"99999999999999999999 0 1:2 3:4"},
                             std::string{"2147483648 1:2"}, std::string{"4294967295 0 1:2 3:4"},
                             std::string{"2147483646 1 1:2 3:4"}, std::string{"3 4294967295 1:2 3:4"},
                             std::string{"3 18446744073709551616:1"}, std::string{"\xff\xff\n"}}) {
        (void)T{}.adopt(text, ec);
        BOOST_TEST_CONTEXT(text)
        {
            BOOST_TEST(ec == error_code{errc::handoff_variable});
        }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_leaked_variable_is_told_apart, T, transports)
{
    error_code ec;
    error_code const stale = errc::stale_handoff;
    std::string text;
    int count = 0;
    {
        auto const offer = T{}.make({}, ec);
        BOOST_REQUIRE(!ec);
        text = std::to_string(child_numbers) + offer.text.substr(1);
        count = static_cast<int>(offer.inherited.size());
        (void)T{}.adopt(text, ec);
        BOOST_TEST(ec == stale); // its numbers are not open

        // Its numbers are in use for other things, each of the kind that the transport would have.
        auto const other = T{}.make({}, ec);
        for (int i = 0; i != count; ++i)
            BOOST_REQUIRE(::dup2(other.inherited[static_cast<std::size_t>(i)].get(), child_numbers + i) != -1);
        (void)T{}.adopt(text, ec);
        BOOST_TEST(ec == stale);
    }
    (void)T{}.adopt(text, ec);
    BOOST_TEST(ec == stale);
    for (int i = 0; i != count; ++i) {
        BOOST_TEST(is_open(child_numbers + i));
        BOOST_TEST(!is_close_on_exec(child_numbers + i));
        ::close(child_numbers + i);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(only_the_variable_names_what_the_child_keeps_over_exec, T, transports)
{
    error_code ec;
    auto const offer = T{}.make({}, ec);
    BOOST_TEST(is_close_on_exec(offer.ours.fd().get()));
    for (auto const& fd : offer.theirs)
        BOOST_TEST(is_close_on_exec(fd.get()));
    conversation<T> const talk;
    for (std::size_t i = 0; i != offer.inherited.size(); ++i)
        BOOST_TEST(is_close_on_exec(child_numbers + static_cast<int>(i)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_was_not_sent_is_closed_with_the_end, T, transports)
{
    auto const originals = files(20);
    auto const lent = lend(originals);
    auto const at_first = open_descriptors();
    {
        conversation<T> talk{lent};
        auto const some = handoff::pack(std::vector<handoff::record>(7), talk.ec);
        talk.send(talk.parent, some.frame, std::span{lent}.first(7));
        BOOST_REQUIRE(talk.receive(talk.child));
        talk.parent = {};
        talk.child = {};
        talk.child_writes.reset();
        BOOST_TEST(open_descriptors() == at_first + 7);
    }
    BOOST_TEST(open_descriptors() == at_first);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_moved_from_end_fails_in_order, T, transports)
{
    conversation<T> talk;
    auto const other = std::move(talk.child);
    talk.send(talk.child, handoff::serving{});
    BOOST_TEST((talk.ec == boost::system::errc::bad_file_descriptor));
    BOOST_TEST(!talk.receive(talk.child));
    BOOST_TEST((talk.ec == boost::system::errc::bad_file_descriptor));
}

BOOST_AUTO_TEST_SUITE_END()
