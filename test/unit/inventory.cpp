// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/inventory.hpp>

#define BOOST_TEST_MODULE inventory
#include <boost/test/unit_test.hpp>

#include <ecdysis/io/sync.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace ecdysis;
namespace fs = std::filesystem;

namespace {

struct directory
{
    directory()
    {
        auto name = (fs::temp_directory_path() / "ecdysis-inventory.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

::mode_t mode_of(std::string const& path)
{
    struct ::stat status{};
    BOOST_REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & 07777;
}

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

BOOST_AUTO_TEST_CASE(a_fill_that_throws_has_a_code_of_its_own)
{
    auto const refused = [&](bool early, auto const& thrown, errc expected, std::string const& words) {
        inventory<io::sync> all;
        all.add_state("s", early ? handover::early : handover::late, [&](state_writer&) { throw thrown; }, {});
        bool filled = false;
        BOOST_CHECK_EXCEPTION(
            {
                (void)all.bequeath(filled);
                all.fill_late_state();
            },
            error, [&](error const& e) {
                return e.code() == expected && std::string{e.what()}.find(words) != std::string::npos;
            });
        BOOST_TEST(filled == early);
    };
    for (bool const early : {true, false}) {
        refused(early, std::runtime_error{"no more"}, errc::state_failed, "fill state \"s\": no more");
        refused(early, 1, errc::state_failed, "fill state \"s\": the host threw what is no exception");
        refused(early, error{errc::busy, "the host's own"}, errc::busy, "the host's own");
    }
}
