// The record batch, version 2: the unit that producers send, the log stores and consumers get, byte
// for byte. Here are its header, the four header fields that a broker writes in place, and the way
// through several batches in one run of bytes. Plain functions over bytes; nothing here allocates.
// Format: docs/formats/record-batch.md (Kafka's KIP-98).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/records/compression.h"

namespace weir::kafka {

inline constexpr size_t kBatchHeaderSize = 61;
inline constexpr size_t kBatchPrefixSize =
    12;  // base offset and length: what the length does not count
inline constexpr size_t kBatchCrcBegin = 21;  // the CRC covers from the attributes to the end
inline constexpr int8_t kBatchMagic = 2;
inline constexpr WallTime kNoTimestamp{-1};
inline constexpr int64_t kNoProducerId = -1;

enum class TimestampType : uint8_t { kCreateTime = 0, kLogAppendTime = 1 };

inline constexpr uint16_t kAttributeCompressionMask = 0x07;
inline constexpr uint16_t kAttributeLogAppendTime = 0x08;
inline constexpr uint16_t kAttributeTransactional = 0x10;
inline constexpr uint16_t kAttributeControl = 0x20;
inline constexpr uint16_t kAttributeDeleteHorizon =
    0x40;  // KIP-534: base_timestamp is the time to drop tombstones at

struct BatchHeader {
    int64_t base_offset = 0;
    int32_t batch_length = 0;  // of what follows this field
    int32_t partition_leader_epoch = -1;
    int8_t magic = kBatchMagic;
    uint32_t crc = 0;
    uint16_t attributes = 0;
    int32_t last_offset_delta = 0;
    WallTime base_timestamp = kNoTimestamp;
    WallTime max_timestamp = kNoTimestamp;
    int64_t producer_id = kNoProducerId;
    int16_t producer_epoch = -1;
    int32_t base_sequence = -1;
    int32_t records_count = 0;

    size_t size() const { return kBatchPrefixSize + static_cast<size_t>(batch_length); }
    int64_t last_offset() const { return base_offset + last_offset_delta; }
    int64_t next_offset() const { return last_offset() + 1; }
    // Meaningful with a producer id. Sequence numbers wrap from INT32_MAX to 0.
    int32_t last_sequence() const {
        return static_cast<int32_t>(
            (static_cast<uint32_t>(base_sequence) + static_cast<uint32_t>(last_offset_delta)) &
            0x7fffffffu);
    }
    bool has_producer_id() const { return producer_id >= 0; }

    // Five to seven name no codec: is_compression_known() first, where the bytes are a client's.
    bool is_compression_known() const { return (attributes & kAttributeCompressionMask) <= 4; }
    Compression compression() const {
        return static_cast<Compression>(attributes & kAttributeCompressionMask);
    }
    TimestampType timestamp_type() const {
        return (attributes & kAttributeLogAppendTime) ? TimestampType::kLogAppendTime
                                                      : TimestampType::kCreateTime;
    }
    bool is_transactional() const { return attributes & kAttributeTransactional; }
    bool is_control() const { return attributes & kAttributeControl; }
    bool has_delete_horizon() const { return attributes & kAttributeDeleteHorizon; }
};

// Reads the 61 bytes; does not ask whether the batch's end is within `bytes`, and does not check
// the CRC. kMalformed: fewer than 61 bytes, a length that cannot be, or a negative count;
// kUnsupported: another magic (then legacy.h). Guarantees batch_length >= 49, last_offset_delta >=
// 0, records_count >= 0, and base_offset so that next_offset() fits.
Result<BatchHeader> parse_batch_header(Bytes bytes);
// The fields as they stand, unchecked; there are at least 61 bytes.
BatchHeader load_batch_header(Bytes bytes);

// The size that the batch or old message at the front of `bytes` says it has (any magic); nullopt
// when `bytes` are too few to tell, or it cannot be.
std::optional<size_t> peek_batch_size(Bytes bytes);
// The magic of the batch or old message at the front; nullopt when there are fewer than 17 bytes.
std::optional<int8_t> peek_magic(Bytes bytes);

// `batch` is one whole batch: header.size() == batch.size().
bool batch_crc_matches(Bytes batch, const BatchHeader& header);

// Writes a header's 61 bytes as they are given, CRC included.
void write_batch_header(MutableBytes to, const BatchHeader& header);

// What the broker writes into a batch that it has validated. The first two lie outside of the CRC.
void set_base_offset(MutableBytes batch, int64_t base_offset);
void set_partition_leader_epoch(MutableBytes batch, int32_t epoch);
// The batch's largest timestamp and who set it: under kLogAppendTime every record has this time.
// The CRC follows, at a cost that does not grow with the batch; a batch whose CRC was wrong stays
// wrong.
void set_max_timestamp(MutableBytes batch, TimestampType type, WallTime max_timestamp);
// Computes the CRC of the batch as it lies there.
void seal_batch(MutableBytes batch);

// One batch within a longer run of bytes.
struct BatchView {
    BatchHeader header;
    Bytes bytes;

    Bytes records() const { return bytes.subspan(kBatchHeaderSize); }  // packed, if the batch is
};

// Batch after batch through a run of bytes (a fetch answer, a segment). Stops at the end, at a
// batch whose end is missing (brokers cut a fetch answer anywhere), or at bytes that are no batch;
// rest() is what was not read.
//   BatchIterator batches(records);
//   while (const auto batch = batches.next()) …
//   if (batches.is_malformed()) …
class BatchIterator {
  public:
    explicit BatchIterator(Bytes bytes) : rest_(bytes) {}

    std::optional<BatchView> next();
    bool is_malformed() const { return malformed_; }
    Bytes rest() const { return rest_; }

  private:
    Bytes rest_;
    bool malformed_ = false;
};

}  // namespace weir::kafka
