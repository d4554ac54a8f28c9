// SPDX-License-Identifier: BSL-1.0
// What host.cpp does, whichever its io policy is: its descriptors, and the words it answers with.
#pragma once

#include "host_settings.hpp"

#include <ecdysis/upgrader.hpp>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

namespace host {

/// For the constructor of an upgrader.
[[nodiscard]] inline ecdysis::options observed(settings const& chosen, journal const& log, behaviour const& behave)
{
    auto result = chosen.options;
    result.observer = [&log, &behave](ecdysis::event const& what) {
        log.write(what.generation, kind(what), name(what.during), what.text());
        behave.at(kind(what));
    };
    return result;
}

template <class Upgrader>
class service
{
public:
    service(Upgrader& up, settings const& chosen, journal const& log, behaviour const& behave)
        : up{up}, chosen{chosen}, behave_{behave}, log_{log}
    {}

    /// Claims or opens everything. Logs where it listens.
    void open()
    {
        if (!behave_.asked("claim", "nothing"))
            for (auto const& one : chosen.listens)
                if (behave_.asked("claim", "without") != one.kind)
                    open(one);
        for (auto const& [name, count] : chosen.offers)
            offer(name, count);
        for (auto const& name : chosen.keeps)
            keep(name);
        while (auto file = up.claim("connection"))
            handed_over.push_back({std::move(file->fd), std::move(file->bytes)});
        if (chosen.state)
            open_state();
        if (auto const parent = up.take_channel_to_parent())
            say(parent, "generation " + std::to_string(up.generation()) + " greets its parent");
        at("claimed");
    }

    /// Committed, or the first.
    void opened()
    {
        if (chosen.state) {
            if (auto const late = up.inherited_state("late"))
                late_ = summary(late->text());
            log("late_state", late_);
            if (auto const count = up.inherited_state("count"))
                count_ = std::stoul(std::string{count->text()});
        }
        at("may-accept");
    }

    /// This generation retires or stops.
    void leaving(ecdysis::exit const& why)
    {
        log("leaving", std::string{why.text()} + " by " + why.by.text());
        {
            std::lock_guard const hold{mutex_};
            parked_.clear(); // the child serves them now, if there is one
        }
        has_left_ = true;
        if (auto const child = up.take_channel_to_child()) {
            char text[256];
            auto const size = ::recv(child.get(), text, sizeof text, 0);
            log("channel", size < 0 ? "nothing" : std::string(text, static_cast<std::size_t>(size)));
        }
        if (behave_.asked("leaving", "tell-manager") && why.why == ecdysis::exit::kind::partially_stopped)
            tell_manager();
        at("leaving");
    }

    /// What a client gets for one line. `last`: the connection ends with it.
    [[nodiscard]] std::string answer(std::string const& line, bool last)
    {
        auto text = std::to_string(up.generation()) + " " + std::to_string(::getpid());
        auto const told = [this](std::string const& how) { log("told", how); };
        if (line == "state")
            text += " early=" + early_ + " late=" + late_;
        else if (line == "count")
            text += " " + next_number();
        else if (line == "directory")
            text += " " + std::filesystem::current_path().string();
        else if (line == "upgrade")
            up.request_upgrade(told);
        else if (line == "stop")
            up.request_stop(told);
        else if (line == "partial-stop")
            up.request_partial_stop(told);
        else if (line == "fail")
            up.fail("its health check says so");
        else
            behave_.at(line);
        return text + (last ? " last\n" : "\n");
    }

    /// The connection is for the next generation, with what was read from it; nobody reads on until then.
    void park(ecdysis::os::owned_fd connection, std::string unread)
    {
        auto kept = up.offer("connection", connection.get(), std::move(unread));
        std::lock_guard const hold{mutex_};
        parked_.push_back({std::move(kept), std::move(connection)});
    }

    /// Whether connections are to be left in the queue for now: `accept late`, until this generation retires or stops.
    [[nodiscard]] bool leaves_queued() const { return !has_left_ && behave_.asked("accept", "late"); }

    void at(std::string_view point)
    {
        behave_.at(point, [this](std::string const& why) { up.fail(why); });
    }
    [[nodiscard]] bool knows(std::string_view point) const { return behave_.knows(point); }
    void log(std::string_view kind, std::string text) const { log_.write(up.generation(), kind, "-", std::move(text)); }

    Upgrader& up;
    settings const& chosen;
    std::vector<typename Upgrader::tcp_listener> tcp;
    std::vector<typename Upgrader::unix_listener> unix_streams;
    std::vector<typename Upgrader::seqpacket_listener> seqpackets;
    std::vector<typename Upgrader::datagram> datagrams;

    struct handed_over_connection
    {
        ecdysis::os::owned_fd socket;
        std::string unread;
    };
    std::vector<handed_over_connection> handed_over;

private:
    struct parked
    {
        ecdysis::offer offer;
        ecdysis::os::owned_fd connection;
    };

    void open(listen const& what)
    {
        ecdysis::listen_options const options{
            .name = what.name,
            .backlog = chosen.backlog,
            .at_stop = what.stays ? ecdysis::on_stop::stay : ecdysis::on_stop::end,
            .v6_only = what.v6_only,
            .setup = [&](int) { log("setup", what.kind); },
        };
        auto const count = [&] {
            auto const other = behave_.asked("claim", "shards");
            return other ? std::stoul(*other) : what.count;
        };
        auto const add = [&](auto& list, auto listener) {
            ecdysis::error_code ec;
            auto const where = ecdysis::address::bound(ecdysis::os::borrowed_fd{listener.native_handle()}, ec);
            log("listening", what.kind + " " + where.text());
            list.push_back(std::move(listener));
        };
        if (what.kind == "tcp")
            add(tcp, up.listen_tcp(what.address, options));
        else if (what.kind == "unix")
            add(unix_streams, up.listen_unix(what.address, options));
        else if (what.kind == "seqpacket")
            add(seqpackets, up.listen_seqpacket(what.address, options));
        else if (what.kind == "udp")
            add(datagrams, up.bind_udp(what.address, options));
        else if (what.kind == "datagram")
            add(datagrams, up.bind_unix(what.address, options));
        else if (what.kind == "shards")
            for (auto& one : up.listen_tcp_shards(what.address, count(), options))
                add(tcp, std::move(one));
        else if (what.kind == "udp-shards")
            for (auto& one : up.bind_udp_shards(what.address, count(), options))
                add(datagrams, std::move(one));
        else // nobody accepts
            for (std::size_t i = 0; i != what.count; ++i)
                add(idle_, up.listen_tcp(what.address, options));
    }

    void offer(std::string const& name, std::size_t count)
    {
        std::size_t claimed = 0;
        for (; claimed != count; ++claimed) {
            auto file = up.claim(name);
            if (!file)
                break;
            log("claimed", name + " " + file->bytes);
            offers_.push_back(up.offer(name, file->fd.get(), file->bytes));
        }
        for (auto i = claimed; i != count; ++i) {
            ecdysis::os::owned_fd const file{::open("/dev/null", O_RDWR | O_CLOEXEC)};
            offers_.push_back(up.offer(name, file.get(), "number " + std::to_string(i)));
        }
        log("offered", name + " " + std::to_string(claimed) + " of " + std::to_string(count));
    }

    /// A file that says which process made it.
    void keep(std::string const& name)
    {
        auto found = up.claim(name);
        auto file = found ? std::move(found->fd) : ecdysis::os::owned_fd{::memfd_create(name.c_str(), MFD_CLOEXEC)};
        if (!found) {
            auto const text = "of " + std::to_string(::getpid());
            [[maybe_unused]] auto const written = ::pwrite(file.get(), text.data(), text.size(), 0);
        }
        char text[64];
        auto const size = ::pread(file.get(), text, sizeof text, 0);
        log("kept", name + " " + std::string(text, size < 0 ? 0 : static_cast<std::size_t>(size)));
        offers_.push_back(up.keep(name, file.get()));
    }

    void open_state()
    {
        if (auto const early = up.inherited_state("early"))
            early_ = summary(early->text());
        auto const fill = [this](char const* what) {
            return [this, what](ecdysis::state_writer& to) {
                at(what);
                if (auto const why = behave_.asked(what, "throw"))
                    throw std::runtime_error{*why};
                if (auto const size = behave_.asked(what, "size"))
                    to.write(pattern(std::stoul(*size)));
                else
                    to.write(std::string{what} + "-of-" + std::to_string(up.generation()));
            };
        };
        up.hand_over_state("early", ecdysis::handover::early, fill("early"), [this] { log("undone", "early"); });
        up.hand_over_state("late", ecdysis::handover::late, fill("late"), [this] { log("undone", "late"); });
        up.hand_over_state(
            "count", ecdysis::handover::late,
            [this](ecdysis::state_writer& to) {
                std::lock_guard const hold{mutex_};
                counts_ = false;
                to.write(std::to_string(count_));
            },
            [this] {
                std::lock_guard const hold{mutex_};
                counts_ = true;
            });
    }

    /// "later" when the count has been handed over.
    [[nodiscard]] std::string next_number()
    {
        std::lock_guard const hold{mutex_};
        return counts_ ? std::to_string(++count_) : "later";
    }

    [[nodiscard]] static std::string pattern(std::size_t size)
    {
        std::string block(251, ' ');
        for (std::size_t i = 0; i != block.size(); ++i)
            block[i] = static_cast<char>('a' + i % 26);
        std::string result;
        result.reserve(size + block.size());
        while (result.size() < size)
            result += block;
        result.resize(size);
        return result;
    }
    /// What is too long for an answer: its size, and whether it is the pattern.
    [[nodiscard]] static std::string summary(std::string_view text)
    {
        if (!text.empty() && text.size() < 100)
            return std::string{text};
        return std::to_string(text.size()) + (text == pattern(text.size()) ? "-good-bytes" : "-bad-bytes");
    }

    /// What a partial stop leaves to the host.
    void tell_manager()
    {
        ecdysis::error_code ec;
        up.notifier().send({.what = ecdysis::notify::step::kind::stopping, .status = "the host stops"}, ec);
        if (ec)
            log("error", "tell the service manager: " + ec.message());
    }

    static void say(ecdysis::os::borrowed_fd to, std::string const& text)
    {
        ::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL);
    }

    behaviour const& behave_;
    journal const& log_;
    std::vector<typename Upgrader::tcp_listener> idle_;
    std::vector<ecdysis::offer> offers_;
    std::string early_ = "none";
    std::string late_ = "none";
    std::atomic<bool> has_left_ = false;
    std::mutex mutex_;
    unsigned long count_ = 0;
    bool counts_ = true; ///< and not the child
    std::vector<parked> parked_;
};

} // namespace host
