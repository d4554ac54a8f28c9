// SPDX-License-Identifier: BSL-1.0
// The units of example/systemd, installed as they are but for the port, with the programs in /usr/local/bin.
#pragma once

#include "../harness.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <string_view>
#include <thread>

#define EXAMPLE_TEST(name, how)                                                                                        \
    BOOST_AUTO_TEST_CASE(name, *boost::unit_test::precondition([](boost::unit_test::test_unit_id) {                    \
        return restart::registered_unit_test::can_run(how);                                                            \
    }))

namespace restart {

namespace fs = std::filesystem;

inline std::string text_of(fs::path const& path)
{
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// A port that nobody listens on. A socket unit takes no 0.
inline std::string free_port()
{
    ecdysis::address const any{"127.0.0.1:0"};
    ecdysis::os::owned_fd const socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    BOOST_REQUIRE(::bind(socket.get(), any.data(), any.size()) == 0);
    ecdysis::error_code ec;
    return std::to_string(ecdysis::address::bound(socket, ec).port());
}

/// What the examples answer; text is empty if there is no answer.
inline reply answer(connection& one)
{
    for (auto line = one.receive(); line && *line != "\r"; line = one.receive()) {
    }
    auto const body = one.receive().value_or("");
    one.abandon();
    static std::regex const words{R"(generation (\d+) pid (\d+))"};
    std::smatch parts;
    return reply{std::regex_match(body, parts, words) ? parts[1].str() + " " + parts[2].str() : ""};
}

/// The same, of a new connection.
inline reply get(ecdysis::address const& where)
{
    connection one{where};
    one.send("GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r");
    return answer(one);
}

/// A request that is sent but for its last byte: whoever has accepted it drains as long as that does not come.
class held_request
{
public:
    explicit held_request(ecdysis::address const& where) : one_{where}
    {
        one_.send("GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r");
    }
    [[nodiscard]] reply finish()
    {
        one_.send("\r");
        return answer(one_);
    }

private:
    connection one_;
};

/// Asks, one connection after the other, as long as it lives.
class http_prober
{
public:
    explicit http_prober(ecdysis::address const& where)
        : thread_{[this, where](std::stop_token ends) {
              while (!ends.stop_requested())
                  ++(get(where).text.empty() ? failed_ : answered_);
          }}
    {}
    void check_all_answered()
    {
        thread_.request_stop();
        thread_.join();
        BOOST_TEST(failed_ == 0U);
        BOOST_TEST(answered_ > 0U);
    }

private:
    std::atomic<unsigned> failed_ = 0, answered_ = 0;
    std::jthread thread_;
};

/// /usr/local/bin of the manager, with the two programs in it.
class programs
{
public:
    [[nodiscard]] static programs& instance()
    {
        static programs one;
        return one;
    }
    /// What `http_systemd` is, until the end of the scope.
    class replaced
    {
    public:
        explicit replaced(std::string const& by) { instance().put(by); }
        replaced(replaced const&) = delete;
        replaced& operator=(replaced const&) = delete;
        ~replaced() { instance().put(built("http_systemd")); }
    };

private:
    programs()
    {
        fs::create_directory(directory());
        fs::copy_file(built("ask"), directory() + "/ask");
        put(built("http_systemd"));
        auto const mounted = unit::manager().run("mount --bind " + directory() + " /usr/local/bin");
        BOOST_REQUIRE_MESSAGE(mounted.ok(), mounted.output);
    }
    [[nodiscard]] static std::string directory() { return unit::manager().path("bin"); }
    [[nodiscard]] static std::string built(std::string const& name)
    {
        return fs::absolute(real_manager::argument(1) + "/" + name).string();
    }
    /// As install(1) does: a new file, for the old one is being executed.
    void put(std::string const& program) const
    {
        fs::copy_file(program, directory() + "/next", fs::copy_options::overwrite_existing);
        fs::rename(directory() + "/next", directory() + "/http_systemd");
    }
};

/// The units of that name, installed. Nothing outlives it.
class example
{
public:
    /// `settings`: lines of [Service] in a drop-in.
    explicit example(std::string name, std::string const& settings = {}) : name_{std::move(name)}
    {
        static_cast<void>(programs::instance());
        for (auto const& file : fs::directory_iterator{sources()})
            if (file.path().stem() == name_)
                install(file.path());
        BOOST_REQUIRE(!files_.empty());
        fs::create_directory(drop_ins());
        std::ofstream{drop_ins() + "/test.conf"} << "[Service]\nStandardError=append:" << output() << '\n' << in_place(settings);
        BOOST_TEST(manager().systemctl("daemon-reload").output == "");
    }
    example(example const&) = delete;
    example& operator=(example const&) = delete;
    ~example()
    {
        if (!boost::unit_test::results_collector.results(boost::unit_test::framework::current_test_unit().p_id).passed()) {
            BOOST_TEST_MESSAGE("---- what it wrote:\n" << text_of(output()) << "---- what systemd said:");
            for (auto const& line : said())
                BOOST_TEST_MESSAGE(line);
        }
        for (auto const& file : files_)
            static_cast<void>(manager().systemctl("stop " + file.filename().string()));
        manager().kill_all(name_ + ".service");
        static_cast<void>(wait_until([this] { return processes().empty(); }));
        for (auto const& file : files_)
            fs::remove(file);
        fs::remove_all(drop_ins());
        fs::remove(output());
        static_cast<void>(manager().systemctl("reset-failed"));
        static_cast<void>(manager().systemctl("daemon-reload"));
    }

    [[nodiscard]] static real_manager& manager() { return real_manager::instance(); }
    [[nodiscard]] ecdysis::address address() const { return ecdysis::address{"127.0.0.1:" + port_}; }
    [[nodiscard]] outcome systemctl(std::string const& verb) const { return manager().systemctl(verb + " " + name_ + ".service"); }
    [[nodiscard]] std::string show(std::string const& property) const
    {
        auto text = systemctl("show --value --property=" + property).output;
        while (text.ends_with('\n'))
            text.pop_back();
        return text;
    }
    [[nodiscard]] std::vector<::pid_t> processes() const { return manager().processes(name_ + ".service"); }

    // ---- what must be so

    /// As it stands for the system's manager, and as it is installed for this one.
    void check_verified() const
    {
        for (auto const& file : files_)
            for (auto const& command :
                 {"verify " + (sources() / file.filename()).string(), manager().option() + " verify " + file.string()}) {
                auto const verified = manager().run("systemd-analyze --man=no " + command);
                BOOST_TEST(verified.ok());
                BOOST_TEST(verified.output == "");
            }
    }
    void start(std::string const& type = "service") const
    {
        auto const started = manager().systemctl("start " + name_ + "." + type);
        BOOST_REQUIRE_MESSAGE(started.ok(), "it does not start: " << started.output);
    }
    /// At once, where the control socket has said that this generation serves. Else systemd and the old generation are told
    /// so at the same time, and the old one may answer until it has heard.
    [[nodiscard]] reply answer_of(unsigned generation) const
    {
        auto result = get(address());
        if (show("Type") == "notify-reload")
            static_cast<void>(wait_until([&] {
                return result.text.empty() || result.generation == generation || (result = get(address()), false);
            }));
        return result;
    }
    /// systemd shows the generation that answers, and nothing else runs.
    ::pid_t check_serves(unsigned generation) const
    {
        auto const answer = answer_of(generation);
        BOOST_REQUIRE_MESSAGE(!answer.text.empty(), "no answer");
        BOOST_TEST(answer.generation == generation);
        BOOST_TEST(show("ActiveState") == "active");
        BOOST_TEST(show("MainPID") == std::to_string(answer.pid));
        BOOST_TEST(show("StatusText") == "generation " + std::to_string(generation) + " serving");
        BOOST_TEST(wait_until([&] { return processes() == std::vector{answer.pid}; }, std::chrono::seconds{20}));
        return answer.pid;
    }
    void check_reloads(unsigned times = 2) const
    {
        http_prober load{address()};
        for (unsigned generation = 1; generation <= times; ++generation) {
            auto const reload = systemctl("reload");
            BOOST_TEST(reload.ok(), reload.output);
            check_serves(generation);
        }
        load.check_all_answered();
    }
    /// The check at start has found nothing.
    void check_no_advice() const
    {
        auto const text = text_of(output());
        BOOST_TEST(text.find("generation 0 pid ") != text.npos);
        for (auto const* word : {"NOTIFY_SOCKET", "KillMode", "FileDescriptorStoreMax", "atchdog"})
            BOOST_TEST(text.find(word) == text.npos, text);
    }
    /// systemd has known each main process as its own, and none has ended but well.
    void check_nothing_was_said() const
    {
        for (auto const& line : said())
            for (auto const* words : {"not our child", "Main process exited"})
                BOOST_TEST(line.find(words) == line.npos, line);
    }
    void check_stops() const
    {
        BOOST_TEST(systemctl("stop").ok());
        check_stopped();
    }
    void check_stopped() const
    {
        BOOST_TEST(processes().empty());
        BOOST_TEST(show("ActiveState") == "inactive");
        BOOST_TEST(show("Result") == "success");
    }

private:
    void install(fs::path const& from)
    {
        files_.emplace_back(manager().path("units/" + from.filename().string()));
        std::ofstream{files_.back()} << in_place(text_of(from));
    }
    [[nodiscard]] std::string in_place(std::string text) const
    {
        std::string const port = ":8080";
        for (auto at = text.find(port); at != text.npos; at = text.find(port, at))
            text.replace(at, port.size(), ":" + port_);
        return text;
    }
    [[nodiscard]] static fs::path sources()
    {
        return fs::path{real_manager::argument(3)}.parent_path() / "../../example/systemd";
    }
    [[nodiscard]] std::string drop_ins() const { return manager().path("units/" + name_ + ".service.d"); }
    [[nodiscard]] std::string output() const { return manager().path(name_ + ".output"); }

    /// What systemd has said of this service, not of another one of its name.
    [[nodiscard]] std::vector<std::string> said() const
    {
        auto result = manager().said_about(name_ + ".service");
        result.erase(result.begin(), result.begin() + said_before_);
        return result;
    }

    std::string name_, port_ = free_port();
    std::ptrdiff_t said_before_ = std::ssize(manager().said_about(name_ + ".service"));
    std::vector<fs::path> files_;
};

inline void check_whole_life(example const& one)
{
    one.check_verified();
    one.start();
    one.check_serves(0);
    one.check_reloads();
    one.check_no_advice();
    one.check_stops();
}

} // namespace restart
