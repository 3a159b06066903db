// Retention: now and then looks at each log and lets go of closed segments that are too old or too
// many; rolls segments that are old enough. Owned by the ShardStore, used on its shard.
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
    ShardStore& store_;
};

}  // namespace weir::storage
