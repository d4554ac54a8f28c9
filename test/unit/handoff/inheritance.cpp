// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/handoff/inheritance.hpp>

#define BOOST_TEST_MODULE handoff_inheritance
#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <string>
#include <vector>

using namespace ecdysis::handoff;
namespace os = ecdysis::os;

namespace {

os::owned_fd any() { return os::owned_fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}; }

record named(std::string name, std::uint16_t index = 0, descriptor_kind kind = descriptor_kind::listener)
{
    return {.kind = kind, .index = index, .name = std::move(name), .bytes = {}};
}

bool is_open(int number) { return ::fcntl(number, F_GETFD) != -1; }

} // namespace

BOOST_AUTO_TEST_CASE(same_names_are_taken_by_index_whatever_order_they_came_in)
{
    inheritance all;
    for (std::uint16_t const index : {7, 300, 0, 2})
        all.add(named("tcp x", index), any());
    for (unsigned const index : {0, 2, 7, 300}) {
        auto const taken = all.take(descriptor_kind::listener, "tcp x");
        BOOST_TEST(bool{taken.fd});
        BOOST_TEST(taken.record.index == index);
    }
    BOOST_TEST(!all.take(descriptor_kind::listener, "tcp x").fd);
    BOOST_TEST(all.find(descriptor_kind::listener, "tcp x") == nullptr);
}

BOOST_AUTO_TEST_CASE(kind_and_whole_name_must_match)
{
    inheritance all;
    all.add(named("b"), any());
    all.add(named("b", 0, descriptor_kind::datagram), any());
    BOOST_TEST(all.find(descriptor_kind::listener, "a") == nullptr);
    BOOST_TEST(all.find(descriptor_kind::listener, "") == nullptr);
    BOOST_TEST(all.find(descriptor_kind::listener, "bb") == nullptr);
    BOOST_TEST(all.find(descriptor_kind::connection, "b") == nullptr);
    BOOST_TEST((all.take(descriptor_kind::datagram, "b").record.kind == descriptor_kind::datagram));
    BOOST_TEST(all.find(descriptor_kind::datagram, "b") == nullptr);
    BOOST_TEST(all.find(descriptor_kind::listener, "b") != nullptr);
}

BOOST_AUTO_TEST_CASE(two_with_one_key_are_both_to_be_had)
{
    inheritance all;
    all.add(named("x"), any());
    all.add(named("x"), any());
    auto const first = all.take(descriptor_kind::listener, "x");
    auto const second = all.take(descriptor_kind::listener, "x");
    BOOST_TEST(bool{first.fd});
    BOOST_TEST(bool{second.fd});
    BOOST_TEST(first.fd.get() != second.fd.get());
}

BOOST_AUTO_TEST_CASE(claims_are_in_the_order_of_sending)
{
    inheritance all;
    all.add(named("c"), any());
    all.add(named("a"), any());
    all.add(named("b"), any());
    BOOST_TEST((all.claims() == std::vector{false, false, false}));
    (void)all.take(descriptor_kind::listener, "a");
    (void)all.take(descriptor_kind::listener, "none");
    BOOST_TEST((all.claims() == std::vector{false, true, false}));
    // To look is not to claim.
    (void)all.find(descriptor_kind::listener, "c");
    BOOST_TEST((all.claims() == std::vector{false, true, false}));
    BOOST_TEST(all.size() == 3U);
    BOOST_TEST(inheritance{}.claims().empty());
}

BOOST_AUTO_TEST_CASE(the_unclaimed_are_closed_and_told_and_the_claimed_stay_open)
{
    inheritance all;
    auto kept = any();
    auto gone = any();
    int const kept_number = kept.get();
    int const gone_number = gone.get();
    all.add(named("kept"), std::move(kept));
    all.add(named("gone"), std::move(gone));
    all.add(named("gone too", 3, descriptor_kind::late_state), any());
    auto const taken = all.take(descriptor_kind::listener, "kept");
    std::vector<std::string> told;
    all.close_unclaimed([&](std::string const& name) { told.push_back(name); });
    BOOST_TEST((told == std::vector<std::string>{"gone", "gone too"}));
    BOOST_TEST(is_open(kept_number));
    BOOST_TEST(!is_open(gone_number));
    BOOST_TEST(all.size() == 0U);
    BOOST_TEST(all.find(descriptor_kind::listener, "gone") == nullptr);
    all.close_unclaimed([&](std::string const&) { BOOST_ERROR("told twice"); });
}

BOOST_AUTO_TEST_CASE(what_came_beside_a_descriptor_comes_with_it)
{
    inheritance all;
    record const sent{.kind = descriptor_kind::connection,
                      .index = 1,
                      .name = "n",
                      .bytes = "b",
                      .device = 2,
                      .inode = 3,
                      .flags = path_owned};
    all.add(sent, any());
    BOOST_TEST((all.take(descriptor_kind::connection, "n").record == sent));
}
