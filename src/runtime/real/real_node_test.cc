#include "runtime/real/real_node.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "runtime/real/processors.h"
#include "runtime/real/refuse_calls.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

RealNodeOptions quiet(uint32_t shards, DriverChoice driver = DriverChoice::kAuto) {
    return {.shards = shards,
            .driver = driver,
            .log_level = LogLevel::kError,
            .log_sink = {},
            .handle_signals = false};
}

Task<int> give_code(RealNode& node) { co_return static_cast<int>(40 + node.shard_count()); }

TEST(RealNode, gives_the_exit_code_of_main) {
    for (const DriverChoice driver : {DriverChoice::kAuto, DriverChoice::kAio}) {
        EXPECT_EQ(run_real_node(quiet(1, driver), &give_code), 41);
        EXPECT_EQ(run_real_node(quiet(2, driver), &give_code), 42);
    }
}

Task<int> count_shards(RealNode& node) { co_return static_cast<int>(node.shard_count()); }

TEST(RealNode, has_a_shard_for_each_processor_that_it_may_use) {
    EXPECT_EQ(run_real_node(quiet(0), &count_shards), static_cast<int>(find_processors().allowed));
}

Task<std::string> name_of_driver(RealNode* node) { co_return std::string(node->driver_name()); }

TEST(RealNode, runs_a_task_on_one_shard_and_gives_its_value) {
    RealNodeOptions options = one_shard_options();
    options.driver = DriverChoice::kAio;
    const auto name =
        run_on_one_shard([](RealNode& node) { return name_of_driver(&node); }, options);
    ASSERT_TRUE(name.has_value());
    EXPECT_EQ(*name, "aio");
}

// Each signal stops a node; a node that started later is not stopped by an old one.
Task<int> wait_for_stop(RealNode& node, int signal) {
    EXPECT_FALSE(node.stop_token().stop_requested());
    EXPECT_EQ(kill(getpid(), signal), 0);
    const auto slept = co_await sleep_for(10s, node.stop_token());
    co_return slept.has_value() ? 1 : 0;
}

TEST(RealNode, signals_request_stop) {
    for (const int signal : {SIGTERM, SIGINT, SIGTERM}) {
        RealNodeOptions options = quiet(2);
        options.handle_signals = true;
        EXPECT_EQ(run_real_node(options,
                                [signal](RealNode& node) { return wait_for_stop(node, signal); }),
                  0);
    }
}

Task<void> work_until_stopped(bool* ended) {
    (void)co_await sleep_for(1h, Shard::current().remote_scope().stop_token());
    *ended = true;
}

// What main left running in a remote scope is asked to stop, and waited for, before the loops end.
Task<int> leave_work_behind(RealNode&, std::vector<char>* ended) {
    for (uint32_t shard = 0; shard < 3; ++shard) {
        co_await on(shard, [ended, shard]() -> Task<void> {
            Shard::current().remote_scope().spawn(
                work_until_stopped(reinterpret_cast<bool*>(&(*ended)[shard])));
            co_return;
        });
    }
    co_return 0;
}

TEST(RealNode, waits_for_the_remote_scopes_of_all_shards) {
    for (const DriverChoice driver : {DriverChoice::kAuto, DriverChoice::kAio}) {
        std::vector<char> ended(3, 0);
        EXPECT_EQ(run_real_node(quiet(3, driver),
                                [&](RealNode& node) { return leave_work_behind(node, &ended); }),
                  0);
        EXPECT_EQ(ended, std::vector<char>(3, 1));
    }
}

struct Attempt {
    Result<int> ran = fail(ErrorCode::kUnsupported);
    std::string driver;
    std::string warnings;
    bool refused = false;
};

Task<int> note_driver(RealNode& node, Attempt* attempt) {
    attempt->driver = node.driver_name();
    co_return 0;
}

// Where io_uring_setup answers `error`.
Attempt attempt_with(DriverChoice driver, int error) {
    Attempt attempt;
    std::thread([&] {
        attempt.refused = refuse_calls({{SYS_io_uring_setup, error}});
        RealNodeOptions options = quiet(2, driver);
        options.log_level = LogLevel::kWarn;
        options.log_sink = [&](const Logger::Event& event) {
            attempt.warnings += std::string(event.fields);
        };
        attempt.ran =
            run_real_node(options, [&](RealNode& node) { return note_driver(node, &attempt); });
    }).join();
    return attempt;
}

TEST(RealNode, takes_aio_by_itself_where_io_uring_is_refused_and_says_why) {
    for (const auto& [error, cause] :
         {std::pair(EPERM, "seccomp"), std::pair(ENOSYS, "no io_uring"),
          std::pair(ENOMEM, "ulimit -l"), std::pair(EINVAL, "older than 6.1")}) {
        const Attempt attempt = attempt_with(DriverChoice::kAuto, error);
        if (!attempt.refused) GTEST_SKIP() << "may not filter system calls here";
        EXPECT_EQ(attempt.ran, 0);
        EXPECT_EQ(attempt.driver, "aio");
        EXPECT_NE(attempt.warnings.find(cause), std::string::npos) << attempt.warnings;
    }
}

TEST(RealNode, fails_with_the_cause_when_io_uring_was_asked_for_and_is_refused) {
    const Attempt attempt = attempt_with(DriverChoice::kUring, EPERM);
    if (!attempt.refused) GTEST_SKIP() << "may not filter system calls here";
    ASSERT_FALSE(attempt.ran.has_value());
    EXPECT_EQ(attempt.ran.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(attempt.ran.error().message.find("seccomp"), std::string::npos)
        << attempt.ran.error().message;
}

TEST(RealNode, refuses_what_it_cannot_start) {
    const auto too_many = run_real_node(quiet(100'000), &give_code);
    ASSERT_FALSE(too_many.has_value());
    EXPECT_EQ(too_many.error().code, ErrorCode::kInvalidArgument);
    EXPECT_FALSE(parse_driver_choice("dpdk").has_value());
    EXPECT_EQ(parse_driver_choice("aio"), DriverChoice::kAio);
}

}  // namespace
}  // namespace weir::runtime
