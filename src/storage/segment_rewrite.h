// Replaces a closed segment by a new file (Log::rewrite). The new file is written and flushed under a
// number of its own, which nobody knows; one record of the journal puts it in the old one's place;
// then the old file goes. A crash before the record leaves a stray file, which the sweeper deletes.
// Lives for one call, used on the log's shard.
#pragma once

#include <vector>

#include "runtime/stop_token.h"
#include "storage/partition_log.h"
#include "storage/segment_files.h"

namespace weir::storage {

class ShardStore;

class SegmentRewrite {
  public:
    // The caller is inside the log's gate.
    SegmentRewrite(ShardStore& store, PartitionLog& log, uint32_t segment, SegmentRewriter rewriter,
                   runtime::StopToken stop)
        : store_(store),
          log_(log),
          segment_(segment),
          rewriter_(std::move(rewriter)),
          stop_(std::move(stop)) {}

    runtime::Task<Result<void>> run();

  private:
    // The new file, whole and flushed.
    runtime::Task<Result<void>> write_file(Position from);
    runtime::Task<Result<void>> write_entries(Position from);
    runtime::Task<Result<void>> add(FoundEntry entry);
    // Writes the entries that were added since the last run as one.
    runtime::Task<Result<void>> end_run();
    runtime::Task<void> delete_file();
    // Puts the new file in the old one's place, in memory; gives the number of the record that is to
    // become durable.
    uint64_t replace();
    // The segment is still there, and ends where it did.
    Result<void> unchanged() const;

    ShardStore& store_;
    PartitionLog& log_;
    const uint32_t segment_;
    SegmentRewriter rewriter_;
    runtime::StopToken stop_;
    SegmentReplaced replaced_;
    SegmentFiles::Pin file_;
    std::vector<RunPlace> index_;
    std::vector<FoundEntry> added_;  // of the next run
    uint64_t added_bytes_ = 0;
    size_t copied_ = 0;  // the first of them: in memory of their own, which no budget counts
};

}  // namespace weir::storage
