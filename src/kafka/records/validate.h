// What a broker checks of a batch before it appends it: structure, CRC, and every record, unpacked
// if need be. The verdict says which error to send, which records were wrong, and what else the
// append needs to know, so that nothing reads the batch twice.
//
// An uncompressed batch costs one CRC pass and one pass over the records' fields, without an
// allocation. A compressed batch is unpacked in chunks that are dropped at once, so memory does not
// depend on its unpacked size. Belongs to one request; plain code, no shard needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "base/units.h"
#include "kafka/records/batch.h"
#include "kafka/records/batch_crc.h"
#include "kafka/records/compression.h"
#include "kafka/records/record_scanner.h"

namespace weir::kafka {

struct BatchLimits {
    size_t batch_bytes_max = 1_MiB + kBatchPrefixSize;  // max.message.bytes
    size_t records_bytes_max = 128_MiB;                 // of what a compressed batch unpacks to
    bool key_required = false;                          // the topic is compacted
    bool zstd_allowed = true;                           // Produce 7 and later
    bool transactional_allowed = true;                  // the request names a transactional id
    // False for a broker's own batches, which may have control records, a base offset other than 0,
    // and a log append time.
    bool from_client = true;
    // The valid range of a record's timestamp, inclusive; -1 (none) is always valid. Unlimited if
    // the topic's type is LogAppendTime.
    WallTime timestamp_first{std::numeric_limits<int64_t>::min()};
    WallTime timestamp_last{std::numeric_limits<int64_t>::max()};
};

// Each fault is named after its Kafka error.
enum class BatchFault : uint8_t {
    kNone,
    kCorruptMessage,
    kInvalidRecord,
    kInvalidTimestamp,
    kUnsupportedCompressionType,
    kMessageTooLarge,
};

struct BatchVerdict {
    BatchFault fault = BatchFault::kNone;
    std::string_view reason;  // a sentence for the error message; empty when valid
    // The faulty records, if single records are at fault (`record_errors` of Produce 8); at most
    // kRecordFaultsMax.
    std::vector<RecordFault> record_faults;

    BatchHeader header;  // as parsed; meaningful unless the fault is one of the header
    size_t plain_records_size = 0;
    // The largest timestamp of the records themselves: if header.max_timestamp differs, write this
    // one with set_max_timestamp().
    WallTime max_timestamp = kNoTimestamp;
    int32_t max_timestamp_delta = 0;  // the first record that has it, relative to the base offset

    bool ok() const { return fault == BatchFault::kNone; }
    int64_t offset_of_max_timestamp(int64_t base_offset) const {
        return base_offset + max_timestamp_delta;
    }
};

// Validates one batch in steps of bounded length, so that its user can let others run in between:
//   BatchValidation validation(batch, limits);
//   while (validation.step()) co_await yield();
//   … validation.verdict() …
class BatchValidation {
  public:
    // `batch` is the whole records field of one partition in a produce request, and outlives this.
    // `reuse` saves a compressed batch the set-up of its codec.
    BatchValidation(Bytes batch, const BatchLimits& limits, Decompressor* reuse = nullptr);

    BatchValidation(const BatchValidation&) = delete;
    BatchValidation& operator=(const BatchValidation&) = delete;

    // Does the next piece of work, whichever comes first: 256 KiB of an uncompressed batch or of
    // any batch's checksum, 64 KiB of unpacked records, or 8 KiB of packed ones. Returns whether
    // more is left.
    bool step();
    // After the last step.
    BatchVerdict& verdict() { return verdict_; }

  private:
    bool check_shape();
    bool check_header();
    bool step_plain();
    bool finish(BatchFault fault, std::string_view reason);
    bool finish_unpacking(const Error& error);
    bool finish_scan();

    Bytes batch_;
    BatchLimits limits_;
    Decompressor* decompressor_;
    std::optional<Decompressor> own_decompressor_;
    RecordScanner scanner_;
    std::optional<BatchCrc> crc_;
    Bytes plain_;  // of an uncompressed batch: what was not scanned yet
    bool started_ = false;
    bool scanning_ = false;
    BatchVerdict verdict_;
};

// All steps at once.
BatchVerdict validate_batch(Bytes batch, const BatchLimits& limits, Decompressor* reuse = nullptr);

std::string_view to_string(BatchFault fault);

}  // namespace weir::kafka
