// SPDX-License-Identifier: BSL-1.0
#ifndef EXAMPLE_ARGUMENTS_HPP
#define EXAMPLE_ARGUMENTS_HPP

#include <ecdysis/address.hpp>
#include <ecdysis/error.hpp>
#include <ecdysis/os/fd.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace example {

/// One thing that can be said on the command line; `take` throws what is wrong with a value.
struct argument
{
    std::string name;
    std::string value;
    std::string help;
    std::function<void(std::string const&)> take;
};

/// An argument for a whole number that is at least 1.
template <class Integer>
[[nodiscard]] argument number(std::string name, Integer& to, std::string help)
{
    return {std::move(name), "NUMBER", std::move(help), [&to](std::string const& text) {
                auto const* const last = text.data() + text.size();
                auto const [end, ec] = std::from_chars(text.data(), last, to);
                if (ec != std::errc{} || end != last || to < 1)
                    throw std::invalid_argument{"expected a whole number from 1"};
            }};
}

/// An argument for a choice: `--store yes`.
[[nodiscard]] inline argument flag(std::string name, bool& to, std::string help)
{
    return {std::move(name), "yes|no", std::move(help), [&to](std::string const& text) {
                if (text != "yes" && text != "no")
                    throw std::invalid_argument{"expected yes or no"};
                to = text == "yes";
            }};
}

/// What all examples are told on the command line.
struct arguments
{
    std::string listen = "127.0.0.1:8080";
    std::string control{};
    std::string pid_file{};

    /// Reads the command line. Ends the process with --help (status 0) and when it is not understood (status 2).
    /// `more`: what one example has for itself.
    static arguments read(int argc, char** argv, std::string_view summary, std::vector<argument> more = {})
    {
        arguments result;
        auto all = result.common();
        all.insert(all.end(), more.begin(), more.end());
        auto const program = std::string_view{argv[0]}.substr(std::string_view{argv[0]}.rfind('/') + 1);
        try {
            for (int i = 1; i < argc; ++i) {
                std::string const name = argv[i];
                if (name == "--help")
                    help(program, summary, all);
                auto const known = std::ranges::find(all, name, &argument::name);
                if (known == all.end())
                    throw std::invalid_argument{name + ": no such argument"};
                if (++i == argc)
                    throw std::invalid_argument{name + ": expected " + known->value + " after it"};
                try {
                    known->take(argv[i]);
                } catch (std::exception const& e) {
                    throw std::invalid_argument{name + " " + argv[i] + ": " + std::string{e.what()}};
                }
            }
        } catch (std::invalid_argument const& e) {
            std::cerr << program << ": " << e.what() << "; see " << program << " --help\n";
            std::exit(2);
        }
        return result;
    }

private:
    std::vector<argument> common()
    {
        return {{"--listen", "ADDRESS:PORT", "where to serve, " + listen + " by default",
                 [this](std::string const& text) { listen = ecdysis::address{text}.text(); }},
                {"--control", "PATH", "a socket that upgrades when connected to, and says how it went",
                 [this](std::string const& text) { control = text; }},
                {"--pid-file", "PATH", "a file for the serving process's number",
                 [this](std::string const& text) { pid_file = text; }}};
    }

    [[noreturn]] static void help(std::string_view program, std::string_view summary, std::vector<argument> const& all)
    {
        std::cout << "usage: " << program << " [ARGUMENT VALUE]...\n\n" << summary << "\n\n";
        for (auto const& one : all)
            std::cout << "  " << std::string{one.name + " " + one.value}.append(24, ' ').substr(0, 24) << one.help << '\n';
        std::cout << "\nSIGHUP upgrades to what the program file has become; SIGTERM and SIGINT stop.\n";
        std::exit(0);
    }
};

/// What a socket is bound to, as --listen would take it: port 0 has become a port.
[[nodiscard]] inline std::string bound_to(int socket)
{
    ecdysis::error_code ec;
    auto const where = ecdysis::address::bound(ecdysis::os::borrowed_fd{socket}, ec);
    return ec ? ec.message() : where.text();
}

} // namespace example

#endif
