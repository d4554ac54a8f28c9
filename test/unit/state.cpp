// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/state.hpp>

#define BOOST_TEST_MODULE state
#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace ecdysis;

namespace {

os::owned_fd file_of(std::string const& name = "test")
{
    error_code ec;
    auto file = make_state_file(name, ec);
    BOOST_REQUIRE(!ec);
    return file;
}

template <class F>
error_code code_of(F&& f)
{
    try {
        f();
    } catch (error const& e) {
        return e.code();
    }
    return {};
}

} // namespace

BOOST_AUTO_TEST_CASE(what_is_written_is_read)
{
    auto const file = file_of();
    fill_state_file(file, [](state_writer& to) {
        to.write("one ");
        to.write("");
        to.write(std::as_bytes(std::span{"two", 3}));
        BOOST_TEST(::write(to.native_handle(), "!", 1) == 1);
    });
    auto const state = inherited_state::map(file, "s");
    BOOST_TEST(state.text() == "one two!");
    BOOST_TEST(state.bytes().size() == 8U);
}

BOOST_AUTO_TEST_CASE(empty_state_is_state)
{
    auto const file = file_of();
    fill_state_file(file, {});
    auto const state = inherited_state::map(file, "s");
    BOOST_TEST(state.text().empty());
    BOOST_TEST(state.bytes().empty());
}

BOOST_AUTO_TEST_CASE(large_state_arrives_whole)
{
    std::string big(64 << 20, '\0');
    for (std::size_t i = 0; i < big.size(); i += 4099)
        big[i] = static_cast<char>(i);
    auto const file = file_of();
    fill_state_file(file, [&](state_writer& to) { to.write(big); });
    auto const state = inherited_state::map(file, "s");
    BOOST_TEST((state.text() == big));
}

BOOST_AUTO_TEST_CASE(sealed_state_cannot_be_changed)
{
    auto const file = file_of();
    fill_state_file(file, [](state_writer& to) { to.write("fixed"); });
    BOOST_TEST(::write(file.get(), "x", 1) == -1);
    BOOST_TEST(::ftruncate(file.get(), 0) == -1);
    BOOST_TEST(::ftruncate(file.get(), 10) == -1);
    BOOST_TEST(::fcntl(file.get(), F_ADD_SEALS, 0) == -1);
    BOOST_TEST((::fcntl(file.get(), F_GETFD) & FD_CLOEXEC) != 0);
    BOOST_TEST((code_of([&] { state_writer{file}.write("x"); }) == boost::system::errc::operation_not_permitted));
}

BOOST_AUTO_TEST_CASE(what_could_still_change_is_refused)
{
    auto const unsealed = file_of();
    BOOST_TEST((code_of([&] { (void)inherited_state::map(unsealed, "the name"); }) == errc::state_not_sealed));
    try {
        (void)inherited_state::map(unsealed, "the name");
    } catch (error const& e) {
        BOOST_TEST(std::string{e.what()}.find("\"the name\"") != std::string::npos);
    }
    for (int const some :
         {F_SEAL_WRITE, F_SEAL_WRITE | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW}) {
        auto const file = file_of();
        BOOST_REQUIRE(::fcntl(file.get(), F_ADD_SEALS, some) == 0);
        BOOST_TEST((code_of([&] { (void)inherited_state::map(file, "s"); }) == errc::state_not_sealed));
    }
    os::owned_fd const no_memfd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    BOOST_TEST((code_of([&] { (void)inherited_state::map(no_memfd, "s"); }) == errc::state_not_sealed));
    BOOST_TEST((code_of([&] { (void)inherited_state::map(os::borrowed_fd{}, "s"); }) == errc::state_not_sealed));
}

BOOST_AUTO_TEST_CASE(errors_of_the_writer_are_thrown)
{
    os::owned_fd const full{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
    BOOST_TEST((code_of([&] { state_writer{full}.write("x"); }) == boost::system::errc::no_space_on_device));
    BOOST_TEST(
        (code_of([&] { state_writer{os::borrowed_fd{}}.write("x"); }) == boost::system::errc::bad_file_descriptor));
    BOOST_TEST(!code_of([&] { state_writer{os::borrowed_fd{}}.write(""); }));
}

BOOST_AUTO_TEST_CASE(what_the_host_throws_comes_through_and_nothing_is_sealed)
{
    auto const file = file_of();
    auto const fill = [](state_writer& to) {
        to.write("half");
        throw std::runtime_error{"no more"};
    };
    BOOST_CHECK_THROW(fill_state_file(file, fill), std::runtime_error);
    BOOST_TEST((code_of([&] { (void)inherited_state::map(file, "s"); }) == errc::state_not_sealed));
}

BOOST_AUTO_TEST_CASE(a_mapping_that_can_still_write_prevents_the_seal)
{
    auto const file = file_of();
    BOOST_REQUIRE(::ftruncate(file.get(), 4096) == 0);
    void* const data = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    BOOST_REQUIRE(data != MAP_FAILED);
    BOOST_TEST((code_of([&] { fill_state_file(file, {}); }) == boost::system::errc::device_or_resource_busy));
    ::munmap(data, 4096);
}

BOOST_AUTO_TEST_CASE(a_name_that_is_too_long_is_an_error)
{
    error_code ec;
    BOOST_TEST(!make_state_file(std::string(250, 'n'), ec));
    BOOST_TEST((ec == boost::system::errc::invalid_argument));
    BOOST_TEST(bool{make_state_file(std::string(249, 'n'), ec)});
    BOOST_TEST(!ec);
}

BOOST_AUTO_TEST_CASE(state_moves_and_outlives_its_file)
{
    auto file = file_of();
    fill_state_file(file, [](state_writer& to) { to.write("first"); });
    auto first = inherited_state::map(file, "s");
    file = file_of();
    fill_state_file(file, [](state_writer& to) { to.write("second"); });
    auto second = inherited_state::map(file, "s");
    file.reset();
    auto moved = std::move(first);
    BOOST_TEST(moved.text() == "first");
    BOOST_TEST(first.text().empty());
    moved = std::move(second);
    BOOST_TEST(moved.text() == "second");
}
