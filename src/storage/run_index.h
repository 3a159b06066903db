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

}  // namespace weir::storage
