// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/handoff/wire.hpp>

#define BOOST_TEST_MODULE handoff_wire
#include <boost/test/unit_test.hpp>

#include <memory>
#include <random>

using namespace ecdysis;
using namespace ecdysis::handoff;

namespace {

std::vector<std::byte> bytes_of(frame const& f)
{
    error_code ec;
    auto const out = encode(f, ec);
    BOOST_TEST(!ec);
    return {out.bytes().begin(), out.bytes().end()};
}

/// Decodes from memory that ends where the bytes end, so that a sanitizer sees every read beyond them.
frame decoded(std::span<std::byte const> bytes, error_code& ec)
{
    auto const exact = std::make_unique<std::byte[]>(bytes.size());
    std::ranges::copy(bytes, exact.get());
    return decode({exact.get(), bytes.size()}, ec);
}

frame decoded(std::span<std::byte const> bytes)
{
    error_code ec;
    auto result = decoded(bytes, ec);
    BOOST_TEST(!ec);
    return result;
}

void set_length(std::vector<std::byte>& bytes)
{
    for (std::size_t i = 0; i != 4; ++i)
        bytes[i] = static_cast<std::byte>(bytes.size() >> (8 * i));
}

std::vector<std::byte> with_more_payload(std::vector<std::byte> bytes)
{
    bytes.insert(bytes.end(), {std::byte{0xff}, std::byte{0xff}, std::byte{1}});
    set_length(bytes);
    return bytes;
}

record some_record(unsigned n)
{
    return {.kind = descriptor_kind::listener,
            .index = static_cast<std::uint16_t>(n),
            .name = "tcp [::1]:" + std::to_string(n),
            .bytes = std::string("\0host's own\xff", 12),
            .device = 0x1122334455667788,
            .inode = 0x8877665544332211,
            .flags = path_owned};
}

std::vector<bool> some_bits(std::size_t count)
{
    std::vector<bool> bits(count);
    for (std::size_t i = 0; i != count; ++i)
        bits[i] = i % 3 == 0 || i % 7 == 1;
    return bits;
}

std::vector<frame> every_frame()
{
    return {more{os::process_id{4711}},
            more{.sender = os::process_id{1}, .version = 3},
            hello{.generation = 3, .blocked = 1ULL << 63 | 1},
            descriptors{},
            descriptors{{some_record(0), some_record(65535), record{}}},
            end{},
            ready{},
            ready{some_bits(1)},
            ready{some_bits(8)},
            ready{some_bits(1001)},
            fail{},
            fail{"config: no such upstream \"caf\u00e9\""},
            commit{},
            serving{},
            stop{},
            stop{stop::reason::partial},
            stop{stop::reason::taken_back},
            alive_question{},
            alive{},
            yours{},
            yours{true},
            taken{},
            taken{"the pid file: No space left on device"},
            stopping{},
            stopping{true},
            unknown{4242}};
}

record largest_record()
{
    return {.name = std::string(max_name, 'n'), .bytes = std::string(max_bytes, 'b')};
}

} // namespace

BOOST_AUTO_TEST_CASE(every_frame_comes_back_as_it_was)
{
    for (auto const& f : every_frame()) {
        auto const bytes = bytes_of(f);
        BOOST_TEST_CONTEXT("frame " << f.index())
        {
            BOOST_TEST((decoded(bytes) == f));
            error_code ec;
            auto const head = peek_header(bytes, ec);
            BOOST_TEST(!ec);
            BOOST_TEST(head.length == bytes.size());
            auto const* some = std::get_if<descriptors>(&f);
            BOOST_TEST(head.descriptors == (some != nullptr ? some->records.size() : 0));
        }
    }
}

BOOST_AUTO_TEST_CASE(the_bytes_are_those_of_version_2)
{
    // Generations that were built years apart meet here: these bytes may never change.
    auto const is = [](frame const& f, std::vector<unsigned> const& expected) {
        std::vector<unsigned> bytes;
        for (auto const byte : bytes_of(f))
            bytes.push_back(std::to_integer<unsigned>(byte));
        BOOST_TEST(bytes == expected, boost::test_tools::per_element());
    };
    is(more{os::process_id{258}}, {14, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 2, 0});
    is(hello{.generation = 7, .blocked = 513}, {22, 0, 0, 0, 2, 0, 0, 0, 2, 0, 7, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0});
    is(descriptors{{{.kind = descriptor_kind::datagram, .index = 5, .name = "n", .bytes = "ab", .device = 3, .inode = 4, .flags = 1}}},
       {37, 0, 0, 0, 3, 0, 1, 0, 27, 0, 2, 1, 5, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'n', 2, 0, 'a', 'b'});
    is(end{}, {8, 0, 0, 0, 4, 0, 0, 0});
    is(ready{{true, false, true, false, false, false, false, false, true}}, {14, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 5, 1});
    is(fail{"no"}, {12, 0, 0, 0, 6, 0, 0, 0, 2, 0, 'n', 'o'});
    is(commit{}, {8, 0, 0, 0, 7, 0, 0, 0});
    is(serving{}, {8, 0, 0, 0, 8, 0, 0, 0});
    is(stop{}, {9, 0, 0, 0, 9, 0, 0, 0, 0});
    is(stop{stop::reason::partial}, {9, 0, 0, 0, 9, 0, 0, 0, 1});
    is(stop{stop::reason::taken_back}, {9, 0, 0, 0, 9, 0, 0, 0, 2});
    is(alive_question{}, {8, 0, 0, 0, 10, 0, 0, 0});
    is(alive{}, {8, 0, 0, 0, 11, 0, 0, 0});
    is(yours{}, {9, 0, 0, 0, 12, 0, 0, 0, 0});
    is(yours{true}, {9, 0, 0, 0, 12, 0, 0, 0, 1});
    is(taken{"no"}, {12, 0, 0, 0, 13, 0, 0, 0, 2, 0, 'n', 'o'});
    is(stopping{}, {9, 0, 0, 0, 14, 0, 0, 0, 0});
    is(stopping{true}, {9, 0, 0, 0, 14, 0, 0, 0, 1});
}

BOOST_AUTO_TEST_CASE(what_a_later_version_appends_is_skipped)
{
    for (auto const& f : every_frame())
        BOOST_TEST((decoded(with_more_payload(bytes_of(f))) == f));

    // A longer record, followed by another.
    auto const first = bytes_of(descriptors{{some_record(1)}});
    auto const both = bytes_of(descriptors{{some_record(1), some_record(2)}});
    auto bytes = both;
    auto const seam = bytes.begin() + static_cast<std::ptrdiff_t>(first.size());
    bytes.insert(seam, 5, std::byte{0xee});
    bytes[header_size] = static_cast<std::byte>(std::to_integer<unsigned>(bytes[header_size]) + 5);
    set_length(bytes);
    BOOST_TEST((decoded(bytes) == frame{descriptors{{some_record(1), some_record(2)}}}));
}

BOOST_AUTO_TEST_CASE(types_and_kinds_of_a_later_version_keep_their_numbers)
{
    for (auto const type : std::initializer_list<std::uint16_t>{0, 15, 4242, 65535}) {
        auto const bytes = with_more_payload(bytes_of(unknown{type}));
        BOOST_TEST((decoded(bytes) == frame{unknown{type}}));
    }
    record const later{.kind = descriptor_kind{200}, .name = "x", .flags = 0xf0};
    BOOST_TEST((decoded(bytes_of(descriptors{{later}})) == frame{descriptors{{later}}}));
}

BOOST_AUTO_TEST_CASE(hello_of_any_other_version_tells_the_version)
{
    for (auto const version : std::initializer_list<std::uint16_t>{0, 1, 3, 65535}) {
        frame const expected = hello{.version = version};
        auto bytes = bytes_of(hello{.version = version, .generation = 5, .blocked = 9});
        BOOST_TEST((decoded(bytes) == expected));
        BOOST_TEST((decoded(with_more_payload(bytes)) == expected));
        bytes.resize(header_size + 2);
        set_length(bytes);
        BOOST_TEST((decoded(bytes) == expected));
    }
}

BOOST_AUTO_TEST_CASE(a_child_of_version_1_is_told_by_its_first_frame)
{
    auto bytes = bytes_of(more{os::process_id{258}});
    bytes.resize(header_size + 4);
    set_length(bytes);
    BOOST_TEST((decoded(bytes) == frame{more{.sender = os::process_id{258}, .version = 1}}));
    // Half a version is none.
    bytes.push_back(std::byte{2});
    set_length(bytes);
    error_code ec;
    (void)decoded(bytes, ec);
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
}

BOOST_AUTO_TEST_CASE(a_reason_to_stop_that_a_later_version_added_keeps_its_number)
{
    frame const later = stop{stop::reason{7}};
    BOOST_TEST((decoded(bytes_of(later)) == later));
}

BOOST_AUTO_TEST_CASE(warnings_are_one_short_line)
{
    auto const comes_as = [](std::string const& text) { return std::get<taken>(decoded(bytes_of(taken{text}))).warnings; };
    BOOST_TEST(comes_as("pid file:\nno") == "pid file: no");
    BOOST_TEST(comes_as(std::string(5000, 'x')) == std::string(max_reason, 'x'));
}

BOOST_AUTO_TEST_CASE(a_reason_is_one_short_line)
{
    auto const comes_as = [](std::string const& why) { return std::get<fail>(decoded(bytes_of(fail{why}))).why; };
    BOOST_TEST(comes_as("bind: \x1b[31mno\x7f\r\nsuch") == "bind:  [31mno   such");
    BOOST_TEST(comes_as(std::string("a\0b", 3)) == "a b");
    BOOST_TEST(comes_as(std::string(5000, 'x')) == std::string(max_reason, 'x'));
    // 1023 bytes and a letter of two: it is not cut in the middle.
    BOOST_TEST(comes_as(std::string(max_reason - 1, 'x') + "\u00e9") == std::string(max_reason - 1, 'x'));
    BOOST_TEST(comes_as(std::string(max_reason - 2, 'x') + "\u00e9") == std::string(max_reason - 2, 'x') + "\u00e9");
    // No text at all, but no reason to lose it.
    BOOST_TEST(comes_as(std::string(2000, '\x80')).size() >= max_reason - 3);

    // Nor can a program that speaks the frames by itself put a second line into our log.
    auto bytes = bytes_of(fail{"a b"});
    bytes[bytes.size() - 2] = std::byte{'\n'};
    BOOST_TEST(std::get<fail>(decoded(bytes)).why == "a b");
}

BOOST_AUTO_TEST_CASE(records_are_packed_in_order_into_as_few_frames_as_hold_them)
{
    std::vector<record> records;
    for (unsigned i = 0; i != 1000; ++i)
        records.push_back(some_record(i));
    records[500] = largest_record();

    std::vector<record> arrived;
    std::size_t frames = 0;
    for (std::span<record const> left{records}; !left.empty(); ++frames) {
        error_code ec;
        auto const some = pack(left, ec);
        BOOST_REQUIRE(!ec);
        BOOST_REQUIRE(some.taken > 0);
        BOOST_TEST(some.taken == some.frame.records.size());
        auto const bytes = bytes_of(some.frame);
        BOOST_TEST(bytes.size() <= max_frame);
        if (some.taken != left.size())
            BOOST_TEST(bytes.size() + encoded_size(left[some.taken]) > max_frame);
        auto const f = decoded(bytes);
        auto const& more_records = std::get<descriptors>(f).records;
        arrived.insert(arrived.end(), more_records.begin(), more_records.end());
        left = left.subspan(some.taken);
    }
    BOOST_TEST((arrived == records));
    BOOST_TEST(frames < 20);
}

BOOST_AUTO_TEST_CASE(a_frame_never_carries_more_descriptors_than_a_message_can)
{
    // Nothing that is written on the wire is this small, but the limit must not hang on that.
    static_assert(max_frame_descriptors * 26 > max_frame, "then test it with empty records");
    error_code ec;
    std::vector<record> const empty(300);
    auto const some = pack(empty, ec);
    BOOST_TEST(some.taken <= max_frame_descriptors);
    BOOST_TEST(bytes_of(some.frame).size() <= max_frame);
    BOOST_TEST(pack({}, ec).taken == 0);
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_refused_not_cut)
{
    error_code ec;
    for (auto const& r : {record{.name = std::string(max_name + 1, 'n')}, record{.bytes = std::string(max_bytes + 1, 'b')},
                          record{.name = std::string(100'000, 'n')}}) {
        BOOST_TEST(!within_limits(r));
        BOOST_TEST(pack(std::vector{some_record(0), r}, ec).taken == 0);
        BOOST_TEST(ec == error_code{errc::name_too_long});
        BOOST_TEST(encode(descriptors{{r}}, ec).bytes().empty());
        BOOST_TEST(ec == error_code{errc::name_too_long});
    }
    (void)encode(descriptors{std::vector<record>(254)}, ec);
    BOOST_TEST(ec == error_code{errc::descriptor_limit});

    BOOST_TEST(bytes_of(ready{some_bits(max_descriptors)}).size() == max_frame);
    (void)encode(ready{some_bits(max_descriptors + 1)}, ec);
    BOOST_TEST(ec == error_code{errc::descriptor_limit});

    BOOST_TEST(within_limits(largest_record()));
    bytes_of(descriptors{{largest_record()}});
}

BOOST_AUTO_TEST_CASE(headers_that_make_no_sense)
{
    auto const peek = [](std::vector<unsigned> const& numbers) {
        std::vector<std::byte> bytes;
        for (auto const n : numbers)
            bytes.push_back(static_cast<std::byte>(n));
        error_code ec;
        (void)peek_header(bytes, ec);
        return ec;
    };
    BOOST_TEST(!peek({8, 0, 0, 0, 1, 0, 253, 0}));
    BOOST_TEST(!peek({0, 16, 0, 0, 255, 255, 0, 0}));
    for (auto const& bytes : std::vector<std::vector<unsigned>>{{},
                                                               {8, 0, 0, 0, 1, 0, 0},
                                                               {7, 0, 0, 0, 1, 0, 0, 0},
                                                               {1, 16, 0, 0, 1, 0, 0, 0},
                                                               {255, 255, 255, 255, 1, 0, 0, 0},
                                                               {8, 0, 0, 0, 1, 0, 254, 0}})
        BOOST_TEST(peek(bytes) == error_code{errc::corrupt_handoff});
}

BOOST_AUTO_TEST_CASE(no_truncated_frame_passes_for_a_whole_one)
{
    for (auto const& f : every_frame()) {
        auto const whole = bytes_of(f);
        for (std::size_t size = 0; size != whole.size(); ++size) {
            error_code ec;
            (void)decoded(std::span{whole}.first(size), ec);
            BOOST_TEST(ec == error_code{errc::corrupt_handoff});
            if (size < header_size)
                continue;
            // Cut, with a header that says it is meant so.
            auto cut = whole;
            cut.resize(size);
            set_length(cut);
            auto const result = decoded(cut, ec);
            BOOST_TEST((ec == errc::corrupt_handoff || result != f || f.index() == frame{unknown{}}.index()));
        }
    }
}

BOOST_AUTO_TEST_CASE(a_frame_cannot_ask_for_more_memory_than_it_has_bytes)
{
    auto bytes = bytes_of(ready{some_bits(8)});
    for (std::size_t i = 0; i != 4; ++i)
        bytes[header_size + i] = std::byte{0xff};
    error_code ec;
    (void)decoded(bytes, ec);
    BOOST_TEST(ec == error_code{errc::corrupt_handoff});
}

BOOST_AUTO_TEST_CASE(any_bytes_decode_to_a_frame_or_an_error)
{
    std::mt19937 random{20250711};
    std::vector<std::vector<std::byte>> seeds;
    for (auto const& f : every_frame())
        seeds.push_back(bytes_of(f));
    seeds.push_back(bytes_of(descriptors{{largest_record(), largest_record(), some_record(0)}}));

    std::size_t good = 0;
    for (int i = 0; i != 200'000; ++i) {
        auto bytes = seeds[random() % seeds.size()];
        for (auto edits = random() % 4; edits != 0 && !bytes.empty(); --edits) {
            auto const at = bytes.begin() + static_cast<std::ptrdiff_t>(random() % bytes.size());
            switch (random() % 4) {
            case 0: *at = static_cast<std::byte>(random()); break;
            case 1: *at = random() % 2 == 0 ? std::byte{0} : std::byte{0xff}; break;
            case 2: bytes.erase(at, random() % 2 == 0 ? at + 1 : bytes.end()); break;
            case 3: bytes.insert(at, random() % 9, static_cast<std::byte>(random())); break;
            }
        }
        if (bytes.size() >= 4 && random() % 2 == 0)
            set_length(bytes);
        error_code ec;
        auto const f = decoded(bytes, ec);
        if (ec) {
            if (ec != errc::corrupt_handoff)
                BOOST_ERROR("another error: " << ec.message());
            continue;
        }
        ++good;
        // Whatever was understood can be said again, and means the same.
        auto const again = encode(f, ec);
        if (ec || decoded(again.bytes(), ec) != f || ec)
            BOOST_ERROR("not the same when said again, frame " << f.index());
    }
    BOOST_TEST(good > 1000);
}
