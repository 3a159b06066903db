// Losses: which logs of a shard may lack acknowledged entries, because the shard's journal was
// damaged. A small file beside the journal, written before anything hides the damage and kept until
// each of these logs was recovered from its other replicas. Owned by the ShardStore, used on its
// shard; survives a crash as a whole. Bytes: docs/formats/losses.md.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/entry.h"

namespace weir::storage {

// Each log with whether an operator accepts the loss (Log::loss_accepted()).
using LossMap = std::map<LogId, bool>;

std::string losses_path(const std::string& shard_directory);
std::string encode_losses(const LossMap& logs);
Result<LossMap> parse_losses(const std::string& text);  // kCorrupt

class Losses {
  public:
    // Nothing if there is no such file. kCorrupt, kIo.
    static runtime::Task<Result<LossMap>> load(std::string shard_directory);
    // Replaces the file durably; removes it if no log is left.
    static runtime::Task<Result<void>> store(std::string shard_directory, LossMap logs);

    void start(std::string shard_directory, LossMap logs) {
        directory_ = std::move(shard_directory);
        logs_ = std::move(logs);
    }
    const LossMap& logs() const { return logs_; }
    // Durable before it returns; concurrent calls share a write.
    runtime::Task<Result<void>> remove(LogId log);

  private:
    std::string directory_;
    LossMap logs_;
    uint64_t asked_ = 0;    // removals so far ...
    uint64_t written_ = 0;  // ... and those that the file holds
    runtime::Semaphore writing_{1};
};

}  // namespace weir::storage
