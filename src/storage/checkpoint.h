// Writes checkpoints of a shard, so that recovery replays only the journal's tail and journal files
// come free. Owned by the ShardStore, used on its shard.
//
// A checkpoint is fuzzy: each log is captured at its own moment, while the store goes on, with the
// journal block whose effects it holds. Replay is idempotent a log, so that is enough. It counts
// once the journal is durable up to all that was captured, and then only by its rename.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/checkpoint_format.h"

namespace weir::storage {

class ShardStore;

class Checkpointer {
  public:
    explicit Checkpointer(ShardStore& store) : store_(store) {}

    static std::string path(const std::string& shard_directory) {
        return shard_directory + "/checkpoint";
    }
    // Reads and checks a checkpoint file.
    static runtime::Task<Result<Checkpoint>> load(std::string path);
    // Writes one durably in the place of another.
    static runtime::Task<Result<void>> replace(std::string shard_directory,
                                               std::vector<uint8_t> checkpoint);

    void start(uint64_t journal_id) { journal_id_ = journal_id; }
    uint64_t journal_id() const { return journal_id_; }
    bool due() const;
    // The journal waits for a file that only a checkpoint can free.
    bool short_of_space() const;
    // Logs with entries in memory from before this block are handed over first, so that the journal
    // can be freed.
    uint64_t old_block() const;
    // One at a time; a second call waits for the first. `wait`: for what is not durable yet, if
    // that gets on; not when the commit loop has ended.
    runtime::Task<Result<void>> run(bool wait);
    // Until one is written that was captured from now on; calls at one time share it.
    runtime::Task<Result<void>> run_shared();

  private:
    struct Barrier {
        LogId log;
        Position end;
        uint64_t records;
    };
    struct Captured {
        std::vector<uint8_t> bytes;  // of the checkpoint
        uint32_t logs = 0;
        uint64_t start_block = 0;
        std::vector<Barrier> barriers;  // what was captured and is not durable
    };
    runtime::Task<Result<void>> run_alone(bool wait);
    runtime::Task<void> capture(bool wait, Captured* captured);
    // The first block that a checkpoint taken now would still need.
    uint64_t needed_block() const;
    // False when it may be for ever.
    runtime::Task<bool> wait_for(std::vector<Barrier> barriers);

    ShardStore& store_;
    runtime::Semaphore running_{1};
    uint64_t begun_ = 0;         // how many were begun ...
    uint64_t last_written_ = 0;  // ... and which of them was the last to be written
    uint64_t journal_id_ = 0;
    uint64_t journal_bytes_at_last_ = 0;  // of the metrics
};

}  // namespace weir::storage
