#include "storage/segment_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "storage/layout.h"

namespace weir::storage {
namespace {

constexpr size_t kCheckedFrom = 8;

std::unexpected<Error> corrupt(std::string_view what) {
    return fail(ErrorCode::kCorrupt, fmt::format("segment: {}", what));
}

}  // namespace

size_t run_length(size_t entries, size_t payload_bytes) {
    return round_to_page(kRunHeaderBytes + entries * kTableItemBytes + payload_bytes);
}

RunBuild::RunBuild(MutableBytes to, std::vector<RunEntry> entries, const RunHeader& header)
    : to_(to), entries_(std::move(entries)), header_(header) {
    CHECK(!entries_.empty());
    header_.entries = static_cast<uint32_t>(entries_.size());
    size_t payload_bytes = 0;
    for (const RunEntry& entry : entries_) payload_bytes += entry.payload.size();
    header_.length = static_cast<uint32_t>(run_length(entries_.size(), payload_bytes));
    header_.payload_bytes = static_cast<uint32_t>(payload_bytes);
    header_.first = entries_.front().info.first;
    header_.end = entries_.back().info.end();
    CHECK(header_.length <= to_.size());
    payload_at_ = header_.table_end();
}

bool RunBuild::step() {
    if (payload_at_ == header_.table_end()) write_table();
    const size_t begin = payload_at_;
    const size_t stop =
        std::min(begin + kRunStepBytes, header_.table_end() + header_.payload_bytes);
    while (payload_at_ < stop) {
        const Bytes payload = entries_[entry_].payload.subspan(copied_);
        const size_t size = std::min(payload.size(), stop - payload_at_);
        if (size > 0) std::memcpy(to_.data() + payload_at_, payload.data(), size);
        payload_at_ += size;
        copied_ += size;
        if (size == payload.size()) {
            ++entry_;
            copied_ = 0;
        }
    }
    crc_ = crc32c({to_.data() + begin, payload_at_ - begin}, crc_);
    if (payload_at_ < header_.table_end() + header_.payload_bytes) return true;
    seal();
    return false;
}

void RunBuild::write_table() {
    size_t payload_bytes = 0;
    header_.max_timestamp_ms = -1;
    for (size_t i = 0; i < entries_.size(); ++i) {
        const RunEntry& entry = entries_[i];
        uint8_t* item = to_.data() + kRunHeaderBytes + i * kTableItemBytes;
        encode_entry_header(item, RecordType::kEntry, entry.info,
                            static_cast<uint32_t>(entry.payload.size()), entry.summary_bytes);
        store_le<uint32_t>(item + 40, static_cast<uint32_t>(payload_bytes));
        store_le<uint32_t>(item + 44, 0);
        payload_bytes += entry.payload.size();
        header_.max_timestamp_ms = std::max(header_.max_timestamp_ms, entry.info.max_timestamp_ms);
    }
}

void RunBuild::seal() {
    const size_t table_end = header_.table_end();
    uint8_t* at = to_.data();
    std::memset(at, 0, kRunHeaderBytes);
    store_le<uint32_t>(at, kRunMagic);
    store_le<uint16_t>(at + 8, kSegmentVersion);
    store_le<uint32_t>(at + 12, header_.segment);
    store_le<uint64_t>(at + 16, header_.log.v);
    store_le<uint64_t>(at + 24, header_.position);
    store_le<uint32_t>(at + 32, header_.length);
    store_le<uint32_t>(at + 36, header_.entries);
    store_le<uint32_t>(at + 40, header_.payload_bytes);
    store_le<uint32_t>(at + 44, crc32c({at + kRunHeaderBytes, table_end - kRunHeaderBytes}));
    store_le<uint32_t>(at + 48, crc_);
    store_le<uint32_t>(at + 52, header_.first.ordinal);
    store_le<int64_t>(at + 56, header_.first.offset);
    store_le<int64_t>(at + 64, header_.end.offset);
    store_le<uint32_t>(at + 72, header_.end.ordinal);
    store_le<int64_t>(at + 80, header_.max_timestamp_ms);
    store_le<int64_t>(at + 88, header_.written_ms);
    header_.crc = crc32c({at + kCheckedFrom, kRunHeaderBytes - kCheckedFrom});
    store_le<uint32_t>(at + 4, header_.crc);
    const size_t end = table_end + header_.payload_bytes;
    std::memset(at + end, 0, header_.length - end);
}

void build_run(MutableBytes to, const std::vector<RunEntry>& entries, RunHeader* header) {
    RunBuild build(to, entries, *header);
    while (build.step()) {
    }
    *header = build.header();
}

Result<RunHeader> parse_run_header(Bytes bytes) {
    if (bytes.size() < kRunHeaderBytes) return corrupt("run header cut short");
    const uint8_t* at = bytes.data();
    if (load_le<uint32_t>(at) != kRunMagic) return corrupt("no run begins here");
    RunHeader header;
    header.crc = load_le<uint32_t>(at + 4);
    if (header.crc != crc32c({at + kCheckedFrom, kRunHeaderBytes - kCheckedFrom}))
        return corrupt("run header checksum");
    if (load_le<uint16_t>(at + 8) != kSegmentVersion)
        return fail(ErrorCode::kUnsupported, "segment: unknown run version");
    header.segment = load_le<uint32_t>(at + 12);
    header.log = {load_le<uint64_t>(at + 16)};
    header.position = load_le<uint64_t>(at + 24);
    header.length = load_le<uint32_t>(at + 32);
    header.entries = load_le<uint32_t>(at + 36);
    header.payload_bytes = load_le<uint32_t>(at + 40);
    header.first = {load_le<int64_t>(at + 56), load_le<uint32_t>(at + 52)};
    header.end = {load_le<int64_t>(at + 64), load_le<uint32_t>(at + 72)};
    header.max_timestamp_ms = load_le<int64_t>(at + 80);
    header.written_ms = load_le<int64_t>(at + 88);
    if (header.entries == 0 || header.first >= header.end) return corrupt("run without entries");
    if (header.length != run_length(header.entries, header.payload_bytes))
        return corrupt("run length");
    return header;
}

Result<RunView> RunView::parse(Bytes run, bool verify) {
    if (verify) {
        RunCheck check(run);
        while (check.step()) {
        }
        return check.result();
    }
    RunView view;
    TRY_ASSIGN(view.header_, parse_run_header(run));
    if (run.size() < view.header_.length) return corrupt("run cut short");
    view.bytes_ = run.first(view.header_.length);
    return view;
}

Result<void> RunView::check(uint32_t payloads_crc) const {
    const size_t table_end = header_.table_end();
    if (load_le<uint32_t>(bytes_.data() + 44) !=
        crc32c(bytes_.subspan(kRunHeaderBytes, table_end - kRunHeaderBytes))) {
        return corrupt("checksum of a run's table");
    }
    if (load_le<uint32_t>(bytes_.data() + 48) != payloads_crc)
        return corrupt("checksum of a run's payloads");
    // The checksums hold, so this guards against forgery and our own bugs: item() trusts the table
    // from here on.
    uint64_t payload_at = 0;
    Position expected = header_.first;
    for (uint32_t i = 0; i < header_.entries; ++i) {
        const Bytes item = bytes_.subspan(kRunHeaderBytes + i * kTableItemBytes, kTableItemBytes);
        Record record;
        TRY(decode_entry_header(item, &record));
        if (load_le<uint32_t>(item.data() + 40) != payload_at) return corrupt("payload order");
        if (record.entry.first != expected)
            return corrupt("entries of a run do not follow each other");
        expected = record.entry.end();
        payload_at += record.payload_size;
        if (payload_at > header_.payload_bytes) return corrupt("payload beyond its run");
    }
    if (expected != header_.end) return corrupt("end of a run");
    return {};
}

bool RunCheck::step() {
    if (!begun_) {
        begun_ = true;
        result_ = RunView::parse(run_, false);
        if (!result_) return false;
        rest_ = run_.subspan(result_->header_.table_end(), result_->header_.payload_bytes);
    }
    const Bytes piece = rest_.first(std::min(rest_.size(), kRunStepBytes));
    crc_ = crc32c(piece, crc_);
    rest_ = rest_.subspan(piece.size());
    if (!rest_.empty()) return true;
    if (Result<void> checked = result_->check(crc_); !checked)
        result_ = std::unexpected(std::move(checked).error());
    return false;
}

RunView::Item RunView::item(uint32_t index) const {
    CHECK(index < header_.entries);
    const uint8_t* at = bytes_.data() + kRunHeaderBytes + size_t{index} * kTableItemBytes;
    Item item;
    item.info.kind = static_cast<EntryKind>(at[1]);
    item.summary_bytes = load_le<uint16_t>(at + 2);
    item.payload_size = load_le<uint32_t>(at + 4);
    item.info.term = load_le<int32_t>(at + 8);
    item.info.first = {load_le<int64_t>(at + 16), load_le<uint32_t>(at + 12)};
    item.info.next_offset = load_le<int64_t>(at + 24);
    item.info.max_timestamp_ms = load_le<int64_t>(at + 32);
    item.payload_at = header_.table_end() + load_le<uint32_t>(at + 40);
    CHECK(item.payload_at + item.payload_size <= bytes_.size());
    return item;
}

uint32_t RunView::find(int64_t offset) const {
    uint32_t low = 0, high = header_.entries;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const uint8_t* at = bytes_.data() + kRunHeaderBytes + size_t{middle} * kTableItemBytes;
        if (load_le<int64_t>(at + 24) > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

std::vector<uint8_t> build_footer(LogId log, uint32_t segment, uint64_t position,
                                  const std::vector<RunPlace>& runs) {
    const size_t items_end = kFooterHeaderBytes + runs.size() * kFooterItemBytes;
    std::vector<uint8_t> footer(round_to_page(items_end + kTrailerBytes));
    uint8_t* at = footer.data();
    store_le<uint32_t>(at, kFooterMagic);
    store_le<uint16_t>(at + 8, kSegmentVersion);
    store_le<uint32_t>(at + 12, segment);
    store_le<uint64_t>(at + 16, log.v);
    store_le<uint64_t>(at + 24, position);
    store_le<uint32_t>(at + 32, static_cast<uint32_t>(runs.size()));
    for (size_t i = 0; i < runs.size(); ++i) {
        const RunPlace& run = runs[i];
        uint8_t* item = at + kFooterHeaderBytes + i * kFooterItemBytes;
        store_le<uint64_t>(item, run.position);
        store_le<uint32_t>(item + 8, run.length);
        store_le<uint32_t>(item + 12, run.first.ordinal);
        store_le<int64_t>(item + 16, run.first.offset);
        store_le<int64_t>(item + 24, run.end.offset);
        store_le<uint32_t>(item + 32, run.end.ordinal);
        store_le<int64_t>(item + 40, run.max_timestamp_ms);
    }
    store_le<uint32_t>(at + 4, crc32c({at + kCheckedFrom, items_end - kCheckedFrom}));
    uint8_t* trailer = at + footer.size() - kTrailerBytes;
    store_le<uint32_t>(trailer, kTrailerMagic);
    store_le<uint64_t>(trailer + 8, position);
    store_le<uint32_t>(trailer + 16, static_cast<uint32_t>(footer.size()));
    store_le<uint32_t>(trailer + 4, crc32c({trailer + kCheckedFrom, kTrailerBytes - kCheckedFrom}));
    return footer;
}

Result<Footer> parse_footer(Bytes bytes) {
    if (bytes.size() < kFooterHeaderBytes) return corrupt("footer cut short");
    const uint8_t* at = bytes.data();
    if (load_le<uint32_t>(at) != kFooterMagic) return corrupt("no footer begins here");
    const uint32_t count = load_le<uint32_t>(at + 32);
    if (count > (bytes.size() - kFooterHeaderBytes) / kFooterItemBytes)
        return corrupt("footer length");
    const size_t items_end = kFooterHeaderBytes + size_t{count} * kFooterItemBytes;
    if (load_le<uint32_t>(at + 4) != crc32c(bytes.subspan(kCheckedFrom, items_end - kCheckedFrom)))
        return corrupt("footer checksum");
    if (load_le<uint16_t>(at + 8) != kSegmentVersion)
        return fail(ErrorCode::kUnsupported, "segment: unknown footer version");
    Footer footer;
    footer.segment = load_le<uint32_t>(at + 12);
    footer.log = {load_le<uint64_t>(at + 16)};
    footer.runs.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
        const uint8_t* item = at + kFooterHeaderBytes + size_t{i} * kFooterItemBytes;
        RunPlace& run = footer.runs[i];
        run.position = load_le<uint64_t>(item);
        run.length = load_le<uint32_t>(item + 8);
        run.first = {load_le<int64_t>(item + 16), load_le<uint32_t>(item + 12)};
        run.end = {load_le<int64_t>(item + 24), load_le<uint32_t>(item + 32)};
        run.max_timestamp_ms = load_le<int64_t>(item + 40);
        if (run.first >= run.end || run.length == 0 || run.position % kPage != 0)
            return corrupt("run in footer");
        if (i > 0 && footer.runs[i - 1].end != run.first)
            return corrupt("runs of a footer do not follow each other");
    }
    return footer;
}

Result<Trailer> parse_trailer(Bytes bytes) {
    if (bytes.size() < kTrailerBytes) return corrupt("trailer cut short");
    const Bytes trailer = bytes.last(kTrailerBytes);
    const uint8_t* at = trailer.data();
    if (load_le<uint32_t>(at) != kTrailerMagic) return corrupt("no trailer");
    if (load_le<uint32_t>(at + 4) != crc32c(trailer.subspan(kCheckedFrom)))
        return corrupt("trailer checksum");
    return Trailer{load_le<uint64_t>(at + 8), load_le<uint32_t>(at + 16)};
}

}  // namespace weir::storage
