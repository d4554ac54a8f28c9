// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_INHERITANCE_HPP
#define ECDYSIS_HANDOFF_INHERITANCE_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// What a child got from its parent, until it is claimed.
class inheritance
{
public:
    struct descriptor
    {
        handoff::record record;
        os::owned_fd fd;
        bool claimed = false;
        descriptor* next = nullptr; ///< of the same kind and name, with the same index or a higher one
    };

    void add(record what, os::owned_fd fd)
    {
        arranged_.reset();
        by_key_.clear();
        all_.push_back({std::move(what), std::move(fd)});
    }

    /// The unclaimed descriptor of that name with the lowest index; null if there is none.
    [[nodiscard]] descriptor* find(descriptor_kind kind, std::string_view name)
    {
        // A child claims what its parent has in its parent's order, as a rule. Then there is nothing to look up.
        while (next_ != all_.size() && all_[next_].claimed)
            ++next_;
        if (next_ != all_.size())
            if (auto& next = all_[next_]; next.record.kind == kind && next.record.index == 0 && next.record.name == name)
                return &next;

        arrange(kind);
        auto const at = by_key_.find(key{kind, name});
        if (at == by_key_.end())
            return nullptr;
        auto*& first = at->second.first;
        while (first != nullptr && first->claimed) // is not looked at again
            first = first->next;
        return first;
    }

    /// Finds and takes; an empty descriptor if there is none.
    [[nodiscard]] descriptor take(descriptor_kind kind, std::string_view name)
    {
        auto* const found = find(kind, name);
        if (found == nullptr)
            return {};
        return take(*found);
    }

    [[nodiscard]] static descriptor take(descriptor& found)
    {
        found.claimed = true;
        return {found.record, std::move(found.fd), true};
    }

    /// What was taken can be claimed again.
    void give_back(record const& what, os::owned_fd fd)
    {
        for (auto& one : all_)
            if (one.claimed && one.record == what) {
                one.claimed = false;
                one.fd = std::move(fd);
                break;
            }
        arranged_.reset();
        by_key_.clear();
        next_ = 0;
    }

    [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }
    [[nodiscard]] std::deque<descriptor> const& all() const noexcept { return all_; }

    /// One for each descriptor, in the order of sending.
    [[nodiscard]] std::vector<bool> claims() const
    {
        std::vector<bool> result;
        result.reserve(all_.size());
        for (auto const& one : all_)
            result.push_back(one.claimed);
        return result;
    }

    /// Closes what was not claimed, telling the name of each.
    template <class F>
    void close_unclaimed(F&& tell)
    {
        for (auto& one : all_)
            if (!one.claimed) {
                one.fd.reset();
                tell(one.record.name);
            }
        arranged_.reset();
        by_key_.clear();
        all_.clear();
        next_ = 0;
    }

private:
    struct key
    {
        descriptor_kind kind;
        std::string_view name;

        friend bool operator==(key const&, key const&) noexcept = default;
    };
    struct hash
    {
        std::size_t operator()(key const& of) const noexcept
        {
            return std::hash<std::string_view>{}(of.name) + number(of.kind);
        }
    };
    struct chain
    {
        descriptor* first = nullptr; ///< null also when all have been claimed
        descriptor* last = nullptr;
    };

    static std::size_t number(descriptor_kind kind) noexcept { return static_cast<std::uint8_t>(kind); }

    /// Makes all of a kind known by their names, once.
    void arrange(descriptor_kind kind)
    {
        if (arranged_.test(number(kind)))
            return;
        arranged_.set(number(kind));
        for (auto& one : all_) {
            if (one.record.kind != kind)
                continue;
            auto& same = by_key_[key{one.record.kind, one.record.name}];
            auto const follows = [&](descriptor const* other) { return other->record.index <= one.record.index; };
            if (same.first == nullptr || !follows(same.first)) {
                one.next = std::exchange(same.first, &one);
            } else {
                // A parent sends them in order.
                auto* before = follows(same.last) ? same.last : same.first;
                while (before->next != nullptr && follows(before->next))
                    before = before->next;
                one.next = std::exchange(before->next, &one);
            }
            if (one.next == nullptr)
                same.last = &one;
        }
    }

    std::deque<descriptor> all_;                  ///< which never moves its elements
    std::size_t next_ = 0;                        ///< all before it have been claimed
    std::bitset<256> arranged_;                   ///< the kinds that are in `by_key_`
    std::unordered_map<key, chain, hash> by_key_; ///< the names are those in `all_`
};

} // namespace ecdysis::handoff

#endif
