// Replay: a checkpoint and the blocks of a journal after it become the states of the logs. Pure: no
// I/O, so that it is tested and fuzzed alone. Used by recovery on one shard.
#pragma once

#include <map>
#include <vector>

#include "base/result.h"
#include "storage/checkpoint_format.h"
#include "storage/journal_format.h"
#include "storage/log.h"

namespace weir::storage {

struct ReplayedLog {
    LogSnapshot snapshot;
    bool caught_up = false;   // the journal has come to what the checkpoint holds
    Position checkpoint_end;  // snapshot.log.end as the checkpoint says it
    bool bypassed =
        false;  // its last entries bypassed the journal; the note of their run is still to come
    Position entries_from;  // `entries` are all from here on
    std::vector<RecoveredState::Replayed> entries;
};

class Replay {
  public:
    explicit Replay(std::map<LogId, LogSnapshot> logs);

    // Blocks in order. kCorrupt when records contradict the state.
    Result<void> apply(const BlockHeader& header, Bytes block);
    // After the last block.
    Result<void> finish();

    std::map<LogId, ReplayedLog>& logs() { return logs_; }
    // A run that was written together with a block, and the offset that names its segment's file.
    struct BypassedRun {
        LogId log;
        RunNote note;
        int64_t segment_base = 0;
    };
    // The bypassed runs of the block that apply() would get next, except those of removed logs.
    Result<std::vector<BypassedRun>> bypassed_runs(Bytes block) const;

  private:
    Result<void> apply_record(uint64_t block, const Record& record);
    Result<void> apply_before_checkpoint(ReplayedLog& log, uint64_t block, const Record& record);
    Result<void> apply_after_checkpoint(ReplayedLog& log, uint64_t block, const Record& record);
    Result<void> catch_up(ReplayedLog& log);

    std::map<LogId, ReplayedLog> logs_;
};

}  // namespace weir::storage
