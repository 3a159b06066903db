// Recovery of one shard's directory: the last checkpoint, then the journal's tail. Reads no data
// but the runs that the very last commit wrote beside the journal. Changes nothing on disk but a
// last block whose runs are torn, so that it can be broken off and begun again at any point.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "runtime/task.h"
#include "storage/journal_reader.h"
#include "storage/journal_writer.h"
#include "storage/replay.h"
#include "storage/store.h"

namespace weir::storage {

struct RecoveredShard {
    CheckpointHeader header;
    std::map<LogId, ReplayedLog> logs;
    JournalWriter::Start journal;
    uint64_t blocks = 0;
    // Where the last commit is not whole, and no mark says that it was flushed: a crash leaves such
    // a one, which was never acknowledged, and so does damage of the last block, which was. Empty:
    // nowhere.
    std::string torn;
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
// What is wrong with a journal that ends before that block, or before one that the marks of its
// files say was flushed: it lost blocks, and their numbers, given out again, would be taken for
// older than the checkpoint.
std::optional<std::string> journal_gap(uint64_t applied, uint64_t flushed, uint64_t next_block,
                                       uint32_t shard);
// The options for reading the journal that goes with a checkpoint.
JournalReader::Options reader_options(const RecoveryOptions& options,
                                      const CheckpointHeader& header);
// What says that this is no checkpoint of the data directory's shard; empty: it is one.
std::string foreign(const RecoveryOptions& options, const CheckpointHeader& header);

}  // namespace weir::storage
