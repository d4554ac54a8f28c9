// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_IO_OUTCOME_HPP
#define ECDYSIS_IO_OUTCOME_HPP

#include <ecdysis/error.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ecdysis {

/// The value of an outcome that has none but its error code.
struct nothing
{};

/// The sentence `what` without what `ec` itself says at its end, as `error` appends it: so that it can be thrown again,
/// or be told with the code, and says that once.
[[nodiscard]] inline std::string tried(std::string_view what, error_code const& ec)
{
    for (auto const& end : {": " + ec.message(), ": " + ec.what()})
        if (what.ends_with(end))
            return tried(what.substr(0, what.size() - end.size()), ec);
    return std::string{what};
}

/// What a wait of the host will give: it becomes known once, and one waiter at a time hears of it.
/// Used with the lock of the io policy held.
template <class T>
class outcome
{
public:
    using value_type = T;
    struct result
    {
        error_code ec;
        T value;
        std::string tried{}; ///< with an error: what was tried, and on what; may be empty
    };

    [[nodiscard]] bool known() const noexcept { return result_.has_value(); }
    [[nodiscard]] result const& get() const { return *result_; }

    /// The first word counts; later ones are ignored.
    void set(error_code ec, T value = {}, std::string tried = {})
    {
        if (result_)
            return;
        result_ = result{ec, std::move(value), std::move(tried)};
        if (auto const waiter = std::exchange(waiter_, nullptr))
            waiter();
    }

    /// Makes it unknown again, for an operation that can be started again.
    void clear() noexcept { result_.reset(); }

    [[nodiscard]] bool awaited() const noexcept { return static_cast<bool>(waiter_); }
    /// `waiter` is called once, from `set`.
    void await(std::function<void()> waiter) { waiter_ = std::move(waiter); }
    void forget_waiter() noexcept { waiter_ = nullptr; }

private:
    std::optional<result> result_;
    std::function<void()> waiter_;
};

} // namespace ecdysis

#endif
