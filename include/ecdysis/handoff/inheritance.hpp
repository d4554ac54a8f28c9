// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_INHERITANCE_HPP
#define ECDYSIS_HANDOFF_INHERITANCE_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>

#include <cstddef>
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
        auto& added = all_.emplace_back(descriptor{std::move(what), std::move(fd)});
        auto& same = by_key_[key{added.record.kind, added.record.name}];
        auto const follows = [&](descriptor const* other) { return other->record.index <= added.record.index; };
        if (same.first == nullptr || !follows(same.first)) {
            added.next = std::exchange(same.first, &added);
        } else {
            // A parent sends them in order.
            auto* before = follows(same.last) ? same.last : same.first;
            while (before->next != nullptr && follows(before->next))
                before = before->next;
            added.next = std::exchange(before->next, &added);
        }
        if (added.next == nullptr)
            same.last = &added;
    }

    /// The unclaimed descriptor of that name with the lowest index; null if there is none.
    [[nodiscard]] descriptor* find(descriptor_kind kind, std::string_view name) noexcept
    {
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
        by_key_.clear();
        all_.clear();
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
            return std::hash<std::string_view>{}(of.name) + static_cast<std::size_t>(of.kind);
        }
    };
    struct chain
    {
        descriptor* first = nullptr; ///< null also when all have been claimed
        descriptor* last = nullptr;
    };

    std::deque<descriptor> all_; ///< which never moves its elements
    std::unordered_map<key, chain, hash> by_key_; ///< the names are those in `all_`
};

} // namespace ecdysis::handoff

#endif
