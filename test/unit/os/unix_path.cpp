// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/os/unix_path.hpp>

#define BOOST_TEST_MODULE os_unix_path
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace os = ecdysis::os;
namespace fs = std::filesystem;

namespace {

struct directory
{
    directory()
    {
        std::string name = (fs::temp_directory_path() / "ecdysis-path.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

::sockaddr_un at(std::string const& path)
{
    ::sockaddr_un result{};
    result.sun_family = AF_UNIX;
    std::memcpy(result.sun_path, path.data(), path.size());
    return result;
}

bool is_stale(std::string const& path)
{
    auto const where = at(path);
    return os::is_stale_socket(path, reinterpret_cast<::sockaddr const*>(&where), sizeof where);
}

os::owned_fd bound(std::string const& path, int type)
{
    auto const where = at(path);
    os::owned_fd socket{::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)};
    BOOST_REQUIRE(::bind(socket.get(), reinterpret_cast<::sockaddr const*>(&where), sizeof where) == 0);
    return socket;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_path_is_stale_when_its_socket_is_closed_and_not_before)
{
    directory const place;
    for (int const type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
        auto const path = place / "socket";
        auto socket = bound(path, type);
        BOOST_TEST(!is_stale(path));
        if (type != SOCK_DGRAM)
            BOOST_REQUIRE(::listen(socket.get(), 1) == 0);
        BOOST_TEST(!is_stale(path));
        socket.reset();
        BOOST_TEST(is_stale(path));
        fs::remove(path);
        BOOST_TEST(!is_stale(path));
    }
}

BOOST_AUTO_TEST_CASE(what_is_no_socket_is_not_stale)
{
    directory const place;
    std::ofstream{place / "file"} << "x";
    BOOST_TEST(!is_stale(place / "file"));
    BOOST_TEST(!is_stale(place.path));
    (void)bound(place / "socket", SOCK_STREAM);
    fs::create_symlink(place / "socket", place / "link");
    BOOST_TEST(is_stale(place / "socket"));
    BOOST_TEST(!is_stale(place / "link"));
}

BOOST_AUTO_TEST_CASE(only_the_same_file_is_unlinked)
{
    directory const place;
    std::ofstream{place / "one"} << "x";
    std::ofstream{place / "two"} << "x";
    auto const one = os::identify(place / "one");
    BOOST_TEST(bool{one});
    BOOST_TEST(!os::identify(place / "none"));
    os::owned_fd const open{::open((place / "one").c_str(), O_RDONLY | O_CLOEXEC)};
    BOOST_TEST((os::identify(open) == one));
    BOOST_TEST(!os::identify(os::borrowed_fd{}));

    os::unlink_if_same(place / "two", one);
    BOOST_TEST(fs::exists(place / "two"));
    os::unlink_if_same(place / "one", {});
    BOOST_TEST(fs::exists(place / "one"));
    os::unlink_if_same(place / "none", {});
    fs::create_symlink(place / "one", place / "link");
    os::unlink_if_same(place / "link", one);
    BOOST_TEST(fs::is_symlink(place / "link"));
    os::unlink_if_same(place / "one", one);
    BOOST_TEST(!fs::exists(place / "one"));
}
