// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_WIRE_HPP
#define ECDYSIS_HANDOFF_WIRE_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/process.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

/// What parent and child say to each other, and how it looks as bytes. Nothing here does I/O, and every function
/// is total: any bytes decode to a frame or to `errc::corrupt_handoff`, at a cost bounded by `max_frame`.
///
/// A frame is a header {u32 length of the whole frame, u16 type, u16 descriptors that travel with it} and a
/// payload, little-endian. A later version may append fields to a payload or to a record, and add types of frames
/// and kinds of descriptors: this one skips the fields, and gives the types and kinds by their numbers.
namespace ecdysis::handoff {

/// Version 1 told the service manager before commit and had no `yours`: neither side can do without what the other does,
/// so it is refused. From this version on both say what they know, in `hello` and `more`.
inline constexpr std::uint16_t protocol_version = 2;

inline constexpr std::size_t header_size = 8;
/// PIPE_BUF: the most that a pipe takes whole or not at all (pipe(7)).
inline constexpr std::size_t max_frame = 4096;
/// SCM_MAX_FD: the most descriptors that one message carries (unix(7)).
inline constexpr std::size_t max_frame_descriptors = 253;
/// The most descriptors of one handoff: their claims fill one `ready`.
inline constexpr std::size_t max_descriptors = (max_frame - header_size - 4) * 8;

inline constexpr std::size_t max_name = 512;
inline constexpr std::size_t max_bytes = 256;
inline constexpr std::size_t max_reason = 1024;

/// What a descriptor is for. A number that is not listed comes from a later version.
enum class descriptor_kind : std::uint8_t {
    listener = 1,
    datagram = 2,
    connection = 3, ///< a connection, or any other file of the host's
    channel = 4,
    early_state = 5,
    late_state = 6,
    control = 7,
    pid_file = 8,
};

// The flags of `record`. A version that does not know one keeps it, and hands it on.

/// The Unix path is the line's own, to be unlinked by its last generation.
inline constexpr std::uint8_t path_owned = 1;
/// It came from a socket unit: no generation calls listen() on it, changes its path's mode, unlinks that or stores it.
inline constexpr std::uint8_t manager_owned = 2;
/// The service manager's descriptor store was told to keep it.
inline constexpr std::uint8_t in_store = 4;

/// What is said of one descriptor. Kind, name and index are its key.
struct record
{
    descriptor_kind kind{};
    std::uint16_t index = 0;
    std::string name{};  ///< at most `max_name` bytes
    std::string bytes{}; ///< the host's own, at most `max_bytes`
    /// Of the Unix path when it was bound; 0 is none.
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint8_t flags = 0;

    friend bool operator==(record const&, record const&) = default;
};

/// The child asks for the next frame.
struct more
{
    os::process_id sender = os::process_id::none;
    std::uint16_t version = protocol_version; ///< version 1 did not say it
    friend bool operator==(more const&, more const&) = default;
};

/// The parent's first frame. Of a version other than `protocol_version` only the version is known.
struct hello
{
    std::uint16_t version = protocol_version;
    std::uint32_t generation = 0; ///< the child's own number
    std::uint64_t blocked = 0;    ///< the signals that were blocked for its start: bit 0 is signal 1
    friend bool operator==(hello const&, hello const&) = default;
};

/// As many records as descriptors travel with the frame, in the same order.
struct descriptors
{
    std::vector<record> records;
    friend bool operator==(descriptors const&, descriptors const&) = default;
};

/// The parent has handed over all that is needed to start.
struct end
{
    friend bool operator==(end const&, end const&) = default;
};

/// The child could serve. One bit for each descriptor, in the order of sending.
struct ready
{
    std::vector<bool> claimed; ///< at most `max_descriptors`
    friend bool operator==(ready const&, ready const&) = default;
};

/// The child gives up. On both sides of the wire `why` is cut to one line of at most `max_reason` bytes.
struct fail
{
    std::string why;
    friend bool operator==(fail const&, fail const&) = default;
};

/// The parent's answer to `ready`: the child may accept.
struct commit
{
    friend bool operator==(commit const&, commit const&) = default;
};

/// The child accepts.
struct serving
{
    friend bool operator==(serving const&, serving const&) = default;
};

/// Parent to child, after commit: end accepting, drain, end.
struct stop
{
    enum class reason : std::uint8_t {
        service = 0,    ///< the service stops
        partial = 1,    ///< the same, and the service manager is told nothing
        taken_back = 2, ///< the parent serves on
    };
    reason why = reason::service;
    friend bool operator==(stop const&, stop const&) = default;
};

/// The parent asks, at the end of the probation, whether the child's loop runs.
struct alive_question
{
    friend bool operator==(alive_question const&, alive_question const&) = default;
};

/// The child answers from its loop.
struct alive
{
    friend bool operator==(alive const&, alive const&) = default;
};

/// The service is the child's: pid file, watchdog, store, control sockets. Said again where a signal came late.
struct yours
{
    bool again = false; ///< a signal asked for an upgrade meanwhile: begin one
    friend bool operator==(yours const&, yours const&) = default;
};

/// The child has taken the service over. On both sides of the wire `warnings` is cut to one line of at most `max_reason`
/// bytes.
struct taken
{
    std::string warnings; ///< what did not work, for whoever asked; empty: nothing
    friend bool operator==(taken const&, taken const&) = default;
};

/// The child has ended accepting, told so or by a stop of its own, and drains.
struct stopping
{
    bool partial = false; ///< a stop of its own that is a partial one
    friend bool operator==(stopping const&, stopping const&) = default;
};

/// A frame of a type that a later version added; to be skipped.
struct unknown
{
    std::uint16_t type = 0;
    friend bool operator==(unknown const&, unknown const&) = default;
};

/// On the wire, the type of a frame is its place here, counted from 1; so add at the end, before `unknown`.
using frame = std::variant<more, hello, descriptors, end, ready, fail, commit, serving, stop, alive_question, alive, yours,
                           taken, stopping, unknown>;

/// The word for a frame in messages.
[[nodiscard]] inline char const* name(frame const& f) noexcept
{
    constexpr std::array names{"more",    "hello", "descriptors", "end",   "ready", "fail",  "commit",  "serving",
                               "stop", "alive?", "alive", "yours", "taken", "stopping", "a frame of a later version"};
    static_assert(names.size() == std::variant_size_v<frame>);
    return names[f.index()];
}

struct header
{
    std::uint32_t length = 0;
    std::uint16_t type = 0;
    std::uint16_t descriptors = 0;
    friend bool operator==(header const&, header const&) = default;
};

/// The bytes of one frame.
class encoded
{
public:
    [[nodiscard]] std::span<std::byte const> bytes() const noexcept { return std::span{bytes_}.first(size_); }

    /// Appends a number; the caller has checked that it fits.
    template <std::unsigned_integral N>
    void put(N number) noexcept
    {
        for (std::size_t i = 0; i != sizeof(N); ++i)
            bytes_[size_++] = static_cast<std::byte>(number >> (8 * i));
    }
    void put(std::string_view text) noexcept
    {
        put(static_cast<std::uint16_t>(text.size()));
        std::ranges::transform(text, bytes_.begin() + static_cast<std::ptrdiff_t>(size_),
                               [](char c) { return static_cast<std::byte>(c); });
        size_ += text.size();
    }

private:
    std::array<std::byte, max_frame> bytes_{};
    std::size_t size_ = 0;
};

/// Reads from the front of bytes. Once there is too little, it has failed and all it gives is empty.
class reader
{
public:
    explicit reader(std::span<std::byte const> bytes) noexcept : left_{bytes} {}

    [[nodiscard]] bool failed() const noexcept { return failed_; }
    [[nodiscard]] bool at_end() const noexcept { return left_.empty(); }

    [[nodiscard]] std::span<std::byte const> take(std::size_t size) noexcept
    {
        failed_ = failed_ || size > left_.size();
        if (failed_)
            return {};
        auto const taken = left_.first(size);
        left_ = left_.subspan(size);
        return taken;
    }
    template <std::unsigned_integral N>
    [[nodiscard]] N number() noexcept
    {
        std::uint64_t result = 0;
        std::size_t shift = 0;
        for (auto const byte : take(sizeof(N))) {
            result |= std::to_integer<std::uint64_t>(byte) << shift;
            shift += 8;
        }
        return static_cast<N>(result);
    }
    [[nodiscard]] std::string text(std::size_t limit)
    {
        auto const size = number<std::uint16_t>();
        failed_ = failed_ || size > limit;
        auto const bytes = take(size);
        return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
    }
    [[nodiscard]] os::process_id process() noexcept
    {
        return os::process_id{static_cast<pid_t>(number<std::uint32_t>())};
    }

private:
    std::span<std::byte const> left_;
    bool failed_ = false;
};

/// Whether a record's name and bytes are within the limits; if not, `encode` and `pack` refuse it.
[[nodiscard]] inline bool within_limits(record const& r) noexcept
{
    return r.name.size() <= max_name && r.bytes.size() <= max_bytes;
}

/// What a record takes of a frame, with its own length in front.
[[nodiscard]] inline std::size_t encoded_size(record const& r) noexcept
{
    return 2 + 1 + 1 + 2 + 8 + 8 + 2 + r.name.size() + 2 + r.bytes.size();
}

static_assert(header_size + 26 + max_name + max_bytes <= max_frame, "a frame must hold any record");

/// The first records, as one frame.
struct packed
{
    descriptors frame;
    std::size_t taken = 0; ///< how many; 0 only if there were none, or on an error
};

/// How many of `records` from the front one frame holds.
///
/// Errors: `errc::name_too_long` if one of them is not within the limits.
[[nodiscard]] inline std::size_t count_fitting(std::span<record const> records, error_code& ec) noexcept
{
    ec.clear();
    std::size_t taken = 0;
    for (auto size = header_size; taken != records.size() && taken != max_frame_descriptors; ++taken) {
        if (!within_limits(records[taken])) {
            ec = errc::name_too_long;
            return 0;
        }
        size += encoded_size(records[taken]);
        if (size > max_frame)
            break;
    }
    return taken;
}

/// Takes as many of `records` from the front as one frame holds.
///
/// Errors: `errc::name_too_long` if one of them is not within the limits.
[[nodiscard]] inline packed pack(std::span<record const> records, error_code& ec)
{
    auto const some = records.first(count_fitting(records, ec));
    return {{{some.begin(), some.end()}}, some.size()};
}

/// `text` as one line of at most `max_reason` bytes: no control characters, no UTF-8 sequence cut in two.
[[nodiscard]] inline std::string one_line(std::string_view text)
{
    auto size = std::min(text.size(), max_reason);
    auto const inside = [&](std::size_t at) { return at < text.size() && (text[at] & '\xc0') == '\x80'; };
    for (int i = 0; i != 3 && size != 0 && inside(size); ++i)
        --size;
    std::string line{text.substr(0, size)};
    std::ranges::replace_if(line, [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
    return line;
}

// The one field of each frame that has one.

[[nodiscard]] inline std::string_view text_of(fail const& it) noexcept { return it.why; }
[[nodiscard]] inline std::string_view text_of(taken const& it) noexcept { return it.warnings; }
[[nodiscard]] constexpr std::uint8_t byte_of(stop const& it) noexcept { return static_cast<std::uint8_t>(it.why); }
[[nodiscard]] constexpr std::uint8_t byte_of(yours const& it) noexcept { return it.again ? 1 : 0; }
[[nodiscard]] constexpr std::uint8_t byte_of(stopping const& it) noexcept { return it.partial ? 1 : 0; }

/// The bytes of `f`.
///
/// Errors: `errc::name_too_long` if a record is not within the limits, `errc::descriptor_limit` if the records are
/// more than a frame holds (`pack` never gives such) or the claims more than `max_descriptors`.
[[nodiscard]] inline encoded encode(frame const& f, error_code& ec)
{
    ec.clear();
    encoded out;
    auto const begin = [&](std::size_t payload, std::size_t fds = 0) {
        auto const* other = std::get_if<unknown>(&f);
        out.put(static_cast<std::uint32_t>(header_size + payload));
        out.put(other != nullptr ? other->type : static_cast<std::uint16_t>(f.index() + 1));
        out.put(static_cast<std::uint16_t>(fds));
    };
    auto const put_frame = [&](auto const& it) {
        using type = std::remove_cvref_t<decltype(it)>;
        if constexpr (std::same_as<type, more>) {
            begin(4 + 2);
            out.put(static_cast<std::uint32_t>(os::number(it.sender)));
            out.put(it.version);
        } else if constexpr (std::same_as<type, hello>) {
            begin(2 + 4 + 8);
            out.put(it.version);
            out.put(it.generation);
            out.put(it.blocked);
        } else if constexpr (std::same_as<type, descriptors>) {
            auto const fitting = count_fitting(it.records, ec);
            if (!ec && fitting != it.records.size())
                ec = errc::descriptor_limit;
            if (ec)
                return;
            std::size_t payload = 0;
            for (auto const& r : it.records)
                payload += encoded_size(r);
            begin(payload, it.records.size());
            for (auto const& r : it.records) {
                out.put(static_cast<std::uint16_t>(encoded_size(r) - 2));
                out.put(static_cast<std::uint8_t>(r.kind));
                out.put(r.flags);
                out.put(r.index);
                out.put(r.device);
                out.put(r.inode);
                out.put(std::string_view{r.name});
                out.put(std::string_view{r.bytes});
            }
        } else if constexpr (std::same_as<type, ready>) {
            auto const count = it.claimed.size();
            if (count > max_descriptors) {
                ec = errc::descriptor_limit;
                return;
            }
            begin(4 + (count + 7) / 8);
            out.put(static_cast<std::uint32_t>(count));
            for (std::size_t i = 0; i < count; i += 8) {
                std::uint8_t eight = 0;
                for (std::size_t bit = 0; bit != 8 && i + bit != count; ++bit)
                    eight = static_cast<std::uint8_t>(eight | (it.claimed[i + bit] ? 1U << bit : 0U));
                out.put(eight);
            }
        } else if constexpr (std::same_as<type, fail> || std::same_as<type, taken>) {
            auto const line = one_line(text_of(it));
            begin(2 + line.size());
            out.put(std::string_view{line});
        } else if constexpr (std::same_as<type, stop> || std::same_as<type, yours> || std::same_as<type, stopping>) {
            begin(1);
            out.put(byte_of(it));
        } else {
            static_assert(std::is_empty_v<type> || std::same_as<type, unknown>, "say how this frame looks on the wire");
            begin(0);
        }
    };
    std::visit(put_frame, f);
    return out;
}

/// The header of the frame that starts with `bytes`, of which there must be at least `header_size`.
///
/// Errors: `errc::corrupt_handoff` if there are less, or no frame is of that length or number of descriptors.
[[nodiscard]] inline header peek_header(std::span<std::byte const> bytes, error_code& ec) noexcept
{
    reader in{bytes};
    header h;
    h.length = in.number<std::uint32_t>();
    h.type = in.number<std::uint16_t>();
    h.descriptors = in.number<std::uint16_t>();
    if (in.failed() || h.length < header_size || h.length > max_frame || h.descriptors > max_frame_descriptors)
        ec = errc::corrupt_handoff;
    else
        ec.clear();
    return h;
}

/// The frame that `bytes` are. Descriptors may have come along with any type of frame, of a later version; those
/// that no record names are the caller's to close.
///
/// Errors: `errc::corrupt_handoff`; the frame is then meaningless.
[[nodiscard]] inline frame decode(std::span<std::byte const> bytes, error_code& ec)
{
    auto const head = peek_header(bytes, ec);
    if (!ec && head.length != bytes.size())
        ec = errc::corrupt_handoff;
    if (ec)
        return unknown{};

    reader in{bytes.subspan(header_size)};
    auto const read = [&]<std::size_t Type>(std::in_place_index_t<Type>) -> frame {
        using type = std::variant_alternative_t<Type, frame>;
        type result{};
        if constexpr (std::same_as<type, more>) {
            result.sender = in.process();
            result.version = in.at_end() ? std::uint16_t{1} : in.number<std::uint16_t>();
        } else if constexpr (std::same_as<type, hello>) {
            result.version = in.number<std::uint16_t>();
            if (result.version == protocol_version) {
                result.generation = in.number<std::uint32_t>();
                result.blocked = in.number<std::uint64_t>();
            }
        } else if constexpr (std::same_as<type, descriptors>) {
            result.records.reserve(head.descriptors); // at most max_frame_descriptors
            for (std::size_t i = 0; i != head.descriptors && !in.failed(); ++i) {
                reader fields{in.take(in.number<std::uint16_t>())};
                record r;
                r.kind = descriptor_kind{fields.number<std::uint8_t>()};
                r.flags = fields.number<std::uint8_t>();
                r.index = fields.number<std::uint16_t>();
                r.device = fields.number<std::uint64_t>();
                r.inode = fields.number<std::uint64_t>();
                r.name = fields.text(max_name);
                r.bytes = fields.text(max_bytes);
                if (fields.failed())
                    ec = errc::corrupt_handoff;
                result.records.push_back(std::move(r));
            }
        } else if constexpr (std::same_as<type, ready>) {
            auto const count = in.number<std::uint32_t>();
            auto const bits = in.take(std::size_t{count} / 8 + (count % 8 != 0 ? 1 : 0));
            result.claimed.resize(in.failed() ? 0 : count);
            for (std::size_t i = 0; i != result.claimed.size(); ++i)
                result.claimed[i] = (std::to_integer<unsigned>(bits[i / 8]) >> (i % 8) & 1U) != 0;
        } else if constexpr (std::same_as<type, fail>) {
            result.why = one_line(in.text(max_frame));
        } else if constexpr (std::same_as<type, taken>) {
            result.warnings = one_line(in.text(max_frame));
        } else if constexpr (std::same_as<type, stop>) {
            result.why = stop::reason{in.number<std::uint8_t>()};
        } else if constexpr (std::same_as<type, yours>) {
            result.again = in.number<std::uint8_t>() != 0;
        } else if constexpr (std::same_as<type, stopping>) {
            result.partial = in.number<std::uint8_t>() != 0;
        } else if constexpr (std::same_as<type, unknown>) {
            result.type = head.type;
        }
        return result;
    };
    auto const dispatch = [&]<std::size_t... Types>(std::index_sequence<Types...>) {
        frame result = unknown{head.type};
        ((head.type == Types + 1 ? void(result = read(std::in_place_index<Types>)) : void()), ...);
        return result;
    };
    auto result = dispatch(std::make_index_sequence<std::variant_size_v<frame> - 1>{});
    if (in.failed())
        ec = errc::corrupt_handoff;
    return result;
}

} // namespace ecdysis::handoff

#endif
