// SPDX-License-Identifier: BSL-1.0
// How long an upgrade takes from its trigger to its commit, beside a bare start of the same program.
//
// One parent is upgraded again and again: each child claims all listeners, is committed, and ends before it says that
// it serves, so that the parent serves on. Before each upgrade the parent starts the same program with posix_spawn
// and nothing else, and reads the one byte that is all it does. Both are measured in the parent, in one thread.

#include "measure.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/io/sync.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace bench;

constexpr int warm_up = 5; ///< rounds at the start of a phase that do not count

constexpr char const* usage = R"(usage: upgrade IO TRANSPORT [LISTENERS [ROUNDS [MEBIBYTES]]]

  IO          sync or asio
  TRANSPORT   named_pipe or socketpair
  LISTENERS   that each child claims (1)
  ROUNDS      of one upgrade and one bare start each (200)
  MEBIBYTES   resident memory of the parent; measured without and with it, twice (0)

Prints one line for each phase, with medians in microseconds:
  mebibytes=0 rounds=200 bare=1700 launched=700 handed=1800 ready=1950 call=2000 request=1950 ratio=1.18
`call` is from the call of request_upgrade() to the commit, and `launched`, `handed` and `ready` are its steps;
`request` is the same from when the upgrader begins with it, `ratio` is call / bare.
)";

struct settings
{
    std::size_t listeners = 1;
    int rounds = 200;
    std::size_t mebibytes = 0;
};

/// posix_spawn of this program, until the byte is there.
[[nodiscard]] microseconds bare_start()
{
    static std::string const self = ecdysis::launch::program{}.path();
    std::string name = "upgrade";
    std::string mode = "byte";
    char* arguments[] = {name.data(), mode.data(), nullptr};

    auto const began = clock_type::now();
    int ends[2];
    must(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    ::posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    ::pid_t child = -1;
    errno = ::posix_spawn(&child, self.c_str(), &actions, nullptr, arguments, environ);
    must(errno == 0, "posix_spawn");
    char byte = 0;
    must(::read(ends[0], &byte, 1) == 1, "read");
    auto const took = clock_type::now() - began;

    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
    ::close(ends[1]);
    must(::waitpid(child, nullptr, 0) == child, "waitpid");
    return took;
}

void raise_descriptor_limit()
{
    ::rlimit limit{};
    must(::getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

/// Each listener has an address of its own in 127.0.0.0/8, and port 0.
[[nodiscard]] boost::asio::ip::tcp::endpoint nth_address(std::size_t i)
{
    auto const host = 0x7f090000U + static_cast<unsigned>(i / 250 * 256 + i % 250 + 1);
    return {boost::asio::ip::address_v4{host}, 0};
}

/// The parent's part: asks, and takes the times.
template <class Upgrader>
class measurement
{
public:
    explicit measurement(settings const& what) : settings_{what} {}

    void begin(Upgrader& on)
    {
        upgrader_ = &on;
        next_phase();
        ask();
    }

    void hear(ecdysis::event const& heard)
    {
        if (heard.as<ecdysis::events::launched>())
            note(launched_, heard.tick - asked_);
        else if (heard.as<ecdysis::events::handed_over>())
            note(handed_over_, heard.tick - asked_);
        else if (heard.as<ecdysis::events::child_ready>())
            note(ready_, heard.tick - asked_);
        else if (auto const* committed = heard.as<ecdysis::events::committed>())
            note_commit(heard.tick - asked_, committed->since_trigger);
        else if (auto const* failed = heard.as<ecdysis::events::upgrade_failed>())
            note_end(*failed);
    }

private:
    void note_commit(microseconds call, microseconds request)
    {
        committed_ = true;
        note(call_, call);
        note(request_, request);
    }

    void note(std::vector<double>& figures, microseconds figure)
    {
        if (round_ > warm_up)
            figures.push_back(figure.count());
    }

    /// The child has ended and is reaped, as it should be, and the next round may begin.
    void note_end(ecdysis::events::upgrade_failed const& failed)
    {
        if (!committed_) {
            std::fprintf(stderr, "an upgrade failed before its commit: %s\n", failed.reason.c_str());
            std::_Exit(1);
        }
        if (round_ == settings_.rounds + warm_up) {
            print();
            if (++phase_ == (settings_.mebibytes == 0 ? 1 : 4))
                return upgrader_->request_stop();
            next_phase();
        }
        ask();
    }

    /// The observer must not wait; here nobody waits for it.
    void ask()
    {
        ++round_;
        note(bare_, bare_start());
        committed_ = false;
        asked_ = clock_type::now();
        upgrader_->request_upgrade();
    }

    [[nodiscard]] std::size_t mebibytes() const noexcept { return phase_ % 2 == 0 ? 0 : settings_.mebibytes; }

    void next_phase()
    {
        memory_.emplace(mebibytes());
        round_ = 0;
        for (auto* figures : {&bare_, &launched_, &handed_over_, &ready_, &call_, &request_})
            figures->clear();
    }

    void print() const
    {
        std::printf("mebibytes=%zu rounds=%d bare=%.1f launched=%.1f handed=%.1f ready=%.1f call=%.1f request=%.1f "
                    "ratio=%.3f\n",
                    mebibytes(), settings_.rounds, median(bare_), median(launched_), median(handed_over_),
                    median(ready_), median(call_), median(request_), median(call_) / median(bare_));
        std::fflush(stdout);
    }

    settings settings_;
    Upgrader* upgrader_ = nullptr;
    int phase_ = 0;
    int round_ = 0;
    bool committed_ = false;
    clock_type::time_point asked_{};
    std::optional<resident> memory_;
    std::vector<double> bare_;
    std::vector<double> launched_;
    std::vector<double> handed_over_;
    std::vector<double> ready_;
    std::vector<double> call_;
    std::vector<double> request_;
};

template <class Transport>
void run_sync(settings const& what)
{
    using upgrader = ecdysis::upgrader<ecdysis::io::sync, ecdysis::notify::none, Transport>;
    measurement<upgrader> measured{what};
    upgrader up{{.observer = [&](ecdysis::event const& heard) { measured.hear(heard); }}};
    std::vector<typename upgrader::tcp_listener> listeners;
    listeners.reserve(what.listeners);
    for (std::size_t i = 0; i != what.listeners; ++i)
        listeners.push_back(up.listen_tcp(nth_address(i)));
    up.ready();
    if (up.generation() != 0)
        std::_Exit(0);
    measured.begin(up);
    (void)up.wait();
    up.drain(std::chrono::seconds{0});
}

template <class Transport>
void run_asio(settings const& what)
{
    using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::none, Transport>;
    boost::asio::io_context context{1};
    measurement<upgrader> measured{what};
    upgrader up{context, {.observer = [&](ecdysis::event const& heard) { measured.hear(heard); }}};
    std::vector<typename upgrader::tcp_listener> listeners;
    listeners.reserve(what.listeners);
    for (std::size_t i = 0; i != what.listeners; ++i)
        listeners.push_back(up.listen_tcp(nth_address(i)));
    up.async_ready([&](ecdysis::error_code ec) {
        if (ec || up.generation() != 0)
            std::_Exit(ec ? 1 : 0);
        measured.begin(up);
        up.async_wait([&](ecdysis::error_code, ecdysis::exit) {
            up.async_drain(std::chrono::seconds{0}, [](ecdysis::error_code, std::size_t) {});
        });
    });
    context.run();
}

} // namespace

int main(int count, char** arguments)
{
    if (count == 2 && std::strcmp(arguments[1], "byte") == 0)
        return ::write(STDOUT_FILENO, "", 1) == 1 ? 0 : 1;

    std::vector<std::string_view> const words{arguments + 1, arguments + count};
    if (std::ranges::find(words, "--help") != words.end()) {
        std::fputs(usage, stdout);
        return 0;
    }
    auto const number = [&](std::size_t i, unsigned long otherwise) {
        return i < words.size() ? std::strtoul(arguments[i + 1], nullptr, 10) : otherwise;
    };
    settings const what{number(2, 1), static_cast<int>(number(3, 200)), number(4, 0)};
    auto const assembly = words.size() < 2 ? std::string{} : std::string{words[0]} + " " + std::string{words[1]};
    try {
        raise_descriptor_limit();
        if (assembly == "sync named_pipe")
            run_sync<ecdysis::transport::named_pipe>(what);
        else if (assembly == "sync socketpair")
            run_sync<ecdysis::transport::socketpair>(what);
        else if (assembly == "asio named_pipe")
            run_asio<ecdysis::transport::named_pipe>(what);
        else if (assembly == "asio socketpair")
            run_asio<ecdysis::transport::socketpair>(what);
        else {
            std::fputs(usage, stderr);
            return 2;
        }
    } catch (std::exception const& e) {
        std::fprintf(stderr, "upgrade: %s\n", e.what());
        return 1;
    }
}
