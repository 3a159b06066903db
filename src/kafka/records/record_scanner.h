// RecordScanner: checks the records of one batch as their plain bytes arrive, in chunks cut
// anywhere, and keeps nothing of them. The core of validate.h.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "kafka/records/batch.h"

namespace weir::kafka {

enum class RecordFaultKind : uint8_t { kNoKey, kOffsetNotNext, kTimestamp };

struct RecordFault {
    int32_t index;
    RecordFaultKind kind;
    bool operator==(const RecordFault&) const = default;
};

std::string_view to_string(RecordFaultKind kind);

// Further faults are only counted with the last one: the client needs to see what is wrong, not a
// list as long as its batch.
inline constexpr size_t kRecordFaultsMax = 1000;

class RecordScanner {
  public:
    // One record of a batch.
    struct Place {
        int64_t offset_delta = 0;
        WallTime timestamp = kNoTimestamp;
    };
    // The first record from here on whose timestamp is `from` or later.
    struct Find {
        WallTime from;
        int64_t offset_delta_min = 0;
    };
    struct Rules {
        int32_t records_count = 0;
        WallTime base_timestamp;
        bool key_required = false;
        WallTime timestamp_first{std::numeric_limits<int64_t>::min()};
        WallTime timestamp_last{std::numeric_limits<int64_t>::max()};
        std::optional<Find> find = {};
    };

    RecordScanner() = default;
    explicit RecordScanner(const Rules& rules) : rules_(rules) {}

    // False when the records are structurally wrong: the rest need not be fed.
    bool feed(Bytes chunk);
    // After the last chunk: whether there were as many records as promised, and nothing else.
    bool finish();

    // Why feed() or finish() said no.
    std::string_view reason() const { return reason_; }
    const std::vector<RecordFault>& faults() const { return faults_; }
    bool has_timestamp_fault() const { return has_timestamp_fault_; }
    WallTime max_timestamp() const { return max_timestamp_; }
    int32_t max_timestamp_index() const { return max_timestamp_index_; }
    // The result of Rules::find, as soon as it is known.
    const std::optional<Place>& found() const { return found_; }
    // The first record, and the first of those with the largest timestamp.
    Place first() const { return {first_offset_delta_, kNoTimestamp}; }
    Place newest() const { return {max_timestamp_offset_delta_, max_timestamp_}; }

  private:
    // What the byte to come belongs to.
    enum class Field : uint8_t {
        kLength,
        kAttributes,
        kTimestampDelta,
        kOffsetDelta,
        kKeyLength,
        kValueLength,
        kHeadersCount,
        kHeaderKeyLength,
        kHeaderValueLength,
    };
    enum class Whole : uint8_t { kTaken, kCut, kBad };

    Whole consume_whole_record(Bytes& chunk);
    bool consume_field(Bytes& chunk);
    bool consume_number(int64_t number);
    bool end_record_or(Field next);
    bool consume_record(int64_t timestamp_delta, int64_t offset_delta, bool has_key);
    void add_fault(RecordFaultKind kind);
    bool refuse(std::string_view reason);

    Rules rules_;
    int32_t index_ = 0;  // of the record at hand
    std::string_view reason_;
    std::vector<RecordFault> faults_;
    bool has_timestamp_fault_ = false;
    WallTime max_timestamp_ = kNoTimestamp;
    int32_t max_timestamp_index_ = 0;
    int64_t max_timestamp_offset_delta_ = 0;
    int64_t first_offset_delta_ = 0;
    std::optional<Place> found_;

    // A record that is cut by the end of a chunk is read field by field.
    Field field_ = Field::kLength;
    uint64_t number_ = 0;  // a varint's bits so far
    uint32_t number_bits_ = 0;
    uint64_t skip_ = 0;        // bytes of a key, value or header to pass over
    int64_t record_left_ = 0;  // bytes of the record that are still to come
    int64_t headers_left_ = 0;
    int64_t timestamp_delta_ = 0;
    int64_t offset_delta_ = 0;
    bool has_key_ = false;
};

}  // namespace weir::kafka
