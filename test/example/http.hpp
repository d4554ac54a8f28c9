// SPDX-License-Identifier: BSL-1.0
// A request to the HTTP examples, and what they answer.
#pragma once

#include "../restart/harness/client.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <string_view>

namespace example {

inline constexpr char const* get = "GET / HTTP/1.1\r\nHost: example\r\n\r"; // and the '\n' that ends each line

/// An HTTP response, its body without the '\n' at its end.
struct response
{
    std::string head, body;

    [[nodiscard]] bool says(std::string_view field) const { return head.find("\n" + std::string{field}) != head.npos; }
    [[nodiscard]] bool is_ok() const { return head.starts_with("\nHTTP/1.1 200 OK"); }
};

/// Empty where none comes.
[[nodiscard]] inline response read_response(restart::connection& from)
{
    response result;
    auto line = from.receive();
    for (; line && *line != "\r"; line = from.receive())
        result.head += "\n" + line->substr(0, line->find('\r'));
    if (line)
        result.body = from.receive().value_or("");
    return result;
}

[[nodiscard]] inline response receive_response(restart::connection& from)
{
    auto const result = read_response(from);
    BOOST_TEST(result.is_ok(), result.head);
    return result;
}

[[nodiscard]] inline response ask_http(restart::connection& whom)
{
    whom.send(get);
    return receive_response(whom);
}

} // namespace example
