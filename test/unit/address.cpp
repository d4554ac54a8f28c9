// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/address.hpp>

#define BOOST_TEST_MODULE address
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

using ecdysis::address;
namespace asio = boost::asio;

namespace {

bool is_refused(std::string_view text)
{
    try {
        address const read{text};
        return false;
    } catch (ecdysis::error const& e) {
        return e.code() == ecdysis::errc::invalid_address && std::string{e.what()}.find(text) != std::string::npos;
    }
}

constexpr std::size_t longest = sizeof(::sockaddr_un::sun_path) - 1;

} // namespace

BOOST_AUTO_TEST_CASE(each_form_is_written_as_it_was_read)
{
    for (char const* text :
         {"127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:8080", "[::]:0", "[2001:db8::1]:443",
          "[::ffff:1.2.3.4]:1", "[fe80::1%1]:8080", "/run/service.sock", "/x", "@abstract", "@a"}) {
        BOOST_TEST(address{text}.text() == text);
        BOOST_TEST(address{address{text}.text()}.text() == text);
        BOOST_TEST(address{std::string{text}}.text() == text);
    }
}

BOOST_AUTO_TEST_CASE(equal_addresses_have_equal_texts)
{
    BOOST_TEST(address{"[0:0:0:0:0:0:0:1]:080"}.text() == "[::1]:80");
    BOOST_TEST(address{"[2001:DB8::0:1]:1"}.text() == "[2001:db8::1]:1");
    BOOST_TEST(address{"[fe80::1%lo]:1"}.text() == "[fe80::1%" + std::to_string(::if_nametoindex("lo")) + "]:1");
}

BOOST_AUTO_TEST_CASE(garbage_is_refused_and_quoted)
{
    for (char const* text : {"",
                             ":",
                             ":80",
                             "80",
                             "127.0.0.1",
                             "127.0.0.1:",
                             "127.0.0.1:-1",
                             "127.0.0.1:+1",
                             "127.0.0.1:65536",
                             "127.0.0.1:99999999999",
                             "127.0.0.1:80 ",
                             " 127.0.0.1:80",
                             "127.0.0.1: 80",
                             "127.0.0.1:8o",
                             "127.1:80",
                             "1.2.3.4.5:80",
                             "256.0.0.1:80",
                             "localhost:80",
                             "::1:80",
                             "[::1]",
                             "[::1]:",
                             "[::1:80",
                             "::1]:80",
                             "[]:80",
                             "[:80",
                             "]:80",
                             "[[::1]]:80",
                             "[127.0.0.1]:80",
                             "[:::]:80",
                             "[fe80::1%]:80",
                             "[fe80::1%0]:80",
                             "[fe80::1%1x]:80",
                             "[fe80::1%-1]:80",
                             "[fe80::1%4294967296]:80",
                             "[fe80::1%no such interface]:80",
                             "[%1]:80",
                             "/",
                             "@",
                             "service.sock",
                             "unix:/run/x"})
        BOOST_TEST(is_refused(text), "accepted: " << text);
    BOOST_CHECK_THROW(address(std::string_view{"/a\0b", 4}), ecdysis::error);
    BOOST_CHECK_THROW(address(std::string_view{"127.0.0.1:80\0", 13}), ecdysis::error);
}

BOOST_AUTO_TEST_CASE(the_longest_path_is_taken_and_one_more_is_not)
{
    std::string const path = "/" + std::string(longest - 1, 'p');
    BOOST_TEST(address{path}.text() == path);
    BOOST_TEST(address{path}.path() == path);
    BOOST_TEST(is_refused(path + "p"));
    std::string const abstract = "@" + std::string(longest - 1, 'a');
    BOOST_TEST(address{abstract}.text() == abstract);
    BOOST_TEST(is_refused(abstract + "a"));
}

BOOST_AUTO_TEST_CASE(a_path_that_fills_all_there_is_has_no_zero_byte)
{
    ::sockaddr_un un{};
    un.sun_family = AF_UNIX;
    std::memset(un.sun_path, 'f', sizeof un.sun_path);
    un.sun_path[0] = '/';
    address const full{reinterpret_cast<::sockaddr const*>(&un), sizeof un};
    BOOST_TEST(full.path() == "/" + std::string(longest, 'f'));
}

BOOST_AUTO_TEST_CASE(ports_and_paths)
{
    BOOST_TEST(address{"127.0.0.1:8080"}.port() == 8080);
    BOOST_TEST(address{"[::1]:443"}.port() == 443);
    BOOST_TEST(address{"/run/x"}.port() == 0);
    BOOST_TEST(address{"/run/x"}.path() == "/run/x");
    BOOST_TEST(address{"@x"}.path() == "");
    BOOST_TEST(address{"127.0.0.1:1"}.path() == "");
    BOOST_TEST(address{"127.0.0.1:1"}.family() == AF_INET);
    BOOST_TEST(address{"[::1]:1"}.family() == AF_INET6);
    BOOST_TEST(address{"@x"}.family() == AF_UNIX);
    BOOST_TEST(address{"[::]:1"}.is_any_v6());
    BOOST_TEST(!address{"[::1]:1"}.is_any_v6());
    BOOST_TEST(!address{"0.0.0.0:1"}.is_any_v6());
    // No zero byte at its end, or other programs would not find it.
    BOOST_TEST(address{"@x"}.size() == offsetof(::sockaddr_un, sun_path) + 2);
}

BOOST_AUTO_TEST_CASE(endpoints_of_asio_are_addresses)
{
    BOOST_TEST(address{asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 80)}.text() == "127.0.0.1:80");
    BOOST_TEST(address{asio::ip::udp::endpoint(asio::ip::make_address("2001:db8::7"), 53)}.text() ==
               "[2001:db8::7]:53");
    BOOST_TEST(address{asio::ip::tcp::endpoint(asio::ip::make_address("fe80::1%1"), 1)}.text() == "[fe80::1%1]:1");
    address const path{asio::local::stream_protocol::endpoint("/run/x")};
    BOOST_TEST(path.text() == "/run/x");
    BOOST_TEST(path.satisfies("/run/x"));
    BOOST_TEST(address{"/run/x"}.satisfies(path));
    BOOST_TEST(address{asio::local::stream_protocol::endpoint(std::string{"\0x", 2})}.text() == "@x");
    address const copy = path;
    BOOST_TEST(copy.text() == "/run/x");
}

BOOST_AUTO_TEST_CASE(a_relative_path_is_made_absolute_where_it_fits)
{
    struct here
    {
        here() { BOOST_REQUIRE(fd >= 0); }
        ~here()
        {
            BOOST_TEST(::fchdir(fd) == 0);
            ::close(fd);
        }
        int fd = ::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    } const back;
    auto const read = [](std::string const& path) { return address{asio::local::stream_protocol::endpoint(path)}; };
    BOOST_REQUIRE(::chdir("/") == 0);
    BOOST_TEST(read("x").text() == "/x");
    BOOST_REQUIRE(::chdir("/usr/lib") == 0);
    BOOST_TEST(read("x/y").text() == "/usr/lib/x/y");
    BOOST_TEST(read("x/y").satisfies("/usr/lib/x/y"));
    BOOST_TEST(read("/x").text() == "/x");
    BOOST_TEST(read(std::string{"\0x", 2}).text() == "@x");
    std::string const fits(longest - 9, 'p');
    BOOST_TEST(read(fits).text() == "/usr/lib/" + fits);
    BOOST_TEST(read(fits + "p").text() == fits + "p");

    char gone[] = "/tmp/ecdysis-address-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(gone) != nullptr);
    BOOST_REQUIRE(::chdir(gone) == 0);
    BOOST_REQUIRE(::rmdir(gone) == 0);
    BOOST_TEST(read("x").text() == "x");
}

BOOST_AUTO_TEST_CASE(sizes_that_cannot_be_are_refused)
{
    ::sockaddr_storage storage{};
    auto const* const data = reinterpret_cast<::sockaddr const*>(&storage);
    BOOST_CHECK_THROW(address(data, 0), ecdysis::error);
    BOOST_CHECK_THROW(address(data, 1), ecdysis::error);
    BOOST_CHECK_THROW(address(data, sizeof storage + 1), ecdysis::error);
    BOOST_TEST(address(data, sizeof storage).text() == "an address of family 0");
}

BOOST_AUTO_TEST_CASE(what_satisfies_what)
{
    BOOST_TEST(address{"127.0.0.1:80"}.satisfies("127.0.0.1:80"));
    BOOST_TEST(address{"127.0.0.1:80"}.satisfies("127.0.0.1:0"));
    BOOST_TEST(!address{"127.0.0.1:0"}.satisfies("127.0.0.1:80"));
    BOOST_TEST(!address{"127.0.0.1:80"}.satisfies("127.0.0.1:81"));
    BOOST_TEST(!address{"127.0.0.2:80"}.satisfies("127.0.0.1:80"));
    BOOST_TEST(!address{"0.0.0.0:80"}.satisfies("[::]:80"));
    BOOST_TEST(address{"[::1]:80"}.satisfies("[::1]:0"));
    BOOST_TEST(!address{"[::1]:80"}.satisfies("[::2]:80"));
    BOOST_TEST(address{"[fe80::1%1]:80"}.satisfies("[fe80::1%1]:80"));
    BOOST_TEST(!address{"[fe80::1%1]:80"}.satisfies("[fe80::1%2]:80"));
    BOOST_TEST(address{"[::1]:80"}.satisfies("[::1%1]:80")); // the kernel drops that scope
    BOOST_TEST(address{"@x"}.satisfies("@x"));
    BOOST_TEST(!address{"@x"}.satisfies("@xy"));
    BOOST_TEST(!address{"@x"}.satisfies("/x"));
    BOOST_TEST(!address{"/x"}.satisfies("/y"));
}

BOOST_AUTO_TEST_CASE(what_a_socket_is_bound_to)
{
    address const asked{"@ecdysis test of address " + std::to_string(::getpid())};
    ecdysis::os::owned_fd const socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    ecdysis::error_code ec;
    BOOST_TEST(address::bound(socket, ec).text() == "");
    BOOST_TEST(!ec);
    BOOST_REQUIRE(::bind(socket.get(), asked.data(), asked.size()) == 0);
    BOOST_TEST(address::bound(socket, ec).text() == asked.text());
    BOOST_TEST(!ec);
    (void)address::bound(ecdysis::os::borrowed_fd{-1}, ec);
    BOOST_TEST((ec == boost::system::errc::bad_file_descriptor));
}
