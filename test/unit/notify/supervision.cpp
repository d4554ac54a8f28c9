// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/notify/supervision.hpp>

#include "scripted.hpp"

#define BOOST_TEST_MODULE notify_supervision
#include <boost/test/unit_test.hpp>

using namespace std::chrono_literals;

namespace {

using ecdysis::trigger;
using kind = ecdysis::notify::step::kind;
using words = std::vector<std::string>;

struct generation
{
    scripted::io io;
    scripted::notify manager;
    std::vector<std::string> warnings{};
    ecdysis::options options{.ready_timeout = 60s, .barrier_timeout = 5s, .serving_timeout = 10s};
    ecdysis::notify::supervision<scripted::io, scripted::notify> it{
        io, manager, [this](std::string what) { warnings.push_back(std::move(what)); }};

    void hand_over()
    {
        static_cast<void>(it.messages().add({.what = kind::handing_over, .child = ecdysis::os::process_id{7}}, {}));
    }
    words take() { return std::exchange(manager.sent, {}); }
};

} // namespace

#define CHECK_SAID(...) BOOST_TEST(take() == (words{__VA_ARGS__}), boost::test_tools::per_element())

BOOST_FIXTURE_TEST_CASE(the_first_generation, generation)
{
    it.starts(options);
    CHECK_SAID("extend +60");
    it.serves();
    CHECK_SAID("ready: generation 0 serving");
    it.upgrades({.from = trigger::source::signal, .signal = 1});
    CHECK_SAID("reloading +30: upgrading");
    auto const began = ecdysis::io::clock::now();
    BOOST_TEST(io.fire()); // a long one asks for more time again and again
    BOOST_TEST((io.last <= began + 10s));
    CHECK_SAID("extend +30");
    BOOST_TEST(io.fire());
    CHECK_SAID("extend +30");
    it.failed("exit status 3");
    CHECK_SAID("failed: upgrade failed: exit status 3");
    BOOST_TEST(!io.fire());
    it.upgrades({.from = trigger::source::control}); // ExecReload= may wait behind it
    CHECK_SAID("status +30: upgrading");
    hand_over();
    CHECK_SAID("handing over child");
    BOOST_TEST(io.fire());
    BOOST_TEST(!io.fire());
    it.upgrades({.from = trigger::source::signal, .signal = 1}); // nobody listens any more
    it.stops();
    it.drains([] { return 3U; }, 10s);
    CHECK_SAID();
}

// What there is to say of it the parent has said.
BOOST_FIXTURE_TEST_CASE(a_child, generation)
{
    it.takes_over();
    CHECK_SAID();
    it.upgrades({.from = trigger::source::handoff});
    CHECK_SAID("reloading +30: upgrading");
    it.failed("exit status 3");
    CHECK_SAID("failed: upgrade failed: exit status 3");
}

BOOST_FIXTURE_TEST_CASE(a_generation_that_ends_when_its_child_serves, generation)
{
    it.hands_over(ecdysis::os::process_id{7}, 4);
    CHECK_SAID("handing over child: generation 4 serving");
    it.stops();
    CHECK_SAID();
}

BOOST_FIXTURE_TEST_CASE(a_child_that_was_lost_after_the_handing_over, generation)
{
    hand_over();
    CHECK_SAID("handing over child");
    it.failed("killed by signal 9");
    CHECK_SAID("failed child: upgrade failed: killed by signal 9"); // MAINPID, for who has NotifyAccess=all
    it.stops();
    CHECK_SAID("stopping: stopping");
}

BOOST_FIXTURE_TEST_CASE(a_drain_at_a_stop, generation)
{
    std::size_t open = 12;
    it.drains([&] { return open; }, 8s); // after an upgrade: no news of the service
    CHECK_SAID();
    BOOST_TEST(!io.fire());
    it.stops();
    it.drains([&] { return open; }, 8s);
    CHECK_SAID("stopping: stopping", "status +13: draining: 12 connections, 8 s left");
    open = 1;
    BOOST_TEST(io.fire());
    CHECK_SAID("status +13: draining: 1 connection, 8 s left"); // no time has passed here
    open = 0;
    BOOST_TEST(io.fire());
    CHECK_SAID();
    BOOST_TEST(!io.fire());
}

BOOST_FIXTURE_TEST_CASE(a_drain_that_is_over_says_no_more, generation)
{
    it.stops();
    it.drains([] { return 1U; }, std::chrono::milliseconds::max());
    CHECK_SAID("stopping: stopping", "status +30: draining: 1 connection");
    it.close();
    BOOST_TEST(!io.fire());
}

BOOST_FIXTURE_TEST_CASE(the_watchdog_is_fed_while_this_is_the_main_process, generation)
{
    manager.interval = 2s;
    it.starts(options);
    CHECK_SAID("extend +60"); // nobody waits for it before ready
    it.serves();
    CHECK_SAID("ready: generation 0 serving", "watchdog");
    for (int i = 0; i != 3; ++i) {
        auto const before = std::max(io.last, ecdysis::io::clock::now() - 1s);
        BOOST_TEST(io.fire());
        BOOST_TEST(((io.last - before) <= 2s && (io.last - before) >= 0s));
        CHECK_SAID("watchdog");
    }
    hand_over();
    CHECK_SAID("handing over child");
    BOOST_TEST(io.fire());
    CHECK_SAID();
    BOOST_TEST(!io.fire());
    it.failed("killed");
    CHECK_SAID("failed child: upgrade failed: killed", "watchdog");
    it.upgrades({});
    CHECK_SAID("reloading +30: upgrading", "watchdog"); // for what asks for time puts it off
    it.close();
    BOOST_TEST(!io.fire());
}

BOOST_FIXTURE_TEST_CASE(a_child_feeds_it_from_when_it_has_the_service, generation)
{
    manager.interval = 2s;
    it.takes_over();
    CHECK_SAID("watchdog"); // at once: nobody has since the announcement
    BOOST_TEST(io.fire());
    CHECK_SAID("watchdog");
    BOOST_TEST(io.fire()); // one timer, not two
    CHECK_SAID("watchdog");
}

BOOST_FIXTURE_TEST_CASE(what_cannot_be_said_is_a_warning, generation)
{
    manager.says = make_error_code(boost::system::errc::connection_refused);
    it.serves();
    BOOST_TEST(warnings == words{"tell the service manager: Connection refused"}, boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(its_end_is_the_end_of_what_waits, generation)
{
    manager.full = true;
    it.stops();
    it.close();
    manager.full = false;
    BOOST_TEST(!io.fire());
    CHECK_SAID();
}
