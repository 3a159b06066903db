#include "storage/segment_format.h"

#include <fmt/format.h>

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

void build_run(MutableBytes to, const std::vector<RunEntry>& entries, RunHeader* header) {
    CHECK(!entries.empty());
    size_t payload_bytes = 0;
    int64_t max_timestamp = -1;
    const size_t table_end = kRunHeaderBytes + entries.size() * kTableItemBytes;
    for (size_t i = 0; i < entries.size(); ++i) {
        const RunEntry& entry = entries[i];
        uint8_t* item = to.data() + kRunHeaderBytes + i * kTableItemBytes;
        encode_entry_header(item, RecordType::kEntry, entry.info,
                            static_cast<uint32_t>(entry.payload.size()), entry.summary_bytes);
        store_le<uint32_t>(item + 40, static_cast<uint32_t>(payload_bytes));
        store_le<uint32_t>(item + 44, 0);
        if (!entry.payload.empty())
            std::memcpy(to.data() + table_end + payload_bytes, entry.payload.data(),
                        entry.payload.size());
        payload_bytes += entry.payload.size();
        max_timestamp = std::max(max_timestamp, entry.info.max_timestamp_ms);
    }
    header->entries = static_cast<uint32_t>(entries.size());
    header->length = static_cast<uint32_t>(run_length(entries.size(), payload_bytes));
    header->payload_bytes = static_cast<uint32_t>(payload_bytes);
    header->first = entries.front().info.first;
    header->end = entries.back().info.end();
    header->max_timestamp_ms = max_timestamp;
    CHECK(header->length <= to.size());
    uint8_t* at = to.data();
    std::memset(at, 0, kRunHeaderBytes);
    store_le<uint32_t>(at, kRunMagic);
    store_le<uint16_t>(at + 8, kSegmentVersion);
    store_le<uint32_t>(at + 12, header->segment);
    store_le<uint64_t>(at + 16, header->log.v);
    store_le<uint64_t>(at + 24, header->position);
    store_le<uint32_t>(at + 32, header->length);
    store_le<uint32_t>(at + 36, header->entries);
    store_le<uint32_t>(at + 40, header->payload_bytes);
    store_le<uint32_t>(at + 44, crc32c({at + kRunHeaderBytes, table_end - kRunHeaderBytes}));
    store_le<uint32_t>(at + 48, crc32c({at + table_end, payload_bytes}));
    store_le<uint32_t>(at + 52, header->first.ordinal);
    store_le<int64_t>(at + 56, header->first.offset);
    store_le<int64_t>(at + 64, header->end.offset);
    store_le<uint32_t>(at + 72, header->end.ordinal);
    store_le<int64_t>(at + 80, header->max_timestamp_ms);
    store_le<int64_t>(at + 88, header->written_ms);
    header->crc = crc32c({at + kCheckedFrom, kRunHeaderBytes - kCheckedFrom});
    store_le<uint32_t>(at + 4, header->crc);
    std::memset(at + table_end + payload_bytes, 0, header->length - table_end - payload_bytes);
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
    RunView view;
    TRY_ASSIGN(view.header_, parse_run_header(run));
    const RunHeader& header = view.header_;
    if (run.size() < header.length) return corrupt("run cut short");
    view.bytes_ = run.first(header.length);
    const size_t table_end = header.table_end();
    if (verify) {
        if (load_le<uint32_t>(run.data() + 44) !=
            crc32c(run.subspan(kRunHeaderBytes, table_end - kRunHeaderBytes))) {
            return corrupt("checksum of a run's table");
        }
        if (load_le<uint32_t>(run.data() + 48) !=
            crc32c(run.subspan(table_end, header.payload_bytes))) {
            return corrupt("checksum of a run's payloads");
        }
        // The checksums hold, so this guards against forgery and our own bugs: item() trusts the
        // table from here on.
        uint64_t payload_at = 0;
        Position expected = header.first;
        for (uint32_t i = 0; i < header.entries; ++i) {
            Record record;
            TRY(decode_entry_header(
                run.subspan(kRunHeaderBytes + i * kTableItemBytes, kTableItemBytes), &record));
            if (load_le<uint32_t>(run.data() + kRunHeaderBytes + i * kTableItemBytes + 40) !=
                payload_at)
                return corrupt("payload order");
            if (record.entry.first != expected)
                return corrupt("entries of a run do not follow each other");
            expected = record.entry.end();
            payload_at += record.payload_size;
            if (payload_at > header.payload_bytes) return corrupt("payload beyond its run");
        }
        if (expected != header.end) return corrupt("end of a run");
    }
    return view;
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
