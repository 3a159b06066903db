// Reading ahead of sequential readers, on the simulated disk: that it happens, that it stays within
// its bounds, and that what is cut, removed or damaged meanwhile is never given.
#include "storage/read_ahead.h"

#include <gtest/gtest.h>

#include "runtime/file.h"
#include "storage/log_reader.h"
#include "storage/shard_store.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

constexpr size_t kEntryBytes = 3000;

struct ReadAheadTest : testing::Test {
    sim::World world{{.plan = sim::Plan{.seed = 11}}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    StoreOptions options = [this] {
        StoreOptions small = small_options(&memory);
        small.cache_bytes_max = 4_MiB;
        small.read_ahead_bytes = 1_MiB;
        return small;
    }();

    void with_store(std::function<Task<void>(ShardStore&)> use) {
        sim::run_on(world, node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            co_await use(static_cast<ShardStore&>(set->local()));
            co_await set->close();
        });
    }
    // A log of so many entries in segments, and nothing of it in memory.
    void write_log(LogId id, int entries) {
        with_store([&](ShardStore& store) -> Task<void> {
            Log* log =
                must(co_await store.create_log(id, {.segment_bytes = 1_MiB, .retention_ms = -1}));
            // Else the next start reads the whole log.
            log->set_state_provider([] { return std::vector<uint8_t>(1); });
            for (int i = 0; i < entries; ++i) {
                must(co_await log->admit(kEntryBytes, {}));
                must(log->append(make_entry(*log, kEntryBytes)));
                if (i % 16 == 15) must(co_await log->wait_durable(log->end()));
            }
            must(co_await log->wait_durable(log->end()));
            must(co_await store.flush());
        });
    }
};

// Reads on from `*at`, one small answer.
Task<Result<void>> read_on(Log* log, int64_t* at) {
    const int64_t from = *at;
    const ReadResult result =
        co_await runtime::try_(log->read(from, {.bytes_max = 10 * kEntryBytes}, {}));
    CHECK(result.first_offset == from);
    CHECK(result.next_offset > from);
    *at = result.next_offset;
    co_return Result<void>{};
}

TEST_F(ReadAheadTest, a_sequential_reader_finds_what_it_reads_next) {
    write_log({7}, 1500);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        int64_t at = 0;
        // Two reads tell that it goes on.
        must(co_await read_on(log, &at));
        must(co_await read_on(log, &at));
        uint64_t missed = store.metrics().cache_misses;
        uint64_t most_ahead = 0;
        while (at < 1500) {
            (void)co_await runtime::sleep_for(20ms);  // the client's turn
            EXPECT_EQ(store.read_ahead().reads(), 0u);
            most_ahead = std::max(most_ahead, store.read_ahead().bytes_ahead());
            must(co_await read_on(log, &at));
        }
        EXPECT_EQ(store.metrics().cache_misses, missed);
        EXPECT_GE(most_ahead, 1_MiB);
        // By one read at most.
        EXPECT_LE(most_ahead, 1_MiB + kReadBytes);
        // And nothing was read twice.
        EXPECT_LT(store.metrics().segment_read_bytes, 1500 * kEntryBytes * 11 / 10);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 1500, 100'000)), 1500);
    });
}

TEST_F(ReadAheadTest, reads_at_random_bring_only_what_is_asked_for) {
    write_log({7}, 1500);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        for (int i = 0; i < 50; ++i) {
            int64_t at = (i * 389) % 1400;
            must(co_await read_on(log, &at));
        }
        (void)co_await runtime::sleep_for(20ms);
        EXPECT_EQ(store.read_ahead().bytes_ahead(), 0u);
        EXPECT_LE(store.metrics().segment_reads, 100u);
    });
}

TEST_F(ReadAheadTest, two_readers_of_one_log_read_each_run_once) {
    write_log({7}, 1500);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        runtime::Scope scope;
        const auto reader = [](Log* from) -> Task<void> {
            EXPECT_EQ(must(co_await read_and_check(from, 0, 1500, 100'000)), 1500);
        };
        for (int i = 0; i < 3; ++i) scope.spawn(reader(log));
        co_await scope.join();
        EXPECT_LT(store.metrics().segment_read_bytes, 1500 * kEntryBytes * 11 / 10);
    });
}

TEST_F(ReadAheadTest, many_streams_stay_within_half_of_the_cache) {
    options.cache_bytes_max = 3_MiB;
    for (uint64_t id = 10; id < 18; ++id) write_log({id}, 700);
    with_store([&](ShardStore& store) -> Task<void> {
        std::vector<int64_t> at(8, 0);
        uint64_t most_ahead = 0;
        for (int round = 0; round < 60; ++round) {
            for (uint64_t i = 0; i < 8; ++i) {
                must(co_await read_on(store.find({10 + i}), &at[i]));
                EXPECT_LE(store.read_ahead().reads(), ReadAhead::kReadsMax);
                most_ahead = std::max(most_ahead, store.read_ahead().bytes_ahead());
            }
            (void)co_await runtime::sleep_for(5ms);
        }
        EXPECT_GT(most_ahead, 1_MiB);
        EXPECT_LE(most_ahead, 3_MiB / 2);
        EXPECT_LE(store.cache().bytes(), 3_MiB);
        // Who stopped reading makes room for who reads.
        (void)co_await runtime::sleep_for(5s);
        const uint64_t before = store.metrics().cache_misses;
        for (int round = 0; round < 8; ++round) {
            must(co_await read_on(store.find({10}), &at[0]));
            (void)co_await runtime::sleep_for(20ms);
        }
        EXPECT_LE(store.metrics().cache_misses - before, 2u);
    });
}

TEST_F(ReadAheadTest, without_memory_nothing_is_read_ahead_and_reads_go_on) {
    write_log({7}, 1500);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        int64_t at = 0;
        must(co_await read_on(log, &at));
        const uint64_t left = memory.total() - memory.used();
        const auto taken = memory.try_reserve(left - 2 * kReadBytes / 3);
        CHECK(taken.has_value());
        while (at < 1500) {
            must(co_await read_on(log, &at));
            EXPECT_LE(memory.used(), memory.total());
        }
        EXPECT_LE(store.cache().bytes(), kReadBytes);
    });
}

TEST_F(ReadAheadTest, a_cut_while_runs_are_on_their_way_takes_them_too) {
    write_log({7}, 1200);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        int64_t at = 0;
        must(co_await read_on(log, &at));
        must(co_await read_on(log, &at));
        EXPECT_GT(store.read_ahead().reads(), 0u);
        must(co_await log->truncate_suffix({40, 0}));
        EXPECT_EQ(store.read_ahead().bytes_ahead(), 0u);
        // Others in their place.
        for (int i = 0; i < 400; ++i) {
            must(co_await log->admit(kEntryBytes / 2, {}));
            must(co_await append_durably(log, make_entry(*log, kEntryBytes / 2)));
        }
        must(co_await store.flush());
        (void)co_await runtime::sleep_for(100ms);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 440, 10 * kEntryBytes)), 440);
        EXPECT_EQ(store.metrics().corruptions, 0u);
    });
}

TEST_F(ReadAheadTest, retention_and_removal_while_runs_are_on_their_way_are_harmless) {
    write_log({7}, 1200);
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        int64_t at = 0;
        must(co_await read_on(log, &at));
        must(co_await read_on(log, &at));
        EXPECT_GT(store.read_ahead().reads(), 0u);
        must(co_await log->truncate_prefix(1100));
        EXPECT_FALSE((co_await log->read(at, {}, {})).has_value());
        EXPECT_EQ(must(co_await read_and_check(log, 1100, 1200, 10 * kEntryBytes)), 100);
        at = 1100;
        must(co_await read_on(log, &at));
        must(co_await store.remove_log({7}));
        (void)co_await runtime::sleep_for(100ms);
        EXPECT_EQ(store.read_ahead().reads(), 0u);
        EXPECT_EQ(store.read_ahead().bytes_ahead(), 0u);
        EXPECT_EQ(store.cache().bytes(), 0u);
    });
}

TEST_F(ReadAheadTest, damage_ahead_is_told_to_who_comes_to_it_and_counted_once) {
    write_log({7}, 1200);
    std::string path;
    with_store([&](ShardStore& store) -> Task<void> {
        const Segment& segment = store.find_log({7})->state().segments.front();
        path = segment_path(options.directory, {7}, segment.base.offset, segment.id);
        co_return;
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        runtime::File file = must(co_await runtime::File::open(
            path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
        runtime::IoBuffer page = runtime::IoBuffer::allocate(kPage);
        must(co_await file.read(150 * kPage, page.all()));
        page.data()[7] ^= 1;
        must(co_await file.write(150 * kPage, page.all()));
        must(co_await file.close());
    });
    with_store([&](ShardStore& store) -> Task<void> {
        Log* log = store.find({7});
        int64_t at = 0;
        Result<void> read;
        while (at < 1200) {
            read = co_await read_on(log, &at);
            if (!read) break;
            (void)co_await runtime::sleep_for(20ms);
        }
        EXPECT_FALSE(read.has_value());
        EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
        EXPECT_GT(at, 100);
        EXPECT_EQ(store.metrics().corruptions, 1u);
    });
}

TEST_F(ReadAheadTest, a_close_waits_for_what_is_on_its_way) {
    write_log({7}, 1200);
    with_store([&](ShardStore& store) -> Task<void> {
        int64_t at = 0;
        must(co_await read_on(store.find({7}), &at));
        must(co_await read_on(store.find({7}), &at));
        EXPECT_GT(store.read_ahead().reads(), 0u);
    });
}

}  // namespace
}  // namespace weir::storage
