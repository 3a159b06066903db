#include "kafka/records/validate.h"

#include <algorithm>

namespace weir::kafka {
namespace {

struct HeaderFault {
    BatchFault fault = BatchFault::kNone;
    std::string_view reason;
};

// What a broker's own batches may hold and a client's may not.
HeaderFault check_client_header(const BatchHeader& header, const BatchLimits& limits) {
    using enum BatchFault;
    if (header.is_control()) return {kInvalidRecord, "clients may not write control records"};
    if (header.has_delete_horizon()) {
        return {kInvalidRecord, "clients may not set a delete horizon"};
    }
    if (header.timestamp_type() == TimestampType::kLogAppendTime) {
        return {kInvalidTimestamp, "clients may not set the log append time"};
    }
    if (header.is_transactional() && !limits.transactional_allowed) {
        return {kInvalidRecord, "a transactional batch needs a transactional id"};
    }
    return {};
}

HeaderFault check_header_fields(const BatchHeader& header, const BatchLimits& limits) {
    using enum BatchFault;
    if (header.records_count <= 0) return {kInvalidRecord, "the batch holds no record"};
    // Without an addition that could overflow: the count is last_offset_delta + 1.
    if (header.records_count - 1 != header.last_offset_delta) {
        return {kInvalidRecord, "the batch's record count and offset range disagree"};
    }
    if (header.base_offset < 0 ||
        header.base_offset >= std::numeric_limits<int64_t>::max() - header.last_offset_delta) {
        return {kInvalidRecord, "the batch's offsets are out of bounds"};
    }
    if (!header.is_compression_known()) {
        return {kUnsupportedCompressionType, "the batch names no known codec"};
    }
    if (header.compression() == Compression::kZstd && !limits.zstd_allowed) {
        return {kUnsupportedCompressionType, "zstd needs a newer version of Produce"};
    }
    if (header.producer_id < kNoProducerId) return {kInvalidRecord, "the producer id is negative"};
    if (header.has_producer_id() && header.producer_epoch < 0) {
        return {kInvalidRecord, "a producer id without an epoch"};
    }
    if (header.has_producer_id() && !header.is_control() && header.base_sequence < 0) {
        return {kInvalidRecord, "a producer id without a sequence number"};
    }
    if (header.is_transactional() && !header.has_producer_id()) {
        return {kInvalidRecord, "a transactional batch without a producer id"};
    }
    if (limits.from_client) return check_client_header(header, limits);
    return {};
}

}  // namespace

BatchValidation::BatchValidation(Bytes batch, const BatchLimits& limits, Decompressor* reuse)
    : batch_(batch), limits_(limits), decompressor_(reuse) {}

bool BatchValidation::step() {
    if (!started_) {
        started_ = true;
        if (!check_shape()) return false;
        crc_.emplace(batch_);
    }
    if (!scanning_) {
        if (crc_->step()) return true;
        scanning_ = true;
        if (!check_header()) return false;
        const BatchHeader& header = verdict_.header;
        scanner_ = RecordScanner({.records_count = header.records_count,
                                  .base_timestamp = header.base_timestamp,
                                  .key_required = limits_.key_required && !header.is_control(),
                                  .timestamp_first = limits_.timestamp_first,
                                  .timestamp_last = limits_.timestamp_last});
        const Bytes records = batch_.subspan(kBatchHeaderSize);
        if (header.compression() == Compression::kNone) {
            verdict_.plain_records_size = records.size();
            plain_ = records;
            return step_plain();
        }
        if (decompressor_ == nullptr) decompressor_ = &own_decompressor_.emplace();
        if (auto started =
                decompressor_->start(header.compression(), records, limits_.records_bytes_max);
            !started) {
            return finish_unpacking(started.error());
        }
        return true;
    }
    if (verdict_.header.compression() == Compression::kNone) return step_plain();
    const Result<Bytes> chunk = decompressor_->next();
    if (!chunk) return finish_unpacking(chunk.error());
    verdict_.plain_records_size += chunk->size();
    if (!scanner_.feed(*chunk) || decompressor_->ended()) return finish_scan();
    return true;
}

bool BatchValidation::step_plain() {
    const Bytes chunk = plain_.first(std::min(plain_.size(), kStepBytes));
    plain_ = plain_.subspan(chunk.size());
    if (!scanner_.feed(chunk) || plain_.empty()) return finish_scan();
    return true;
}

// Whether it is one whole batch, whose sum can be taken.
bool BatchValidation::check_shape() {
    using enum BatchFault;
    if (batch_.empty()) return finish(kInvalidRecord, "there is no batch");
    const std::optional<int8_t> magic = peek_magic(batch_);
    if (magic && (*magic == 0 || *magic == 1)) {
        return finish(kInvalidRecord, "messages of an old format need an old version of Produce");
    }
    if (batch_.size() < kBatchHeaderSize) return finish(kCorruptMessage, "the batch is cut short");
    if (*magic != kBatchMagic) return finish(kCorruptMessage, "the batch's format is unknown");
    const std::optional<size_t> size = peek_batch_size(batch_);
    if (!size || *size < kBatchHeaderSize) {
        return finish(kCorruptMessage, "the batch's length cannot be");
    }
    if (*size > batch_.size()) return finish(kCorruptMessage, "the batch is cut short");
    if (*size < batch_.size()) {
        return finish(kInvalidRecord, "there is more than one batch for a partition");
    }
    if (*size > limits_.batch_bytes_max) {
        return finish(kMessageTooLarge, "the batch is larger than max.message.bytes");
    }
    verdict_.header = load_batch_header(batch_);
    return true;
}

bool BatchValidation::check_header() {
    using enum BatchFault;
    if (crc_->value() != verdict_.header.crc) {
        return finish(kCorruptMessage, "the batch's CRC does not match");
    }
    const HeaderFault fault = check_header_fields(verdict_.header, limits_);
    finish(fault.fault, fault.reason);
    return fault.fault == kNone;
}

bool BatchValidation::finish(BatchFault fault, std::string_view reason) {
    verdict_.fault = fault;
    verdict_.reason = reason;
    return false;
}

bool BatchValidation::finish_unpacking(const Error& error) {
    if (error.code == ErrorCode::kResourceExhausted) {
        return finish(BatchFault::kMessageTooLarge, "the batch unpacks to more than is allowed");
    }
    return finish(BatchFault::kInvalidRecord, "the batch's records cannot be unpacked");
}

bool BatchValidation::finish_scan() {
    if (!scanner_.finish()) return finish(BatchFault::kInvalidRecord, scanner_.reason());
    verdict_.max_timestamp = scanner_.max_timestamp();
    verdict_.max_timestamp_delta = scanner_.max_timestamp_index();
    if (scanner_.faults().empty()) return finish(BatchFault::kNone, {});
    verdict_.record_faults = scanner_.faults();
    if (scanner_.has_timestamp_fault()) {
        return finish(BatchFault::kInvalidTimestamp, "a record's timestamp is out of range");
    }
    return finish(BatchFault::kInvalidRecord, "a record of the batch is not valid");
}

BatchVerdict validate_batch(Bytes batch, const BatchLimits& limits, Decompressor* reuse) {
    BatchValidation validation(batch, limits, reuse);
    while (validation.step()) {
    }
    return std::move(validation.verdict());
}

std::string_view to_string(BatchFault fault) {
    switch (fault) {
        case BatchFault::kNone:
            return "none";
        case BatchFault::kCorruptMessage:
            return "corrupt message";
        case BatchFault::kInvalidRecord:
            return "invalid record";
        case BatchFault::kInvalidTimestamp:
            return "invalid timestamp";
        case BatchFault::kUnsupportedCompressionType:
            return "unsupported compression type";
        case BatchFault::kMessageTooLarge:
            return "message too large";
    }
    return "";
}

}  // namespace weir::kafka
