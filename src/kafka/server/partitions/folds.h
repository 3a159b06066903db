// Folds of a partition's log: states that follow from its batch headers alone and are kept beside
// the log: the producers; later, open transactions and what share groups delivered. Each fold is
// saved with the log's checkpoints and snapshots, caught up with the headers of the batches after
// it, and can revert batches that are not committed. Pure; owned by the Partition, on its shard.
// Format of the saved bytes: docs/formats/producer-state.md.
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
    // Sets the state to what snapshot() returned (empty: nothing yet), without its effects of
    // batches at and after `end_offset`. The bytes come from a disk or another node. After an error
    // the state is undefined.
    virtual Result<void> restore(Bytes snapshot, int64_t end_offset) = 0;
    // This batch was appended; its header has its offset. `now` is the time of the append or of the
    // replay. The batch can be reverted until commit() has passed it.
    virtual void append(const BatchHeader& batch, WallTime now) = 0;
    // Batches below this offset stay.
    virtual void commit(int64_t offset) = 0;
    // Batches at and after this offset are gone: the state becomes what it was before the first of
    // them. Below floor() (a relaxed log lost what was committed) it forgets them.
    virtual void truncate(int64_t end_offset) = 0;
    // Batches at and after this offset can be reverted.
    virtual int64_t floor() const = 0;
    // The state as bytes; empty if there is nothing to save.
    virtual std::vector<uint8_t> snapshot() const = 0;
};

// The folds of one log, in the order in which they were added.
class LogFolds {
  public:
    // Call it before anything else, once for each kind. `fold` outlives this object.
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
    // One snapshot of all folds. If only the producers have something to save, it is theirs: that
    // is the form that versions with a single fold read and wrote.
    storage::CapturedState capture() const;

  private:
    std::vector<LogFold*> folds_;
};

}  // namespace weir::kafka
