#include "runtime/deadline_stop.h"
#include "runtime/file.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "storage/layout.h"
#include "storage/shard_store.h"
#include "storage/test_store.h"

namespace weir::storage {
namespace {

// A node whose disk does what it is told, and the budget of its store.
struct StoreTest : testing::Test {
    sim::World world{{.plan = sim::Plan{.seed = 1}}};
    sim::Node& node = world.add_node({.name = "n1"});
    runtime::MemoryBudget memory{64_MiB};
    StoreOptions options = small_options(&memory);

    // Opens the store, runs `use` and closes it.
    void with_store(std::function<Task<void>(Store&)> use) {
        sim::run_on(world, node, [&](Shard&) -> Task<void> {
            std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
            co_await use(set->local());
            co_await set->close();
        });
    }
    // ... or kills the node after it.
    void with_store_killed(std::function<Task<void>(Store&)> use,
                           sim::Kill how = sim::Kill::kPower) {
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
    // Of the 33rd page of log 7's first segment; twice: it is as it was.
    void flip_a_bit() {
        sim::run_on(world, node, [](Shard&) -> Task<void> {
            const std::string directory = log_directory("/data", {7});
            const auto names = must(co_await runtime::list_directory(directory));
            runtime::File file = must(co_await runtime::File::open(
                directory + "/" + names[0], {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
            runtime::IoBuffer page = runtime::IoBuffer::allocate(kPage);
            EXPECT_EQ(must(co_await file.read(32 * kPage, page.all())), kPage);
            page.data()[99] ^= 8;
            must(co_await file.write(32 * kPage, page.all()));
            must(co_await file.close());
        });
    }
};

Task<void> append_many(Log* log, int count, size_t size, int32_t term = 1) {
    for (int i = 0; i < count; ++i) {
        must(co_await log->admit(size, {}));
        must(log->append(make_entry(*log, size, 1, term)));
        if (i % 7 == 6) must(co_await log->wait_durable(log->end()));
    }
    must(co_await log->wait_durable(log->end()));
}

TEST_F(StoreTest, an_entry_is_durable_and_read_back) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await append_durably(log, make_entry(*log, 100)));
        EXPECT_EQ(log->durable_end(), (Position{1, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 0, 1)), 1);
        EXPECT_FALSE(co_await store.create_log({7}, {.retention_ms = -1}));
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->end(), (Position{1, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 0, 1)), 1);
    });
}

TEST_F(StoreTest, what_was_acknowledged_survives_a_power_cut) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 100, 300);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->end(), (Position{100, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 0, 100)), 100);
        EXPECT_EQ(log->take_recovered().entries.size(), 100u);
    });
}

TEST_F(StoreTest, entries_move_to_segments_and_are_read_from_there) {
    for (const bool killed : {false, true}) {
        const LogId id{killed ? 8u : 7u};
        auto write = [&](Store& store) -> Task<void> {
            Log* log =
                must(co_await store.create_log(id, {.segment_bytes = 1_MiB, .retention_ms = -1}));
            co_await append_many(log, 4000, 900);
            EXPECT_GT(store.metrics().handed_over_bytes, 1_MiB);
            EXPECT_GT(store.metrics().checkpoints, 0u);
            EXPECT_EQ(must(co_await read_and_check(log, 0, 4000)), 4000);
        };
        if (killed)
            with_store_killed(write);
        else
            with_store(write);
        with_store([&](Store& store) -> Task<void> {
            Log* log = store.find(id);
            CHECK(log != nullptr);
            EXPECT_EQ(log->end(), (Position{4000, 0}));
            EXPECT_EQ(must(co_await read_and_check(log, 0, 4000)), 4000);
            EXPECT_EQ(must(co_await read_and_check(log, 1234, 2000, 5000)), 766);
        });
    }
}

TEST_F(StoreTest, a_large_stream_bypasses_the_journal) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 1_MiB, .retention_ms = -1}));
        for (int round = 0; round < 60; ++round) {
            for (int i = 0; i < 8; ++i) must(log->append(make_entry(*log, 5000)));
            must(co_await log->wait_durable(log->end()));
        }
        EXPECT_GT(store.metrics().bypass_bytes, 1'000'000u);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 480)), 480);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->end(), (Position{480, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 0, 480)), 480);
        const RecoveredState recovered = log->take_recovered();
        CHECK(recovered.entries.size() == 480);
        EXPECT_EQ(load_le<int64_t>(recovered.entries[77].summary.data() + 8), 77);
    });
}

// 1. A commit of a stream is in flight; what comes next is laid out ahead. 2. A truncation takes
// that away. 3. Other entries of the same size come in its place: those must be in the segment.
TEST_F(StoreTest, what_was_laid_out_ahead_goes_with_a_truncation) {
    const auto append = [](Log* log, int count, LogId named) {
        for (int i = 0; i < count; ++i) {
            Entry entry = make_entry(*log, 4000);
            entry.payload = payload_of(named, log->end().offset, 4000);
            must(log->append(std::move(entry)));
        }
    };
    int64_t end = 0;
    const auto stream = [&](Store& store, LogId id) -> Task<void> {
        Log* log =
            must(co_await store.create_log(id, {.segment_bytes = 1_MiB, .retention_ms = -1}));
        for (int round = 0; round < 40; ++round) {
            append(log, 6, id);
            for (int step = 0; step < round % 10; ++step) co_await runtime::yield();
            const Position right = log->end();
            append(log, 4, {99});
            must(co_await log->truncate_suffix(right));
            append(log, 4, id);
            must(co_await log->wait_durable(log->end()));
        }
        append(log, 6, id);
        for (int round = 0; round < 40; ++round) {
            for (int step = 0; step < round % 10; ++step) co_await runtime::yield();
            append(log, 5, id);
            must(co_await log->wait_durable({log->end().offset - 5, 0}));
        }
        must(co_await log->wait_durable(log->end()));
        EXPECT_GT(store.metrics().staged_bytes, 0u);
        end = log->end().offset;
    };
    with_store_killed([&](Store& store) -> Task<void> {
        co_await stream(store, {7});
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, end)), end);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->end(), (Position{end, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 0, end)), end);
    });
}

TEST_F(StoreTest, an_entry_larger_than_a_block_is_taken) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await append_durably(log, make_entry(*log, 500)));
        must(co_await log->admit(3_MiB, {}));
        must(co_await append_durably(log, make_entry(*log, 3_MiB)));
        must(co_await append_durably(log, make_entry(*log, 500)));
    });
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, 3)), 3);
    });
}

TEST_F(StoreTest, an_entry_is_taken_by_the_journal_or_by_its_segment_whatever_its_size) {
    options.bypass_bytes_min = 1_MiB;  // beyond the largest entry of a block, which is 32 KiB
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        int entries = 0;
        for (size_t size = 32_KiB - 100; size < 32_KiB + 20; size += 7, ++entries) {
            must(co_await log->admit(size, {}));
            must(co_await append_durably(log, make_entry(*log, size)));
        }
        EXPECT_EQ(must(co_await read_and_check(log, 0, entries)), entries);
    });
}

TEST_F(StoreTest, suffix_truncation_is_durable_wherever_the_entries_are) {
    for (const int64_t keep : {3990, 1500, 10, 0}) {
        const LogId id{static_cast<uint64_t>(100 + keep)};
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log =
                must(co_await store.create_log(id, {.segment_bytes = 256_KiB, .retention_ms = -1}));
            co_await append_many(log, 4000, 200);
            must(co_await log->truncate_suffix({keep, 0}));
            EXPECT_EQ(log->end(), (Position{keep, 0}));
            for (int i = 0; i < 50; ++i)
                must(co_await append_durably(log, make_entry(*log, 100, 2, 5)));
        });
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = store.find(id);
            EXPECT_EQ(log->end(), (Position{keep + 100, 0}));
            EXPECT_EQ(log->last_term(), 5);
            EXPECT_EQ(log->end_of_term(1).has_value(), keep > 0);
            if (keep > 0) {
                EXPECT_EQ(log->end_of_term(4)->end_offset, keep);
            }
            EXPECT_EQ(must(co_await read_and_check(log, 0, keep + 100)), keep + 50);
            EXPECT_EQ(log->take_recovered().entries.size(), static_cast<size_t>(keep + 50));
            co_await append_many(log, 3000, 200);
        });
        with_store([&](Store& store) -> Task<void> {
            EXPECT_EQ(must(co_await read_and_check(store.find(id), 0, keep + 3100)), keep + 3050);
        });
    }
}

TEST_F(StoreTest, votes_control_entries_and_prefix_truncation_survive) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 256_KiB, .retention_ms = -1}));
        must(log->append(make_control(*log, 1)));
        must(log->append(make_control(*log, 1)));
        must(log->append(make_entry(*log, 50)));
        must(log->append(make_control(*log, 2)));
        must(co_await log->save_hard_state({.term = 3, .voted_for = 9}));
        co_await append_many(log, 3000, 300);
        must(co_await log->truncate_prefix(1700));
        EXPECT_EQ(log->start_offset(), 1700);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_EQ(log->start_offset(), 1700);
        EXPECT_EQ(log->end(), (Position{3001, 0}));
        EXPECT_EQ(log->hard_state(), (HardState{3, 9}));
        EXPECT_EQ((co_await log->read(1699, {}, {})).error().code, ErrorCode::kOutOfRange);
        EXPECT_EQ(must(co_await read_and_check(log, 1700, 3001)), 1301);
        must(co_await log->truncate_prefix(5000));
        EXPECT_EQ(log->end(), (Position{5000, 0}));
        must(co_await append_durably(log, make_entry(*log, 50)));
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_EQ(log->start_offset(), 5000);
        EXPECT_EQ(must(co_await read_and_check(log, 5000, 5001)), 1);
    });
}

TEST_F(StoreTest, state_comes_back_from_the_checkpoint_with_what_came_after_it) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        log->set_state_provider([log] {
            std::vector<uint8_t> state(8);
            store_le<int64_t>(state.data(), log->end().offset);
            return state;
        });
        co_await append_many(log, 3000, 900);
        EXPECT_GT(store.metrics().checkpoints, 0u);
    });
    with_store([&](Store& store) -> Task<void> {
        const RecoveredState recovered = store.find({7})->take_recovered();
        CHECK(recovered.state.size() == 8);
        EXPECT_EQ(load_le<int64_t>(recovered.state.data()), recovered.state_offset);
        EXPECT_GT(recovered.state_offset, 0);
        EXPECT_EQ(recovered.entries.size(), static_cast<size_t>(3000 - recovered.state_offset));
        co_return;
    });
}

// 1. A checkpoint takes the state.  2. The state machine goes, as all do before the store closes.
// 3. The checkpoint of the close must have the state as it was then, not claim an empty one.
TEST_F(StoreTest, state_survives_a_close_whose_state_machines_are_gone_already) {
    for (const LogId id : {kMetadataLog, LogId{7}}) {
        with_store([&](Store& store) -> Task<void> {
            Log* log = must(co_await store.create_log(id, {.retention_ms = -1}));
            log->set_state_provider([log] {
                std::vector<uint8_t> state(8);
                store_le<int64_t>(state.data(), log->end().offset);
                return state;
            });
            const uint64_t before = store.metrics().checkpoints;
            co_await append_many(log, 3000, 900);
            EXPECT_GT(store.metrics().checkpoints, before);
            log->set_state_provider({});
        });
        for (int restart = 0; restart < 2; ++restart) {
            with_store([&](Store& store) -> Task<void> {
                const RecoveredState recovered = store.find(id)->take_recovered();
                CHECK(recovered.state.size() == 8);
                EXPECT_EQ(load_le<int64_t>(recovered.state.data()), 3000);
                EXPECT_EQ(recovered.state_offset, 3000);
                EXPECT_TRUE(recovered.entries.empty());
                co_return;
            });
        }
    }
}

TEST_F(StoreTest, entries_are_read_with_what_is_known_of_them_from_memory_and_from_segments) {
    with_store([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 256_KiB, .retention_ms = -1}));
        std::vector<EntryInfo> written;
        const auto append = [&](Entry entry) {
            written.push_back(entry.info);
            must(log->append(std::move(entry)));
        };
        for (int32_t term = 1; term <= 12; ++term) {
            append(make_control(*log, term));
            append(make_control(*log, term));
            for (int i = 0; i < 250; ++i) {
                must(co_await log->admit(300, {}));
                append(make_entry(*log, 300, 1 + i % 3, term));
            }
            must(co_await log->wait_durable(log->end()));
        }
        EXPECT_GT(store.metrics().handed_over_bytes, 0u);
        std::vector<EntryInfo> read;
        Position at{0, 0};
        while (at < log->end()) {
            const auto entries = must(co_await log->read_entries(at, {.bytes_max = 20'000}, {}));
            CHECK(!entries.empty());
            uint64_t size = 0;
            for (const FoundEntry& entry : entries) {
                EXPECT_EQ(entry.info.first, at);
                at = entry.info.end();
                size += entry.payload.size();
                read.push_back(entry.info);
                const int64_t names =
                    entry.info.kind == EntryKind::kControl ? -1 : entry.info.first.offset;
                EXPECT_EQ(load_le<int64_t>(entry.payload.data() + 8), names);
            }
            EXPECT_LE(size, 20'000u);
        }
        CHECK(read.size() == written.size());
        for (size_t i = 0; i < read.size(); ++i) {
            EXPECT_EQ(read[i].first, written[i].first);
            EXPECT_EQ(read[i].term, written[i].term);
            EXPECT_EQ(read[i].kind, written[i].kind);
        }
        // From within, up to a bound, beyond the end.
        const EntryInfo control = written[252];
        EXPECT_EQ(control.kind, EntryKind::kControl);
        auto some = must(co_await log->read_entries(control.first, {.entries_max = 1}, {}));
        CHECK(some.size() == 1);
        EXPECT_EQ(some[0].info.first, control.first);
        some = must(co_await log->read_entries(control.first, {.end = control.end()}, {}));
        EXPECT_EQ(some.size(), 1u);
        EXPECT_TRUE(must(co_await log->read_entries(log->end(), {}, {})).empty());
        const Position beyond{log->end().offset + 1, 0};
        EXPECT_EQ((co_await log->read_entries(beyond, {}, {})).error().code,
                  ErrorCode::kOutOfRange);
        must(co_await log->truncate_prefix(700));
        EXPECT_EQ((co_await log->read_entries({699, 0}, {}, {})).error().code,
                  ErrorCode::kOutOfRange);
        // The entry that holds the new start comes whole.
        some = must(co_await log->read_entries({700, 0}, {.entries_max = 1}, {}));
        CHECK(some.size() == 1);
        EXPECT_LE(some[0].info.first.offset, 700);
        EXPECT_GT(some[0].info.next_offset, 700);
        const auto terms = log->terms();
        EXPECT_EQ(terms.back().term, 12);
        EXPECT_EQ(terms.back().first, written[11 * 252].first);
    });
}

TEST_F(StoreTest, a_log_that_began_anew_is_empty_and_knows_the_term_below) {
    for (const int64_t start : {500, 5000}) {
        const LogId id{static_cast<uint64_t>(start)};
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log =
                must(co_await store.create_log(id, {.segment_bytes = 256_KiB, .retention_ms = -1}));
            co_await append_many(log, 2000, 300);
            must(log->append(make_entry(*log, 50)));
            must(co_await log->start_anew(start, 6));
            EXPECT_EQ(log->start_offset(), start);
            EXPECT_EQ(log->end(), (Position{start, 0}));
            EXPECT_EQ(log->durable_end(), log->end());
            EXPECT_EQ(log->last_term(), 6);
            EXPECT_TRUE(must(co_await log->read_entries({start, 0}, {}, {})).empty());
            EXPECT_EQ((co_await log->start_anew(start - 1, 6)).error().code,
                      ErrorCode::kOutOfRange);
        });
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = store.find(id);
            EXPECT_EQ(log->start_offset(), start);
            EXPECT_EQ(log->end(), (Position{start, 0}));
            EXPECT_EQ(log->last_term(), 6);
            EXPECT_TRUE(log->take_recovered().entries.empty());
            must(co_await append_durably(log, make_entry(*log, 50, 1, 6)));
            co_await append_many(log, 2000, 300, 6);
        });
        with_store([&](Store& store) -> Task<void> {
            Log* log = store.find(id);
            EXPECT_EQ(must(co_await read_and_check(log, start, start + 2001)), 2001);
        });
    }
}

TEST_F(StoreTest, a_groups_configuration_outlives_the_entries_and_the_journal) {
    const std::vector<uint8_t> first(100, 7), second(480, 9);
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        EXPECT_TRUE(log->group_config().empty());
        must(co_await log->save_group_config(first));
        EXPECT_EQ((co_await log->save_group_config(std::vector<uint8_t>(513))).error().code,
                  ErrorCode::kInvalidArgument);
    });
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_EQ(log->group_config(), first);
        must(co_await log->save_group_config(second));
        const uint64_t before = store.metrics().checkpoints;
        must(co_await store.checkpoint());
        EXPECT_EQ(store.metrics().checkpoints, before + 1);
    });
    with_store_killed([&](Store& store) -> Task<void> {
        EXPECT_EQ(store.find({7})->group_config(), second);
        co_return;
    });
}

TEST_F(StoreTest, a_checkpoint_that_was_asked_for_holds_the_state_of_then) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        uint8_t state = 1;
        log->set_state_provider([&] { return std::vector<uint8_t>{state}; });
        must(co_await append_durably(log, make_entry(*log, 50)));
        must(co_await store.checkpoint());
        state = 2;
        // Those that come while one is written share the next.
        const uint64_t before = store.metrics().checkpoints;
        std::vector<Task<Result<void>>> asked;
        for (int i = 0; i < 5; ++i) asked.push_back(store.checkpoint());
        for (const Result<void>& each : co_await runtime::all(std::move(asked)))
            EXPECT_TRUE(each.has_value());
        EXPECT_LE(store.metrics().checkpoints, before + 2);
        log->set_state_provider({});
    });
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(store.find({7})->take_recovered().state, std::vector<uint8_t>{2});
        co_return;
    });
}

TEST_F(StoreTest, a_state_that_can_be_taken_back_outlives_a_cut_of_what_it_covers) {
    for (const bool cut_after_checkpoint : {false, true}) {
        const LogId id{cut_after_checkpoint ? 8u : 7u};
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = must(co_await store.create_log(id, {.retention_ms = -1}));
            log->set_state_provider([] { return CapturedState({1, 2, 3}, 80); });
            co_await append_many(log, 100, 300);
            if (!cut_after_checkpoint) must(co_await log->truncate_suffix({90, 0}));
            must(co_await store.checkpoint());
            if (cut_after_checkpoint) must(co_await log->truncate_suffix({90, 0}));
            must(co_await append_durably(log, make_entry(*log, 50, 1, 2)));
        });
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = store.find(id);
            const RecoveredState recovered = log->take_recovered();
            EXPECT_EQ(recovered.state, (std::vector<uint8_t>{1, 2, 3}));
            EXPECT_EQ(recovered.state_end, (Position{90, 0}));
            CHECK(recovered.entries.size() == 1);
            EXPECT_EQ(recovered.entries[0].info.first.offset, 90);
            // Below what it can be taken back to it is of no use.
            must(co_await log->truncate_suffix({70, 0}));
        });
        with_store([&](Store& store) -> Task<void> {
            const RecoveredState recovered = store.find(id)->take_recovered();
            EXPECT_TRUE(recovered.state.empty());
            EXPECT_EQ(recovered.entries.size(), 70u);
            co_return;
        });
    }
}

TEST_F(StoreTest, retention_keeps_what_the_owner_asks_to_keep) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log(
            {7}, {.segment_bytes = 64_KiB, .retention_bytes = 1, .retention_ms = -1}));
        RetentionHold commit = log->hold_from(0);
        RetentionHold upload = log->hold_from(INT64_MAX);
        co_await append_many(log, 2000, 300);
        (void)co_await runtime::sleep_for(5s);
        EXPECT_EQ(log->start_offset(), 0);
        // The lowest of all counts ...
        commit.move_to(1000);
        upload.move_to(0);
        (void)co_await runtime::sleep_for(5s);
        EXPECT_EQ(log->start_offset(), 0);
        upload.move_to(2000);
        (void)co_await runtime::sleep_for(5s);
        EXPECT_GT(log->start_offset(), 0);
        EXPECT_LE(log->start_offset(), 1000);
        // ... and one that is gone does not.
        const int64_t before = log->start_offset();
        commit.release();
        (void)co_await runtime::sleep_for(5s);
        EXPECT_GT(log->start_offset(), before);
    });
}

// 1. An upload pins a closed segment.  2. The log's start moves beyond it, and its name goes.
// 3. The upload still reads the file, whole.
TEST_F(StoreTest, a_closed_segment_is_visible_and_a_pin_keeps_its_bytes_when_it_is_removed) {
    with_store([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 64_KiB, .retention_ms = -1}));
        EXPECT_TRUE(log->segments().empty());
        for (int round = 0; round < 50 && log->segments().size() < 4; ++round) {
            co_await append_many(log, 500, 300);
            (void)co_await runtime::sleep_for(1s);
        }
        const std::vector<SegmentInfo> segments = log->segments();
        CHECK(segments.size() >= 4);
        EXPECT_EQ(segments.front().base, (Position{0, 0}));
        for (size_t i = 0; i + 1 < segments.size(); ++i) {
            EXPECT_TRUE(segments[i].closed);
            EXPECT_LT(segments[i].base, segments[i].end);
            EXPECT_EQ(segments[i].end, segments[i + 1].base);
        }
        EXPECT_LE(segments.back().end, log->end());
        EXPECT_EQ((co_await log->pin(4711)).error().code, ErrorCode::kNotFound);

        SegmentPin pin = must(co_await log->pin(segments[0].id));
        EXPECT_EQ(pin.info().end, segments[0].end);
        const auto read_all = [&](std::vector<uint8_t>* to) -> Task<void> {
            runtime::IoBuffer buffer = runtime::IoBuffer::allocate(256_KiB);
            const size_t size = must(co_await pin.read(0, buffer.all()));
            to->assign(buffer.data(), buffer.data() + std::min<size_t>(size, pin.info().bytes));
        };
        std::vector<uint8_t> before, after;
        co_await read_all(&before);
        EXPECT_EQ(before.size(), pin.info().bytes);
        must(co_await log->truncate_prefix(segments[1].end.offset));
        (void)co_await runtime::sleep_for(2s);  // the file's name goes
        EXPECT_EQ((co_await log->pin(segments[0].id)).error().code, ErrorCode::kNotFound);
        EXPECT_EQ(log->segments().front().id, segments[2].id);
        co_await read_all(&after);
        EXPECT_EQ(before, after);
        must(co_await pin.close());
    });
}

// 1. What is admitted is found to be a duplicate, again and again.  2. Nothing is committed
// meanwhile.
// 3. The next append must not wait for ever.
TEST_F(StoreTest, what_was_admitted_and_withdrawn_keeps_nobody_waiting) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 1000; ++i) {
            must(co_await log->admit(10'000, {}));
            log->withdraw(10'000);
        }
        must(co_await log->admit(10'000, {}));
        must(co_await append_durably(log, make_entry(*log, 10'000)));
    });
}

Task<void> append_when_admitted(Log* log, size_t size, std::vector<size_t>* order) {
    must(co_await log->admit(size, {}));
    order->push_back(size);
    must(log->append(make_entry(*log, size)));
    must(co_await log->wait_durable(log->end()));
}

// A large entry is not passed by small ones for as long as they keep the memory full.
TEST_F(StoreTest, entries_are_admitted_in_the_order_in_which_they_asked) {
    options.unflushed_bytes_max = 256_KiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await log->admit(60'000, {}));
        must(co_await log->admit(120'000, {}));
        std::vector<size_t> order;
        runtime::Scope scope;
        for (const size_t size : {100'000u, 1'000u, 90'000u, 2'000u, 3'000u})
            scope.spawn(append_when_admitted(log, size, &order));
        (void)co_await runtime::sleep_for(10ms);
        EXPECT_TRUE(order.empty());
        log->withdraw(60'000);
        (void)co_await runtime::sleep_for(10ms);
        log->withdraw(120'000);
        co_await scope.join();
        EXPECT_EQ(order, (std::vector<size_t>{100'000, 1'000, 90'000, 2'000, 3'000}));
    });
}

// What many small entries may take of the journal is more than a small journal ever has free.
TEST_F(StoreTest, many_entries_at_once_are_admitted_to_a_small_journal) {
    options.journal_file_bytes = 64_KiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        runtime::DeadlineStop limit(Shard::current().now() + 60s);
        EXPECT_TRUE(co_await log->admit(2'800, limit.token(), 16));
        log->withdraw(2'800, 16);
    });
}

TEST_F(StoreTest, whoever_gives_up_in_front_of_the_queue_lets_the_next_one_in) {
    options.unflushed_bytes_max = 256_KiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await log->admit(180'000, {}));
        runtime::StopSource stop;
        std::vector<size_t> order;
        runtime::Scope scope;
        scope.spawn([](Log* of, runtime::StopToken token) -> Task<void> {
            EXPECT_FALSE(co_await of->admit(100'000, token));
        }(log, stop.token()));
        scope.spawn(append_when_admitted(log, 1'000, &order));
        (void)co_await runtime::sleep_for(10ms);
        EXPECT_TRUE(order.empty());
        stop.request_stop();
        (void)co_await runtime::sleep_for(100ms);
        EXPECT_EQ(order.size(), 1u);
        log->withdraw(180'000);
        co_await scope.join();
    });
}

// A commit ends the admissions of what it holds, and no others: else what waits in admit() for its
// segment is forgotten, and more is let in than there is room for.
TEST_F(StoreTest, a_commit_does_not_forget_what_others_were_admitted_for) {
    options.unflushed_bytes_max = 256_KiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await log->admit(180'000, {}));
        for (int i = 0; i < 3; ++i) must(co_await append_durably(log, make_entry(*log, 1'000)));
        bool admitted = false;
        runtime::Scope scope;
        scope.spawn([](Log* of, bool* done) -> Task<void> {
            must(co_await of->admit(100'000, {}));
            *done = true;
        }(log, &admitted));
        (void)co_await runtime::sleep_for(500ms);
        EXPECT_FALSE(admitted);
        log->withdraw(180'000);
        co_await scope.join();
    });
}

Entry entry_of(const Log& log, runtime::SharedBytes payload) {
    Entry entry = make_entry(log, 24);
    entry.payload = std::move(payload);
    return entry;
}

runtime::SharedBytes block_of(runtime::MemoryBudget& budget, size_t size) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(size, *budget.try_reserve(size), 16);
    std::memset(buffer.data(), 7, size);
    buffer.set_size(size);
    return std::move(buffer).share();
}

// Who sends to this node pays for what is on its way alone: entries in memory are the store's.
TEST_F(StoreTest, an_appended_entry_is_charged_to_the_store_and_no_more_to_where_it_came_from) {
    runtime::MemoryBudget transport(1_MiB);
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        runtime::SharedBytes block = block_of(transport, 500'000);
        for (size_t at = 0; at < 500'000; at += 100'000) {
            Entry entry = entry_of(*log, block.slice(at, 100'000));
            entry.shares_block = false;
            must(log->append(std::move(entry)));
        }
        EXPECT_EQ(transport.used(), 0u);
        must(log->append(entry_of(*log, block_of(transport, 100'000))));
        EXPECT_EQ(transport.used(), 0u);
        // Of a block that holds more than this log's entries, nobody knows when it goes.
        runtime::SharedBytes mixed = block_of(transport, 500'000);
        must(log->append(entry_of(*log, mixed.slice(0, 100'000))));
        EXPECT_EQ(transport.used(), 500'000u);
        EXPECT_EQ(store.metrics().unflushed_bytes, 700'000u);
        block = mixed = {};
        must(co_await log->wait_durable(log->end()));
    });
    EXPECT_EQ(transport.used(), 0u);
}

// Cluster seed 33000779: half of an append's entries were small enough to be copied, and their part
// of the block stayed charged to the transport for as long as the other half was in memory.
TEST_F(StoreTest, an_entry_that_is_copied_out_of_its_block_is_discharged_too) {
    runtime::MemoryBudget transport(1_MiB);
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        runtime::SharedBytes block = block_of(transport, 101'000);
        for (const auto& [at, size] : {std::pair(0, 1'000), std::pair(1'000, 100'000)}) {
            Entry entry =
                entry_of(*log, block.slice(static_cast<size_t>(at), static_cast<size_t>(size)));
            entry.shares_block = false;
            must(log->append(std::move(entry)));
        }
        block = {};
        EXPECT_EQ(transport.used(), 0u);
        must(co_await log->wait_durable(log->end()));
    });
}

// 1. Slices of large requests wait in memory, each too little for a hand-over, and keep all of the
// requests' memory.  2. A reader of a socket waits for that memory.  Nobody else frees any.
TEST_F(StoreTest, the_store_gives_way_to_whoever_waits_for_memory_that_its_entries_keep) {
    runtime::MemoryBudget little(4_MiB);
    options.memory = &little;
    with_store([&](Store& store) -> Task<void> {
        std::vector<Log*> logs;
        for (uint64_t id = 10; id < 18; ++id)
            logs.push_back(must(co_await store.create_log({id}, {.retention_ms = -1})));
        for (Log* log : logs) {
            const runtime::SharedBytes block = block_of(little, 500'000);
            must(log->append(entry_of(*log, block.slice(0, 20'000))));
            must(co_await log->wait_durable(log->end()));
        }
        EXPECT_GE(little.used(), 4'000'000u);
        const Instant began = Shard::current().now();
        const auto reserved = co_await little.reserve(3_MiB, {});
        EXPECT_TRUE(reserved);
        EXPECT_LT(Shard::current().now() - began, 5s);
    });
}

// Cluster seed 34000621: of a message of another node some entries were appended, the rest was not
// wanted; what was left of its block stayed charged, and no later message fitted.
TEST_F(StoreTest, the_store_gives_way_to_messages_that_wait_for_what_an_older_one_keeps) {
    runtime::MemoryBudget received(1_MiB);
    options.received_memory = &received;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        {
            const runtime::SharedBytes block = block_of(received, 900'000);
            Entry entry = entry_of(*log, block.slice(0, 20'000));
            entry.shares_block = false;
            must(log->append(std::move(entry)));
        }
        must(co_await log->wait_durable(log->end()));
        EXPECT_EQ(received.used(), 880'000u);
        EXPECT_TRUE(co_await received.reserve(900'000, {}));
    });
}

TEST_F(StoreTest, timestamps_are_found_in_segments_and_in_memory) {
    with_store([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 256_KiB, .retention_ms = -1}));
        co_await append_many(log, 3000, 300);
        for (const int64_t offset : {0, 1, 700, 1999, 2990, 2999}) {
            const auto found = must(co_await log->find_timestamp(offset * 10 - 3, 3000));
            CHECK(found.has_value());
            EXPECT_EQ(found->info.first.offset, offset);
            EXPECT_EQ(load_le<int64_t>(found->payload.data() + 8), offset);
        }
        EXPECT_FALSE(must(co_await log->find_timestamp(30000, 3000)).has_value());
        EXPECT_FALSE(must(co_await log->find_timestamp(2000, 200)).has_value());
        EXPECT_EQ(must(co_await log->find_max_timestamp(3000))->info.first.offset, 2999);
        EXPECT_EQ(must(co_await log->find_max_timestamp(500))->info.first.offset, 499);
        must(log->append(make_entry(*log, 10, 1, 1, 77)));
        EXPECT_EQ(must(co_await log->find_max_timestamp(3001))->info.first.offset, 2999);
    });
}

TEST_F(StoreTest, a_removed_log_is_gone_and_so_are_its_files) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 2000, 300);
        must(co_await store.create_log({9}, {.retention_ms = -1}));
        must(co_await store.remove_log({7}));
        EXPECT_EQ(store.find({7}), nullptr);
    });
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(store.logs(), (std::vector<LogId>{{9}}));
        (void)co_await runtime::sleep_for(1s);
        EXPECT_FALSE(
            (co_await runtime::list_directory("/data/logs/07/0000000000000007")).has_value());
    });
}

TEST_F(StoreTest, retention_lets_old_segments_go) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log(
            {7}, {.segment_bytes = 128_KiB, .retention_bytes = 300'000, .retention_ms = -1}));
        co_await append_many(log, 4000, 300);
        (void)co_await runtime::sleep_for(3s);
        EXPECT_GT(log->start_offset(), 1000);
        EXPECT_GE(log->size_bytes(), 300'000u);
        EXPECT_LT(log->size_bytes(), 1'200'000u);
        EXPECT_EQ(must(co_await read_and_check(log, log->start_offset(), 4000)),
                  4000 - log->start_offset());
        log->configure({.segment_ms = 1000, .retention_ms = 2000});
        (void)co_await runtime::sleep_for(10s);
        EXPECT_EQ(log->start_offset(), 4000);
    });
}

// Kafka rolls the active segment and deletes it when its newest record is too old: a topic that
// goes quiet is empty in the end.
TEST_F(StoreTest, retention_by_time_takes_the_active_segment_and_what_is_in_memory) {
    options.retention_check_ms = 1000;
    int64_t end = 0;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = 5000}));
        const auto append_now = [log] {
            const int64_t now = runtime::Shard::current().wall_now().ms;
            return append_durably(log, make_entry(*log, 300, 1, 1, now));
        };
        for (int i = 0; i < 100; ++i) must(co_await append_now());
        end = log->end().offset;
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 0) << "not before its time";
        // What comes meanwhile is young, and keeps the segment that it goes to.
        must(co_await append_now());
        ++end;
        (void)co_await runtime::sleep_for(4s);
        EXPECT_EQ(log->start_offset(), 0);
        (void)co_await runtime::sleep_for(4s);
        EXPECT_EQ(log->start_offset(), end);
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(log->size_bytes(), 0u) << "the file is gone too";
        must(co_await append_now());
        EXPECT_EQ(must(co_await read_and_check(log, end, end + 1)), 1);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_EQ(log->start_offset(), end);
        EXPECT_EQ(log->end().offset, end + 1);
        co_return;
    });
}

TEST_F(StoreTest, retention_of_no_bytes_takes_everything_that_is_committed) {
    options.retention_check_ms = 1000;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_bytes = 0, .retention_ms = -1}));
        RetentionHold commit = log->hold_from(60);
        co_await append_many(log, 100, 300);
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 0) << "all of a segment or nothing";
        commit.move_to(100);
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 100);
        log->configure({.retention_bytes = 1, .retention_ms = -1});
        co_await append_many(log, 10, 300);
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 100) << "any other bound leaves the last segment";
    });
}

// 1. A segment is full, and what is left beside it is less than the bound. 2. More is appended than
// the bound, and waits for its flush. 3. The segment must stay: a power cut may take what waits.
TEST_F(StoreTest, retention_by_size_does_not_count_what_is_not_durable) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.segment_bytes = 64_KiB,
                                                        .segment_ms = 100,
                                                        .retention_bytes = 8'000,
                                                        .retention_ms = -1}));
        co_await append_many(log, 10, 1000);
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 0);
        const Duration sync_mean = std::exchange(node.disk_faults().sync_mean, 2min);
        for (int i = 0; i < 10; ++i) must(log->append(make_entry(*log, 1000)));
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->durable_end(), (Position{10, 0})) << "the flush is still under way";
        EXPECT_EQ(log->start_offset(), 0);
        must(co_await log->wait_durable({20, 0}));
        node.disk_faults().sync_mean = sync_mean;
        (void)co_await runtime::sleep_for(20min);
        EXPECT_EQ(log->start_offset(), 10);
    });
}

// A segment that was full because of its age, and told nobody so before its footer was written, was
// taken whole by a truncation meanwhile and came back, without its file, with the next start.
TEST_F(StoreTest, a_segment_that_went_while_it_was_rolled_by_age_stays_gone) {
    node.disk_faults().sync_mean = 30ms;
    options.retention_check_ms = 100;
    int64_t end = 0;
    for (int life = 0; life < 60; ++life) {
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = store.find({7});
            if (log == nullptr) log = must(co_await store.create_log({7}, {.retention_ms = -1}));
            log->configure({.segment_ms = 200, .retention_ms = -1});
            EXPECT_EQ(log->end(), (Position{end, 0}));
            co_await append_many(log, 5, 300);
            (void)co_await runtime::sleep_for(400ms + life * 5ms);
            must(co_await log->truncate_prefix(log->end().offset));
            end = log->end().offset;
            (void)co_await runtime::sleep_for(2s);
            EXPECT_FALSE(store.failed());
        });
    }
}

TEST_F(StoreTest, retention_counts_payloads_and_not_what_pads_them) {
    // Each entry is a run of its own, and so fills pages.
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.segment_bytes = 64_KiB,
                                                        .segment_ms = 100,
                                                        .retention_bytes = 20'000,
                                                        .retention_ms = -1}));
        for (int i = 0; i < 40; ++i) {
            must(co_await append_durably(log, make_entry(*log, 100)));
            (void)co_await runtime::sleep_for(3s);
        }
        EXPECT_GE(log->size_bytes(), 40u * 4096u);
        EXPECT_EQ(log->start_offset(), 0) << "4,000 bytes are no more than 20,000";
        log->configure({.segment_bytes = 64_KiB,
                        .segment_ms = 100,
                        .retention_bytes = 2'000,
                        .retention_ms = -1});
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(log->start_offset(), 20);
    });
}

// What is appended while the log gets ready to begin anew may pass the new start: then its record
// must not come before those entries, or a replay would begin anew there.
TEST_F(StoreTest, a_start_beyond_the_end_that_the_end_passes_meanwhile_is_one_like_others) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(log->append(make_entry(*log, 100)));
        (void)co_await runtime::sleep_for(20us);  // its commit is in flight
        EXPECT_EQ(log->durable_end(), Position{});
        runtime::Scope scope;
        Result<void> moved = fail(ErrorCode::kIo);
        scope.spawn([](Log* l, Result<void>* r) -> Task<void> {
            *r = co_await l->truncate_prefix(5);
        }(log, &moved));
        while (log->durable_end() == Position{}) {
            if (log->end().offset < 10) must(log->append(make_entry(*log, 100)));
            co_await runtime::yield();
        }
        while (log->end().offset < 10) must(log->append(make_entry(*log, 100)));
        must(co_await log->wait_durable({10, 0}));
        co_await scope.join();
        must(std::move(moved));
        EXPECT_EQ(log->start_offset(), 5);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->start_offset(), 5);
        EXPECT_EQ(log->end(), (Position{10, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 5, 10)), 5);
    });
}

TEST_F(StoreTest, a_log_begins_anew_beyond_its_end) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 300, 300);
        must(co_await log->truncate_prefix(1000));
        EXPECT_EQ(log->end(), (Position{1000, 0}));
        co_await append_many(log, 300, 300);
    });
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(log->start_offset(), 1000);
        EXPECT_EQ(log->end(), (Position{1300, 0}));
        EXPECT_EQ(must(co_await read_and_check(log, 1000, 1300)), 300);
    });
}

TEST_F(StoreTest, a_truncation_to_below_the_start_is_refused) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 20, 300);
        must(co_await log->truncate_prefix(10));
        EXPECT_EQ((co_await log->truncate_suffix({9, 0})).error().code, ErrorCode::kOutOfRange);
        EXPECT_EQ(log->end(), (Position{20, 0}));
        must(co_await log->truncate_suffix({10, 0}));
        EXPECT_EQ(log->end(), (Position{10, 0}));
    });
}

struct ManyShards : StoreTest {
    // Opens the stores of a node with so many shards, and runs `use` on shard 0.
    void run_on_shards(uint32_t shards, std::function<Task<void>(StoreSet&)> use,
                       bool kill = false) {
        node.set_shard_count(shards);
        bool done = false;
        world.start(node, [&](Shard& shard) -> Task<void> {
            if (shard.id() == 0) {
                std::unique_ptr<StoreSet> set = must(co_await StoreSet::open(options));
                co_await use(*set);
                done = true;
                if (kill) (void)co_await runtime::sleep_for(1h);
                co_await set->close();
            }
            while (!done) (void)co_await runtime::sleep_for(1ms);
        });
        const auto over = [&] { return kill ? done : node.finished(); };
        CHECK(world.run_until(over, 1h) == sim::World::Outcome::kDone);
        if (kill)
            world.kill(node, sim::Kill::kPower);
        else
            world.reap(node);
    }
};

TEST_F(ManyShards, another_number_of_shards_finds_the_same_logs) {
    constexpr int kLogs = 9;
    run_on_shards(
        3,
        [&](StoreSet& set) -> Task<void> {
            for (uint64_t id = 1; id <= kLogs; ++id) {
                co_await runtime::on(owner_of({id}, 3), [&set, id]() -> Task<void> {
                    Log* log = must(co_await set.local().create_log({id}, {.retention_ms = -1}));
                    co_await append_many(log, 50 * static_cast<int>(id), 700);
                    must(co_await log->save_hard_state(
                        {.term = 2, .voted_for = static_cast<int32_t>(id)}));
                });
            }
        },
        true);
    for (const uint32_t shards : {2u, 5u, 1u}) {
        run_on_shards(
            shards,
            [&, shards](StoreSet& set) -> Task<void> {
                for (uint64_t id = 1; id <= kLogs; ++id) {
                    co_await runtime::on(owner_of({id}, shards), [&set, id]() -> Task<void> {
                        Log* log = set.local().find({id});
                        CHECK(log != nullptr);
                        EXPECT_EQ(log->hard_state().voted_for, static_cast<int32_t>(id));
                        const int64_t entries = log->end().offset;
                        EXPECT_GE(entries, 50 * static_cast<int64_t>(id));
                        EXPECT_EQ(must(co_await read_and_check(log, 0, entries)), entries);
                        EXPECT_EQ(log->take_recovered().entries.size(),
                                  static_cast<size_t>(entries));
                        must(co_await append_durably(log, make_entry(*log, 100)));
                    });
                }
            },
            shards == 5);
    }
}

TEST_F(ManyShards, a_crash_while_the_number_of_shards_changes_is_harmless) {
    run_on_shards(
        2,
        [&](StoreSet& set) -> Task<void> {
            for (uint64_t id = 2; id <= 5; ++id) {
                co_await runtime::on(owner_of({id}, 2), [&set, id]() -> Task<void> {
                    Log* log = must(co_await set.local().create_log({id}, {.retention_ms = -1}));
                    co_await append_many(log, 60, 700);
                });
            }
        },
        true);
    uint32_t shards = 3;
    for (uint64_t steps = 5; steps < 1500; steps += 37) {
        node.set_shard_count(shards);
        sim::run_and_kill(
            world, node,
            [&](Shard& shard) -> Task<void> {
                std::optional<Result<std::unique_ptr<StoreSet>>> set;
                if (shard.id() == 0) set = co_await StoreSet::open(options);
                (void)co_await runtime::sleep_for(1h);
            },
            steps, sim::Kill::kPower);
        shards = shards == 3 ? 2 : 3;
    }
    run_on_shards(1, [&](StoreSet& set) -> Task<void> {
        for (uint64_t id = 2; id <= 5; ++id)
            EXPECT_EQ(must(co_await read_and_check(set.local().find({id}), 0, 60)), 60);
    });
}

// Where the checkpoint of an old shard failed the change went on from the one before: entries, logs
// and segments were as they had been then.
TEST_F(ManyShards, a_full_disk_while_the_number_of_shards_changes_is_harmless) {
    constexpr int kLogs = 6;
    uint32_t shards = 1;
    int entries = 0;
    int refused = 0;
    for (int round = 0; round < 120; ++round) {
        const bool grow = refused == 0 || round % 4 == 0;
        if (grow) {
            run_on_shards(
                shards,
                [&](StoreSet& set) -> Task<void> {
                    for (uint64_t id = 1; id <= kLogs; ++id) {
                        co_await runtime::on(owner_of({id}, shards), [&, id]() -> Task<void> {
                            Log* log = set.local().find({id});
                            if (log == nullptr)
                                log = must(
                                    co_await set.local().create_log({id}, {.retention_ms = -1}));
                            EXPECT_EQ(log->end(), (Position{entries, 0})) << "log " << id;
                            EXPECT_EQ(must(co_await read_and_check(log, 0, entries)), entries);
                            co_await append_many(log, 5, 300);
                        });
                    }
                    entries += 5;
                },
                true);
        }
        node.disk_faults().metadata_full_chance = 0.1;
        node.set_shard_count(1 + (shards % 3));
        world.start(node, [&](Shard& shard) -> Task<void> {
            if (shard.id() != 0) co_return;
            auto set = co_await StoreSet::open(options);
            if (!set) {
                EXPECT_EQ(set.error().code, ErrorCode::kDiskFull) << set.error().to_string();
                ++refused;
                co_return;
            }
            shards = 1 + (shards % 3);
            co_await (*set)->close();
        });
        CHECK(world.run_until([&] { return node.finished(); }, 1h) == sim::World::Outcome::kDone);
        world.reap(node);
        node.disk_faults().metadata_full_chance = 0;
    }
    EXPECT_GT(refused, 5);
}

TEST_F(StoreTest, a_directory_is_opened_by_one_process_alone) {
    with_store([&](Store&) -> Task<void> {
        auto second = co_await StoreSet::open(options);
        EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
    });
}

TEST_F(StoreTest, a_full_disk_is_answered_and_passes) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 100, 1000);
        node.disk().set_capacity(1_MiB);  // less than it holds
        Result<void> admitted;
        int64_t acknowledged = 100;
        for (int i = 0; i < 10'000 && admitted; ++i) {
            admitted = co_await log->admit(1000, {});
            if (!admitted) break;
            must(co_await append_durably(log, make_entry(*log, 1000)));
            ++acknowledged;
        }
        CHECK(!admitted);
        EXPECT_EQ(admitted.error().code, ErrorCode::kDiskFull);
        EXPECT_FALSE(store.failed());
        EXPECT_EQ(must(co_await read_and_check(log, 0, acknowledged)), acknowledged);
        node.disk().set_capacity(1_GiB);
        (void)co_await runtime::sleep_for(1s);
        co_await append_many(log, 3000, 1000);
        EXPECT_EQ(must(co_await read_and_check(log, 0, acknowledged + 3000)), acknowledged + 3000);
    });
}

// The commit of a large entry waits for its segment; the checkpoint waited for that commit; and the
// task that tries the disk again was the one that wrote the checkpoint.
TEST_F(StoreTest, a_checkpoint_that_is_due_while_the_disk_is_full_holds_up_nobody) {
    with_store([&](Store& store) -> Task<void> {
        Log* small = must(co_await store.create_log({7}, {.retention_ms = -1}));
        Log* large = must(co_await store.create_log({8}, {.retention_ms = -1}));
        co_await append_many(small, 100, 1000);
        node.disk().set_capacity(1_MiB);  // less than it holds
        must(large->append(make_entry(*large, 100_KiB)));
        const uint64_t checkpoints = store.metrics().checkpoints;
        for (int i = 0; i < 300; ++i) {
            if (!co_await small->admit(1000, {})) break;
            must(co_await append_durably(small, make_entry(*small, 1000)));
        }
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(large->durable_end(), Position{});
        node.disk().set_capacity(1_GiB);
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(large->durable_end(), (Position{1, 0}));
        EXPECT_GT(store.metrics().checkpoints, checkpoints);
        EXPECT_EQ(must(co_await read_and_check(large, 0, 1)), 1);
    });
}

TEST_F(StoreTest, appends_are_admitted_again_soon_after_the_disk_was_full_for_a_moment) {
    // ... be it for a journal file, a checkpoint or a segment.
    options.retention_check_ms = 3'600'000;  // nothing else that happens by itself
    for (const size_t size : {200, 20'000, 100'000}) {
        with_store([&](Store& store) -> Task<void> {
            Log* log = must(co_await store.create_log({size}, {.retention_ms = -1}));
            for (int burst = 0; burst < 20; ++burst) {
                co_await append_many(log, burst + 1, size);
                node.disk_faults().metadata_full_chance = 1;
                bool refused = false;
                for (int i = 0; i < 10'000 && !refused; ++i) {
                    refused = !co_await log->admit(size, {});
                    if (!refused) must(co_await append_durably(log, make_entry(*log, size)));
                }
                EXPECT_TRUE(refused);
                node.disk_faults().metadata_full_chance = 0;
                (void)co_await runtime::sleep_for(1s);
                must(co_await log->admit(size, {}));
                must(co_await append_durably(log, make_entry(*log, size)));
            }
        });
    }
}

// Run notes that a hand-over left for the last commit need a journal file, and nobody made one any
// more.
TEST_F(StoreTest, a_store_closes_wherever_in_its_journal_it_stands) {
    options.journal_file_bytes = 64_KiB;
    options.journal_bytes_max = 192_KiB;
    options.unflushed_bytes_max = 64_KiB;
    options.bypass_bytes_min = 1_MiB;
    std::map<LogId, int64_t> ends{{{7}, 0}, {{8}, 0}, {{9}, 0}};
    for (int appends = 1; appends < 100; ++appends) {
        with_store([&](Store& store) -> Task<void> {
            Log* log = nullptr;
            for (auto& [id, end] : ends) {
                log = store.find(id);
                if (log == nullptr) log = must(co_await store.create_log(id, {.retention_ms = -1}));
                EXPECT_EQ(log->end(), (Position{end, 0}));
                for (int i = 0; i < appends; ++i) {
                    must(co_await log->admit(3000, {}));
                    must(log->append(make_entry(*log, 3000)));
                }
                end = log->end().offset;
            }
            for (auto& [id, end] : ends) must(co_await store.find(id)->wait_durable({end, 0}));
            for (int vote = 0; vote < appends % 17; ++vote)
                must(co_await log->save_hard_state({.term = vote, .voted_for = 1}));
        });
    }
}

// 1. Retention moves a start, and waits for its record. 2. The block with that record needs a
// journal file, and the disk is full. 3. The close waited for retention, and told the commits to
// give up after that.
TEST_F(StoreTest, a_store_closes_while_its_background_waits_for_a_journal_file_on_a_full_disk) {
    options.journal_file_bytes = 64_KiB;
    options.bypass_bytes_min = 1_MiB;
    int64_t acknowledged = 0;
    with_store([&](Store& store) -> Task<void> {
        Log* kept = must(co_await store.create_log({7}, {.retention_ms = -1}));
        Log* old = must(co_await store.create_log({8}, {.segment_ms = 100, .retention_ms = -1}));
        co_await append_many(old, 10, 1000);
        (void)co_await runtime::sleep_for(3s);
        node.disk().set_capacity(64_KiB);  // less than it holds
        while (co_await kept->admit(1000, {})) {
            must(co_await append_durably(kept, make_entry(*kept, 1000)));
            ++acknowledged;
        }
        // While a vote is being flushed, the start moves, and more comes than the journal has room
        // for.
        const Duration sync_mean = std::exchange(node.disk_faults().sync_mean, 2min);
        runtime::Scope votes;
        votes.spawn([](Log* log) -> Task<void> {
            must(co_await log->save_hard_state({.term = 1, .voted_for = 1}));
        }(kept));
        old->configure({.retention_ms = 1});
        (void)co_await runtime::sleep_for(3s);
        EXPECT_EQ(old->start_offset(), 10);
        for (int i = 0; i < 10; ++i) must(kept->append(make_entry(*kept, 1500)));
        node.disk_faults().sync_mean = sync_mean;
        co_await votes.join();
        (void)co_await runtime::sleep_for(1s);
        EXPECT_EQ(kept->durable_end(), (Position{acknowledged, 0}));
        EXPECT_FALSE(store.failed());
    });
    node.disk().set_capacity(1_GiB);
    with_store([&](Store& store) -> Task<void> {
        Log* kept = store.find({7});
        EXPECT_EQ(kept->end(), (Position{acknowledged, 0}));
        EXPECT_EQ(must(co_await read_and_check(kept, 0, acknowledged)), acknowledged);
    });
}

// A large entry waits for its segment, for which there is no room. Nobody makes that segment once
// the store closes, and the close must not wait for it.
TEST_F(StoreTest, a_store_closes_while_an_entry_waits_for_room_on_a_full_disk) {
    with_store([&](Store& store) -> Task<void> {
        Log* small = must(co_await store.create_log({7}, {.retention_ms = -1}));
        Log* large = must(co_await store.create_log({8}, {.retention_ms = -1}));
        co_await append_many(small, 100, 1000);
        node.disk().set_capacity(1_MiB);  // less than it holds
        must(large->append(make_entry(*large, 100_KiB)));
        (void)co_await runtime::sleep_for(2s);
        EXPECT_EQ(large->durable_end(), Position{});
        EXPECT_FALSE(store.failed());
    });
    node.disk().set_capacity(1_GiB);
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, 100)), 100);
        EXPECT_EQ(store.find({8})->end(), Position{});
        co_return;
    });
}

TEST_F(StoreTest, damage_below_the_journals_end_is_found_and_told) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 20; ++i) must(co_await append_durably(log, make_entry(*log, 100)));
    });
    // The fifth block: its second kilobyte turns to nothing.
    sim::run_on(world, node, [](Shard&) -> Task<void> {
        runtime::File file =
            must(co_await runtime::File::open("/data/shards-1/0/journal-0000000000000001",
                                              {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
        runtime::IoBuffer page = runtime::IoBuffer::allocate(kPage);
        EXPECT_EQ(must(co_await file.read(5 * kPage, page.all())), kPage);
        page.data()[150] ^= 1;
        must(co_await file.write(5 * kPage, page.all()));
        must(co_await file.sync());
        must(co_await file.close());
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = co_await StoreSet::open(options);
        EXPECT_EQ(set.error().code, ErrorCode::kCorrupt);
        EXPECT_NE(set.error().message.find("journal-0000000000000001 offset 20480"),
                  std::string::npos)
            << set.error().message;
    });
}

// Cluster seeds 35000098, 35001421: a disk that failed for a moment kept a log from being read at
// the start. What its owner knew without those entries was saved at the close as all that there is.
TEST_F(StoreTest, a_log_that_could_not_be_read_at_the_start_is_read_at_the_next_one) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 3000, 900);
    });
    flip_a_bit();
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log->damage() && log->damage()->offline);
        (void)log->take_recovered();
        log->set_state_provider([] { return CapturedState(std::vector<uint8_t>{9}, 0); });
        must(co_await store.checkpoint());
        log->set_state_provider({});
    });
    flip_a_bit();
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_FALSE(log->damage());
        const RecoveredState recovered = log->take_recovered();
        EXPECT_TRUE(recovered.state.empty());
        EXPECT_EQ(recovered.entries.size(), 3000u);
        co_return;
    });
}

TEST_F(StoreTest, damage_in_a_segment_is_told_by_the_read_that_meets_it) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 3000, 900);
    });
    flip_a_bit();
    // Opening reads no data, but this log has no state provider, and so all of it is replayed.
    with_store([&](Store& store) -> Task<void> {
        const auto& damage = store.find({7})->damage();
        CHECK(damage.has_value());
        EXPECT_TRUE(damage->offline);
        EXPECT_NE(damage->reason.find(".segment at "), std::string::npos) << damage->reason;
        EXPECT_EQ(store.metrics().offline_logs, 1u);
        EXPECT_FALSE(co_await store.find({7})->admit(100, {}));
        Log* other = must(co_await store.create_log({8}, {.retention_ms = -1}));
        must(co_await append_durably(other, make_entry(*other, 100)));
    });
}

// What may happen to the file that a log writes to.
enum class Harm : uint8_t { kRemoved, kCutShort, kDirectoryRemoved, kDirectoryIsAFile };

struct DamagedSegmentTest : StoreTest, testing::WithParamInterface<Harm> {
    // Of the only segment of log 7.
    static Task<void> harm(Harm how) {
        const std::string directory = log_directory("/data", {7});
        const auto names = must(co_await runtime::list_directory(directory));
        CHECK(names.size() == 1);
        const std::string path = directory + "/" + names[0];
        if (how == Harm::kCutShort) {
            runtime::File file = must(co_await runtime::File::open(
                path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
            must(co_await file.truncate(0));
            must(co_await file.close());
            co_return;
        }
        must(co_await runtime::unlink_file(path));
        if (how == Harm::kRemoved) co_return;
        must(co_await runtime::remove_directory(directory));
        if (how == Harm::kDirectoryIsAFile)
            must(co_await runtime::replace_small_file(directory, "what is this"));
    }
};

TEST_P(DamagedSegmentTest, takes_its_log_offline_and_neither_the_store_nor_what_is_whole) {
    options.sweep_delay_ms = 3600'000;  // found when it is written, not by a look at its name
    constexpr int kHandedOver = 300, kAll = 320;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await store.create_log({8}, {.retention_ms = -1}));
        log->set_state_provider([] { return CapturedState(std::vector<uint8_t>{1}); });
        co_await append_many(log, kHandedOver, 900);
        must(co_await static_cast<ShardStore&>(store).flush());
        co_await append_many(log, kAll - kHandedOver, 900);
        log->set_state_provider({});
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> { co_await harm(GetParam()); });
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        int told = 0;
        log->on_damage([&] { ++told; });
        EXPECT_FALSE(log->damage());
        must(co_await append_durably(log, make_entry(*log, 100)));
        // Its hand-over meets the damage.
        must(co_await static_cast<ShardStore&>(store).flush());
        EXPECT_FALSE(store.failed());
        CHECK(log->damage().has_value());
        EXPECT_TRUE(log->damage()->offline);
        EXPECT_FALSE(log->damage()->reason.empty());
        EXPECT_EQ(told, 1);
        EXPECT_EQ(log->append(make_entry(*log, 100)).error().code, ErrorCode::kIo);
        EXPECT_EQ((co_await log->admit(100, {})).error().code, ErrorCode::kIo);
        EXPECT_EQ(store.metrics().unflushed_bytes, 0u);  // and the journal comes free
        EXPECT_FALSE(co_await log->read(0, {}, {}));
        EXPECT_EQ(must(co_await read_and_check(log, kHandedOver, kAll + 1)),
                  kAll + 1 - kHandedOver);
        Log* other = store.find({8});
        co_await append_many(other, 100, 900);
        EXPECT_EQ(must(co_await read_and_check(other, 0, 100)), 100);
        log->on_damage({});
    });
    options.sweep_delay_ms = 0;
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        EXPECT_EQ(must(co_await read_and_check(log, kHandedOver, kAll + 1)),
                  kAll + 1 - kHandedOver);
        (void)co_await runtime::sleep_for(5s);
        EXPECT_EQ(store.metrics().damaged_logs, GetParam() == Harm::kCutShort ? 0u : 1u);
        EXPECT_FALSE(co_await log->read(0, {}, {}));
        EXPECT_EQ(store.metrics().damaged_logs, 1u);
        // What is whole goes on, and a new start forgets the damage with the files.
        must(co_await append_durably(log, make_entry(*log, 100)));
        must(co_await log->start_anew(log->end().offset, 1));
        EXPECT_FALSE(log->damage());
        EXPECT_EQ(store.metrics().damaged_logs, 0u);
    });
}
INSTANTIATE_TEST_SUITE_P(ActiveSegment, DamagedSegmentTest,
                         testing::Values(Harm::kRemoved, Harm::kCutShort, Harm::kDirectoryRemoved,
                                         Harm::kDirectoryIsAFile));

TEST_F(StoreTest, a_segment_that_is_missing_is_found_by_its_name_soon_after_the_start) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        log->set_state_provider([] { return CapturedState(std::vector<uint8_t>{1}); });
        co_await append_many(log, 100, 900);
        must(co_await static_cast<ShardStore&>(store).flush());
        log->set_state_provider({});
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        co_await DamagedSegmentTest::harm(Harm::kDirectoryRemoved);
    });
    with_store([&](Store& store) -> Task<void> {
        (void)co_await runtime::sleep_for(1s);
        CHECK(store.find({7})->damage().has_value());
        EXPECT_TRUE(store.find({7})->damage()->offline);
        EXPECT_NE(store.find({7})->damage()->reason.find("is missing"), std::string::npos);
    });
}

TEST_F(StoreTest, descriptors_that_run_out_hold_up_the_store_and_do_not_end_it) {
    options.bypass_bytes_min = 1_MiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await append_durably(log, make_entry(*log, 100)));
        node.disk_faults().no_descriptor_chance = 1;
        bool all = false;
        runtime::Scope scope;
        scope.spawn([](Log* to, bool* done) -> Task<void> {
            // More than the journal's files and the memory hold; one that only a segment takes.
            co_await append_many(to, 1500, 900);
            must(co_await to->admit(200_KiB, {}));
            must(co_await append_durably(to, make_entry(*to, 200_KiB)));
            *done = true;
        }(log, &all));
        (void)co_await runtime::sleep_for(10s);
        EXPECT_FALSE(all);
        EXPECT_FALSE(store.failed());
        EXPECT_FALSE(log->damage());
        node.disk_faults().no_descriptor_chance = 0;
        co_await scope.join();
        EXPECT_TRUE(all);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 1502)), 1502);
    });
}

TEST_F(StoreTest, a_journal_file_that_is_shorter_than_it_was_made_is_told_from_a_crash) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 20; ++i) must(co_await append_durably(log, make_entry(*log, 100)));
    });
    // Between two blocks, where a journal may end.
    sim::run_on(world, node, [](Shard&) -> Task<void> {
        runtime::File file =
            must(co_await runtime::File::open("/data/shards-1/0/journal-0000000000000001",
                                              {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
        must(co_await file.truncate(10 * kPage));
        must(co_await file.sync());
        must(co_await file.close());
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        auto set = co_await StoreSet::open(options);
        CHECK(!set.has_value());
        EXPECT_EQ(set.error().code, ErrorCode::kCorrupt);
        EXPECT_NE(set.error().message.find("journal-0000000000000001 has 40960 bytes"),
                  std::string::npos)
            << set.error().message;
    });
}

TEST_F(StoreTest, a_directory_is_opened_once_also_when_its_LOCK_is_deleted) {
    with_store([&](Store&) -> Task<void> {
        must(co_await runtime::unlink_file("/data/LOCK"));
        const auto second = co_await StoreSet::open(options);
        CHECK(!second.has_value());
        EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
    });
}

TEST_F(StoreTest, a_damaged_history_is_no_worse_than_a_missing_one) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await append_durably(log, make_entry(*log, 100)));
    });
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        must(co_await runtime::replace_small_file("/data/history", "what is this"));
    });
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, 1)), 1);
    });
}

TEST_F(StoreTest, a_start_on_a_full_disk_serves_and_can_make_room) {
    with_store_killed([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 100, 900);
        // Until the journal's next file is ready.
        (void)co_await runtime::sleep_for(1s);
    });
    node.disk().set_capacity(node.disk().used_bytes());
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, 100)), 100);
        must(co_await store.remove_log({7}));
    });
    node.disk().set_capacity(1_GiB);
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(store.find({7}), nullptr);
        co_return;
    });
}

TEST_F(StoreTest, descriptors_that_come_and_go_lose_nothing) {
    options.sweep_delay_ms = 1;
    int entries = 0;
    for (int life = 0; life < 6; ++life) {
        with_store_killed([&](Store& store) -> Task<void> {
            Log* log = store.find({7});
            if (log == nullptr)
                log = must(
                    co_await store.create_log({7}, {.segment_bytes = 64_KiB, .retention_ms = -1}));
            EXPECT_EQ(must(co_await read_and_check(log, 0, entries)), entries);
            // A new name may be there and its directory not flushed, again and again.
            node.disk_faults().no_descriptor_chance = 0.6;
            co_await append_many(log, 1000, 900);
            node.disk_faults().no_descriptor_chance = 0;
            entries += 1000;
            EXPECT_FALSE(store.failed());
        });
    }
    with_store([&](Store& store) -> Task<void> {
        EXPECT_EQ(must(co_await read_and_check(store.find({7}), 0, entries)), entries);
    });
}

TEST_F(StoreTest, a_large_entry_waits_for_a_descriptor_of_its_segment) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        node.disk_faults().no_descriptor_chance = 1;
        bool admitted = false;
        runtime::Scope scope;
        scope.spawn([](Log* to, bool* done) -> Task<void> {
            must(co_await to->admit(200_KiB, {}));
            *done = true;
            must(co_await append_durably(to, make_entry(*to, 200_KiB)));
        }(log, &admitted));
        (void)co_await runtime::sleep_for(5s);
        EXPECT_FALSE(admitted);
        EXPECT_FALSE(store.failed());
        node.disk_faults().no_descriptor_chance = 0;
        co_await scope.join();
        EXPECT_TRUE(admitted);
    });
}

TEST_F(StoreTest, the_next_log_to_hand_over_is_found_by_looking_at_few) {
    options.journal_bytes_max = 64_MiB;
    options.journal_file_bytes = 4_MiB;
    options.unflushed_bytes_max = 32_MiB;
    options.retention_check_ms = 3600'000;
    constexpr uint64_t kLogs = 500;
    with_store([&](Store& store) -> Task<void> {
        std::vector<Log*> logs;
        for (uint64_t i = 0; i < kLogs; ++i)
            logs.push_back(must(co_await store.create_log({100 + i}, {.retention_ms = -1})));
        for (Log* log : logs) must(log->append(make_entry(*log, 1000)));
        for (Log* log : logs) must(co_await log->wait_durable(log->end()));
        auto& shard = static_cast<ShardStore&>(store);
        const uint64_t before = store.metrics().logs_looked_at;
        EXPECT_LE(before, 4 * kLogs);
        // All of them are older than that.
        co_await shard.handover().run(shard.commits().durable_block() + 1);
        EXPECT_EQ(store.metrics().unflushed_bytes, 0u);
        EXPECT_LE(store.metrics().logs_looked_at - before, 8 * kLogs);
        // None is: one look tells.
        for (Log* log : logs) must(log->append(make_entry(*log, 1000)));
        for (Log* log : logs) must(co_await log->wait_durable(log->end()));
        const uint64_t listed = store.metrics().logs_looked_at;
        co_await shard.handover().run(1);
        EXPECT_LE(shard.handover().oldest_block(), shard.commits().durable_block());
        EXPECT_LE(store.metrics().logs_looked_at - listed, 8u);
    });
}

TEST_F(StoreTest, replication_reads_memory_from_its_place_on) {
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        for (int i = 0; i < 1000; ++i) must(log->append(make_entry(*log, 100)));
        must(co_await log->wait_durable(log->end()));
        const uint64_t before = store.metrics().entries_looked_at;
        const auto read = must(co_await log->read_entries({990, 0}, {}, {}));
        EXPECT_EQ(read.size(), 10u);
        EXPECT_EQ(read[0].info.first, (Position{990, 0}));
        EXPECT_LE(store.metrics().entries_looked_at - before, 10u);
    });
}

TEST_F(StoreTest, a_failed_flush_stops_the_store_and_is_told_once) {
    int told = 0;
    options.on_fatal = [&](const Error&) { ++told; };
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        must(co_await append_durably(log, make_entry(*log, 100)));
        node.disk_faults().sync_error_chance = 1;
        EXPECT_FALSE(co_await append_durably(log, make_entry(*log, 100)));
        EXPECT_TRUE(store.failed());
        EXPECT_FALSE(log->append(make_entry(*log, 100)));
        EXPECT_FALSE(co_await log->admit(100, {}));
        EXPECT_EQ(log->durable_end(), (Position{1, 0}));
        node.disk_faults().sync_error_chance = 0;
    });
    EXPECT_EQ(told, 1);
}

TEST_F(StoreTest, what_a_crash_left_behind_is_deleted_after_the_next_start) {
    options.sweep_delay_ms = 1000;
    with_store([&](Store& store) -> Task<void> {
        Log* log =
            must(co_await store.create_log({7}, {.segment_bytes = 64_KiB, .retention_ms = -1}));
        co_await append_many(log, 200, 2000);
        (void)must(co_await store.create_log({8}, {.retention_ms = -1}));
    });
    const std::string directory = log_directory("/data", {7});
    const auto names = [&] {
        std::vector<std::string> found;
        EXPECT_EQ(node.disk().list(directory, &found), 0);
        return found;
    };
    const std::vector<std::string> right = names();
    ASSERT_GT(right.size(), 2u);
    int64_t base = -1;
    uint32_t segment = 0;
    EXPECT_TRUE(parse_segment_name(right[1], &base, &segment));
    EXPECT_EQ(segment_path("/data", {7}, base, segment), directory + "/" + right[1]);
    // A truncated segment whose deletion was cut short, one that was made and never noted, the
    // directory of a log that was removed; and a file that is not ours to judge.
    const std::string foreign = directory + "/notes.txt";
    const std::string removed_log = segment_path("/data", {9}, 0, 1);
    sim::run_on(world, node, [&](Shard&) -> Task<void> {
        must(co_await runtime::make_directories(log_directory("/data", {9})));
        for (const std::string& path :
             {segment_path("/data", {7}, base + 1, segment), segment_path("/data", {7}, 200, 1000),
              foreign, removed_log}) {
            runtime::File file = must(co_await runtime::File::open(
                path, {.flags = runtime::kOpenWrite | runtime::kOpenCreate}));
            must(co_await file.close());
        }
    });
    ASSERT_EQ(names().size(), right.size() + 3);
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(names().size(), right.size() + 3);
        (void)co_await runtime::sleep_for(5s);
        std::vector<std::string> expected = right;
        expected.emplace_back("notes.txt");
        EXPECT_EQ(names(), expected);
        std::vector<std::string> none;
        EXPECT_NE(node.disk().list(log_directory("/data", {9}), &none), 0);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 200)), 200);
    });
}

TEST_F(StoreTest, a_read_gives_what_it_has_rather_than_wait_for_memory_that_it_holds) {
    options.unflushed_bytes_max = 256_KiB;
    with_store([&](Store& store) -> Task<void> {
        Log* log = must(co_await store.create_log({7}, {.retention_ms = -1}));
        co_await append_many(log, 400, 2000);
    });
    // One run has room, two have not.
    runtime::MemoryBudget little(100_KiB);
    options.memory = &little;
    with_store([&](Store& store) -> Task<void> {
        Log* log = store.find({7});
        CHECK(log != nullptr);
        EXPECT_EQ(must(co_await read_and_check(log, 0, 400, 10_MiB)), 400);
        const ReadResult held = must(co_await log->read(0, {.bytes_max = 10_MiB}, {}));
        EXPECT_FALSE(held.parts.empty());
        const ReadResult more =
            must(co_await log->read(200, {.bytes_max = 10_MiB, .at_least_one = false}, {}));
        EXPECT_EQ(more.size, 0u);
        EXPECT_EQ(more.next_offset, 200);
    });
    EXPECT_EQ(little.used(), 0u);
}

TEST_F(ManyShards, memory_that_another_shards_cache_holds_comes_back) {
    options.unflushed_bytes_max = 256_KiB;
    run_on_shards(2, [&](StoreSet& set) -> Task<void> {
        for (const uint64_t id : {2, 3}) {
            co_await runtime::on(owner_of({id}, 2), [&set, id]() -> Task<void> {
                co_await append_many(
                    must(co_await set.local().create_log({id}, {.retention_ms = -1})), 400, 2000);
            });
        }
    });
    runtime::MemoryBudget little(200_KiB);
    options.memory = &little;
    run_on_shards(2, [&](StoreSet& set) -> Task<void> {
        for (const uint64_t id : {2, 3, 2}) {
            co_await runtime::on(owner_of({id}, 2), [&set, id]() -> Task<void> {
                Log* log = set.local().find({id});
                CHECK(log != nullptr);
                EXPECT_EQ(must(co_await read_and_check(log, 0, 400)), 400);
                EXPECT_GT(set.local().metrics().cache_bytes, 0u);
            });
        }
    });
}

}  // namespace

}  // namespace weir::storage
