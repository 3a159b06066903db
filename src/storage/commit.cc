#include "storage/commit.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

void Committer::start(uint64_t durable_block) {
    durable_block_ = durable_block;
    memory_ = runtime::IoBuffer::allocate(store_.limits().block_bytes_max);
}

void Committer::enqueue(PartitionLog& log) {
    if (!log.commit_hook.linked()) queue_.push_back(log.commit_hook);
    if (busy_) {
        stage(log);
    } else {
        work_.notify_one();
    }
}

Task<void> Committer::run(runtime::StopToken stop) {
    while (!store_.failed()) {
        collect();
        if (items_.empty()) {
            progress_.notify_all();
            if (stop.stop_requested()) break;
            if (!co_await wait_for_work(stop)) break;
            continue;
        }
        busy_ = true;
        Result<void> written = co_await write_and_flush();
        busy_ = false;
        if (written) {
            complete();
            progress_.notify_all();
        } else if (store_.stopping() && written.error().code == ErrorCode::kUnavailable) {
            break;  // there is no place in the journal, and nobody makes one any more
        } else {
            store_.fail_store(written.error());
        }
    }
    // What a full disk did not let through before the end was not acknowledged.
    ended_ = true;
    give_up(store_.usable().error());
    progress_.notify_all();
}

// After a pause the journal's mark says how far the last blocks came. False: that failed.
Task<bool> Committer::wait_for_work(runtime::StopToken stop) {
    JournalWriter& journal = store_.journal();
    const bool marks = journal.wants_mark();
    const Instant deadline =
        marks ? runtime::Shard::current().now() + store_.mark_pause() : Instant::never();
    const auto woken = co_await work_.wait({.deadline = deadline, .stop = stop});
    if (!marks || woken || woken.error().code != ErrorCode::kTimedOut || store_.failed())
        co_return true;
    const Result<void> marked = co_await journal.mark();
    if (!marked) store_.fail_store(marked.error());
    ++store_.counters().journal_marks;
    co_return marked.has_value();
}

Task<void> Committer::drain() {
    while ((busy_ || !queue_.empty()) && !ended_ && !store_.admission().is_short())
        (void)co_await progress_.wait();
}

void Committer::collect() {
    items_.clear();
    builder_.start(memory_.all());
    bypass_budget_ = store_.options().commit_bytes_max;
    bool full = false;
    IntrusiveList<LogHook> again;  // taken in part: they come after the others next time
    queue_.for_each([&](LogHook& hook) {
        PartitionLog& log = hook.log;
        if (full || log.held()) return;
        full = !collect_from(log);
        hook.unlink();
        if (log.has_pending()) again.push_back(hook);
    });
    while (!again.empty()) queue_.push_back(again.pop_front());
}

bool Committer::collect_from(PartitionLog& log) {
    constexpr size_t kLeast = kGroupHeaderBytes + kEntryHeaderBytes;
    const size_t records_bytes = log.pending_records().size();
    CHECK(records_bytes + 2 * kLeast + kBlockHeaderBytes < memory_.capacity());
    if (builder_.room() < records_bytes + kLeast) return false;
    Item item{.log = &log, .end = log.durable_end(), .records = log.records_queued()};
    builder_.begin_group(log.id());
    const uint32_t record_count = log.pending_record_count();
    builder_.add_records(log.pending_records(), record_count);
    size_t taken = 0;
    if (log.pending_entries() > 0) {
        const bool large =
            log.pending_bytes() >= store_.limits().bypass_bytes_min || !log.staged.runs.empty() ||
            !store_.limits().fits_inline(log.state().memory[log.first_pending()].payload.size());
        log.streaming = large;
        const Bypass bypass = large ? try_bypass(log, &item, &taken) : Bypass::kInline;
        if (bypass == Bypass::kInline) {
            log.staged = {};
            taken = add_entries(log, &item);
        }
    }
    builder_.end_group();
    if (taken == 0 && record_count == 0)
        return true;  // it has to wait for its segment; others need not
    const bool bypassing = item.bypasses();
    item.entries = taken;
    log.moved_to_block(taken, item.bytes, store_.journal().next_block(), bypassing);
    items_.push_back(std::move(item));
    return bypassing || log.pending_entries() == 0 ||
           builder_.room() > store_.limits().inline_bytes_max;
}

// A run costs a copy and a checksum of its bytes: time that the disk would otherwise stand still
// between two commits. Only behind a bypass: then it is known where the next one goes, and that it
// begins with the first entry that waits.
void Committer::stage(PartitionLog& log) {
    StagedRuns& staged = log.staged;
    if (!log.bypassing() || log.held() ||
        log.pending_bytes() - staged.payload_bytes < store_.limits().stage_bytes ||
        log.pending_bytes() > store_.options().commit_bytes_max / 2)
        return;
    const LogState& state = log.state();
    const Segment& segment = state.segments.back();
    const RunPlan plan =
        plan_runs(state.memory, log.first_pending() + staged.entries, state.memory.size(),
                  store_.limits().run_bytes, staged.next_position);
    if (segment.id != staged.segment || staged.next_position + plan.length > segment.allocated)
        return;
    for (const PlannedRun& planned : plan.runs) {
        auto run = build_small_run(*store_.options().memory, state, staged.segment, planned, true);
        if (!run) return;
        staged.next_position += planned.length;
        staged.length += planned.length;
        staged.entries += run->note.entries;
        staged.payload_bytes += run->note.payload_bytes;
        staged.runs.push_back(std::move(*run));
    }
}

size_t Committer::add_entries(PartitionLog& log, Item* item) {
    LogState& state = log.state();
    size_t taken = 0;
    for (size_t i = log.first_pending(); i < state.memory.size(); ++i) {
        const MemoryEntry& entry = state.memory[i];
        // Only its segment can take it: the next commit asks for that.
        if (!store_.limits().fits_inline(entry.payload.size())) break;
        if (kEntryHeaderBytes + entry.payload.size() > builder_.room()) break;
        builder_.add_entry(entry.info, entry.payload.bytes(), entry.summary_bytes);
        item->end = entry.info.end();
        item->bytes += entry.payload.size();
        ++taken;
    }
    return taken;
}

Committer::Bypass Committer::try_bypass(PartitionLog& log, Item* item, size_t* taken) {
    LogState& state = log.state();
    Segment* segment = state.active();
    if (bypass_budget_ == 0) return Bypass::kLater;
    if (log.moving()) return Bypass::kInline;
    const size_t first_pending = log.first_pending();
    if (state.memory_bytes - log.pending_bytes() > kStreamBacklogMax) {
        store_.handover().ask(log);
        return Bypass::kInline;
    }
    // Everything in memory goes, in order, up to the budget; at least one entry that waits.
    const size_t entries_max =
        builder_.room() / (2 * (kEntryHeaderBytes + kSummaryBytesMax + kRunNoteBytes));
    if (entries_max == 0) return Bypass::kLater;
    size_t entries = first_pending;
    uint64_t pending_bytes = 0;
    for (; entries < state.memory.size(); ++entries) {
        const size_t size = state.memory[entries].payload.size();
        if (entries > first_pending &&
            (pending_bytes + size > bypass_budget_ || entries - first_pending >= entries_max))
            break;
        pending_bytes += size;
    }
    if (!log.staged.fit(state, entries)) log.staged = {};
    const uint64_t position = segment == nullptr ? 0 : segment->data_end + log.staged.length;
    RunPlan plan;
    if (log.staged.entries < entries) {
        plan = plan_runs(state.memory, log.staged.entries, entries, store_.limits().run_bytes,
                         position);
    }
    const uint64_t length = log.staged.length + plan.length;
    // An open segment, with room in its file and below its largest size.
    uint64_t room = 0;
    const bool has_place =
        segment != nullptr &&
        (segment->data_end == 0 || segment->data_end + length <= log.config().segment_bytes);
    if (has_place && segment->allocated > segment->data_end) {
        item->segment = store_.files().try_pin({log.id(), segment->id});
        if (item->segment) room = segment->allocated - segment->data_end;
    }
    store_.handover().bypass_needs(log, room, length);
    if (room < length) {
        item->segment.release();
        return Bypass::kInline;
    }

    for (size_t i = first_pending; i < entries; ++i) {
        const MemoryEntry& entry = state.memory[i];
        builder_.add_bypassed(entry.info, static_cast<uint32_t>(entry.payload.size()),
                              entry.payload.bytes().first(entry.summary_bytes));
    }
    if (!store_.bugs().lose_run_record)
        item->notes_at =
            builder_.reserve_runs(static_cast<uint32_t>(log.staged.runs.size() + plan.runs.size()));
    item->segment_id = segment->id;
    item->runs = std::move(log.staged.runs);
    const uint64_t staged_bytes = log.staged.payload_bytes;
    item->plan = std::move(plan);
    log.staged = {.segment = segment->id, .next_position = segment->data_end + length};
    item->bytes = pending_bytes;
    item->end = state.memory[entries - 1].info.end();
    *taken = entries - first_pending;
    bypass_budget_ -= std::min(bypass_budget_, pending_bytes);
    store_.counters().bypass_bytes += pending_bytes;
    store_.counters().staged_bytes += staged_bytes;
    return Bypass::kTaken;
}

Task<Result<void>> Committer::write_and_flush() {
    JournalWriter& journal = store_.journal();
    co_await try_(journal.make_room(round_to_page(builder_.size()), {}));
    const uint64_t size = round_to_page(builder_.size());
    const bool bypass = std::ranges::any_of(items_, &Item::bypasses);
    if (bypass) {
        co_await try_(write_beside_runs());
    } else {
        co_await try_(journal.write(builder_.finish(journal.next_header())));
    }
    if (store_.bugs().acknowledge_before_flush) complete();
    if (bypass) {
        if (store_.bugs().acknowledge_bypass_before_segment_flush) {
            co_await try_(journal.sync());
            complete();
        }
        co_await try_(flush_all());
    } else {
        co_await try_(journal.sync());
    }
    journal.advance(size);
    store_.counters().journal_bytes += size;
    co_return Result<void>{};
}

namespace {

Task<void> write_part(runtime::File* file, uint64_t position, Bytes bytes,
                      Result<void>* first_error) {
    Result<void> written = co_await file->write(position, bytes);
    if (!written && *first_error) *first_error = std::move(written);
}

}  // namespace

// Each run is on its way to the disk while the next one is laid out; the block, which holds their
// checksums, is the last.
Task<Result<void>> Committer::write_beside_runs() {
    Result<void> result;
    runtime::Scope writes;
    bool busy = false;
    for (Item& item : items_) {
        item.runs.reserve(item.runs.size() + item.plan.runs.size());
        const auto write = [&](const BuiltRun& run) {
            const auto index = static_cast<size_t>(&run - item.runs.data());
            if (item.notes_at != 0)
                builder_.set_run(item.notes_at + index * kRunNoteBytes, run.note);
            writes.spawn(
                write_part(&item.segment.file(), run.note.position, run.buffer.filled(), &result));
        };
        for (const BuiltRun& run : item.runs) write(run);
        busy |= !item.runs.empty();
        for (const PlannedRun& planned : item.plan.runs) {
            if (std::exchange(busy, true)) co_await runtime::yield();
            item.runs.push_back(co_await build_planned_run(
                *store_.options().memory, item.log->state(), item.segment_id, planned, true));
            write(item.runs.back());
        }
    }
    JournalWriter& journal = store_.journal();
    Result<void> written = co_await journal.write(builder_.finish(journal.next_header()));
    co_await writes.join();
    co_await try_(std::move(result));
    co_return written;
}

Task<Result<void>> Committer::flush_all() {
    std::vector<Task<Result<void>>> flushes;
    for (Item& item : items_) {
        if (item.bypasses()) flushes.push_back(item.segment.file().sync());
    }
    if (flushes.empty()) co_return Result<void>{};
    flushes.push_back(store_.journal().sync());
    for (Result<void>& flushed : co_await runtime::all(std::move(flushes)))
        co_await try_(std::move(flushed));
    co_return Result<void>{};
}

void Committer::complete() {
    StoreMetrics& metrics = store_.counters();
    ++metrics.journal_commits;
    durable_block_ = store_.journal().next_block() - 1;
    uint64_t bytes = 0, entries = 0;
    for (Item& item : items_) {
        bytes += item.bytes;
        entries += item.entries;
        for (BuiltRun& run : item.runs) item.log->run_added(run.note, std::move(run).share());
        item.segment.release();
        item.log->committed(item.end, item.records);
    }
    items_.clear();
    store_.admission().committed(bytes, entries);
    store_.handover().after_commit();
}

void Committer::give_up(const Error& error) {
    for (Item& item : items_) item.log->commit_failed(error);
    items_.clear();
    for (auto& [id, log] : store_.all_logs()) log->commit_failed(error);
}

}  // namespace weir::storage
