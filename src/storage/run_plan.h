// Lays entries in memory out as runs of a segment: for the hand-over and for the bypass. Pure but
// for the buffer's reservation.
#pragma once

#include <utility>
#include <vector>

#include "runtime/buffer.h"
#include "storage/log_state.h"

namespace weir::storage {

// The first entries of a log's memory, cut into runs.
struct RunPlan {
    std::vector<size_t> run_ends;  // indexes into the memory
    uint64_t length = 0;           // of all runs
};
// A run is closed when its payloads reach `run_bytes`: what a cold read loads and verifies at once.
RunPlan plan_runs(const EntryQueue& memory, size_t entries, uint64_t run_bytes);
// As many entries below `end` as fit `length_max`, one at least.
size_t entries_that_fit(const EntryQueue& memory, Position end, uint64_t length_max,
                        uint64_t run_bytes);

// Runs back to back, ready to be written to the segment at `position`.
struct WrittenRuns {
    uint64_t position = 0;
    runtime::IoBuffer buffer;
    std::vector<RunNote> notes;
    bool keep = false;  // the buffer is accounted, so it may stay as cache

    // Each run with its bytes; without them if they may not stay.
    std::vector<std::pair<RunNote, runtime::SharedBytes>> share() &&;
};
WrittenRuns write_runs(runtime::MemoryBudget& budget, const LogState& log, const RunPlan& plan,
                       const Segment& segment, bool bypass);

}  // namespace weir::storage
