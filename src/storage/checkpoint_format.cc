#include "storage/checkpoint_format.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/layout.h"

namespace weir::storage {
namespace {

constexpr size_t kCheckedFrom = 8;
constexpr size_t kSectionHeaderBytes = 104;
constexpr size_t kSegmentItemBytes = 88;
constexpr size_t kTermItemBytes = 16;
constexpr uint16_t kMarked = 1;  // flags of the header
constexpr uint16_t kMended = 2;

std::unexpected<Error> corrupt(std::string_view what) {
    return fail(ErrorCode::kCorrupt, fmt::format("checkpoint: {}", what));
}

void store_position(uint8_t* to, Position position) {
    store_le<int64_t>(to, position.offset);
    store_le<uint32_t>(to + 8, position.ordinal);
}
Position load_position(const uint8_t* from) {
    return {load_le<int64_t>(from), load_le<uint32_t>(from + 8)};
}

Result<void> parse_section(Bytes section, LogSnapshot* snapshot) {
    const uint8_t* at = section.data();
    LogState& log = snapshot->log;
    log.id = {load_le<uint64_t>(at + 8)};
    snapshot->applied_block = load_le<uint64_t>(at + 16);
    log.start_offset = load_le<int64_t>(at + 24);
    log.end = load_position(at + 32);
    log.flushed_end = load_position(at + 44);
    snapshot->state_end = load_position(at + 56);
    log.hard_state = {load_le<int32_t>(at + 68), load_le<int32_t>(at + 72)};
    log.next_segment = load_le<uint32_t>(at + 76);
    const uint32_t segments = load_le<uint32_t>(at + 80);
    const uint32_t terms = load_le<uint32_t>(at + 84);
    const uint32_t state_bytes = load_le<uint32_t>(at + 88);
    const uint32_t config_bytes = load_le<uint32_t>(at + 92);
    snapshot->state_floor = load_le<int64_t>(at + 96) - 1;
    const uint64_t expected = kSectionHeaderBytes + uint64_t{segments} * kSegmentItemBytes +
                              uint64_t{terms} * kTermItemBytes + state_bytes + config_bytes;
    if (expected != section.size()) return corrupt("section length");
    if (log.flushed_end > log.end || log.start_offset < 0 || log.start_offset > log.end.offset)
        return corrupt("log bounds");
    at += kSectionHeaderBytes;
    for (uint32_t i = 0; i < segments; ++i, at += kSegmentItemBytes) {
        Segment segment;
        segment.id = load_le<uint32_t>(at);
        segment.full = load_le<uint32_t>(at + 4) != 0;
        segment.base = load_position(at + 8);
        segment.end = load_position(at + 20);
        segment.data_end = load_le<uint64_t>(at + 32);
        segment.max_timestamp_ms = load_le<int64_t>(at + 40);
        segment.created_ms = load_le<int64_t>(at + 48);
        segment.footer_position = load_le<uint64_t>(at + 56);
        segment.footer_length = load_le<uint32_t>(at + 64);
        segment.payload_bytes = load_le<uint64_t>(at + 72);
        if (segment.id >= log.next_segment || segment.base > segment.end ||
            segment.data_end % kPage != 0)
            return corrupt("segment");
        log.segments.push_back(std::move(segment));
    }
    for (uint32_t i = 0; i < terms; ++i, at += kTermItemBytes) {
        const TermStart term{load_le<int32_t>(at + 12), load_position(at)};
        if (!log.terms.empty() && term.term <= log.terms.back().term) return corrupt("terms");
        log.terms.push_back(term);
    }
    snapshot->state.assign(at, at + state_bytes);
    at += state_bytes;
    log.group_config.assign(at, at + config_bytes);
    return {};
}

}  // namespace

void cut_state(Position cut, Position* state_end, int64_t floor, std::vector<uint8_t>* state) {
    if (*state_end <= cut) return;
    if (floor >= 0 && floor <= cut.offset) {
        *state_end = cut;
        return;
    }
    // It covers entries that are gone; the state machine starts over from those that are left.
    *state_end = {};
    state->clear();
}

void append_section(std::vector<uint8_t>& to, const LogState& log, Position durable_end,
                    uint64_t applied_block, const SectionState& section_state) {
    const Bytes state = section_state.bytes;
    CHECK(log.flushed_end <= durable_end);
    // A term that began with an entry not yet durable comes back with that entry's replay.
    size_t terms = log.terms.size();
    while (terms > 0 && log.terms[terms - 1].first >= durable_end) --terms;
    const size_t section_at = to.size();
    const size_t length = kSectionHeaderBytes + log.segments.size() * kSegmentItemBytes +
                          terms * kTermItemBytes + state.size() + log.group_config.size();
    to.resize(section_at + length);
    uint8_t* at = to.data() + section_at;
    store_le<uint64_t>(at, length);
    store_le<uint64_t>(at + 8, log.id.v);
    store_le<uint64_t>(at + 16, applied_block);
    store_le<int64_t>(at + 24, log.start_offset);
    store_position(at + 32, durable_end);
    store_position(at + 44, log.flushed_end);
    store_position(at + 56, section_state.end);
    store_le<int32_t>(at + 68, log.hard_state.term);
    store_le<int32_t>(at + 72, log.hard_state.voted_for);
    store_le<uint32_t>(at + 76, log.next_segment);
    store_le<uint32_t>(at + 80, static_cast<uint32_t>(log.segments.size()));
    store_le<uint32_t>(at + 84, static_cast<uint32_t>(terms));
    store_le<uint32_t>(at + 88, static_cast<uint32_t>(state.size()));
    store_le<uint32_t>(at + 92, static_cast<uint32_t>(log.group_config.size()));
    store_le<int64_t>(at + 96, section_state.floor + 1);
    at += kSectionHeaderBytes;
    for (const Segment& segment : log.segments) {
        store_le<uint32_t>(at, segment.id);
        store_le<uint32_t>(at + 4, segment.full ? 1 : 0);
        store_position(at + 8, segment.base);
        store_position(at + 20, segment.end);
        store_le<uint64_t>(at + 32, segment.data_end);
        store_le<int64_t>(at + 40, segment.max_timestamp_ms);
        store_le<int64_t>(at + 48, segment.created_ms);
        store_le<uint64_t>(at + 56, segment.footer_position);
        store_le<uint32_t>(at + 64, segment.footer_length);
        store_le<uint64_t>(at + 72, segment.payload_bytes);
        at += kSegmentItemBytes;
    }
    for (size_t i = 0; i < terms; ++i) {
        store_position(at, log.terms[i].first);
        store_le<int32_t>(at + 12, log.terms[i].term);
        at += kTermItemBytes;
    }
    if (!state.empty()) std::memcpy(at, state.data(), state.size());
    at += state.size();
    if (!log.group_config.empty())
        std::memcpy(at, log.group_config.data(), log.group_config.size());
}

void finish_checkpoint(std::vector<uint8_t>& checkpoint, const CheckpointHeader& header) {
    CHECK(checkpoint.size() >= kCheckpointHeaderBytes);
    uint8_t* at = checkpoint.data();
    std::memset(at, 0, kCheckpointHeaderBytes);
    store_le<uint32_t>(at, kCheckpointMagic);
    store_le<uint16_t>(at + 8, kCheckpointVersion);
    store_le<uint16_t>(at + 10, static_cast<uint16_t>((header.marked ? kMarked : 0) |
                                                      (header.mended ? kMended : 0)));
    store_le<uint32_t>(at + 12, header.logs);
    store_le<uint64_t>(at + 16, checkpoint.size());
    store_le<uint64_t>(at + 24, header.journal_id);
    store_le<uint64_t>(at + 32, header.start_file);
    store_le<uint64_t>(at + 40, header.start_block);
    store_le<uint32_t>(at + 48, static_cast<uint32_t>(header.generation));
    store_le<uint16_t>(at + 52, static_cast<uint16_t>(header.shard));
    store_le<uint16_t>(at + 54, static_cast<uint16_t>(header.shards));
    store_le<int64_t>(at + 56, header.written_ms);
    store_le<uint32_t>(at + 4, crc32c(Bytes(checkpoint).subspan(kCheckedFrom)));
}

Result<Checkpoint> parse_checkpoint(Bytes bytes) {
    if (bytes.size() < kCheckpointHeaderBytes) return corrupt("cut short");
    const uint8_t* at = bytes.data();
    if (load_le<uint32_t>(at) != kCheckpointMagic) return corrupt("no checkpoint");
    const uint64_t length = load_le<uint64_t>(at + 16);
    if (length < kCheckpointHeaderBytes || length > bytes.size()) return corrupt("length");
    if (load_le<uint32_t>(at + 4) != crc32c(bytes.subspan(kCheckedFrom, length - kCheckedFrom)))
        return corrupt("checksum");
    if (load_le<uint16_t>(at + 8) != kCheckpointVersion)
        return fail(ErrorCode::kUnsupported, "checkpoint: unknown version");
    Checkpoint checkpoint;
    CheckpointHeader& header = checkpoint.header;
    header.logs = load_le<uint32_t>(at + 12);
    header.journal_id = load_le<uint64_t>(at + 24);
    header.start_file = load_le<uint64_t>(at + 32);
    header.start_block = load_le<uint64_t>(at + 40);
    header.generation = load_le<uint32_t>(at + 48);
    header.shard = load_le<uint16_t>(at + 52);
    header.shards = load_le<uint16_t>(at + 54);
    header.written_ms = load_le<int64_t>(at + 56);
    const uint16_t flags = load_le<uint16_t>(at + 10);
    header.marked = (flags & kMarked) != 0;
    header.mended = (flags & kMended) != 0;
    Bytes rest = bytes.subspan(kCheckpointHeaderBytes, length - kCheckpointHeaderBytes);
    for (uint32_t i = 0; i < header.logs; ++i) {
        if (rest.size() < kSectionHeaderBytes) return corrupt("section cut short");
        const uint64_t section = load_le<uint64_t>(rest.data());
        if (section < kSectionHeaderBytes || section > rest.size())
            return corrupt("section length");
        LogSnapshot snapshot;
        TRY(parse_section(rest.first(section), &snapshot));
        const LogId id = snapshot.log.id;
        if (!checkpoint.logs.emplace(id, std::move(snapshot)).second) return corrupt("a log twice");
        rest = rest.subspan(section);
    }
    if (!rest.empty()) return corrupt("bytes after the last section");
    return checkpoint;
}

}  // namespace weir::storage
