// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_GENERATION_STATES_HPP
#define ECDYSIS_GENERATION_STATES_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/handoff/bequest.hpp>
#include <ecdysis/handoff/inheritance.hpp>
#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>
#include <ecdysis/state.hpp>

#include <algorithm>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ecdysis {

/// All state by name: what this generation got from its parent and what it fills for its child.
class states
{
public:
    /// Throws `error`: errc::name_too_long; invalid_argument for a name that is there already.
    void add(std::string name, handover when, state_filler fill, state_undo undo)
    {
        if (name.size() > 200) // memfd_create(2): at most 249 bytes
            throw error{errc::name_too_long, "name state \"" + name + "\""};
        if (std::ranges::any_of(ours_, [&](state const& one) { return one.name == name; }))
            throw error{make_error_code(boost::system::errc::invalid_argument),
                        "name state \"" + name + "\": there is one of that name"};
        ours_.push_back({std::move(name), when, std::move(fill), std::move(undo), {}, false});
    }

    // ---- in a child

    void inherit(handoff::inheritance& from)
    {
        using kind = handoff::descriptor_kind;
        std::vector<std::pair<kind, std::string>> found;
        for (auto const& one : from.all())
            if (one.record.kind == kind::early_state || one.record.kind == kind::late_state)
                found.emplace_back(one.record.kind, one.record.name);
        for (auto const& [what, name] : found)
            inherited_.insert_or_assign(
                name, inherited{from.take(what, name).fd, what == kind::early_state ? handover::early : handover::late});
    }

    /// Once; nothing if the parent has none of that name. Throws `error`: errc::not_serving for late state before commit;
    /// errc::state_not_sealed, and what mapping it says.
    [[nodiscard]] std::optional<inherited_state> take(std::string const& name, bool committed)
    {
        auto const at = inherited_.find(name);
        if (at == inherited_.end())
            return {};
        if (at->second.when == handover::late && !committed)
            throw error{errc::not_serving, "read late state \"" + name + "\": it is filled at commit, after ready"};
        auto result = inherited_state::map(at->second.file, name);
        inherited_.erase(at);
        return result;
    }

    /// The parent's early or late state that the host has not read goes. Gives the names.
    std::vector<std::string> drop_unread(handover when)
    {
        std::vector<std::string> names;
        std::erase_if(inherited_, [&](auto const& one) {
            if (one.second.when != when)
                return false;
            names.push_back(one.first);
            return true;
        });
        return names;
    }

    // ---- for an upgrade

    /// Adds a file for each, and fills early state.
    void bequeath(handoff::bequest& to)
    {
        using kind = handoff::descriptor_kind;
        auto one_of = ours_.begin();
        for (auto left = ours_.size(); left != 0; --left, ++one_of) { // what a filler names is for the next upgrade
            auto& one = *one_of;
            error_code ec;
            auto file = make_state_file(one.name, ec);
            if (ec)
                throw error{ec, "make a file for state \"" + one.name + "\""};
            one.file = std::make_shared<os::owned_fd const>(std::move(file));
            if (one.when == handover::early)
                fill(one);
            to.add({.kind = one.when == handover::early ? kind::early_state : kind::late_state, .name = one.name, .bytes = {}},
                   *one.file, one.file);
        }
    }

    void fill_late()
    {
        for (auto& one : ours_)
            if (one.when == handover::late && one.file) // else it was named since, and is for the next upgrade
                fill(one);
    }

    /// The service is a child's: what was filled is its own.
    void forget() noexcept
    {
        for (auto& one : ours_)
            one.file.reset();
    }

    /// The upgrade has failed.
    void undo() noexcept
    {
        for (auto& one : ours_) {
            one.file.reset();
            if (std::exchange(one.filled, false) && one.undo)
                one.undo();
        }
    }

private:
    struct state
    {
        std::string name;
        handover when;
        state_filler fill;
        state_undo undo;
        std::shared_ptr<os::owned_fd const> file;
        bool filled;
    };

    struct inherited
    {
        os::owned_fd file;
        handover when;
    };

    static void fill(state& one)
    {
        one.filled = true;
        try {
            fill_state_file(*one.file, one.fill);
        } catch (error const&) {
            throw;
        } catch (std::exception const& e) {
            throw error{errc::state_failed, "fill state \"" + one.name + "\": " + e.what()};
        } catch (...) {
            throw error{errc::state_failed, "fill state \"" + one.name + "\": the host threw what is no exception"};
        }
    }

    std::list<state> ours_; ///< a filler may name another
    std::map<std::string, inherited> inherited_;
};

} // namespace ecdysis

#endif
