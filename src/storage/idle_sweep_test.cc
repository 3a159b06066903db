// What logs that fall idle give back, and what they keep, on the simulated disk.
#include "storage/idle_sweep.h"

#include <gtest/gtest.h>

#include "storage/shard_store.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

struct IdleSweepTest : testing::Test {
    sim::World world{{.plan = sim::Plan{.seed = 21}}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    StoreOptions options = small_options(&memory);  // a look a second

    void with_store(std::function<Task<void>(ShardStore&)> use) {
        sim::run_on(world, node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            co_await use(static_cast<ShardStore&>(set->local()));
            co_await set->close();
        });
    }
};

TEST_F(IdleSweepTest, many_logs_that_fall_idle_hold_nothing_in_memory_but_a_little) {
    constexpr uint64_t kLogs = 40;
    with_store([&](ShardStore& store) -> Task<void> {
        for (uint64_t id = 10; id < 10 + kLogs; ++id) {
            Log* log = must(co_await store.create_log({id}, {.retention_ms = -1}));
            for (int i = 0; i < 6; ++i) {
                must(co_await log->admit(1000, {}));
                must(log->append(make_entry(*log, 1000)));
            }
            must(co_await log->wait_durable(log->end()));
        }
        Log* small = must(co_await store.create_log({9}, {.retention_ms = -1}));
        must(co_await append_durably(small, make_entry(*small, 500)));
        EXPECT_GT(store.metrics().unflushed_bytes, kLogs * 5000);
        // The first look finds that they were used, the second that they were not since.
        (void)co_await runtime::sleep_for(5s);
        EXPECT_EQ(store.metrics().unflushed_bytes, 500u);
        EXPECT_EQ(store.cache().bytes(), 0u);
        for (uint64_t id = 10; id < 10 + kLogs; ++id) {
            const LogState& state = store.find_log({id})->state();
            EXPECT_EQ(state.memory.capacity(), 0u);
            EXPECT_EQ(state.segments.back().index, nullptr);
        }
        // A record now and then is not worth a run of its own.
        EXPECT_TRUE(store.find_log({9})->state().segments.empty());
        for (uint64_t id = 10; id < 10 + kLogs; ++id)
            EXPECT_EQ(must(co_await read_and_check(store.find({id}), 0, 6)), 6);
    });
    with_store([&](ShardStore& store) -> Task<void> {
        EXPECT_EQ(store.metrics().unflushed_bytes, 500u);
        for (uint64_t id = 10; id < 10 + kLogs; ++id) {
            Log* log = store.find({id});
            EXPECT_EQ(must(co_await read_and_check(log, 0, 6)), 6);
            must(co_await append_durably(log, make_entry(*log, 100)));
        }
    });
}

TEST_F(IdleSweepTest, a_log_in_use_keeps_what_it_has) {
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 60; ++i) {
            must(co_await log->admit(200, {}));
            must(co_await append_durably(log, make_entry(*log, 200)));
            (void)co_await runtime::sleep_for(200ms);
        }
        EXPECT_TRUE(store.find_log({7})->state().segments.empty());
        EXPECT_EQ(store.metrics().unflushed_bytes, 60u * 200);
    });
}

TEST_F(IdleSweepTest, what_a_restart_brings_back_into_memory_goes_too) {
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 10; ++i) must(co_await append_durably(log, make_entry(*log, 1000)));
    });
    with_store([&](ShardStore& store) -> Task<void> {
        EXPECT_EQ(store.metrics().unflushed_bytes, 10'000u);
        (void)co_await runtime::sleep_for(5s);
        EXPECT_EQ(store.metrics().unflushed_bytes, 0u);
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, 10)), 10);
    });
}

// A search that waited for a run looked for it in the index again, found none, and passed the run
// over: seeds 139 and 153.
TEST_F(IdleSweepTest, a_log_that_somebody_is_at_work_with_keeps_its_indexes) {
    with_store([&](ShardStore& store) -> Task<void> {
        PartitionLog* log =
            static_cast<PartitionLog*>(must(co_await store.create_log({7}, {.retention_ms = -1})));
        must(co_await append_durably(log, make_entry(*log, 8000)));
        must(co_await store.handover().move(log));
        {
            const auto inside = log->gate().try_enter();
            (void)co_await runtime::sleep_for(5s);
            EXPECT_NE(log->state().segments.back().index, nullptr);
        }
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(log->state().segments.back().index, nullptr);
    });
}

TEST_F(IdleSweepTest, the_index_of_many_runs_without_a_footer_stays) {
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        LogState& state = store.find_log({7})->state();
        while (state.segments.empty() || state.segments.back().index->size() <= kIdleIndexRuns) {
            must(co_await log->admit(2000, {}));
            must(co_await append_durably(log, make_entry(*log, 2000)));
            must(co_await store.handover().move(store.find_log({7})));
        }
        (void)co_await runtime::sleep_for(5s);
        EXPECT_NE(state.segments.back().index, nullptr);
    });
}

}  // namespace
}  // namespace weir::storage
