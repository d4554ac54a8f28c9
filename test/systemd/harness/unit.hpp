// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../restart/harness/service.hpp"
#include "manager.hpp"

#include <future>
#include <map>

namespace restart {

/// How a unit is reloaded.
enum class reload_by {
    control, ///< Type=notify; ExecReload= asks the control socket and fails when that says so
    signal,  ///< Type=notify-reload
};

[[nodiscard]] inline char const* name(reload_by how) { return how == reload_by::control ? "notify" : "notify_reload"; }

/// What a unit has besides the defaults. DIRECTORY stands for the unit's own.
struct unit_wish
{
    std::vector<std::string> settings{};  ///< lines of [Service]; later ones win
    std::vector<std::string> arguments{}; ///< of host.cpp
    std::string behave{};                 ///< of the first generation
    std::vector<std::string> sockets{};   ///< socket units that activate it: the lines of each [Socket]
};

/// host.cpp as a unit of a real systemd, under the default NotifyAccess=. Nothing outlives it.
class unit
{
public:
    unit(assembly what, reload_by how, unit_wish wish = {}) : built_{std::move(what)}, reload_by_{how}
    {
        char pattern[] = "/tmp/ecdysis-unit-XXXXXX";
        BOOST_REQUIRE(::mkdtemp(pattern) != nullptr);
        directory_ = pattern;
        name_ = directory_.substr(directory_.rfind('/') + 1) + ".service";
        std::filesystem::create_directory(path("tmp"));
        std::filesystem::create_symlink(built_.path(), path("host"));
        behave(wish.behave);
        std::ofstream{file()} << in_place(text(wish));
        for (auto const& lines : wish.sockets) {
            sockets_.push_back(name_.substr(0, name_.find('.')) + "-" + std::to_string(sockets_.size()) + ".socket");
            std::ofstream{file(sockets_.back())} << "[Socket]\nService=" << name_ << '\n' << in_place(lines) << '\n';
        }
        BOOST_REQUIRE_EQUAL(manager().systemctl("daemon-reload").output, "");
    }
    unit(unit const&) = delete;
    unit& operator=(unit const&) = delete;

    ~unit()
    {
        using namespace boost::unit_test;
        if (!results_collector.results(framework::current_test_unit().p_id).passed()) {
            BOOST_TEST_MESSAGE("---- its log:\n" << read("log") << "---- what it wrote:\n" << read("output") << "---- what systemd said:");
            for (auto const& line : manager().said_about(name_))
                BOOST_TEST_MESSAGE(line);
        }
        stop_sockets(); // else they start it again
        static_cast<void>(systemctl("kill", "--signal=KILL"));
        static_cast<void>(systemctl("stop"));
        static_cast<void>(wait_until([this] { return processes().empty(); }));
        static_cast<void>(systemctl("reset-failed"));
        std::error_code ignored;
        std::filesystem::remove(file(), ignored);
        for (auto const& one : sockets_)
            std::filesystem::remove(file(one), ignored);
        std::filesystem::remove_all(directory_, ignored);
    }

    [[nodiscard]] static real_manager& manager() { return real_manager::instance(); }
    [[nodiscard]] bool reloads_by(reload_by how) const noexcept { return reload_by_ == how; }
    [[nodiscard]] std::string const& name() const noexcept { return name_; }
    [[nodiscard]] std::string path(std::string const& file) const { return directory_ + "/" + file; }
    [[nodiscard]] std::string read(std::string const& file) const
    {
        std::ifstream text{path(file)};
        return {std::istreambuf_iterator<char>{text}, {}};
    }

    // ---- what systemd does with it

    /// `systemctl VERB OPTIONS`, to its end.
    outcome systemctl(std::string const& verb, std::string const& options = {}) const
    {
        return manager().systemctl(verb + " " + options + " " + name_);
    }
    /// The same, meanwhile.
    [[nodiscard]] std::future<outcome> begin(std::string const& verb) const
    {
        return std::async(std::launch::async, [this, verb] { return systemctl(verb); });
    }

    void start() const
    {
        auto const started = systemctl("start");
        BOOST_REQUIRE_MESSAGE(started.ok(), "it does not start: " << started.output);
    }

    /// The socket units alone; the service starts with the first connection.
    void start_sockets() const
    {
        for (auto const& one : sockets_) {
            auto const started = manager().systemctl("start " + one);
            BOOST_REQUIRE_MESSAGE(started.ok(), one << " does not start: " << started.output);
        }
    }
    void stop_sockets() const
    {
        for (auto const& one : sockets_)
            static_cast<void>(manager().systemctl("stop " + one));
    }

    // ---- what systemd knows of it

    [[nodiscard]] std::map<std::string, std::string> show() const
    {
        std::map<std::string, std::string> result;
        std::istringstream lines{systemctl("show").output};
        for (std::string line; std::getline(lines, line);)
            if (auto const sign = line.find('='); sign != line.npos)
                result.insert_or_assign(line.substr(0, sign), line.substr(sign + 1));
        return result;
    }
    [[nodiscard]] std::string show(std::string const& property) const
    {
        auto text = systemctl("show", "--value --property=" + property).output;
        while (text.ends_with('\n'))
            text.pop_back();
        return text;
    }
    [[nodiscard]] ::pid_t main_pid() const { return std::stoi(show("MainPID")); }

    /// Those in its control group.
    [[nodiscard]] std::vector<::pid_t> processes() const { return manager().processes(name_); }

    /// The lines of its log with those words in it.
    [[nodiscard]] std::vector<std::string> said(std::string const& words) const
    {
        auto result = manager().said_about(name_);
        std::erase_if(result, [&](auto const& line) { return line.find(words) == line.npos; });
        return result;
    }

    // ---- the service

    void behave(std::string const& lines) const { std::ofstream{path("behave")} << lines << '\n'; }
    /// Makes the next process wait at `point` until go(); awaits_go() when it does.
    void hold_at(std::string const& point) const { behave(point + " until " + path("go")); }
    void awaits_go() const
    {
        BOOST_REQUIRE_MESSAGE(wait_until([this] { return std::filesystem::exists(path("go.awaited")); }), "it does not come so far");
    }
    void go() const { std::ofstream{path("go")}; }

    [[nodiscard]] std::vector<step> steps(std::string const& kind) const
    {
        auto result = read_steps(path("log"));
        std::erase_if(result, [&](auto const& one) { return one.kind != kind; });
        return result;
    }
    /// Waits for the `count`th step of that kind.
    step wait_for(std::string const& kind, std::size_t count = 1) const
    {
        std::vector<step> found;
        BOOST_REQUIRE_MESSAGE(wait_until([&] { return (found = steps(kind)).size() >= count; }),
                              "no step \"" << kind << "\" number " << count);
        return found[count - 1];
    }
    /// The child that was launched last.
    [[nodiscard]] ::pid_t launched() const
    {
        wait_for("launched");
        auto const text = steps("launched").back().text;
        return std::stoi(text.substr(text.rfind(' ') + 1));
    }
    [[nodiscard]] ecdysis::address address() const
    {
        auto const text = steps("listening").back().text; // after a restart it may be another
        return ecdysis::address{text.substr(text.find(' ') + 1)};
    }
    [[nodiscard]] reply ask() const
    {
        connection one{address()};
        auto const got = one.ask();
        BOOST_REQUIRE_MESSAGE(got.has_value(), "it does not answer, result " << static_cast<int>(one.state()));
        return *got;
    }

    // ---- what must be so

    /// systemd shows the generation that answers, and nothing else runs. Gives its pid.
    ::pid_t check_serves(unsigned generation, std::string const& status) const
    {
        auto const shown = show();
        auto const answer = ask();
        BOOST_TEST(answer.generation == generation);
        BOOST_TEST(shown.at("MainPID") == std::to_string(answer.pid));
        BOOST_TEST(shown.at("ActiveState") == "active");
        BOOST_TEST(shown.at("SubState") == "running");
        BOOST_TEST(shown.at("StatusText") == status);
        BOOST_TEST(wait_until([&] { return processes() == std::vector{answer.pid}; }, std::chrono::seconds{20}));
        return answer.pid;
    }

    /// It was stopped: nothing is left, and no main process ended otherwise than well.
    void check_stopped() const
    {
        BOOST_TEST(processes().empty());
        BOOST_TEST(show("MainPID") == "0");
        for (auto const& line : said("Main process exited"))
            BOOST_ERROR(line);
        for (auto const& line : said("SIGKILL"))
            BOOST_ERROR(line);
        for (auto const* file : {"control", "pid"})
            BOOST_TEST(!std::filesystem::exists(path(file)), file << " is left over");
        BOOST_TEST(std::filesystem::is_empty(path("tmp")));
    }
    /// And systemd shows it so.
    void check_stopped_well() const
    {
        check_stopped();
        auto const shown = show();
        BOOST_TEST(shown.at("ActiveState") == "inactive");
        BOOST_TEST(shown.at("Result") == "success");
    }

private:
    [[nodiscard]] std::string file(std::string const& name) const { return manager().path("units/" + name); }
    [[nodiscard]] std::string file() const { return file(name_); }

    [[nodiscard]] std::string in_place(std::string text) const
    {
        constexpr std::string_view word = "DIRECTORY";
        for (auto at = text.find(word); at != text.npos; at = text.find(word, at))
            text.replace(at, word.size(), directory_);
        return text;
    }

    [[nodiscard]] std::string text(unit_wish const& wish) const
    {
        std::ostringstream result;
        result << "[Unit]\nStartLimitIntervalSec=0\n[Service]\n";
        if (reload_by_ == reload_by::control)
            result << "Type=notify\nExecReload=\"" << std::filesystem::path{built_.path()}.parent_path().string() << "/ask\" "
                   << path("control") << '\n';
        else
            result << "Type=notify-reload\nReloadSignal=SIGHUP\n";
        result << "ExecStart=" << path("host") << " --log " << path("log") << " --behave " << path("behave") << " --control "
               << path("control") << " --pid-file " << path("pid") << " --upgrade-on " << SIGHUP << " --stop-on " << SIGTERM
               << " --listen 127.0.0.1:0 --idle-grace 10000";
        for (auto const& one : wish.arguments)
            result << ' ' << one;
        result << "\nEnvironment=TMPDIR=" << path("tmp") << "\nWorkingDirectory=" << directory_
               << "\nStandardOutput=append:" << path("output") << "\nStandardError=append:" << path("output")
               << "\nTimeoutSec=20\n";
        for (auto const& one : wish.settings)
            result << one << '\n';
        return result.str();
    }

    assembly built_;
    reload_by reload_by_;
    std::string directory_, name_;
    std::vector<std::string> sockets_;
};

} // namespace restart
