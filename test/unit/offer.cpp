// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/offer.hpp>

#define BOOST_TEST_MODULE offer
#include <boost/test/unit_test.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

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

BOOST_AUTO_TEST_CASE(what_is_kept_is_stored_once_and_whoever_stores_hears_when_it_goes)
{
    auto const files = std::make_shared<offered_files>();
    std::vector<std::string> gone;
    os::identity which{};
    files->on_withdrawal([&](std::string const& name, os::identity of) {
        gone.push_back(name);
        which = of;
    });
    auto const offered_only = offer_file(files, "offered", 0, "");
    auto one = offer_file(files, "one", 0, "", true);
    auto same = offer_file(files, "one", 0, "", true);
    {
        auto const unstored = offer_file(files, "never stored", 0, "", true);
    }
    BOOST_TEST(gone.empty());
    auto const names = [&] {
        std::string result;
        for (auto const& file : files->take_unstored())
            result += file.name + ' ';
        return result;
    };
    auto const flags = [&] {
        handoff::bequest to;
        files->bequeath(to);
        std::vector<int> result;
        for (auto const& each : to.records)
            result.push_back(each.flags);
        return result;
    };
    BOOST_TEST(flags() == (std::vector<int>{0, 0, 0}), boost::test_tools::per_element());
    BOOST_TEST(names() == "one one ");
    BOOST_TEST(names() == "");
    BOOST_TEST(flags() == (std::vector<int>{0, handoff::in_store, handoff::in_store}), boost::test_tools::per_element());
    one.withdraw();
    one.withdraw();
    BOOST_TEST(gone == std::vector<std::string>{"one"}, boost::test_tools::per_element());
    BOOST_TEST((which == os::identify(os::borrowed_fd{0})));
    files->took_out_of_store("one", {});
    BOOST_TEST(names() == "one ");
    auto const other = offer_file(files, "other name", 0, "", true); // of the same file, and the store has it once
    BOOST_TEST(names() == "other name ");
    files->took_out_of_store("one", which);
    BOOST_TEST(names() == "one other name ");
    files->on_withdrawal(nullptr);
    same.withdraw();
    BOOST_TEST(gone.size() == 1U);
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
