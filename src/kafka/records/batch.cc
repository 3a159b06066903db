#include "kafka/records/batch.h"

#include <array>
#include <limits>

#include "base/check.h"
#include "base/crc32c.h"

namespace weir::kafka {
namespace {

constexpr size_t kBaseOffsetAt = 0;
constexpr size_t kLengthAt = 8;
constexpr size_t kLeaderEpochAt = 12;
constexpr size_t kMagicAt = 16;
constexpr size_t kCrcAt = 17;
constexpr size_t kAttributesAt = 21;
constexpr size_t kLastOffsetDeltaAt = 23;
constexpr size_t kBaseTimestampAt = 27;
constexpr size_t kMaxTimestampAt = 35;
constexpr size_t kProducerIdAt = 43;
constexpr size_t kProducerEpochAt = 51;
constexpr size_t kBaseSequenceAt = 53;
constexpr size_t kRecordsCountAt = 57;
static_assert(kAttributesAt == kBatchCrcBegin);
static_assert(kRecordsCountAt + sizeof(int32_t) == kBatchHeaderSize);

constexpr int32_t kBatchLengthMin = kBatchHeaderSize - kBatchPrefixSize;
// Of the old message formats: CRC, magic, attributes, two lengths.
constexpr int32_t kLegacyMessageLengthMin = 14;

}  // namespace

BatchHeader load_batch_header(Bytes bytes) {
    CHECK(bytes.size() >= kBatchHeaderSize);
    const uint8_t* at = bytes.data();
    BatchHeader header;
    header.base_offset = load_be<int64_t>(at + kBaseOffsetAt);
    header.batch_length = load_be<int32_t>(at + kLengthAt);
    header.partition_leader_epoch = load_be<int32_t>(at + kLeaderEpochAt);
    header.magic = static_cast<int8_t>(at[kMagicAt]);
    header.crc = load_be<uint32_t>(at + kCrcAt);
    header.attributes = load_be<uint16_t>(at + kAttributesAt);
    header.last_offset_delta = load_be<int32_t>(at + kLastOffsetDeltaAt);
    header.base_timestamp = {load_be<int64_t>(at + kBaseTimestampAt)};
    header.max_timestamp = {load_be<int64_t>(at + kMaxTimestampAt)};
    header.producer_id = load_be<int64_t>(at + kProducerIdAt);
    header.producer_epoch = load_be<int16_t>(at + kProducerEpochAt);
    header.base_sequence = load_be<int32_t>(at + kBaseSequenceAt);
    header.records_count = load_be<int32_t>(at + kRecordsCountAt);
    return header;
}

Result<BatchHeader> parse_batch_header(Bytes bytes) {
    if (bytes.size() < kBatchHeaderSize) return fail(ErrorCode::kMalformed);
    const BatchHeader header = load_batch_header(bytes);
    if (header.magic != kBatchMagic) return fail(ErrorCode::kUnsupported);
    if (header.batch_length < kBatchLengthMin) return fail(ErrorCode::kMalformed);
    if (header.last_offset_delta < 0 || header.records_count < 0)
        return fail(ErrorCode::kMalformed);
    if (header.base_offset < 0 ||
        header.base_offset >= std::numeric_limits<int64_t>::max() - header.last_offset_delta) {
        return fail(ErrorCode::kMalformed);
    }
    return header;
}

std::optional<size_t> peek_batch_size(Bytes bytes) {
    if (bytes.size() < kBatchPrefixSize) return std::nullopt;
    const int32_t length = load_be<int32_t>(bytes.data() + kLengthAt);
    if (length < kLegacyMessageLengthMin) return std::nullopt;
    return kBatchPrefixSize + static_cast<size_t>(length);
}

std::optional<int8_t> peek_magic(Bytes bytes) {
    if (bytes.size() <= kMagicAt) return std::nullopt;
    return static_cast<int8_t>(bytes[kMagicAt]);
}

bool batch_crc_matches(Bytes batch, const BatchHeader& header) {
    CHECK(batch.size() == header.size());
    return crc32c(batch.subspan(kBatchCrcBegin)) == header.crc;
}

void write_batch_header(MutableBytes to, const BatchHeader& header) {
    CHECK(to.size() >= kBatchHeaderSize);
    uint8_t* at = to.data();
    store_be(at + kBaseOffsetAt, header.base_offset);
    store_be(at + kLengthAt, header.batch_length);
    store_be(at + kLeaderEpochAt, header.partition_leader_epoch);
    store_be(at + kMagicAt, header.magic);
    store_be(at + kCrcAt, header.crc);
    store_be(at + kAttributesAt, header.attributes);
    store_be(at + kLastOffsetDeltaAt, header.last_offset_delta);
    store_be(at + kBaseTimestampAt, header.base_timestamp.ms);
    store_be(at + kMaxTimestampAt, header.max_timestamp.ms);
    store_be(at + kProducerIdAt, header.producer_id);
    store_be(at + kProducerEpochAt, header.producer_epoch);
    store_be(at + kBaseSequenceAt, header.base_sequence);
    store_be(at + kRecordsCountAt, header.records_count);
}

void set_base_offset(MutableBytes batch, int64_t base_offset) {
    CHECK(batch.size() >= kBatchHeaderSize);
    CHECK(base_offset >= 0);
    store_be(batch.data() + kBaseOffsetAt, base_offset);
}

void set_partition_leader_epoch(MutableBytes batch, int32_t epoch) {
    CHECK(batch.size() >= kBatchHeaderSize);
    store_be(batch.data() + kLeaderEpochAt, epoch);
}

void set_max_timestamp(MutableBytes batch, TimestampType type, WallTime max_timestamp) {
    CHECK(batch.size() >= kBatchHeaderSize);
    uint8_t* at = batch.data();
    // CRCs are linear: the CRC of head and tail is the head's, moved on by the tail's length, xor
    // the tail's. So exchanging the old head's share for the new one's needs neither the tail nor
    // trust in the sum that stands there.
    const Bytes head = batch.subspan(kBatchCrcBegin, kBatchHeaderSize - kBatchCrcBegin);
    const uint64_t tail_size = batch.size() - kBatchHeaderSize;
    const uint32_t old_head = crc32c(head);
    uint16_t attributes = load_be<uint16_t>(at + kAttributesAt);
    attributes &= static_cast<uint16_t>(~kAttributeLogAppendTime);
    if (type == TimestampType::kLogAppendTime) attributes |= kAttributeLogAppendTime;
    store_be(at + kAttributesAt, attributes);
    store_be(at + kMaxTimestampAt, max_timestamp.ms);
    const uint32_t change = crc32c_combine(crc32c(head) ^ old_head, 0, tail_size);
    store_be(at + kCrcAt, load_be<uint32_t>(at + kCrcAt) ^ change);
}

void seal_batch(MutableBytes batch) {
    CHECK(batch.size() >= kBatchHeaderSize);
    store_be(batch.data() + kCrcAt, crc32c(batch.subspan(kBatchCrcBegin)));
}

std::optional<BatchView> BatchIterator::next() {
    if (malformed_ || rest_.size() < kBatchHeaderSize) return std::nullopt;
    const Result<BatchHeader> header = parse_batch_header(rest_);
    if (!header) {
        malformed_ = true;
        return std::nullopt;
    }
    if (header->size() > rest_.size()) return std::nullopt;
    const BatchView batch{*header, rest_.first(header->size())};
    rest_ = rest_.subspan(header->size());
    return batch;
}

}  // namespace weir::kafka
