#include "storage/run_plan.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/prng.h"
#include "base/units.h"
#include "runtime/test_loop.h"

namespace weir::storage {
namespace {

using runtime::Shard;
using runtime::Task;

void append(LogState& log, size_t size) {
    std::vector<uint8_t> bytes(size, static_cast<uint8_t>(log.end.offset));
    log.append({.info = {.kind = EntryKind::kData,
                         .term = 1,
                         .first = log.end,
                         .next_offset = log.end.offset + 1,
                         .max_timestamp_ms = log.end.offset},
                .payload = runtime::SharedBytes::copy_of(bytes)});
}

uint64_t steps_of_all(const LogState& log, std::vector<BuiltRun>* built) {
    runtime::TestLoop loop;
    runtime::MemoryBudget budget(64_MiB);
    const RunPlan plan = plan_runs(log.memory, 0, log.memory.size(), 1_MiB, 0);
    const uint64_t before = Shard::current().steps();
    for (const PlannedRun& planned : plan.runs)
        built->push_back(loop.run(build_planned_run(budget, log, 1, planned, false)));
    const uint64_t steps = Shard::current().steps() - before;
    for (BuiltRun& run : *built) {
        auto view = RunView::parse(run.buffer.filled(), true);
        CHECK(view.has_value());
        CHECK(view->header().crc == run.note.crc);
        // The budget goes with this function.
        run.buffer = {};
    }
    return steps;
}

TEST(RunPlan, a_run_of_a_large_entry_leaves_turns_to_others) {
    LogState log;
    append(log, 8 * kRunStepBytes);
    std::vector<BuiltRun> built;
    EXPECT_GE(steps_of_all(log, &built), 8u);
    EXPECT_EQ(built.size(), 1u);

    runtime::TestLoop loop;
    runtime::MemoryBudget budget(64_MiB);
    const RunPlan plan = plan_runs(log.memory, 0, 1, 1_MiB, 0);
    EXPECT_FALSE(build_small_run(budget, log, 1, plan.runs.front(), true));
}

TEST(RunPlan, an_ordinary_run_is_laid_out_at_once_so_that_the_disk_does_not_wait) {
    LogState log;
    for (int i = 0; i < 100; ++i) append(log, 50'000);
    std::vector<BuiltRun> built;
    const uint64_t steps = steps_of_all(log, &built);
    EXPECT_GT(built.size(), 3u);
    EXPECT_LE(steps, built.size());
}

TEST(EntryQueue, entries_stay_where_they_are_while_it_grows) {
    LogState log;
    append(log, 8);
    std::vector<const MemoryEntry*> places;
    for (size_t i = 0; i < 20 * EntryQueue::kPieceEntries; ++i) {
        if (i >= EntryQueue::kPieceEntries) places.push_back(&log.memory.back());
        append(log, 8);
    }
    for (size_t i = 0; i < places.size(); ++i)
        EXPECT_EQ(places[i], &log.memory[EntryQueue::kPieceEntries + i]);
}

// Against a plain list, with all that may be done to it.
TEST(EntryQueue, is_a_queue_whatever_its_pieces) {
    Prng prng(7);
    for (int round = 0; round < 50; ++round) {
        EntryQueue queue;
        std::deque<int64_t> model;
        int64_t next = 0;
        const uint64_t bias = 1 + prng.below(9);
        for (int i = 0; i < 3000; ++i) {
            const uint64_t what = prng.below(10);
            if (what < bias) {
                queue.push_back({.info = {.first = {next, 0}, .next_offset = next + 1}});
                model.push_back(next++);
            } else if (what == 9 && prng.below(20) == 0) {
                queue.shrink();
            } else if (what == 9 && prng.below(200) == 0) {
                queue.clear();
                model.clear();
            } else if (!model.empty() && prng.below(4) == 0) {
                queue.pop_back();
                model.pop_back();
                next = model.empty() ? next : model.back() + 1;
            } else if (!model.empty()) {
                queue.pop_front();
                model.pop_front();
            }
            ASSERT_EQ(queue.size(), model.size());
            ASSERT_EQ(queue.empty(), model.empty());
            if (model.empty()) continue;
            ASSERT_EQ(queue.front().info.first.offset, model.front());
            ASSERT_EQ(queue.back().info.first.offset, model.back());
            const size_t at = prng.below(model.size());
            ASSERT_EQ(queue[at].info.first.offset, model[at]);
            ASSERT_EQ(queue.find(model[at]), at);
        }
        while (!queue.empty()) queue.pop_front();
        queue.shrink();
        ASSERT_EQ(queue.capacity(), 0u);
    }
}

}  // namespace
}  // namespace weir::storage
