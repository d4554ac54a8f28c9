// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/offer.hpp>

#define BOOST_TEST_MODULE offer
#include <boost/test/unit_test.hpp>

#include <memory>
#include <string>
#include <utility>

using namespace ecdysis;

namespace {

offer offered(std::shared_ptr<offered_files> const& files, char const* name) { return {files, {name, "", nullptr}}; }

} // namespace

BOOST_AUTO_TEST_CASE(a_file_is_offered_as_long_as_its_handle_lives)
{
    auto const files = std::make_shared<offered_files>();
    {
        auto one = offered(files, "one");
        auto two = offered(files, "two");
        BOOST_TEST(files->all.size() == 2U);
        two.withdraw();
        two.withdraw();
        BOOST_REQUIRE(files->all.size() == 1U);
        BOOST_TEST(files->all.begin()->second.name == "one");
        two = std::move(one);
        BOOST_TEST(files->all.size() == 1U);
        auto& self = two;
        two = std::move(self);
        BOOST_TEST(files->all.size() == 1U);
        two = offered(files, "three");
        BOOST_REQUIRE(files->all.size() == 1U);
        BOOST_TEST(files->all.begin()->second.name == "three");
    }
    BOOST_TEST(files->all.empty());
    offer{}.withdraw();
}

BOOST_AUTO_TEST_CASE(a_handle_may_go_last)
{
    auto files = std::make_shared<offered_files>();
    std::weak_ptr<offered_files> const seen = files;
    {
        auto const last = offered(files, "one");
        files.reset();
        BOOST_TEST(!seen.expired());
    }
    BOOST_TEST(seen.expired());
}

BOOST_AUTO_TEST_CASE(what_is_offered_is_handed_over_in_order)
{
    auto const files = std::make_shared<offered_files>();
    auto const first = offer_file(files, "one", 0, "a");
    auto const other = offer_file(files, "two", 0, "");
    auto const second = offer_file(files, "one", 0, "b");
    handoff::bequest to;
    files->bequeath(to);
    std::string seen;
    for (auto const& each : to.records)
        seen += each.name + std::to_string(each.index) + each.bytes + ' ';
    BOOST_TEST(seen == "one0a two0 one1b ");
    BOOST_TEST(to.fds.size() == 3U);
    BOOST_CHECK_EXCEPTION((void)offer_file(files, "none", -1, ""), error,
                          [](error const& e) { return e.code() == boost::system::errc::bad_file_descriptor; });
    BOOST_CHECK_EXCEPTION((void)offer_file(files, std::string(513, 'n'), 0, ""), error,
                          [](error const& e) { return e.code() == errc::name_too_long; });
}
