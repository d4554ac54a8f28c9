// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_LAUNCH_MOVES_HPP
#define ECDYSIS_LAUNCH_MOVES_HPP

#include <cstddef>
#include <span>
#include <vector>

namespace ecdysis::launch {

/// One dup2(from, to).
struct move
{
    int from;
    int to;

    friend bool operator==(move, move) noexcept = default;
};

/// The moves after which number `first + i` is what `sources[i]` was before, for every i.
///
/// A source may be any number, one of the targets too, and may occur more than once. Every target is moved to
/// exactly once; a source that is in its place already is moved onto itself, which stands for taking FD_CLOEXEC away.
///
/// Only numbers from `first` to `first + sources.size()` are written to. The last of these is the scratch number
/// that breaks cycles. It may itself be a source: no move reads it as one after it was overwritten.
///
/// Cost: linear. Errors: none, but for std::bad_alloc. No system call is made.
[[nodiscard]] inline std::vector<move> plan_moves(std::span<int const> sources, int first)
{
    auto const count = sources.size();
    auto const number = [&](std::size_t index) { return first + static_cast<int>(index); };
    auto const index_of = [&](int source) { return static_cast<std::size_t>(source - first); };
    auto const is_target = [&](int source) { return source >= first && index_of(source) < count; };

    // How many other targets still want what this one holds now.
    std::vector<std::size_t> wanted(count);
    for (std::size_t i = 0; i != count; ++i)
        if (is_target(sources[i]) && sources[i] != number(i))
            ++wanted[index_of(sources[i])];

    std::vector<move> moves;
    moves.reserve(count + count / 2); // a cycle costs one move more and has two members or more
    std::vector<bool> moved(count);

    // What nobody wants is overwritten first, which may free its source to be overwritten next.
    auto const fill_from = [&](std::size_t i) {
        for (;;) {
            auto const source = sources[i];
            moves.push_back({source, number(i)});
            moved[i] = true;
            if (!is_target(source) || source == number(i) || --wanted[index_of(source)] != 0)
                return;
            i = index_of(source);
            if (moved[i]) // a source in its place already, moved onto itself above
                return;
        }
    };
    for (std::size_t i = 0; i != count; ++i)
        if (!moved[i] && (wanted[i] == 0 || sources[i] == number(i)))
            fill_from(i);

    // What is left are cycles, each target wanted by exactly one other. All sources beyond the targets have been
    // read by now, so the number after the last target is free.
    auto const scratch = number(count);
    for (std::size_t start = 0; start != count; ++start) {
        if (moved[start])
            continue;
        moves.push_back({number(start), scratch});
        auto i = start;
        for (; index_of(sources[i]) != start; i = index_of(sources[i])) {
            moves.push_back({sources[i], number(i)});
            moved[i] = true;
        }
        moves.push_back({scratch, number(i)});
        moved[i] = true;
    }
    return moves;
}

} // namespace ecdysis::launch

#endif
