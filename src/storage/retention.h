// Retention: at intervals, removes each log's segments that are too old or too many, and rolls
// segments that are old enough. Owned by the ShardStore, used on its shard.
//
// As in Kafka (UnifiedLog.deletableSegments), the active segment and the entries in memory and
// journal go too if everything before them went, all of them are committed and durable, and their
// newest record is older than retention.ms or retention.bytes is 0. The segment is rolled first.
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
