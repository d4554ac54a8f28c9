// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/systemd/stored_name.hpp>

#include <ecdysis/notify/systemd.hpp>

#define BOOST_TEST_MODULE systemd_stored_name
#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace ecdysis;
using handoff::descriptor_kind;

namespace {

std::string path_with_everything()
{
    std::string path = "/";
    for (int c = 1; c != 256; ++c)
        path += static_cast<char>(c);
    return path;
}

} // namespace

BOOST_AUTO_TEST_CASE(each_kind_is_read_as_it_was_written)
{
    struct { handoff::record what; std::string name; } const each[] = {
        {{.kind = descriptor_kind::listener, .name = "tcp 127.0.0.1:8080"}, "tcp 127.0.0.1%3A8080"},
        {{.kind = descriptor_kind::listener, .name = "tcp [fe80::1%1]:80"}, "tcp [fe80%3A%3A1%251]%3A80"},
        {{.kind = descriptor_kind::datagram, .name = "udp 0.0.0.0:0"}, "udp 0.0.0.0%3A0"},
        {{.kind = descriptor_kind::listener, .name = "unix @a b 1-2"}, "unix @a%20b%201-2"},
        {{.kind = descriptor_kind::listener, .name = "unix /x y", .device = 41, .inode = 7, .flags = handoff::path_owned},
         "unix /x%20y 41-7"},
        {{.kind = descriptor_kind::listener, .name = "seqpacket /x", .device = ~0ULL, .inode = ~0ULL, .flags = handoff::path_owned},
         "seqpacket /x 18446744073709551615-18446744073709551615"},
        {{.kind = descriptor_kind::datagram, .name = "datagram @x"}, "datagram @x"},
        {{.kind = descriptor_kind::connection, .name = "settings"}, "file settings"},
        {{.kind = descriptor_kind::connection, .name = ""}, "file "},
        {{.kind = descriptor_kind::connection, .name = "a:b%\n\xFF"}, "file a%3Ab%25%0A%FF"},
    };
    for (auto const& [what, name] : each) {
        BOOST_TEST(systemd::stored_name(what) == name);
        BOOST_TEST(notify::systemd::is_descriptor_name(name));
        auto expected = what;
        expected.flags |= handoff::in_store;
        auto const read = systemd::read_stored_name(name);
        BOOST_REQUIRE(read.has_value());
        BOOST_TEST((*read == expected), name);
    }
}

BOOST_AUTO_TEST_CASE(every_byte_survives_and_is_taken_by_the_manager)
{
    auto const text = path_with_everything();
    auto const encoded = systemd::encode(text);
    BOOST_TEST((systemd::decode(encoded) == text));
    for (std::size_t at = 0; at < encoded.size(); at += 250)
        BOOST_TEST(notify::systemd::is_descriptor_name(encoded.substr(at, 250)));
    BOOST_TEST(encoded.find(' ') == encoded.npos);
}

BOOST_AUTO_TEST_CASE(what_is_none_of_ours_is_a_units)
{
    for (auto const* name : {"", " ", "http", "http.socket", "unknown", "stored", "connection", "tcp", "tcp ", "tcp x", "tcp 127.0.0.1",
                             "tcp 127.0.0.1%3A", "tcp 127.0.0.1%3", "tcp 127.0.0.1%", "tcp 127.0.0.1%zz80", "tcp 127.0.0.1%3A80 ",
                             "tcp 127.0.0.1%3A80 1-2", "tcp %-3A", "sctp 127.0.0.1%3A80", "unix x", "unix /x 1", "unix /x 1-", "unix /x 1-0",
                             "unix /x 1-2 3", "unix /x -1-2", "unix /x 1-18446744073709551616", "unix @x 1-2", "file x y", "file %"})
        BOOST_TEST(!systemd::read_stored_name(name).has_value(), name);
}
