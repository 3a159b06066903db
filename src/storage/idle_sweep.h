// IdleSweep: what a log keeps for its next append or read goes back when there is none for a while:
// entries in memory move to the segment, indexes that are loaded again easily are dropped, queues
// shrink. Every retention_check_ms it looks at each log, and acts on those where nothing happened
// since the look before. One hand-over at a time, so that it disturbs nobody: thousands of
// partitions that fall idle together take a minute. Owned by the ShardStore, used on its shard.
#pragma once

#include "base/units.h"
#include "runtime/task.h"

namespace weir::storage {

class PartitionLog;
class ShardStore;

// An idle log keeps entries in memory that cost less: each hand-over is a run of whole pages in the
// segment and a flush, which a partition with a little record now and then must not pay for each.
inline constexpr uint64_t kIdleMemoryBytes = 3_KiB;
// When a look at all logs let go of so much it goes back to the kernel too.
inline constexpr uint64_t kIdleGiveBackMin = 8_MiB;
// The index of a segment without a footer is found again by one small read for each run.
inline constexpr size_t kIdleIndexRuns = 64;

class IdleSweep {
  public:
    explicit IdleSweep(ShardStore& store) : store_(store) {}
    // Until the store stops.
    runtime::Task<void> run();

  private:
    runtime::Task<void> pass();
    // Gives how many bytes of entries left the memory.
    runtime::Task<uint64_t> look_at(PartitionLog* log);

    ShardStore& store_;
};

}  // namespace weir::storage
