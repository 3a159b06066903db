// The index of a segment: where its runs are. Kept in memory for segments in use; loaded from the
// footer, or by reading the runs' headers one after the other.
#pragma once

#include "base/result.h"
#include "runtime/task.h"
#include "storage/partition_log.h"

namespace weir::storage {

class ShardStore;

// Afterwards the segment, if it still exists, has its index.
runtime::Task<Result<void>> load_index(ShardStore* store, PartitionLog* log, uint32_t segment);

// Writes a footer behind a segment's last run, cuts the file there, and flushes it.
runtime::Task<Result<void>> append_footer(runtime::File* file, uint64_t position,
                                          const std::vector<uint8_t>* footer);

}  // namespace weir::storage
