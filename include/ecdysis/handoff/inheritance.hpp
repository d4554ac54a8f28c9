// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_INHERITANCE_HPP
#define ECDYSIS_HANDOFF_INHERITANCE_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>

#include <map>
#include <string>
#include <string_view>
#include <tuple>
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
    };

    void add(record what, os::owned_fd fd)
    {
        auto const place = all_.size();
        by_key_.emplace(key{what.kind, what.name, what.index}, place);
        all_.push_back({std::move(what), std::move(fd)});
    }

    /// The unclaimed descriptor of that name with the lowest index; null if there is none.
    [[nodiscard]] descriptor* find(descriptor_kind kind, std::string const& name) noexcept
    {
        for (auto at = by_key_.lower_bound(key{kind, name, 0}); at != by_key_.end(); ++at) {
            if (std::get<0>(at->first) != kind || std::get<1>(at->first) != name)
                break;
            if (auto& found = all_[at->second]; !found.claimed)
                return &found;
        }
        return nullptr;
    }

    /// Finds and takes; an empty descriptor if there is none.
    [[nodiscard]] descriptor take(descriptor_kind kind, std::string const& name)
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
    [[nodiscard]] std::vector<descriptor> const& all() const noexcept { return all_; }

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
        all_.clear();
        by_key_.clear();
    }

private:
    using key = std::tuple<descriptor_kind, std::string, std::uint16_t>;

    std::vector<descriptor> all_;
    std::multimap<key, std::size_t> by_key_;
};

} // namespace ecdysis::handoff

#endif
