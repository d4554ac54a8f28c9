// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_UPGRADE_STEPS_HPP
#define ECDYSIS_HANDOFF_UPGRADE_STEPS_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/handoff/attempt.hpp>
#include <ecdysis/handoff/child_start.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/io/turns.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/notify/supervision.hpp>
#include <ecdysis/os/signal_set.hpp>

#include <boost/system/errc.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>

namespace ecdysis::handoff {

/// The steps of an upgrade that are answered: each does its part, and tells how it went as an event of the parent's machine,
/// here or later. With the lock of the io policy held. What is still under way ends with the attempt.
template <class Generation>
class upgrade_steps
{
public:
    using attempt = handoff::attempt<typename Generation::io_policy, typename Generation::notify_policy,
                                     typename Generation::launch_policy, typename Generation::transport_policy::end>;
    using event = parent::event;
    using tell = std::function<void(event)>;

    /// `feed`: gives an event to the machine. `feed_first`: before all that waits to be worked off.
    upgrade_steps(Generation& generation, launch::program program, tell feed, tell feed_first)
        : generation_{generation}, start_{generation, std::move(program)}, feed_{std::move(feed)},
          feed_first_{std::move(feed_first)}
    {}

    /// `started()` is called when there is a process.
    void launch(attempt& now, std::function<void()> started)
    {
        using process = typename decltype(now.child)::element_type;
        now.child = std::make_unique<process>(generation_.policies.io, generation_.policies.launch,
                                              [this](std::string what) { generation_.warn(std::move(what)); });
        start_(now, [this, &now, started = std::move(started)](error_code ec, launch::process child, std::string reason) {
            if (ec) {
                now.fail_with(std::move(reason), ec);
                return feed_(event::launch_failed);
            }
            now.pid = child.pid;
            now.child->started(std::move(child));
            generation_.tell(events::launched{now.pid, start_.path()});
            started();
        });
    }

    /// One frame of what is handed over.
    void send_next(attempt& now)
    {
        frame next = end{};
        std::size_t taken = 0;
        error_code ec;
        if (!now.said_hello) {
            if (now.child->starts_in_root())
                generation_.warn("the directory of the start cannot be entered any more; the child starts in /");
            error_code none; // launch has refused those that do not exist
            os::signal_set const blocked{generation_.options().upgrade_on, none};
            next = hello{.generation = generation_.number() + 1, .blocked = blocked.bits()};
        } else if (now.sent != now.bequest.records.size()) {
            auto packed = pack(std::span{now.bequest.records}.subspan(now.sent), ec);
            next = std::move(packed.frame);
            taken = packed.taken;
        }
        auto const sent = [this, &now, taken, last = std::holds_alternative<end>(next)](error_code failed) {
            if (failed) {
                now.fail_with("hand over: " + failed.message(), failed);
                // Whoever reads no more has closed its end or is dead; either is about to be heard.
                if (failed != boost::system::errc::broken_pipe)
                    feed_(event::garbage);
                return;
            }
            now.said_hello = true;
            now.sent += taken;
            if (!last)
                return;
            generation_.tell(events::handed_over{now.pid, now.sent});
            feed_(event::handed_over);
        };
        if (ec)
            return sent(ec);
        now.link->send(std::move(next), sent, std::span{now.bequest.fds}.subspan(now.sent, taken));
    }

    /// Whether the manager hears us at all is found out where a failure harms nothing.
    void reach_manager(attempt& now)
    {
        message(now.reaching, {.what = notify::step::kind::status, .status = "the new generation is ready"},
                [this, &now](error_code ec) {
                    if (!ec)
                        return;
                    now.fail_with("tell the service manager: " + ec.message(), ec);
                    feed_(event::unreachable);
                },
                event::reached);
    }

    void commit(attempt& now)
    {
        try {
            generation_.holdings().states().fill_late();
        } catch (error const& e) {
            now.fail_with(e.what(), e.code());
            return feed_(event::commit_lost);
        } catch (std::exception const& e) {
            now.fail_with(e.what(), errc::state_failed);
            return feed_(event::commit_lost);
        }
        now.link->send(handoff::commit{}, [this, &now](error_code ec) {
            if (!ec) // from now on the child may accept, so it may not be killed
                return feed_first_(event::commit_sent);
            now.fail_with("send the commit: " + ec.message(), ec);
            // As in send_next(): how the child ended says more than that it did.
            if (ec != boost::system::errc::broken_pipe)
                feed_(event::commit_lost);
        });
    }

    void announce(attempt& now)
    {
        auto const status = notify::serving_status(generation_.number() + 1);
        message(now.announcement, {.what = notify::step::kind::handing_over, .status = status, .child = now.pid},
                [this, &now](error_code ec) {
                    if (ec)
                        now.fail_with("tell the service manager of the new main process: " + ec.message(), ec);
                    feed_(ec ? event::unannounced : event::announced);
                },
                event::confirmed);
    }

    /// A signal that has come is heard first. And a last look at the child: the manager refuses a main process that has ended,
    /// and does not say so.
    void settle(attempt& now)
    {
        io::after_two_turns(generation_.policies.io, now.later, [this, &now] {
            if (now.child && !now.child->has_ended()) // else that is about to be heard
                feed_(event::settled);
        });
    }

    void send_yours(attempt& now)
    {
        now.passed_on = generation_.signals().take();
        now.link->send(yours{now.passed_on.has_value()}, [this, &now](error_code ec) {
            if (!ec) {
                now.passed_on.reset();
                return feed_(event::yours_sent);
            }
            now.fail_with("tell the new generation that the service is its own: " + ec.message(), ec);
            now.link->read(256); // that it stops may stand before its end
            feed_(event::yours_lost);
        });
    }

    // ---- the child's end

    /// A child that has ended sends no more, but a process that it left behind may hold its end and write on.
    void read_rest(attempt& now)
    {
        now.child->unwatch();
        if (!now.link)
            return;
        now.link->read(256);
        now.link->unwatch();
    }

    /// It may never have been the program.
    void reap(attempt& now)
    {
        error_code const why = now.child->exec_error();
        if (why && !now.child->was_killed()) {
            now.during = phase::launching;
            now.reason = "start " + start_.path() + ": " + why.message();
            now.why = why;
        }
        now.child->release();
        now.child_was_reaped = true;
    }

    /// A launch is given up: neither that it started nor that it failed is told any more. A child is ended in line.
    void end_child(attempt& now)
    {
        start_.give_up();
        if (!now.child || !*now.child)
            return;
        now.child->kill_and_reap();
        now.child_was_reaped = true;
    }

private:
    template <class Message, class Sent>
    void message(std::optional<Message>& as, notify::step const& what, Sent sent, event confirmed)
    {
        auto& policies = generation_.policies;
        as.emplace(policies.io, policies.notify, generation_.supervision().messages(), std::move(sent),
                   [this, confirmed](error_code ec) {
                       if (ec)
                           generation_.warn("wait for the service manager: " + ec.message());
                       feed_(confirmed);
                   });
        as->send(what);
    }

    Generation& generation_;
    child_start<Generation> start_;
    tell feed_;
    tell feed_first_;
};

} // namespace ecdysis::handoff

#endif
