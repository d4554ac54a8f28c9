// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SYSTEMD_UNIT_FILES_HPP
#define ECDYSIS_SYSTEMD_UNIT_FILES_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/os/fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace ecdysis::systemd {

/// What matters here of a unit's [Service], as its files say it; the defaults are systemd's.
struct unit_settings
{
    std::string type = "simple";             ///< Type=
    std::string kill_mode = "control-group"; ///< KillMode=
    std::string exit_type = "main";          ///< ExitType= (systemd 250)
    unsigned long store_max = 0;             ///< FileDescriptorStoreMax=

    friend bool operator==(unit_settings const&, unit_settings const&) = default;

    /// One assignment, as systemd takes it: what it does not know it ignores, and an empty one resets KillMode= alone (seen
    /// with 252 and 257).
    void assign(std::string_view key, std::string_view value)
    {
        auto const choose = [&](std::string& setting, std::initializer_list<std::string_view> known) {
            if (std::ranges::find(known, value) != known.end())
                setting = value;
        };
        if (key == "Type")
            choose(type, {"simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"});
        else if (key == "KillMode" && value.empty())
            kill_mode = unit_settings{}.kill_mode;
        else if (key == "KillMode")
            choose(kill_mode, {"control-group", "mixed", "process", "none"});
        else if (key == "ExitType")
            choose(exit_type, {"main", "cgroup"});
        else if (key == "FileDescriptorStoreMax" && !value.empty() && value.front() >= '0' && value.front() <= '9') {
            std::string const digits{value};
            char* end = nullptr;
            auto const number = std::strtoul(digits.c_str(), &end, 0); // 010 and 0x8 are eight there too
            if (*end == '\0')
                store_max = number;
        }
    }

    /// The assignments of a whole file (systemd.syntax(7)); those outside [Service] are skipped.
    void assign_all(std::string_view text)
    {
        constexpr std::string_view blank = " \t\r\n";
        auto const trim = [&](std::string_view part) {
            part.remove_prefix(std::min(part.find_first_not_of(blank), part.size()));
            return part.substr(0, part.find_last_not_of(blank) + 1);
        };
        bool in_service = false;
        auto const take = [&](std::string_view line) {
            line = trim(line);
            if (line.starts_with('['))
                in_service = line == "[Service]";
            else if (auto const sign = line.find('='); in_service && sign != line.npos)
                assign(trim(line.substr(0, sign)), trim(line.substr(sign + 1)));
        };
        if (text.starts_with("\xEF\xBB\xBF"))
            text.remove_prefix(3);
        std::string whole; // a backslash at its end continues a line; comments in between do not end it
        while (!text.empty()) {
            auto const size = std::min(text.find('\n'), text.size());
            auto line = text.substr(0, size);
            text.remove_prefix(std::min(size + 1, text.size()));
            if (auto const words = trim(line); words.starts_with('#') || words.starts_with(';'))
                continue;
            if (line.ends_with('\r'))
                line.remove_suffix(1);
            whole += line;
            auto const escapes = whole.size() - (whole.find_last_not_of('\\') + 1);
            if (escapes % 2 != 0) {
                whole.back() = ' ';
                continue;
            }
            take(std::exchange(whole, {}));
        }
        take(whole);
    }
};

/// The unit that a process is in, from its /proc/self/cgroup; empty if that does not name a service, as in a control group
/// namespace of its own. Of nested ones (a user's manager is a service too) it is the innermost.
[[nodiscard]] inline std::string unit_of(std::string_view cgroups)
{
    constexpr std::string_view suffix = ".service";
    for (std::size_t from = 0; from < cgroups.size();) {
        auto const end = std::min(cgroups.find('\n', from), cgroups.size());
        auto line = cgroups.substr(from, end - from);
        from = end + 1;
        // systemd keeps its tree in version 2, and without that in the hierarchy that is named after it (cgroups(7)).
        if (!line.starts_with("0::") && line.find(":name=systemd:") == line.npos)
            continue;
        for (auto slash = line.rfind('/'); slash != line.npos; slash = line.rfind('/')) {
            auto name = line.substr(slash + 1);
            line = line.substr(0, slash);
            if (name.starts_with('_')) // how systemd escapes what the kernel could take for a file of its own
                name.remove_prefix(1);
            if (name.ends_with(suffix) && name.size() > suffix.size())
                return std::string{name};
        }
    }
    return {};
}

/// Where the manager that started this process looks for units, in the order of systemd.unit(5): a user's one where
/// MANAGERPID is set (systemd.exec(5)), else the system's.
[[nodiscard]] inline std::vector<std::string> unit_path()
{
    auto const variable = [](char const* name, std::string otherwise = {}) {
        char const* const value = std::getenv(name);
        return value != nullptr && *value != '\0' ? std::string{value} : otherwise;
    };
    std::vector<std::string> result;
    auto const add = [&](std::string_view list, std::string const& below = {}) {
        for (std::size_t from = 0; from < list.size();) {
            auto const end = std::min(list.find(':', from), list.size());
            if (list[from] == '/')
                result.push_back(std::string{list.substr(from, end - from)} + below);
            from = end + 1;
        }
    };
    auto const chosen = variable("SYSTEMD_UNIT_PATH");
    add(chosen);
    if (!chosen.empty() && !chosen.ends_with(':'))
        return result;
    if (variable("MANAGERPID").empty()) {
        add("/etc/systemd/system.control:/run/systemd/system.control:/run/systemd/transient:/run/systemd/generator.early:"
            "/etc/systemd/system:/etc/systemd/system.attached:/run/systemd/system:/run/systemd/system.attached:"
            "/run/systemd/generator:/usr/local/lib/systemd/system:/lib/systemd/system:/usr/lib/systemd/system:"
            "/run/systemd/generator.late");
        return result;
    }
    auto const home = variable("HOME"), config = variable("XDG_CONFIG_HOME", home + "/.config");
    auto const runtime = variable("XDG_RUNTIME_DIR") + "/systemd/";
    add(config, "/systemd/user.control");
    for (auto const* below : {"user.control", "transient", "generator.early"})
        add(runtime + below);
    add(config, "/systemd/user");
    add(variable("XDG_CONFIG_DIRS", "/etc/xdg"), "/systemd/user");
    add("/etc/systemd/user");
    add(runtime + "user");
    add("/run/systemd/user");
    add(runtime + "generator");
    add(variable("XDG_DATA_HOME", home + "/.local/share"), "/systemd/user");
    add(variable("XDG_DATA_DIRS", "/usr/local/share:/usr/share"), "/systemd/user");
    add("/usr/local/lib/systemd/user:/usr/lib/systemd/user");
    add(runtime + "generator.late");
    return result;
}

/// A file of at most `limit` bytes; what is no file with text in it, as the /dev/null that masks a drop-in, is empty. Errors:
/// `file_too_large`, and what open(2), fstat(2) and read(2) say. It does not wait for a FIFO.
[[nodiscard]] inline std::string read_file(std::string const& path, std::size_t limit, error_code& ec)
{
    os::owned_fd const file{os::call(ec, [&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); })};
    struct ::stat found{};
    if (!ec)
        os::call(ec, [&] { return ::fstat(file.get(), &found); });
    if (ec || !S_ISREG(found.st_mode))
        return {};
    std::string result(limit + 1, '\0'); // the files of /proc say that they are empty
    std::size_t size = 0;
    for (::ssize_t more = 1; more > 0 && size != result.size(); size += static_cast<std::size_t>(more)) {
        more = os::call(ec, [&] { return ::read(file.get(), result.data() + size, result.size() - size); });
        if (ec)
            return {};
    }
    if (size > limit)
        ec = make_error_code(boost::system::errc::file_too_large);
    result.resize(size);
    return ec ? std::string{} : result;
}

/// The names that a unit goes by where drop-ins are looked for, its own first: also its template's, and for an `a-b-c` the
/// same of `a-b-` and `a-`.
[[nodiscard]] inline std::vector<std::string> unit_names(std::string const& name)
{
    std::string const type = ".service";
    auto stem = name.substr(0, name.size() - type.size());
    auto const at = std::min(stem.find('@'), stem.size());
    auto const instance = stem.substr(at);
    stem.resize(at);
    std::vector<std::string> result;
    for (;;) {
        result.push_back(stem + instance + type);
        if (instance.size() > 1)
            result.push_back(stem + "@" + type);
        auto const end = stem.find_last_not_of('-');
        auto const dash = end == stem.npos ? stem.npos : stem.rfind('-', end);
        if (dash == stem.npos || dash == 0)
            return result;
        stem.resize(dash + 1);
    }
}

/// The settings of the unit `name`: its file, the first in `path`, or its template's; and its drop-ins, in the order of
/// systemd.unit(5) (those of an alias are not looked for). Nothing if there is none, or if something of it cannot be read,
/// or is more than anybody writes: half of it might say the contrary.
///
/// Exception safety: throws std::bad_alloc only.
[[nodiscard]] inline std::optional<unit_settings> read_unit(std::string const& name, std::vector<std::string> const& path)
{
    constexpr std::size_t most_bytes = 64 * 1024, most_drop_ins = 256;
    auto const names = unit_names(name);
    auto const is_absent = [](auto const& ec) { return ec.value() == ENOENT || ec.value() == ENOTDIR; };

    unit_settings result;
    bool found = false;
    auto const template_too = names.size() > 1 && names[1].find("@.") != names[1].npos;
    for (std::size_t own = 0; own != (template_too ? 2 : 1) && !found; ++own)
        for (auto place = path.begin(); place != path.end() && !found; ++place) {
            error_code ec;
            result.assign_all(read_file(*place + "/" + names[own], most_bytes, ec));
            if (ec && !is_absent(ec))
                return {};
            found = !ec;
        }
    if (!found)
        return {};

    std::map<std::string, std::string> drop_ins; // by the file's name, of which the first hides the others
    auto const look_in = [&](std::string const& directory) {
        std::error_code ec;
        std::filesystem::directory_iterator entry{directory, ec};
        if (ec)
            return is_absent(ec);
        for (; entry != std::filesystem::directory_iterator{}; entry.increment(ec)) {
            auto const file = entry->path().filename().string();
            if (file.ends_with(".conf") && !file.starts_with('.'))
                drop_ins.try_emplace(file, directory + "/" + file);
            if (drop_ins.size() > most_drop_ins)
                return false;
        }
        return !ec;
    };
    for (auto const& place : path)
        for (auto const& one : names)
            if (!look_in(place + "/" + one + ".d"))
                return {};
    for (auto const& place : path) // what is for all services comes after what is for some
        if (!look_in(place + "/service.d"))
            return {};
    for (auto const& [file, where] : drop_ins) {
        error_code ec;
        result.assign_all(read_file(where, most_bytes, ec));
        if (ec)
            return {};
    }
    return result;
}

} // namespace ecdysis::systemd

#endif
