// SPDX-License-Identifier: BSL-1.0
// What launch::spawner costs beside launch::direct: the start of a program, and the helper's memory.
//
// Both start this same program, which writes one byte, with the same descriptors; in turns, from one process, in one
// thread. The time is from the call of start() until the byte is there.

#include "../unit/launch/to_the_end.hpp"
#include "measure.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/launch/direct.hpp>
#include <ecdysis/launch/program.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <boost/asio/io_context.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace bench;
namespace launch = ecdysis::launch;
namespace os = ecdysis::os;
using ecdysis::error_code;

constexpr int warm_up = 5; ///< rounds that do not count

constexpr char const* usage = R"(usage: launch start [DESCRIPTORS [ROUNDS]]
       launch memory [MEBIBYTES]

start: of one program, with DESCRIPTORS handed over (0) besides its standard streams, ROUNDS times each way (200).
Prints the medians in microseconds, to the byte that the program writes:
  descriptors=0 rounds=200 direct=1500.0 spawner=1600.0 more=100.0 ratio=1.067
`more` is the median of what the helper adds in one round.

memory: of a service with an upgrader and MEBIBYTES that are resident (0), and of its helper, once it has started a program.
Prints kibibytes: the shares of all pages, and what is a process's alone.
  mebibytes=0 service_pss=4000 service_private=3000 helper_pss=900 helper_private=400
)";

/// Standard output is the pipe from now on, as it is of what is started.
class pipe_as_output
{
public:
    pipe_as_output()
    {
        int ends[2];
        must(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
        from_ = os::owned_fd{ends[0]};
        os::owned_fd const to{ends[1]};
        before_ = os::owned_fd{::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)};
        must(before_ && ::dup2(to.get(), STDOUT_FILENO) == STDOUT_FILENO, "dup2");
    }
    pipe_as_output(pipe_as_output const&) = delete;
    pipe_as_output& operator=(pipe_as_output const&) = delete;
    ~pipe_as_output() { ::dup2(before_.get(), STDOUT_FILENO); }

    void await_byte() const
    {
        char byte = 0;
        must(::read(from_.get(), &byte, 1) == 1, "read");
    }

private:
    os::owned_fd from_, before_;
};

[[nodiscard]] launch::program this_program() { return launch::program{{}, {"launch", "byte"}}; }

template <class Launch>
[[nodiscard]] microseconds start(Launch& by, launch::program& what, std::vector<os::borrowed_fd> const& inherited, pipe_as_output const& output)
{
    error_code ec;
    launch::process started;
    auto const began = clock_type::now();
    bool gone = false;
    by.start({.program = what.path(),
              .arguments = what.arguments(),
              .environment = launch::program::child_environment("ECDYSIS_HANDOFF="),
              .directory = what.directory_or_root(gone),
              .inherited = inherited,
              .blocked = {},
              .as_sibling = by.as_sibling(false)},
             [&](error_code why, launch::process child) {
                 ec = why;
                 started = std::move(child);
             });
    to_the_end(by);
    if (ec)
        throw ecdysis::error{ec, "start"};
    output.await_byte();
    auto const took = clock_type::now() - began;
    ::pollfd ended{started.pidfd.get(), POLLIN, 0};
    must(::poll(&ended, 1, 20000) == 1, "poll");
    static_cast<void>(by.reap(started, ec));
    return took;
}

void run_start(std::size_t descriptors, int rounds)
{
    auto what = this_program();
    auto spawner = launch::spawner::fork(this_program());
    launch::direct direct;
    std::vector<os::owned_fd> files;
    for (std::size_t i = 0; i != descriptors; ++i) {
        files.emplace_back(::open("/dev/null", O_RDWR | O_CLOEXEC));
        must(static_cast<bool>(files.back()), "open");
    }
    std::vector<os::borrowed_fd> const inherited{files.begin(), files.end()};
    std::vector<double> by_direct, by_spawner, more;
    {
        pipe_as_output const output;
        for (int round = -warm_up; round != rounds; ++round) {
            microseconds direct_took{}, spawner_took{};
            if (round % 2 == 0) {
                direct_took = start(direct, what, inherited, output);
                spawner_took = start(spawner, what, inherited, output);
            } else {
                spawner_took = start(spawner, what, inherited, output);
                direct_took = start(direct, what, inherited, output);
            }
            if (round < 0)
                continue;
            by_direct.push_back(direct_took.count());
            by_spawner.push_back(spawner_took.count());
            more.push_back((spawner_took - direct_took).count());
        }
    }
    std::printf("descriptors=%zu rounds=%d direct=%.1f spawner=%.1f more=%.1f ratio=%.3f\n", descriptors, rounds, median(by_direct),
                median(by_spawner), median(more), median(by_spawner) / median(by_direct));
}

struct memory
{
    unsigned long pss = 0, alone = 0; ///< KiB

    explicit memory(std::string const& pid)
    {
        std::ifstream rollup{"/proc/" + pid + "/smaps_rollup"};
        for (std::string word; rollup >> word;) {
            unsigned long figure = 0;
            if (word == "Pss:")
                rollup >> pss;
            else if ((word == "Private_Clean:" || word == "Private_Dirty:") && rollup >> figure)
                alone += figure;
        }
        if (pss == 0)
            throw std::runtime_error{"cannot read the memory of process " + pid};
    }
};

void run_memory(std::size_t mebibytes, launch::spawner spawner)
{
    using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::none, ecdysis::transport::socketpair, launch::spawner>;
    std::string helper;
    std::ifstream{"/proc/thread-self/children"} >> helper;
    auto what = this_program();
    {
        pipe_as_output const output;
        static_cast<void>(start(spawner, what, {}, output));
    }
    resident const much{mebibytes};
    boost::asio::io_context context{1};
    upgrader up{context, {}, {}, {}, std::move(spawner)};
    auto listener = up.listen_tcp("127.0.0.1:0");
    up.async_ready([&](error_code) {
        memory const ours{"self"}, its{helper};
        std::printf("mebibytes=%zu service_pss=%lu service_private=%lu helper_pss=%lu helper_private=%lu\n", mebibytes, ours.pss, ours.alone,
                    its.pss, its.alone);
        context.stop();
    });
    context.run();
}

void raise_descriptor_limit()
{
    ::rlimit limit{};
    must(::getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

} // namespace

int main(int count, char** arguments)
{
    std::string_view const mode = count > 1 ? arguments[1] : "";
    if (mode == "byte")
        return ::write(STDOUT_FILENO, "", 1) == 1 ? 0 : 1;
    auto const number = [&](int i, unsigned long otherwise) { return i < count ? std::strtoul(arguments[i], nullptr, 10) : otherwise; };
    try {
        if (mode == "start") {
            raise_descriptor_limit();
            run_start(number(2, 0), static_cast<int>(number(3, 200)));
        } else if (mode == "memory")
            run_memory(number(2, 0), launch::spawner::fork(this_program()));
        else {
            std::fputs(usage, mode == "--help" ? stdout : stderr);
            return mode == "--help" ? 0 : 2;
        }
    } catch (std::exception const& e) {
        std::fprintf(stderr, "launch: %s\n", e.what());
        return 1;
    }
}
