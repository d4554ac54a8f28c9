// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_CONVERSATION_HPP
#define ECDYSIS_HANDOFF_CONVERSATION_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/link.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/io/concept.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/transport/concept.hpp>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// One side's frames, in both directions: each is sent, however often that takes, unless the other side has closed its
/// end; what comes is told. With the lock of the io policy held. Its end closes the link.
template <class Io, transport::End End>
class conversation
{
public:
    /// One look at the link gave that. `ec`: of garbage and broken. It may end the conversation.
    using hears = std::function<void(heard what, frame& said, std::vector<os::owned_fd>& fds, error_code ec)>;
    /// `ec`: why it could not be sent; none when it was.
    using done = std::function<void(error_code ec)>;

    conversation(Io& io, End end) : io_{io}, link_{std::move(end)} {}
    conversation(conversation const&) = delete;
    conversation& operator=(conversation const&) = delete;

    [[nodiscard]] os::borrowed_fd fd() const noexcept { return link_.fd(); }

    /// Who hears what is read from now on.
    void tell(hears f) { hears_ = std::make_shared<hears>(std::move(f)); }

    /// Frames are read as they come.
    void watch(error_code& ec)
    {
        // Bounded, so that a side which floods does not keep the host from its work.
        watch_ = io_.watch(link_.fd(), [this] { read(16); }, ec);
    }
    void unwatch() noexcept { watch_ = {}; }

    /// Reads what is there now, at most so many frames.
    void read(int most)
    {
        std::weak_ptr const alive = alive_;
        for (int i = 0; i != most && !alive.expired(); ++i)
            if (!read_one())
                return;
    }

    /// Sends `what` after all that waits, `f` hears of it. The descriptors are to stay open until then.
    void send(frame what, done f = {}, std::span<os::borrowed_fd const> fds = {})
    {
        unsent_.push_back({std::move(what), std::move(f), fds});
        if (unsent_.size() == 1)
            flush();
    }

    [[nodiscard]] bool all_sent() const noexcept { return unsent_.empty(); }

    /// Tries again to send what waits; by itself that happens by a timer.
    void flush()
    {
        retry_ = {};
        std::weak_ptr const alive = alive_;
        while (!alive.expired() && !unsent_.empty()) {
            error_code ec;
            auto const& next = unsent_.front();
            link_.send(next.what, next.fds, ec);
            if (may_succeed_later(ec)) {
                retry_ = io_.at(io::after(pause_), [this] { flush(); });
                pause_ = std::min(2 * pause_, longest_pause);
                return;
            }
            pause_ = retry_pause;
            auto const f = std::move(unsent_.front().f);
            unsent_.pop_front(); // first, for who is told may say something
            if (f)
                f(ec);
        }
    }

private:
    struct message
    {
        frame what;
        done f;
        std::span<os::borrowed_fd const> fds;
    };

    static constexpr std::chrono::milliseconds longest_pause{100};

    /// Whether there may be more to read.
    bool read_one()
    {
        frame said;
        std::vector<os::owned_fd> fds;
        error_code ec;
        auto const what = link_.receive(said, fds, ec);
        if (what == heard::nothing)
            return false;
        if (what == heard::closed || what == heard::broken)
            watch_ = {};
        auto const f = hears_; // who is told may put another in its place
        (*f)(what, said, fds, ec);
        return what == heard::frame || what == heard::garbage;
    }

    Io& io_;
    link<End> link_;
    std::shared_ptr<hears> hears_ = std::make_shared<hears>();
    std::deque<message> unsent_;
    std::chrono::milliseconds pause_ = retry_pause;
    typename Io::handle watch_;
    typename Io::handle retry_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace ecdysis::handoff

#endif
