// SPDX-License-Identifier: BSL-1.0
// For tests of what is read from the environment and from files.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

/// Sets or takes out a variable of the environment until the end of the scope.
class variable
{
public:
    variable(char const* name, std::optional<std::string> const& value) : name_{name}
    {
        if (char const* const old = std::getenv(name))
            old_ = old;
        set(value);
    }
    variable(variable const&) = delete;
    variable& operator=(variable const&) = delete;
    ~variable() { set(old_); }

private:
    void set(std::optional<std::string> const& value) const
    {
        if (value)
            ::setenv(name_, value->c_str(), 1);
        else
            ::unsetenv(name_);
    }
    char const* name_;
    std::optional<std::string> old_;
};

/// A fresh directory, gone at the end of the scope.
class directory
{
public:
    directory()
    {
        auto name = (std::filesystem::temp_directory_path() / "units-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error{"mkdtemp"};
        path_ = name;
    }
    directory(directory const&) = delete;
    directory& operator=(directory const&) = delete;
    ~directory() { std::filesystem::remove_all(path_); }

    [[nodiscard]] std::string operator/(std::string_view name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string path() const { return path_.string(); }

    /// Writes a file, and makes the directories above it.
    void write(std::string_view name, std::string_view text) const
    {
        std::filesystem::create_directories((path_ / name).parent_path());
        std::ofstream{path_ / name} << text;
    }

private:
    std::filesystem::path path_;
};
