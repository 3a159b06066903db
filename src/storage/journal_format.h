// The bytes of a journal: blocks, each one group commit of a shard; in a block a group for each
// log; in a group records. Pure code over bytes. Format, with an example in hex:
// docs/formats/journal.md.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "storage/entry.h"
#include "storage/layout.h"

namespace weir::storage {

inline constexpr uint32_t kBlockMagic = 0x314b4257;  // "WBK1"
inline constexpr uint16_t kJournalVersion = 1;
inline constexpr size_t kBlockHeaderBytes = 64;
inline constexpr size_t kGroupHeaderBytes = 16;
inline constexpr size_t kEntryHeaderBytes = 40;
inline constexpr size_t kRunNoteBytes = 72;

struct BlockHeader {
    uint32_t length = 0;  // header and groups; the block takes round_to_page(length)
    uint64_t journal_id =
        0;  // drawn at random when the journal was made: nobody can forge a block inside a payload
    uint64_t file_sequence =
        0;  // of the file that it was written for: a recycled file's old blocks differ
    uint64_t block_sequence = 0;  // consecutive over all files of a journal
    uint32_t shard = 0;
    uint32_t group_count = 0;
    int64_t written_ms = 0;   // for people
    uint64_t file_bytes = 0;  // of its file, which never changes; 0: an earlier version's block
};

// Stands in the last pages of a journal's file: whose file it is, and what was durable when the
// mark was written. What contradicts it is damage: no crash leaves that.
inline constexpr uint32_t kFileMarkMagic = 0x314d4a57;  // "WJM1"
struct FileMark {
    uint64_t journal_id = 0;
    uint64_t file_sequence = 0;
    uint32_t shard = 0;
    bool has_successor = false;  // the next file has its name and its mark
    uint64_t file_bytes = 0;
    uint64_t durable_block = 0;  // blocks up to this one were flushed
    bool operator==(const FileMark&) const = default;
};
// A mark goes where the one before it is not: a power cut in the middle of the write leaves that
// one.
inline constexpr uint32_t kMarkSlots = 2;  // pages, the last ones of the file
constexpr uint64_t block_room(uint64_t file_bytes) {
    return file_bytes < kMarkSlots * kPage ? 0 : file_bytes - kMarkSlots * kPage;
}
constexpr uint64_t mark_offset(uint64_t file_bytes, uint32_t slot) {
    return block_room(file_bytes) + slot * kPage;
}
void encode_file_mark(MutableBytes page, const FileMark& mark);  // a whole page
// Nothing if the page holds none that is whole: blocks of an earlier version, zeros, damage.
std::optional<FileMark> decode_file_mark(Bytes page);

enum class RecordType : uint8_t {
    kEntry = 1,  // an entry with its payload
    kBypassedEntry =
        2,  // an entry whose payload lies in a run that the same group notes after it; its summary
    kRun = 3,  // the entries [first, end) are in a segment, durably
    kSegmentOpened = 4,
    kSegmentClosed = 5,
    kCreateLog = 6,
    kRemoveLog = 7,
    kTruncateSuffix = 8,
    kTruncatePrefix = 9,
    kHardState = 10,
    kGroupConfig = 11,
    kSegmentReplaced = 12,
};
std::string_view to_string(RecordType type);

// A run of entries in a segment: where, and what it holds.
struct RunNote {
    uint32_t segment = 0;
    uint64_t position = 0;  // in the segment's file
    uint32_t length = 0;    // of the whole run; a multiple of kPage
    uint32_t crc = 0;       // of the whole run
    uint32_t entries = 0;
    Position first;
    Position end;
    int64_t max_timestamp_ms = -1;
    uint64_t payload_bytes = 0;
    bool bypass = false;  // written together with the block that notes it, not before
};

struct SegmentOpened {
    uint32_t segment = 0;
    Position base;
    int64_t created_ms = 0;
};

struct SegmentClosed {
    uint32_t segment = 0;
    uint64_t footer_position = 0;
    uint32_t footer_length = 0;
};

// The closed `segment` gave way to the closed `replacement`, whose file is whole and flushed.
struct SegmentReplaced {
    uint32_t segment = 0;
    uint32_t replacement = 0;
    Position base;          // of the replacement: at or after the base of `segment`
    Position end;           // of both
    uint64_t data_end = 0;  // where the replacement's footer begins
    uint32_t footer_length = 0;
    uint64_t payload_bytes = 0;
    int64_t max_timestamp_ms = -1;
};

// One record as it was read; only the part of its type is set.
struct Record {
    RecordType type{};
    LogId log;
    EntryInfo entry;  // kEntry, kBypassedEntry
    uint32_t payload_size = 0;
    Bytes payload;  // kEntry: the payload; kBypassedEntry: the summary
    uint32_t summary_bytes = 0;
    RunNote run;
    SegmentOpened opened;
    SegmentClosed closed;
    SegmentReplaced replaced;
    Position position;       // kTruncateSuffix; kTruncatePrefix: its offset
    int32_t term_below = 0;  // kTruncatePrefix
    Bytes group_config;
    HardState hard_state;
};

// The header of an entry, as it stands in a journal and in the table of a run.
void encode_entry_header(uint8_t* to, RecordType type, const EntryInfo& info, uint32_t payload_size,
                         uint32_t summary_bytes);
// Checks what can be checked: kinds, signs, widths.
Result<void> decode_entry_header(Bytes from, Record* into);

// Records without payload, appended to `to`.
void append_run(std::vector<uint8_t>& to, const RunNote& note);
void append_segment_opened(std::vector<uint8_t>& to, const SegmentOpened& opened);
void append_segment_closed(std::vector<uint8_t>& to, const SegmentClosed& closed);
void append_segment_replaced(std::vector<uint8_t>& to, const SegmentReplaced& replaced);
void append_mark(std::vector<uint8_t>& to, RecordType type);  // kCreateLog, kRemoveLog
void append_truncate_suffix(std::vector<uint8_t>& to, Position end);
void append_truncate_prefix(std::vector<uint8_t>& to, int64_t start_offset, int32_t term_below);
void append_hard_state(std::vector<uint8_t>& to, const HardState& state);
void append_group_config(std::vector<uint8_t>& to, Bytes config);

// Lays out one block in memory that its owner gives.
class BlockBuilder {
  public:
    void start(MutableBytes memory);
    void begin_group(LogId log);
    void end_group();  // drops a group without records
    void add_records(Bytes records, uint32_t count);
    // Room for the notes of `count` runs, which are known later; set_run() fills them in before
    // finish().
    size_t reserve_runs(uint32_t count);
    void set_run(size_t at, const RunNote& note);
    void add_entry(const EntryInfo& info, Bytes payload, uint32_t summary_bytes);
    void add_bypassed(const EntryInfo& info, uint32_t payload_size, Bytes summary);
    size_t size() const { return at_; }
    size_t room() const { return memory_.size() - at_; }
    uint32_t groups() const { return groups_; }
    // Fills in the header (length and group count too) and the zeros up to a page; gives the bytes
    // to write.
    Bytes finish(BlockHeader header);

  private:
    MutableBytes memory_;
    size_t at_ = 0;
    size_t group_at_ = 0;
    uint32_t group_records_ = 0;
    uint32_t groups_ = 0;
};

// What lies at a place where a block may begin.
enum class BlockCheck : uint8_t {
    kValid,
    kNoBlock,     // no header of ours: zeros, or the inside of another block
    kIncomplete,  // a header, but `bytes` end before the block does
    kBroken,      // a header whose checksum, or the block's, does not hold
};
// `header` is set for all but kNoBlock.
BlockCheck check_block(Bytes bytes, BlockHeader* header, bool verify_checksum = true);

// Walks the records of a valid block. Malformed ones give kCorrupt: the checksum held, so this is
// our bug or a forgery.
class BlockReader {
  public:
    explicit BlockReader(Bytes block);  // header and groups
    // False at the end.
    Result<bool> next(Record* record);
    LogId log() const { return log_; }

  private:
    Bytes rest_;
    Bytes group_;
    uint32_t groups_left_;
    uint32_t records_left_ = 0;
    LogId log_;
};

}  // namespace weir::storage
