#include "kafka/records/record_search.h"

#include <algorithm>

namespace weir::kafka {

RecordSearch::RecordSearch(Bytes batch, const Wanted& wanted, size_t records_bytes_max)
    : batch_(batch), wanted_(wanted), records_bytes_max_(records_bytes_max) {}

bool RecordSearch::step() {
    const Result<bool> more = try_step();
    if (!more) result_ = std::unexpected(more.error());
    return more && *more;
}

Result<bool> RecordSearch::try_step() {
    if (!crc_) {
        TRY_ASSIGN(header_, parse_batch_header(batch_));
        if (header_.size() != batch_.size())
            return fail(ErrorCode::kMalformed, "the bytes are not one whole batch");
        if (!header_.is_compression_known())
            return fail(ErrorCode::kUnsupported, "the batch names no known codec");
        crc_.emplace(batch_);
    }
    if (!scanning_) {
        if (crc_->step()) return true;
        if (crc_->value() != header_.crc)
            return fail(ErrorCode::kCorrupt, "the batch's CRC does not match");
        scanning_ = true;
        RecordScanner::Rules rules{.records_count = header_.records_count,
                                   .base_timestamp = header_.base_timestamp};
        if (wanted_.from) {
            rules.find =
                RecordScanner::Find{.from = *wanted_.from,
                                    .offset_delta_min = wanted_.offset_min - header_.base_offset};
        }
        // Each record of such a batch has the batch's time (KIP-32).
        if (header_.timestamp_type() == TimestampType::kLogAppendTime) {
            if (wanted_.from && header_.max_timestamp < *wanted_.from) return false;
            if (rules.find) rules.find->from = {std::numeric_limits<int64_t>::min()};
        }
        scanner_ = RecordScanner(rules);
        const Bytes records = batch_.subspan(kBatchHeaderSize);
        if (header_.compression() == Compression::kNone) {
            plain_ = records;
        } else {
            TRY(decompressor_.start(header_.compression(), records, records_bytes_max_));
        }
        return true;
    }
    Bytes chunk = plain_.first(std::min(plain_.size(), kStepBytes));
    plain_ = plain_.subspan(chunk.size());
    if (header_.compression() != Compression::kNone) {
        TRY_ASSIGN(chunk, decompressor_.next());
    }
    if (!scanner_.feed(chunk))
        return fail(ErrorCode::kMalformed, "a record of the batch is malformed");
    // The first is enough.
    if (scanner_.found()) return finish();
    if (!plain_.empty() || !decompressor_.ended()) return true;
    if (!scanner_.finish())
        return fail(ErrorCode::kMalformed, "a record of the batch is malformed");
    return finish();
}

bool RecordSearch::finish() {
    const bool by_append = header_.timestamp_type() == TimestampType::kLogAppendTime;
    if (wanted_.from) {
        if (const auto found = scanner_.found()) {
            result_ = OffsetAndTimestamp{header_.base_offset + found->offset_delta,
                                         by_append ? header_.max_timestamp : found->timestamp};
        }
    } else if (header_.records_count > 0) {
        const auto newest = by_append ? scanner_.first() : scanner_.newest();
        result_ = OffsetAndTimestamp{header_.base_offset + newest.offset_delta,
                                     by_append ? header_.max_timestamp : newest.timestamp};
    }
    return false;
}

}  // namespace weir::kafka
