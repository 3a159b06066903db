#include "kafka/records/record_scanner.h"

#include <algorithm>
#include <type_traits>

namespace weir::kafka {
namespace {

constexpr uint32_t kVarintBitsMax = 35;   // five bytes of seven
constexpr uint32_t kVarlongBitsMax = 70;  // ten

int64_t unzigzag(uint64_t raw) { return static_cast<int64_t>((raw >> 1) ^ (~(raw & 1) + 1)); }

// base/byte_reader.h reads the same, and a test compares the two; but this is where a produce
// request's time goes, so the cursor stays in a register. `Number` is int32_t for a varint, int64_t
// for a varlong.
template <class Number>
bool take_varint(const uint8_t*& at, const uint8_t* end, Number& number) {
    constexpr int kBits = 8 * sizeof(Number);
    std::make_unsigned_t<Number> raw = 0;
    for (int shift = 0; shift < kBits; shift += 7) {
        if (at == end) return false;
        const uint8_t byte = *at++;
        raw |= static_cast<std::make_unsigned_t<Number>>(byte & 0x7f) << shift;
        if (byte < 0x80) [[likely]] {
            number = static_cast<Number>(unzigzag(raw));
            // The last byte that there may be holds only the bits that are left.
            return shift + 7 <= kBits || byte >> (kBits - shift) == 0;
        }
    }
    return false;
}

// A length and as many bytes; null where `nullable` is true and the length -1.
bool skip_sized(const uint8_t*& at, const uint8_t* end, bool nullable, bool& is_null) {
    int32_t size = 0;
    if (!take_varint(at, end, size)) return false;
    is_null = size == -1;
    if (is_null) return nullable;
    if (size < 0 || size > end - at) return false;
    at += size;
    return true;
}

bool skip_headers(const uint8_t*& at, const uint8_t* end, int32_t count) {
    bool is_null = false;
    for (int32_t i = 0; i < count; ++i) {
        if (!skip_sized(at, end, false, is_null)) return false;
        if (!skip_sized(at, end, true, is_null)) return false;
    }
    return true;
}

}  // namespace

std::string_view to_string(RecordFaultKind kind) {
    switch (kind) {
        case RecordFaultKind::kNoKey:
            return "a record of a compacted topic needs a key";
        case RecordFaultKind::kOffsetNotNext:
            return "the record's offset does not follow the one before it";
        case RecordFaultKind::kTimestamp:
            return "the record's timestamp is out of the range that the topic allows";
    }
    return "";
}

bool RecordScanner::feed(Bytes chunk) {
    while (!chunk.empty()) {
        const bool between_records = field_ == Field::kLength && number_bits_ == 0 && skip_ == 0;
        if (between_records) {
            if (index_ == rules_.records_count) return refuse("bytes follow the last record");
            const Whole whole = consume_whole_record(chunk);
            if (whole == Whole::kTaken) continue;
            if (whole == Whole::kBad) return false;
        }
        if (!consume_field(chunk)) return false;
    }
    return true;
}

bool RecordScanner::finish() {
    if (!reason_.empty()) return false;
    const bool between_records = field_ == Field::kLength && number_bits_ == 0 && skip_ == 0;
    if (!between_records || index_ != rules_.records_count) {
        return refuse("the batch holds fewer records than its header says");
    }
    return true;
}

RecordScanner::Whole RecordScanner::consume_whole_record(Bytes& chunk) {
    const uint8_t* at = chunk.data();
    const uint8_t* const chunk_end = at + chunk.size();
    int32_t length = 0;
    // A length that is malformed rather than cut is found by consume_field().
    if (!take_varint(at, chunk_end, length)) return Whole::kCut;
    if (length > chunk_end - at) return Whole::kCut;
    if (length <= 0) {
        refuse("a record's length is not positive");
        return Whole::kBad;
    }
    const uint8_t* const end = at + length;
    ++at;  // the record's attributes: none is defined
    int64_t timestamp_delta = 0;
    int32_t offset_delta = 0;
    bool key_is_null = false;
    bool value_is_null = false;
    int32_t headers_count = 0;
    const bool well_formed =
        take_varint(at, end, timestamp_delta) && take_varint(at, end, offset_delta) &&
        skip_sized(at, end, true, key_is_null) && skip_sized(at, end, true, value_is_null) &&
        take_varint(at, end, headers_count) && headers_count >= 0 &&
        skip_headers(at, end, headers_count) && at == end;
    if (!well_formed) {
        refuse("a record's fields do not fit its length");
        return Whole::kBad;
    }
    chunk = chunk.last(static_cast<size_t>(chunk_end - end));
    return consume_record(timestamp_delta, offset_delta, !key_is_null) ? Whole::kTaken
                                                                       : Whole::kBad;
}

bool RecordScanner::consume_field(Bytes& chunk) {
    if (skip_ > 0) {
        const size_t count = static_cast<size_t>(std::min<uint64_t>(skip_, chunk.size()));
        chunk = chunk.subspan(count);
        skip_ -= count;
        record_left_ -= static_cast<int64_t>(count);
        return true;
    }
    if (field_ != Field::kLength && record_left_ == 0) {
        return refuse("a record's fields do not fit its length");
    }
    const uint8_t byte = chunk.front();
    chunk = chunk.subspan(1);
    if (field_ != Field::kLength) --record_left_;
    if (field_ == Field::kAttributes) {
        field_ = Field::kTimestampDelta;
        return true;
    }
    const bool is_long = field_ == Field::kTimestampDelta;
    number_ |= static_cast<uint64_t>(byte & 0x7f) << number_bits_;
    number_bits_ += 7;
    if (number_bits_ == (is_long ? kVarlongBitsMax : kVarintBitsMax) &&
        (byte & ~(is_long ? 0x01 : 0x0f)) != 0) {
        return refuse("a record holds a malformed varint");
    }
    if (byte & 0x80) return true;
    const int64_t number = unzigzag(number_);
    number_ = 0;
    number_bits_ = 0;
    return consume_number(number);
}

bool RecordScanner::consume_number(int64_t number) {
    switch (field_) {
        case Field::kLength:
            if (number <= 0) return refuse("a record's length is not positive");
            record_left_ = number;
            field_ = Field::kAttributes;
            return true;
        case Field::kAttributes:
            return false;  // is no number
        case Field::kTimestampDelta:
            timestamp_delta_ = number;
            field_ = Field::kOffsetDelta;
            return true;
        case Field::kOffsetDelta:
            offset_delta_ = number;
            field_ = Field::kKeyLength;
            return true;
        case Field::kHeadersCount:
            if (number < 0) return refuse("a record's fields do not fit its length");
            headers_left_ = number;
            return end_record_or(Field::kHeaderKeyLength);
        case Field::kKeyLength:
        case Field::kValueLength:
        case Field::kHeaderKeyLength:
        case Field::kHeaderValueLength:
            break;
    }
    const bool nullable = field_ != Field::kHeaderKeyLength;
    if (number < (nullable ? -1 : 0) || number > record_left_) {
        return refuse("a record's fields do not fit its length");
    }
    skip_ = static_cast<uint64_t>(std::max<int64_t>(number, 0));
    switch (field_) {
        case Field::kKeyLength:
            has_key_ = number >= 0;
            field_ = Field::kValueLength;
            return true;
        case Field::kValueLength:
            field_ = Field::kHeadersCount;
            return true;
        case Field::kHeaderKeyLength:
            field_ = Field::kHeaderValueLength;
            return true;
        default:
            --headers_left_;
            return end_record_or(Field::kHeaderKeyLength);
    }
}

// After the last header (whose value may still have to be passed over) the record must end; else
// `next` comes.
bool RecordScanner::end_record_or(Field next) {
    if (headers_left_ > 0) {
        field_ = next;
        return true;
    }
    if (static_cast<uint64_t>(record_left_) != skip_) {
        return refuse("a record's fields do not fit its length");
    }
    field_ = Field::kLength;
    return consume_record(timestamp_delta_, offset_delta_, has_key_);
}

bool RecordScanner::consume_record(int64_t timestamp_delta, int64_t offset_delta, bool has_key) {
    WallTime timestamp;
    if (__builtin_add_overflow(rules_.base_timestamp.ms, timestamp_delta, &timestamp.ms)) {
        return refuse("a record's timestamp is out of bounds");
    }
    if (offset_delta != index_) [[unlikely]]
        add_fault(RecordFaultKind::kOffsetNotNext);
    if (rules_.key_required && !has_key) [[unlikely]]
        add_fault(RecordFaultKind::kNoKey);
    const bool in_range = timestamp >= rules_.timestamp_first && timestamp <= rules_.timestamp_last;
    if (!in_range && timestamp != kNoTimestamp) [[unlikely]] {
        has_timestamp_fault_ = true;
        add_fault(RecordFaultKind::kTimestamp);
    }
    if (index_ == 0) first_offset_delta_ = offset_delta;
    if (index_ == 0 || timestamp > max_timestamp_) {
        max_timestamp_ = timestamp;
        max_timestamp_index_ = index_;
        max_timestamp_offset_delta_ = offset_delta;
    }
    if (rules_.find && !found_ && offset_delta >= rules_.find->offset_delta_min &&
        timestamp >= rules_.find->from)
        found_ = Place{offset_delta, timestamp};
    ++index_;
    return true;
}

void RecordScanner::add_fault(RecordFaultKind kind) {
    if (faults_.size() < kRecordFaultsMax) faults_.push_back({index_, kind});
}

bool RecordScanner::refuse(std::string_view reason) {
    reason_ = reason;
    return false;
}

}  // namespace weir::kafka
