// Sweeper: once after each start, deletes what a crash left under logs/: the directories of removed
// logs, and segment files that their log does not know (their deletion, or the record of their
// creation, was interrupted). Runs in the background, since it lists the directory of each log.
// Owned by the ShardStore, used on its shard.
#pragma once

#include <string>
#include <vector>

#include "runtime/task.h"
#include "storage/entry.h"

namespace weir::storage {

class PartitionLog;
class ShardStore;

class Sweeper {
  public:
    explicit Sweeper(ShardStore& store) : store_(store) {}
    // Returns when nothing is left, or when the store stops.
    runtime::Task<void> run();
    // All that the last crash left is gone.
    bool done() const { return done_; }

  private:
    // False: the log is busy, so the sweeper must visit it again.
    runtime::Task<bool> sweep_log(LogId id);
    runtime::Task<void> remove_directory(LogId id);
    std::vector<LogId> logs_in(const std::vector<std::string>& names) const;

    ShardStore& store_;
    bool done_ = false;
};

}  // namespace weir::storage
