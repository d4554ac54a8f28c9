// SPDX-License-Identifier: BSL-1.0
// An io policy whose timers fire when the test says so, and a notify policy that takes or refuses as it is told.
#pragma once

#include <ecdysis/io/concept.hpp>
#include <ecdysis/notify/concept.hpp>
#include <ecdysis/os/fd.hpp>

#include <boost/system/errc.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace scripted {

class io
{
    using timers = std::multimap<ecdysis::io::clock::time_point, std::shared_ptr<std::function<void()>>>;

public:
    class handle
    {
    public:
        handle() = default;
        explicit handle(std::shared_ptr<std::function<void()>> f) : f_{std::move(f)} {}
        handle(handle&&) noexcept = default;
        handle& operator=(handle&& other) noexcept
        {
            drop();
            f_ = std::move(other.f_);
            return *this;
        }
        ~handle() { drop(); }

    private:
        void drop() noexcept
        {
            if (f_)
                *f_ = nullptr;
            f_ = nullptr;
        }
        std::shared_ptr<std::function<void()>> f_;
    };

    [[nodiscard]] handle at(ecdysis::io::clock::time_point time, std::function<void()> f)
    {
        auto const kept = std::make_shared<std::function<void()>>(std::move(f));
        armed_.emplace(time, kept);
        return handle{kept};
    }

    /// Fires the earliest that was not cancelled. Whether there was one.
    bool fire()
    {
        while (!armed_.empty()) {
            auto const f = armed_.begin()->second;
            last = armed_.begin()->first;
            armed_.erase(armed_.begin());
            if (auto const call = *f) { // a copy: what it calls may drop the handle
                call();
                return true;
            }
        }
        return false;
    }

    ecdysis::io::clock::time_point last{}; ///< when the last one that fired was due

private:
    timers armed_;
};

struct notify
{
    std::vector<std::string> sent{};
    bool full = false;
    ecdysis::error_code says{};
    std::chrono::microseconds interval{};

    void send(ecdysis::notify::step const& what, ecdysis::error_code& ec)
    {
        using kind = ecdysis::notify::step::kind;
        ec = says;
        if (full)
            ec = make_error_code(boost::system::errc::resource_unavailable_try_again);
        if (ec)
            return;
        std::map<kind, std::string> const names{
            {kind::ready, "ready"},     {kind::reloading, "reloading"}, {kind::handing_over, "handing over"},
            {kind::failed, "failed"},   {kind::stopping, "stopping"},   {kind::status, "status"},
            {kind::extend, "extend"},   {kind::watchdog, "watchdog"},   {kind::store, "store"},
            {kind::unstore, "unstore"}};
        auto text = names.at(what.what);
        if (ecdysis::os::number(what.child) > 0)
            text += " child";
        if (what.extra.count() > 0)
            text += " +" + std::to_string(std::chrono::floor<std::chrono::seconds>(what.extra).count());
        if (!what.name.empty())
            text.append(" ").append(what.name);
        if (!what.status.empty())
            text.append(": ").append(what.status);
        descriptors.push_back(what.descriptor.get());
        sent.push_back(text);
    }
    [[nodiscard]] std::chrono::microseconds watchdog_interval() const noexcept { return interval; }

    std::vector<int> descriptors{};
};

} // namespace scripted
