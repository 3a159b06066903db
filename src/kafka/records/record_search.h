// RecordSearch: finds one record of a stored batch by its time. Each step handles a chunk of the
// plain records, which are never held together. Has one user.
//   RecordSearch search(batch, wanted, records_bytes_max);
//   while (search.step()) co_await yield();
//   … search.result() …
#pragma once

#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/records/batch_crc.h"
#include "kafka/records/compression.h"
#include "kafka/records/record.h"
#include "kafka/records/record_scanner.h"

namespace weir::kafka {

class RecordSearch {
  public:
    struct Wanted {
        // The first record whose timestamp is this or later; nothing: the first of those with the
        // largest timestamp.
        std::optional<WallTime> from;
        int64_t offset_min = 0;  // for the former: records before it do not count
    };

    // `batch` is one whole batch, and outlives this.
    RecordSearch(Bytes batch, const Wanted& wanted, size_t records_bytes_max);
    // Whether there is more to do.
    bool step();
    // Nothing if no record matches. Errors as OpenBatch::open().
    const Result<std::optional<OffsetAndTimestamp>>& result() const { return result_; }

  private:
    Result<bool> try_step();
    bool finish();

    Bytes batch_;
    Wanted wanted_;
    size_t records_bytes_max_;
    BatchHeader header_;
    std::optional<BatchCrc> crc_;
    bool scanning_ = false;
    RecordScanner scanner_;
    Decompressor decompressor_;
    Bytes plain_;  // of an uncompressed batch: what was not looked at yet
    Result<std::optional<OffsetAndTimestamp>> result_;
};

}  // namespace weir::kafka
