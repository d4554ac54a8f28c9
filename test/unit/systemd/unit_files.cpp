// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/systemd/unit_files.hpp>

#define BOOST_TEST_MODULE systemd_unit_files
#include <boost/test/unit_test.hpp>

#include "place.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <ostream>
#include <vector>

namespace systemd = ecdysis::systemd;
using systemd::read_unit;
using systemd::unit_of;
using systemd::unit_settings;
using names = std::vector<std::string>;

namespace ecdysis::systemd {

std::ostream& operator<<(std::ostream& to, unit_settings const& s)
{
    return to << s.type << ' ' << s.kill_mode << ' ' << s.exit_type << ' ' << s.store_max;
}

} // namespace ecdysis::systemd

namespace {

unit_settings settings_of(std::string_view text)
{
    unit_settings result;
    result.assign_all(text);
    return result;
}

} // namespace

BOOST_AUTO_TEST_CASE(defaults_are_those_of_systemd)
{
    BOOST_TEST(settings_of("") == (unit_settings{"simple", "control-group", "main", 0}));
}

BOOST_AUTO_TEST_CASE(assignments_of_the_section)
{
    BOOST_TEST(settings_of("[Unit]\nType=exec\n[Service]\nType=notify\nKillMode=mixed\nExitType=cgroup\n"
                           "FileDescriptorStoreMax=7\n[Install]\nKillMode=none\n") ==
               (unit_settings{"notify", "mixed", "cgroup", 7}));
    BOOST_TEST(settings_of("Type=exec\n") == unit_settings{});
}

BOOST_AUTO_TEST_CASE(later_ones_win)
{
    BOOST_TEST(settings_of("[Service]\nType=notify\n[Unit]\n[Service]\nType=exec").type == "exec");
}

// Each of these was shown to systemd 252 and 257, and read from `systemctl show`.
BOOST_AUTO_TEST_CASE(an_empty_one_resets_the_kill_mode_alone)
{
    BOOST_TEST(settings_of("[Service]\nKillMode=process\nKillMode=\nFileDescriptorStoreMax=5\nFileDescriptorStoreMax=\n"
                           "Type=exec\nType=\nExitType=cgroup\nExitType=\n") ==
               (unit_settings{"exec", "control-group", "cgroup", 5}));
}
BOOST_AUTO_TEST_CASE(what_is_not_known_is_ignored)
{
    BOOST_TEST(settings_of("[Service]\nKillMode=process\nKillMode=Mixed\nKillMode=mixed # not a comment\n"
                           "FileDescriptorStoreMax=5\nFileDescriptorStoreMax=x\nFileDescriptorStoreMax=7x\n"
                           "FileDescriptorStoreMax=-1\nType=notify\nType=notify-later\nType=\"exec\"\ntype=exec\n") ==
               (unit_settings{"notify", "process", "main", 5}));
}
BOOST_AUTO_TEST_CASE(numbers_of_other_bases)
{
    BOOST_TEST(settings_of("[Service]\nFileDescriptorStoreMax=0x10").store_max == 16U);
    BOOST_TEST(settings_of("[Service]\nFileDescriptorStoreMax= 010 ").store_max == 8U);
}
BOOST_AUTO_TEST_CASE(continued_lines_with_comments_in_them)
{
    BOOST_TEST(settings_of("[Service]\n  KillMode = \\\n# comment \\\n;another\n  process  \nType=exec\n") ==
               (unit_settings{"exec", "process", "main", 0}));
    BOOST_TEST(settings_of("[Service]\nKillMode=\\\nprocess").kill_mode == "process");
    BOOST_TEST(settings_of("[Service]\nKillMode=process\\").kill_mode == "process");
    BOOST_TEST(settings_of("[Service]\n# KillMode=process \\\nType=exec").type == "exec");
    BOOST_TEST(settings_of("[Service]\nExecStart=/bin/a \\\\\nType=exec").type == "exec"); // an escaped one
}
BOOST_AUTO_TEST_CASE(marks_and_line_ends_of_other_systems)
{
    BOOST_TEST(settings_of("\xEF\xBB\xBF[Service]\r\nType=exec\r\nKillMode=\\\r\nmixed\r\n") ==
               (unit_settings{"exec", "mixed", "main", 0}));
}

BOOST_AUTO_TEST_CASE(unit_from_the_control_group)
{
    BOOST_TEST(unit_of("0::/system.slice/http.service\n") == "http.service");
    BOOST_TEST(unit_of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/http@a.service\n") == "http@a.service");
    BOOST_TEST(unit_of("0::/system.slice/http.service/workers/one") == "http.service");
    BOOST_TEST(unit_of("0::/system.slice/_cgroup.service\n") == "cgroup.service");
    BOOST_TEST(unit_of("8:pids:/x.service\n1:name=systemd:/system.slice/http.service\n0::/\n") == "http.service");
    for (auto const* other : {"", "\n", "0::/", "0::/..\n", "0::/.service", "0::/user.slice/session-1.scope\n", "garbage",
                              "8:pids:/x.service\n", "0::http.service"})
        BOOST_TEST(unit_of(other) == "");
}

BOOST_AUTO_TEST_CASE(names_for_drop_ins)
{
    BOOST_TEST(systemd::unit_names("http.service") == names{"http.service"}, boost::test_tools::per_element());
    BOOST_TEST(systemd::unit_names("a-b-c.service") == (names{"a-b-c.service", "a-b-.service", "a-.service"}),
               boost::test_tools::per_element());
    BOOST_TEST(systemd::unit_names("a-b@x-y.service") ==
                   (names{"a-b@x-y.service", "a-b@.service", "a-@x-y.service", "a-@.service"}),
               boost::test_tools::per_element());
    BOOST_TEST(systemd::unit_names("a--.service") == names{"a--.service"}, boost::test_tools::per_element());
    BOOST_TEST(systemd::unit_names("-a.service") == names{"-a.service"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(path_that_was_chosen)
{
    variable const chosen{"SYSTEMD_UNIT_PATH", "/one:relative:/two"};
    BOOST_TEST(systemd::unit_path() == (names{"/one", "/two"}), boost::test_tools::per_element());
}
BOOST_AUTO_TEST_CASE(path_of_the_system)
{
    variable const chosen{"SYSTEMD_UNIT_PATH", "/one:"}, manager{"MANAGERPID", {}};
    auto const path = systemd::unit_path();
    BOOST_TEST_REQUIRE(path.size() == 14U);
    BOOST_TEST(path.front() == "/one");
    BOOST_TEST(path[1] == "/etc/systemd/system.control");
    BOOST_TEST(path.back() == "/run/systemd/generator.late");
}
// What `systemd-analyze --user unit-paths` of systemd 252 gives with these, and the directories of generators.
BOOST_AUTO_TEST_CASE(path_of_a_user)
{
    variable const chosen{"SYSTEMD_UNIT_PATH", {}}, manager{"MANAGERPID", "1"}, home{"HOME", "/home/a"},
        runtime{"XDG_RUNTIME_DIR", "/run/user/7"}, config{"XDG_CONFIG_HOME", {}}, configs{"XDG_CONFIG_DIRS", {}},
        data{"XDG_DATA_HOME", "/data"}, all_data{"XDG_DATA_DIRS", {}};
    BOOST_TEST(systemd::unit_path() ==
                   (names{"/home/a/.config/systemd/user.control", "/run/user/7/systemd/user.control",
                          "/run/user/7/systemd/transient", "/run/user/7/systemd/generator.early",
                          "/home/a/.config/systemd/user", "/etc/xdg/systemd/user", "/etc/systemd/user",
                          "/run/user/7/systemd/user", "/run/systemd/user", "/run/user/7/systemd/generator",
                          "/data/systemd/user", "/usr/local/share/systemd/user", "/usr/share/systemd/user",
                          "/usr/local/lib/systemd/user", "/usr/lib/systemd/user", "/run/user/7/systemd/generator.late"}),
               boost::test_tools::per_element());
}
BOOST_AUTO_TEST_CASE(path_of_a_user_without_a_home)
{
    variable const chosen{"SYSTEMD_UNIT_PATH", {}}, manager{"MANAGERPID", "1"}, home{"HOME", {}}, runtime{"XDG_RUNTIME_DIR", {}};
    for (auto const& one : systemd::unit_path())
        BOOST_TEST(one.starts_with('/'));
}

BOOST_AUTO_TEST_CASE(first_file_of_the_path)
{
    directory const one, two;
    two.write("http.service", "[Service]\nType=exec\n");
    BOOST_TEST(read_unit("http.service", {one.path(), two.path()}).value() == (unit_settings{.type = "exec"}));
    one.write("http.service", "[Service]\nKillMode=mixed\n");
    BOOST_TEST(read_unit("http.service", {one.path(), two.path()}).value() == (unit_settings{.kill_mode = "mixed"}));
    BOOST_TEST(!read_unit("other.service", {one.path(), two.path()}).has_value());
    BOOST_TEST(!read_unit("http.service", {}).has_value());
    BOOST_TEST(!read_unit("http.service", {one / "none", one / "http.service"}).has_value());
}

BOOST_AUTO_TEST_CASE(template_after_the_instance_of_any_directory)
{
    directory const one, two;
    one.write("http@.service", "[Service]\nType=notify\n");
    BOOST_TEST(read_unit("http@a.service", {one.path(), two.path()})->type == "notify");
    BOOST_TEST(read_unit("http@.service", {one.path()})->type == "notify");
    two.write("http@a.service", "[Service]\nType=exec\n");
    BOOST_TEST(read_unit("http@a.service", {one.path(), two.path()})->type == "exec");
    BOOST_TEST(!read_unit("a-http.service", {one.path()}).has_value()); // `a-` has drop-ins, and no unit
}

// As systemd 252 and 257 have it: sorted by name wherever they are, and the first of a name hides the others.
BOOST_AUTO_TEST_CASE(drop_ins)
{
    directory const one, two;
    names const path{one.path(), two.path()};
    auto const max = [&](char const* unit) { return read_unit(unit, path)->store_max; };
    auto const set = [](int value) { return "[Service]\nFileDescriptorStoreMax=" + std::to_string(value) + "\n"; };
    two.write("f-3.service", set(10));
    two.write("g@.service", set(20));
    BOOST_TEST(max("f-3.service") == 10U);
    two.write("service.d/10-a.conf", set(11));
    BOOST_TEST(max("f-3.service") == 11U);
    BOOST_TEST(max("g@a.service") == 11U);
    two.write("f-.service.d/10-a.conf", set(12));
    two.write("f-3.service.d/05-a.conf", set(13));
    BOOST_TEST(max("f-3.service") == 12U);
    two.write("g@.service.d/1.conf", set(21));
    two.write("g@a.service.d/0.conf", set(22));
    BOOST_TEST(max("g@a.service") == 11U);
    two.write("f-3.service.d/10-a.conf", set(14));
    BOOST_TEST(max("f-3.service") == 14U);
    one.write("f-3.service.d/10-a.conf", set(15));
    BOOST_TEST(max("f-3.service") == 15U);
    two.write("f-3.service.d/99.conf.bak", set(16));
    two.write("f-3.service.d/.99.conf", set(16));
    BOOST_TEST(max("f-3.service") == 15U);
    std::filesystem::create_symlink("/dev/null", one / "f-3.service.d/99.conf");
    two.write("f-3.service.d/99.conf", set(16));
    BOOST_TEST(max("f-3.service") == 15U);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_read_in_full_is_not_known)
{
    directory const place;
    auto const known = [&] { return read_unit("http.service", {place.path()}).has_value(); };
    place.write("http.service", "[Service]\n" + std::string(64 * 1024, '\n'));
    BOOST_TEST(!known());
    place.write("http.service", "[Service]\n");
    BOOST_TEST(known());
    place.write("http.service.d/big.conf", std::string(64 * 1024 + 1, '#'));
    BOOST_TEST(!known());
    place.write("http.service.d/big.conf", std::string(64 * 1024, '#'));
    BOOST_TEST(known());
    std::filesystem::create_symlink("nowhere", place / "http.service.d/gone.conf");
    BOOST_TEST(!known());
    std::filesystem::remove(place / "http.service.d/gone.conf");
    for (int i = 0; i != 255; ++i)
        place.write("http.service.d/" + std::to_string(i) + ".conf", "");
    BOOST_TEST(known());
    place.write("http.service.d/one.conf", "");
    BOOST_TEST(!known());
}

BOOST_AUTO_TEST_CASE(a_fifo_is_not_waited_for)
{
    directory const place;
    BOOST_REQUIRE(::mkfifo((place / "http.service").c_str(), 0600) == 0);
    BOOST_TEST(read_unit("http.service", {place.path()}).value() == unit_settings{});
}

BOOST_AUTO_TEST_CASE(files_of_proc)
{
    ecdysis::error_code ec;
    BOOST_TEST(systemd::read_file("/proc/self/cgroup", 4096, ec) != "");
    BOOST_TEST(!ec);
    BOOST_TEST(systemd::read_file("/proc/self/environ", 1, ec) == "");
    BOOST_TEST((ec == boost::system::errc::file_too_large));
    BOOST_TEST(systemd::read_file("/nowhere/at/all", 1, ec) == "");
    BOOST_TEST((ec == boost::system::errc::no_such_file_or_directory));
}
