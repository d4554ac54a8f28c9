// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/notify/systemd.hpp>
#include <ecdysis/os/identity.hpp>

#define BOOST_TEST_MODULE notify_systemd
#include <boost/test/unit_test.hpp>

#include "../systemd/place.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace notify = ecdysis::notify;
namespace os = ecdysis::os;
using ecdysis::error_code;
using kind = notify::step::kind;
namespace sys = boost::system::errc;
using namespace std::chrono_literals;
using namespace std::string_view_literals;

static_assert(notify::Policy<notify::systemd>);
static_assert(std::is_nothrow_default_constructible_v<notify::systemd>);
static_assert(std::is_nothrow_move_constructible_v<notify::systemd>);
static_assert(std::is_nothrow_move_assignable_v<notify::systemd>);
static_assert(!std::is_copy_constructible_v<notify::systemd>);
static_assert(std::is_aggregate_v<notify::systemd::options>);

namespace {

/// Whether `fd` gets readable (or hung up) within a time that only a broken test needs.
bool readable(os::borrowed_fd fd, std::chrono::milliseconds within = 10s)
{
    ::pollfd entry{fd.get(), POLLIN, 0};
    return ::poll(&entry, 1, static_cast<int>(within.count())) == 1;
}

struct message
{
    std::string text;
    std::vector<os::owned_fd> descriptors;
};

/// The manager's end: what it was sent, message by message.
class manager
{
public:
    explicit manager(std::string name) : name_{std::move(name)}
    {
        ::sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name_.copy(address.sun_path, name_.size());
        if (name_[0] == '@')
            address.sun_path[0] = '\0';
        auto const size = offsetof(sockaddr_un, sun_path) + name_.size() + (name_[0] == '@' ? 0 : 1);
        socket_ = os::owned_fd{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        if (::bind(socket_.get(), reinterpret_cast<::sockaddr*>(&address), static_cast<socklen_t>(size)) != 0)
            throw std::runtime_error{"bind " + name_ + ": " + std::strerror(errno)};
    }

    [[nodiscard]] std::string const& name() const { return name_; }
    [[nodiscard]] bool idle() const { return !readable(socket_, 0s); }

    message receive()
    {
        message result;
        if (!readable(socket_))
            throw std::runtime_error{"nothing was sent"};
        std::array<char, 4097> bytes;
        alignas(::cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control;
        ::iovec data{bytes.data(), bytes.size()};
        ::msghdr header{};
        header.msg_iov = &data;
        header.msg_iovlen = 1;
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        auto const size = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
        if (size < 0 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
            throw std::runtime_error{"recvmsg"};
        result.text.assign(bytes.data(), static_cast<std::size_t>(size));
        for (auto* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
            if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
                continue;
            for (std::size_t at = 0; at < part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
                int number = -1;
                std::memcpy(&number, CMSG_DATA(part) + at, sizeof number);
                result.descriptors.emplace_back(number);
            }
        }
        return result;
    }

private:
    std::string name_;
    os::owned_fd socket_;
};

std::string abstract_name() { return "@ecdysis-notify-" + std::to_string(::getpid()); }

/// The numbers of all open descriptors.
std::set<int> descriptors()
{
    std::set<int> result;
    for (int number = 0; number < 1024; ++number)
        if (::fcntl(number, F_GETFD) != -1)
            result.insert(number);
    return result;
}

/// No further descriptor can be opened until the end of the scope.
class full_table
{
public:
    full_table()
    {
        // UBSan opens a pipe to look at an object of a type that is new to it: let it meet the category before.
        error_code const met{EMFILE, boost::system::system_category()};
        BOOST_TEST(met == sys::too_many_files_open);
        ::getrlimit(RLIMIT_NOFILE, &old_);
        os::owned_fd const lowest{::dup(0)};
        ::rlimit limit = old_;
        limit.rlim_cur = static_cast<rlim_t>(lowest.get());
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    full_table(full_table const&) = delete;
    full_table& operator=(full_table const&) = delete;
    ~full_table() { ::setrlimit(RLIMIT_NOFILE, &old_); }

private:
    ::rlimit old_{};
};

std::int64_t monotonic_microseconds()
{
    ::timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000;
}

/// A manager at a path, NOTIFY_SOCKET that names it, and the policy that talks to it.
struct supervised
{
    directory where;
    manager peer{where / "notify"};
    variable socket{"NOTIFY_SOCKET", peer.name()};
    notify::systemd policy;

    error_code send(notify::step const& what)
    {
        error_code ec = ecdysis::errc::busy;
        policy.send(what, ec);
        return ec;
    }
    std::string sent(notify::step const& what)
    {
        auto const ec = send(what);
        BOOST_TEST(!ec, ec.message());
        auto received = peer.receive();
        BOOST_TEST(received.descriptors.size() == (what.descriptor ? 1U : 0U));
        BOOST_TEST(peer.idle(), "more than one datagram");
        return received.text;
    }
    std::string status(std::string_view words)
    {
        auto const text = sent({.what = kind::status, .status = words});
        BOOST_TEST(text.starts_with("STATUS="));
        return text.substr("STATUS="sv.size());
    }
};

error_code checked(notify::systemd const& policy)
{
    error_code ec = ecdysis::errc::busy;
    policy.check(ec);
    return ec;
}

/// What `check` says of this NOTIFY_SOCKET; and that `send` and `barrier` say the same.
error_code refused(std::string const& value)
{
    variable const socket{"NOTIFY_SOCKET", value};
    notify::systemd policy;
    auto const ec = checked(policy);
    BOOST_TEST(!policy.supervised());
    error_code other;
    policy.send({.what = kind::ready}, other);
    BOOST_TEST(other == ec);
    other.clear();
    BOOST_TEST(!policy.barrier(other));
    BOOST_TEST(other == ec);
    return ec;
}

} // namespace

BOOST_AUTO_TEST_SUITE(steps)

BOOST_FIXTURE_TEST_CASE(each_is_one_datagram_of_exactly_these_bytes, supervised)
{
    BOOST_TEST(!checked(policy));
    BOOST_TEST(policy.supervised());
    BOOST_TEST(sent({.what = kind::ready}) == "READY=1");
    BOOST_TEST(sent({.what = kind::ready, .status = "serving"}) == "READY=1\nSTATUS=serving");
    BOOST_TEST(sent({.what = kind::handing_over, .child = os::process_id{4711}}) == "MAINPID=4711\nREADY=1");
    BOOST_TEST(sent({.what = kind::handing_over, .status = "generation 1", .child = os::process_id{4711}}) ==
               "MAINPID=4711\nREADY=1\nSTATUS=generation 1");
    BOOST_TEST(sent({.what = kind::failed, .status = "exit status 3"}) == "READY=1\nSTATUS=exit status 3");
    BOOST_TEST(sent({.what = kind::failed}) == "READY=1");
    BOOST_TEST(sent({.what = kind::failed, .child = os::process_id{4711}}) == "MAINPID=4711\nREADY=1");
    BOOST_TEST(sent({.what = kind::unstore, .name = "tcp 80"}) == "FDSTOREREMOVE=1\nFDNAME=tcp 80");
    BOOST_TEST(sent({.what = kind::stopping}) == "STOPPING=1");
    BOOST_TEST(sent({.what = kind::stopping, .status = "draining"}) == "STOPPING=1\nSTATUS=draining");
    BOOST_TEST(sent({.what = kind::status, .status = "12 connections"}) == "STATUS=12 connections");
    BOOST_TEST(sent({.what = kind::extend, .extra = 90s}) == "EXTEND_TIMEOUT_USEC=90000000");
    BOOST_TEST(sent({.what = kind::watchdog}) == "WATCHDOG=1");
}

BOOST_FIXTURE_TEST_CASE(reloading_carries_the_time_of_now, supervised)
{
    auto const before = monotonic_microseconds();
    auto const text = sent({.what = kind::reloading, .status = "upgrade"});
    auto const after = monotonic_microseconds();

    auto const start = "RELOADING=1\nMONOTONIC_USEC="sv;
    auto const end = "\nSTATUS=upgrade"sv;
    BOOST_REQUIRE(text.starts_with(start));
    BOOST_REQUIRE(text.ends_with(end));
    auto const digits = text.substr(start.size(), text.size() - start.size() - end.size());
    BOOST_TEST(digits.find_first_not_of("0123456789") == std::string::npos);
    BOOST_TEST(std::stoll(digits) >= before);
    BOOST_TEST(std::stoll(digits) <= after);
    BOOST_TEST(sent({.what = kind::reloading}).starts_with(start));
}

BOOST_FIXTURE_TEST_CASE(what_is_to_be_kept_travels_along, supervised)
{
    os::owned_fd const kept{::memfd_create("kept", MFD_CLOEXEC)};
    BOOST_TEST(!send({.what = kind::store, .name = "tcp 80", .descriptor = kept}));
    auto const received = peer.receive();
    BOOST_TEST(received.text == "FDSTORE=1\nFDPOLL=0\nFDNAME=tcp 80");
    BOOST_REQUIRE(received.descriptors.size() == 1U);
    error_code ec;
    BOOST_TEST((os::identity_of(os::status_of(received.descriptors[0], ec)) == os::identity_of(os::status_of(kept, ec))));
    BOOST_TEST(peer.idle());
}

BOOST_FIXTURE_TEST_CASE(a_status_without_words_sends_nothing, supervised)
{
    BOOST_TEST(!send({.what = kind::status}));
    BOOST_TEST(peer.idle());
}

BOOST_FIXTURE_TEST_CASE(what_makes_no_sense_is_refused_and_not_sent, supervised)
{
    BOOST_TEST(send({.what = kind::handing_over}) == sys::invalid_argument);
    BOOST_TEST(send({.what = kind::handing_over, .child = os::process_id{0}}) == sys::invalid_argument);
    BOOST_TEST(send({.what = kind::extend}) == sys::invalid_argument);
    BOOST_TEST(send({.what = kind::extend, .extra = -1us}) == sys::invalid_argument);
    os::borrowed_fd const input{0};
    for (std::string const name : {"", "a:b", "a\nb", "\x7f", "\xc3\xa4"})
        BOOST_TEST(send({.what = kind::store, .name = name, .descriptor = input}) == sys::invalid_argument, name);
    BOOST_TEST(send({.what = kind::store, .name = std::string(256, 'x'), .descriptor = input}) == sys::invalid_argument);
    BOOST_TEST(send({.what = kind::store, .name = "tcp"}) == sys::invalid_argument);
    BOOST_TEST(send({.what = kind::unstore}) == sys::invalid_argument);
    BOOST_TEST(peer.idle());
}

BOOST_FIXTURE_TEST_CASE(the_largest_numbers_and_the_longest_status_fit, supervised)
{
    std::string const words(5000, 'x');
    auto const text = sent({.what = kind::extend, .status = words, .extra = std::chrono::microseconds::max()});
    BOOST_TEST(text == "EXTEND_TIMEOUT_USEC=9223372036854775807\nSTATUS=" +
                           std::string(notify::systemd::status_limit, 'x'));
    auto const child = os::process_id{2147483647};
    BOOST_TEST(sent({.what = kind::handing_over, .status = words, .child = child}) ==
               "MAINPID=2147483647\nREADY=1\nSTATUS=" + std::string(notify::systemd::status_limit, 'x'));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(status_text)

BOOST_FIXTURE_TEST_CASE(cannot_smuggle_an_assignment, supervised)
{
    BOOST_TEST(status("bad config\nMAINPID=1\r\nFDSTORE=1") == "bad config MAINPID=1  FDSTORE=1");
    BOOST_TEST(status("a\0b\tc\x1b[31md\x7f"sv) == "a b c [31md ");
    BOOST_TEST(status("a\u0085b\u009bc\u2028d\u2029e") == "a b c d e"); // the other line breaks, and CSI in one character
    BOOST_TEST(status("\n") == " ");
}

BOOST_FIXTURE_TEST_CASE(is_always_utf8, supervised)
{
    auto const fine = "gr\u00fc\u00df \u4e16\u754c \U0001f98b \u00a0 \ufffd \U0010fffd"sv;
    BOOST_TEST(status(fine) == fine);
    BOOST_TEST(status("a\x80z") == "a?z");               // a continuation alone
    BOOST_TEST(status("a\xc3") == "a?");                 // unfinished at the end
    BOOST_TEST(status("a\xe4\xb8z") == "a??z");          // unfinished before another
    BOOST_TEST(status("a\xf0\x9f\xa6") == "a???");
    BOOST_TEST(status("\xc0\x8a\xc1\xbf") == "????");    // overlong: a line feed in two bytes
    BOOST_TEST(status("\xe0\x80\x8a") == "???");         // in three
    BOOST_TEST(status("\xf0\x80\x80\x8a") == "????");    // in four
    BOOST_TEST(status("\xed\xa0\x80") == "???");         // a surrogate
    BOOST_TEST(status("\xef\xbf\xbf") == "???");         // noncharacters
    BOOST_TEST(status("\xef\xb7\x90") == "???");
    BOOST_TEST(status("\xf4\x90\x80\x80") == "????");    // past the last
    BOOST_TEST(status("\xf5\xff\xfe") == "???");
}

BOOST_FIXTURE_TEST_CASE(is_cut_between_characters, supervised)
{
    constexpr auto limit = notify::systemd::status_limit;
    std::string const exact(limit, 'x');
    BOOST_TEST(status(exact) == exact);
    BOOST_TEST(status(exact + "y") == exact);
    for (std::string_view const last : {"\u00fc"sv, "\u4e16"sv, "\U0001f98b"sv})
        for (std::size_t missing = 0; missing <= last.size(); ++missing) {
            std::string const start(limit - missing, 'x');
            BOOST_TEST(status(start + std::string{last} + "y") ==
                       (missing == last.size() ? start + std::string{last} : start));
        }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(barrier)

BOOST_FIXTURE_TEST_CASE(is_readable_once_the_manager_has_closed_its_copy, supervised)
{
    auto const before = descriptors();
    {
        BOOST_TEST(!send({.what = kind::ready}));
        error_code ec = ecdysis::errc::busy;
        auto const ours = policy.barrier(ec);
        BOOST_TEST(!ec);
        BOOST_REQUIRE(ours);
        BOOST_TEST(descriptors().size() == before.size() + 1); // our copy of the write end is closed
        BOOST_TEST((::fcntl(ours.get(), F_GETFD) & FD_CLOEXEC) != 0);
        BOOST_TEST((::fcntl(ours.get(), F_GETFL) & O_NONBLOCK) != 0);
        BOOST_TEST(!readable(ours, 0s));

        BOOST_TEST(peer.receive().text == "READY=1");
        auto received = peer.receive();
        BOOST_TEST(received.text == "BARRIER=1");
        BOOST_REQUIRE(received.descriptors.size() == 1U);
        BOOST_TEST((::fcntl(received.descriptors[0].get(), F_GETFL) & O_ACCMODE) == O_WRONLY);
        BOOST_TEST(!readable(ours, 0s));

        received.descriptors.clear();
        BOOST_TEST(readable(ours));
        char byte = 0;
        BOOST_TEST(::read(ours.get(), &byte, 1) == 0);
    }
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_CASE(is_readable_when_the_manager_ends)
{
    directory const where;
    std::optional<manager> peer{where / "notify"};
    variable const socket{"NOTIFY_SOCKET", peer->name()};
    notify::systemd policy;
    error_code ec;
    auto const ours = policy.barrier(ec);
    BOOST_TEST(!ec);
    BOOST_TEST(!readable(ours, 0s));
    peer.reset();
    BOOST_TEST(readable(ours));
}

BOOST_FIXTURE_TEST_CASE(fails_without_a_trace_when_the_table_is_full, supervised)
{
    auto const before = descriptors();
    error_code asked;
    error_code sent;
    {
        full_table const none_left;
        auto const none = policy.barrier(asked);
        policy.send({.what = kind::ready}, sent); // needs no descriptor
    }
    BOOST_TEST(asked == sys::too_many_files_open);
    BOOST_TEST(!sent);
    BOOST_TEST(peer.receive().text == "READY=1");
    BOOST_TEST(peer.idle());
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(notify_socket)

BOOST_AUTO_TEST_CASE(missing_is_an_error_where_it_is_required)
{
    variable const socket{"NOTIFY_SOCKET", std::nullopt};
    notify::systemd policy;
    BOOST_TEST(checked(policy) == make_error_code(ecdysis::errc::no_service_manager));
    BOOST_TEST(!policy.supervised());
    error_code ec;
    policy.send({.what = kind::ready}, ec);
    BOOST_TEST(ec == make_error_code(ecdysis::errc::no_service_manager));
    BOOST_TEST(!policy.barrier(ec));
    BOOST_TEST(ec == make_error_code(ecdysis::errc::no_service_manager));
    BOOST_TEST(refused("") == make_error_code(ecdysis::errc::no_service_manager));
}

BOOST_AUTO_TEST_CASE(missing_makes_every_call_do_nothing_where_it_is_not)
{
    auto const before = descriptors();
    variable const socket{"NOTIFY_SOCKET", std::nullopt};
    notify::systemd policy{{.required = false}};
    BOOST_TEST(!checked(policy));
    BOOST_TEST(!policy.supervised());
    for (auto const what : {kind::ready, kind::reloading, kind::handing_over, kind::failed, kind::stopping,
                            kind::status, kind::extend, kind::watchdog}) {
        error_code ec = ecdysis::errc::busy;
        policy.send({.what = what, .status = "words"}, ec);
        BOOST_TEST(!ec);
    }
    error_code ec = ecdysis::errc::busy;
    BOOST_TEST(!policy.barrier(ec));
    BOOST_TEST(!ec);
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_CASE(what_is_no_unix_socket_is_refused)
{
    BOOST_TEST(refused("vsock:2:1234") == sys::address_family_not_supported);
    BOOST_TEST(refused("vsock-stream:2:1234") == sys::address_family_not_supported);
    BOOST_TEST(refused("run/notify") == sys::address_family_not_supported);
    BOOST_TEST(refused("/") == make_error_code(ecdysis::errc::invalid_address));
    BOOST_TEST(refused("@") == make_error_code(ecdysis::errc::invalid_address));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_used_and_need_not_is_said_and_no_more)
{
    for (std::string const value : {"", "vsock:2:1234", "run/notify", "/", "@"}) {
        variable const socket{"NOTIFY_SOCKET", value};
        notify::systemd policy{{.required = false}};
        BOOST_TEST(!checked(policy), value);
        BOOST_TEST(!policy.supervised());
        error_code ec = ecdysis::errc::busy;
        policy.send({.what = kind::ready}, ec);
        BOOST_TEST(!ec);
        auto const said = policy.advice();
        BOOST_REQUIRE(said.size() == (value.empty() ? 0U : 1U));
        if (!said.empty())
            BOOST_TEST(said.front().starts_with("nobody is told what happens: NOTIFY_SOCKET=" + value + " cannot be used: "));
    }
}

BOOST_AUTO_TEST_CASE(what_is_too_long_is_refused_and_what_just_fits_is_not)
{
    BOOST_TEST(refused("/" + std::string(107, 'x')) == sys::filename_too_long);
    BOOST_TEST(refused("@" + std::string(108, 'x')) == sys::filename_too_long);
    BOOST_TEST(refused("/" + std::string(100'000, 'x')) == sys::filename_too_long);

    directory const where;
    auto const padded = [](std::string start, std::size_t size) { return start + std::string(size - start.size(), 'x'); };
    for (auto const& name : {padded(where / "n", 107), padded(abstract_name(), 108)}) {
        manager peer{name};
        variable const socket{"NOTIFY_SOCKET", name};
        notify::systemd policy;
        BOOST_TEST(!checked(policy));
        error_code ec;
        policy.send({.what = kind::ready}, ec);
        BOOST_TEST(!ec, ec.message());
        BOOST_TEST(peer.receive().text == "READY=1");
    }
}

BOOST_AUTO_TEST_CASE(stores_where_that_was_chosen_and_there_is_a_manager)
{
    {
        manager peer{abstract_name()};
        variable const socket{"NOTIFY_SOCKET", peer.name()};
        BOOST_TEST(!notify::systemd{}.stores());
        BOOST_TEST(notify::systemd{{.store = true}}.stores());
    }
    variable const socket{"NOTIFY_SOCKET", std::nullopt};
    BOOST_TEST(!(notify::systemd{{.required = false, .store = true}}.stores()));
}

BOOST_AUTO_TEST_CASE(abstract_works_too)
{
    manager peer{abstract_name()};
    variable const socket{"NOTIFY_SOCKET", peer.name()};
    notify::systemd policy;
    BOOST_TEST(!checked(policy));
    BOOST_TEST(policy.supervised());
    error_code ec;
    policy.send({.what = kind::ready}, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(peer.receive().text == "READY=1");
    auto const ours = policy.barrier(ec);
    BOOST_TEST(!ec);
    BOOST_TEST(peer.receive().descriptors.size() == 1U);
    BOOST_TEST(readable(ours));
}

BOOST_AUTO_TEST_CASE(is_copied_and_left_for_the_child)
{
    directory const where;
    manager peer{where / "notify"};
    variable const socket{"NOTIFY_SOCKET", peer.name()};
    notify::systemd policy;
    BOOST_TEST(std::getenv("NOTIFY_SOCKET") == peer.name());
    variable const later{"NOTIFY_SOCKET", "/nonexistent/notify"};
    error_code ec;
    policy.send({.what = kind::ready}, ec);
    BOOST_TEST(!ec);
    BOOST_TEST(peer.receive().text == "READY=1");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(trouble)

BOOST_FIXTURE_TEST_CASE(a_manager_that_does_not_read_gives_try_again, supervised)
{
    auto const before = descriptors();
    error_code ec;
    int sent = 0;
    constexpr int bound = 100'000;
    while (!ec && sent < bound) {
        policy.send({.what = kind::watchdog}, ec);
        sent += ec ? 0 : 1;
    }
    BOOST_TEST(sent < bound);
    BOOST_TEST(ec == sys::resource_unavailable_try_again);
    BOOST_TEST(!policy.barrier(ec));
    BOOST_TEST(ec == sys::resource_unavailable_try_again);
    BOOST_TEST(descriptors() == before);

    for (; sent > 0; --sent)
        BOOST_TEST(peer.receive().text == "WATCHDOG=1");
    BOOST_TEST(peer.idle());
    BOOST_TEST(this->sent({.what = kind::ready}) == "READY=1");
}

BOOST_AUTO_TEST_CASE(an_address_without_a_manager_passes_the_error_of_the_system)
{
    auto const before = descriptors();
    {
        directory const where;
        variable const socket{"NOTIFY_SOCKET", where / "notify"};
        notify::systemd policy;
        BOOST_TEST(!checked(policy));
        BOOST_TEST(policy.supervised());
        error_code ec;
        policy.send({.what = kind::ready}, ec);
        BOOST_TEST(ec == sys::no_such_file_or_directory);
        BOOST_TEST((ec.category() == boost::system::system_category()));
        BOOST_TEST(!policy.barrier(ec));
        BOOST_TEST(ec == sys::no_such_file_or_directory);

        { manager const gone{where / "notify"}; } // leaves the path, and nobody behind it
        policy.send({.what = kind::ready}, ec);
        BOOST_TEST(ec == sys::connection_refused);

        std::filesystem::remove(where / "notify");
        manager peer{where / "notify"}; // started again
        policy.send({.what = kind::ready}, ec);
        BOOST_TEST(!ec);
        BOOST_TEST(peer.receive().text == "READY=1");
    }
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_CASE(no_room_for_the_socket_is_an_error_but_still_supervised)
{
    directory const where;
    manager peer{where / "notify"};
    variable const socket{"NOTIFY_SOCKET", peer.name()};
    std::optional<notify::systemd> policy;
    {
        full_table const none_left;
        policy.emplace();
    }
    BOOST_TEST(checked(*policy) == sys::too_many_files_open);
    BOOST_TEST(policy->supervised());
    error_code ec;
    policy->send({.what = kind::ready}, ec);
    BOOST_TEST(ec == sys::too_many_files_open);
    BOOST_TEST(!policy->barrier(ec));
    BOOST_TEST(ec == sys::too_many_files_open);
    BOOST_TEST(peer.idle());
}

BOOST_AUTO_TEST_CASE(one_descriptor_is_held_close_on_exec_and_moves_along)
{
    directory const where;
    manager peer{where / "notify"};
    variable const socket{"NOTIFY_SOCKET", peer.name()};
    auto const before = descriptors();
    {
        notify::systemd first;
        auto const with = descriptors();
        BOOST_REQUIRE(with.size() == before.size() + 1);
        for (int const number : with)
            if (!before.contains(number)) {
                BOOST_TEST((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
                BOOST_TEST((::fcntl(number, F_GETFL) & O_NONBLOCK) != 0);
            }
        notify::systemd second{std::move(first)};
        BOOST_TEST(descriptors() == with);
        error_code ec;
        second.send({.what = kind::ready}, ec);
        BOOST_TEST(!ec);
        BOOST_TEST(peer.receive().text == "READY=1");
    }
    BOOST_TEST(descriptors() == before);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_manager_started_us_if_it_says_so_of_this_process)
{
    variable const socket{"NOTIFY_SOCKET", "/run/none"};
    auto const ours = std::to_string(::getpid());
    auto const started_us = [](std::optional<std::string> const& process) {
        variable const pid{"SYSTEMD_EXEC_PID", process};
        return notify::systemd{}.started_us();
    };
    BOOST_TEST(started_us(ours));
    for (auto const& other : {std::to_string(::getppid()), ours + "x", std::string{}})
        BOOST_TEST(!started_us(other), other);
    BOOST_TEST(!started_us(std::nullopt));
    variable const nowhere{"NOTIFY_SOCKET", std::nullopt};
    variable const pid{"SYSTEMD_EXEC_PID", ours};
    BOOST_TEST(!(notify::systemd{{.required = false}}.started_us()));
}

BOOST_AUTO_TEST_CASE(the_watchdog_interval_is_of_this_process_or_none)
{
    auto const interval = [](std::optional<std::string> const& time, std::optional<std::string> const& process) {
        variable const usec{"WATCHDOG_USEC", time};
        variable const pid{"WATCHDOG_PID", process};
        BOOST_TEST(notify::systemd{{.required = false}}.watchdog_interval().count() == 0);
        return notify::systemd{{.required = false, .watchdog = true}}.watchdog_interval().count();
    };
    auto const ours = std::to_string(::getpid());
    BOOST_TEST(interval("30000000", ours) == 30'000'000);
    BOOST_TEST(interval("30000000", std::nullopt) == 30'000'000);
    BOOST_TEST(interval("30000000", std::to_string(::getppid())) == 0);
    BOOST_TEST(interval("30000000", ours + "x") == 0);
    BOOST_TEST(interval("30000000", "") == 0);
    BOOST_TEST(interval(std::nullopt, ours) == 0);
    BOOST_TEST(interval(std::nullopt, std::nullopt) == 0);
    for (auto const* const bad : {"", "0", "-5", "30s", " 30", "18446744073709551615", "99999999999999999999999"})
        BOOST_TEST(interval(bad, std::nullopt) == 0, bad);
}
