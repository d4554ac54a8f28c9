// SPDX-License-Identifier: BSL-1.0
// usage: report FOLDER
// Makes the demo's table from what was written into FOLDER: `probe` (its lines), `wrk` (its output), `upgrades` (a line
// each: START(us since 1970) END(us) OUTCOME, where OUTCOME is ok, refused-as-expected or wrong), and `log`, the
// server's events. Status 1 if a request failed or an upgrade went wrong.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace {

using numbers = std::vector<double>;

std::string text(double value)
{
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.1f", value);
    return buffer;
}

void line(std::string what, std::string const& value)
{
    what.resize(std::max<std::size_t>(what.size(), 46), ' ');
    std::cout << "  " << what << value << '\n';
}

std::string percentile(numbers all, double part)
{
    if (all.empty())
        return "-";
    auto const at = all.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(all.size() - 1));
    std::ranges::nth_element(all, at);
    return text(*at / 1000) + " ms";
}

/// What wrk says: nothing of errors if there are none.
struct wrk
{
    explicit wrk(std::string const& file)
    {
        std::regex const total{R"( *(\d+) requests in .*)"}, bad{R"( *Non-2xx or 3xx responses: (\d+))"},
            errors{R"( *Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+))"};
        std::ifstream in{file};
        std::smatch found;
        for (std::string line; std::getline(in, line);) {
            if (std::regex_match(line, found, total))
                requests = std::stol(found[1]);
            else if (std::regex_match(line, found, bad))
                failed["non-2xx answer"] = std::stol(found[1]);
            else if (std::regex_match(line, found, errors))
                failed = {{"connect", std::stol(found[1])}, {"read", std::stol(found[2])},
                          {"write", std::stol(found[3])}, {"timeout", std::stol(found[4])}};
        }
    }

    long requests = 0;
    std::map<std::string, long> failed{{"connect", 0}, {"read", 0}, {"write", 0}, {"timeout", 0}};
};

} // namespace

int main(int argc, char** argv)
{
    if (argc != 2) {
        std::cerr << "usage: report FOLDER\n";
        return 2;
    }
    std::string const folder = argv[1];

    std::vector<std::pair<double, double>> upgrades;
    std::map<std::string, long> outcomes{{"ok", 0}, {"refused-as-expected", 0}, {"wrong", 0}};
    std::ifstream said{folder + "/upgrades"};
    std::string outcome;
    for (double from = 0, to = 0; said >> from >> to >> outcome; ++outcomes[outcome])
        upgrades.emplace_back(from, to + 50'000); // and a little, while the old generation drains

    wrk const heavy{folder + "/wrk"};
    std::map<std::string, long> probed{{"refused", 0}, {"reset", 0}, {"cut", 0}, {"timeout", 0}, {"bad-answer", 0}, {"other", 0}};
    numbers calm, during;
    long requests = 0;
    std::ifstream probe{folder + "/probe"};
    for (double at = 0, took = 0; probe >> at >> took >> outcome; ++requests) {
        if (outcome != "ok") {
            ++probed[outcome];
            continue;
        }
        bool const meanwhile = std::ranges::any_of(upgrades, [&](auto const& one) { return at <= one.second && at + took >= one.first; });
        (meanwhile ? during : calm).push_back(took);
    }

    numbers commits;
    std::regex const committed{R"(.*: committed to pid \d+ after (\d+) us)"};
    std::ifstream log{folder + "/log"};
    std::smatch found;
    for (std::string event; std::getline(log, event);)
        if (std::regex_match(event, found, committed))
            commits.push_back(std::stod(found[1]));

    long failed = 0;
    auto const kinds = [&failed](std::string const& who, std::map<std::string, long> const& all) {
        for (auto const& [kind, count] : all) {
            line("failed, " + who + ", " + kind, std::to_string(count));
            failed += count;
        }
    };
    line("requests, wrk, kept-alive connections", std::to_string(heavy.requests));
    line("requests, probe, a new connection each", std::to_string(requests));
    kinds("wrk", heavy.failed);
    kinds("probe", probed);
    line("failed requests", std::to_string(failed));
    line(commits.empty() ? "restarts" : "upgrades", std::to_string(outcomes["ok"]) + " ok, " + std::to_string(outcomes["refused-as-expected"]) +
                         " bad programs turned down, " + std::to_string(outcomes["wrong"]) + " wrong");
    if (!commits.empty()) {
        line("from trigger to commit, median", percentile(commits, 0.5));
        line("from trigger to commit, worst", percentile(commits, 1));
    }
    line("latency in calm, p50 / p99", percentile(calm, 0.5) + " / " + percentile(calm, 0.99));
    line("latency during upgrades, p50 / p99", percentile(during, 0.5) + " / " + percentile(during, 0.99));
    bool const driven = heavy.requests > 0 && requests > 0;
    if (!driven)
        std::cout << "wrk or the probe asked nothing\n";
    return failed == 0 && outcomes["wrong"] == 0 && driven ? 0 : 1;
}
