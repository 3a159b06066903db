// IdleSweep: frees what a log keeps for its next append or read if there is none for a while:
// entries in memory move to the segment, indexes that are cheap to load again are dropped, queues
// shrink. Every retention_check_ms it visits each log, and acts on those where nothing happened
// since the last visit. It hands over one log at a time, so that it disturbs nobody: thousands of
// partitions that become idle together take a minute. Owned by the ShardStore, used on its shard.
#pragma once

#include "base/units.h"
#include "runtime/task.h"

namespace weir::storage {

class PartitionLog;
class ShardStore;

// An idle log keeps entries below this size in memory. Each hand-over costs a run of whole pages in
// the segment and a flush, too much for a partition that gets a small record now and then.
inline constexpr uint64_t kIdleMemoryBytes = 3_KiB;
// If a round frees this much, it also returns the memory to the kernel.
inline constexpr uint64_t kIdleGiveBackMin = 8_MiB;
// Without a footer, a segment's index is rebuilt by one small read for each run.
inline constexpr size_t kIdleIndexRuns = 64;

class IdleSweep {
  public:
    explicit IdleSweep(ShardStore& store) : store_(store) {}
    // Runs until the store stops.
    runtime::Task<void> run();

  private:
    runtime::Task<void> pass();
    // Returns how many bytes of entries left the memory.
    runtime::Task<uint64_t> look_at(PartitionLog* log);

    ShardStore& store_;
};

}  // namespace weir::storage
