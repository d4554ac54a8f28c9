// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_CLAIMS_HPP
#define ECDYSIS_GENERATION_CLAIMS_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/generation/holdings.hpp>
#include <ecdysis/generation/life.hpp>
#include <ecdysis/generation/sockets.hpp>
#include <ecdysis/offer.hpp>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace ecdysis {

/// What the host claims or opens, where it may. With the lock of the io policy held.
template <class Io, class Notify>
class claims
{
public:
    struct calls
    {
        std::function<bool()> is_late;                     ///< ready was said, and there is no commit yet
        std::function<void(std::string const&)> remember;  ///< what the host ran into
        std::function<void()> store_new;
    };

    claims(holdings<Io, Notify>& all, life const& of, calls f) : all_{all}, life_{of}, f_{std::move(f)} {}

    [[nodiscard]] auto socket(socket_kind kind, address const& where, listen_options const& options)
    {
        return open(kind, where, [&] { return all_.claim_or_open(kind, where, options, life_.has_accepted()); });
    }
    [[nodiscard]] auto shards(socket_kind kind, address const& where, std::size_t count, listen_options const& options)
    {
        return open(kind, where,
                    [&] { return all_.claim_or_open_shards(kind, where, count, options, life_.has_accepted()); });
    }

    [[nodiscard]] std::optional<handed_over_file> file(std::string const& name)
    {
        check(name);
        return all_.claim(name);
    }
    [[nodiscard]] offer keep(std::string name, int fd)
    {
        auto result = offer_file(all_.files(), std::move(name), fd, {}, true);
        f_.store_new();
        return result;
    }
    [[nodiscard]] std::optional<inherited_state> state(std::string const& name)
    {
        return all_.states().take(name, life_.has_accepted());
    }

private:
    template <class F>
    auto open(socket_kind kind, address const& where, F&& f)
    {
        // What a host ran into is what the parent should hear if this generation then ends before it was ready.
        try {
            check(sockets::describe(kind, where));
            auto result = f();
            f_.store_new();
            return result;
        } catch (error const& e) {
            f_.remember(e.what());
            throw;
        }
    }

    void check(std::string const& what) const
    {
        if (!life_.has_accepted() && f_.is_late())
            throw error{errc::too_late, "claim " + what};
        if (life_.leaves() || life_.stops())
            throw error{errc::not_serving, "claim " + what};
    }

    holdings<Io, Notify>& all_;
    life const& life_;
    calls f_;
};

} // namespace ecdysis

#endif
