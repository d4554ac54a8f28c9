// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/states.hpp>

#define BOOST_TEST_MODULE states
#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>
#include <vector>

using namespace ecdysis;

BOOST_AUTO_TEST_CASE(a_fill_that_throws_has_a_code_of_its_own)
{
    auto const refused = [&](bool early, auto const& thrown, errc expected, std::string const& words) {
        states all;
        all.add("s", early ? handover::early : handover::late, [&](state_writer&) { throw thrown; }, {});
        BOOST_CHECK_EXCEPTION(
            {
                handoff::bequest to;
                all.bequeath(to);
                all.fill_late();
            },
            error, [&](error const& e) {
                return e.code() == expected && std::string{e.what()}.find(words) != std::string::npos;
            });
    };
    for (bool const early : {true, false}) {
        refused(early, std::runtime_error{"no more"}, errc::state_failed, "fill state \"s\": no more");
        refused(early, 1, errc::state_failed, "fill state \"s\": the host threw what is no exception");
        refused(early, error{errc::busy, "the host's own"}, errc::busy, "the host's own");
    }
}

BOOST_AUTO_TEST_CASE(what_was_filled_is_undone_once)
{
    states all;
    int fills = 0;
    int undone = 0;
    for (auto const when : {handover::early, handover::late})
        all.add(when == handover::early ? "early" : "late", when, [&](state_writer&) { ++fills; }, [&] { ++undone; });
    handoff::bequest to;
    all.bequeath(to);
    BOOST_TEST(fills == 1);
    all.undo();
    BOOST_TEST(undone == 1);
    all.fill_late(); // of an upgrade that is over
    BOOST_TEST(fills == 1);
    to = {};
    all.bequeath(to);
    all.fill_late();
    BOOST_TEST(fills == 3);
    all.undo();
    all.undo();
    BOOST_TEST(undone == 3);
}

BOOST_AUTO_TEST_CASE(what_nobody_reads_can_be_dropped)
{
    states parents;
    parents.add("early", handover::early, {}, {});
    parents.add("late", handover::late, {}, {});
    handoff::bequest to;
    parents.bequeath(to);
    parents.fill_late();
    handoff::inheritance from;
    for (std::size_t i = 0; i != to.records.size(); ++i) {
        error_code ec;
        from.add(to.records[i], os::owned_fd{os::call(ec, [&] { return ::dup(to.fds[i].get()); })});
    }
    states all;
    all.inherit(from);
    BOOST_TEST(all.drop_unread(handover::early) == std::vector<std::string>{"early"});
    BOOST_TEST(!all.take("early", true));
    BOOST_CHECK_THROW((void)all.take("late", false), error);
    BOOST_TEST(all.take("late", true).has_value());
    BOOST_TEST(all.drop_unread(handover::late).empty());
}
