#include "kafka/records/builder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/check.h"

namespace weir::kafka {
namespace {

constexpr size_t kBatchSizeMax = std::numeric_limits<int32_t>::max();
// A record's length, attributes, deltas, two lengths and the count of headers, each varint at its
// longest.
constexpr size_t kRecordOverheadMax = 5 + 1 + 10 + 5 + 5 + 5 + 5;
constexpr size_t kHeaderOverheadMax = 5 + 5;
// Of plain records: about a millisecond of the slowest gzip.
constexpr size_t kRecompressedPiece = size_t{16} << 10;

uint64_t zigzag(int64_t number) {
    return (static_cast<uint64_t>(number) << 1) ^ static_cast<uint64_t>(number >> 63);
}
size_t varint_size(int64_t number) {
    return (static_cast<size_t>(std::bit_width(zigzag(number) | 1)) + 6) / 7;
}
int64_t length_of(const NullableBytes& bytes) {
    return bytes ? static_cast<int64_t>(bytes->size()) : -1;
}
size_t size_of(const NullableBytes& bytes) {
    return varint_size(length_of(bytes)) + (bytes ? bytes->size() : 0);
}

void put_varint(std::vector<uint8_t>& to, int64_t number) {
    uint64_t raw = zigzag(number);
    for (; raw >= 0x80; raw >>= 7) to.push_back(static_cast<uint8_t>(raw | 0x80));
    to.push_back(static_cast<uint8_t>(raw));
}
void put_bytes(std::vector<uint8_t>& to, const NullableBytes& bytes) {
    put_varint(to, length_of(bytes));
    if (bytes) to.insert(to.end(), bytes->begin(), bytes->end());
}

// Writes the header before the records, with what it says of them, and the CRC.
void seal(BatchHeader header, Compression codec, MutableBytes batch) {
    header.batch_length = static_cast<int32_t>(batch.size() - kBatchPrefixSize);
    header.attributes &= static_cast<uint16_t>(~kAttributeCompressionMask);
    header.attributes |= static_cast<uint16_t>(codec);
    write_batch_header(batch, header);
    seal_batch(batch);
}

Result<std::vector<uint8_t>> pack(const BatchHeader& header, Compression codec, int level,
                                  Bytes plain) {
    TRY_ASSIGN(std::vector<uint8_t> packed, compress(codec, plain, level));
    const size_t size = kBatchHeaderSize + packed.size();
    if (size > kBatchSizeMax) return fail(ErrorCode::kResourceExhausted, "the batch is too large");
    packed.insert(packed.begin(), kBatchHeaderSize, 0);
    seal(header, codec, packed);
    return packed;
}

}  // namespace

BatchBuilder::BatchBuilder(const Options& options) : options_(options) { reset(); }

void BatchBuilder::reset() {
    header_ = BatchHeader{};
    header_.base_offset = options_.base_offset;
    header_.partition_leader_epoch = options_.partition_leader_epoch;
    header_.producer_id = options_.producer_id;
    header_.producer_epoch = options_.producer_epoch;
    header_.base_sequence = options_.base_sequence;
    if (options_.transactional) header_.attributes |= kAttributeTransactional;
    if (options_.control) header_.attributes |= kAttributeControl;
    header_.last_offset_delta = -1;
    buffer_.resize(kBatchHeaderSize);
}

void BatchBuilder::append(const NewRecord& record) {
    append_at(header_.last_offset_delta + 1, record);
}

void BatchBuilder::append_at(int32_t offset_delta, const NewRecord& record) {
    CHECK(offset_delta > header_.last_offset_delta);
    CHECK(size_bound(record) < kBatchSizeMax);
    if (empty()) header_.base_timestamp = record.timestamp;
    if (empty() || record.timestamp > header_.max_timestamp) {
        header_.max_timestamp = record.timestamp;
    }
    header_.last_offset_delta = offset_delta;
    ++header_.records_count;

    const int64_t timestamp_delta =
        static_cast<int64_t>(static_cast<uint64_t>(record.timestamp.ms) -
                             static_cast<uint64_t>(header_.base_timestamp.ms));
    const int64_t headers_count = static_cast<int64_t>(record.headers.size());
    size_t length = 1 + varint_size(timestamp_delta) + varint_size(offset_delta) +
                    size_of(record.key) + size_of(record.value) + varint_size(headers_count);
    for (const RecordHeader& header : record.headers) {
        length += size_of(header.key) + size_of(header.value);
    }
    put_varint(buffer_, static_cast<int64_t>(length));
    const size_t begin = buffer_.size();
    buffer_.push_back(0);  // attributes: none is defined
    put_varint(buffer_, timestamp_delta);
    put_varint(buffer_, offset_delta);
    put_bytes(buffer_, record.key);
    put_bytes(buffer_, record.value);
    put_varint(buffer_, headers_count);
    for (const RecordHeader& header : record.headers) {
        put_bytes(buffer_, header.key);
        put_bytes(buffer_, header.value);
    }
    CHECK(buffer_.size() - begin == length);
}

size_t BatchBuilder::size_bound(const NewRecord& record) {
    size_t size = kRecordOverheadMax + (record.key ? record.key->size() : 0) +
                  (record.value ? record.value->size() : 0);
    for (const RecordHeader& header : record.headers) {
        size += kHeaderOverheadMax + header.key.size() + (header.value ? header.value->size() : 0);
    }
    return size;
}

Result<std::vector<uint8_t>> BatchBuilder::build() {
    CHECK(!empty());
    if (options_.compression == Compression::kNone && options_.level == kCompressionLevelDefault) {
        if (buffer_.size() > kBatchSizeMax) {
            reset();
            return fail(ErrorCode::kResourceExhausted, "the batch is too large");
        }
        header_.batch_length = static_cast<int32_t>(buffer_.size() - kBatchPrefixSize);
        write_batch_header(buffer_, header_);
        seal_batch(buffer_);
        std::vector<uint8_t> batch = std::move(buffer_);
        buffer_.clear();
        reset();
        return batch;
    }
    Result<std::vector<uint8_t>> batch = pack(header_, options_.compression, options_.level,
                                              Bytes(buffer_).subspan(kBatchHeaderSize));
    reset();
    return batch;
}

std::vector<uint8_t> build_end_transaction_marker(int64_t producer_id, int16_t producer_epoch,
                                                  WallTime timestamp, EndTransactionMarker marker) {
    std::array<uint8_t, 4> key{};    // version 0, type
    std::array<uint8_t, 6> value{};  // version 0, coordinator epoch
    store_be<int16_t>(key.data() + 2, marker.committed ? 1 : 0);
    store_be(value.data() + 2, marker.coordinator_epoch);
    BatchBuilder builder({.producer_id = producer_id,
                          .producer_epoch = producer_epoch,
                          .transactional = true,
                          .control = true});
    builder.append(
        {.timestamp = timestamp, .key = Bytes(key), .value = Bytes(value), .headers = {}});
    Result<std::vector<uint8_t>> batch = builder.build();
    CHECK(batch.has_value());
    return *std::move(batch);
}

Recompression::Recompression(Bytes batch, Compression codec, int level, const Limits& limits)
    : batch_(batch), codec_(codec), level_(level), limits_(limits) {}

bool Recompression::step() {
    const Result<bool> more = try_step();
    if (!more) result_ = std::unexpected(more.error());
    return more && *more;
}

Result<bool> Recompression::try_step() {
    if (!compressor_) {
        TRY_ASSIGN(header_, parse_batch_header(batch_));
        if (header_.size() != batch_.size())
            return fail(ErrorCode::kMalformed, "the bytes are not one whole batch");
        if (!header_.is_compression_known())
            return fail(ErrorCode::kUnsupported, "the batch names no known codec");
        TRY(decompressor_.start(header_.compression(), batch_.subspan(kBatchHeaderSize),
                                limits_.records_bytes_max));
        TRY_ASSIGN(compressor_,
                   Compressor::start(codec_, level_, std::vector<uint8_t>(kBatchHeaderSize),
                                     std::min(limits_.batch_bytes_max, kBatchSizeMax),
                                     limits_.records_bytes_max));
        return true;
    }
    if (left_.empty()) {
        if (decompressor_.ended()) {
            TRY_ASSIGN(result_, std::move(*compressor_).finish());
            seal(header_, codec_, *result_);
            return false;
        }
        TRY_ASSIGN(left_, decompressor_.next());
        if (left_.empty()) return true;
    }
    const Bytes piece = left_.first(std::min(left_.size(), kRecompressedPiece));
    left_ = left_.subspan(piece.size());
    TRY(compressor_->feed(piece));
    return true;
}

Result<std::vector<uint8_t>> recompress(Bytes batch, Compression codec, int level,
                                        size_t records_bytes_max) {
    TRY_ASSIGN(const BatchHeader header, parse_batch_header(batch));
    if (header.size() == batch.size() && !batch_crc_matches(batch, header))
        return fail(ErrorCode::kCorrupt, "the batch's CRC does not match");
    Recompression recompression(batch, codec, level, {.records_bytes_max = records_bytes_max});
    while (recompression.step()) {
    }
    return std::move(recompression).result();
}

}  // namespace weir::kafka
