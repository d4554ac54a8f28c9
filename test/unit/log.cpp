// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/log.hpp>

#define BOOST_TEST_MODULE log
#include <boost/test/unit_test.hpp>

#include <boost/log/attributes/value_extraction.hpp>
#include <boost/log/core.hpp>
#include <boost/log/expressions/message.hpp>
#include <boost/log/sinks/basic_sink_backend.hpp>
#include <boost/log/sinks/sync_frontend.hpp>
#include <boost/make_shared.hpp>

#include <vector>

namespace {

struct line
{
    std::string channel, phase, text;
    unsigned generation;
    int pid;
    boost::log::trivial::severity_level severity;
};

class memory : public boost::log::sinks::basic_sink_backend<boost::log::sinks::synchronized_feeding>
{
public:
    void consume(boost::log::record_view const& record)
    {
        using boost::log::extract;
        lines.push_back({extract<std::string>("Channel", record).get(), extract<std::string>("Phase", record).get(),
                         record[boost::log::expressions::smessage].get(), extract<unsigned>("Generation", record).get(),
                         extract<int>("Pid", record).get(),
                         extract<boost::log::trivial::severity_level>("Severity", record).get()});
    }
    std::vector<line> lines;
};

} // namespace

BOOST_AUTO_TEST_CASE(a_sink_sees_channel_severity_and_attributes)
{
    auto const backend = boost::make_shared<memory>();
    auto const sink = boost::make_shared<boost::log::sinks::synchronous_sink<memory>>(backend);
    boost::log::core::get()->add_sink(sink);

    using namespace ecdysis;
    auto const observe = log_events();
    observe({{}, {}, 3, os::process_id{4711}, phase::serving, events::serving{}});
    observe({{}, {}, 4, os::process_id{4712}, phase::handing_over, events::warning{"odd"}});
    boost::log::core::get()->remove_sink(sink);

    using level = boost::log::trivial::severity_level;
    BOOST_REQUIRE(backend->lines.size() == 2U);
    auto const& [first, second] = std::pair{backend->lines[0], backend->lines[1]};
    BOOST_TEST(first.channel == "ecdysis");
    BOOST_TEST(first.phase == "serving");
    BOOST_TEST(first.text == "serving");
    BOOST_TEST(first.generation == 3U);
    BOOST_TEST(first.pid == 4711);
    BOOST_TEST((first.severity == level::info));
    BOOST_TEST(second.phase == "handing over");
    BOOST_TEST(second.text == "odd");
    BOOST_TEST(second.generation == 4U);
    BOOST_TEST((second.severity == level::warning));
}
