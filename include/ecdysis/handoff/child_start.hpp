// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CHILD_START_HPP
#define ECDYSIS_HANDOFF_CHILD_START_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/handoff/variable.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/launch/concept.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/os/descriptor_limit.hpp>
#include <ecdysis/os/process.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace ecdysis::handoff {

/// Starts the child's program: gathers what is handed over, makes the transport, and launches. With the lock of the io policy
/// held.
template <class Generation>
class child_start
{
    using transport_policy = typename Generation::transport_policy;
    using handle = typename Generation::io_policy::handle;

public:
    child_start(Generation& generation, launch::program program)
        : generation_{generation}, program_{std::move(program)}
    {}

    [[nodiscard]] std::string const& path() const noexcept { return program_.path(); }

    /// Why there is no process is said in words.
    using told = std::function<void(error_code ec, launch::process child, std::string reason)>;

    /// Fills `into` and calls `done` once, here or later. `into` lives until then, or until the start is given up.
    template <class Attempt>
    void operator()(Attempt& into, told done)
    {
        done_ = std::move(done);
        error_code ec;
        std::string what;
        try {
            what = "prepare what is handed over";
            into.bequest = generation_.bequeath(into.channel);
            os::check_descriptor_limit(into.bequest.fds.size(), ec);
            if (ec)
                return fail(ec, "hand over " + std::to_string(into.bequest.fds.size()) + " descriptors: " + ec.message());
            what = std::string{"make the "} + std::string{transport_policy::name};
            auto offer = generation_.policies.transport.make(into.bequest.fds, ec);
            if (!ec) {
                what = "start " + program_.path();
                using link = typename decltype(into.link)::element_type;
                into.link = std::make_unique<link>(generation_.policies.io, std::move(offer.ours));
                into.theirs = std::move(offer.theirs);
                into.inherited = std::move(offer.inherited);
                return launch(into, offer.text);
            }
        } catch (std::exception const& e) {
            if (!done_) // of who was told
                throw;
            auto const* const ours = dynamic_cast<error const*>(&e);
            return ours != nullptr ? fail(ours->code(), e.what()) : fail(errc::child_failed, what + ": " + e.what());
        }
        fail(ec, what + ": " + ec.message());
    }

    /// `done` is not called any more, and no child is left.
    void give_up() noexcept
    {
        stop_waiting();
        done_ = {};
        generation_.policies.launch.give_up();
    }

private:
    template <class Attempt>
    void launch(Attempt& into, std::string const& text)
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
        launch::request request{
            .program = program_.path(),
            .arguments = std::move(arguments),
            .environment = launch::program::child_environment(said.assignment()),
            .directory = directory,
            .inherited = into.inherited,
            .blocked = generation_.options().upgrade_on,
            .ignored = program_.ignored(),
            .as_sibling = as_sibling,
        };
        generation_.policies.launch.start(std::move(request), [this, &into](error_code ec, launch::process child) {
            into.theirs.clear();
            tell(ec, std::move(child), ec ? "start " + program_.path() + ": " + ec.message() : std::string{});
        });
        await();
    }

    void await()
    {
        stop_waiting();
        auto next = generation_.policies.launch.awaits();
        if (!next)
            return;
        error_code ec;
        if (next.readable)
            readable_ = generation_.policies.io.watch(next.readable, [this] { go_on(); }, ec);
        if (ec) // then it is looked at now and then
            next.until = io::after(retry_pause);
        if (next.until)
            due_ = generation_.policies.io.at(*next.until, [this] { go_on(); });
    }

    void go_on()
    {
        stop_waiting(); // first, for the policy may close what is watched
        try {
            generation_.policies.launch.go_on();
            await();
        } catch (std::exception const& e) {
            if (!done_) // of who was told
                throw;
            fail(errc::child_failed, "start " + program_.path() + ": " + e.what());
        }
    }

    void stop_waiting() noexcept
    {
        readable_ = {};
        due_ = {};
    }

    void fail(error_code ec, std::string reason)
    {
        stop_waiting();
        generation_.policies.launch.give_up();
        tell(ec, {}, std::move(reason));
    }

    /// Once. Who hears of it may begin the next start.
    void tell(error_code ec, launch::process child, std::string reason)
    {
        if (auto const done = std::exchange(done_, nullptr))
            done(ec, std::move(child), std::move(reason));
    }

    Generation& generation_;
    launch::program program_;
    told done_;
    handle readable_{};
    handle due_{};
};

} // namespace ecdysis::handoff

#endif
