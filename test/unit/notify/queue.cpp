// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/notify/queue.hpp>

#include "scripted.hpp"

#define BOOST_TEST_MODULE notify_queue
#include <boost/test/unit_test.hpp>

#include <sys/mman.h>

#include <string>
#include <vector>

namespace {

namespace os = ecdysis::os;
using ecdysis::error_code;
using kind = ecdysis::notify::step::kind;
using words = std::vector<std::string>;

struct conversation
{
    scripted::io io;
    scripted::notify manager;
    ecdysis::notify::queue<scripted::io, scripted::notify> queue{io, manager};
    std::vector<std::string> told{};

    auto add(ecdysis::notify::step const& what, std::string name = {})
    {
        return queue.add(what, [this, name](error_code ec) { told.push_back(name + (ec ? " " + ec.message() : "")); });
    }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(what_finds_room_is_sent_at_once, conversation)
{
    static_cast<void>(add({.what = kind::ready, .status = "serving"}, "first"));
    BOOST_TEST(manager.sent == words{"ready: serving"}, boost::test_tools::per_element());
    BOOST_TEST(told == words{"first"}, boost::test_tools::per_element());
    BOOST_TEST(!io.fire());
}

BOOST_FIXTURE_TEST_CASE(what_finds_no_room_waits_in_order, conversation)
{
    manager.full = true;
    {
        std::string text = "one";
        static_cast<void>(add({.what = kind::ready, .status = text}, "a"));
        text = "two"; // it has kept what it was given
        static_cast<void>(add({.what = kind::failed, .status = text}, "b"));
        text = "gone";
    }
    BOOST_TEST(io.fire());
    BOOST_TEST(manager.sent.empty());
    BOOST_TEST(told.empty());
    manager.full = false;
    BOOST_TEST(io.fire());
    BOOST_TEST(manager.sent == (words{"ready: one", "failed: two"}), boost::test_tools::per_element());
    BOOST_TEST(told == (words{"a", "b"}), boost::test_tools::per_element());
    BOOST_TEST(!io.fire());
}

BOOST_FIXTURE_TEST_CASE(an_error_is_told_and_stops_nothing, conversation)
{
    manager.full = true;
    static_cast<void>(add({.what = kind::ready}, "a"));
    static_cast<void>(add({.what = kind::stopping}, "b"));
    manager.full = false;
    manager.says = make_error_code(boost::system::errc::connection_refused);
    BOOST_TEST(io.fire());
    BOOST_TEST(told == (words{"a Connection refused", "b Connection refused"}), boost::test_tools::per_element());
    manager.says = {};
    static_cast<void>(add({.what = kind::ready}, "c"));
    BOOST_TEST(manager.sent == words{"ready"}, boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(only_the_last_words_and_signs_of_life_wait, conversation)
{
    manager.full = true;
    for (int i = 0; i != 1000; ++i)
        static_cast<void>(add({.what = kind::status, .status = std::to_string(i)}));
    static_cast<void>(add({.what = kind::ready}));
    for (int i = 0; i != 1000; ++i)
        static_cast<void>(add({.what = kind::watchdog}));
    static_cast<void>(add({.what = kind::ready}));
    for (int i = 0; i != 1000; ++i) { // in turns, too; and a time that was asked for is not lost
        static_cast<void>(add({.what = kind::status, .status = "last", .extra = std::chrono::seconds{1000 - i}}));
        static_cast<void>(add({.what = kind::watchdog}));
    }
    manager.full = false;
    BOOST_TEST(io.fire());
    BOOST_TEST(manager.sent == (words{"status: 999", "ready", "watchdog", "ready", "status +1000: last", "watchdog"}),
               boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(what_is_cancelled_is_not_sent, conversation)
{
    manager.full = true;
    static_cast<void>(add({.what = kind::ready}, "a"));
    auto const key = add({.what = kind::handing_over, .child = os::process_id{7}}, "b");
    static_cast<void>(add({.what = kind::stopping}, "c"));
    queue.cancel(key);
    manager.full = false;
    BOOST_TEST(io.fire());
    BOOST_TEST(manager.sent == (words{"ready", "stopping"}), boost::test_tools::per_element());
    BOOST_TEST(told == (words{"a", "c"}), boost::test_tools::per_element());
    BOOST_TEST(!queue.handed_over());
    queue.cancel(key); // long gone
}

BOOST_FIXTURE_TEST_CASE(it_knows_that_it_has_handed_over, conversation)
{
    manager.full = true;
    static_cast<void>(add({.what = kind::handing_over, .child = os::process_id{7}}));
    BOOST_TEST(!queue.handed_over()); // not before the manager's socket has taken it
    manager.full = false;
    BOOST_TEST(io.fire());
    BOOST_TEST(queue.handed_over());
    queue.take_back();
    BOOST_TEST(!queue.handed_over());
    manager.says = make_error_code(boost::system::errc::no_such_file_or_directory);
    static_cast<void>(add({.what = kind::handing_over, .child = os::process_id{7}}));
    BOOST_TEST(!queue.handed_over());
}

BOOST_FIXTURE_TEST_CASE(who_is_told_may_say_more, conversation)
{
    static_cast<void>(queue.add({.what = kind::ready}, [this](error_code) {
        static_cast<void>(add({.what = kind::stopping}, "inner"));
        told.push_back("outer");
    }));
    BOOST_TEST(manager.sent == (words{"ready", "stopping"}), boost::test_tools::per_element());
    BOOST_TEST(told == (words{"outer", "inner"}), boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_descriptor_is_asked_for_when_it_is_sent, conversation)
{
    manager.full = true;
    os::owned_fd first{::memfd_create("first", MFD_CLOEXEC)}, second{::memfd_create("second", MFD_CLOEXEC)};
    auto const lend = [this](os::owned_fd const& file, std::string name) {
        static_cast<void>(queue.add({.what = kind::store, .name = name},
                                    [this, name](error_code ec) { told.push_back(name + " " + ec.message()); },
                                    [&file]() -> os::borrowed_fd { return file; }));
    };
    lend(first, "first");
    lend(second, "second");
    first.reset();
    manager.full = false;
    BOOST_TEST(io.fire());
    BOOST_TEST(manager.sent == words{"store second"}, boost::test_tools::per_element());
    BOOST_TEST(manager.descriptors == std::vector{second.get()}, boost::test_tools::per_element());
    BOOST_TEST(told == (words{"first Bad file descriptor", "second Success"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(its_end_is_the_end_of_what_waits)
{
    scripted::io io;
    scripted::notify manager{.full = true};
    {
        ecdysis::notify::queue<scripted::io, scripted::notify> queue{io, manager};
        static_cast<void>(queue.add({.what = kind::ready}, {}));
        static_cast<void>(queue.add({.what = kind::stopping}, {}));
        manager.full = false;
    }
    BOOST_TEST(!io.fire());
    BOOST_TEST(manager.sent.empty());
}
