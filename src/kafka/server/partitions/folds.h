// Folds of a partition's log: states that follow from its batch headers alone and live beside the
// log: what is known of producers; later open transactions, what share groups delivered. Each is
// saved with the log's checkpoints and snapshots, brought up to date by the headers of the batches
// after it, and can take back the batches that are not committed. Pure; owned by the Partition, on
// its shard. Format of the saved bytes: docs/formats/producer-state.md.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "storage/log.h"

namespace weir::kafka {

struct BatchHeader;

class LogFold {
  public:
    // Names the fold in saved bytes, for ever.
    enum class Kind : uint8_t { kProducers = 1 };

    virtual ~LogFold() = default;
    virtual Kind kind() const = 0;
    // The state becomes what snapshot() once gave (empty: nothing yet), less what it tells of
    // batches at and after `end_offset`. The bytes come from a disk or another node. On an error
    // the state is not defined.
    virtual Result<void> restore(Bytes snapshot, int64_t end_offset) = 0;
    // This batch was appended; its header has its offset. `now` is the time of the append, or of
    // the replay. Until commit() has come so far it can be taken back.
    virtual void append(const BatchHeader& batch, WallTime now) = 0;
    // Batches below this offset stay.
    virtual void commit(int64_t offset) = 0;
    // Batches at and after this offset are gone: the state is what it was before the first of them.
    // Below floor() (a relaxed log lost what was committed) it tells of none of them.
    virtual void truncate(int64_t end_offset) = 0;
    // Down to here batches can be taken back.
    virtual int64_t floor() const = 0;
    // The state as bytes; none at all if there is nothing to tell.
    virtual std::vector<uint8_t> snapshot() const = 0;
};

// The folds of one log, in the order in which they were added.
class LogFolds {
  public:
    // Before anything else; each kind once. `fold` outlives it.
    void add(LogFold& fold);

    Result<void> restore(Bytes snapshot, int64_t end_offset);
    void append(const BatchHeader& batch, WallTime now) {
        for (LogFold* fold : folds_) fold->append(batch, now);
    }
    void commit(int64_t offset) {
        for (LogFold* fold : folds_) fold->commit(offset);
    }
    void truncate(int64_t end_offset) {
        for (LogFold* fold : folds_) fold->truncate(end_offset);
    }
    // One snapshot of all. Where producers alone have something to tell it is theirs, as versions
    // before there were several folds read and wrote it.
    storage::CapturedState capture() const;

  private:
    std::vector<LogFold*> folds_;
};

}  // namespace weir::kafka
