// SPDX-License-Identifier: BSL-1.0
#include <ecdysis/generation/signal_triggers.hpp>

#define BOOST_TEST_MODULE signal_triggers
#include <boost/test/unit_test.hpp>

#include "../io/world.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <tuple>
#include <utility>
#include <vector>

using namespace ecdysis;

namespace {

using policies = std::tuple<test::sync_pumped, test::asio_pumped>;

/// What a process heard, and how it was ended if it was: apart() gives the one or the other.
constexpr int as_it_should = 0;
constexpr int ended_by(int signal) { return -signal; }

/// Runs `f` in a forked process, whose signals do what they do by default; gives what `f` gave, or what ended it.
template <class F>
int apart(F&& f)
{
    auto const pid = ::fork();
    if (pid == 0) {
        ::sigset_t none;
        ::sigemptyset(&none);
        for (int signal = 1; signal < NSIG; ++signal)
            ::signal(signal, SIG_DFL);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        try {
            ::_exit(f());
        } catch (...) {
            ::_exit(99);
        }
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : ended_by(WTERMSIG(status));
}

/// The same as process 1 of a namespace.
template <class F>
int as_process_1(F&& f)
{
    return apart([&] { return ::unshare(CLONE_NEWPID) == 0 ? apart(f) : 98; });
}

struct can_be_process_1
{
    boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const
    {
        boost::test_tools::assertion_result result{as_process_1([] { return ::getpid() == 1 ? 0 : 1; }) == 0};
        result.message() << "no namespace of processes can be made here";
        return result;
    }
};

/// One process's signals, and what it heard.
template <class Pumped>
struct process
{
    explicit process(options named, std::vector<int> blocked = {}) : chosen{std::move(named)}
    {
        triggers.install_early(
            pumped.io, chosen, std::move(blocked),
            [this](request what, trigger by) { heard.emplace_back(what, by.signal); }, ec);
    }

    /// `signal` comes and is heard, once, as `what`.
    [[nodiscard]] bool hears(int signal, request what)
    {
        return ::raise(signal) == 0 && has_heard(signal, what);
    }
    [[nodiscard]] bool has_heard(int signal, request what)
    {
        pumped.until([&] { return !heard.empty(); });
        pumped.until([&] { return heard.size() > 1; }, std::chrono::milliseconds{5});
        return std::exchange(heard, {}) == std::vector{std::pair{what, signal}};
    }
    [[nodiscard]] bool has_heard_nothing()
    {
        pumped.settle();
        return heard.empty();
    }

    options chosen;
    Pumped pumped;
    std::vector<std::pair<request, int>> heard;
    signal_triggers<typename Pumped::policy> triggers;
    error_code ec;
};

void block(int signal)
{
    ::sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

void handler(int) {}

auto disposition(int signal)
{
    struct ::sigaction now{};
    ::sigaction(signal, nullptr, &now);
    return now.sa_handler;
}

} // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stop_ends_a_process_that_is_not_ready, Pumped, policies)
{
    for (int const signal : {SIGTERM, SIGINT, SIGUSR1, SIGRTMIN, SIGRTMAX}) {
        BOOST_TEST(apart([&] {
                       process<Pumped> it{{.stop_on = {signal}}};
                       return it.ec ? 1 : ::raise(signal) + 2;
                   }) == ended_by(signal));
        BOOST_TEST(apart([&] {
                       process<Pumped> it{{.partial_stop_on = {signal}}};
                       return it.ec ? 1 : ::raise(signal) + 2;
                   }) == ended_by(signal));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(and_is_heard_once_it_is, Pumped, policies)
{
    BOOST_TEST(apart([] {
                   process<Pumped> it{
                       {.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM, SIGINT}, .partial_stop_on = {SIGUSR1}}};
                   for (int i = 0; i != 2; ++i) { // the second time nothing happens
                       it.triggers.install_late(it.ec);
                       if (it.ec || !it.hears(SIGTERM, request::stop) || !it.hears(SIGINT, request::stop) ||
                           !it.hears(SIGUSR1, request::partial_stop) || !it.hears(SIGHUP, request::upgrade))
                           return 1;
                   }
                   return 0;
               }) == as_it_should);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_upgrade_is_heard_from_the_start, Pumped, policies)
{
    BOOST_TEST(apart([] {
                   process<Pumped> it{{.upgrade_on = {SIGHUP, SIGTERM}, .stop_on = {SIGINT}}};
                   return it.hears(SIGHUP, request::upgrade) && it.hears(SIGTERM, request::upgrade) ? 0 : 1;
               }) == as_it_should);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stop_that_would_not_end_it_is_heard_from_the_start, Pumped, policies)
{
    for (int const signal : {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU, SIGQUIT, SIGILL, SIGTRAP,
                             SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS}) {
        BOOST_TEST(apart([&] {
                       process<Pumped> it{{.stop_on = {SIGTERM, signal}}};
                       if (it.ec || !it.hears(signal, request::stop))
                           return 1;
                       it.triggers.install_late(it.ec);
                       return !it.ec && it.hears(signal, request::stop) && it.hears(SIGTERM, request::stop) ? 0 : 2;
                   }) == as_it_should,
                   signal);
    }
}

template <class Pumped>
int hear_all_from_the_start()
{
    ::raise(SIGTERM); // is dropped
    process<Pumped> it{{.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM}, .partial_stop_on = {SIGUSR1}}};
    if (it.ec || !it.has_heard_nothing() || !it.hears(SIGTERM, request::stop) ||
        !it.hears(SIGUSR1, request::partial_stop) || !it.hears(SIGHUP, request::upgrade))
        return 1;
    it.triggers.install_late(it.ec);
    return !it.ec && it.hears(SIGTERM, request::stop) ? 0 : 2;
}

BOOST_AUTO_TEST_CASE(process_1_hears_all_from_the_start, *boost::unit_test::precondition(can_be_process_1{}))
{
    BOOST_TEST(as_process_1(hear_all_from_the_start<test::sync_pumped>) == as_it_should);
    BOOST_TEST(as_process_1(hear_all_from_the_start<test::asio_pumped>) == as_it_should);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_is_named_for_several_is_a_stop, Pumped, policies)
{
    options const named{
        .upgrade_on = {SIGHUP, SIGUSR1, SIGHUP}, .stop_on = {SIGHUP}, .partial_stop_on = {SIGHUP, SIGUSR1}};
    for (int const signal : {SIGHUP, SIGUSR1})
        BOOST_TEST(apart([&] {
                       process<Pumped> it{named};
                       return it.ec ? 1 : ::raise(signal) + 2;
                   }) == ended_by(signal));
    BOOST_TEST(apart([&] {
                   process<Pumped> it{named};
                   it.triggers.install_late(it.ec);
                   return !it.ec && it.hears(SIGHUP, request::stop) && it.hears(SIGUSR1, request::partial_stop) ? 0 : 1;
               }) == as_it_should);
}

// ---- what a parent had blocked

BOOST_AUTO_TEST_CASE_TEMPLATE(an_upgrade_that_came_before_is_heard, Pumped, policies)
{
    BOOST_TEST(apart([] {
                   block(SIGHUP);
                   ::raise(SIGHUP);
                   process<Pumped> it{{.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM}}, {SIGHUP}};
                   if (it.ec || !it.has_heard(SIGHUP, request::upgrade))
                       return 1;
                   return it.hears(SIGHUP, request::upgrade) ? 0 : 2;
               }) == as_it_should);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_upgrade_that_came_before_is_no_stop, Pumped, policies)
{
    for (int const signal : {SIGHUP, SIGQUIT}) // late, early
        BOOST_TEST(apart([&] {
                       block(signal);
                       ::raise(signal);
                       process<Pumped> it{{.upgrade_on = {signal}, .stop_on = {signal}}, {signal}};
                       if (it.ec || !it.has_heard_nothing())
                           return 1;
                       it.triggers.install_late(it.ec);
                       return !it.ec && it.has_heard_nothing() && it.hears(signal, request::stop) ? 0 : 2;
                   }) == as_it_should,
                   signal);
    // From then on it is one.
    BOOST_TEST(apart([] {
                   block(SIGHUP);
                   ::raise(SIGHUP);
                   process<Pumped> it{{.stop_on = {SIGHUP}}, {SIGHUP}};
                   return it.has_heard_nothing() ? ::raise(SIGHUP) + 1 : 2;
               }) == ended_by(SIGHUP));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_this_host_has_no_use_for_is_the_processs_again, Pumped, policies)
{
    for (auto const& named : {options{}, options{.upgrade_on = {SIGUSR1}, .stop_on = {SIGTERM}}})
        BOOST_TEST(apart([&] {
                       block(SIGHUP);
                       ::raise(SIGHUP);
                       process<Pumped> it{named, {SIGHUP}};
                       return !it.ec && it.has_heard_nothing() ? ::raise(SIGHUP) + 1 : 2;
                   }) == ended_by(SIGHUP));
}

// ---- dispositions

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stop_keeps_what_it_came_with_until_then_and_all_comes_back, Pumped, policies)
{
    BOOST_TEST(apart([] {
                   ::signal(SIGTERM, SIG_IGN);
                   ::signal(SIGUSR1, &handler);
                   ::signal(SIGHUP, &handler);
                   ::signal(SIGQUIT, SIG_IGN);
                   process<Pumped> it{
                       {.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM, SIGQUIT}, .partial_stop_on = {SIGUSR1}}};
                   if (disposition(SIGTERM) != SIG_IGN || disposition(SIGUSR1) != &handler)
                       return 1;
                   ::raise(SIGTERM);
                   it.triggers.install_late(it.ec);
                   if (!it.has_heard_nothing() || !it.hears(SIGTERM, request::stop))
                       return 2;
                   for (int const signal : {SIGTERM, SIGUSR1, SIGHUP, SIGQUIT})
                       if (disposition(signal) == SIG_IGN || disposition(signal) == &handler)
                           return 3;
                   it.triggers.close();
                   return disposition(SIGTERM) == SIG_IGN && disposition(SIGQUIT) == SIG_IGN &&
                                  disposition(SIGUSR1) == &handler && disposition(SIGHUP) == &handler
                              ? 0
                              : 4;
               }) == as_it_should);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nothing_is_installed_after_the_end, Pumped, policies)
{
    BOOST_TEST(apart([] {
                   process<Pumped> it{{.upgrade_on = {SIGHUP}, .stop_on = {SIGTERM}}};
                   it.triggers.close();
                   it.triggers.install_late(it.ec);
                   return !it.ec && disposition(SIGTERM) == SIG_DFL && disposition(SIGHUP) == SIG_DFL ? 0 : 1;
               }) == as_it_should);
    signal_triggers<typename Pumped::policy> never;
    error_code ec = errc::busy;
    never.install_late(ec);
    BOOST_TEST(!ec);
    never.close();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_signal_that_can_have_no_handler_is_refused_at_the_start, Pumped, policies)
{
    for (int const signal : {0, -1, NSIG, SIGKILL, SIGSTOP})
        for (auto const& named : {options{.upgrade_on = {SIGHUP, signal}}, options{.stop_on = {SIGHUP, signal}},
                                  options{.upgrade_on = {SIGHUP}, .partial_stop_on = {signal}}})
            BOOST_TEST(apart([&] {
                           process<Pumped> it{named};
                           if (it.ec != boost::system::errc::invalid_argument)
                               return 1;
                           return disposition(SIGHUP) == SIG_DFL ? 0 : 2;
                       }) == as_it_should,
                       signal);
}
