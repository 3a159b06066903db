// The storage simulation: one seed is one node whose Stores are used, killed and started again, and
// held to LogModels all the while.
//
// A run is a sequence of lives. In each, the node opens its data directory on a drawn number of
// shards, every log that it recovered is compared with its model and read from start to end,
// clients on each shard append, read, search, truncate, vote, create and remove, and then the life
// ends: by a power cut, by a kill of the process, in good order, or by its own failure. In the last
// life all faults are healed and everything has to work again.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/log.h"
#include "base/time.h"
#include "runtime/sim/plan.h"
#include "storage/storage_bugs.h"

namespace weir::sim {

struct StorageRunOptions {
    uint64_t seed = 1;
    storage::StorageBugs bugs;
    // Draws corruption of synced data too: then entries may be lost, if that is reported, and never
    // changed.
    bool corruption = false;
    Logger::Sink log_sink = {};
    std::function<void(const std::string&)> trace_sink = {};
    std::function<void(const std::string&)> note_sink =
        {};  // the workload's own account: the plan, lives, kills
};

struct StorageRunResult {
    std::string failure;  // empty: none
    uint64_t trace_hash = 0;
    Duration virtual_time{};
    uint64_t steps = 0;
    // How much the run saw: a fault or path that no run ever meets is a bug of the simulator.
    struct Seen {
        uint64_t lives = 0;
        uint64_t power_cuts = 0;
        uint64_t kills_in_recovery = 0;
        uint64_t failed_opens = 0;
        uint64_t fatal_errors = 0;
        uint64_t disk_full = 0;
        uint64_t waits_for_room = 0;
        uint64_t appended = 0;
        uint64_t reads = 0;
        uint64_t reads_of_removed = 0;  // that ended after the removal of their log began
        uint64_t memory_short = 0;      // lives on a budget that runs short
        uint64_t swept = 0;             // stray files that a life deleted
        uint64_t suffix_truncations = 0;
        uint64_t prefix_truncations = 0;
        uint64_t retentions = 0;
        uint64_t rewrites = 0;
        uint64_t bypass_bytes = 0;
        uint64_t handed_over_bytes = 0;
        uint64_t checkpoints = 0;
        uint64_t corruptions_made = 0;
        uint64_t corruptions_told = 0;
        uint64_t files_damaged = 0;
        uint64_t mended = 0;  // journals that were gone on with

        void add(const Seen& other);
        std::string to_string() const;
    } seen;
};

StorageRunResult run_storage(const StorageRunOptions& options);

}  // namespace weir::sim
