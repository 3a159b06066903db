#include "runtime/real/watchdog.h"

#include <gtest/gtest.h>

#include "runtime/real/real_node.h"
#include "runtime/real/symbolize.h"
#include "runtime/remote.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

// Lines that a node logged; all its threads log.
class Lines {
  public:
    Logger::Sink sink() {
        return [this](const Logger::Event& event) {
            const std::lock_guard lock(mutex_);
            lines_.push_back(std::string(event.message) + " " + std::string(event.fields));
        };
    }
    std::vector<std::string> with(std::string_view text) const {
        const std::lock_guard lock(mutex_);
        std::vector<std::string> found;
        for (const std::string& line : lines_) {
            if (line.find(text) != std::string::npos) found.push_back(line);
        }
        return found;
    }

  private:
    mutable std::mutex mutex_;
    std::vector<std::string> lines_;
};

__attribute__((noinline)) uint64_t spin_for(Duration duration) {
    Shard& shard = Shard::current();
    const Instant end = shard.now() + duration;
    uint64_t rounds = 0;
    while (shard.now() < end) ++rounds;
    return rounds;
}

// A blocking call that should not be there: a stall on a loaded machine too, where a spinning
// thread may have to wait for a processor.
void block_for(Duration duration) {
    const timespec ts{.tv_sec = duration / 1s, .tv_nsec = (duration % 1s).count()};
    timespec left = ts;
    while (nanosleep(&left, &left) != 0) {
    }
}

RealNodeOptions watched(Lines& lines, uint32_t shards = 1) {
    return {.shards = shards, .log_sink = lines.sink(), .pin = false, .handle_signals = false};
}

constexpr std::string_view kReport = "a step holds its shard";

Task<int> spin_until_reported(RealNode& node) {
    for (int attempt = 0; attempt < 100 && node.stalls(0).count == 0; ++attempt) {
        EXPECT_GT(spin_for(30ms), 0u);
        (void)co_await sleep_for(2ms);
    }
    co_return static_cast<int>(node.stalls(0).count);
}

TEST(Watchdog, a_long_step_is_reported_with_its_stack) {
    Lines lines;
    const auto count = run_real_node(watched(lines), &spin_until_reported);
    ASSERT_TRUE(count.has_value());
    EXPECT_GE(*count, 1);
    const auto reports = lines.with(kReport);
    ASSERT_FALSE(reports.empty());
    EXPECT_NE(reports[0].find("shard=0"), std::string::npos) << reports[0];
    RecordProperty("report", reports[0]);
#ifndef WEIR_TSAN  // which delays signals to a moment of its own
    // Where the signal comes before a function has made its frame, its caller (spin_for, which calls
    // the clock all the time) is missing; the caller's caller never is.
    EXPECT_NE(reports[0].find("spin_until_reported"), std::string::npos) << reports[0];
#endif
}

Task<int> many_short_steps(RealNode& node) {
    for (int i = 0; i < 200; ++i) {
        block_for(500us);
        co_await yield();
    }
    co_return static_cast<int>(node.stalls(0).count);
}

TEST(Watchdog, many_short_steps_are_no_stall) {
    Lines lines;
    RealNodeOptions options = watched(lines);
    options.stall_threshold = 50ms;
    EXPECT_EQ(run_real_node(options, &many_short_steps), 0);
    EXPECT_TRUE(lines.with(kReport).empty());
}

Task<int> stall_often(RealNode& node) {
    for (int i = 0; i < 10; ++i) {
        block_for(20ms);
        co_await yield();
    }
    (void)co_await sleep_for(20ms);
    EXPECT_GE(node.stalls(0).total, Duration(100ms));
    EXPECT_GE(node.stalls(0).longest, Duration(15ms));
    co_return static_cast<int>(node.stalls(0).count);
}

TEST(Watchdog, reports_are_few_when_stalls_are_many) {
    Lines lines;
    const auto count = run_real_node(watched(lines), &stall_often);
    EXPECT_GE(*count, 3);  // of ten; on a machine with no time to spare the watchdog misses some
    EXPECT_GE(lines.with(kReport).size(), 1u);
    EXPECT_LE(lines.with(kReport).size(), 2u);
}

Task<void> block_here() {
    block_for(200ms);
    co_return;
}

Task<int> stall_elsewhere(RealNode& node) {
    co_await on(1, [] { return block_here(); });
    (void)co_await sleep_for(20ms);
    EXPECT_EQ(node.stalls(0).count, 0u);
    co_return static_cast<int>(node.stalls(1).count);
}

TEST(Watchdog, the_report_names_the_shard) {
    Lines lines;
    RealNodeOptions options = watched(lines, 2);
    options.stall_threshold = 100ms;
    EXPECT_EQ(run_real_node(options, &stall_elsewhere), 1);
    ASSERT_FALSE(lines.with(kReport).empty());
    EXPECT_NE(lines.with(kReport)[0].find("shard=1"), std::string::npos);
}

// The conformance suite shows that an idle node, its watchdog included, uses no processor; here it
// must still see a stall after a long sleep.
Task<int> sleep_then_stall(RealNode& node) {
    (void)co_await sleep_for(300ms);
    block_for(50ms);
    (void)co_await sleep_for(20ms);
    co_return static_cast<int>(node.stalls(0).count);
}

TEST(Watchdog, it_wakes_with_the_shard) {
    Lines lines;
    EXPECT_EQ(run_real_node(watched(lines), &sleep_then_stall), 1);
}

TEST(Symbolize, names_functions_of_this_program_and_of_libraries) {
    const uintptr_t addresses[] = {reinterpret_cast<uintptr_t>(&spin_for),
                                   reinterpret_cast<uintptr_t>(&getpid), 16};
    const auto names = symbolize(addresses);
    ASSERT_EQ(names.size(), 3u);
    EXPECT_EQ(names[0], "weir::runtime::spin_for+0x0");
    EXPECT_FALSE(names[1].empty());
    EXPECT_EQ(names[2], "0x10");
}

}  // namespace
}  // namespace weir::runtime
