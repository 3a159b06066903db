#include "kafka/records/record.h"

#include "base/byte_reader.h"

namespace weir::kafka {
namespace {

constexpr size_t kHeaderSizeMin = 2;  // two lengths

// -1 is null; any other negative length is malformed.
NullableBytes read_nullable(ByteReader& reader) {
    const int32_t length = reader.read_varint();
    if (length == -1) return std::nullopt;
    if (length < 0) {
        reader.set_failed();
        return std::nullopt;
    }
    return reader.read_bytes(static_cast<size_t>(length));
}

RecordHeader read_header(ByteReader& reader) {
    RecordHeader header;
    const NullableBytes key = read_nullable(reader);
    if (!key) reader.set_failed();
    header.key = key.value_or(Bytes{});
    header.value = read_nullable(reader);
    return header;
}

}  // namespace

std::optional<RecordHeader> RecordHeaders::next() {
    if (count_ == 0) return std::nullopt;
    --count_;
    ByteReader reader(rest_);
    const RecordHeader header = read_header(reader);
    rest_ = rest_.last(reader.remaining());
    return header;
}

RecordIterator::RecordIterator(const BatchHeader& header, Bytes plain_records)
    : header_(header), rest_(plain_records), left_(header.records_count) {
    if (left_ == 0 && !rest_.empty()) ok_ = false;
}

std::optional<Record> RecordIterator::fail_here() {
    ok_ = false;
    left_ = 0;
    return std::nullopt;
}

std::optional<Record> RecordIterator::next() {
    if (left_ == 0) return std::nullopt;
    ByteReader outer(rest_);
    const int32_t length = outer.read_varint();
    if (length < 0) return fail_here();
    ByteReader body(outer.read_bytes(static_cast<size_t>(length)));
    body.skip(1);  // attributes of a record: none is defined
    const int64_t timestamp_delta = body.read_varlong();
    const int32_t offset_delta = body.read_varint();
    Record record;
    record.key = read_nullable(body);
    record.value = read_nullable(body);
    const int32_t headers_count = body.read_varint();
    if (!outer.ok() || !body.ok()) return fail_here();
    if (headers_count < 0 ||
        static_cast<size_t>(headers_count) > body.remaining() / kHeaderSizeMin) {
        return fail_here();
    }
    const size_t headers_size = body.remaining();
    record.headers =
        RecordHeaders(rest_.subspan(rest_.size() - outer.remaining() - headers_size, headers_size),
                      headers_count);
    for (int32_t i = 0; i < headers_count; ++i) read_header(body);
    if (!body.ok() || body.remaining() != 0) return fail_here();

    if (offset_delta <= offset_delta_last_ || offset_delta > header_.last_offset_delta) {
        return fail_here();
    }
    offset_delta_last_ = offset_delta;
    record.offset = header_.base_offset + offset_delta;
    if (header_.timestamp_type() == TimestampType::kLogAppendTime) {
        record.timestamp = header_.max_timestamp;
    } else if (__builtin_add_overflow(header_.base_timestamp.ms, timestamp_delta,
                                      &record.timestamp.ms)) {
        return fail_here();
    }
    rest_ = rest_.last(outer.remaining());
    --left_;
    if (left_ == 0 && !rest_.empty()) ok_ = false;
    return record;
}

Result<OpenBatch> OpenBatch::open(Bytes batch, size_t records_bytes_max) {
    OpenBatch open;
    TRY_ASSIGN(open.header_, parse_batch_header(batch));
    if (open.header_.size() != batch.size()) {
        return fail(ErrorCode::kMalformed, "the bytes are not one whole batch");
    }
    if (!batch_crc_matches(batch, open.header_)) {
        return fail(ErrorCode::kCorrupt, "the batch's CRC does not match");
    }
    if (!open.header_.is_compression_known()) {
        return fail(ErrorCode::kUnsupported, "the batch names no known codec");
    }
    const Bytes packed = batch.subspan(kBatchHeaderSize);
    if (open.header_.compression() == Compression::kNone) {
        open.records_ = packed;
    } else {
        TRY_ASSIGN(open.unpacked_,
                   decompress(open.header_.compression(), packed, records_bytes_max));
        open.records_ = open.unpacked_;
    }
    return open;
}

Result<std::optional<OffsetAndTimestamp>> find_by_timestamp(Bytes batch, WallTime from,
                                                            size_t records_bytes_max) {
    TRY_ASSIGN(const BatchHeader header, parse_batch_header(batch));
    if (header.max_timestamp < from) return std::nullopt;
    TRY_ASSIGN(const OpenBatch open, OpenBatch::open(batch, records_bytes_max));
    RecordIterator records = open.records();
    while (const std::optional<Record> record = records.next()) {
        if (record->timestamp >= from) return OffsetAndTimestamp{record->offset, record->timestamp};
    }
    if (!records.ok()) return fail(ErrorCode::kMalformed, "a record of the batch is malformed");
    return std::nullopt;
}

Result<std::optional<OffsetAndTimestamp>> find_max_timestamp(Bytes batch,
                                                             size_t records_bytes_max) {
    TRY_ASSIGN(const OpenBatch open, OpenBatch::open(batch, records_bytes_max));
    std::optional<OffsetAndTimestamp> found;
    RecordIterator records = open.records();
    while (const std::optional<Record> record = records.next()) {
        if (!found || record->timestamp > found->timestamp) {
            found = OffsetAndTimestamp{record->offset, record->timestamp};
        }
    }
    if (!records.ok()) return fail(ErrorCode::kMalformed, "a record of the batch is malformed");
    return found;
}

Result<EndTransactionMarker> parse_end_transaction_marker(const Record& record) {
    if (!record.key || !record.value) {
        return fail(ErrorCode::kMalformed, "a control record has no key or no value");
    }
    ByteReader key(*record.key);
    key.skip(2);  // version: later ones only append fields
    const int16_t type = key.read_i16();
    ByteReader value(*record.value);
    value.skip(2);
    const int32_t coordinator_epoch = value.read_i32();
    if (!key.ok() || !value.ok())
        return fail(ErrorCode::kMalformed, "a control record is too short");
    if (type != 0 && type != 1)
        return fail(ErrorCode::kUnsupported, "not the end of a transaction");
    return EndTransactionMarker{type == 1, coordinator_epoch};
}

}  // namespace weir::kafka
