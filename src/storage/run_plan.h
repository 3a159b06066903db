// Lays entries in memory out as runs of a segment: for the hand-over and for the bypass. Pure but
// for the buffers' reservations.
#pragma once

#include <optional>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/task.h"
#include "storage/log_state.h"

namespace weir::storage {

// Entries [begin, end) of a log's memory, as a run at `position` of its segment.
struct PlannedRun {
    size_t begin = 0;
    size_t end = 0;
    uint64_t position = 0;
    uint64_t length = 0;
};

// Entries of a log's memory as runs back to back.
struct RunPlan {
    std::vector<PlannedRun> runs;
    uint64_t length = 0;
};
// A run is closed when its payloads reach `run_bytes`: what a cold read loads and verifies at once.
RunPlan plan_runs(const EntryQueue& memory, size_t begin, size_t end, uint64_t run_bytes,
                  uint64_t position);
// As many entries below `end` as fit `length_max`, one at least.
size_t entries_that_fit(const EntryQueue& memory, Position end, uint64_t length_max,
                        uint64_t run_bytes);

struct BuiltRun {
    RunNote note;
    runtime::IoBuffer buffer;
    bool keep = false;  // the buffer is accounted, so it may stay as cache

    // For the cache; empty if it may not stay.
    runtime::SharedBytes share() && {
        return keep ? std::move(buffer).share() : runtime::SharedBytes();
    }
};

// Runs of a stream that are laid out before the commit that writes them: while the commit before is
// on its way to the disk. They follow that one's in the segment, and hold the first of the entries
// that wait. Nothing of it is on the disk: it may be dropped at any time.
struct StagedRuns {
    uint32_t segment = 0;
    uint64_t next_position = 0;
    std::vector<BuiltRun> runs;
    size_t entries = 0;
    uint64_t payload_bytes = 0;
    uint64_t length = 0;
    // What the runs hold are the first entries in memory, and they would go where they were laid
    // out for.
    bool fit(const LogState& log, size_t entries_max) const;
};

// Lays out one run: of one large entry in pieces, between which others of the shard run. `log` and
// its entries stay where they are meanwhile.
runtime::Task<BuiltRun> build_planned_run(runtime::MemoryBudget& budget, const LogState& log,
                                          uint32_t segment, PlannedRun planned, bool bypass);
// In one step, where the run is small enough for one: nothing of a longer one is laid out.
std::optional<BuiltRun> build_small_run(runtime::MemoryBudget& budget, const LogState& log,
                                        uint32_t segment, const PlannedRun& planned, bool bypass);

}  // namespace weir::storage
