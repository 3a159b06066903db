// A log's segments as other folders see them: what lies in which file, and a closed file that stays
// readable while it is copied (an upload, a compaction), even if retention removes it meanwhile.
#pragma once

#include <cstdint>
#include <utility>

#include "base/bytes.h"
#include "base/result.h"
#include "runtime/file.h"
#include "runtime/task.h"
#include "storage/entry.h"

namespace weir::storage {

// Entries [base, end). The format of the file: docs/formats/segment.md.
struct SegmentInfo {
    uint32_t id = 0;  // of its log; never given to another segment
    Position base;
    Position end;
    int64_t max_timestamp_ms = -1;  // -1: no entry has one
    uint64_t bytes = 0;             // of the file, so far
    // The segment gets no more entries. Its file no longer changes below `bytes` unless the log's
    // suffix is cut: use segments that end at or below the committed position.
    bool closed = false;
};

// A descriptor of the file, separate from the store's: it delays no removal, and the disk frees the
// bytes when it is closed. The caller bounds its pins. Used on the log's shard; may outlive the
// log.
class SegmentPin {
  public:
    SegmentPin(SegmentInfo info, runtime::File file) : info_(info), file_(std::move(file)) {}

    const SegmentInfo& info() const { return info_; }  // as it was when it was pinned
    // Fills `into` from `offset`; returns how much there was. Alignment as for O_DIRECT
    // (runtime::kDirectAlign). The bytes are not verified: each run has its checksums.
    runtime::Task<Result<size_t>> read(uint64_t offset, MutableBytes into) {
        return file_.read(offset, into);
    }
    // Call it once, before destruction.
    runtime::Task<Result<void>> close() { return file_.close(); }

  private:
    SegmentInfo info_;
    runtime::File file_;
};

}  // namespace weir::storage
