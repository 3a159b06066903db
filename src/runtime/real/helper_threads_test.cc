#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "runtime/helper.h"
#include "runtime/real/real_node.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::runtime {
namespace {

RealNodeOptions shards(uint32_t count) {
    RealNodeOptions options = one_shard_options();
    options.shards = count;
    return options;
}

Task<int> ask_elsewhere(RealNode&) {
    const std::thread::id here = std::this_thread::get_id();
    const auto there = co_await on_helper([] { return std::this_thread::get_id(); });
    EXPECT_NE(there, here);
    EXPECT_EQ(std::this_thread::get_id(), here) << "the caller goes on where it was";
    co_return 0;
}

TEST(Helpers, work_is_done_on_another_thread_and_its_caller_goes_on_at_home) {
    EXPECT_EQ(run_real_node(shards(1), &ask_elsewhere), 0);
}

// The work ends only when the shard has gone on meanwhile.
Task<int> go_on_meanwhile(RealNode&) {
    std::atomic<bool> went_on{false};
    Scope scope;
    scope.spawn([](std::atomic<bool>& flag) -> Task<void> {
        co_await yield();
        flag.store(true);
    }(went_on));
    const bool seen = co_await on_helper([&went_on] {
        while (!went_on.load()) std::this_thread::yield();
        return true;
    });
    co_await scope.join();
    co_return seen ? 1 : 0;
}

TEST(Helpers, the_shard_goes_on_while_the_work_is_done) {
    EXPECT_EQ(run_real_node(shards(1), &go_on_meanwhile), 1);
}

Task<void> ask_often(std::atomic<int>& sum) {
    for (int i = 0; i < 200; ++i) {
        sum += co_await on_helper([i] { return i % 2; });
        // Now and then the shard parks before the result comes.
        if (i % 50 == 0) (void)co_await sleep_for(1ms);
    }
}

Task<int> ask_from_all(RealNode& node) {
    std::atomic<int> sum{0};
    Scope scope;
    for (ShardId id = 0; id < node.shard_count(); ++id) {
        for (int i = 0; i < 4; ++i)
            scope.spawn(on(id, [&sum]() -> Task<void> { co_await ask_often(sum); }));
    }
    co_await scope.join();
    co_return sum.load();
}

TEST(Helpers, every_shard_gets_each_of_its_results) {
    EXPECT_EQ(run_real_node(shards(3), &ask_from_all), 3 * 4 * 100);
}

}  // namespace
}  // namespace weir::runtime
