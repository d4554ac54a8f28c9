// SPDX-License-Identifier: BSL-1.0
// Bad input from everywhere: a variable that lies, false parents and false children, strangers at the FIFOs and the
// control sockets, places where nothing can be written. Each ends in words, and in nothing else.
#define BOOST_TEST_MODULE restart_bad_input
#define BOOST_TEST_NO_MAIN
#include "harness.hpp"

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/transport/named_pipe.hpp>
#include <ecdysis/transport/socketpair.hpp>

#include <netinet/in.h>
#include <poll.h>

#include <set>

using namespace restart;
namespace wire = ecdysis::handoff;
using ecdysis::error_code;
using ecdysis::os::borrowed_fd;
using ecdysis::os::owned_fd;

namespace {

/// `f` with the transport that `name` names.
template <class F>
void with_transport(std::string const& name, F&& f)
{
    if (name == "socketpair")
        f(ecdysis::transport::socketpair{});
    else
        f(ecdysis::transport::named_pipe{});
}

std::vector<std::byte> bytes_of(wire::frame const& what)
{
    error_code ec;
    auto const bytes = wire::encode(what, ec);
    BOOST_REQUIRE(!ec);
    return {bytes.bytes().begin(), bytes.bytes().end()};
}

/// A header as it is not to be.
std::vector<std::byte> header(std::uint32_t length, std::uint16_t type, std::uint16_t descriptors = 0)
{
    std::vector<std::byte> result;
    auto const put = [&](std::uint32_t number, int size) {
        for (int i = 0; i != size; ++i)
            result.push_back(static_cast<std::byte>(number >> 8 * i));
    };
    put(length, 4);
    put(type, 2);
    put(descriptors, 2);
    return result;
}

/// One run of host.cpp as nobody should start it, in a directory of its own.
class stray
{
public:
    stray()
    {
        static_cast<void>(family::instance());
    }
    stray(stray const&) = delete;
    stray& operator=(stray const&) = delete;
    ~stray()
    {
        if (pid_ > 0 && !family::instance().ended(pid_))
            ::kill(pid_, SIGKILL);
    }

    [[nodiscard]] std::string path(std::string const& name) const { return directory_ / name; }

    /// `inherited` are its numbers 3, 4, 5 …
    void start(assembly const& built, std::string const& variable, std::vector<int> const& inherited = {},
               std::vector<std::string> arguments = {})
    {
        auto program = built.path();
        std::vector<std::string> words{program, "--log", path("log"), "--manager-optional", "--listen", "127.0.0.1:0"};
        if (!built.has_manager())
            std::erase(words, "--manager-optional");
        words.insert(words.end(), arguments.begin(), arguments.end());
        std::vector<std::string> environment{"TMPDIR=" + directory_.path()};
        if (!variable.empty())
            environment.push_back("ECDYSIS_HANDOFF=" + variable);
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        int const scratch = 200;
        for (std::size_t i = 0; i != inherited.size(); ++i)
            ::posix_spawn_file_actions_adddup2(&actions, inherited[i], scratch + static_cast<int>(i));
        for (std::size_t i = 0; i != inherited.size(); ++i)
            ::posix_spawn_file_actions_adddup2(&actions, scratch + static_cast<int>(i), 3 + static_cast<int>(i));
        ::posix_spawn_file_actions_addclosefrom_np(&actions, 3 + static_cast<int>(inherited.size()));
        int const failure = ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, pointers(words).data(),
                                          pointers(environment).data());
        ::posix_spawn_file_actions_destroy(&actions);
        BOOST_REQUIRE_EQUAL(failure, 0);
    }

    [[nodiscard]] ::pid_t pid() const noexcept { return pid_; }

    /// It has ended by itself, not well, having written an error: that.
    [[nodiscard]] std::string error() const
    {
        std::optional<int> status;
        BOOST_TEST(wait_until([&] { return (status = family::instance().ended(pid_)).has_value(); }));
        BOOST_TEST(WIFEXITED(status.value_or(-1)));
        BOOST_TEST(WEXITSTATUS(status.value_or(-1)) == 1);
        std::ifstream log{path("log")};
        std::string found;
        for (std::string line; std::getline(log, line);)
            if (auto const at = line.find(" error - "); at != line.npos)
                found = line.substr(at + 9);
        return found;
    }

private:
    static std::vector<char*> pointers(std::vector<std::string>& strings)
    {
        std::vector<char*> result;
        for (auto& one : strings)
            result.push_back(one.data());
        result.push_back(nullptr);
        return result;
    }

    folder directory_;
    ::pid_t pid_ = -1;
};

void check_contains(std::string const& text, std::string const& expected)
{
    BOOST_TEST(text.find(expected) != text.npos, "expected ... " << expected << " ..., came " << text);
}

/// The test as a parent, in the words of wire.hpp or none of them.
template <class Transport>
class false_parent
{
public:
    /// `claimed_pid`: whose child it is told to be.
    false_parent(assembly const& built, Transport transport, std::vector<owned_fd> descriptors = {},
                 std::vector<std::string> arguments = {}, ::pid_t claimed_pid = ::getpid())
        : descriptors_{std::move(descriptors)}
    {
        error_code ec;
        std::vector<borrowed_fd> const lent{descriptors_.begin(), descriptors_.end()};
        offer_ = transport.make(lent, ec);
        BOOST_REQUIRE(!ec);
        if constexpr (std::is_same_v<Transport, ecdysis::transport::named_pipe>)
            raw_ = owned_fd{::open(("/proc/self/fd/" + std::to_string(offer_.inherited[0].get())).c_str(), O_WRONLY | O_CLOEXEC)};
        else
            raw_ = owned_fd{::dup(offer_.ours.fd().get())};
        std::vector<int> numbers;
        for (auto const& one : offer_.inherited)
            numbers.push_back(one.get());
        auto const claimed = std::to_string(claimed_pid);
        child_.start(built, std::string{Transport::name} + " " + claimed + " " + claimed + " " + offer_.text, numbers,
                     std::move(arguments));
        offer_.theirs.clear();
        offer_.inherited.clear();
    }

    [[nodiscard]] ::pid_t child() const noexcept { return child_.pid(); }

    /// The child's next frame.
    [[nodiscard]] wire::frame receive()
    {
        std::array<std::byte, wire::max_frame> buffer;
        std::vector<owned_fd> fds;
        for (;;) {
            ::pollfd ready{offer_.ours.fd().get(), POLLIN, 0};
            BOOST_REQUIRE(::poll(&ready, 1, 60'000) == 1);
            error_code ec;
            auto const got = offer_.ours.receive(buffer, fds, ec);
            BOOST_REQUIRE(!ec);
            if (got.what == ecdysis::transport::received::kind::frame)
                return wire::decode(std::span{buffer}.first(got.size), ec);
            BOOST_REQUIRE(got.what == ecdysis::transport::received::kind::again);
        }
    }
    void await_asking() { BOOST_REQUIRE(std::holds_alternative<wire::more>(receive())); }

    void send(std::vector<std::byte> const& bytes)
    {
        BOOST_REQUIRE_EQUAL(::write(raw_.get(), bytes.data(), bytes.size()), static_cast<::ssize_t>(bytes.size()));
    }
    void send(wire::frame const& what, std::vector<borrowed_fd> const& fds = {})
    {
        error_code ec;
        auto const bytes = bytes_of(what);
        offer_.ours.send(bytes, fds, ec);
        BOOST_REQUIRE(!ec);
    }
    /// The answer to the child's asking.
    template <class Frame>
    void answer(Frame const& with)
    {
        await_asking();
        send(with);
    }
    void greet() { answer(wire::frame{wire::hello{.generation = 7}}); }
    void hand_over(std::vector<wire::record> records)
    {
        await_asking();
        send(wire::frame{wire::descriptors{std::move(records)}}, {descriptors_.begin(), descriptors_.end()});
        answer(wire::frame{wire::end{}});
    }
    void close()
    {
        offer_ = {};
        raw_.reset();
    }

    [[nodiscard]] std::string error() const { return child_.error(); }
    /// What the child said of its end, having asked or not.
    [[nodiscard]] std::string words()
    {
        for (;;) {
            auto const said = receive();
            if (auto const* failed = std::get_if<wire::fail>(&said))
                return failed->why;
        }
    }

private:
    std::vector<owned_fd> descriptors_;
    ecdysis::transport::offer<typename Transport::end> offer_;
    owned_fd raw_;
    stray child_;
};

/// Plays the test as a parent that does `play`, and expects the child to end with `words`, which the parent hears.
template <class F>
void play_parent(assembly const& built, std::string const& words, F&& play, std::vector<std::string> arguments = {})
{
    BOOST_TEST_CONTEXT("expecting " << words)
    with_transport(built.transport, [&](auto transport) {
        false_parent parent{built, transport, {}, arguments};
        play(parent);
        check_contains(parent.words(), words);
        check_contains(parent.error(), words);
    });
}

owned_fd tcp_socket(bool bound, bool listening, int type = SOCK_STREAM)
{
    owned_fd result{::socket(AF_INET, type | SOCK_CLOEXEC, 0)};
    ecdysis::address const where{"127.0.0.1:0"};
    if (bound)
        BOOST_REQUIRE(::bind(result.get(), where.data(), where.size()) == 0);
    if (listening)
        BOOST_REQUIRE(::listen(result.get(), 5) == 0);
    return result;
}

/// A child that says what the mode is named after; in a process of its own.
template <class Transport>
int false_child(Transport transport, std::string const& mode, std::string const& text)
{
    error_code ec;
    auto end = transport.adopt(text, ec);
    if (ec)
        return 90;
    int const writer = std::is_same_v<Transport, ecdysis::transport::named_pipe> ? 4 : 3;
    std::vector<owned_fd> fds;
    auto const raw = [&](std::vector<std::byte> const& bytes) { return ::write(writer, bytes.data(), bytes.size()); };
    auto const say = [&](wire::frame const& what) { return raw(bytes_of(what)); };
    auto const hear = [&] {
        for (std::array<std::byte, wire::max_frame> buffer;;) {
            ::pollfd ready{end.fd().get(), POLLIN, 0};
            ::poll(&ready, 1, -1);
            auto const got = end.receive(buffer, fds, ec);
            if (ec || got.what == ecdysis::transport::received::kind::closed)
                ::_exit(91);
            if (got.what == ecdysis::transport::received::kind::frame)
                return wire::decode(std::span{buffer}.first(got.size), ec);
        }
    };
    auto const pull = [&] {
        do
            say(wire::more{ecdysis::os::this_process()});
        while (!std::holds_alternative<wire::end>(hear()));
    };
    auto const live_on = [] {
        for (;;)
            ::pause();
    };
    auto const flood = [&](std::vector<std::byte> const& bytes) {
        ::signal(SIGTERM, SIG_IGN);
        for (;;)
            if (raw(bytes) < 0 && errno == EPIPE)
                ::pause();
    };
    auto const ready = [&](std::size_t count) { return wire::ready{std::vector<bool>(count, true)}; };

    if (mode == "garbage")
        raw(std::vector<std::byte>(500, std::byte{0x5a}));
    else if (mode == "oversize")
        raw(header(0xffff'ffff, 1));
    else if (mode == "short")
        raw(header(3, 1));
    else if (mode == "truncated")
        raw(header(12, 1)), raw(std::vector<std::byte>(1)), ::_exit(7);
    else if (mode == "ready-unasked")
        say(ready(0));
    else if (mode == "wrong-pid")
        say(wire::more{ecdysis::os::process_id{1}});
    else if (mode == "commit")
        say(wire::commit{});
    else if (mode == "stop")
        pull(), say(wire::stop{});
    else if (mode == "wrong-count")
        pull(), say(ready(1000));
    else if (mode == "serving-before-ready")
        pull(), say(wire::serving{});
    else if (mode == "asks-on")
        pull(), say(wire::more{ecdysis::os::this_process()});
    else if (mode == "many-words")
        pull(), say(wire::fail{"\"quoted\"\nsecond line " + std::string(5000, 'x')}), ::_exit(4);
    else if (mode == "closes")
        pull(), ::signal(SIGTERM, SIG_IGN), end = {};
    else if (mode == "flood-unknown")
        pull(), flood(header(wire::header_size, 999));
    else if (mode == "flood-asking")
        flood(bytes_of(wire::more{ecdysis::os::this_process()}));
    else if (mode == "flood-garbage")
        flood(std::vector<std::byte>(4096, std::byte{0xff}));
    else if (mode == "garbage-after-commit") {
        pull();
        say(ready(fds.size()));
        while (!std::holds_alternative<wire::commit>(hear())) {}
        raw(std::vector<std::byte>(500, std::byte{0x5a}));
    }
    live_on();
    return 0;
}

/// The service's next program is this one, as a false child.
void run_next_false(service const& it, std::string const& mode)
{
    it.run_next_script("FALSE_CHILD=" + mode + " exec " + std::filesystem::read_symlink("/proc/self/exe").string());
}

} // namespace

int main(int argc, char** argv)
{
    if (char const* const mode = std::getenv("FALSE_CHILD")) {
        std::string const variable = std::getenv("ECDYSIS_HANDOFF");
        auto const space = variable.find(' ');
        auto const parent_ends = variable.find(' ', space + 1);
        auto const text = variable.substr(variable.find(' ', parent_ends + 1) + 1);
        int status = 0;
        with_transport(variable.substr(0, space), [&](auto transport) { status = false_child(transport, mode, text); });
        return status;
    }
    return boost::unit_test::unit_test_main(init_unit_test, argc, argv);
}

// ---- the variable

RESTART_TEST(a_variable_that_lies)
{
    owned_fd const file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    int pair[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    owned_fd const one{pair[0]}, other{pair[1]};
    auto const me = std::to_string(::getpid());
    auto const mine = built.transport + " " + me + " " + me + " ";
    bool const is_pair = built.transport == "socketpair";
    std::string const unreadable = "ECDYSIS_HANDOFF cannot be read";
    std::string const stale = "ECDYSIS_HANDOFF does not belong to this process; remove it from the environment";
    for (auto const& [variable, expected] : std::vector<std::pair<std::string, std::string>>{
             {" ", unreadable},
             {"\xff\xfe garbage", "take over by " + built.transport + " from a parent that hands over by \xff\xfe"},
             {built.transport, unreadable},
             {built.transport + " ", unreadable},
             {built.transport + " x " + me + " 3 0:5", unreadable},
             {built.transport + " " + me + " x 3 0:5", unreadable},
             {built.transport + " 4294967296 " + me + " 3 0:5", unreadable},
             {mine, unreadable},
             {mine + "x", unreadable},
             {mine + "-3 -1 0:0 0:0", unreadable},
             {mine + "99999999999999999999 1:1", unreadable},
             {mine + "2147483647 2147483647 1:1 1:1", unreadable},
             {mine + std::string(100'000, '7'), unreadable},
             {mine + (is_pair ? "3" : "3 0 1:1"), unreadable},
             {mine + (is_pair ? "77 0:5" : "77 1 0:5 0:6"), stale}, // not open
             {mine + (is_pair ? "3 0:5" : "3 1 0:5 0:6"), stale},   // other files
             {mine + (is_pair ? "4 0:5" : "3 200 0:5 0:6"), stale},
             {built.with_other_transport().transport + " 3 0:5", "parent and child are built with different transports"},
         }) {
        stray it;
        it.start(built, variable, {file.get(), one.get(), other.get()});
        check_contains(it.error(), expected);
    }
}

RESTART_TEST(a_variable_that_leaked)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    one.behave("claimed stop");
    auto asker = one.at_control();
    one.wait_for("handed_over");
    auto const child = one.child();
    BOOST_REQUIRE(wait_until([&] { return look_at(child)->state == 'T'; })); // or it would miss SIGCONT
    std::ifstream environment{"/proc/" + std::to_string(child) + "/environ"};
    std::string variable;
    for (std::string each; std::getline(environment, each, '\0');)
        if (each.starts_with("ECDYSIS_HANDOFF="))
            variable = each.substr(each.find('=') + 1);
    BOOST_REQUIRE(!variable.empty());
    owned_fd const file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    for (auto const& numbers : {std::vector<int>{}, std::vector<int>(12, file.get())}) {
        stray it;
        it.start(built, variable, numbers);
        check_contains(it.error(), "does not belong to this process");
    }
    ::kill(child, SIGCONT);
    BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
    one.behave("");
    one.check_succeeded(before);
    one.stop();
}

// ---- false parents

RESTART_TEST(a_parent_that_sends_nonsense)
{
    std::string const corrupt = "read the handoff: the handoff is corrupt";
    play_parent(built, corrupt, [](auto& parent) { parent.answer(std::vector<std::byte>(300, std::byte{0x5a})); });
    play_parent(built, corrupt, [](auto& parent) { parent.answer(header(3, 2)); });
    play_parent(built, corrupt, [](auto& parent) { parent.answer(header(0xffff'ffff, 2)); });
    play_parent(built, corrupt, [](auto& parent) { parent.answer(header(wire::header_size, 3, 300)); });
    play_parent(built, corrupt, [](auto& parent) { // more descriptors than come
        parent.greet();
        parent.answer(header(wire::header_size, 3, 5));
    });
    play_parent(built, corrupt, [](auto& parent) { // a hello without its fields
        auto short_hello = header(wire::header_size + 2, 2);
        short_hello.push_back(std::byte{wire::protocol_version});
        short_hello.push_back(std::byte{0});
        parent.answer(short_hello);
    });
    std::string const out_of_turn = " came out of turn: the handoff is corrupt";
    play_parent(built, "end" + out_of_turn, [](auto& parent) { parent.answer(wire::frame{wire::end{}}); });
    play_parent(built, "descriptors" + out_of_turn,
                [](auto& parent) { parent.answer(wire::frame{wire::descriptors{}}); });
    play_parent(built, "a second hello" + out_of_turn, [](auto& parent) { parent.greet(), parent.greet(); });
    play_parent(built, "a frame that only a child sends" + out_of_turn,
                [](auto& parent) { parent.answer(wire::frame{wire::serving{}}); });
    play_parent(built, "the parent speaks version 77, this program version 2: parent and child speak different versions",
                [](auto& parent) { parent.answer(wire::frame{wire::hello{.version = 77}}); });
    play_parent(built, "the parent did not hand over in time", [](auto& parent) { parent.greet(); },
                {"--handoff-timeout", "100"});
}

// Who is not the child says who it is, before it reads anything.
RESTART_TEST(a_parent_that_is_somebody_else)
{
    auto const check = [&](::pid_t pid, std::string const& why) {
        with_transport(built.transport, [&](auto transport) {
            false_parent parent{built, transport, {}, {}, pid};
            auto const said = parent.receive();
            auto const* asks = std::get_if<wire::more>(&said);
            BOOST_TEST((asks != nullptr && asks->sender == ecdysis::os::process_id{parent.child()}));
            check_contains(parent.error(), "take over from pid " + std::to_string(pid) + "; our parent process is pid " +
                                               std::to_string(::getpid()) + ": " + why);
        });
    };
    check(1, "started through a wrapper that forks; use exec in it");
    check(2147483647, "the parent ended before this generation could take over");
}

RESTART_TEST(a_parent_that_closes)
{
    auto const check = [&](auto&& play, std::string const& words) {
        with_transport(built.transport, [&](auto transport) {
            false_parent parent{built, transport};
            play(parent);
            parent.close();
            check_contains(parent.error(), words);
        });
    };
    check([](auto& parent) { parent.await_asking(); }, "the handoff was closed before it was complete");
    check([](auto& parent) { parent.greet(), parent.await_asking(); }, "the handoff was closed before it was complete");
    check([](auto& parent) { parent.answer(header(500, 2)); }, "the handoff is corrupt"); // in the middle of a frame
}

RESTART_TEST(a_parent_that_hands_over_something_else)
{
    auto const check = [&](owned_fd fd, std::string const& came) {
        with_transport(built.transport, [&](auto transport) {
            std::vector<owned_fd> descriptors;
            descriptors.push_back(std::move(fd));
            false_parent parent{built, transport, std::move(descriptors)};
            parent.greet();
            parent.hand_over({{.kind = wire::descriptor_kind::listener, .name = "tcp 127.0.0.1:0"}});
            auto const words = "claim tcp 127.0.0.1:0: expected a listening tcp socket on 127.0.0.1:0, came " + came;
            check_contains(parent.words(), words);
            check_contains(parent.error(), words);
        });
    };
    check(owned_fd{::open("/dev/null", O_RDWR | O_CLOEXEC)}, "no socket (Socket operation on non-socket)");
    check(tcp_socket(false, false), "one on 0.0.0.0:0");
    check(tcp_socket(true, false), "one that does not listen");
    check(tcp_socket(true, false, SOCK_DGRAM), "a socket of type 2 where 1 is asked");
    check(owned_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)}, "one on ");
    owned_fd elsewhere{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ecdysis::address const where{"127.0.0.2:0"};
    BOOST_REQUIRE(::bind(elsewhere.get(), where.data(), where.size()) == 0 && ::listen(elsewhere.get(), 1) == 0);
    check(std::move(elsewhere), "one on 127.0.0.2:");
}

// ---- false children

RESTART_TEST_OF_OTHER_PROGRAMS(a_child_that_sends_nonsense)
{
    service one{built, {.arguments = {"--ready-timeout", "500", "--kill-grace", "100"}}};
    auto const before = one.look();
    prober load{one.address()};
    std::string const senseless = "reason=\"what the child said makes no sense: the handoff is corrupt\"";
    auto const out_of_turn = [](std::string const& said) { return "reason=\"protocol error: the child sent `" + said + "` while "; };
    for (auto const& [mode, expected] : std::vector<std::pair<std::string, std::string>>{
             {"garbage", "failed phase=handing-over " + senseless},
             {"oversize", "failed phase=handing-over " + senseless},
             {"short", "failed phase=handing-over " + senseless},
             {"truncated", "failed phase=handing-over reason=\""}, // whichever is seen first
             {"ready-unasked", "failed phase=handing-over " + out_of_turn("ready")},
             {"wrong-pid", "failed phase=handing-over reason=\"pid 1 answers instead of pid "},
             {"commit", "failed phase=handing-over " + out_of_turn("commit")},
             {"stop", "failed phase=starting " + out_of_turn("stop")},
             {"wrong-count", "failed phase=starting reason=\"the child claims from 1000 descriptors, but got 5: the handoff is corrupt\""},
             {"serving-before-ready", "failed phase=starting " + out_of_turn("serving")},
             {"asks-on", "failed phase=starting " + out_of_turn("more")},
             {"many-words", "failed phase=starting reason=\"exit status 4: 'quoted' second line xxx"},
             {"closes", "failed phase=starting reason=\"closed the handoff, and did not end\""},
             {"flood-unknown", "failed phase=starting reason=\"not ready within 500 ms\""},
             {"flood-asking", "failed phase="},
             {"flood-garbage", "failed phase=handing-over " + senseless},
         }) {
        run_next_false(one, mode);
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with(expected), mode << ": " << line);
        BOOST_TEST(load.go_on());
        one.check_nothing_left();
    }
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    one.check_unharmed(before);
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.check_succeeded(before);
    one.stop();
}

RESTART_TEST_OF_OTHER_PROGRAMS(a_child_that_sends_nonsense_after_commit)
{
    service one{built, {.arguments = {"--kill-grace", "200"}}};
    auto const before = one.look();
    prober load{one.address()};
    run_next_false(one, "garbage-after-commit");
    auto const line = one.upgrade();
    BOOST_TEST(line == "failed phase=serving reason=\"what the child said makes no sense: the handoff is corrupt\"", line);
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    one.check_unharmed(before); // the child, which does not say that it stops, is gone
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.stop();
}

RESTART_TEST_OF_OTHER_PROGRAMS(a_program_that_starts_the_service_twice)
{
    service one{built};
    one.run_next_script("\"$HOST\" \"$@\" &\nexec \"$HOST\" \"$@\"");
    prober load{one.address()};
    auto const line = one.upgrade();
    // The wrong one asks, which ends the upgrade, unless it comes too late for that. It never reads.
    BOOST_TEST((line.starts_with("ok ") || line.ends_with("started through a wrapper that forks; use exec in it\"")), line);
    BOOST_TEST(load.go_on());
    BOOST_TEST(wait_until([] { // the other one is a zombie where the one is its parent: bash's child, not the library's
        auto left = family::instance().living();
        std::erase_if(left, [](auto const& each) { return each.state == 'Z' || is_helper(each); });
        return left.size() == 1;
    }));
    one.run_next_well();
    BOOST_TEST(one.upgrade().starts_with("ok "));
    BOOST_TEST(load.go_on());
    auto const counts = load.stop();
    BOOST_TEST(counts.failed() == 0U, counts.text());
    one.stop();
}

// ---- strangers

RESTART_TEST(a_fifo_that_someone_else_opened)
{
    if (built.transport != "named_pipe")
        return;
    service one{built, {.arguments = {"--kill-grace", "100"}, .probed = answers_all}}; // a stopped child does not hear SIGTERM
    auto const before = one.settled();
    auto const open_end = [&](int number) { // of the child that is stopped at its beginning
        auto const child = one.child();
        BOOST_REQUIRE(wait_until([&] { return look_at(child)->state == 'T'; }));
        auto const name = "/proc/" + std::to_string(child) + "/fd/" + std::to_string(number);
        return std::pair{child, owned_fd{::open(name.c_str(), O_RDWR | O_CLOEXEC)}};
    };
    one.behave("begin stop");
    {
        auto asker = one.at_control();
        one.wait_for("launched", 1);
        auto const [child, fifo] = open_end(4);
        std::vector<std::byte> const garbage(64, std::byte{0x5a});
        BOOST_TEST(::write(fifo.get(), garbage.data(), garbage.size()) == 64);
        auto const line = asker.receive().value_or("");
        BOOST_TEST(line == "failed phase=handing-over reason=\"what the child said makes no sense: the handoff is corrupt\"", line);
    }
    one.check_unharmed(before);
    { // whoever holds both ends cannot keep the child's death, or the parent's, from being seen
        auto asker = one.at_control();
        one.wait_for("launched", 2);
        auto const [child, to_parent] = open_end(4);
        auto const to_child = open_end(3);
        ::kill(child, SIGKILL);
        BOOST_TEST(asker.receive().value_or("") == "failed phase=handing-over reason=\"killed by signal 9 (Killed)\"");
    }
    one.check_unharmed(before);
    { // nor an upgrade
        auto asker = one.at_control();
        one.wait_for("launched", 3);
        auto const [child, to_parent] = open_end(4);
        auto const to_child = open_end(3);
        one.behave("");
        ::kill(child, SIGCONT);
        BOOST_TEST(one.heard(asker.receive().value_or("")).starts_with("ok generation=1 "));
        one.check_succeeded(before);
    }
    one.stop();
}

RESTART_TEST(control_clients_that_misbehave)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    auto const next_generation = [&](unsigned number) { // alone, for its parent says busy until it has heard of it
        auto const parent = one.pid();
        one.expect_generation(number);
        service::check_ended_well(parent);
    };
    {
        auto silent = one.at_control(); // never reads
        next_generation(1);
        auto talking = one.at_control();
        std::string const words(1 << 16, '\xff');
        for (int i = 0; i != 20; ++i)
            ::send(talking.native_handle(), words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        next_generation(2);
        auto const line = talking.receive().value_or("no answer");
        BOOST_TEST(line.starts_with("ok generation=2 "), line);
        static_cast<void>(one.at_control()); // gone at once
        next_generation(3);
        one.check_succeeded(before);
    }
    one.behave("claimed sleep 300");
    std::vector<connection> crowd;
    for (int i = 0; i != 100; ++i)
        crowd.push_back(one.at_control());
    std::size_t ok = 0, busy = 0;
    for (auto& each : crowd) {
        auto const line = one.heard(each.receive().value_or("no answer"));
        ok += line.starts_with("ok ");
        busy += line == "busy";
    }
    BOOST_TEST(ok >= 1U);
    BOOST_TEST(ok + busy == 100U);
    crowd.clear();
    one.behave("");
    one.expect_generation(one.steps("serving").back().generation);
    one.check_succeeded(before);
    one.stop();
}

// ---- where nothing can be written

RESTART_TEST(a_pid_file_that_cannot_be_written)
{
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    std::filesystem::rename(one.path("pid"), one.path("kept"));
    std::filesystem::create_directory(one.path("pid"));
    auto const line = one.upgrade();
    BOOST_TEST(line.starts_with("failed phase=starting reason=\"exit status 1: write the pid file " + one.path("pid") +
                                ": what is there cannot be replaced by uid " + std::to_string(::geteuid()) + ": Is a directory"), line);
    BOOST_TEST(one.steps("child_ready").empty());
    BOOST_TEST(one.ask().pid == before.pid);
    std::filesystem::remove(one.path("pid"));
    std::filesystem::rename(one.path("kept"), one.path("pid"));
    one.check_unharmed(before);
    BOOST_TEST(one.upgrade().starts_with("ok "));
    one.stop();

    for (auto const& [name, expected] : {std::pair{"no/pid", "No such file or directory"},
                                         std::pair{"place", "Is a directory"}}) { // of the first generation
        stray it;
        std::filesystem::create_directory(it.path("place"));
        auto const path = it.path(name);
        it.start(built, {}, {}, {"--pid-file", path});
        // The host says what ready() threw; the observer has heard the sentence.
        check_contains(it.error(), expected);
        std::ifstream log{it.path("log")};
        std::string const text{std::istreambuf_iterator<char>{log}, {}};
        check_contains(text, "write the pid file " + path);
    }
}

RESTART_TEST(a_directory_for_fifos_that_cannot_be_written)
{
    auto const left = [] { // in the other places
        std::set<std::string> found;
        for (auto const* place : {"/tmp", "/run", "/dev/shm"}) {
            std::error_code ec;
            for (std::filesystem::directory_iterator one{place, ec}, end; !ec && one != end; one.increment(ec))
                if (auto const name = one->path().filename().string(); name.size() == 14 && name.starts_with("ecdysis."))
                    found.insert(one->path().string());
        }
        return found;
    };
    auto const before_all = left();
    service one{built, {.probed = answers_all}};
    auto const before = one.settled();
    std::filesystem::remove(one.temporary());
    std::ofstream{one.temporary()}; // no directory any more
    for (auto const* behaviour : {"begin kill", "claimed kill", ""}) {
        one.behave(behaviour);
        auto const line = one.upgrade();
        BOOST_TEST(line.starts_with(*behaviour ? "failed phase=" : "ok generation=1 "), line);
    }
    one.check_succeeded(before);
    one.stop();
    // Others make theirs there as well, but each goes at once.
    auto unknown = left();
    std::erase_if(unknown, [&](auto const& each) { return before_all.contains(each); });
    BOOST_TEST(wait_until([&] {
        std::erase_if(unknown, [](auto const& each) { return !std::filesystem::exists(each); });
        return unknown.empty();
    }, std::chrono::seconds{20}));
    for (auto const& each : unknown)
        BOOST_ERROR("left over: " << each);
}
