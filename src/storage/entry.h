// What a log is made of. One offset space (DESIGN.md, rule 5): an entry covers the offsets
// [first_offset, next_offset). A data entry is one record batch, at least one offset wide. A
// control entry (the start of a term, a configuration of a Raft group) has zero width; `ordinal`
// counts the control entries since the last data entry, and is 0 nearly always. Positions compare
// as (offset, ordinal). storage/ never looks into a payload.
#pragma once

#include <compare>
#include <cstdint>

#include "runtime/buffer.h"

namespace weir::storage {

// Names one partition log on this node for ever; assigned by the metadata log, never reused.
// kMetadataLog is the metadata log itself.
struct LogId {
    uint64_t v = 0;
    auto operator<=>(const LogId&) const = default;
};
inline constexpr LogId kMetadataLog{1};

struct Position {
    int64_t offset = 0;
    uint32_t ordinal = 0;
    auto operator<=>(const Position&) const = default;
};

enum class EntryKind : uint8_t { kData = 0, kControl = 1 };

// What is known of an entry without its payload. Kept in the journal, so that recovery needs no
// data.
struct EntryInfo {
    EntryKind kind = EntryKind::kData;
    int32_t term = 0;               // of the leader that appended it: Kafka's leader epoch
    Position first;                 // where it begins
    int64_t next_offset = 0;        // == first.offset for a control entry
    int64_t max_timestamp_ms = -1;  // of its records; -1: none

    Position end() const {
        return kind == EntryKind::kControl ? Position{first.offset, first.ordinal + 1}
                                           : Position{next_offset, 0};
    }
};

struct Entry {
    EntryInfo info;
    runtime::SharedBytes payload;
    // The first bytes of the payload, which the journal has even if the payload bypasses it, and
    // which recovery returns. For a Kafka batch this is its header (61 bytes), all that producer
    // state needs. At most kSummaryBytesMax.
    uint32_t summary_bytes = 0;
    bool shares_block = true;  // entries of other logs may lie in the payload's block
    bool admitted = true;      // Log::admit() counted it; not a control entry, which can't wait
};
inline constexpr uint32_t kSummaryBytesMax = 128;
inline constexpr uint64_t kEntryBytesMax = 128u << 20;

// Where a term begins in a log: the position of its first entry.
struct TermStart {
    int32_t term = 0;
    Position first;
    bool operator==(const TermStart&) const = default;
};

// Bounds what Log::save_group_config() keeps.
inline constexpr size_t kGroupConfigBytesMax = 512;

// Raft's durable vote. Saved before it is acted on.
struct HardState {
    int32_t term = 0;
    int32_t voted_for = -1;
    bool operator==(const HardState&) const = default;
};

}  // namespace weir::storage
