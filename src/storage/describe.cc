#include "storage/describe.h"

#include <fmt/format.h>

#include "base/units.h"
#include "storage/checkpoint_format.h"
#include "storage/journal_format.h"
#include "storage/layout.h"
#include "storage/segment_format.h"

namespace weir::storage {
namespace {

std::string text_of(Position position) {
    return position.ordinal == 0 ? fmt::format("{}", position.offset)
                                 : fmt::format("{}+{}", position.offset, position.ordinal);
}

std::string text_of(const EntryInfo& info) {
    return fmt::format("{} term={} offsets=[{}, {}) max_timestamp={}",
                       info.kind == EntryKind::kControl ? "control" : "data", info.term,
                       text_of(info.first), text_of(info.end()), info.max_timestamp_ms);
}

std::string text_of(const Record& record) {
    std::string text = fmt::format("    log={:<6} {:<15}", record.log.v, to_string(record.type));
    switch (record.type) {
        case RecordType::kEntry:
            return text + fmt::format(" {} bytes={}", text_of(record.entry), record.payload_size);
        case RecordType::kBypassedEntry:
            return text + fmt::format(" {} bytes={} in the segment, summary={}",
                                      text_of(record.entry), record.payload_size,
                                      record.summary_bytes);
        case RecordType::kRun:
            return text +
                   fmt::format(
                       " segment={} position={} length={} entries={} offsets=[{}, {}) crc={:08x}{}",
                       record.run.segment, record.run.position, record.run.length,
                       record.run.entries, text_of(record.run.first), text_of(record.run.end),
                       record.run.crc, record.run.bypass ? " bypass" : "");
        case RecordType::kSegmentOpened:
            return text + fmt::format(" segment={} base={}", record.opened.segment,
                                      text_of(record.opened.base));
        case RecordType::kSegmentClosed:
            return text + fmt::format(" segment={} footer={}", record.closed.segment,
                                      record.closed.footer_position);
        case RecordType::kSegmentReplaced:
            return text + fmt::format(" segment={} by={} offsets=[{}, {}) footer={}",
                                      record.replaced.segment, record.replaced.replacement,
                                      text_of(record.replaced.base), text_of(record.replaced.end),
                                      record.replaced.data_end);
        case RecordType::kTruncateSuffix:
        case RecordType::kTruncatePrefix:
            return text + fmt::format(" to={}", text_of(record.position));
        case RecordType::kGroupConfig:
            return text + fmt::format(" bytes={}", record.group_config.size());
        case RecordType::kHardState:
            return text + fmt::format(" term={} voted_for={}", record.hard_state.term,
                                      record.hard_state.voted_for);
        default:
            return text;
    }
}

}  // namespace

std::string describe_journal(Bytes file) {
    std::string text;
    size_t blocks = 0;
    size_t broken = 0;
    for (size_t at = 0; at < file.size();) {
        BlockHeader header;
        const BlockCheck check = check_block(file.subspan(at), &header);
        if (check == BlockCheck::kNoBlock) {
            if (const auto mark = decode_file_mark(file.subspan(at)); mark) {
                text += fmt::format("mark at={} file={} shard={} bytes={} durable_block={}{}\n", at,
                                    mark->file_sequence, mark->shard, mark->file_bytes,
                                    mark->durable_block,
                                    mark->has_successor ? ", the next file is there" : "");
            }
            at += kPage;
            continue;
        }
        text += fmt::format("block {} at={} file={} shard={} length={} groups={} written_ms={}",
                            header.block_sequence, at, header.file_sequence, header.shard,
                            header.length, header.group_count, header.written_ms);
        if (check != BlockCheck::kValid) {
            text += check == BlockCheck::kIncomplete ? " INCOMPLETE: the file ends before it\n"
                                                     : " BROKEN: its checksum does not hold\n";
            ++broken;
            at += kPage;
            continue;
        }
        text += '\n';
        ++blocks;
        BlockReader reader(file.subspan(at, header.length));
        Record record;
        while (true) {
            const Result<bool> more = reader.next(&record);
            if (!more) text += fmt::format("    MALFORMED: {}\n", more.error().to_string());
            if (!more || !*more) break;
            text += text_of(record) + '\n';
        }
        at += round_up(header.length, kPage);
    }
    return text + fmt::format(
                      "{} blocks, {} broken or incomplete, {} bytes; blocks of an earlier use of a "
                      "recycled file have a lower file number\n",
                      blocks, broken, file.size());
}

std::string describe_segment(Bytes file) {
    std::string text;
    size_t runs = 0;
    for (size_t at = 0; at + kRunHeaderBytes <= file.size();) {
        const Result<RunHeader> header = parse_run_header(file.subspan(at));
        if (!header || header->position != at || header->length < kPage) {
            at += kPage;  // zeros, the footer, or a recycled file's former content
            continue;
        }
        ++runs;
        text += fmt::format(
            "run at={} log={} segment={} length={} entries={} offsets=[{}, {}) max_timestamp={} "
            "written_ms={}",
            at, header->log.v, header->segment, header->length, header->entries,
            text_of(header->first), text_of(header->end), header->max_timestamp_ms,
            header->written_ms);
        const Result<RunView> view =
            header->length <= file.size() - at
                ? RunView::parse(file.subspan(at, header->length), true)
                : Result<RunView>(fail(ErrorCode::kCorrupt, "the file ends before it"));
        if (!view) {
            text += fmt::format(" BROKEN: {}\n", view.error().to_string());
            at += kPage;
            continue;
        }
        text += '\n';
        for (uint32_t i = 0; i < view->count(); ++i) {
            const RunView::Item item = view->item(i);
            text += fmt::format("    {} bytes={} at={}\n", text_of(item.info), item.payload_size,
                                at + item.payload_at);
        }
        at += header->length;
    }
    if (file.size() >= kTrailerBytes) {
        const Result<Trailer> trailer = parse_trailer(file.last(kTrailerBytes));
        text += trailer ? fmt::format("closed: footer at={} length={}\n", trailer->footer_position,
                                      trailer->footer_length)
                        : std::string("not closed: no footer at its end\n");
    }
    return text + fmt::format("{} runs, {} bytes\n", runs, file.size());
}

std::string describe_checkpoint(Bytes file) {
    const Result<Checkpoint> checkpoint = parse_checkpoint(file);
    if (!checkpoint) return fmt::format("BROKEN: {}\n", checkpoint.error().to_string());
    const CheckpointHeader& header = checkpoint->header;
    std::string text = fmt::format(
        "checkpoint generation={} shard={}/{} written_ms={}: replay begins at block {} of file "
        "{}\n",
        header.generation, header.shard, header.shards, header.written_ms, header.start_block,
        header.start_file);
    for (const auto& [id, snapshot] : checkpoint->logs) {
        const LogState& log = snapshot.log;
        text += fmt::format(
            "log {} offsets=[{}, {}) in segments below {} terms={} vote={}@{} state_bytes={} up to "
            "{}\n",
            id.v, log.start_offset, text_of(log.end), text_of(log.flushed_end), log.terms.size(),
            log.hard_state.voted_for, log.hard_state.term, snapshot.state.size(),
            text_of(snapshot.state_end));
    }
    return text + fmt::format("{} logs, {} bytes\n", checkpoint->logs.size(), file.size());
}

}  // namespace weir::storage
