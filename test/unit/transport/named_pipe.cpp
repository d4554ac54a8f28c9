// SPDX-License-Identifier: BSL-1.0
// What is particular to FIFOs; the rest is in conversation.cpp.
#include <ecdysis/transport/named_pipe.hpp>

#define BOOST_TEST_MODULE transport_named_pipe
#include <boost/test/unit_test.hpp>

#include <sys/mman.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

using namespace ecdysis;
using transport::named_pipe;
using transport::received;
namespace fs = std::filesystem;

namespace {

constexpr int child_numbers = 700; ///< where the child's numbers start: 3 is in use here

std::ptrdiff_t open_descriptors()
{
    fs::directory_iterator const numbers{"/proc/self/fd"};
    return std::distance(begin(numbers), end(numbers)) - 1; // its own
}

struct a_directory
{
    a_directory()
    {
        auto pattern = (fs::temp_directory_path() / "test.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path = pattern;
    }
    ~a_directory() { fs::remove_all(path); }

    [[nodiscard]] bool empty() const { return fs::is_empty(path); }

    fs::path path;
};

/// Parent and child in one process. What exec would do is done with dup2().
struct conversation : a_directory
{
    explicit conversation(std::size_t count = 0)
    {
        for (std::size_t i = 0; i != count; ++i)
            files.emplace_back(::memfd_create("test", MFD_CLOEXEC));
        auto offer = named_pipe{path}.make(std::vector<os::borrowed_fd>{files.begin(), files.end()}, ec);
        BOOST_REQUIRE(!ec);
        BOOST_REQUIRE(offer.theirs.size() == 2);
        BOOST_REQUIRE(offer.inherited.size() == 2 + count);
        text = std::to_string(child_numbers) + offer.text.substr(1);
        for (std::size_t i = 0; i != offer.inherited.size(); ++i)
            BOOST_REQUIRE(::dup2(offer.inherited[i].get(), child_numbers + static_cast<int>(i)) != -1);
        child_writes = std::move(offer.theirs[1]);
        parent = std::move(offer.ours);
    }
    ~conversation()
    {
        for (std::size_t i = 0; i != files.size() + 2; ++i)
            ::close(child_numbers + static_cast<int>(i));
    }

    void child_sends(std::string_view bytes)
    {
        BOOST_REQUIRE(::write(child_writes.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    }
    received::kind parent_receives() { return parent.receive(buffer, fds, ec).what; }

    error_code ec;
    std::string text;
    named_pipe::end parent;
    os::owned_fd child_writes;
    std::vector<os::owned_fd> files;
    std::array<std::byte, handoff::max_frame> buffer{};
    std::vector<os::owned_fd> fds;
};

using namespace std::string_view_literals;
constexpr auto fail_frame = "\xc\0\0\0\x6\0\0\0\x2\0no"sv;

} // namespace

BOOST_FIXTURE_TEST_CASE(nothing_is_left_in_the_directory, a_directory)
{
    error_code ec;
    auto const before = open_descriptors();
    {
        auto const offer = named_pipe{path}.make({}, ec);
        BOOST_TEST(!ec);
        BOOST_TEST(empty());
        BOOST_TEST(open_descriptors() == before + 4);
        for (auto const fd : offer.inherited) {
            auto const status = os::status_of(fd, ec);
            BOOST_TEST(S_ISFIFO(status.st_mode));
            BOOST_TEST((status.st_mode & 0777) == 0600U);
            BOOST_TEST(status.st_nlink == 0U);
            BOOST_TEST(status.st_uid == ::geteuid());
        }
    }
    BOOST_TEST(open_descriptors() == before);
}

BOOST_FIXTURE_TEST_CASE(nor_after_an_error_at_any_step, a_directory)
{
    auto const before = open_descriptors();
    ::rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    os::owned_fd lowest{::dup(0)};
    auto const next = static_cast<rlim_t>(lowest.get());
    lowest.reset();
    int failed = 0;
    for (error_code ec = errc::busy; ec; ++failed) {
        BOOST_REQUIRE(failed < 20);
        auto few = limit;
        few.rlim_cur = next + static_cast<rlim_t>(failed);
        ::setrlimit(RLIMIT_NOFILE, &few);
        {
            auto const offer = named_pipe{path}.make({}, ec);
            BOOST_TEST(offer.inherited.empty() == bool(ec));
            BOOST_TEST((!ec || ec == boost::system::errc::too_many_files_open));
        }
        ::setrlimit(RLIMIT_NOFILE, &limit);
        BOOST_TEST(empty());
        BOOST_TEST(open_descriptors() == before);
    }
    BOOST_TEST(failed > 4);
}

BOOST_FIXTURE_TEST_CASE(where_the_fifos_are_made, a_directory)
{
    error_code ec;
    (void)named_pipe{path / "missing"}.make({}, ec);
    BOOST_TEST((ec == boost::system::errc::no_such_file_or_directory));

    std::string const old = std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "";
    ::setenv("TMPDIR", (path / "missing").c_str(), 1);
    named_pipe const elsewhere;
    BOOST_TEST(elsewhere.places().size() == 4);
    BOOST_TEST(elsewhere.places().front() == (path / "missing").string());
    (void)elsewhere.make({}, ec);
    BOOST_TEST(!ec);
    ::setenv("TMPDIR", "relative", 1);
    BOOST_TEST(named_pipe{}.places().front() == "/tmp");
    ::unsetenv("TMPDIR");
    BOOST_TEST(named_pipe{}.places().size() == 3);
    if (!old.empty())
        ::setenv("TMPDIR", old.c_str(), 1);
}

BOOST_FIXTURE_TEST_CASE(the_hosts_umask_does_not_matter, a_directory)
{
    for (mode_t const mask : {0U, 022U, 077U, 0177U}) {
        error_code ec;
        auto const old = ::umask(mask);
        auto const offer = named_pipe{path}.make({}, ec);
        ::umask(old);
        BOOST_TEST(!ec);
        BOOST_REQUIRE(offer.inherited.size() == 2);
        BOOST_TEST((os::status_of(offer.inherited[0], ec).st_mode & 0777) == 0600U);
    }
    BOOST_TEST(empty());
}

BOOST_FIXTURE_TEST_CASE(a_fifo_that_is_not_ours_alone_is_refused, a_directory)
{
    os::owned_fd const directory{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    auto const name = path / "to-child";
    auto const is_refused = [&] {
        error_code ec;
        auto const before = open_descriptors();
        auto const fifo = os::take_fifo(directory, "to-child", ec);
        BOOST_TEST(!fifo.reader);
        BOOST_TEST(!fifo.writer);
        BOOST_TEST(open_descriptors() == before);
        BOOST_TEST(!fs::exists(fs::symlink_status(name)));
        return ec == boost::system::errc::operation_not_permitted;
    };
    auto const make = [&](fs::path const& at) { BOOST_REQUIRE(::mkfifo(at.c_str(), 0600) == 0); };
    error_code ec;

    make(name);
    BOOST_TEST(bool(os::take_fifo(directory, "to-child", ec).writer));
    BOOST_TEST(!ec);
    BOOST_TEST(empty());
    {
        make(name);
        os::owned_fd const somebody_reads{::open(name.c_str(), O_RDONLY | O_NONBLOCK)};
        BOOST_TEST(is_refused());
    }
    {
        make(name);
        os::owned_fd const somebody_reads_and_writes{::open(name.c_str(), O_RDWR | O_NONBLOCK)};
        BOOST_TEST(is_refused());
    }
    {
        make(name);
        os::owned_fd reader{::open(name.c_str(), O_RDONLY | O_NONBLOCK)};
        os::owned_fd const somebody_writes{::open(name.c_str(), O_WRONLY | O_NONBLOCK)};
        reader.reset();
        BOOST_TEST(is_refused());
    }
    make(name);
    ::chmod(name.c_str(), 0620);
    BOOST_TEST(is_refused());
    make(name);
    fs::create_hard_link(name, path / "second");
    BOOST_TEST(is_refused());
    fs::rename(path / "second", path / "elsewhere");
    fs::create_symlink("elsewhere", name);
    BOOST_TEST(is_refused());
    std::ofstream{name} << "a file";
    BOOST_TEST(is_refused());
    if (::geteuid() == 0) {
        make(name);
        BOOST_REQUIRE(::chown(name.c_str(), 61234, 61234) == 0);
        BOOST_TEST(is_refused());
    }
    (void)os::take_fifo(directory, "to-child", ec);
    BOOST_TEST((ec == boost::system::errc::no_such_file_or_directory));
}

BOOST_FIXTURE_TEST_CASE(a_frame_in_pieces, conversation)
{
    for (auto const byte : fail_frame.substr(0, fail_frame.size() - 1)) {
        child_sends({&byte, 1});
        BOOST_TEST((parent_receives() == received::kind::again));
        BOOST_TEST(!ec);
    }
    // An end may move with what it has read of a frame.
    auto moved = std::move(parent);
    parent = std::move(moved);
    child_sends(fail_frame.substr(fail_frame.size() - 1));
    BOOST_TEST((parent_receives() == received::kind::frame));
    BOOST_TEST((handoff::decode(std::span{buffer}.first(fail_frame.size()), ec) == handoff::frame{handoff::fail{"no"}}));
    BOOST_TEST((parent_receives() == received::kind::again));
}

BOOST_FIXTURE_TEST_CASE(several_frames_in_one_piece, conversation)
{
    child_sends(std::string{fail_frame} + std::string{fail_frame} + std::string{"\x8\0\0\0\x7\0\0\0"sv});
    for (std::size_t const size : {12U, 12U, 8U}) {
        auto const got = parent.receive(buffer, fds, ec);
        BOOST_TEST((got.what == received::kind::frame));
        BOOST_TEST(got.size == size);
    }
    BOOST_TEST((parent_receives() == received::kind::again));
}

BOOST_FIXTURE_TEST_CASE(once_corrupt_it_stays_corrupt, conversation)
{
    child_sends("garbage, and more of it"sv);
    child_sends(fail_frame);
    for (int i = 0; i != 3; ++i) {
        parent_receives();
        BOOST_TEST(ec == error_code{errc::corrupt_handoff});
    }
}

BOOST_AUTO_TEST_CASE(the_child_owns_all_that_it_inherited_from_the_start)
{
    auto const before = open_descriptors();
    {
        conversation talk{5};
        // A program in between made them wait.
        ::fcntl(child_numbers, F_SETFL, 0);
        ::fcntl(child_numbers + 1, F_SETFL, 0);
        auto child = named_pipe{}.adopt(talk.text, talk.ec);
        BOOST_TEST(!talk.ec);
        for (int i = 0; i != 7; ++i)
            BOOST_TEST(::fcntl(child_numbers + i, F_GETFD) == FD_CLOEXEC);
        BOOST_TEST((child.receive(talk.buffer, talk.fds, talk.ec).what == received::kind::again));

        // Inherited, not received: the numbers are the very ones.
        auto const some = handoff::pack(std::vector<handoff::record>(2), talk.ec);
        talk.parent.send(handoff::encode(some.frame, talk.ec).bytes(), std::vector<os::borrowed_fd>(2), talk.ec);
        BOOST_TEST((child.receive(talk.buffer, talk.fds, talk.ec).what == received::kind::frame));
        BOOST_REQUIRE(talk.fds.size() == 2);
        BOOST_TEST(talk.fds[0].get() == child_numbers + 2);
        BOOST_TEST(talk.fds[1].get() == child_numbers + 3);

        // More than there are.
        auto const rest = handoff::pack(std::vector<handoff::record>(4), talk.ec);
        talk.parent.send(handoff::encode(rest.frame, talk.ec).bytes(), std::vector<os::borrowed_fd>(4), talk.ec);
        (void)child.receive(talk.buffer, talk.fds, talk.ec);
        BOOST_TEST(talk.ec == error_code{errc::corrupt_handoff});
        BOOST_TEST(talk.fds.size() == 2);

        child = {};
        for (int i = 4; i != 7; ++i)
            BOOST_TEST(::fcntl(child_numbers + i, F_GETFD) == -1);
        talk.fds.clear();
    }
    BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(numbers_that_are_not_all_there_are_refused_untouched)
{
    error_code const stale = errc::stale_handoff;
    auto const still_as_exec_left_them = [](int count) {
        for (int i = 0; i != count; ++i)
            BOOST_TEST(::fcntl(child_numbers + i, F_GETFD) == 0);
    };
    {
        conversation talk{5};
        ::close(child_numbers + 6);
        (void)named_pipe{}.adopt(talk.text, talk.ec);
        BOOST_TEST(talk.ec == stale);
        still_as_exec_left_them(6);
    }
    {
        conversation talk{5};
        // The two ends in the other order, with identities to match.
        ::dup2(child_numbers, child_numbers + 4);
        ::dup2(child_numbers + 1, child_numbers);
        ::dup2(child_numbers + 4, child_numbers + 1);
        (void)named_pipe{}.adopt(talk.text, talk.ec);
        BOOST_TEST(talk.ec == stale);
        std::string_view left = talk.text;
        auto const first = os::take_number<unsigned>(left, ' ');
        auto const count = os::take_number<unsigned>(left, ' ');
        auto const reads = os::take_identity(left, ' ');
        auto const writes = os::take_identity(left, '\0');
        BOOST_REQUIRE(writes);
        auto const swapped = std::to_string(*first) + ' ' + std::to_string(*count) + ' ' + writes->text() + ' ' + reads->text();
        (void)named_pipe{}.adopt(swapped, talk.ec);
        BOOST_TEST(talk.ec == stale);
        still_as_exec_left_them(7);
        // No memory is set aside for a count that only a text claims.
        (void)named_pipe{}.adopt(std::to_string(*first) + " 2147480000 " + reads->text() + ' ' + writes->text(), talk.ec);
        BOOST_TEST(talk.ec == stale);
    }
}
