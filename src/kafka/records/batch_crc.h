// The CRC of a batch in steps, because a batch may have 100 MB and a shard has others to serve.
#pragma once

#include <algorithm>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/units.h"
#include "kafka/records/batch.h"

namespace weir::kafka {

// The plain bytes of one step: some tens of microseconds.
inline constexpr size_t kStepBytes = 256_KiB;

class BatchCrc {
  public:
    // `batch` is one whole batch, and outlives this.
    explicit BatchCrc(Bytes batch) : rest_(batch.subspan(kBatchCrcBegin)) {}

    // Returns whether there is more to do.
    bool step() {
        const Bytes piece = rest_.first(std::min(rest_.size(), kStepBytes));
        crc_ = crc32c(piece, crc_);
        rest_ = rest_.subspan(piece.size());
        return !rest_.empty();
    }
    uint32_t value() const { return crc_; }

  private:
    Bytes rest_;
    uint32_t crc_ = 0;
};

}  // namespace weir::kafka
