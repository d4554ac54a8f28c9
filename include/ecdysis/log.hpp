// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LOG_HPP
#define ECDYSIS_LOG_HPP

#include <ecdysis/event.hpp>

#include <boost/log/attributes/constant.hpp>
#include <boost/log/attributes/mutable_constant.hpp>
#include <boost/log/sources/record_ostream.hpp>
#include <boost/log/sources/severity_channel_logger.hpp>
#include <boost/log/trivial.hpp>

#include <memory>
#include <string>

namespace ecdysis {

/// An observer that writes each event to the logging core of Boost.Log: channel "ecdysis", severity info, or warning
/// for what went wrong, and the attributes "Generation" (unsigned), "Pid" (int) and "Phase" (std::string). Where it
/// goes is for the host's sinks and filters to say. Link Boost.Log when you include this.
///
///     upgrader up{context, {.upgrade_on = {SIGHUP}, .observer = ecdysis::log_events()}};
///
/// Copies share one source. Throws what the sinks throw.
[[nodiscard]] inline observer log_events()
{
    using level = boost::log::trivial::severity_level;
    struct source
    {
        boost::log::sources::severity_channel_logger<level> logger{boost::log::keywords::channel = "ecdysis"};
        boost::log::attributes::mutable_constant<unsigned> generation{0};
        boost::log::attributes::mutable_constant<int> pid{0};
        boost::log::attributes::mutable_constant<std::string> phase{std::string{}};

        source()
        {
            logger.add_attribute("Generation", generation);
            logger.add_attribute("Pid", pid);
            logger.add_attribute("Phase", phase);
        }
    };
    return [to = std::make_shared<source>()](event const& e) {
        to->generation.set(e.generation);
        to->pid.set(static_cast<int>(os::number(e.pid)));
        to->phase.set(name(e.during));
        BOOST_LOG_SEV(to->logger, e.is_warning() ? level::warning : level::info) << e.text();
    };
}

} // namespace ecdysis

#endif
