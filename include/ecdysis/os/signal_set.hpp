// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_OS_SIGNAL_SET_HPP
#define ECDYSIS_OS_SIGNAL_SET_HPP

#include <ecdysis/error.hpp>

#include <boost/system/errc.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace ecdysis::os {

/// Signals as the kernel has them: bit 0 is signal 1.
class signal_set
{
public:
    static constexpr int last = 64;

    constexpr signal_set() noexcept = default;
    constexpr explicit signal_set(std::uint64_t bits) noexcept : bits_{bits} {}
    /// Errors: `invalid_argument` for one that does not exist; the others are in.
    signal_set(std::span<int const> signals, error_code& ec) noexcept
    {
        ec.clear();
        for (int const signal : signals) {
            if (signal < 1 || signal > last)
                ec = make_error_code(boost::system::errc::invalid_argument);
            else
                bits_ |= bit(signal);
        }
    }

    [[nodiscard]] static constexpr signal_set all_but(int signal) noexcept { return signal_set{~bit(signal)}; }

    [[nodiscard]] constexpr std::uint64_t bits() const noexcept { return bits_; }
    [[nodiscard]] constexpr bool has(int signal) const noexcept { return (bits_ & bit(signal)) != 0; }
    [[nodiscard]] std::vector<int> signals() const
    {
        std::vector<int> result;
        for (int signal = 1; signal <= last; ++signal)
            if (has(signal))
                result.push_back(signal);
        return result;
    }

private:
    [[nodiscard]] static constexpr std::uint64_t bit(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }

    std::uint64_t bits_ = 0;
};

} // namespace ecdysis::os

#endif
