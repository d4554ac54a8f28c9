// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_ADDRESS_HPP
#define ECDYSIS_ADDRESS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

namespace ecdysis {

/// An endpoint type of another library, such as Asio's.
template <class E>
concept SocketEndpoint = requires(E const& endpoint) {
    { endpoint.data() } -> std::convertible_to<::sockaddr const*>;
    { endpoint.size() } -> std::convertible_to<std::size_t>;
};

/// Where a socket listens. Numbers only, names are not resolved:
///
///     127.0.0.1:8080   [::1]:8080   [fe80::1%eth0]:8080   /run/service.sock   @abstract
///
/// Constructing throws `error` (errc::invalid_address) from what is none, and quotes it; the text of a Unix path begins
/// with a slash and is at most 107 bytes long. A value never changes afterwards.
class address
{
public:
    /// Reads one of the forms above. The scope of IPv6 is an interface's name or number, the port 0 to 65535.
    address(std::string_view text) : address{}
    {
        if (!parse(text))
            throw error{errc::invalid_address,
                        "read address \"" + std::string{text} +
                            "\": expected 127.0.0.1:8080, [::1]:8080, /run/service.sock or @abstract"};
    }
    address(char const* text) : address{std::string_view{text}} {}
    address(std::string const& text) : address{std::string_view{text}} {}

    /// Copies what another library has. A relative Unix path is made absolute, by the working directory of now and
    /// where that fits: it would mean another file once the host has changed its directory, and in a child, which
    /// starts in the directory of its parent's start. Where it does not fit it stays relative, and is left behind after
    /// such a change.
    template <SocketEndpoint E>
    address(E const& endpoint) : address{endpoint.data(), endpoint.size()}
    {}
    /// The same of `size` bytes, from those of sa_family_t to those of sockaddr_storage.
    address(::sockaddr const* data, std::size_t size) : address{}
    {
        if (size < sizeof(::sa_family_t) || size > sizeof storage_)
            throw error{errc::invalid_address, "read a socket address of " + std::to_string(size) + " bytes"};
        std::memcpy(&storage_, data, size);
        size_ = static_cast<::socklen_t>(size);
        make_absolute();
    }

    /// What `socket` is bound to, as the kernel says it. Errors: what getsockname(2) says.
    [[nodiscard]] static address bound(os::borrowed_fd socket, error_code& ec) noexcept
    {
        address result;
        result.size_ = sizeof result.storage_;
        auto* const data = reinterpret_cast<::sockaddr*>(&result.storage_);
        os::call(ec, [&] { return ::getsockname(socket.get(), data, &result.size_); });
        return result;
    }

    /// For bind(2) and connect(2), as long as this lives.
    [[nodiscard]] ::sockaddr const* data() const noexcept { return reinterpret_cast<::sockaddr const*>(&storage_); }
    /// In bytes.
    [[nodiscard]] ::socklen_t size() const noexcept { return size_; }
    /// AF_INET, AF_INET6, AF_UNIX; or another that a sockaddr came with.
    [[nodiscard]] int family() const noexcept { return storage_.ss_family; }

    /// In the host's byte order; 0 also for a Unix address.
    [[nodiscard]] std::uint16_t port() const noexcept
    {
        if (family() == AF_INET)
            return ntohs(as<::sockaddr_in>().sin_port);
        if (family() == AF_INET6)
            return ntohs(as<::sockaddr_in6>().sin6_port);
        return 0;
    }

    /// [::], with any port: the one address that may stand for IPv4 too.
    [[nodiscard]] bool is_any_v6() const noexcept
    {
        return family() == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&as<::sockaddr_in6>().sin6_addr);
    }

    /// The file of a Unix address; empty for an abstract one and for other families.
    [[nodiscard]] std::string path() const
    {
        auto const name = unix_name();
        return name.empty() || name.front() == '\0' ? std::string{} : name;
    }

    /// As it would be written, so that equal texts are equal addresses.
    [[nodiscard]] std::string text() const
    {
        char buffer[INET6_ADDRSTRLEN] = {};
        switch (family()) {
        case AF_INET: {
            std::string result;
            auto const host = ntohl(as<::sockaddr_in>().sin_addr.s_addr);
            for (int shift = 24; shift >= 0; shift -= 8)
                result.append(std::to_string(host >> shift & 0xff)).push_back(shift == 0 ? ':' : '.');
            return result.append(std::to_string(port()));
        }
        case AF_INET6: {
            auto const& in = as<::sockaddr_in6>();
            ::inet_ntop(AF_INET6, &in.sin6_addr, buffer, sizeof buffer);
            auto const scope = in.sin6_scope_id != 0 ? "%" + std::to_string(in.sin6_scope_id) : std::string{};
            return "[" + std::string{buffer} + scope + "]:" + std::to_string(port());
        }
        case AF_UNIX: {
            auto name = unix_name();
            if (!name.empty() && name.front() == '\0')
                name.front() = '@';
            return name;
        }
        default:
            return "an address of family " + std::to_string(family());
        }
    }

    /// Whether a socket bound to `*this` is what was asked for with `asked`, where port 0 means any.
    [[nodiscard]] bool satisfies(address const& asked) const noexcept
    {
        if (family() != asked.family())
            return false;
        address same_port = *this;
        if (asked.port() == 0)
            same_port.set_port(0);
        if (family() == AF_INET6) {
            // The kernel fills flow info and scope only where they apply: it drops the scope of [::1%lo].
            auto const& a = same_port.as<::sockaddr_in6>();
            auto const& b = asked.as<::sockaddr_in6>();
            return a.sin6_port == b.sin6_port && std::memcmp(&a.sin6_addr, &b.sin6_addr, sizeof a.sin6_addr) == 0 &&
                   (a.sin6_scope_id == 0 || b.sin6_scope_id == 0 || a.sin6_scope_id == b.sin6_scope_id);
        }
        if (family() == AF_INET) {
            auto const& a = same_port.as<::sockaddr_in>();
            auto const& b = asked.as<::sockaddr_in>();
            return a.sin_port == b.sin_port && a.sin_addr.s_addr == b.sin_addr.s_addr;
        }
        return unix_name() == asked.unix_name();
    }

private:
    address() noexcept { std::memset(&storage_, 0, sizeof storage_); }

    template <class T>
    [[nodiscard]] T const& as() const noexcept
    {
        return *reinterpret_cast<T const*>(&storage_);
    }
    template <class T>
    [[nodiscard]] T& as() noexcept
    {
        return *reinterpret_cast<T*>(&storage_);
    }

    [[nodiscard]] std::string unix_name() const
    {
        constexpr auto head = offsetof(::sockaddr_un, sun_path);
        if (family() != AF_UNIX || size_ <= head)
            return {};
        auto const& un = as<::sockaddr_un>();
        auto const length = size_ - head;
        // A path may or may not end in a zero byte; an abstract name begins with one (unix(7)).
        return {un.sun_path, un.sun_path[0] == '\0' ? length : ::strnlen(un.sun_path, length)};
    }

    void set_port(std::uint16_t port) noexcept
    {
        if (family() == AF_INET)
            as<::sockaddr_in>().sin_port = htons(port);
        if (family() == AF_INET6)
            as<::sockaddr_in6>().sin6_port = htons(port);
    }

    [[nodiscard]] bool parse(std::string_view text)
    {
        if (text.find('\0') != text.npos)
            return false;
        if (text.starts_with('/') || text.starts_with('@'))
            return parse_unix(text);
        auto const colon = text.rfind(':');
        if (colon == text.npos)
            return false;
        std::uint16_t port = 0;
        auto const digits = text.substr(colon + 1);
        auto const [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
        if (failure != std::errc{} || end != digits.data() + digits.size())
            return false;
        auto const host = text.substr(0, colon);
        if (host.starts_with('[') && host.ends_with(']'))
            return parse_v6(host.substr(1, host.size() - 2), port);
        auto& in = as<::sockaddr_in>();
        in.sin_family = AF_INET;
        in.sin_port = htons(port);
        size_ = sizeof in;
        return ::inet_pton(AF_INET, std::string{host}.c_str(), &in.sin_addr) == 1;
    }

    [[nodiscard]] bool parse_v6(std::string_view host, std::uint16_t port)
    {
        auto& in = as<::sockaddr_in6>();
        in.sin6_family = AF_INET6;
        in.sin6_port = htons(port);
        size_ = sizeof in;
        if (auto const percent = host.find('%'); percent != host.npos) {
            std::string const scope{host.substr(percent + 1)};
            unsigned number = ::if_nametoindex(scope.c_str());
            if (number == 0) {
                auto const all = scope.data() + scope.size();
                if (auto const [end, failure] = std::from_chars(scope.data(), all, number);
                    failure != std::errc{} || end != all || number == 0)
                    return false;
            }
            in.sin6_scope_id = number;
            host = host.substr(0, percent);
        }
        return ::inet_pton(AF_INET6, std::string{host}.c_str(), &in.sin6_addr) == 1;
    }

    void make_absolute()
    {
        auto const name = unix_name();
        char directory[sizeof(::sockaddr_un::sun_path)];
        // Not one that begins with "(unreachable)" (getcwd(3)); a name that is longer than this does not fit anyway.
        if (name.empty() || name.front() == '\0' || name.front() == '/' ||
            ::getcwd(directory, sizeof directory) == nullptr || directory[0] != '/')
            return;
        std::string whole = directory;
        if (!whole.ends_with('/'))
            whole.push_back('/');
        if (address absolute; absolute.parse_unix(whole + name))
            *this = absolute;
    }

    [[nodiscard]] bool parse_unix(std::string_view name)
    {
        auto& un = as<::sockaddr_un>();
        // One byte less than there is, so that a path always ends in a zero byte.
        if (name.size() < 2 || name.size() >= sizeof un.sun_path)
            return false;
        un.sun_family = AF_UNIX;
        std::memcpy(un.sun_path, name.data(), name.size());
        bool const is_abstract = name.front() == '@';
        if (is_abstract)
            un.sun_path[0] = '\0';
        size_ = static_cast<::socklen_t>(offsetof(::sockaddr_un, sun_path) + name.size() + (is_abstract ? 0 : 1));
        return true;
    }

    ::sockaddr_storage storage_;
    ::socklen_t size_ = 0;
};

/// An address, or what one is made of. A function that gives an error_code takes this and not an `address`, whose
/// conversion from text would throw before the function is entered.
template <class T>
concept AddressLike = std::constructible_from<address, T const&>;

} // namespace ecdysis

#endif
