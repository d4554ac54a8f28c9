// SPDX-License-Identifier: BSL-1.0
#ifndef ECDYSIS_HANDOFF_BEQUEST_HPP
#define ECDYSIS_HANDOFF_BEQUEST_HPP

#include <ecdysis/handoff/wire.hpp>
#include <ecdysis/os/fd.hpp>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace ecdysis::handoff {

/// What is handed over, as it is when the upgrade starts. Shares ownership, so that the numbers stay what they are
/// until the upgrade has ended.
struct bequest
{
    std::vector<record> records;
    std::vector<os::borrowed_fd> fds;
    std::vector<std::shared_ptr<void const>> keep;

    void reserve(std::size_t count)
    {
        records.reserve(count);
        fds.reserve(count);
        keep.reserve(count);
    }

    void add(record what, os::borrowed_fd fd, std::shared_ptr<void const> owner = {})
    {
        records.push_back(std::move(what));
        fds.push_back(fd);
        if (owner)
            keep.push_back(std::move(owner));
    }
};

} // namespace ecdysis::handoff

#endif
