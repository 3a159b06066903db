// What is known of one log, without I/O: where its entries are (segments, memory), its terms, its
// vote; and how each record of the journal changes that. The running store and recovery apply the
// same transitions, so that a replay arrives where the store was. Owned by its PartitionLog, or by
// recovery.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "runtime/buffer.h"
#include "storage/entry.h"
#include "storage/segment_format.h"

namespace weir::storage {

// An entry that is in the journal, or on its way there, but not in a segment yet.
struct MemoryEntry {
    EntryInfo info;
    runtime::SharedBytes payload;
    uint32_t summary_bytes = 0;
    uint64_t block = 0;  // the journal block that holds it; 0: none yet
};

// A queue with random access, for binary search. It lies in pieces, so that it grows without a move
// of what it holds: a log may have a hundred thousand small entries in memory. Nothing is allocated
// while it is empty.
class EntryQueue {
  public:
    static constexpr size_t kPieceEntries = 256;

    bool empty() const { return pieces_.empty() || size() == 0; }
    size_t size() const {
        return pieces_.empty()
                   ? 0
                   : (pieces_.size() - 1) * kPieceEntries + pieces_.back().size() - head_;
    }
    MemoryEntry& operator[](size_t index) {
        return pieces_[(head_ + index) / kPieceEntries][(head_ + index) % kPieceEntries];
    }
    const MemoryEntry& operator[](size_t index) const {
        return pieces_[(head_ + index) / kPieceEntries][(head_ + index) % kPieceEntries];
    }
    MemoryEntry& front() { return (*this)[0]; }
    const MemoryEntry& front() const { return (*this)[0]; }
    MemoryEntry& back() { return pieces_.back().back(); }
    void push_back(MemoryEntry entry);
    void pop_front();
    void pop_back();
    void clear();
    // Gives back what the entries do not need.
    void shrink();
    size_t capacity() const;
    // The first entry whose end is beyond `offset`; size() if none.
    size_t find(int64_t offset) const;
    // The first entry whose end is beyond `position`; size() if none.
    size_t find(Position position) const;

  private:
    // All but the last are full; the first `head_` of the first have left.
    std::vector<std::vector<MemoryEntry>> pieces_;
    size_t head_ = 0;
};

struct Segment {
    uint32_t id = 0;
    Position base;
    Position end;
    uint64_t data_end =
        0;  // where the next run goes; never moves back, so that a note names its run for ever
    uint64_t payload_bytes =
        0;  // at least so much of it are payloads that count: retention by size goes by that
    int64_t max_timestamp_ms = -1;
    int64_t created_ms = 0;
    uint64_t footer_position = 0;
    uint32_t footer_length = 0;  // 0: no footer (yet)
    bool full = false;           // takes no more runs

    // Known only while the store runs.
    uint64_t allocated = 0;                        // of the file; 0: not asked yet
    std::unique_ptr<std::vector<RunPlace>> index;  // nullptr: not loaded

    uint64_t file_bytes() const {
        return footer_length > 0 ? footer_position + footer_length : data_end;
    }
};

struct LogState {
    LogId id;
    int64_t start_offset = 0;
    Position end;
    Position flushed_end;  // entries below are in segments, those from here on in memory
    HardState hard_state;
    std::vector<uint8_t> group_config;
    uint32_t next_segment = 1;
    std::vector<Segment> segments;  // in order of offsets; only the last may take runs
    std::vector<TermStart> terms;   // ascending
    EntryQueue memory;
    uint64_t memory_bytes = 0;  // payloads of `memory`

    void append(MemoryEntry entry);
    // Forgets entries at and after `to`. Segments that held nothing else go to *removed.
    void truncate_suffix(Position to, std::vector<Segment>* removed);
    // Forgets entries below; beyond end() the log starts anew there. Segments wholly below go to
    // *removed.
    // `term_below` > 0: of the entry before such a new start.
    void truncate_prefix(int64_t to, int32_t term_below, std::vector<Segment>* removed);
    void open_segment(const SegmentOpened& opened);
    void close_segment(const SegmentClosed& closed);
    // The replaced segment goes to *removed. False (and nothing removed) when it is not there: that
    // was known already, or the segment has gone since.
    bool replace_segment(const SegmentReplaced& replaced, std::vector<Segment>* removed);
    // The run is in its segment; its entries leave the memory. False (and nothing changes) when
    // that was known already.
    bool add_run(const RunNote& note);
    void drop_flushed();
    // What it takes to be used and is found again: indexes of segments that have a footer, or of at
    // most so many runs, and room for entries that are not there.
    void give_back(size_t index_runs_max);

    Segment* active() {
        return segments.empty() || segments.back().full ? nullptr : &segments.back();
    }
    Segment* find_segment(uint32_t id);
    // The first that ends beyond `past`, if it begins there or before; else nullptr.
    const Segment* segment_beyond(Position past) const;
    int32_t last_term() const { return terms.empty() ? 0 : terms.back().term; }
    uint64_t segment_bytes() const;
    uint64_t payload_bytes() const;
};

// Cuts an index to what lies below `end`.
void cut_index(std::vector<RunPlace>& index, Position end);
// Adds a run; what an earlier run holds from its first entry on was truncated before it was
// written.
void add_to_index(std::vector<RunPlace>& index, const RunPlace& run);

}  // namespace weir::storage
