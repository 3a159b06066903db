// Recovery of one shard's directory: the last checkpoint, then the journal's tail. Reads no data
// but the runs that the very last commit wrote beside the journal. Changes nothing on disk but a
// last block whose runs are torn, so that it can be broken off and begun again at any point.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "runtime/task.h"
#include "storage/journal_writer.h"
#include "storage/replay.h"
#include "storage/store.h"

namespace weir::storage {

struct RecoveredShard {
    CheckpointHeader header;
    std::map<LogId, ReplayedLog> logs;
    JournalWriter::Start journal;
    uint64_t blocks = 0;
};

struct RecoveryOptions {
    std::string data;       // the node's data directory
    std::string directory;  // the shard's
    Layout layout;
    uint32_t shard = 0;
    StorageBugs bugs;
};
// kCorrupt, with the place, for a journal that is not whole or that the checkpoint contradicts.
runtime::Task<Result<RecoveredShard>> recover_shard(RecoveryOptions options);

// The newest block whose effects a checkpoint has. It was flushed before the checkpoint was
// written.
uint64_t applied_block(const std::map<LogId, LogSnapshot>& logs);
// What is wrong with a journal that ends before that block: it lost blocks, and their numbers,
// given out again, would be taken for older than the checkpoint.
std::optional<std::string> journal_gap(uint64_t applied, uint64_t next_block, uint32_t shard);

}  // namespace weir::storage
