// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/inventory.hpp>

#define BOOST_TEST_MODULE inventory
#include <boost/test/unit_test.hpp>

#include <memory>
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
