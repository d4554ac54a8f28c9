// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/pid_file.hpp>

#define BOOST_TEST_MODULE pid_file
#include <boost/test/unit_test.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
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

std::ptrdiff_t files_in(directory const& place) { return std::distance(fs::directory_iterator{place.path}, {}); }

/// What prepare() makes beside `path`.
std::string fresh(std::string const& path, ::pid_t pid = ::getpid()) { return path + "." + std::to_string(pid); }

struct is_root
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const
    {
        boost::test_tools::assertion_result result{::geteuid() == 0};
        result.message() << "only root can become another uid";
        return result;
    }
};

/// Runs `f` in a forked process; gives its pid and what `f` gave, or 99 if it threw.
template <class F>
std::pair<::pid_t, int> apart(F&& f)
{
    auto const pid = ::fork();
    if (pid == 0) {
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

/// The same as nobody.
template <class F>
std::pair<::pid_t, int> as_nobody(F&& f)
{
    return apart([&] { return ::setgid(nobody) != 0 || ::setuid(nobody) != 0 ? 98 : f(); });
}

/// In a mount namespace of this process's own: a file system with room for one page.
bool mount_small(std::string const& place)
{
    return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("tmpfs", place.c_str(), "tmpfs", 0, "size=4k") == 0;
}

/// `f` runs here while a forked process is in `meet()`.
class meeting
{
public:
    explicit meeting(std::function<void()> f)
    {
        BOOST_REQUIRE((::pipe(met_) == 0 && ::pipe(go_) == 0));
        here_ = std::thread{[this, f = std::move(f)] {
            char byte;
            if (::read(met_[0], &byte, 1) == 1)
                f();
            [[maybe_unused]] auto const size = ::write(go_[1], "x", 1);
        }};
    }
    ~meeting()
    {
        ::close(met_[1]);
        here_.join();
        for (int const end : {met_[0], go_[0], go_[1]})
            ::close(end);
    }

    [[nodiscard]] bool meet() const
    {
        char byte;
        return ::write(met_[1], "x", 1) == 1 && ::read(go_[0], &byte, 1) == 1;
    }

private:
    int met_[2];
    int go_[2];
    std::thread here_;
};

struct can_mount
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const
    {
        boost::test_tools::assertion_result result{
            apart([] { return mount_small(fs::temp_directory_path().string()) ? 0 : 1; }).second == 0};
        result.message() << "no file system can be mounted here";
        return result;
    }
};

bool prepare_throws(pid_file file)
{
    try {
        file.prepare();
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
    file.prepare();
    file.write();
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(file.is_ours());
    BOOST_TEST((os::identify(file.file()) == os::identify(place / "pid")));
    BOOST_TEST(files_in(place) == 1);
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
    std::ofstream{fresh(place / "pid")} << "half";
    pid_file file{place / "pid", {}};
    file.write();
    BOOST_TEST(content(place / "pid") == our_line());
    BOOST_TEST(files_in(place) == 1);
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
    fs::create_symlink(place / "precious", fresh(place / "pid"));
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

BOOST_AUTO_TEST_CASE(prepare_finds_out_what_publish_could_not_do)
{
    directory const place;
    BOOST_TEST(prepare_throws(pid_file{place / "none/pid", {}}));
    fs::create_directory(place / "folder");
    pid_file folder{place / "folder", {}};
    BOOST_TEST(prepare_throws(pid_file{place / "folder", {}}));
    BOOST_CHECK_THROW(folder.write(), ecdysis::error);
    BOOST_TEST(files_in(place) == 1);
}

BOOST_AUTO_TEST_CASE(a_directory_that_is_not_ours_is_found_out, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    std::ofstream{place / "pid"} << "1\n";
    BOOST_TEST(as_nobody([&] { return prepare_throws(pid_file{place / "pid", {}}) ? 1 : 0; }).second == 1);
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
    BOOST_TEST(as_nobody([&] { return prepare_throws(pid_file{place / "pid", {}}) ? 1 : 0; }).second == 1);
    fs::remove(place / "pid");
    auto const [pid, wrote] = as_nobody([&] {
        pid_file file{place / "pid", {}};
        file.prepare();
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
            file.prepare();
            file.write();
            return file.is_ours() ? 1 : 0;
        });
        BOOST_TEST(wrote == 1);
        BOOST_TEST(content(path) == line_of(pid));
        BOOST_TEST((os::identify(path) == before));
        BOOST_TEST(files_in(place) == 1);

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
    BOOST_TEST(as_nobody([&] { return prepare_throws(pid_file{path, copy_of(old)}) ? 1 : 0; }).second == 1);
    BOOST_TEST(content(path) == our_line());
}

// ---- in two steps

BOOST_AUTO_TEST_CASE(nobody_reads_what_is_prepared_until_it_is_published)
{
    directory const place;
    auto const path = place / "pid";
    std::ofstream{path} << "1\n";
    pid_file file{path, {}};
    file.prepare();
    file.prepare();
    BOOST_TEST(content(path) == "1\n");
    BOOST_TEST(!file.file());
    BOOST_TEST(content(fresh(path)) == our_line());
    BOOST_TEST(files_in(place) == 2);
    file.publish();
    BOOST_TEST(content(path) == our_line());
    BOOST_TEST((os::identify(file.file()) == os::identify(path)));
    BOOST_TEST(files_in(place) == 1);
    file.discard();
    BOOST_TEST(content(path) == our_line());
}

BOOST_AUTO_TEST_CASE(what_is_prepared_goes_with_its_owner)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    file.prepare();
    file.discard();
    BOOST_TEST(fs::is_empty(place.path));
    file.discard();
    file.prepare();
    {
        pid_file moved{std::move(file)};
        file.discard(); // it has nothing any more
        BOOST_TEST(fs::exists(fresh(path)));
    }
    BOOST_TEST(fs::is_empty(place.path));
    pid_file other{place / "other", {}};
    other.prepare();
    file = pid_file{path, {}};
    file.prepare();
    BOOST_TEST(files_in(place) == 2);
    file = std::move(other);
    BOOST_TEST(!fs::exists(fresh(path)));
    BOOST_TEST(fs::exists(fresh(place / "other")));
    file.publish();
    BOOST_TEST(content(place / "other") == our_line());
    BOOST_TEST(files_in(place) == 1);
}

BOOST_AUTO_TEST_CASE(a_fork_leaves_it_to_who_prepared_it)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    file.prepare();
    auto const [pid, left] = apart([&] {
        file.discard();
        pid_file{std::move(file)}.discard();
        return fs::exists(fresh(path, ::getppid())) ? 1 : 0;
    });
    BOOST_TEST(left == 1);
    BOOST_TEST(apart([&] {
                   file.write(); // a fresh one of its own
                   return files_in(place) == 2 && file.is_ours() ? 1 : 0;
               }).second == 1);
    file.publish();
    BOOST_TEST(content(path) == our_line());
    BOOST_TEST(files_in(place) == 1);
}

BOOST_AUTO_TEST_CASE(what_a_killed_child_prepared_is_removed_by_its_parent)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    file.write();
    auto const [pid, none] = apart([&] {
        pid_file childs{path, {}};
        childs.prepare();
        return ::raise(SIGKILL);
    });
    BOOST_TEST(content(fresh(path, pid)) == line_of(pid));
    file.discard_of(os::process_id{pid});
    BOOST_TEST(content(path) == our_line());
    BOOST_TEST(files_in(place) == 1);
    file.discard_of(os::process_id{pid});
    pid_file{}.discard_of(os::process_id{pid});
}

BOOST_AUTO_TEST_CASE(a_directory_that_goes_in_between_is_an_error)
{
    directory const place;
    auto const folder = place / "folder";
    fs::create_directory(folder);
    pid_file file{folder + "/pid", {}};
    file.prepare();
    fs::remove_all(folder);
    BOOST_CHECK_EXCEPTION(file.publish(), ecdysis::error, [](auto const& e) {
        return e.code() == boost::system::errc::no_such_file_or_directory;
    });
    BOOST_TEST(!file.file());
    fs::create_directory(folder);
    file.publish(); // as well as it can be done now
    BOOST_TEST(file.is_ours());
}

BOOST_AUTO_TEST_CASE(where_it_cannot_be_renamed_any_more_it_is_written_in_place)
{
    directory const place;
    auto const path = place / "pid";
    pid_file parents{path, {}};
    parents.write();
    auto const before = os::identify(path);
    auto const wrote = [&](pid_file& file) { return file.is_ours() && os::identify(path) == before; };

    // What is prepared is gone.
    auto const [pid, result] = apart([&] {
        pid_file file{path, copy_of(parents.file())};
        file.prepare();
        fs::remove(fresh(path));
        file.publish();
        return wrote(file) ? 1 : 0;
    });
    BOOST_TEST(result == 1);
    BOOST_TEST(content(path) == line_of(pid));
    BOOST_TEST(files_in(place) == 1);
    // And so is the inherited file.
    BOOST_TEST(apart([&] {
                   pid_file file{path, copy_of(parents.file())};
                   file.prepare();
                   fs::remove(fresh(path));
                   fs::remove(path);
                   std::ofstream{path} << "1\n";
                   try {
                       file.publish();
                   } catch (ecdysis::error const& e) {
                       return e.code() == boost::system::errc::no_such_file_or_directory ? 1 : 2;
                   }
                   return 0;
               }).second == 1);
    BOOST_TEST(content(path) == "1\n");
}

BOOST_AUTO_TEST_CASE(a_directory_that_is_closed_in_between, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    auto const path = place / "pid";
    pid_file parents{path, {}};
    parents.write();
    ::chmod(place.path.c_str(), 0777);
    meeting const between{[&] { ::chmod(place.path.c_str(), 0755); }};
    auto const [pid, wrote] = as_nobody([&] {
        pid_file file{path, copy_of(parents.file())};
        file.prepare();
        if (!between.meet())
            return 0;
        file.publish();
        return file.is_ours() ? 1 : 2;
    });
    BOOST_TEST(wrote == 1);
    BOOST_TEST(content(path) == line_of(pid));
    // The fresh one could not be removed either.
    parents.discard_of(os::process_id{pid});
    BOOST_TEST(files_in(place) == 1);
}

BOOST_AUTO_TEST_CASE(nothing_is_prepared_where_it_will_be_written_in_place, *boost::unit_test::precondition(is_root{}))
{
    for (::mode_t const mode : {0755, 01777}) {
        directory const place;
        ::chmod(place.path.c_str(), mode);
        auto const path = place / "pid";
        pid_file parents{path, {}};
        parents.write();
        auto const [pid, wrote] = as_nobody([&] {
            pid_file file{path, copy_of(parents.file())};
            file.prepare();
            file.prepare();
            if (content(path) != line_of(::getppid()) || files_in(place) != 1)
                return 2;
            file.discard();
            file.publish();
            return file.is_ours() ? 1 : 3;
        });
        BOOST_TEST(wrote == 1);
        BOOST_TEST(content(path) == line_of(pid));
        BOOST_TEST(files_in(place) == 1);
    }
}

BOOST_AUTO_TEST_CASE(what_is_replaced_in_between_is_not_written_in_place, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    auto const path = place / "pid";
    pid_file parents{path, {}};
    parents.write();
    auto const old = copy_of(parents.file());
    meeting const between{[&] { parents.write(); }};
    BOOST_TEST(as_nobody([&] {
                   pid_file file{path, copy_of(old)};
                   file.prepare();
                   if (!between.meet())
                       return 3;
                   try {
                       file.publish();
                   } catch (ecdysis::error const& e) {
                       return std::string{e.what()}.find("its directory must be writable") != std::string::npos ? 1 : 2;
                   }
                   return 0;
               }).second == 1);
    BOOST_TEST(content(path) == our_line());
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_found_out_before, *boost::unit_test::precondition(can_mount{}))
{
    directory const place;
    BOOST_TEST(apart([&] {
                   if (!mount_small(place.path))
                       return 97;
                   std::ofstream{place / "page"} << std::string(4096, 'x') << std::flush;
                   pid_file file{place / "pid", {}};
                   try {
                       file.prepare();
                       return 1;
                   } catch (ecdysis::error const& e) {
                       if (e.code() != boost::system::errc::no_space_on_device || files_in(place) != 1)
                           return 2;
                   }
                   fs::remove(place / "page");
                   file.write();
                   return file.is_ours() ? 0 : 3;
               }).second == 0);
    // The file of the parent has its page already.
    BOOST_TEST(apart([&] {
                   if (!mount_small(place.path))
                       return 97;
                   auto const path = place / "pid";
                   std::ofstream{path} << "1\n" << std::flush;
                   pid_file file{path, os::owned_fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)}};
                   file.prepare();
                   if (content(path) != "1\n" || files_in(place) != 1)
                       return 1;
                   file.publish();
                   return file.is_ours() && files_in(place) == 1 ? 0 : 2;
               }).second == 0);
}

// ---- whose file it is

BOOST_AUTO_TEST_CASE(it_is_removed_while_it_names_one_of_those_that_are_named)
{
    directory const place;
    auto const path = place / "pid";
    pid_file file{path, {}};
    os::process_id const parent{4711};
    for (auto const& line : {our_line(), line_of(4711)}) {
        std::ofstream{path} << line;
        file.remove_if_names({os::this_process(), parent});
        BOOST_TEST(!fs::exists(path));
    }
    std::ofstream{path} << "4712\n";
    file.remove_if_names({os::this_process(), parent});
    BOOST_TEST(content(path) == "4712\n");
    file.remove_if_names({});
    BOOST_TEST(content(path) == "4712\n");
    pid_file{}.remove_if_names({parent});
}

BOOST_AUTO_TEST_CASE(only_the_file_that_is_there_is_emptied, *boost::unit_test::precondition(is_root{}))
{
    directory const place;
    auto const path = place / "pid";
    pid_file parents{path, {}};
    parents.write();
    auto const old = copy_of(parents.file());
    std::ofstream{place / "precious"} << "precious";
    os::owned_fd const precious{::open((place / "precious").c_str(), O_RDWR | O_CLOEXEC)};
    auto const remove_by = [&](os::borrowed_fd inherited) {
        return as_nobody([&] {
                   pid_file file{path, copy_of(inherited)};
                   file.remove_if_names({os::parent_process()});
                   return 1;
               }).second;
    };
    BOOST_TEST(remove_by(precious) == 1);
    BOOST_TEST(content(place / "precious") == "precious");
    BOOST_TEST(content(path) == our_line());
    BOOST_TEST(remove_by(old) == 1);
    BOOST_TEST(content(path) == "");
}
