// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/fifo.hpp>

#define BOOST_TEST_MODULE os_fifo
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace os = ecdysis::os;
namespace fs = std::filesystem;
using ecdysis::error_code;

namespace {

struct directory
{
    directory()
    {
        std::string name = (fs::temp_directory_path() / "ecdysis-fifo.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
        fd = os::owned_fd{::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
    os::owned_fd fd;
};

void check_refused(directory const& place, char const* what)
{
    error_code ec;
    auto const taken = os::take_fifo(place.fd, "f", ec);
    BOOST_TEST((ec == boost::system::errc::operation_not_permitted), what << ": " << ec.message());
    BOOST_TEST(!taken.reader);
    BOOST_TEST(!taken.writer);
    BOOST_TEST(!fs::exists(fs::symlink_status(place / "f")), what);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_fresh_fifo_carries_bytes_and_has_no_name)
{
    directory const place;
    error_code ec;
    {
        os::fresh_directory const fresh{place.path, ec};
        BOOST_REQUIRE(!ec);
        struct ::stat status = os::status_of(fresh.fd(), ec);
        BOOST_TEST((status.st_mode & 07777) == 0700U);
        auto fifo = fresh.make_fifo("f", ec);
        BOOST_REQUIRE(!ec);
        BOOST_TEST(os::status_of(fifo.reader, ec).st_nlink == 0U);
        for (auto const* end : {&fifo.reader, &fifo.writer}) {
            BOOST_TEST((::fcntl(end->get(), F_GETFD) & FD_CLOEXEC) != 0);
            BOOST_TEST((::fcntl(end->get(), F_GETFL) & O_NONBLOCK) != 0);
        }
        char buffer[8];
        BOOST_TEST(::read(fifo.reader.get(), buffer, sizeof buffer) == -1);
        BOOST_TEST(::write(fifo.writer.get(), "word", 4) == 4);
        BOOST_TEST(::read(fifo.reader.get(), buffer, sizeof buffer) == 4);
        fifo.writer.reset();
        BOOST_TEST(::read(fifo.reader.get(), buffer, sizeof buffer) == 0);
    }
    BOOST_TEST(fs::is_empty(place.path));
}

BOOST_AUTO_TEST_CASE(what_is_not_ours_alone_is_refused_and_its_name_taken_away)
{
    directory const place;
    auto const path = place / "f";
    std::ofstream{path} << "x";
    check_refused(place, "a file");
    fs::create_symlink("/dev/null", path);
    check_refused(place, "a symlink");
    for (::mode_t const mode : {0620, 0604, 0611}) {
        ::mkfifo(path.c_str(), 0600);
        ::chmod(path.c_str(), mode);
        check_refused(place, "rights for others");
    }
    ::mkfifo(path.c_str(), 0600);
    fs::create_hard_link(path, place / "second");
    check_refused(place, "a second name");
    fs::remove(place / "second");
    for (int const how : {O_RDONLY, O_RDWR}) {
        ::mkfifo(path.c_str(), 0600);
        os::owned_fd const other{::open(path.c_str(), how | O_NONBLOCK | O_CLOEXEC)};
        check_refused(place, "open elsewhere");
    }
    if (::geteuid() == 0) {
        ::mkfifo(path.c_str(), 0600);
        BOOST_REQUIRE(::chown(path.c_str(), 65534, 65534) == 0);
        check_refused(place, "another owner");
    }
    error_code ec;
    (void)os::take_fifo(place.fd, "none", ec);
    BOOST_TEST((ec == boost::system::errc::no_such_file_or_directory));
}

BOOST_AUTO_TEST_CASE(a_place_that_is_none_is_an_error)
{
    directory const place;
    error_code ec;
    os::fresh_directory const fresh{place / "none", ec};
    BOOST_TEST((ec == boost::system::errc::no_such_file_or_directory));
    BOOST_TEST(!fresh.fd());
}
