#include "storage/log_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "runtime/copying.h"
#include "runtime/shard.h"
#include "storage/run_index.h"
#include "storage/shard_store.h"
#include "storage/trouble.h"

namespace weir::storage {

using runtime::SharedBytes;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;

namespace {

bool fits(const ReadLimits& limits, uint64_t size, bool first, const EntryInfo& info,
          size_t payload) {
    if (info.next_offset > limits.end_offset) return false;
    return size + payload <= limits.bytes_max || (first && limits.at_least_one);
}

// A read that finds its place gone looks again; truncations and retention are rare, so this often
// means that the log's state is wrong.
constexpr int kLooksMax = 8;

// The run at `at` of what was read. kCorrupt.
Task<Result<RunView>> checked_run(SharedBytes read, uint64_t at, uint64_t length, bool verify) {
    if (at + length > read.size())
        co_return fail(ErrorCode::kCorrupt, "the file ends before the run does");
    const Bytes run = read.bytes().subspan(at, length);
    if (!verify) co_return RunView::parse(run, false);
    RunCheck check(run);
    while (check.step()) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return check.result();
}

// Of the same bytes, in memory of its own.
Task<SharedBytes> copy_of(SharedBytes bytes) {
    runtime::IoBuffer copy = runtime::IoBuffer::allocate(bytes.size(), {}, 16);
    co_await runtime::copy_in_pieces(copy.all(), bytes.bytes());
    copy.set_size(bytes.size());
    co_return std::move(copy).share();
}

}  // namespace

bool LogReader::gather_memory(const ReadLimits& limits, int64_t* at, ReadResult* result) {
    const EntryQueue& memory = log_.state().memory;
    for (size_t i = memory.find(*at); i < memory.size(); ++i) {
        const MemoryEntry& entry = memory[i];
        if (entry.info.kind == EntryKind::kControl) continue;
        if (!fits(limits, result->size, result->parts.empty(), entry.info, entry.payload.size()))
            return false;
        if (result->parts.empty()) result->first_offset = entry.info.first.offset;
        result->size += entry.payload.size();
        result->parts.push_back(entry.payload);
        *at = result->next_offset = entry.info.next_offset;
    }
    return true;
}

bool LogReader::gather_run(const Run& run, const ReadLimits& limits, int64_t* at,
                           ReadResult* result) {
    auto view = RunView::parse(run.bytes.bytes(), false);
    CHECK(view.has_value());
    // Payloads lie back to back: adjacent ones make one part.
    size_t part_at = 0, part_size = 0;
    const auto flush = [&] {
        if (part_size > 0) result->parts.push_back(run.bytes.slice(part_at, part_size));
        part_size = 0;
    };
    bool more = true;
    for (uint32_t i = view->find(*at); i < view->count(); ++i) {
        const RunView::Item item = view->item(i);
        if (item.info.end() > run.place.end) break;
        if (item.info.kind == EntryKind::kControl) continue;
        const bool first = result->parts.empty() && part_size == 0;
        if (!fits(limits, result->size, first, item.info, item.payload_size)) {
            more = false;
            break;
        }
        if (first) result->first_offset = item.info.first.offset;
        if (part_size > 0 && part_at + part_size != item.payload_at) flush();
        if (part_size == 0) part_at = item.payload_at;
        part_size += item.payload_size;
        result->size += item.payload_size;
        *at = result->next_offset = item.info.next_offset;
    }
    flush();
    if (more) *at = std::max(*at, run.place.end.offset);
    return more;
}

Task<Result<ReadResult>> LogReader::read(int64_t offset, ReadLimits limits, StopToken stop) {
    const LogState& state = log_.state();
    ReadResult result;
    result.first_offset = result.next_offset = offset;
    if (offset < state.start_offset || offset > state.end.offset) {
        co_return fail(ErrorCode::kOutOfRange, fmt::format("offset {} is not in [{}, {}]", offset,
                                                           state.start_offset, state.end.offset));
    }
    int64_t at = offset;
    int looks = 0;
    const int64_t end = std::min(limits.end_offset, state.end.offset);
    while (at < end) {
        if (at >= state.flushed_end.offset) {
            gather_memory(limits, &at, &result);
            break;
        }
        // Who holds memory must not wait for more: the others may do the same.
        const bool waits = limits.at_least_one && result.parts.empty();
        Result<Run> got =
            co_await run_at(at, limits.bytes_max - std::min(result.size, limits.bytes_max),
                            waits ? Memory::kWait : Memory::kNow, stop);
        if (!got && !waits && got.error().code == ErrorCode::kResourceExhausted) {
            result.memory_was_short = true;
            break;
        }
        const Run run = co_await try_(std::move(got));
        if (run.bytes.empty()) {
            // Retention or a truncation went by. What is gathered is still right.
            if (!result.parts.empty()) break;
            if (at < state.start_offset || at > state.end.offset)
                co_return fail(ErrorCode::kOutOfRange, "the offset was removed meanwhile");
            if (++looks == kLooksMax)
                co_return fail(ErrorCode::kCorrupt,
                               fmt::format("log {} has no run for offset {}", log_.id().v, at));
            continue;
        }
        if (!gather_run(run, limits, &at, &result)) break;
        if (result.size >= limits.bytes_max) break;
    }
    if (offset < state.flushed_end.offset)
        store_.read_ahead().note_read(log_, offset, result.next_offset);
    co_return result;
}

std::vector<RunPlace> runs_in_one_read(const std::vector<RunPlace>& index,
                                       std::vector<RunPlace>::const_iterator first,
                                       uint64_t bytes_max) {
    std::vector<RunPlace> runs{*first};
    uint64_t bytes = first->length;
    for (auto next = first + 1; next != index.end(); ++next) {
        if (next->position != runs.back().next() || bytes + next->length > bytes_max) break;
        bytes += next->length;
        runs.push_back(*next);
    }
    return runs;
}

Task<Result<LogReader::Run>> LogReader::run_beyond(Position past, uint64_t bytes_wanted,
                                                   Memory memory, StopToken stop) {
    const int64_t offset = past.offset;
    LogState& state = log_.state();
    bool waited = false;
    while (true) {
        const Segment* segment = state.segment_beyond(past);
        if (segment == nullptr) co_return Run{};
        const uint32_t id = segment->id;
        if (segment->index == nullptr) {
            co_await try_(load_index(&store_, &log_, id));
            segment = state.find_segment(id);
            if (segment == nullptr || segment->index == nullptr) co_return Run{};
        }
        const std::vector<RunPlace>& index = *segment->index;
        const auto place = std::partition_point(
            index.begin(), index.end(), [&](const RunPlace& run) { return run.end <= past; });
        if (place == index.end() || place->first.offset > offset) co_return Run{};
        const RunKey key{log_.id(), id, place->position};
        if (SharedBytes cached = store_.cache().find(key); !cached.empty()) {
            ++store_.counters().cache_hits;
            co_return Run{*place, std::move(cached)};
        }
        RunsOnTheWay& on_the_way = store_.read_ahead().on_the_way();
        // Once: what came may have had to leave the cache again at once.
        if (on_the_way.contains(key) && !std::exchange(waited, true)) {
            co_await try_(on_the_way.wait(key, stop));
            continue;
        }
        ++store_.counters().cache_misses;
        // One read brings the runs that follow, if they lie behind it and somebody reads on.
        const bool reads_on = store_.read_ahead().is_sequential(log_.id(), offset);
        std::vector<RunPlace> runs = runs_in_one_read(
            index, place, reads_on ? kReadBytes : std::min(bytes_wanted, kReadBytes));
        runtime::MemoryBudget& budget = *store_.options().memory;
        // A run of one entry may be larger than the budget, and must be readable.
        const auto charge = [&budget](uint64_t bytes) { return std::min(bytes, budget.total()); };
        auto reservation = budget.reserve_now(charge(runs.back().next() - runs.front().position));
        if (!reservation && runs.size() > 1) {
            // While memory is short: what was asked for, and nothing besides.
            runs.erase(runs.begin() + 1, runs.end());
            reservation = budget.reserve_now(charge(runs.front().length));
        }
        if (!reservation && memory == Memory::kNow)
            co_return fail(ErrorCode::kResourceExhausted,
                           "no memory for a run of a segment just now");
        if (!reservation)
            reservation = co_await try_(budget.reserve(charge(runs.front().length), stop));
        // Not before there is memory: nobody waits for a run whose reader waits for memory.
        const auto claims = on_the_way.claim(log_.id(), id, runs);
        co_return co_await load(id, std::move(runs), std::move(*reservation), Errors::kTold);
    }
}

Task<Result<LogReader::Run>> LogReader::load(uint32_t id, std::vector<RunPlace> runs,
                                             runtime::Reservation reservation, Errors errors) {
    const Segment* segment = log_.state().find_segment(id);
    if (segment == nullptr) co_return Run{};
    const std::string path =
        segment_path(store_.options().directory, log_.id(), segment->base.offset, id);
    const uint64_t position = runs.front().position;
    const uint64_t length = runs.back().next() - position;
    auto pin = co_await store_.files().pin({log_.id(), id}, path,
                                           runtime::kOpenRead | runtime::kOpenWrite);
    if (!pin) {
        if (log_.state().find_segment(id) == nullptr) co_return Run{};  // and so its file is gone
        if (errors == Errors::kTold && is_damage(pin.error()))
            log_.found_damage(pin.error(), false);
        co_return fail(std::move(pin).error());
    }
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(length, std::move(reservation));
    Result<size_t> read = co_await pin->file().read(position, buffer.all());
    // A device that fails once may not fail again.
    if (!read && read.error().code == ErrorCode::kIo)
        read = co_await pin->file().read(position, buffer.all());
    if (!read && errors == Errors::kTold && is_damage(read.error()))
        log_.found_damage(Error(read.error()).with(path), false);
    const size_t filled = co_await try_(std::move(read));
    buffer.set_size(filled);
    ++store_.counters().segment_reads;
    store_.counters().segment_read_bytes += filled;
    const SharedBytes all = std::move(buffer).share();
    std::vector<Result<RunView>> views;
    for (const RunPlace& run : runs)
        views.push_back(co_await checked_run(all, run.position - position, run.length,
                                             !store_.bugs().skip_block_checksum));
    // It may have been removed meanwhile: what is read of it now has nowhere to go.
    segment = log_.state().find_segment(id);
    if (segment == nullptr) co_return Run{};
    Run wanted;
    for (size_t k = 0; k < runs.size(); ++k) {
        const RunPlace& run = runs[k];
        Result<RunView>& view = views[k];
        const uint64_t at = run.position - position;
        const bool right =
            view && view->header().log == log_.id() && view->header().segment == id &&
            view->header().position == run.position && view->header().length == run.length;
        if (!right) {
            if (run.position != position) break;  // told when somebody asks for it
            Error error = view ? Error{ErrorCode::kCorrupt, "the run of another place", 0}
                               : std::move(view).error();
            error = std::move(error).with(fmt::format("{} at {}", path, run.position));
            if (errors == Errors::kTold) {
                ++store_.counters().corruptions;
                runtime::Shard::current().log().error("storage", "damaged run", "{}",
                                                      error.message);
                log_.found_damage(error, false);
            }
            co_return fail(std::move(error));
        }
        SharedBytes bytes = all.slice(at, run.length);
        if (run.position == position) wanted = {run, bytes};
        store_.cache().insert({log_.id(), id, run.position}, std::move(bytes));
    }
    // It may have been truncated while it was read.
    if (segment->index == nullptr) co_return Run{};
    const auto still = std::find_if(segment->index->begin(), segment->index->end(),
                                    [&](const RunPlace& run) { return run.position == position; });
    if (still == segment->index->end()) co_return Run{};
    wanted.place = *still;
    co_return wanted;
}

Task<Result<std::vector<FoundEntry>>> LogReader::read_entries(Position from,
                                                              ReadEntriesLimits limits,
                                                              StopToken stop) {
    const LogState& state = log_.state();
    std::vector<FoundEntry> entries;
    uint64_t size = 0;
    const auto take = [&](const EntryInfo& info, const SharedBytes& payload, uint32_t summary) {
        if (info.end() > limits.end) return false;
        if (!entries.empty() &&
            (size + payload.size() > limits.bytes_max || entries.size() == limits.entries_max))
            return false;
        size += payload.size();
        entries.push_back({info, payload, summary});
        return true;
    };
    Position at = from;
    int looks = 0;
    const auto in_log = [&] { return Position{state.start_offset, 0} <= at && at <= state.end; };
    while (true) {
        if (!in_log()) {
            // What is gathered is still right.
            if (!entries.empty()) break;
            co_return fail(ErrorCode::kOutOfRange, "the position is not in the log");
        }
        if (at >= std::min(limits.end, state.end)) break;
        if (at >= state.flushed_end) {
            const EntryQueue& memory = state.memory;
            for (size_t i = memory.find(at); i < memory.size(); ++i) {
                ++store_.counters().entries_looked_at;
                if (!take(memory[i].info, memory[i].payload, memory[i].summary_bytes)) break;
            }
            break;
        }
        Result<Run> got =
            co_await run_beyond(at, limits.bytes_max - std::min(size, limits.bytes_max),
                                entries.empty() ? Memory::kWait : Memory::kNow, stop);
        if (!got && !entries.empty() && got.error().code == ErrorCode::kResourceExhausted) break;
        const Run run = co_await try_(std::move(got));
        if (run.bytes.empty()) {
            if (++looks == kLooksMax)
                co_return fail(ErrorCode::kCorrupt,
                               fmt::format("log {} has no run for position {}.{}", log_.id().v,
                                           at.offset, at.ordinal));
            continue;
        }
        auto view = RunView::parse(run.bytes.bytes(), false);
        CHECK(view.has_value());
        bool more = true;
        for (uint32_t i = 0; more && i < view->count(); ++i) {
            const RunView::Item item = view->item(i);
            if (item.info.end() > run.place.end) break;
            if (item.info.end() <= at) continue;
            more = take(item.info, run.bytes.slice(item.payload_at, item.payload_size),
                        item.summary_bytes);
            if (more) at = item.info.end();
        }
        if (!more || size >= limits.bytes_max) break;
        at = std::max(at, run.place.end);
    }
    if (from < state.flushed_end) store_.read_ahead().note_read(log_, from.offset, at.offset);
    co_return entries;
}

Task<Result<void>> LogReader::replay_from(Position from,
                                          std::vector<RecoveredState::Replayed>* into) {
    const LogState& state = log_.state();
    for (size_t s = 0; s < state.segments.size(); ++s) {
        if (state.segments[s].end <= from) continue;
        const uint32_t id = state.segments[s].id;
        co_await try_(load_index(&store_, &log_, id));
        const std::vector<RunPlace> index = *state.segments[s].index;
        for (const RunPlace& place : index) {
            if (place.end <= from) continue;
            // At the start, before anything is served: nobody else holds memory for long.
            runtime::MemoryBudget& budget = *store_.options().memory;
            runtime::Reservation reservation =
                co_await try_(budget.reserve(std::min<uint64_t>(place.length, budget.total())));
            const Run run = co_await try_(load(id, {place}, std::move(reservation), Errors::kTold));
            auto view = RunView::parse(run.bytes.bytes(), false);
            CHECK(view.has_value());
            for (uint32_t i = 0; i < view->count(); ++i) {
                const RunView::Item item = view->item(i);
                if (item.info.end() <= from || item.info.end() > place.end) continue;
                const Bytes summary =
                    run.bytes.bytes().subspan(item.payload_at, item.summary_bytes);
                into->push_back({item.info, {summary.begin(), summary.end()}});
            }
        }
    }
    for (size_t i = 0; i < state.memory.size(); ++i) {
        const MemoryEntry& entry = state.memory[i];
        if (entry.info.end() <= from) continue;
        const Bytes summary = entry.payload.bytes().first(entry.summary_bytes);
        into->push_back({entry.info, {summary.begin(), summary.end()}});
    }
    co_return Result<void>{};
}

template <class Accept>
std::optional<FoundEntry> LogReader::search_run(const Run& run, int64_t end_offset, Accept accept) {
    auto view = RunView::parse(run.bytes.bytes(), false);
    CHECK(view.has_value());
    std::optional<FoundEntry> found;
    for (uint32_t i = 0; i < view->count(); ++i) {
        const RunView::Item item = view->item(i);
        if (item.info.end() > run.place.end || item.info.next_offset > end_offset) break;
        if (item.info.kind == EntryKind::kControl || item.info.next_offset <= log_.start_offset())
            continue;
        if (!accept(item.info)) continue;
        found = FoundEntry{item.info, run.bytes.slice(item.payload_at, item.payload_size),
                           item.summary_bytes};
    }
    return found;
}

Task<Result<std::optional<FoundEntry>>> LogReader::find_timestamp(int64_t timestamp_ms,
                                                                  int64_t end_offset) {
    const LogState& state = log_.state();
    bool done = false;
    const auto accept = [&](const EntryInfo& info) {
        if (done || info.max_timestamp_ms < timestamp_ms) return false;
        return done = true;
    };
    int64_t at = state.start_offset;
    while (at < std::min(end_offset, state.flushed_end.offset)) {
        // Whole segments and runs below the timestamp are passed over without reading them.
        const auto segment =
            std::partition_point(state.segments.begin(), state.segments.end(),
                                 [&](const Segment& s) { return s.end.offset <= at; });
        if (segment == state.segments.end()) break;
        if (segment->max_timestamp_ms < timestamp_ms) {
            at = segment->end.offset;
            continue;
        }
        const uint32_t id = segment->id;
        co_await try_(load_index(&store_, &log_, id));
        const Segment* loaded = log_.state().find_segment(id);
        if (loaded == nullptr || loaded->index == nullptr) {
            at = std::max(at, state.start_offset);
            continue;
        }
        const auto run =
            std::find_if(loaded->index->begin(), loaded->index->end(), [&](const RunPlace& r) {
                return r.end.offset > at && r.max_timestamp_ms >= timestamp_ms;
            });
        if (run == loaded->index->end()) {
            at = std::max(at + 1, loaded->end.offset);
            continue;
        }
        at = std::max(at, run->first.offset);
        const int64_t run_end = run->end.offset;
        Run loaded_run = co_await try_(run_at(at, 0, Memory::kWait, {}));
        if (loaded_run.bytes.empty()) {
            at = std::max(at, state.start_offset);
            continue;
        }
        auto found = search_run(loaded_run, end_offset, accept);
        if (found) co_return found;
        at = std::max(at + 1, run_end);
    }
    const EntryQueue& memory = state.memory;
    for (size_t i = 0; i < memory.size(); ++i) {
        const EntryInfo& info = memory[i].info;
        if (info.next_offset > end_offset) break;
        if (info.kind == EntryKind::kControl || info.next_offset <= state.start_offset ||
            !accept(info))
            continue;
        co_return FoundEntry{info, memory[i].payload, memory[i].summary_bytes};
    }
    co_return std::nullopt;
}

Task<Result<std::optional<FoundEntry>>> LogReader::find_max_timestamp(int64_t end_offset) {
    // What was found first may be removed while the rest is searched.
    for (int look = 1;; ++look) {
        const int64_t start = log_.start_offset();
        auto found = co_await search_max_timestamp(end_offset);
        if (!found || log_.start_offset() == start || look == kLooksMax) co_return found;
    }
}

Task<Result<std::optional<FoundEntry>>> LogReader::search_max_timestamp(int64_t end_offset) {
    const LogState& state = log_.state();
    std::optional<FoundEntry> best;
    int64_t largest = -1;
    // Backwards, so that with timestamps that grow only the last run is read. The first of equal
    // ones wins.
    const EntryQueue& memory = state.memory;
    for (size_t i = memory.size(); i > 0; --i) {
        const EntryInfo& info = memory[i - 1].info;
        if (info.kind == EntryKind::kControl || info.next_offset > end_offset ||
            info.next_offset <= state.start_offset)
            continue;
        if (info.max_timestamp_ms < largest) continue;
        largest = info.max_timestamp_ms;
        best = FoundEntry{info, memory[i - 1].payload, memory[i - 1].summary_bytes};
    }
    int64_t below = std::min(end_offset, state.flushed_end.offset);
    int looks = 0;
    while (below > state.start_offset) {
        const auto after =
            std::partition_point(state.segments.begin(), state.segments.end(),
                                 [&](const Segment& s) { return s.base.offset < below; });
        if (after == state.segments.begin()) break;
        const Segment& segment = *(after - 1);
        if (segment.max_timestamp_ms < largest) {
            below = segment.base.offset;
            continue;
        }
        const uint32_t id = segment.id;
        co_await try_(load_index(&store_, &log_, id));
        const Segment* loaded = log_.state().find_segment(id);
        if (loaded == nullptr || loaded->index == nullptr) continue;
        const int64_t base = loaded->base.offset;
        int64_t next = base;
        for (auto run = loaded->index->rbegin(); run != loaded->index->rend(); ++run) {
            if (run->first.offset >= below || run->max_timestamp_ms < largest) continue;
            next = run->first.offset;
            break;
        }
        if (next >= state.start_offset || base < state.start_offset) {
            Run run =
                co_await try_(run_at(std::max(next, state.start_offset), 0, Memory::kWait, {}));
            // It was removed, or its segment gave way to another with the same entries.
            if (run.bytes.empty() && ++looks < kLooksMax) continue;
            if (!run.bytes.empty()) {
                int64_t in_run = -1;
                auto found = search_run(run, end_offset, [&](const EntryInfo& info) {
                    if (info.max_timestamp_ms <= in_run) return false;
                    in_run = info.max_timestamp_ms;
                    return true;
                });
                if (found && found->info.max_timestamp_ms >= largest) {
                    largest = found->info.max_timestamp_ms;
                    // A copy: the run's memory must not be held while the next one is waited for.
                    best = FoundEntry{found->info, co_await copy_of(std::move(found->payload)),
                                      found->summary_bytes};
                }
            }
        }
        below = std::min(below - 1, next);
    }
    co_return best;
}

}  // namespace weir::storage
