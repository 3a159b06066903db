// Log::rewrite on a node whose disk does what it is told. Kills at any moment: the storage
// simulation (sim/).
#include <set>

#include "runtime/scope.h"
#include "storage/layout.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

using Rewritten = Result<std::optional<RewrittenEntry>>;

struct SegmentRewriteTest : testing::Test {
    sim::World world{{.plan = sim::Plan{.seed = 1}}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    StoreOptions options = small_options(&memory);

    // Opens the store, runs `use`, and kills the node after it.
    void with_store(std::function<Task<void>(Store&)> use, sim::Kill how = sim::Kill::kPower) {
        bool done = false;
        world.start(node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            co_await use(set->local());
            done = true;
            (void)co_await runtime::sleep_for(1h);
        });
        CHECK(world.run_until([&] { return done; }, 10min) == sim::World::Outcome::kDone);
        world.kill(node, how);
    }
    std::set<std::string> files_of(LogId log) {
        std::vector<std::string> names;
        (void)node.disk().list(log_directory("/data", log), &names);
        return {names.begin(), names.end()};
    }
};

// Until the log has `segments`.
Task<Log*> filled_log(Store* store, size_t segments, uint64_t segment_bytes = 64_KiB) {
    Log* log =
        must(co_await store->create_log({7}, {.segment_bytes = segment_bytes, .retention_ms = -1}));
    for (int round = 0; round < 100 && log->segments().size() < segments; ++round) {
        for (int i = 0; i < 100; ++i) {
            must(co_await log->admit(300, {}));
            must(log->append(i == 50 ? make_control(*log, 1) : make_entry(*log, 300)));
        }
        must(co_await log->wait_durable(log->end()));
        (void)co_await runtime::sleep_for(200ms);
    }
    CHECK(log->segments().size() >= segments);
    co_return log;
}

// Half of each entry's bytes stay: payload_of() says so in its header.
Task<Rewritten> halve(const FoundEntry* entry) {
    if (entry->info.kind == EntryKind::kControl) co_return std::nullopt;
    co_return RewrittenEntry{.payload = payload_of({7}, entry->info.first.offset, 150),
                             .max_timestamp_ms = entry->info.max_timestamp_ms,
                             .summary_bytes = entry->summary_bytes};
}

Task<uint64_t> bytes_of(Log* log, int64_t from, int64_t to) {
    uint64_t bytes = 0;
    while (from < to) {
        const ReadResult read = must(co_await log->read(from, {.end_offset = to}, {}));
        CHECK(read.next_offset > from);
        bytes += read.size;
        from = read.next_offset;
    }
    co_return bytes;
}

// 1. A closed segment is rewritten.  2. Its new payloads are read, at the same offsets; the file is
// another, and half as large.  3. So it is after a power cut, and the old file is gone.
TEST_F(SegmentRewriteTest, a_closed_segment_gives_way_to_another_file_for_good) {
    SegmentInfo old;
    with_store([&](Store& store) -> Task<void> {
        Log* log = co_await filled_log(&store, 3);
        const std::vector<SegmentInfo> before = log->segments();
        const Position end = log->end();
        old = before[1];
        must(co_await log->rewrite(old.id, halve, {}));
        const std::vector<SegmentInfo> after = log->segments();
        CHECK(after.size() == before.size());
        EXPECT_NE(after[1].id, old.id);
        EXPECT_EQ(after[1].base, old.base);
        EXPECT_EQ(after[1].end, old.end);
        EXPECT_TRUE(after[1].closed);
        EXPECT_EQ(after[1].max_timestamp_ms, old.max_timestamp_ms);
        EXPECT_LT(after[1].bytes, old.bytes * 2 / 3);
        EXPECT_EQ(log->end(), end);
        EXPECT_EQ((co_await log->pin(old.id)).error().code, ErrorCode::kNotFound);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        (void)co_await runtime::sleep_for(1s);
        EXPECT_FALSE(log->damage());
        must(co_await read_and_check(log, 0, log->end().offset));
        const auto entries = static_cast<uint64_t>(old.end.offset - old.base.offset);
        EXPECT_EQ(co_await bytes_of(log, old.base.offset, old.end.offset), entries * 150);
        EXPECT_EQ(co_await bytes_of(log, 0, old.base.offset),
                  static_cast<uint64_t>(old.base.offset) * 300);
        // Entries of both kinds, with their terms.
        std::vector<FoundEntry> found = must(co_await log->read_entries(
            old.base, {.end = old.end, .bytes_max = 1_MiB, .entries_max = 1 << 20}, {}));
        EXPECT_GT(found.size(), entries);
        EXPECT_EQ(found.back().info.end(), old.end);
        EXPECT_EQ(found.front().summary_bytes, 24u);
        EXPECT_EQ(files_of({7}).size(), log->segments().size());
        for (const SegmentInfo& segment : log->segments()) EXPECT_NE(segment.id, old.id);
    });
}

// What is below the log's start is not carried over.
TEST_F(SegmentRewriteTest, what_lies_below_the_start_is_left_out) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = co_await filled_log(&store, 3);
        const SegmentInfo first = log->segments()[0];
        const int64_t start = first.end.offset - 10;
        must(co_await log->truncate_prefix(start));
        must(co_await log->rewrite(first.id, halve, {}));
        const SegmentInfo after = log->segments()[0];
        EXPECT_EQ(after.base.offset, start);
        EXPECT_EQ(after.end, first.end);
        EXPECT_LT(after.bytes, 16_KiB);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        (void)co_await runtime::sleep_for(1s);
        EXPECT_FALSE(log->damage());
        must(co_await read_and_check(log, log->start_offset(), log->end().offset));
    });
}

// The rewriter fails, gives what can't be, or is stopped: nothing has changed, and no file is left.
TEST_F(SegmentRewriteTest, what_does_not_succeed_leaves_the_segment_as_it_was) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = co_await filled_log(&store, 3);
        const uint32_t id = log->segments()[1].id;
        const int64_t late = log->segments()[1].end.offset - 2;
        const std::set<std::string> files = files_of({7});
        const SegmentRewriter fails = [late](const FoundEntry* entry) -> Task<Rewritten> {
            if (entry->info.first.offset >= late) co_return fail(ErrorCode::kUnsupported, "enough");
            co_return std::nullopt;
        };
        EXPECT_EQ((co_await log->rewrite(id, fails, {})).error().code, ErrorCode::kUnsupported);
        const SegmentRewriter empty = [](const FoundEntry*) -> Task<Rewritten> {
            co_return RewrittenEntry{};
        };
        EXPECT_EQ((co_await log->rewrite(id, empty, {})).error().code, ErrorCode::kInvalidArgument);
        runtime::StopSource stop;
        const SegmentRewriter stopped = [&](const FoundEntry*) -> Task<Rewritten> {
            stop.request_stop();
            co_return std::nullopt;
        };
        EXPECT_EQ((co_await log->rewrite(id, stopped, stop.token())).error().code,
                  ErrorCode::kCancelled);
        EXPECT_EQ((co_await log->rewrite(4711, halve, {})).error().code, ErrorCode::kNotFound);
        const SegmentInfo last = log->segments().back();
        if (!last.closed)
            EXPECT_EQ((co_await log->rewrite(last.id, halve, {})).error().code,
                      ErrorCode::kInvalidArgument);
        EXPECT_EQ(log->segments()[1].id, id);
        EXPECT_EQ(files_of({7}), files);
        must(co_await read_and_check(log, 0, log->end().offset));
    });
}

// A cut of the segment, or retention, goes by while its new file is written: it wins.
TEST_F(SegmentRewriteTest, a_cut_that_comes_meanwhile_wins) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = co_await filled_log(&store, 4);
        const SegmentInfo third = log->segments()[2];
        bool cut = false;
        const SegmentRewriter cuts = [&](const FoundEntry*) -> Task<Rewritten> {
            if (!std::exchange(cut, true))
                must(co_await log->truncate_suffix({third.end.offset - 5, 0}));
            co_return std::nullopt;
        };
        EXPECT_EQ((co_await log->rewrite(third.id, cuts, {})).error().code,
                  ErrorCode::kUnavailable);
        const SegmentInfo first = log->segments()[0];
        bool gone = false;
        const SegmentRewriter removes = [&](const FoundEntry*) -> Task<Rewritten> {
            if (!std::exchange(gone, true)) must(co_await log->truncate_prefix(first.end.offset));
            co_return std::nullopt;
        };
        EXPECT_FALSE(co_await log->rewrite(first.id, removes, {}));
        (void)co_await runtime::sleep_for(1s);
        EXPECT_EQ(files_of({7}).size(), log->segments().size());
        must(co_await read_and_check(log, log->start_offset(), log->end().offset));
    });
}

// 1. A rewriter takes long.  2. Readers and appends go on; readers see whole entries, old or new.
TEST_F(SegmentRewriteTest, reads_and_appends_go_on_meanwhile) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = co_await filled_log(&store, 3);
        const SegmentInfo old = log->segments()[1];
        bool over = false;
        int rounds = 0;
        const auto use = [&]() -> Task<void> {
            while (!over) {
                must(co_await append_durably(log, make_entry(*log, 300)));
                must(co_await read_and_check(log, 0, log->end().offset));
                ++rounds;
            }
        };
        const SegmentRewriter slow = [&](const FoundEntry* entry) -> Task<Rewritten> {
            (void)co_await runtime::sleep_for(5ms);
            co_return co_await halve(entry);
        };
        runtime::Scope scope;
        scope.spawn(use());
        must(co_await log->rewrite(old.id, slow, {}));
        over = true;
        co_await scope.join();
        EXPECT_GT(rounds, 10);
        EXPECT_NE(log->segments()[1].id, old.id);
    });
}

// Storage seed 90001806: 1. A search by time is about to read a run.  2. Its segment gives way to
// another.  3. The search passed the segment over, as if it had been removed.
TEST_F(SegmentRewriteTest, a_search_by_time_does_not_miss_what_moves_to_another_file) {
    options.cache_bytes_max = 0;
    with_store([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 64_KiB, .retention_ms = -1}));
        constexpr int64_t kLatest = 1'000'000;
        while (log->segments().size() < 3) {
            for (int i = 0; i < 100; ++i) {
                const bool latest = log->end().offset == 10;
                must(co_await append_durably(
                    log, make_entry(*log, 300, 1, 1, latest ? kLatest : log->end().offset)));
            }
            (void)co_await runtime::sleep_for(200ms);
        }
        bool over = false;
        int searches = 0;
        const auto search = [&]() -> Task<void> {
            while (!over) {
                ++searches;
                const auto found = must(co_await log->find_max_timestamp(log->end().offset));
                CHECK(found.has_value());
                EXPECT_EQ(found->info.max_timestamp_ms, kLatest);
                const auto after = must(co_await log->find_timestamp(kLatest, log->end().offset));
                CHECK(after.has_value());
                EXPECT_EQ(after->info.first.offset, 10);
            }
        };
        const SegmentRewriter keeps = [](const FoundEntry*) -> Task<Rewritten> {
            co_return std::nullopt;
        };
        runtime::Scope scope;
        for (int i = 0; i < 4; ++i) scope.spawn(search());
        for (int i = 0; i < 50; ++i) {
            must(co_await log->rewrite(log->segments()[0].id, keeps, {}));
            (void)co_await runtime::sleep_for(Duration(i * 7'000));
        }
        over = true;
        co_await scope.join();
        EXPECT_GT(searches, 100);
    });
}

// Storage seed 91009373: 1. The node's memory holds one run, and not two.  2. A rewriting kept the
// entries of one that were to share a run with the next, and waited for memory for that for ever.
TEST_F(SegmentRewriteTest, who_waits_for_memory_holds_none) {
    with_store([&](Store& store) -> Task<void> { co_await filled_log(&store, 3, 512_KiB); });
    runtime::MemoryBudget one_run(200_KiB);
    options.memory = &one_run;
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        const SegmentInfo old = log->segments()[1];
        must(co_await log->rewrite(old.id, halve, {}));
        EXPECT_EQ(log->segments()[1].end, old.end);
        // Not one run for each of the old ones.
        EXPECT_LT(log->segments()[1].bytes, old.bytes * 2 / 3);
    });
}

// 1. The process is killed while the new file is written.  2. The old one is there, and the sweep
// deletes what was begun.
TEST_F(SegmentRewriteTest, what_a_crash_leaves_behind_is_swept) {
    std::set<std::string> files;
    uint32_t old = 0;
    bool waiting = false;
    world.start(node, [&](Shard&) -> Task<void> {
        std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
        // More than one run, so that the file is there before the last entry.
        Log* log = co_await filled_log(&set->local(), 3, 512_KiB);
        (void)co_await runtime::sleep_for(1s);
        old = log->segments()[1].id;
        files = files_of({7});
        const int64_t late = log->segments()[1].end.offset - 1;
        const SegmentRewriter waits = [&, late](const FoundEntry* entry) -> Task<Rewritten> {
            if (entry->info.first.offset >= late) {
                waiting = true;
                (void)co_await runtime::sleep_for(1h);
            }
            co_return std::nullopt;
        };
        (void)co_await log->rewrite(old, waits, {});
    });
    CHECK(world.run_until([&] { return waiting; }, 10min) == sim::World::Outcome::kDone);
    EXPECT_EQ(files_of({7}).size(), files.size() + 1);
    world.kill(node, sim::Kill::kProcess);
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(log->segments()[1].id, old);
        EXPECT_EQ(files_of({7}), files);
        EXPECT_EQ(store.metrics().swept_files, 1u);
        must(co_await read_and_check(log, 0, log->end().offset));
    });
}

}  // namespace
}  // namespace weir::storage
