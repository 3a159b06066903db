// Replays written by hand: what each order of checkpoint and records must come to.
#include "storage/replay.h"

#include <gtest/gtest.h>

namespace weir::storage {
namespace {

constexpr LogId kLog{7};

EntryInfo data(int64_t from, int64_t to, int32_t term = 1) {
    return {.term = term, .first = {from, 0}, .next_offset = to, .max_timestamp_ms = to};
}

// Builds blocks of one log.
class Block {
  public:
    explicit Block(uint64_t sequence) : sequence_(sequence) {
        builder_.start(memory_);
        builder_.begin_group(kLog);
    }
    Block& entry(EntryInfo info) {
        builder_.add_entry(info, as_bytes("payload"), 3);
        return *this;
    }
    Block& bypassed(EntryInfo info) {
        builder_.add_bypassed(info, 7, as_bytes("pay"));
        return *this;
    }
    template <class Append>
    Block& record(Append append) {
        std::vector<uint8_t> bytes;
        append(bytes);
        builder_.add_records(bytes, 1);
        return *this;
    }
    Block& create() {
        return record([](auto& to) { append_mark(to, RecordType::kCreateLog); });
    }
    Block& truncate(Position end) {
        return record([&](auto& to) { append_truncate_suffix(to, end); });
    }
    Block& opened(uint32_t segment, Position base) {
        return record(
            [&](auto& to) { append_segment_opened(to, {.segment = segment, .base = base}); });
    }
    Block& run(uint32_t segment, uint64_t position, Position first, Position end,
               bool bypass = false) {
        return record([&](auto& to) {
            append_run(to, {.segment = segment,
                            .position = position,
                            .length = 4096,
                            .entries = 1,
                            .first = first,
                            .end = end,
                            .bypass = bypass});
        });
    }
    Block& closed(uint32_t segment) {
        return record([&](auto& to) {
            append_segment_closed(to, {.segment = segment, .footer_position = 4096});
        });
    }
    Block& replaced(uint32_t segment, uint32_t by, Position base, Position end) {
        return record([&](auto& to) {
            append_segment_replaced(to, {.segment = segment,
                                         .replacement = by,
                                         .base = base,
                                         .end = end,
                                         .data_end = 8192,
                                         .footer_length = 4096});
        });
    }
    Result<void> apply_to(Replay& replay) { return replay.apply(header(), finish()); }
    Bytes finish() {
        builder_.end_group();
        const size_t size = builder_.size();
        return builder_.finish(header()).first(size);
    }

  private:
    BlockHeader header() const { return {.block_sequence = sequence_}; }
    uint64_t sequence_;
    std::vector<uint8_t> memory_ = std::vector<uint8_t>(16384);
    BlockBuilder builder_;
};

std::map<LogId, LogSnapshot> at_block(uint64_t applied, Position flushed_end, Position end) {
    std::map<LogId, LogSnapshot> logs;
    LogSnapshot& snapshot = logs[kLog];
    snapshot.log.id = kLog;
    snapshot.log.end = end;
    snapshot.log.flushed_end = flushed_end;
    snapshot.log.terms = {{1, {0, 0}}};
    snapshot.applied_block = applied;
    return logs;
}

std::vector<std::pair<int64_t, int32_t>> in_memory(Replay& replay) {
    std::vector<std::pair<int64_t, int32_t>> entries;
    const EntryQueue& memory = replay.logs().at(kLog).snapshot.log.memory;
    for (size_t i = 0; i < memory.size(); ++i)
        entries.emplace_back(memory[i].info.first.offset, memory[i].info.term);
    return entries;
}

using Entries = std::vector<std::pair<int64_t, int32_t>>;

TEST(Replay, a_log_made_after_the_checkpoint_comes_from_the_journal_alone) {
    Replay replay({});
    ASSERT_TRUE(Block(1).create().entry(data(0, 2)).entry(data(2, 3)).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_EQ(in_memory(replay), (Entries{{0, 1}, {2, 1}}));
    EXPECT_EQ(replay.logs().at(kLog).entries.size(), 2u);
}

TEST(Replay, records_of_a_log_that_was_removed_are_passed_over) {
    Replay replay({});
    ASSERT_TRUE(Block(1).entry(data(5, 6)).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_TRUE(replay.logs().empty());
}

TEST(Replay, entries_that_the_checkpoint_counts_but_does_not_hold_come_from_the_journal) {
    Replay replay(at_block(2, {5, 0}, {9, 0}));
    ASSERT_TRUE(Block(1).entry(data(3, 5)).entry(data(5, 7)).apply_to(replay));
    ASSERT_TRUE(Block(2).entry(data(7, 9)).apply_to(replay));
    ASSERT_TRUE(Block(3).entry(data(9, 10)).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_EQ(in_memory(replay), (Entries{{5, 1}, {7, 1}, {9, 1}}));
    EXPECT_EQ(replay.logs().at(kLog).entries.size(), 1u) << "those after the checkpoint";
}

TEST(Replay, a_journal_that_lacks_an_entry_of_the_checkpoint_is_damaged) {
    Replay replay(at_block(2, {5, 0}, {9, 0}));
    ASSERT_TRUE(Block(1).entry(data(5, 7)).apply_to(replay));
    EXPECT_EQ(replay.finish().error().code, ErrorCode::kCorrupt);
}

TEST(Replay, entries_cut_off_before_the_checkpoint_do_not_come_back) {
    // 1. [5, 9) of term 1. 2. Cut at 6, and [6, 8) of term 2. The checkpoint has segments up to 5.
    Replay replay(at_block(3, {5, 0}, {8, 0}));
    ASSERT_TRUE(Block(1).entry(data(5, 6)).entry(data(6, 9)).apply_to(replay));
    ASSERT_TRUE(Block(2).truncate({6, 0}).apply_to(replay));
    ASSERT_TRUE(Block(3).entry(data(6, 8, 2)).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_EQ(in_memory(replay), (Entries{{5, 1}, {6, 2}}));
}

TEST(Replay, a_truncation_under_way_at_the_checkpoint_is_in_it_already) {
    // The log was captured at 6 with block 1, while the truncation that cut it waited for block 2.
    Replay replay(at_block(1, {5, 0}, {6, 0}));
    ASSERT_TRUE(Block(1).entry(data(5, 6)).entry(data(6, 9)).apply_to(replay));
    ASSERT_TRUE(Block(2).truncate({6, 0}).entry(data(6, 7, 2)).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_EQ(in_memory(replay), (Entries{{5, 1}, {6, 2}}));
}

TEST(Replay, a_run_that_is_noted_leaves_the_memory_and_noted_twice_changes_nothing) {
    auto logs = at_block(1, {0, 0}, {0, 0});
    Replay replay(std::move(logs));
    ASSERT_TRUE(Block(2).opened(1, {0, 0}).entry(data(0, 4)).entry(data(4, 6)).apply_to(replay));
    ASSERT_TRUE(Block(3).run(1, 0, {0, 0}, {4, 0}).apply_to(replay));
    ASSERT_TRUE(Block(4).run(1, 0, {0, 0}, {4, 0}).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_EQ(in_memory(replay), (Entries{{4, 1}}));
    const LogState& log = replay.logs().at(kLog).snapshot.log;
    EXPECT_EQ(log.flushed_end, (Position{4, 0}));
    EXPECT_EQ(log.segments.at(0).data_end, 4096u);
}

TEST(Replay, a_bypassed_entry_without_its_run_is_damage) {
    Replay replay({});
    ASSERT_TRUE(Block(1).create().opened(1, {0, 0}).bypassed(data(0, 4)).apply_to(replay));
    EXPECT_EQ(replay.finish().error().code, ErrorCode::kCorrupt);
}

TEST(Replay, bypassed_entries_are_in_their_segment_and_their_summaries_are_told) {
    Replay replay({});
    ASSERT_TRUE(Block(1)
                    .create()
                    .opened(1, {0, 0})
                    .bypassed(data(0, 4))
                    .run(1, 0, {0, 0}, {4, 0}, true)
                    .apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_TRUE(in_memory(replay).empty());
    ASSERT_EQ(replay.logs().at(kLog).entries.size(), 1u);
    EXPECT_EQ(as_text(replay.logs().at(kLog).entries[0].summary), "pay");
}

TEST(Replay, the_runs_of_a_block_are_found_in_the_segment_that_it_opens) {
    // 1. [0, 4) is handed over, which fills segment 1. 2. Segment 2 is opened. 3. One block notes
    // both and bypasses into segment 2.
    Replay replay({});
    ASSERT_TRUE(Block(1).create().opened(1, {0, 0}).entry(data(0, 4)).apply_to(replay));
    Block second(2);
    second.run(1, 0, {0, 0}, {4, 0})
        .opened(2, {4, 0})
        .bypassed(data(4, 9))
        .run(2, 0, {4, 0}, {9, 0}, true);
    auto runs = replay.bypassed_runs(second.finish());
    ASSERT_TRUE(runs);
    ASSERT_EQ(runs->size(), 1u);
    EXPECT_EQ(runs->at(0).segment_base, 4);
}

// 1. Segment 1 is replaced by 3, while 2 takes runs.  2. Noted again, it changes nothing.  3. The
// next segment has a number that none had.
TEST(Replay, a_segment_that_was_replaced_does_not_come_back) {
    Replay replay({});
    ASSERT_TRUE(Block(1).create().opened(1, {0, 0}).entry(data(0, 4)).apply_to(replay));
    ASSERT_TRUE(Block(2).run(1, 0, {0, 0}, {4, 0}).closed(1).opened(2, {4, 0}).apply_to(replay));
    for (const uint64_t block : {3, 4})
        ASSERT_TRUE(Block(block).replaced(1, 3, {0, 0}, {4, 0}).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    const LogState& log = replay.logs().at(kLog).snapshot.log;
    ASSERT_EQ(log.segments.size(), 2u);
    EXPECT_EQ(log.segments[0].id, 3u);
    EXPECT_EQ(log.segments[0].data_end, 8192u);
    EXPECT_TRUE(log.segments[0].full);
    EXPECT_EQ(log.segments[1].id, 2u);
    EXPECT_EQ(log.next_segment, 4u);
}

TEST(Replay, a_replacement_that_is_not_like_its_segment_is_damage) {
    const auto applied = [](Position base, Position end) {
        Replay replay({});
        EXPECT_TRUE(Block(1).create().opened(1, {2, 0}).apply_to(replay));
        EXPECT_TRUE(Block(2).closed(1).apply_to(replay));
        return Block(3).replaced(1, 3, base, end).apply_to(replay);
    };
    EXPECT_EQ(applied({2, 0}, {5, 0}).error().code, ErrorCode::kCorrupt) << "another end";
    Replay open({});
    ASSERT_TRUE(Block(1).create().opened(1, {0, 0}).entry(data(0, 4)).apply_to(open));
    ASSERT_TRUE(Block(2).run(1, 0, {0, 0}, {4, 0}).apply_to(open));
    EXPECT_EQ(Block(3).replaced(1, 3, {0, 0}, {4, 0}).apply_to(open).error().code,
              ErrorCode::kCorrupt)
        << "it takes runs";
}

TEST(Replay, state_that_covers_what_a_truncation_took_is_dropped) {
    auto logs = at_block(1, {0, 0}, {6, 0});
    logs[kLog].state_end = {6, 0};
    logs[kLog].state = {1, 2, 3};
    Replay replay(std::move(logs));
    ASSERT_TRUE(Block(1).entry(data(0, 3)).entry(data(3, 6)).apply_to(replay));
    ASSERT_TRUE(Block(2).truncate({3, 0}).apply_to(replay));
    ASSERT_TRUE(replay.finish());
    EXPECT_TRUE(replay.logs().at(kLog).snapshot.state.empty());
    EXPECT_EQ(replay.logs().at(kLog).snapshot.state_end, Position{});
    EXPECT_EQ(replay.logs().at(kLog).entries_from, (Position{3, 0}));
}

TEST(Replay, a_gap_or_an_overlap_after_the_checkpoint_is_damage) {
    for (const int64_t from : {2, 4}) {
        Replay replay({});
        ASSERT_TRUE(Block(1).create().entry(data(0, 3)).apply_to(replay));
        EXPECT_EQ(Block(2).entry(data(from, 9)).apply_to(replay).error().code, ErrorCode::kCorrupt);
    }
}

}  // namespace
}  // namespace weir::storage
