// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/test/unit_test.hpp>

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace restart {

/// A directory of the test's own, which goes with it.
class folder
{
public:
    folder()
    {
        char pattern[] = "/tmp/ecdysis-restart-XXXXXX";
        BOOST_REQUIRE(::mkdtemp(pattern) != nullptr);
        path_ = pattern;
    }
    folder(folder const&) = delete;
    folder& operator=(folder const&) = delete;
    ~folder() { remove(); }

    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    [[nodiscard]] std::string operator/(std::string const& name) const { return path_ + "/" + name; }
    void remove() const
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

private:
    std::string path_;
};

} // namespace restart
