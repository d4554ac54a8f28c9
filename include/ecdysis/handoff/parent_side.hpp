// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_PARENT_SIDE_HPP
#define ECDYSIS_HANDOFF_PARENT_SIDE_HPP

#include <ecdysis/event.hpp>
#include <ecdysis/generation/control.hpp>
#include <ecdysis/handoff/attempt.hpp>
#include <ecdysis/handoff/event_queue.hpp>
#include <ecdysis/handoff/parent.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/os/descriptor_limit.hpp>
#include <ecdysis/os/readable.hpp>
#include <ecdysis/os/signal_set.hpp>
#include <ecdysis/transport/concept.hpp>

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// Drives the parent's machine: results of the policies become its events, its actions calls of the policies.
/// Everything runs with the lock of the io policy held.
///
/// `Generation` gives the policies and does what concerns the whole process; see generation/generation.hpp.
template <class Generation>
class parent_side
{
    using io_policy = typename Generation::io_policy;
    using transport_policy = typename Generation::transport_policy;
    using attempt = handoff::attempt<io_policy, typename Generation::notify_policy, typename transport_policy::end>;
    using state = parent::state;
    using occurrence = parent::event; // "event" is what an observer is told
    using action = parent::action;

public:
    parent_side(Generation& generation, launch::program program)
        : generation_{generation}, program_{std::move(program)}
    {}
    parent_side(parent_side const&) = delete;
    parent_side& operator=(parent_side const&) = delete;

    /// Kills and reaps a child that was not committed.
    ~parent_side()
    {
        if (!attempt_ || !attempt_->child.pidfd || !machine_.upgrading() || machine_.now() == state::committed ||
            generation_.in_fork())
            return;
        error_code ignored;
        generation_.policies.launch.kill(attempt_->child, SIGKILL, ignored);
        // The one wait outside of the io policy: a process that was killed ends, unless the kernel holds it.
        static_cast<void>(os::is_readable_within(attempt_->child.pidfd, std::chrono::seconds{1}));
        (void)generation_.policies.launch.reap(attempt_->child, ignored);
        fail_with("the service ended during the upgrade");
        report_failed();
    }

    /// An upgrade; `who` hears how it ended.
    void upgrade(trigger by, requester who)
    {
        asking_ = {by, std::move(who)};
        feed(occurrence::upgrade);
        asking_ = {};
    }

    void stop()
    {
        // A child that has said that it serves is the service, though that was not read yet.
        if (machine_.now() == state::committed)
            read_some();
        if (machine_.upgrading())
            fail_with("stopped", errc::stopped);
        feed(occurrence::stop);
    }

    [[nodiscard]] bool upgrading() const noexcept { return machine_.upgrading(); }
    [[nodiscard]] bool accepting() const noexcept { return machine_.accepting(); }
    /// A child may accept already, and this generation has not retired.
    [[nodiscard]] bool has_committed_child() const noexcept
    {
        return attempt_ && attempt_->was_committed && machine_.now() != state::serving;
    }
    /// The service stops, and with it a child that has its commit.
    [[nodiscard]] bool ends_service() const noexcept { return machine_.ends_service(); }
    [[nodiscard]] io::clock::time_point last_ended() const noexcept { return last_ended_; }

    /// The watch on a retired generation's child, and on one that still ends, goes.
    void forget_child() noexcept
    {
        if (!attempt_ || machine_.now() == state::ending)
            return;
        attempt_->child_watch = {};
        attempt_->frame_watch = {};
        attempt_->timer = {};
        attempt_->retry = {};
        attempt_->announcement.reset();
    }

    [[nodiscard]] phase during() const noexcept
    {
        switch (machine_.now()) {
        case state::launching: return phase::launching;
        case state::handing_over: return phase::handing_over;
        case state::starting: return phase::starting;
        case state::announcing: return phase::announcing;
        case state::committing: return phase::committing;
        case state::ending: return attempt_ ? attempt_->during : phase::starting;
        case state::retired:
        case state::stopped: return phase::draining;
        case state::serving:
        case state::committed: break;
        }
        return phase::serving;
    }

private:
    struct asked
    {
        trigger by{};
        requester who{};
    };

    void feed(occurrence what)
    {
        events_.feed(what, [this](occurrence next) { work_off(next); });
    }

    void work_off(occurrence what)
    {
        if (attempt_ && machine_.upgrading() && machine_.now() != state::ending)
            attempt_->during = during();
        auto const before = machine_.now();
        auto const actions = machine_.on(what);
        if (attempt_ && machine_.now() != before) { // what was waited for or tried again belonged to that state
            attempt_->retry = {};
            attempt_->announcement.reset();
        }
        for (auto const todo : actions)
            perform(todo);
        if (attempt_ && machine_.now() == state::serving) {
            last_ended_ = io::clock::now();
            attempt_.reset();
        }
    }

    void perform(action todo)
    {
        auto const& options = generation_.options();
        switch (todo) {
        case action::tell_reloading: return begin();
        case action::launch: return prepare();
        case action::send_next: return send_next();
        case action::announce: return announce();
        case action::commit: return commit();
        case action::retire:
            close_end();
            return generation_.retire(attempt_->bequest.records, attempt_->claims, std::move(attempt_->channel),
                                      attempt_->by);
        case action::stop: return begin_stop();
        case action::forward_stop: return forward_stop();
        case action::end_drain: return generation_.end_drain();
        case action::ask_to_end:
            fail_with("the child spoke out of turn", errc::corrupt_handoff); // unless there is another reason already
            return end_child(SIGTERM);
        case action::kill: return end_child(SIGKILL);
        case action::read_rest: return read_rest();
        case action::reap: return reap();
        case action::close_handoff: return close_handoff();
        case action::restore: return restore();
        case action::report_committed: return report_committed();
        case action::report_ok: return report_ok();
        case action::report_failed: return report_failed();
        case action::report_barrier_late:
            return generation_.warn("the service manager did not confirm within " + ms(options.barrier_timeout) +
                                    "; going on");
        case action::report_serving_late: return report_serving_late();
        case action::refuse_busy:
            generation_.supervision().answer_reload(asking_.by);
            return refuse(errc::busy, "busy");
        case action::refuse_not_serving: return refuse(errc::not_serving, "failed reason=\"not serving\"");
        case action::arm_ready:
            return arm(options.ready_timeout, errc::ready_timeout, "not ready within " + ms(options.ready_timeout));
        case action::arm_barrier: return arm_barrier();
        case action::arm_serving:
            return arm(options.serving_timeout, errc::serving_timeout,
                       "the commit could not be sent within " + ms(options.serving_timeout));
        case action::arm_kill: return arm(options.kill_grace, {}, {});
        case action::disarm: attempt_->timer = {}; return;
        }
    }

    // ---- the steps, in order

    void begin()
    {
        attempt_.emplace();
        attempt_->by = asking_.by;
        attempt_->who = std::move(asking_.who);
        generation_.tell(events::upgrade_requested{attempt_->by});
        generation_.supervision().upgrades(attempt_->by);
    }

    void prepare()
    {
        error_code ec;
        std::string what;
        try {
            what = "prepare what is handed over";
            attempt_->bequest = generation_.bequeath(attempt_->channel);
            os::check_descriptor_limit(attempt_->bequest.fds.size(), ec);
            if (ec)
                return launch_failed(ec, "hand over " + std::to_string(attempt_->bequest.fds.size()) +
                                             " descriptors: " + ec.message());
            what = std::string{"make the "} + std::string{transport_policy::name};
            auto offer = generation_.policies.transport.make(attempt_->bequest.fds, ec);
            if (!ec) {
                what = "start " + program_.path();
                attempt_->link.emplace(std::move(offer.ours));
                attempt_->theirs = std::move(offer.theirs);
                attempt_->inherited = std::move(offer.inherited);
                return start(offer.text);
            }
        } catch (error const& e) {
            return launch_failed(e.code(), e.what());
        } catch (std::exception const& e) {
            return launch_failed(errc::child_failed, what + ": " + e.what());
        }
        launch_failed(ec, what + ": " + ec.message());
    }

    void start(std::string const& text)
    {
        bool gone = false;
        auto const directory = program_.directory_or_root(gone);
        auto arguments = program_.arguments();
        if (gone) {
            generation_.warn("the directory of the start is gone; the child starts in /");
            if (!arguments.empty()) // a relative one would mean nothing there
                arguments.front() = program_.path();
        }
        bool const as_sibling = generation_.policies.launch.as_sibling(generation_.is_managers_child());
        variable const said{.transport = transport_policy::name,
                            .parent = os::this_process(),
                            .starter = as_sibling ? os::parent_process() : os::this_process(),
                            .text = text};
        launch::request const request{
            .program = program_.path(),
            .arguments = std::move(arguments),
            .environment = launch::program::child_environment(said.assignment()),
            .directory = directory,
            .inherited = attempt_->inherited,
            .blocked = generation_.options().upgrade_on,
            .ignored = program_.ignored(),
            .as_sibling = as_sibling,
        };
        generation_.policies.launch.start(request, [this](error_code ec, launch::process child) {
            attempt_->theirs.clear();
            if (ec)
                return launch_failed(ec, "start " + program_.path() + ": " + ec.message());
            launched(std::move(child));
        });
    }

    void launch_failed(error_code ec, std::string reason)
    {
        fail_with(std::move(reason), ec);
        feed(occurrence::launch_failed);
    }

    void launched(launch::process child)
    {
        attempt_->child = std::move(child);
        generation_.tell(events::launched{attempt_->child.pid, program_.path()});
        feed(occurrence::launched);
        error_code ec;
        watch_child(ec);
        if (!ec)
            attempt_->frame_watch =
                generation_.policies.io.watch(attempt_->link->fd(), [this] { read_some(); }, ec);
        if (ec) {
            fail_with("watch the child: " + ec.message(), ec);
            feed(occurrence::garbage);
        }
    }

    /// Where it cannot be watched it is ended, but its end must be seen, so that is tried again.
    void watch_child(error_code& ec)
    {
        auto& io = generation_.policies.io;
        attempt_->child_watch = io.watch(attempt_->child.pidfd, [this] { child_ended(); }, ec);
        if (ec)
            attempt_->child_watch = io.at(ecdysis::io::after(std::chrono::milliseconds{100}), [this] {
                error_code again;
                watch_child(again);
            });
    }

    void send_next()
    {
        auto const& bequest = attempt_->bequest;
        frame next = handoff::end{};
        std::size_t taken = 0;
        error_code ec;
        if (!attempt_->said_hello) {
            error_code none; // launch has refused those that do not exist
            os::signal_set const blocked{generation_.options().upgrade_on, none};
            next = hello{.generation = generation_.number() + 1, .blocked = blocked.bits()};
        } else if (attempt_->sent != bequest.records.size()) {
            auto packed = pack(std::span{bequest.records}.subspan(attempt_->sent), ec);
            next = std::move(packed.frame);
            taken = packed.taken;
        }
        if (!ec)
            attempt_->link->send(next, std::span{bequest.fds}.subspan(attempt_->sent, taken), ec);
        if (is_again(ec))
            return retry([this] { send_next(); });
        if (ec) {
            fail_with("hand over: " + ec.message(), ec);
            // Whoever reads no more has closed its end or is dead; either is about to be heard.
            if (ec != boost::system::errc::broken_pipe)
                feed(occurrence::garbage);
            return;
        }
        attempt_->said_hello = true;
        attempt_->sent += taken;
        if (std::holds_alternative<handoff::end>(next)) {
            generation_.tell(events::handed_over{attempt_->child.pid, attempt_->sent});
            feed(occurrence::handed_over);
        }
    }

    void announce()
    {
        generation_.tell(events::child_ready{attempt_->child.pid});
        auto const done = [this](error_code told, error_code heard) {
            if (told)
                fail_with("tell the service manager of the new main process: " + told.message(), told);
            if (heard)
                generation_.warn("wait for the service manager: " + heard.message());
            feed(told ? occurrence::unannounced : occurrence::announced);
        };
        auto& policies = generation_.policies;
        attempt_->announcement
            .emplace(policies.io, policies.notify, generation_.supervision().messages(), attempt_->child.pid, done)
            .start();
    }

    void commit()
    {
        try {
            generation_.fill_late_state();
        } catch (error const& e) {
            fail_with(e.what(), e.code());
            return feed(occurrence::commit_lost);
        } catch (std::exception const& e) {
            fail_with(e.what());
            return feed(occurrence::commit_lost);
        }
        send_commit();
    }

    void send_commit()
    {
        error_code ec;
        attempt_->link->send(handoff::commit{}, ec);
        if (is_again(ec))
            return retry([this] { send_commit(); });
        if (ec) {
            fail_with("send the commit: " + ec.message(), ec);
            // As in send_next(): how the child ended says more than that it did.
            if (ec != boost::system::errc::broken_pipe)
                feed(occurrence::commit_lost);
            return;
        }
        attempt_->was_committed = true;
        // Before all that waits to be worked off: from now on the child may accept, so no stop may end it.
        events_.feed_first(occurrence::commit_sent, [this](occurrence next) { work_off(next); });
    }

    void begin_stop()
    {
        if (machine_.now() == state::stopped)
            fail_with("stopped", errc::stopped);
        generation_.begin_stop(attempt_ && attempt_->partial_stop);
    }

    void forward_stop()
    {
        error_code ec;
        attempt_->link->send(handoff::stop{generation_.stops_partially()}, ec);
        if (is_again(ec))
            return retry([this] { forward_stop(); });
        if (ec)
            generation_.warn("tell the child to stop: " + ec.message());
    }

    // ---- what comes from the child

    void read_some()
    {
        // Bounded, so that a child which floods does not keep the host from its work.
        for (int i = 0; i != 16 && attempt_ && attempt_->link; ++i)
            if (!read_one([this](occurrence what) { feed(what); }))
                return;
    }

    /// Called while an event is worked off: what is read queues behind it.
    void read_rest()
    {
        attempt_->child_watch = {};
        // An ended child sends no more, but a process that it left behind may hold its end and write on.
        for (int i = 0; i != 256 && attempt_->link; ++i)
            if (!read_one([this](occurrence what) { events_.add(what); }))
                break;
        attempt_->frame_watch = {};
        events_.add(occurrence::nothing_left);
    }

    /// Whether there may be more to read.
    template <class Tell>
    bool read_one(Tell&& tell)
    {
        frame said;
        std::vector<os::owned_fd> unasked; // a child hands nothing over: closed here
        error_code ec;
        switch (auto const what = attempt_->link->receive(said, unasked, ec)) {
        case heard::nothing: return false;
        case heard::frame:
            if (auto const meaning = interpret(said))
                tell(*meaning);
            return true;
        case heard::closed:
            attempt_->frame_watch = {};
            if (!attempt_->was_committed)
                fail_with("closed the handoff, and did not end", errc::child_closed);
            tell(occurrence::closed);
            return false;
        case heard::garbage:
        case heard::broken:
            fail_with("what the child said makes no sense: " + ec.message(), ec);
            if (what == heard::broken)
                attempt_->frame_watch = {};
            tell(occurrence::garbage);
            return what == heard::garbage;
        }
        return false;
    }

    [[nodiscard]] std::optional<occurrence> interpret(frame const& said)
    {
        if (auto const* asks = std::get_if<more>(&said)) {
            if (asks->sender == attempt_->child.pid)
                return occurrence::asked;
            fail_with("pid " + std::to_string(os::number(asks->sender)) + " answers instead of pid " +
                          std::to_string(os::number(attempt_->child.pid)) +
                          ", which was started: " + message(errc::wrong_parent),
                      errc::wrong_parent);
            return occurrence::garbage;
        }
        if (auto const* claims = std::get_if<handoff::ready>(&said)) {
            if (claims->claimed.size() != attempt_->sent) {
                fail_with("the child claims from " + std::to_string(claims->claimed.size()) + " descriptors, but got " +
                          std::to_string(attempt_->sent), errc::corrupt_handoff);
                return occurrence::garbage;
            }
            if (machine_.now() == state::starting)
                attempt_->claims = claims->claimed;
            return occurrence::ready;
        }
        if (auto const* failure = std::get_if<handoff::fail>(&said)) {
            attempt_->words = failure->why;
            return occurrence::failed;
        }
        if (std::holds_alternative<handoff::serving>(said))
            return occurrence::serving;
        if (auto const* told = std::get_if<handoff::stop>(&said)) {
            attempt_->partial_stop = told->partial;
            return occurrence::child_stopped;
        }
        if (std::holds_alternative<handoff::unknown>(said))
            return {}; // of a later version
        fail_with("the child sent a frame that only a parent sends", errc::corrupt_handoff);
        return occurrence::garbage;
    }

    /// A child that is the manager's is the manager's to reap, and not at once, and how it ended is known only then.
    void child_ended()
    {
        error_code ec;
        attempt_->status = generation_.policies.launch.reap(attempt_->child, ec);
        if (is_again(ec) && ++attempt_->looks != 500) {
            attempt_->child_watch = generation_.policies.io.at(io::after(retry_pause), [this] { child_ended(); });
            return;
        }
        attempt_->child_watch = {};
        if (ec && !is_again(ec))
            generation_.warn("reap the child, pid " + std::to_string(os::number(attempt_->child.pid)) + ": " +
                             ec.message());
        feed(occurrence::child_ended);
    }

    // ---- the end

    void end_child(int signal)
    {
        if (attempt_->looks == 0) // else it has ended, and waits for whoever reaps it
            attempt_->child_was_killed = true;
        error_code ec;
        generation_.policies.launch.kill(attempt_->child, signal, ec);
        if (ec)
            generation_.warn("end the child, pid " + std::to_string(os::number(attempt_->child.pid)) + ": " +
                             ec.message());
    }

    void reap()
    {
        attempt_->child_watch = {};
        attempt_->child.pidfd.reset();
        attempt_->child_was_reaped = true;
    }

    void close_end() noexcept
    {
        attempt_->frame_watch = {};
        attempt_->announcement.reset();
        attempt_->retry = {};
        attempt_->link.reset();
        attempt_->theirs.clear();
        attempt_->bequest.keep.clear();
    }

    void close_handoff() noexcept
    {
        close_end();
        attempt_->timer = {};
        attempt_->channel.reset();
    }

    void restore()
    {
        generation_.undo_state();
        if (attempt_->was_committed)
            generation_.take_pid_file_back();
        if (machine_.now() == state::serving) // not when a stop came meanwhile
            generation_.supervision().failed(attempt_->failure());
    }

    // ---- words

    void report_committed()
    {
        generation_.tell(events::committed{attempt_->child.pid, attempt_->since_trigger()});
    }

    void report_ok()
    {
        generation_.tell(events::upgraded{attempt_->child.pid, attempt_->since_trigger()});
        attempt_->who.answer(attempt_->ok_line(generation_.number() + 1));
    }

    void report_failed()
    {
        auto const text = attempt_->failure();
        generation_.tell(events::upgrade_failed{attempt_->during, attempt_->why, text});
        attempt_->who.answer(attempt::failed_line(attempt_->during, text));
    }

    void report_serving_late()
    {
        auto const text = "no word that it serves within " + ms(generation_.options().serving_timeout) +
                          "; both generations accept";
        attempt_->why = errc::serving_timeout;
        generation_.tell(events::upgrade_failed{phase::serving, attempt_->why, text});
        attempt_->who.answer(attempt::failed_line(phase::serving, text));
    }

    void refuse(errc why, std::string const& line)
    {
        generation_.tell(events::refused{asking_.by, why});
        asking_.who.answer(line);
    }

    void fail_with(std::string reason, error_code why = errc::child_failed)
    {
        if (attempt_)
            attempt_->fail_with(std::move(reason), why);
    }

    [[nodiscard]] static std::string ms(std::chrono::milliseconds time) { return std::to_string(time.count()) + " ms"; }

    // ---- means

    /// The armed deadline bounds it.
    template <class F>
    void retry(F again)
    {
        attempt_->retry = generation_.policies.io.at(io::after(retry_pause), std::move(again));
    }

    void arm(std::chrono::milliseconds time, error_code why, std::string reason)
    {
        attempt_->timer = generation_.policies.io.at(io::after(time), [this, why, reason = std::move(reason)] {
            if (why && machine_.now() != state::committed)
                fail_with(reason, why);
            feed(occurrence::deadline);
        });
    }

    /// A manager that does not confirm is slow, and the upgrade goes on; one that could not even be written to knows
    /// nothing of the child.
    void arm_barrier()
    {
        auto const time = generation_.options().barrier_timeout;
        attempt_->timer = generation_.policies.io.at(io::after(time), [this, time] {
            bool const told = !attempt_->announcement || attempt_->announcement->was_told();
            if (!told)
                fail_with("the service manager could not be told of the new main process within " + ms(time));
            feed(told ? occurrence::deadline : occurrence::unannounced);
        });
    }

    Generation& generation_;
    launch::program program_;
    parent machine_;
    std::optional<attempt> attempt_;
    asked asking_; ///< the upgrade event's, while it is fed
    event_queue<occurrence> events_;
    io::clock::time_point last_ended_{};
};

} // namespace ecdysis::handoff

#endif
