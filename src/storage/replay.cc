#include "storage/replay.h"

#include <fmt/format.h>

#include <algorithm>

namespace weir::storage {
namespace {

std::unexpected<Error> contradiction(LogId log, uint64_t block, std::string_view what) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("journal block {}, log {}: {}", block, log.v, what));
}

void forget_state_beyond(ReplayedLog& log, Position end) {
    cut_state(end, &log.snapshot.state_end, log.snapshot.state_floor, &log.snapshot.state);
}

}  // namespace

Replay::Replay(std::map<LogId, LogSnapshot> logs) {
    for (auto& [id, snapshot] : logs) {
        ReplayedLog& log = logs_[id];
        log.snapshot = std::move(snapshot);
        LogState& state = log.snapshot.log;
        log.checkpoint_end = log.entries_from = state.end;
        // Until it caught up, `end` is how far the memory was filled again from the journal.
        state.end = state.flushed_end;
    }
}

Result<void> Replay::apply(const BlockHeader& header, Bytes block) {
    BlockReader reader(block);
    Record record;
    while (true) {
        TRY_ASSIGN(const bool more, reader.next(&record));
        if (!more) return {};
        TRY(apply_record(header.block_sequence, record));
    }
}

Result<void> Replay::apply_record(uint64_t block, const Record& record) {
    auto found = logs_.find(record.log);
    if (found == logs_.end()) {
        if (record.type != RecordType::kCreateLog) return {};  // of a log that was removed since
        ReplayedLog& log = logs_[record.log];
        log.snapshot.log.id = record.log;
        log.snapshot.applied_block = block;
        log.caught_up = true;
        return {};
    }
    ReplayedLog& log = found->second;
    if (block <= log.snapshot.applied_block && !log.caught_up)
        return apply_before_checkpoint(log, block, record);
    if (!log.caught_up) TRY(catch_up(log));
    if (record.type == RecordType::kRemoveLog) {
        logs_.erase(found);
        return {};
    }
    return apply_after_checkpoint(log, block, record);
}

// The checkpoint holds everything but the entries that were in memory alone: those are taken from
// here. Entries that were cut off later are taken too, if they fit, until the truncation comes by
// that cut them off.
Result<void> Replay::apply_before_checkpoint(ReplayedLog& log, uint64_t block,
                                             const Record& record) {
    LogState& state = log.snapshot.log;
    if (record.type == RecordType::kEntry && record.entry.first == state.end) {
        state.memory.push_back({record.entry, runtime::SharedBytes::copy_of(record.payload),
                                record.summary_bytes, block});
        state.memory_bytes += record.payload.size();
        state.end = record.entry.end();
    } else if (record.type == RecordType::kTruncateSuffix && record.position < state.end) {
        while (!state.memory.empty() && state.memory.back().info.first >= record.position) {
            state.memory_bytes -= state.memory.back().payload.size();
            state.memory.pop_back();
        }
        state.end = state.memory.empty() ? state.flushed_end : state.memory.back().info.end();
    }
    return {};
}

Result<void> Replay::catch_up(ReplayedLog& log) {
    LogState& state = log.snapshot.log;
    log.caught_up = true;
    // A truncation that was under way when the log was captured is in the checkpoint, but in a
    // later block.
    while (!state.memory.empty() && state.memory.back().info.first >= log.checkpoint_end) {
        state.memory_bytes -= state.memory.back().payload.size();
        state.memory.pop_back();
    }
    const Position reached =
        state.memory.empty() ? state.flushed_end : state.memory.back().info.end();
    if (reached != log.checkpoint_end) {
        return fail(
            ErrorCode::kCorrupt,
            fmt::format(
                "log {}: the journal has its entries up to {}.{}, the checkpoint says {}.{}",
                state.id.v, reached.offset, reached.ordinal, log.checkpoint_end.offset,
                log.checkpoint_end.ordinal));
    }
    state.end = log.checkpoint_end;
    return {};
}

Result<void> Replay::apply_after_checkpoint(ReplayedLog& log, uint64_t block,
                                            const Record& record) {
    LogState& state = log.snapshot.log;
    std::vector<Segment> removed;  // their files are found by the sweep after the start
    switch (record.type) {
        case RecordType::kEntry:
        case RecordType::kBypassedEntry: {
            if (record.entry.first != state.end)
                return contradiction(state.id, block, "an entry does not follow the log's end");
            const Bytes payload = record.type == RecordType::kEntry ? record.payload : Bytes{};
            if (log.bypassed && record.type == RecordType::kEntry)
                return contradiction(state.id, block, "an entry after one without its run");
            log.bypassed |= record.type == RecordType::kBypassedEntry;
            state.append({record.entry, runtime::SharedBytes::copy_of(payload),
                          record.summary_bytes, block});
            const Bytes summary =
                record.payload.first(std::min<size_t>(record.summary_bytes, record.payload.size()));
            log.entries.push_back({record.entry, {summary.begin(), summary.end()}});
            return {};
        }
        case RecordType::kRun: {
            const RunNote& run = record.run;
            const Segment* segment = state.find_segment(run.segment);
            const bool known = segment == nullptr || run.position < segment->data_end;
            if (known && run.bypass)
                return contradiction(state.id, block,
                                     "a bypassed run lies where its segment already has data");
            if (known) return {};  // the checkpoint had it, or its segment was removed since
            if (run.first != state.flushed_end || run.end > state.end)
                return contradiction(state.id, block, "a run does not follow its segment");
            state.add_run(run);
            if (state.flushed_end == state.end) log.bypassed = false;
            return {};
        }
        case RecordType::kSegmentOpened:
            state.open_segment(record.opened);
            return {};
        case RecordType::kSegmentClosed:
            state.close_segment(record.closed);
            return {};
        case RecordType::kSegmentReplaced: {
            const Segment* segment = state.find_segment(record.replaced.segment);
            if (segment != nullptr && (!segment->full || segment->end != record.replaced.end ||
                                       segment->base > record.replaced.base))
                return contradiction(state.id, block, "a segment's replacement is not like it");
            state.replace_segment(record.replaced, &removed);
            return {};
        }
        case RecordType::kTruncateSuffix:
            state.truncate_suffix(record.position, &removed);
            while (!log.entries.empty() && log.entries.back().info.first >= record.position)
                log.entries.pop_back();
            log.entries_from = std::min(log.entries_from, record.position);
            forget_state_beyond(log, record.position);
            return {};
        case RecordType::kTruncatePrefix: {
            const bool anew = record.position.offset > state.end.offset;
            state.truncate_prefix(record.position.offset, record.term_below, &removed);
            // What was removed below a start within the log still counts for the state machine.
            if (anew && log.entries_from < state.end) {
                log.entries.clear();
                log.entries_from = state.end;
            }
            // A state that can be taken back so far has what its owner keeps over a new start.
            if (anew && !log.snapshot.state.empty() && log.snapshot.state_floor >= 0)
                log.snapshot.state_end = state.end;
            return {};
        }
        case RecordType::kHardState:
            state.hard_state = record.hard_state;
            return {};
        case RecordType::kGroupConfig:
            state.group_config.assign(record.group_config.begin(), record.group_config.end());
            return {};
        case RecordType::kCreateLog:
        case RecordType::kRemoveLog:
            return {};
    }
    return {};
}

Result<void> Replay::finish() {
    for (auto& [id, log] : logs_) {
        if (!log.caught_up) TRY(catch_up(log));
        LogState& state = log.snapshot.log;
        if (log.bypassed)
            return fail(ErrorCode::kCorrupt,
                        fmt::format("log {}: its last entries are in no run", id.v));
        forget_state_beyond(log, state.end);
    }
    return {};
}

Result<std::vector<Replay::BypassedRun>> Replay::bypassed_runs(Bytes block) const {
    std::vector<BypassedRun> runs;
    std::map<std::pair<LogId, uint32_t>, int64_t> opened;  // by this very block
    BlockReader reader(block);
    Record record;
    while (true) {
        TRY_ASSIGN(const bool more, reader.next(&record));
        if (!more) return runs;
        if (record.type == RecordType::kSegmentOpened)
            opened[{record.log, record.opened.segment}] = record.opened.base.offset;
        if (record.type != RecordType::kRun || !record.run.bypass) continue;
        const auto log = logs_.find(record.log);
        if (log == logs_.end()) continue;
        BypassedRun run{record.log, record.run};
        const auto& segments = log->second.snapshot.log.segments;
        const auto known = std::find_if(segments.begin(), segments.end(), [&](const Segment& s) {
            return s.id == record.run.segment;
        });
        const auto here = opened.find({record.log, record.run.segment});
        if (known == segments.end() && here == opened.end())
            return contradiction(record.log, 0, "a run in a segment that was never opened");
        run.segment_base = here == opened.end() ? known->base.offset : here->second;
        runs.push_back(run);
    }
}

}  // namespace weir::storage
