// Retention: at intervals, removes from each log the segments that are too old or too many, and
// rolls segments that are old enough. Owned by the ShardStore, used on its shard.
//
// The active segment and what waits in memory and journal for its hand-over go too, as in Kafka
// (UnifiedLog.deletableSegments): when all that is before them went, all of them is committed and
// durable, and their newest record is older than retention.ms, or retention.bytes is 0. The segment
// is rolled before.
#pragma once

#include "runtime/task.h"

namespace weir::storage {

class PartitionLog;
class ShardStore;

class Retention {
  public:
    explicit Retention(ShardStore& store) : store_(store) {}
    runtime::Task<void> run();

  private:
    runtime::Task<void> pass();
    runtime::Task<void> look_at(PartitionLog* log);
    int64_t new_start(const PartitionLog& log, int64_t now_ms) const;
    bool is_tail_surplus(const PartitionLog& log, int64_t now_ms) const;
    ShardStore& store_;
};

}  // namespace weir::storage
