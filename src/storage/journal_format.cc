#include "storage/journal_format.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/crc32c.h"

namespace weir::storage {
namespace {

constexpr size_t kMarkBytes = 8;
constexpr size_t kPositionRecordBytes = 16;
constexpr size_t kHardStateBytes = 16;
constexpr size_t kGroupConfigHeaderBytes = 8;
constexpr size_t kSegmentOpenedBytes = 32;
constexpr size_t kSegmentClosedBytes = 24;
constexpr size_t kSegmentReplacedBytes = 64;
constexpr size_t kCheckedFrom = 8;  // of a block or a mark: what follows its magic and checksum
constexpr size_t kFileMarkBytes = 48;

uint8_t* grow(std::vector<uint8_t>& to, size_t bytes, RecordType type) {
    const size_t at = to.size();
    to.resize(at + bytes);
    to[at] = static_cast<uint8_t>(type);
    return to.data() + at;
}

Position load_position(const uint8_t* offset, const uint8_t* ordinal) {
    return {load_le<int64_t>(offset), load_le<uint32_t>(ordinal)};
}

std::unexpected<Error> malformed(std::string_view what) {
    return fail(ErrorCode::kCorrupt, fmt::format("malformed journal record: {}", what));
}

}  // namespace

std::string_view to_string(RecordType type) {
    switch (type) {
        case RecordType::kEntry:
            return "entry";
        case RecordType::kBypassedEntry:
            return "bypassed-entry";
        case RecordType::kRun:
            return "run";
        case RecordType::kSegmentOpened:
            return "segment-opened";
        case RecordType::kSegmentClosed:
            return "segment-closed";
        case RecordType::kCreateLog:
            return "create-log";
        case RecordType::kRemoveLog:
            return "remove-log";
        case RecordType::kTruncateSuffix:
            return "truncate-suffix";
        case RecordType::kTruncatePrefix:
            return "truncate-prefix";
        case RecordType::kHardState:
            return "hard-state";
        case RecordType::kGroupConfig:
            return "group-config";
        case RecordType::kSegmentReplaced:
            return "segment-replaced";
    }
    return "unknown";
}

void encode_entry_header(uint8_t* to, RecordType type, const EntryInfo& info, uint32_t payload_size,
                         uint32_t summary_bytes) {
    to[0] = static_cast<uint8_t>(type);
    to[1] = static_cast<uint8_t>(info.kind);
    store_le<uint16_t>(to + 2, static_cast<uint16_t>(summary_bytes));
    store_le<uint32_t>(to + 4, payload_size);
    store_le<int32_t>(to + 8, info.term);
    store_le<uint32_t>(to + 12, info.first.ordinal);
    store_le<int64_t>(to + 16, info.first.offset);
    store_le<int64_t>(to + 24, info.next_offset);
    store_le<int64_t>(to + 32, info.max_timestamp_ms);
}

Result<void> decode_entry_header(Bytes from, Record* into) {
    if (from.size() < kEntryHeaderBytes) return malformed("entry cut short");
    const uint8_t* at = from.data();
    into->type = static_cast<RecordType>(at[0]);
    if (at[1] > 1) return malformed("entry kind");
    EntryInfo& info = into->entry;
    info.kind = static_cast<EntryKind>(at[1]);
    into->summary_bytes = load_le<uint16_t>(at + 2);
    into->payload_size = load_le<uint32_t>(at + 4);
    info.term = load_le<int32_t>(at + 8);
    info.first = load_position(at + 16, at + 12);
    info.next_offset = load_le<int64_t>(at + 24);
    info.max_timestamp_ms = load_le<int64_t>(at + 32);
    if (into->summary_bytes > kSummaryBytesMax || into->summary_bytes > into->payload_size)
        return malformed("summary size");
    if (into->payload_size > kEntryBytesMax) return malformed("payload size");
    if (info.first.offset < 0) return malformed("negative offset");
    const bool wide = info.next_offset > info.first.offset;
    const bool flat = info.next_offset == info.first.offset;
    if (info.kind == EntryKind::kData ? !wide : !flat) return malformed("entry width");
    if (info.kind == EntryKind::kControl && info.first.ordinal == UINT32_MAX)
        return malformed("ordinal");
    return {};
}

void append_run(std::vector<uint8_t>& to, const RunNote& note) {
    uint8_t* at = grow(to, kRunNoteBytes, RecordType::kRun);
    at[1] = note.bypass ? 1 : 0;
    store_le<uint32_t>(at + 4, note.segment);
    store_le<uint64_t>(at + 8, note.position);
    store_le<uint32_t>(at + 16, note.length);
    store_le<uint32_t>(at + 20, note.crc);
    store_le<uint32_t>(at + 24, note.entries);
    store_le<uint32_t>(at + 28, note.first.ordinal);
    store_le<int64_t>(at + 32, note.first.offset);
    store_le<int64_t>(at + 40, note.end.offset);
    store_le<uint32_t>(at + 48, note.end.ordinal);
    store_le<int64_t>(at + 56, note.max_timestamp_ms);
    store_le<uint64_t>(at + 64, note.payload_bytes);
}

void append_segment_opened(std::vector<uint8_t>& to, const SegmentOpened& opened) {
    uint8_t* at = grow(to, kSegmentOpenedBytes, RecordType::kSegmentOpened);
    store_le<uint32_t>(at + 4, opened.segment);
    store_le<int64_t>(at + 8, opened.base.offset);
    store_le<uint32_t>(at + 16, opened.base.ordinal);
    store_le<int64_t>(at + 24, opened.created_ms);
}

void append_segment_closed(std::vector<uint8_t>& to, const SegmentClosed& closed) {
    uint8_t* at = grow(to, kSegmentClosedBytes, RecordType::kSegmentClosed);
    store_le<uint32_t>(at + 4, closed.segment);
    store_le<uint64_t>(at + 8, closed.footer_position);
    store_le<uint32_t>(at + 16, closed.footer_length);
}

void append_segment_replaced(std::vector<uint8_t>& to, const SegmentReplaced& replaced) {
    uint8_t* at = grow(to, kSegmentReplacedBytes, RecordType::kSegmentReplaced);
    store_le<uint32_t>(at + 4, replaced.segment);
    store_le<uint32_t>(at + 8, replaced.replacement);
    store_le<uint32_t>(at + 12, replaced.base.ordinal);
    store_le<int64_t>(at + 16, replaced.base.offset);
    store_le<int64_t>(at + 24, replaced.end.offset);
    store_le<uint32_t>(at + 32, replaced.end.ordinal);
    store_le<uint32_t>(at + 36, replaced.footer_length);
    store_le<uint64_t>(at + 40, replaced.data_end);
    store_le<uint64_t>(at + 48, replaced.payload_bytes);
    store_le<int64_t>(at + 56, replaced.max_timestamp_ms);
}

void append_mark(std::vector<uint8_t>& to, RecordType type) {
    CHECK(type == RecordType::kCreateLog || type == RecordType::kRemoveLog);
    grow(to, kMarkBytes, type);
}

void append_truncate_suffix(std::vector<uint8_t>& to, Position end) {
    uint8_t* at = grow(to, kPositionRecordBytes, RecordType::kTruncateSuffix);
    store_le<uint32_t>(at + 4, end.ordinal);
    store_le<int64_t>(at + 8, end.offset);
}

void append_truncate_prefix(std::vector<uint8_t>& to, int64_t start_offset, int32_t term_below) {
    uint8_t* at = grow(to, kPositionRecordBytes, RecordType::kTruncatePrefix);
    store_le<int32_t>(at + 4, term_below);
    store_le<int64_t>(at + 8, start_offset);
}

void append_hard_state(std::vector<uint8_t>& to, const HardState& state) {
    uint8_t* at = grow(to, kHardStateBytes, RecordType::kHardState);
    store_le<int32_t>(at + 4, state.term);
    store_le<int32_t>(at + 8, state.voted_for);
}

void append_group_config(std::vector<uint8_t>& to, Bytes config) {
    uint8_t* at = grow(to, kGroupConfigHeaderBytes + config.size(), RecordType::kGroupConfig);
    store_le<uint32_t>(at + 4, static_cast<uint32_t>(config.size()));
    if (!config.empty()) std::memcpy(at + kGroupConfigHeaderBytes, config.data(), config.size());
}

void BlockBuilder::start(MutableBytes memory) {
    CHECK(memory.size() >= kPage);
    memory_ = memory;
    at_ = kBlockHeaderBytes;
    groups_ = 0;
}

void BlockBuilder::begin_group(LogId log) {
    CHECK(room() >= kGroupHeaderBytes);
    group_at_ = at_;
    group_records_ = 0;
    store_le<uint64_t>(memory_.data() + at_, log.v);
    at_ += kGroupHeaderBytes;
}

void BlockBuilder::end_group() {
    if (group_records_ == 0) {
        at_ = group_at_;
        return;
    }
    store_le<uint32_t>(memory_.data() + group_at_ + 8,
                       static_cast<uint32_t>(at_ - group_at_ - kGroupHeaderBytes));
    store_le<uint32_t>(memory_.data() + group_at_ + 12, group_records_);
    ++groups_;
}

void BlockBuilder::add_records(Bytes records, uint32_t count) {
    CHECK(records.size() <= room());
    if (!records.empty()) std::memcpy(memory_.data() + at_, records.data(), records.size());
    at_ += records.size();
    group_records_ += count;
}

size_t BlockBuilder::reserve_runs(uint32_t count) {
    CHECK(count * kRunNoteBytes <= room());
    const size_t at = at_;
    at_ += count * kRunNoteBytes;
    group_records_ += count;
    return at;
}

void BlockBuilder::set_run(size_t at, const RunNote& note) {
    std::vector<uint8_t> record;
    append_run(record, note);
    CHECK(at + record.size() <= at_);
    std::memcpy(memory_.data() + at, record.data(), record.size());
}

void BlockBuilder::add_entry(const EntryInfo& info, Bytes payload, uint32_t summary_bytes) {
    CHECK(kEntryHeaderBytes + payload.size() <= room());
    encode_entry_header(memory_.data() + at_, RecordType::kEntry, info,
                        static_cast<uint32_t>(payload.size()), summary_bytes);
    at_ += kEntryHeaderBytes;
    if (!payload.empty()) std::memcpy(memory_.data() + at_, payload.data(), payload.size());
    at_ += payload.size();
    ++group_records_;
}

void BlockBuilder::add_bypassed(const EntryInfo& info, uint32_t payload_size, Bytes summary) {
    CHECK(kEntryHeaderBytes + summary.size() <= room());
    encode_entry_header(memory_.data() + at_, RecordType::kBypassedEntry, info, payload_size,
                        static_cast<uint32_t>(summary.size()));
    at_ += kEntryHeaderBytes;
    if (!summary.empty()) std::memcpy(memory_.data() + at_, summary.data(), summary.size());
    at_ += summary.size();
    ++group_records_;
}

void encode_file_mark(MutableBytes page, const FileMark& mark) {
    CHECK(page.size() == kPage);
    uint8_t* to = page.data();
    std::memset(to, 0, kPage);
    store_le<uint32_t>(to, kFileMarkMagic);
    store_le<uint16_t>(to + 8, kJournalVersion);
    store_le<uint16_t>(to + 10, mark.has_successor ? 1 : 0);
    store_le<uint32_t>(to + 12, mark.shard);
    store_le<uint64_t>(to + 16, mark.journal_id);
    store_le<uint64_t>(to + 24, mark.file_sequence);
    store_le<uint64_t>(to + 32, mark.file_bytes);
    store_le<uint64_t>(to + 40, mark.durable_block);
    store_le<uint32_t>(to + 4, crc32c({to + kCheckedFrom, kFileMarkBytes - kCheckedFrom}));
}

std::optional<FileMark> decode_file_mark(Bytes page) {
    if (page.size() < kFileMarkBytes) return std::nullopt;
    const uint8_t* at = page.data();
    if (load_le<uint32_t>(at) != kFileMarkMagic) return std::nullopt;
    if (load_le<uint16_t>(at + 8) != kJournalVersion) return std::nullopt;
    if (load_le<uint32_t>(at + 4) != crc32c({at + kCheckedFrom, kFileMarkBytes - kCheckedFrom}))
        return std::nullopt;
    return FileMark{.journal_id = load_le<uint64_t>(at + 16),
                    .file_sequence = load_le<uint64_t>(at + 24),
                    .shard = load_le<uint32_t>(at + 12),
                    .has_successor = (load_le<uint16_t>(at + 10) & 1) != 0,
                    .file_bytes = load_le<uint64_t>(at + 32),
                    .durable_block = load_le<uint64_t>(at + 40)};
}

Bytes BlockBuilder::finish(BlockHeader header) {
    header.length = static_cast<uint32_t>(at_);
    header.group_count = groups_;
    uint8_t* to = memory_.data();
    std::memset(to, 0, kBlockHeaderBytes);
    store_le<uint32_t>(to, kBlockMagic);
    store_le<uint16_t>(to + 8, kJournalVersion);
    store_le<uint32_t>(to + 12, header.length);
    store_le<uint64_t>(to + 16, header.journal_id);
    store_le<uint64_t>(to + 24, header.file_sequence);
    store_le<uint64_t>(to + 32, header.block_sequence);
    store_le<uint32_t>(to + 40, header.shard);
    store_le<uint32_t>(to + 44, header.group_count);
    store_le<int64_t>(to + 48, header.written_ms);
    store_le<uint64_t>(to + 56, header.file_bytes);
    store_le<uint32_t>(to + 4, crc32c({to + kCheckedFrom, at_ - kCheckedFrom}));
    const size_t padded = round_to_page(at_);
    CHECK(padded <= memory_.size());
    std::memset(to + at_, 0, padded - at_);
    return {to, padded};
}

BlockCheck check_block(Bytes bytes, BlockHeader* header, bool verify_checksum) {
    if (bytes.size() < kBlockHeaderBytes) return BlockCheck::kNoBlock;
    const uint8_t* at = bytes.data();
    if (load_le<uint32_t>(at) != kBlockMagic) return BlockCheck::kNoBlock;
    if (load_le<uint16_t>(at + 8) != kJournalVersion) return BlockCheck::kNoBlock;
    header->length = load_le<uint32_t>(at + 12);
    header->journal_id = load_le<uint64_t>(at + 16);
    header->file_sequence = load_le<uint64_t>(at + 24);
    header->block_sequence = load_le<uint64_t>(at + 32);
    header->shard = load_le<uint32_t>(at + 40);
    header->group_count = load_le<uint32_t>(at + 44);
    header->written_ms = load_le<int64_t>(at + 48);
    header->file_bytes = load_le<uint64_t>(at + 56);
    if (header->length < kBlockHeaderBytes) return BlockCheck::kBroken;
    if (header->length > bytes.size()) return BlockCheck::kIncomplete;
    if (verify_checksum && load_le<uint32_t>(at + 4) !=
                               crc32c(bytes.subspan(kCheckedFrom, header->length - kCheckedFrom))) {
        return BlockCheck::kBroken;
    }
    return BlockCheck::kValid;
}

BlockReader::BlockReader(Bytes block)
    : rest_(block.subspan(kBlockHeaderBytes)), groups_left_(load_le<uint32_t>(block.data() + 44)) {}

Result<bool> BlockReader::next(Record* record) {
    if (records_left_ == 0) {
        if (!group_.empty()) return malformed("bytes after a group's last record");
        if (groups_left_ == 0) return false;
        if (rest_.size() < kGroupHeaderBytes) return malformed("group cut short");
        log_ = {load_le<uint64_t>(rest_.data())};
        const uint32_t length = load_le<uint32_t>(rest_.data() + 8);
        records_left_ = load_le<uint32_t>(rest_.data() + 12);
        rest_ = rest_.subspan(kGroupHeaderBytes);
        if (length > rest_.size() || records_left_ == 0) return malformed("group length");
        group_ = rest_.first(length);
        rest_ = rest_.subspan(length);
        --groups_left_;
    }
    record->log = log_;
    if (group_.empty()) return malformed("record cut short");
    const uint8_t* at = group_.data();
    record->type = static_cast<RecordType>(at[0]);
    size_t size = 0;
    const auto has = [&](size_t bytes) {
        size = bytes;
        return group_.size() >= bytes;
    };
    switch (record->type) {
        case RecordType::kEntry:
        case RecordType::kBypassedEntry: {
            TRY(decode_entry_header(group_, record));
            const bool whole = record->type == RecordType::kEntry;
            const size_t follows = whole ? record->payload_size : record->summary_bytes;
            if (!has(kEntryHeaderBytes + follows)) return malformed("payload cut short");
            record->payload = group_.subspan(kEntryHeaderBytes, follows);
            break;
        }
        case RecordType::kRun: {
            if (!has(kRunNoteBytes)) return malformed("run cut short");
            RunNote& run = record->run;
            run.bypass = at[1] != 0;
            run.segment = load_le<uint32_t>(at + 4);
            run.position = load_le<uint64_t>(at + 8);
            run.length = load_le<uint32_t>(at + 16);
            run.crc = load_le<uint32_t>(at + 20);
            run.entries = load_le<uint32_t>(at + 24);
            run.first = load_position(at + 32, at + 28);
            run.end = load_position(at + 40, at + 48);
            run.max_timestamp_ms = load_le<int64_t>(at + 56);
            run.payload_bytes = load_le<uint64_t>(at + 64);
            if (run.payload_bytes > run.length) return malformed("run payloads");
            if (run.length == 0 || run.length % kPage != 0 || run.position % kPage != 0)
                return malformed("run alignment");
            if (run.position >> 62 != 0) return malformed("run position");
            if (run.first >= run.end || run.first.offset < 0)
                return malformed("run without entries");
            break;
        }
        case RecordType::kSegmentOpened:
            if (!has(kSegmentOpenedBytes)) return malformed("segment cut short");
            record->opened = {load_le<uint32_t>(at + 4), load_position(at + 8, at + 16),
                              load_le<int64_t>(at + 24)};
            if (record->opened.segment == UINT32_MAX || record->opened.base.offset < 0)
                return malformed("segment number");
            break;
        case RecordType::kSegmentClosed:
            if (!has(kSegmentClosedBytes)) return malformed("segment cut short");
            record->closed = {load_le<uint32_t>(at + 4), load_le<uint64_t>(at + 8),
                              load_le<uint32_t>(at + 16)};
            break;
        case RecordType::kSegmentReplaced: {
            if (!has(kSegmentReplacedBytes)) return malformed("replaced segment cut short");
            SegmentReplaced& replaced = record->replaced;
            replaced.segment = load_le<uint32_t>(at + 4);
            replaced.replacement = load_le<uint32_t>(at + 8);
            replaced.base = load_position(at + 16, at + 12);
            replaced.end = load_position(at + 24, at + 32);
            replaced.footer_length = load_le<uint32_t>(at + 36);
            replaced.data_end = load_le<uint64_t>(at + 40);
            replaced.payload_bytes = load_le<uint64_t>(at + 48);
            replaced.max_timestamp_ms = load_le<int64_t>(at + 56);
            if (replaced.replacement == UINT32_MAX || replaced.replacement == replaced.segment)
                return malformed("replaced segment's number");
            if (replaced.base >= replaced.end || replaced.base.offset < 0)
                return malformed("replaced segment without entries");
            if (replaced.data_end == 0 || replaced.data_end % kPage != 0 ||
                replaced.data_end >> 62 != 0 || replaced.payload_bytes > replaced.data_end)
                return malformed("replaced segment's size");
            break;
        }
        case RecordType::kCreateLog:
        case RecordType::kRemoveLog:
            if (!has(kMarkBytes)) return malformed("mark cut short");
            break;
        case RecordType::kTruncateSuffix:
            if (!has(kPositionRecordBytes)) return malformed("truncation cut short");
            record->position = load_position(at + 8, at + 4);
            if (record->position.offset < 0) return malformed("truncation offset");
            break;
        case RecordType::kTruncatePrefix:
            if (!has(kPositionRecordBytes)) return malformed("truncation cut short");
            record->term_below = load_le<int32_t>(at + 4);
            record->position = {load_le<int64_t>(at + 8), 0};
            if (record->position.offset < 0) return malformed("truncation offset");
            if (record->term_below < 0) return malformed("truncation term");
            break;
        case RecordType::kHardState:
            if (!has(kHardStateBytes)) return malformed("hard state cut short");
            record->hard_state = {load_le<int32_t>(at + 4), load_le<int32_t>(at + 8)};
            break;
        case RecordType::kGroupConfig: {
            if (!has(kGroupConfigHeaderBytes)) return malformed("group configuration cut short");
            const uint32_t bytes = load_le<uint32_t>(at + 4);
            if (bytes > kGroupConfigBytesMax || !has(kGroupConfigHeaderBytes + bytes))
                return malformed("group configuration length");
            record->group_config = group_.subspan(kGroupConfigHeaderBytes, bytes);
            break;
        }
        default:
            return malformed("unknown type");
    }
    group_ = group_.subspan(size);
    --records_left_;
    return true;
}

}  // namespace weir::storage
