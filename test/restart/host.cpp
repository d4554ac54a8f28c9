// SPDX-License-Identifier: BSL-1.0
// A small real service, assembled as the build says, that can be told to misbehave. It answers each line with
// "GENERATION PID", and with "GENERATION PID last" when it will close the connection.
#include <ecdysis/notify/none.hpp>
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>
#include <ecdysis/upgrader.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <list>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace host {

struct settings
{
    ecdysis::options options;
    std::vector<std::string> listen; // tcp:ADDRESS unix:PATH seqpacket:PATH udp:ADDRESS datagram:PATH
    std::string log;
    std::string behave;
    std::string counter;
    unsigned threads = 1;
    bool stay = false;
    std::chrono::milliseconds drain{10'000};
};

[[noreturn]] void usage(std::string const& word)
{
    std::cerr << "unknown: " << word << '\n';
    std::exit(2);
}

settings parse(int argc, char** argv)
{
    settings s;
    for (int i = 1; i < argc; ++i) {
        std::string const name = argv[i];
        auto const value = [&]() -> std::string { return ++i < argc ? argv[i] : (usage(name), ""); };
        auto const time = [&] { return std::chrono::milliseconds{std::stoi(value())}; };
        auto& o = s.options;
        if (name == "--listen") s.listen.push_back(value());
        else if (name == "--control") o.control.upgrade = value();
        else if (name == "--control-stop") o.control.stop = value();
        else if (name == "--control-partial") o.control.partial_stop = value();
        else if (name == "--pid-file") o.pid_file = value();
        else if (name == "--log") s.log = value();
        else if (name == "--behave") s.behave = value();
        else if (name == "--counter") s.counter = value();
        else if (name == "--threads") s.threads = static_cast<unsigned>(std::stoi(value()));
        else if (name == "--channel") o.channel = true;
        else if (name == "--stay") s.stay = true;
        else if (name == "--handoff-timeout") o.handoff_timeout = time();
        else if (name == "--ready-timeout") o.ready_timeout = time();
        else if (name == "--barrier-timeout") o.barrier_timeout = time();
        else if (name == "--serving-timeout") o.serving_timeout = time();
        else if (name == "--kill-grace") o.kill_grace = time();
        else if (name == "--signal-interval") o.signal_interval = time();
        else if (name == "--idle-grace") o.idle_grace = time();
        else if (name == "--drain") s.drain = time();
        else usage(name);
    }
    s.options.upgrade_on = {SIGHUP, SIGUSR2};
    s.options.stop_on = {SIGTERM, SIGINT};
    s.options.partial_stop_on = {SIGUSR1};
    return s;
}

/// What this generation is to do wrong: lines of a word and a value, read once, at its start.
class behaviour
{
public:
    explicit behaviour(std::string const& path)
    {
        std::ifstream file{path};
        for (std::string line; std::getline(file, line);) {
            auto const space = line.find(' ');
            all_[line.substr(0, space)] = space == line.npos ? "" : line.substr(space + 1);
        }
    }
    bool is(std::string const& what) const { return all_.contains(what); }
    std::string value(std::string const& what) const { return is(what) ? all_.at(what) : ""; }
    int number(std::string const& what, int otherwise) const { return is(what) ? std::stoi(all_.at(what)) : otherwise; }

private:
    std::map<std::string, std::string> all_;
};

[[noreturn]] void hang()
{
    for (;;)
        ::pause();
}

class event_log
{
public:
    explicit event_log(std::string const& path)
        : file_{path.empty() ? -1 : ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)}
    {}
    void write(std::string const& line) const
    {
        if (file_)
            (void)!::write(file_.get(), line.data(), line.size());
    }
    void write(ecdysis::event const& e) const
    {
        std::string where = name(e.during);
        std::replace(where.begin(), where.end(), ' ', '-');
        write(std::to_string(e.generation) + " " + std::to_string(ecdysis::os::number(e.pid)) + " " + where + " " +
              e.text() + "\n");
    }

private:
    ecdysis::os::owned_fd file_;
};

std::string answer(unsigned generation, bool last)
{
    return std::to_string(generation) + " " + std::to_string(::getpid()) + (last ? " last\n" : "\n");
}

template <class Upgrader>
void listen(Upgrader& up, settings const& s, behaviour const& behave, auto&& on_stream, auto&& on_packet, auto&& on_datagram)
{
    ecdysis::listen_options const options{.at_stop = s.stay ? ecdysis::on_stop::stay : ecdysis::on_stop::end};
    auto const shards = behave.number("shards", 0);
    for (auto const& where : s.listen) {
        auto const colon = where.find(':');
        auto const kind = where.substr(0, colon);
        auto const address = where.substr(colon + 1);
        if (kind == "tcp" && shards > 0) {
            for (auto& one : up.listen_tcp_shards(address, static_cast<std::size_t>(shards), options))
                on_stream(std::move(one));
        } else if (kind == "udp" && shards > 0) {
            for (auto& one : up.bind_udp_shards(address, static_cast<std::size_t>(shards), options))
                on_datagram(std::move(one));
        } else if (kind == "tcp")
            on_stream(up.listen_tcp(address, options));
        else if (kind == "unix")
            on_packet(up.listen_unix(address, options), 0);
        else if (kind == "seqpacket")
            on_packet(up.listen_seqpacket(address, options), 0L);
        else if (kind == "udp")
            on_datagram(up.bind_udp(address, options));
        else if (kind == "datagram")
            on_datagram(up.bind_unix(address, options));
    }
}

void log_ports(event_log const& log, int fd)
{
    ecdysis::error_code ec;
    log.write("listening " + ecdysis::address::bound(ecdysis::os::borrowed_fd{fd}, ec).text() + "\n");
}

void answer_datagrams(int fd, unsigned generation)
{
    char data[512];
    ::sockaddr_storage from{};
    ::socklen_t size = sizeof from;
    for (;; size = sizeof from) {
        auto* const address = reinterpret_cast<::sockaddr*>(&from);
        if (::recvfrom(fd, data, sizeof data, MSG_DONTWAIT, address, &size) < 0)
            return;
        auto const text = answer(generation, false);
        ::sendto(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL, address, size);
    }
}

/// What a generation does before it is ready, right or wrong.
template <class Upgrader>
void start_up(Upgrader& up, behaviour const& behave)
{
    if (behave.is("exit-before-ready"))
        ::_exit(behave.number("exit-before-ready", 3));
    if (behave.is("abort-before-ready"))
        std::abort();
    if (behave.is("segfault-before-ready"))
        ::kill(::getpid(), SIGSEGV);
    if (behave.is("fail-before-ready")) {
        up.fail(behave.value("fail-before-ready"));
        ::_exit(3);
    }
    if (behave.is("fail-and-hang")) {
        up.fail(behave.value("fail-and-hang"));
        hang();
    }
    if (behave.is("hang-before-ready"))
        hang();
    if (behave.is("fork-worker") && ::fork() == 0) {
        ::prctl(PR_SET_NAME, "worker");
        hang();
    }
}

/// Turns `exit-after-ready-frame` into an exit when the commit is about to be awaited.
void after_ready_frame(behaviour const& behave)
{
    if (behave.is("exit-after-ready-frame"))
        std::thread{[] { ::_exit(5); }}.detach();
}

} // namespace host

#define ECDYSIS_HOST_SYNC_sync 1
#define ECDYSIS_HOST_SYNC_asio 0
#define ECDYSIS_JOIN(a, b) a##b
#define ECDYSIS_EXPAND(a, b) ECDYSIS_JOIN(a, b)
#if ECDYSIS_EXPAND(ECDYSIS_HOST_SYNC_, ECDYSIS_TEST_IO)
#    include "host_sync.hpp"
#else
#    include "host_asio.hpp"
#endif

using namespace host;

int main(int argc, char** argv)
{
    auto s = parse(argc, argv);
    behaviour const behave{s.behave};
    if (behave.is("crash-before-upgrader"))
        ::_exit(behave.number("crash-before-upgrader", 3));
    if (behave.is("close-from-3")) {
        ::close_range(3, ~0U, 0);
        hang();
    }
    if (behave.is("ignore-sigchld"))
        ::signal(SIGCHLD, SIG_IGN);
    event_log const log{s.log};
    s.options.observer = [&log](ecdysis::event const& e) { log.write(e); };
    try {
        return run(s, behave, log);
    } catch (std::exception const& e) {
        log.write(std::string{"error "} + e.what() + "\n");
        std::cerr << e.what() << '\n';
        return 1;
    }
}
