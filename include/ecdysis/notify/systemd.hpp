// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_NOTIFY_SYSTEMD_HPP
#define ECDYSIS_NOTIFY_SYSTEMD_HPP

#include <ecdysis/notify/concept.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/message.hpp>
#include <ecdysis/seccomp/rule.hpp>
#include <ecdysis/systemd/unit_check.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ecdysis::notify {

/// Tells systemd what happens, in the protocol of sd_notify(3), without libsystemd. For units of
/// `Type=notify` and `Type=notify-reload`; the default `NotifyAccess=main` is enough.
///
/// Exception safety: nothing here throws or allocates, but for `advice`.
/// Thread safety: all calls but the constructors and the assignment may be made from several threads at
/// once. Construct before starting threads: the constructors read the environment.
/// Lifetimes: one that was moved from may only be destroyed or assigned to.
class systemd
{
public:
    static constexpr auto system_calls = seccomp::declare(
        "notify::systemd", os::send_calls,
        std::array{
            seccomp::calls("socket", "to tell the manager", seccomp::is(0, AF_UNIX),
                           seccomp::is(1, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK), seccomp::is(2, 0)),
            seccomp::calls("pipe2", "the barrier", seccomp::is(1, O_CLOEXEC | O_NONBLOCK)),
            seccomp::calls("getpid", "whether systemd started it"),
            seccomp::calls("getppid", "whether systemd started it"),
            seccomp::calls("openat", "the unit's files, to check its settings", seccomp::has(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)),
            seccomp::calls("newfstatat", "the unit's files"),
            seccomp::calls("fstat", "the unit's files").untested_because("glibc calls newfstatat from 2.33 to 2.38"),
            seccomp::calls("read", "the unit's files"),
            seccomp::calls("getdents64", "the unit's drop-ins")
                .untested_because("a unit needs a service manager; under it the hosts have no filter"),
        });

    /// Given to the upgrader: `upgrader up{options, notify::systemd{{.required = false}}}`.
    struct options
    {
        /// Whether it is an error that NOTIFY_SOCKET is not set (errc::no_service_manager, out of ready()) or names nothing
        /// that can be told. False: then nothing is told to anybody, as with notify::none, and of a name that is none
        /// there is a warning; for a program that also runs from a shell.
        bool required = true;
        /// Keep every listener, datagram socket and what upgrader::keep() is given in the manager's file descriptor store
        /// (FileDescriptorStoreMax= in the unit): when the whole service was killed, the one that is started again claims
        /// them from there, and answers what waited. What came from a socket unit is not kept: the manager has it.
        bool store = false;
        /// Feed the manager's watchdog (WatchdogSec= in the unit) from where the upgrader runs, so that a host whose loop
        /// stands still is found out.
        bool watchdog = false;
    };

    /// The longest status that is sent, in bytes; the rest is cut. The manager drops a whole message of more than 4096.
    static constexpr std::size_t status_limit = 1024;

    /// Whether the manager takes `name` for what it keeps: 1 to 255 printable characters of ASCII, and no colon
    /// (FDNAME= in sd_notify(3); it ignores the whole message otherwise).
    [[nodiscard]] static constexpr bool is_descriptor_name(std::string_view name) noexcept
    {
        return !name.empty() && name.size() <= 255 &&
               std::ranges::all_of(name, [](char c) { return c >= ' ' && c < 127 && c != ':'; });
    }

    /// A manager is required.
    systemd() noexcept : systemd{options{}} {}

    /// Copies NOTIFY_SOCKET and the watchdog's variables, leaves them in the environment (the child needs
    /// them), and opens one datagram socket, close-on-exec and non-blocking. What goes wrong, `check` says.
    explicit systemd(options chosen) noexcept
        : chosen_{chosen},
          started_us_{ecdysis::systemd::is_our_parent_process()},
          watchdog_{chosen.watchdog ? read_watchdog() : std::chrono::microseconds{}}
    {
        auto const where = variable("NOTIFY_SOCKET");
        if (!where.empty())
            set_address(where);
        else if (chosen.required)
            error_ = errc::no_service_manager;
        if (!chosen.required)
            unusable_ = std::exchange(error_, {});
        if (supervised())
            socket_ = os::owned_fd{os::call(
                error_, [] { return ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); })};
    }

    /// Whether the manager can be told at all, as far as it can be known without sending.
    ///
    /// Errors: when required `errc::no_service_manager` if NOTIFY_SOCKET is not set or empty,
    /// `address_family_not_supported` for one that is neither a path nor abstract (`@name`), such as
    /// `vsock:…`, `filename_too_long`, `errc::invalid_address` for `/` or `@` alone. Required or not: what socket(2) said.
    void check(error_code& ec) const noexcept { ec = error_; }

    /// Sends one datagram, to the address and not over a connection, so that a manager that was started
    /// again still hears. Without a manager that is not required it does nothing, without an error.
    ///
    /// | step         | sent, one assignment a line                                            |
    /// | ------------ | ---------------------------------------------------------------------- |
    /// | ready        | `READY=1`                                                              |
    /// | reloading    | `RELOADING=1`, `MONOTONIC_USEC=` when, in microseconds                 |
    /// | handing_over | `MAINPID=` child, `READY=1`: after it the parent is no longer listened to |
    /// | failed       | `READY=1`, with `MAINPID=` child before it if there is one             |
    /// | stopping     | `STOPPING=1`                                                           |
    /// | status       | nothing but that; no datagram without                                  |
    /// | extend       | nothing but that                                                       |
    /// | watchdog     | `WATCHDOG=1`                                                           |
    /// | store        | `FDSTORE=1`, `FDPOLL=0`, `FDNAME=` name, with the descriptor           |
    /// | unstore      | `FDSTOREREMOVE=1`, `FDNAME=` name                                      |
    ///
    /// Each says `EXTEND_TIMEOUT_USEC=` if `extra` is positive, and ends with `STATUS=` if `status` is not empty: UTF-8, at most `status_limit` bytes, never cut inside
    /// a character; a control character or line break becomes a space, what is not UTF-8 a `?` (the
    /// manager ignores a status that is not).
    ///
    /// Errors: those of `check`; `invalid_argument` for handing_over without a child, for an extend that is not
    /// positive, for a store without a descriptor, and for a name that is none; `resource_unavailable_try_again` if the manager's queue is full (no descriptor tells when there
    /// is room: try again by a timer); what sendmsg(2) said, such as ENOENT or ECONNREFUSED without a manager there.
    void send(step const& what, error_code& ec) noexcept
    {
        check(ec);
        if (ec || !supervised())
            return;
        datagram message;
        switch (what.what) {
        case step::kind::ready: message.line("READY=1"); break;
        case step::kind::failed:
            if (os::number(what.child) > 0)
                message.line("MAINPID=", os::number(what.child));
            message.line("READY=1");
            break;
        case step::kind::reloading:
            message.line("RELOADING=1");
            message.line("MONOTONIC_USEC=", microseconds_of(what.when).count());
            break;
        case step::kind::handing_over:
            if (os::number(what.child) <= 0) {
                ec = make_error_code(boost::system::errc::invalid_argument);
                return;
            }
            // In one datagram: READY=1 before it would end a reload while the manager watches the parent still.
            message.line("MAINPID=", os::number(what.child));
            message.line("READY=1");
            break;
        case step::kind::stopping: message.line("STOPPING=1"); break;
        case step::kind::status: break;
        case step::kind::extend:
            if (what.extra.count() <= 0) {
                ec = make_error_code(boost::system::errc::invalid_argument);
                return;
            }
            break;
        case step::kind::watchdog: message.line("WATCHDOG=1"); break;
        case step::kind::store:
        case step::kind::unstore:
            if (!is_descriptor_name(what.name) || (what.what == step::kind::store && !what.descriptor)) {
                ec = make_error_code(boost::system::errc::invalid_argument);
                return;
            }
            if (what.what == step::kind::store) {
                message.line("FDSTORE=1");
                message.line("FDPOLL=0"); // else a listener that was shut down elsewhere would go by itself
            } else {
                message.line("FDSTOREREMOVE=1");
            }
            message.line("FDNAME=", what.name);
            break;
        }
        if (what.extra.count() > 0)
            message.line("EXTEND_TIMEOUT_USEC=", what.extra.count());
        if (!what.status.empty())
            message.status(what.status);
        if (!message.text().empty())
            transmit(message.text(), what.what == step::kind::store ? what.descriptor : os::borrowed_fd{}, ec);
    }

    /// Asks the manager to work through all that was sent before (sd_notify_barrier in sd_notify(3)): it gets the
    /// write end of a pipe and closes it. Gives the read end, close-on-exec and non-blocking, which becomes
    /// readable (end of file) then, and also if the manager ends; empty if there is no manager, or an error.
    ///
    /// Errors: those of `check`; what pipe2(2) said; what sendmsg(2) said, as in `send`;
    /// `resource_unavailable_try_again` also while too many descriptors of this user are in flight (ETOOMANYREFS). After an error nothing is sent and nothing stays open.
    [[nodiscard]] os::owned_fd barrier(error_code& ec) noexcept
    {
        check(ec);
        if (ec || !supervised())
            return {};
        std::array<int, 2> ends{-1, -1};
        os::call(ec, [&] { return ::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK); });
        os::owned_fd ours{ends[0]};
        os::owned_fd const theirs{ends[1]};
        if (!ec)
            transmit("BARRIER=1", theirs, ec);
        if (ec)
            ours.reset();
        return ours;
    }

    /// Whether NOTIFY_SOCKET was set to an address that can be used; also if the socket could not be opened.
    [[nodiscard]] bool supervised() const noexcept { return address_size_ != 0; }

    /// Whether descriptors are to be kept in the store: it was chosen, and there is a manager.
    [[nodiscard]] bool stores() const noexcept { return chosen_.store && supervised(); }

    /// Whether systemd itself executed this process (SYSTEMD_EXEC_PID, systemd 248), and so is its parent process.
    [[nodiscard]] bool started_us() const noexcept { return supervised() && started_us_; }

    /// Within which time the manager wants to hear each `watchdog` step (sd_watchdog_enabled(3)): send one
    /// at half of it. Zero: it does not wait for any, or the option is not set. From WATCHDOG_USEC, unless WATCHDOG_PID
    /// names another process; so a child hears of it only if WATCHDOG_PID is kept out of its environment.
    [[nodiscard]] std::chrono::microseconds watchdog_interval() const noexcept { return watchdog_; }

    /// What in the unit's settings cannot work with what was chosen, from the environment and the unit's own files
    /// (systemd/unit_check.hpp). Nothing in a process that systemd did not execute itself, or about what is not known. And
    /// that nobody is told, where NOTIFY_SOCKET is no address and no manager is required.
    [[nodiscard]] std::vector<std::string> advice() const
    {
        auto result = ecdysis::systemd::advice(ecdysis::systemd::find_unit_facts(),
                                               {.store = chosen_.store, .watchdog = chosen_.watchdog});
        if (unusable_)
            result.push_back("nobody is told what happens: NOTIFY_SOCKET=" + std::string{variable("NOTIFY_SOCKET")} +
                             " cannot be used: " + unusable_.message());
        return result;
    }

private:
    /// The assignments of one message.
    class datagram
    {
    public:
        [[nodiscard]] std::string_view text() const noexcept { return {bytes_.data(), size_}; }

        void line(std::string_view assignment) noexcept
        {
            if (size_ != 0)
                append("\n");
            append(assignment);
        }
        void line(std::string_view name, std::string_view value) noexcept
        {
            line(name);
            append(value);
        }
        void line(std::string_view name, std::int64_t value) noexcept
        {
            std::array<char, 24> digits;
            auto const written = std::to_chars(digits.data(), digits.data() + digits.size(), value);
            line(name);
            append({digits.data(), static_cast<std::size_t>(written.ptr - digits.data())});
        }
        void status(std::string_view words) noexcept
        {
            line("STATUS=");
            auto const start = size_;
            while (!words.empty()) {
                auto const next = first_character(words);
                auto const replacement = next.kind == character::invalid ? "?" : " ";
                auto const shown = next.kind == character::plain ? words.substr(0, next.size) : replacement;
                if (size_ - start + shown.size() > status_limit)
                    return;
                append(shown);
                words.remove_prefix(next.size);
            }
        }

    private:
        void append(std::string_view more) noexcept
        {
            size_ += more.copy(bytes_.data() + size_, bytes_.size() - size_);
        }

        std::array<char, 384 + status_limit> bytes_; // 384: more than the assignments of any step
        std::size_t size_ = 0;
    };

    struct character
    {
        enum { plain, control, invalid } kind;
        std::size_t size; ///< in bytes
    };

    /// The first character of a text that is not empty; valid are what the manager takes as UTF-8: no overlong
    /// forms, surrogates or noncharacters.
    [[nodiscard]] static character first_character(std::string_view text) noexcept
    {
        constexpr character bad{character::invalid, 1};
        constexpr std::array<char32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
        auto const byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
        auto const lead = byte(0);
        std::size_t const size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || text.size() < size)
            return bad;
        char32_t value = size == 1 ? lead : lead & (0x7FU >> size);
        for (std::size_t index = 1; index < size; ++index) {
            if ((byte(index) & 0xC0U) != 0x80)
                return bad;
            value = (value << 6) | (byte(index) & 0x3FU);
        }
        if (value < least[size] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF) ||
            (value >= 0xFDD0 && value <= 0xFDEF) || (value & 0xFFFE) == 0xFFFE)
            return bad;
        bool const breaks = value < 0x20 || (value >= 0x7F && value < 0xA0) || value == 0x2028 || value == 0x2029;
        return {breaks ? character::control : character::plain, size};
    }

    void set_address(std::string_view where) noexcept
    {
        bool const abstract = where.front() == '@';
        // A path ends with a zero byte; the name of an abstract socket starts with one and may fill the rest (unix(7)).
        auto const room = sizeof address_.sun_path - (abstract ? 0 : 1);
        if (!abstract && where.front() != '/')
            error_ = make_error_code(boost::system::errc::address_family_not_supported);
        else if (where.size() == 1)
            error_ = errc::invalid_address;
        else if (where.size() > room)
            error_ = make_error_code(boost::system::errc::filename_too_long);
        if (error_)
            return;
        address_.sun_family = AF_UNIX;
        where.copy(address_.sun_path, where.size());
        if (abstract)
            address_.sun_path[0] = '\0';
        address_size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + where.size() + (abstract ? 0 : 1));
    }

    void transmit(std::string_view text, os::borrowed_fd descriptor, error_code& ec) noexcept
    {
        std::array const beside{descriptor};
        auto const* const where = reinterpret_cast<::sockaddr const*>(&address_);
        os::send_message(socket_, std::as_bytes(std::span{text}), std::span{beside}.first(descriptor ? 1 : 0), 0, ec, where,
                         address_size_);
    }

    /// steady_clock is CLOCK_MONOTONIC, in libstdc++ and libc++ on Linux.
    [[nodiscard]] static std::chrono::microseconds microseconds_of(std::chrono::steady_clock::time_point when) noexcept
    {
        return std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch());
    }

    /// Empty where it is not set. Not secure_getenv(): that hides it from a program that has file capabilities.
    [[nodiscard]] static std::string_view variable(char const* name) noexcept
    {
        char const* const value = std::getenv(name);
        return value != nullptr ? value : "";
    }

    /// The positive number that a variable holds, or 0.
    [[nodiscard]] static std::int64_t positive(std::string_view digits) noexcept
    {
        std::int64_t value = 0;
        auto const end = digits.data() + digits.size();
        auto const [stop, ec] = std::from_chars(digits.data(), end, value);
        return ec == std::errc{} && stop == end ? std::max<std::int64_t>(value, 0) : 0;
    }

    [[nodiscard]] static std::chrono::microseconds read_watchdog() noexcept
    {
        char const* const process = std::getenv("WATCHDOG_PID");
        if (process != nullptr && positive(process) != os::number(os::this_process()))
            return {};
        return std::chrono::microseconds{positive(variable("WATCHDOG_USEC"))};
    }

    options chosen_;
    ::sockaddr_un address_{};
    socklen_t address_size_ = 0; ///< 0: no manager
    error_code error_;
    error_code unusable_; ///< why there is no manager, where none is required
    os::owned_fd socket_;
    bool started_us_;
    std::chrono::microseconds watchdog_;
};

static_assert(Policy<systemd>, "notify::systemd must offer all that notify/concept.hpp asks for");

} // namespace ecdysis::notify

#endif
