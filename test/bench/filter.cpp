// SPDX-License-Identifier: BSL-1.0
// What the allowlist as a seccomp filter costs each call.
//
// Three processes make the same calls in turns: one without a filter, one with libseccomp's default, which compares one
// call after another, and one with its binary tree. Of calls that are allowed whatever their arguments, Linux (5.11) keeps
// a bitmap and asks no filter.

#include "measure.hpp"

#include <ecdysis/io/asio.hpp>
#include <ecdysis/launch/spawner.hpp>
#include <ecdysis/notify/none.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/seccomp/core.hpp>
#include <ecdysis/seccomp/filter.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <linux/filter.h>
#include <netinet/in.h>
#include <seccomp.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace {

using namespace bench;
namespace os = ecdysis::os;
namespace seccomp = ecdysis::seccomp;

using upgrader = ecdysis::upgrader<ecdysis::io::asio, ecdysis::notify::none, ecdysis::transport::socketpair, ecdysis::launch::spawner>;

constexpr int warm_up = 5; ///< rounds that do not count

constexpr char const* usage = R"(usage: filter [ROUNDS]

Prints the size of the filter, in instructions, and one line for each kind of call, with medians of ROUNDS (300) in
nanoseconds without the filter, with it, and with it as a binary tree:
  rules=100 instructions=500 tree=600
  kind=accept rounds=300 none=1500 filter=1600 tree=1550 ratio=1.067 tree_ratio=1.033
kinds: accept, accept4 of connections over loopback; small, a write and a read of 1 byte over a socket pair; large, of 4 KiB;
fcntl, with F_GETFD, which does next to nothing and is allowed by its argument.
)";

enum class kind { accept, small, large, fcntl };

constexpr std::array kinds{kind::accept, kind::small, kind::large, kind::fcntl};
constexpr std::array names{"accept", "small", "large", "fcntl"};
constexpr std::array times{64, 1000, 1000, 4000}; ///< that a call is made in a round

enum class tree { no, yes };

/// The host's filter. Gives it without having loaded it.
class filter
{
public:
    explicit filter(tree as) : filter_{::seccomp_init(SCMP_ACT_KILL_PROCESS)}
    {
        seccomp::allow(filter_, seccomp::threads);
        seccomp::allow(filter_, seccomp::allowlist<upgrader>);
        if (as == tree::yes && ::seccomp_attr_set(filter_, SCMP_FLTATR_CTL_OPTIMIZE, 2) != 0)
            throw std::runtime_error{"this libseccomp has no binary tree"};
    }
    filter(filter const&) = delete;
    filter& operator=(filter const&) = delete;
    ~filter() { ::seccomp_release(filter_); }

    void load() const
    {
        if (::seccomp_load(filter_) != 0)
            throw std::runtime_error{"cannot load the filter"};
    }
    [[nodiscard]] std::size_t instructions() const
    {
        os::owned_fd const program{::memfd_create("filter", MFD_CLOEXEC)};
        must(program && ::seccomp_export_bpf(filter_, program.get()) == 0, "seccomp_export_bpf");
        return static_cast<std::size_t>(::lseek(program.get(), 0, SEEK_END)) / sizeof(::sock_filter);
    }

private:
    ::scmp_filter_ctx filter_;
};

/// A process that makes calls when it is told to, and says how long they took.
class worker
{
public:
    /// `as`: of the filter; none has no filter.
    explicit worker(std::optional<tree> as)
    {
        int ends[2];
        must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
        ours_ = os::owned_fd{ends[0]};
        os::owned_fd const its{ends[1]};
        listener_ = os::owned_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        ::sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        must(listener_ && ::bind(listener_.get(), reinterpret_cast<::sockaddr*>(&address), sizeof address) == 0 &&
                 ::listen(listener_.get(), SOMAXCONN) == 0,
             "listen");
        process_ = ::fork();
        must(process_ != -1, "fork");
        if (process_ == 0)
            work(its, as);
    }
    worker(worker const&) = delete;
    worker& operator=(worker const&) = delete;
    ~worker()
    {
        ours_.reset();
        ::waitpid(process_, nullptr, 0);
    }

    /// The time of one call of a round.
    [[nodiscard]] double round(kind what) const
    {
        std::vector<os::owned_fd> clients;
        if (what == kind::accept)
            connect(clients);
        double took = 0;
        must(::write(ours_.get(), &what, sizeof what) == sizeof what && ::read(ours_.get(), &took, sizeof took) == sizeof took,
             "ask a process that makes calls");
        return took;
    }

private:
    void connect(std::vector<os::owned_fd>& clients) const
    {
        ::sockaddr_in address{};
        ::socklen_t size = sizeof address;
        must(::getsockname(listener_.get(), reinterpret_cast<::sockaddr*>(&address), &size) == 0, "getsockname");
        for (int i = 0; i != times[static_cast<std::size_t>(kind::accept)]; ++i) {
            auto const& one = clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            ::linger const reset{1, 0}; // leaves nothing in TIME_WAIT
            must(one && ::setsockopt(one.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0 &&
                     ::connect(one.get(), reinterpret_cast<::sockaddr*>(&address), size) == 0,
                 "connect");
        }
    }

    [[noreturn]] void work(os::borrowed_fd told, std::optional<tree> as)
    try {
        ours_.reset();
        int pair[2];
        must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
        if (as)
            filter{*as}.load();
        for (kind what{}; ::read(told.get(), &what, sizeof what) == sizeof what;) {
            auto const took = make_calls(what, pair);
            must(::write(told.get(), &took, sizeof took) == sizeof took, "write");
        }
        ::_exit(0);
    } catch (std::exception const& e) {
        std::fprintf(stderr, "filter: %s\n", e.what());
        ::_exit(1);
    }

    [[nodiscard]] double make_calls(kind what, int const (&pair)[2]) const
    {
        static std::array<char, 4096> buffer;
        auto const count = times[static_cast<std::size_t>(what)];
        std::array<os::owned_fd, times[static_cast<std::size_t>(kind::accept)]> accepted;
        auto const began = clock_type::now();
        switch (what) {
        case kind::accept:
            for (auto& one : accepted)
                one = os::owned_fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
            break;
        case kind::small:
        case kind::large: {
            auto const size = what == kind::small ? std::size_t{1} : buffer.size();
            for (int i = 0; i != count; ++i)
                must(::write(pair[0], buffer.data(), size) == static_cast<::ssize_t>(size) &&
                         ::read(pair[1], buffer.data(), size) == static_cast<::ssize_t>(size),
                     "write and read");
            break;
        }
        case kind::fcntl:
            for (int i = 0; i != count; ++i)
                must(::syscall(SYS_fcntl, pair[0], F_GETFD) == FD_CLOEXEC, "fcntl");
        }
        nanoseconds const took = clock_type::now() - began;
        if (what == kind::accept)
            must(static_cast<bool>(accepted.back()), "accept4");
        return took.count() / count;
    }

    os::owned_fd ours_, listener_;
    ::pid_t process_ = -1;
};

void run(int rounds)
{
    std::printf("rules=%zu instructions=%zu tree=%zu\n", seccomp::allowlist<upgrader>.size() + seccomp::threads.size(),
                filter{tree::no}.instructions(), filter{tree::yes}.instructions());
    std::fflush(stdout);
    worker const none{std::nullopt}, linear{tree::no}, binary{tree::yes};
    std::array const workers{&none, &linear, &binary};
    std::array<std::array<std::vector<double>, workers.size()>, kinds.size()> figures;
    for (int round = -warm_up; round != rounds; ++round)
        for (std::size_t what = 0; what != kinds.size(); ++what)
            for (std::size_t turn = 0; turn != workers.size(); ++turn) {
                auto const who = (turn + static_cast<std::size_t>(round + warm_up)) % workers.size();
                auto const took = workers[who]->round(kinds[what]);
                if (round >= 0)
                    figures[what][who].push_back(took);
            }
    for (std::size_t what = 0; what != kinds.size(); ++what) {
        auto const bare = median(figures[what][0]), with = median(figures[what][1]), as_tree = median(figures[what][2]);
        std::printf("kind=%s rounds=%d none=%.1f filter=%.1f tree=%.1f ratio=%.3f tree_ratio=%.3f\n", names[what], rounds, bare, with,
                    as_tree, with / bare, as_tree / bare);
    }
}

} // namespace

int main(int count, char** arguments)
{
    if (count > 1 && std::strcmp(arguments[1], "--help") == 0) {
        std::fputs(usage, stdout);
        return 0;
    }
    ::signal(SIGPIPE, SIG_IGN);
    int const rounds = count > 1 ? std::atoi(arguments[1]) : 300;
    if (rounds < 1) {
        std::fputs(usage, stderr);
        return 2;
    }
    try {
        run(rounds);
    } catch (std::exception const& e) {
        std::fprintf(stderr, "filter: %s\n", e.what());
        return 1;
    }
}
