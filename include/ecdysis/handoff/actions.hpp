// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_ACTIONS_HPP
#define ECDYSIS_HANDOFF_ACTIONS_HPP

#include <array>
#include <cassert>
#include <cstddef>
#include <initializer_list>

namespace ecdysis::handoff {

/// What a machine wants done, in order. A value; at most eight.
template <class Action>
class actions
{
public:
    constexpr actions() noexcept = default;
    constexpr actions(std::initializer_list<Action> list) noexcept
    {
        for (auto const action : list)
            push(action);
    }

    constexpr void push(Action action) noexcept
    {
        assert(count_ < list_.size());
        list_[count_++] = action;
    }

    [[nodiscard]] constexpr Action const* begin() const noexcept { return list_.data(); }
    [[nodiscard]] constexpr Action const* end() const noexcept { return list_.data() + count_; }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return count_; }

private:
    std::array<Action, 8> list_{};
    std::size_t count_ = 0;
};

} // namespace ecdysis::handoff

#endif
