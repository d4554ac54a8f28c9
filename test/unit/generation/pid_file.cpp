// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/pid_file.hpp>

#define BOOST_TEST_MODULE pid_file
#include <boost/test/unit_test.hpp>

#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

using ecdysis::error_code;
using ecdysis::pid_file;
namespace os = ecdysis::os;
namespace fs = std::filesystem;

namespace {

constexpr ::uid_t nobody = 65534;

struct directory
{
    directory()
    {
        std::string name = (fs::temp_directory_path() / "ecdysis-pid.XXXXXX").string();
        BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
        ::chmod(path.c_str(), 0755);
    }
    ~directory() { fs::remove_all(path); }

    [[nodiscard]] std::string operator/(char const* name) const { return path + "/" + name; }

    std::string path;
};

std::string content(std::string const& path)
{
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
}

std::string line_of(::pid_t pid) { return std::to_string(pid) + "\n"; }
std::string our_line() { return line_of(::getpid()); }

struct is_root
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const
    {
        boost::test_tools::assertion_result result{::geteuid() == 0};
        result.message() << "only root can become another uid";
        return result;
    }
};

/// Runs `f` in a child that is nobody; gives its pid and what `f` gave, or 99 if it threw.
template <class F>
std::pair<::pid_t, int> as_nobody(F&& f)
{
    auto const pid = ::fork();
    if (pid == 0) {
        if (::setgid(nobody) != 0 || ::setuid(nobody) != 0)
            ::_exit(98);
        try {
            ::_exit(f());
        } catch (...) {
            ::_exit(99);
        }
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return {pid, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

bool check_throws(pid_file const& file)
{
    try {
        file.check();
        return false;
    } catch (ecdysis::error const& e) {
        return std::string{e.what()}.find(file.path()) != std::string::npos;
    }
}

os::owned_fd copy_of(os::borrowed_fd fd) { return os::owned_fd{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)}; }

} // namespace

BOOST_AUTO_TEST_CASE(none_is_none)
{
    pid_file none;
    BOOST_TEST(!none);
    BOOST_TEST(!none.file());
    none.remove_if_ours();
}

BOOST_AUTO_TEST_CASE(it_names_this_process_and_nothing_is_left_beside_it)
{
    directory const place;
    pid_file file{place / "pid", {}};
    BOOST_TEST(bool{file});
    BOOST_TEST(!file.file());
    BOOST_TEST(!file.is_ours());
    file.check();
    file.write();
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(file.is_ours());
    BOOST_TEST((os::identify(file.file()) == os::identify(place / "pid")));
    BOOST_TEST(std::distance(fs::directory_iterator{place.path}, {}) == 1);
    file.remove_if_ours();
    BOOST_TEST(fs::is_empty(place.path));
    file.remove_if_ours();
}

BOOST_AUTO_TEST_CASE(a_relative_path_stays_where_it_was)
{
    directory const place;
    auto const before = fs::current_path();
    fs::current_path(place.path);
    pid_file file{"pid", {}};
    fs::current_path(before);
    file.write();
    BOOST_TEST(fs::exists(place / "pid"));
}

BOOST_AUTO_TEST_CASE(a_reader_sees_a_whole_file_at_any_moment)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    file.write();
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    std::atomic<int> reads{0};
    std::thread reader{[&] {
        while (!done) {
            wrong += content(path) != our_line();
            ++reads;
        }
    }};
    for (int i = 0; i != 1000; ++i)
        file.write();
    while (reads < 100)
        std::this_thread::yield();
    done = true;
    reader.join();
    BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(what_an_earlier_process_of_our_number_left_is_no_obstacle)
{
    directory const place;
    std::ofstream{place / "pid" + "." + std::to_string(::getpid())} << "half";
    pid_file file{place / "pid", {}};
    file.write();
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(std::distance(fs::directory_iterator{place.path}, {}) == 1);
}

BOOST_AUTO_TEST_CASE(the_file_of_somebody_else_is_not_removed)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    file.write();
    for (auto const& other :
         {line_of(1), std::string{}, std::to_string(::getpid()), our_line() + "1\n", "1" + our_line()}) {
        std::ofstream{path} << other;
        file.remove_if_ours();
        BOOST_TEST(content(path) == other);
    }
}

BOOST_AUTO_TEST_CASE(a_symlink_is_replaced_and_what_it_names_is_not_touched)
{
    directory const place;
    std::ofstream{place / "precious"} << "precious";
    fs::create_symlink(place / "precious", place / "pid");
    pid_file file{place / "pid", {}};
    file.write();
    BOOST_TEST(!fs::is_symlink(place / "pid"));
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(content(place / "precious") == "precious");

    // One that waits where the new file is made.
    fs::remove(place / "pid");
    fs::create_symlink(place / "precious", place / "pid" + "." + std::to_string(::getpid()));
    file.write();
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(content(place / "precious") == "precious");
}

BOOST_AUTO_TEST_CASE(a_fifo_in_its_place_blocks_nobody)
{
    directory const place;
    BOOST_REQUIRE(::mkfifo((place / "pid").c_str(), 0600) == 0);
    pid_file file{place / "pid", {}};
    BOOST_TEST(!file.is_ours());
    file.write();
    BOOST_TEST(file.is_ours());
}

BOOST_AUTO_TEST_CASE(check_finds_out_what_write_could_not_do)
{
    directory const place;
    BOOST_TEST(check_throws(pid_file{place / "none/pid", {}}));
    fs::create_directory(place / "folder");
    pid_file folder{place / "folder", {}};
    BOOST_TEST(check_throws(folder));
    BOOST_CHECK_THROW(folder.write(), ecdysis::error);
    BOOST_TEST(std::distance(fs::directory_iterator{place.path}, {}) == 1);
}

BOOST_AUTO_TEST_CASE(a_directory_that_is_not_ours_is_found_out, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    std::ofstream{place / "pid"} << "1\n";
    BOOST_TEST(as_nobody([&] { return check_throws(pid_file{place / "pid", {}}) ? 1 : 0; }).second == 1);
    BOOST_TEST(as_nobody([&] {
                   try {
                       pid_file{place / "pid", {}}.write();
                   } catch (ecdysis::error const& e) {
                       return e.code() == boost::system::errc::permission_denied ? 1 : 2;
                   }
                   return 0;
               }).second == 1);
    BOOST_TEST(content(place / "pid") == "1\n");

    // Writable for all, and yet the file is root's.
    ::chmod(place.path.c_str(), 01777);
    BOOST_TEST(as_nobody([&] { return check_throws(pid_file{place / "pid", {}}) ? 1 : 0; }).second == 1);
    fs::remove(place / "pid");
    auto const [pid, wrote] = as_nobody([&] {
        pid_file file{place / "pid", {}};
        file.check();
        file.write();
        return 1;
    });
    BOOST_TEST(wrote == 1);
    BOOST_TEST(content(place / "pid") == line_of(pid));
}

BOOST_AUTO_TEST_CASE(another_uid_writes_in_place_through_what_it_inherited, *boost::unit_test::precondition(is_root{}))
{
    for (::mode_t const mode : {0755, 01777}) {
        directory const place;
        ::chmod(place.path.c_str(), mode);
        auto const path = place / "pid";
        pid_file parents{path, {}};
        parents.write();
        auto const before = os::identify(path);
        auto const [pid, wrote] = as_nobody([&] {
            pid_file file{path, copy_of(parents.file())};
            file.check();
            file.write();
            return file.is_ours() ? 1 : 0;
        });
        BOOST_TEST(wrote == 1);
        BOOST_TEST(content(path) == line_of(pid));
        BOOST_TEST((os::identify(path) == before));
        BOOST_TEST(std::distance(fs::directory_iterator{place.path}, {}) == 1);

        // It is not the parent's any more.
        parents.remove_if_ours();
        BOOST_TEST(content(path) == line_of(pid));

        // A name that cannot be removed keeps an empty file.
        BOOST_TEST(as_nobody([&] {
                       pid_file file{path, copy_of(parents.file())};
                       file.write();
                       file.remove_if_ours();
                       return 1;
                   }).second == 1);
        BOOST_TEST(content(path) == "");
    }
}

BOOST_AUTO_TEST_CASE(a_descriptor_of_a_file_that_was_replaced_is_of_no_use, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    auto const path = place / "pid";
    pid_file parents{path, {}};
    parents.write();
    auto const old = copy_of(parents.file());
    parents.write();
    BOOST_TEST(as_nobody([&] { return check_throws(pid_file{path, copy_of(old)}) ? 1 : 0; }).second == 1);
    BOOST_TEST(content(path) == our_line());
}
