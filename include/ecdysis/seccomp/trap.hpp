// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_SECCOMP_TRAP_HPP
#define ECDYSIS_SECCOMP_TRAP_HPP

#include <ecdysis/error.hpp>
#include <ecdysis/os/call.hpp>
#include <ecdysis/seccomp/allowlist.hpp>
#include <ecdysis/seccomp/rule.hpp>

#include <seccomp.h>

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace ecdysis::seccomp {

/// For finding out what a filter lacks: while it lives, a call that a filter turns away with SCMP_ACT_TRAP ends the process
/// as SCMP_ACT_KILL_PROCESS would, but says first which call it was, and which part of the assembly makes it, and why:
///
///     ecdysis::seccomp: openat(0xffffff9c, 0x55d0c2a3e1f0, 0x80801, 0, 0, 0) is not allowed by the filter
///       transport::named_pipe calls openat: the FIFOs (argument 2 & 0x243 == 1)
///
/// Who makes that call only with other arguments is named, after these words, where nobody makes it with those. For a call
/// that no part of the assembly makes it says that the host has to allow it.
///
/// What SIGSYS did before comes back with the destructor. One at a time in a process: a handler of signals knows nothing but
/// what is global. Not for production: its handler is one more thing in the process, and a thread that has SIGSYS blocked
/// is ended without a word.
///
/// Thread safety: construct and destroy while no other thread makes calls that are turned away.
class trap
{
public:
    /// `declared` is looked up for who makes a call: `declarations<Upgrader>::from_start`; it must outlive this, as such a
    /// constant does. `to`: where the words go.
    ///
    /// Throws `error` when there is one already (`device_or_resource_busy`), and what sigaction(2) says.
    explicit trap(std::span<rule const> declared, int to = STDERR_FILENO) : declared_{declared}, to_{to}
    {
        if (current_ != nullptr)
            throw error{make_error_code(boost::system::errc::device_or_resource_busy), "trap what a seccomp filter turns away"};
        // Not in the handler: libseccomp allocates.
        for (int number = 0; number != most_calls; ++number)
            names_.emplace_back(::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number), &std::free);
        current_ = this;
        struct ::sigaction action{};
        action.sa_sigaction = &handle;
        action.sa_flags = SA_SIGINFO;
        error_code ec;
        os::call(ec, [&] { return ::sigaction(SIGSYS, &action, &previous_); });
        if (ec) {
            current_ = nullptr;
            throw error{ec, "trap what a seccomp filter turns away"};
        }
    }
    template <class Rules>
        requires(!std::is_lvalue_reference_v<Rules> && !std::ranges::borrowed_range<Rules> && std::convertible_to<Rules, std::span<rule const>>)
    explicit trap(Rules&&, int = STDERR_FILENO) = delete; // the rules must outlive the trap: make them a static constexpr array
    trap(trap const&) = delete;
    trap& operator=(trap const&) = delete;
    ~trap()
    {
        ::sigaction(SIGSYS, &previous_, nullptr);
        current_ = nullptr;
    }

private:
    static constexpr int most_calls = 1024;

    /// One line at a time, without anything that a handler must not call (signal-safety(7)).
    class line
    {
    public:
        explicit line(int to) noexcept : to_{to} {}
        line(line const&) = delete;
        line& operator=(line const&) = delete;
        ~line()
        {
            [[maybe_unused]] auto const written = ::write(to_, text_.data(), size_);
        }

        line& operator<<(std::string_view text) noexcept
        {
            for (char const c : text)
                if (size_ != text_.size())
                    text_[size_++] = c;
            return *this;
        }
        line& operator<<(std::uint64_t number) noexcept
        {
            constexpr auto digits = std::string_view{"0123456789abcdef"};
            if (number > 9)
                *this << "0x";
            int shift = 60;
            while (shift != 0 && (number >> shift) == 0)
                shift -= 4;
            for (; shift >= 0; shift -= 4)
                *this << digits.substr(number >> shift & 0xf, 1);
            return *this;
        }

    private:
        int to_;
        std::array<char, 512> text_{};
        std::size_t size_ = 0;
    };

    static std::array<std::uint64_t, 6> arguments_of(void* context) noexcept
    {
        auto const& registers = static_cast<::ucontext_t*>(context)->uc_mcontext;
        std::array<std::uint64_t, 6> result{};
#if defined(__x86_64__)
        constexpr std::array where{REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9};
        for (std::size_t i = 0; i != where.size(); ++i)
            result[i] = static_cast<std::uint64_t>(registers.gregs[where[i]]);
#elif defined(__aarch64__)
        for (std::size_t i = 0; i != result.size(); ++i)
            result[i] = registers.regs[i];
#else
        static_cast<void>(registers);
#endif
        return result;
    }

    static void handle(int signal, ::siginfo_t* info, void* context) noexcept
    {
        constexpr int by_seccomp = 1; // SYS_SECCOMP of asm-generic/siginfo.h
        if (trap const* const self = current_; self != nullptr && info->si_code == by_seccomp)
            self->tell(info->si_syscall, arguments_of(context));
        struct ::sigaction action{};
        action.sa_handler = SIG_DFL;
        ::sigaction(signal, &action, nullptr);
        ::raise(signal); // is blocked here, and ends the process on the way out
    }

    void tell(int number, std::array<std::uint64_t, 6> const& arguments) const noexcept
    {
        std::string_view name;
        if (number >= 0 && number < most_calls && names_[static_cast<std::size_t>(number)])
            name = names_[static_cast<std::size_t>(number)].get();
        {
            line one{to_};
            one << "ecdysis::seccomp: ";
            if (name.empty())
                one << "system call " << static_cast<std::uint64_t>(number);
            else
                one << name;
            for (std::size_t i = 0; i != arguments.size(); ++i)
                one << (i == 0 ? "(" : ", ") << arguments[i];
            one << ") is not allowed by the filter\n";
        }
        auto const is_of_the_call = [&](rule const& one) { return one.call == name && one.answer == 0; };
        auto const makes_it = [&](rule const& one) { return is_of_the_call(one) && one.holds(arguments); };
        bool const anybody = std::ranges::any_of(declared_, makes_it);
        for (auto one = declared_.begin(); one != declared_.end(); ++one)
            if ((anybody ? makes_it(*one) : is_of_the_call(*one)) &&
                std::none_of(declared_.begin(), one, [&](rule const& before) { return says_the_same(before, *one); }))
                tell(*one, anybody ? "" : "with other arguments: ");
        if (std::ranges::none_of(declared_, is_of_the_call))
            line{to_} << "  no part of the upgrader calls it: if the host does, allow it\n";
    }
    /// A list may be joined into another twice.
    static bool says_the_same(rule const& one, rule const& other) noexcept
    {
        return one.by == other.by && one.why == other.why && one.covers(other) && other.covers(one);
    }
    void tell(rule const& one, std::string_view first) const noexcept
    {
        line said{to_};
        said << "  " << first << one.by << " calls " << one.call << ": " << one.why;
        for (auto const& condition : one.all_conditions())
            said << " (argument " << condition.argument << " & " << condition.mask << " == " << condition.value << ")";
        said << "\n";
    }

    inline static trap const* current_ = nullptr;

    std::span<rule const> declared_;
    int to_;
    std::vector<std::unique_ptr<char, decltype(&std::free)>> names_;
    struct ::sigaction previous_{};
};

} // namespace ecdysis::seccomp

#endif
