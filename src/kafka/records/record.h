// The records inside a batch, for code that reads them: consumers, coordinators that replay their
// log, search by time, compaction. Views into the batch's (unpacked) bytes, so the batch outlives
// them. A broker's produce path does not use this: see validate.h.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/records/batch.h"

namespace weir::kafka {

// Null and empty are different things in Kafka: a null value is a tombstone.
using NullableBytes = std::optional<Bytes>;

struct RecordHeader {
    Bytes key;
    NullableBytes value;
};

// The headers of one record, decoded as they are asked for:
//   RecordHeaders headers = record.headers;
//   while (const auto header = headers.next()) …
class RecordHeaders {
  public:
    RecordHeaders() = default;

    int32_t count() const { return count_; }  // of those that next() has not given out
    std::optional<RecordHeader> next();

  private:
    friend class RecordIterator;
    RecordHeaders(Bytes rest, int32_t count) : rest_(rest), count_(count) {}

    Bytes rest_;  // was checked by RecordIterator
    int32_t count_ = 0;
};

struct Record {
    int64_t offset = 0;
    WallTime timestamp = kNoTimestamp;
    NullableBytes key;
    NullableBytes value;
    RecordHeaders headers;
};

// Record after record of a batch's plain records. After the last next(), ok() says whether the
// batch held what its header promised; a malformed record ends it. Offsets ascend but need not be
// dense: compaction leaves gaps.
class RecordIterator {
  public:
    RecordIterator(const BatchHeader& header, Bytes plain_records);

    std::optional<Record> next();
    bool ok() const { return ok_; }

  private:
    std::optional<Record> fail_here();

    BatchHeader header_;
    Bytes rest_;
    int32_t left_;
    int32_t offset_delta_last_ = -1;
    bool ok_ = true;
};

// A batch ready to be read: owns the unpacked records where the batch was compressed, else refers
// to the batch.
class OpenBatch {
  public:
    // Checks that `batch` is one whole batch, and its CRC. kMalformed, kCorrupt, kUnsupported (an
    // unknown codec or magic), or kResourceExhausted when the records unpack to more than
    // `records_bytes_max`.
    static Result<OpenBatch> open(Bytes batch, size_t records_bytes_max);

    const BatchHeader& header() const { return header_; }
    Bytes plain_records() const { return records_; }
    RecordIterator records() const { return {header_, records_}; }

    OpenBatch(OpenBatch&&) noexcept = default;
    OpenBatch& operator=(OpenBatch&&) noexcept = default;
    OpenBatch(const OpenBatch&) = delete;  // records_ may refer to unpacked_
    OpenBatch& operator=(const OpenBatch&) = delete;

  private:
    OpenBatch() = default;

    BatchHeader header_;
    std::vector<uint8_t> unpacked_;
    Bytes records_;
};

struct OffsetAndTimestamp {
    int64_t offset;
    WallTime timestamp;
    bool operator==(const OffsetAndTimestamp&) const = default;
};

// ListOffsets by time: the first record whose timestamp is `from` or later. Looks into a batch only
// if max_timestamp says it can be there.
Result<std::optional<OffsetAndTimestamp>> find_by_timestamp(Bytes batch, WallTime from,
                                                            size_t records_bytes_max);
// ListOffsets -3: the first of the records with the largest timestamp; nullopt when the batch has
// no record.
Result<std::optional<OffsetAndTimestamp>> find_max_timestamp(Bytes batch, size_t records_bytes_max);

// The record of a control batch that ends a transaction (KIP-98: key = version, type; value =
// version, coordinator epoch).
struct EndTransactionMarker {
    bool committed;
    int32_t coordinator_epoch;
};
Result<EndTransactionMarker> parse_end_transaction_marker(const Record& record);

}  // namespace weir::kafka
