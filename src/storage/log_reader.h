// Reads of one log: from its memory, from the cache, from its segments. Lives for one read.
#pragma once

#include "base/units.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "storage/partition_log.h"

namespace weir::storage {

class ShardStore;

// Small runs are read from a segment together, up to this size.
inline constexpr uint64_t kReadBytes = 1_MiB;

// The runs from `first` on that one read of at most `bytes_max` covers: at least the first, and
// those that follow without a gap.
std::vector<RunPlace> runs_in_one_read(const std::vector<RunPlace>& index,
                                       std::vector<RunPlace>::const_iterator first,
                                       uint64_t bytes_max);

class LogReader {
  public:
    LogReader(ShardStore& store, PartitionLog& log) : store_(store), log_(log) {}

    runtime::Task<Result<ReadResult>> read(int64_t offset, ReadLimits limits,
                                           runtime::StopToken stop);
    runtime::Task<Result<std::vector<FoundEntry>>> read_entries(Position from,
                                                                ReadEntriesLimits limits,
                                                                runtime::StopToken stop);
    runtime::Task<Result<std::optional<FoundEntry>>> find_timestamp(int64_t timestamp_ms,
                                                                    int64_t end_offset);
    runtime::Task<Result<std::optional<FoundEntry>>> find_max_timestamp(int64_t end_offset);
    // Appends what recovery passes on about all entries from `from` on.
    runtime::Task<Result<void>> replay_from(Position from,
                                            std::vector<RecoveredState::Replayed>* into);

    // A run in memory, verified.
    struct Run {
        RunPlace place;
        runtime::SharedBytes bytes;
    };
    // Whether damage is counted and logged, or left to the reader that needs the run.
    enum class Errors : uint8_t { kTold, kLeft };
    // Reads runs that lie back to back into the cache, at once; returns the first. No bytes if it
    // vanished meanwhile. `reservation` is for their bytes.
    runtime::Task<Result<Run>> load(uint32_t segment, std::vector<RunPlace> runs,
                                    runtime::Reservation reservation, Errors errors);

  private:
    runtime::Task<Result<std::optional<FoundEntry>>> search_max_timestamp(int64_t end_offset);
    // Reads the first run that ends beyond `past`, if it begins there or before; past <
    // flushed_end. No bytes if it vanished (truncation, retention) meanwhile. The runs behind it
    // are read with it, up to `bytes_wanted`. kResourceExhausted: there is no memory, and the read
    // must not wait.
    enum class Memory : uint8_t { kWait, kNow };
    runtime::Task<Result<Run>> run_beyond(Position past, uint64_t bytes_wanted, Memory memory,
                                          runtime::StopToken stop);
    // The run that holds the offset.
    runtime::Task<Result<Run>> run_at(int64_t offset, uint64_t bytes_wanted, Memory memory,
                                      runtime::StopToken stop) {
        return run_beyond({offset, UINT32_MAX}, bytes_wanted, memory, stop);
    }
    // Adds entries to the result; false when a limit was reached.
    bool gather_run(const Run& run, const ReadLimits& limits, int64_t* at, ReadResult* result);
    bool gather_memory(const ReadLimits& limits, int64_t* at, ReadResult* result);
    // The first data entry of a run, in [start_offset, end_offset), that `better` accepts.
    template <class Accept>
    std::optional<FoundEntry> search_run(const Run& run, int64_t end_offset, Accept accept);

    ShardStore& store_;
    PartitionLog& log_;
};

}  // namespace weir::storage
