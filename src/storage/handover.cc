#include "storage/handover.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "runtime/shard.h"
#include "storage/run_index.h"
#include "storage/shard_store.h"
#include "storage/trouble.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

namespace {

constexpr uint64_t kWriteBytesMax = 4_MiB;     // one write of a hand-over
constexpr uint64_t kMoveUnitsMin = 512_KiB;    // bounds how many small ones run at once
constexpr uint64_t kSegmentChunkMin = 64_KiB;  // small, so that many small partitions stay cheap
constexpr uint64_t kSegmentChunkMax = 64_MiB;

uint64_t chunk_for(uint64_t data_end, uint64_t length) {
    return std::max(round_to_page(length),
                    std::clamp(round_to_page(data_end), kSegmentChunkMin, kSegmentChunkMax));
}

}  // namespace

// Sorted by the block of their oldest entry. That of a log which is listed may have left the memory
// since (a bypass): then the log is further in front than it needs to be, until oldest() sees it.
void Handover::linger(PartitionLog& log) {
    LogHook& hook = log.memory_hook;
    if (hook.linked() && !log.set_aside) return;
    if (log.moving() || log.held()) {
        set_aside(log);
        return;
    }
    hook.unlink();
    log.set_aside = false;
    log.oldest_block = log.state().memory.front().block;
    lingering_.insert_sorted(hook, [this](const LogHook& before, const LogHook& hook_of_log) {
        ++store_.counters().logs_looked_at;
        return before.log.oldest_block <= hook_of_log.log.oldest_block;
    });
}

// Somebody writes to its segment or is about to cut it: it is listed again when that ends.
void Handover::set_aside(PartitionLog& log) {
    log.handover_hook.unlink();
    if (log.memory_hook.linked() && log.set_aside) return;
    log.memory_hook.unlink();
    log.set_aside = true;
    busy_.push_back(log.memory_hook);
}

PartitionLog* Handover::oldest() {
    while (!lingering_.empty()) {
        PartitionLog& log = lingering_.front().log;
        ++store_.counters().logs_looked_at;
        const EntryQueue& memory = log.state().memory;
        if (!memory.empty() && memory.front().block == log.oldest_block) return &log;
        log.memory_hook.unlink();
        if (log.has_unflushed_durable()) linger(log);
    }
    return nullptr;
}

uint64_t Handover::oldest_block() {
    PartitionLog* log = oldest();
    uint64_t block = log == nullptr ? UINT64_MAX : log->oldest_block;
    // As many as are moved or cut at a time.
    busy_.for_each([&](const LogHook& hook) {
        ++store_.counters().logs_looked_at;
        const EntryQueue& memory = hook.log.state().memory;
        if (!memory.empty() && memory.front().block != 0)
            block = std::min(block, memory.front().block);
    });
    return block;
}

void Handover::consider(PartitionLog& log) {
    // It may have been the last one that needed an old file of the journal.
    if (store_.checkpoints().short_of_space()) store_.wake_maintenance();
    if (!log.has_unflushed_durable()) {
        if (log.set_aside) {
            log.memory_hook.unlink();
            log.set_aside = false;
        }
        return;
    }
    linger(log);
    const uint64_t bytes = log.unflushed_durable_bytes();
    if (bytes >= (log.streaming ? kStreamBacklogMax : store_.limits().handover_bytes)) ask(log);
}

void Handover::ask(PartitionLog& log) {
    if (log.handover_hook.linked()) return;
    due_.push_back(log.handover_hook);
    store_.wake_maintenance();
}

void Handover::give_way() {
    if (lingering_.empty() || paused_ || std::exchange(gives_way_, true)) return;
    store_.wake_maintenance();
}

bool Handover::memory_is_short() const {
    return gives_way_ ||
           store_.metrics().unflushed_bytes > store_.options().unflushed_bytes_max / 2;
}

void Handover::after_commit() {
    if (memory_is_short() && !paused_) store_.wake_maintenance();
}

PartitionLog* Handover::next(uint64_t old_block) {
    if (!due_.empty()) return &due_.front().log;
    PartitionLog* log = oldest();
    if (log == nullptr) return nullptr;
    return memory_is_short() || log->oldest_block < old_block ? log : nullptr;
}

Task<void> Handover::run(uint64_t old_block) {
    runtime::Scope moving;
    while (!store_.failed() && !paused_) {
        PartitionLog* log = next(old_block);
        gives_way_ = false;
        if (log == nullptr) break;
        set_aside(*log);
        // Busy with a bypass or a truncation: it is considered again when that ends.
        if (log->moving() || log->held() || log->removing()) continue;
        auto inside = log->gate().try_enter();
        auto units = co_await moves_.acquire(
            std::clamp(log->unflushed_durable_bytes(), kMoveUnitsMin, kWriteBytesMax));
        CHECK(units.has_value());
        moving.spawn(move_and_report(log, std::move(*inside), std::move(*units)));
    }
    co_await moving.join();
}

Task<void> Handover::move_and_report(PartitionLog* log, runtime::Gate::Holder, runtime::Units) {
    Result<void> moved = co_await move(log);
    if (!moved) report(*log, moved.error());
    consider(*log);
}

Task<void> Handover::move_idle(PartitionLog* log) {
    auto units = co_await moves_.acquire(
        std::clamp(log->unflushed_durable_bytes(), kMoveUnitsMin, kWriteBytesMax),
        {.stop = store_.stop_token()});
    if (!units || paused_ || log->moving() || log->held() || log->removing()) co_return;
    set_aside(*log);
    // Nobody reads it just now.
    Result<void> moved = co_await move(log, Cached::kNo);
    if (!moved) report(*log, moved.error());
    consider(*log);
}

void Handover::report(PartitionLog& log, const Error& error) {
    const Shortage shortage = shortage_of(error);
    if (shortage != Shortage::kNone) {
        store_.admission().set_shortage(FullPart::kSegments, shortage);
        if (!std::exchange(paused_, true)) store_.spawn_background(go_on_after_a_while());
    } else if (is_damage(error)) {
        if (store_.bugs().one_bad_file_ends_store) store_.fail_store(error);
        log.found_damage(error, false);
    }
}

// Nothing that was durable is lost yet: it is in memory and in the journal, and would stay there
// for ever if there were no other place for it. So it goes to a new segment; what the damaged one
// held may be lost, and the log takes no more. Two files that fail are the device's fault, and so
// the node's.
Task<void> Handover::leave_segment(PartitionLog* log, Error error) {
    CHECK(log->moving());
    if (store_.bugs().one_bad_file_ends_store) store_.fail_store(error);
    log->found_damage(error, true);
    log->staged = {};
    LogState& state = log->state();
    const Segment* active = state.active();
    if (active != nullptr) {
        const SegmentClosed left{.segment = active->id, .footer_position = active->data_end};
        state.close_segment(left);
        log->queue_record([&left](std::vector<uint8_t>& to) { append_segment_closed(to, left); });
    }
    const bool of_the_name = error.os_errno == ENOENT || error.os_errno == ENOTDIR ||
                             error.os_errno == ELOOP || error.os_errno == EACCES;
    ++log->segments_left;
    if (log->segments_left == 1) co_return;
    if (log->segments_left > 2 || !of_the_name) {
        store_.fail_store(error);
        co_return;
    }
    // What stands in the place of the log's directory is none.
    const std::string directory = log_directory(store_.options().directory, log->id());
    (void)co_await runtime::rename_path(
        directory,
        fmt::format("{}.damaged-{}", directory, runtime::Shard::current().wall_now().ms));
}

// A task of its own: the one that hands over may be waiting for a checkpoint, and that for a commit
// that waits for its segment.
Task<void> Handover::go_on_after_a_while() {
    (void)co_await runtime::sleep_for(kShortagePause, store_.stop_token());
    paused_ = false;
    // Perhaps there is space again; who finds none says so.
    store_.admission().set_shortage(FullPart::kSegments, Shortage::kNone);
    store_.commits().wake();
    store_.wake_maintenance();
}

Task<Result<void>> Handover::move(PartitionLog* log, Cached cached) {
    auto inside = log->gate().try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable);
    if (log->moving() || log->held() || !log->has_unflushed_durable()) co_return Result<void>{};
    log->set_moving(true);
    Result<void> moved = co_await move_durable(log, cached);
    while (!moved && is_damage(moved.error()) && !store_.failed()) {
        co_await leave_segment(log, moved.error());
        if (!store_.failed()) moved = co_await move_durable(log, cached);
    }
    if (moved) log->segments_left = 0;
    log->set_moving(false);
    if (store_.failed()) co_return fail(ErrorCode::kUnavailable, "the store failed");
    co_return moved;
}

Task<Result<void>> Handover::move_durable(PartitionLog* log, Cached cached) {
    LogState& state = log->state();
    const Position target = log->durable_end();
    while (state.flushed_end < target) {
        const uint64_t segment_bytes = log->config().segment_bytes;
        Segment* active = state.active();
        uint64_t space = segment_bytes;
        if (active != nullptr && active->data_end > 0 && active->data_end < segment_bytes)
            space = segment_bytes - active->data_end;
        const size_t entries = entries_that_fit(
            state.memory, target, std::min(kWriteBytesMax, space), store_.limits().run_bytes);
        CHECK(entries > 0);
        // The position is known when the segment is; the plan only needs it then.
        uint64_t length = plan_runs(state.memory, 0, entries, store_.limits().run_bytes, 0).length;
        SegmentFiles::Pin pin = co_await try_(prepare_segment(log, length));
        const uint32_t segment = state.active()->id;
        const RunPlan plan = plan_runs(state.memory, 0, entries, store_.limits().run_bytes,
                                       state.active()->data_end);
        std::vector<BuiltRun> runs;
        for (const PlannedRun& planned : plan.runs) {
            runs.push_back(co_await build_planned_run(*store_.options().memory, state, segment,
                                                      planned, false));
            co_await try_(pin.file().write(planned.position, runs.back().buffer.filled()));
        }
        co_await try_(pin.file().sync());
        store_.counters().handed_over_bytes += plan.length;
        for (BuiltRun& run : runs) {
            log->run_added(
                run.note, cached == Cached::kYes ? std::move(run).share() : runtime::SharedBytes());
            if (store_.bugs().lose_run_record) continue;
            log->queue_record([&run](std::vector<uint8_t>& to) { append_run(to, run.note); });
        }
        store_.admission().changed();
    }
    co_return Result<void>{};
}

Task<Result<SegmentFiles::Pin>> Handover::prepare_segment(PartitionLog* log, uint64_t length) {
    CHECK(log->moving());
    LogState& state = log->state();
    Segment* active = state.active();
    const int64_t now_ms = runtime::Shard::current().wall_now().ms;
    const bool fits =
        active != nullptr &&
        (active->data_end == 0 || active->data_end + length <= log->config().segment_bytes);
    const bool expired = active != nullptr && active->data_end > 0 &&
                         now_ms - active->created_ms >= log->config().segment_ms;
    if (!fits || expired) co_return co_await open_new_segment(log, length);
    const uint32_t id = active->id;
    SegmentFiles::Pin pin = co_await try_(store_.files().pin(
        {log->id(), id},
        segment_path(store_.options().directory, log->id(), active->base.offset, id),
        runtime::kOpenRead | runtime::kOpenWrite));
    co_await try_(extend(log, id, &pin, length));
    co_return pin;
}

Task<Result<void>> Handover::extend(PartitionLog* log, uint32_t segment, SegmentFiles::Pin* pin,
                                    uint64_t length) {
    Segment* active = log->state().find_segment(segment);
    if (active == nullptr) co_return Result<void>{};
    if (active->allocated == 0) {
        const uint64_t size = co_await try_(pin->file().size());
        active = log->state().find_segment(segment);
        if (active == nullptr) co_return Result<void>{};
        if (size < active->data_end) {
            co_return fail(ErrorCode::kCorrupt,
                           fmt::format("{} has {} bytes, and {} were written to it",
                                       pin->file().path(), size, active->data_end));
        }
        active->allocated = round_down(size, kPage);
    }
    if (active->data_end + length <= active->allocated) co_return Result<void>{};
    const uint64_t from = std::max(active->allocated, active->data_end);
    const uint64_t size = chunk_for(active->data_end, active->data_end + length - from);
    co_await try_(pin->file().preallocate(from, size));
    active = log->state().find_segment(segment);
    if (active != nullptr) active->allocated = std::max(active->allocated, from + size);
    co_return Result<void>{};
}

Task<Result<SegmentFiles::Pin>> Handover::open_new_segment(PartitionLog* log, uint64_t length) {
    LogState& state = log->state();
    const SegmentOpened opened{.segment = state.next_segment,
                               .base = state.flushed_end,
                               .created_ms = runtime::Shard::current().wall_now().ms};
    const std::string& data = store_.options().directory;
    const std::string directory = log_directory(data, log->id());
    if (state.segments.empty() || log->segments_left > 0)
        co_await try_(store_.make_log_directory(log->id()));
    const uint64_t size = chunk_for(0, length);
    SegmentFiles::Pin pin = co_await try_(store_.files().pin(
        {log->id(), opened.segment},
        segment_path(data, log->id(), opened.base.offset, opened.segment),
        runtime::kOpenRead | runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenTruncate,
        size));
    if (Result<void> synced = co_await store_.sync_names(directory); !synced) {
        // Until the next attempt nobody knows the file, and the sweep may delete it: it must not
        // stay open.
        pin.release();
        co_await store_.files().forget({log->id(), opened.segment});
        co_return fail(std::move(synced).error());
    }
    const uint32_t previous = state.active() == nullptr ? 0 : state.active()->id;
    state.open_segment(opened);
    Segment& segment = state.segments.back();
    segment.allocated = size;
    segment.index = std::make_unique<std::vector<RunPlace>>();
    log->queue_record([&opened](std::vector<uint8_t>& to) { append_segment_opened(to, opened); });
    auto inside = log->gate().try_enter();
    if (previous != 0 && inside)
        store_.spawn_background(close_segment(log, previous, std::move(*inside)));
    co_return pin;
}

void Handover::bypass_needs(PartitionLog& log, uint64_t room, uint64_t length) {
    // Asked for ahead, so that a large stream seldom has to go through the journal while its
    // segment grows.
    if (room >= 4 * length || log.segment_asked || paused_) return;
    auto inside = log.gate().try_enter();
    if (!inside) return;
    log.segment_asked = true;
    if (!store_.spawn_background(prepare_for_bypass(&log, length, std::move(*inside))))
        log.end_segment_task();
}

Task<void> Handover::prepare_for_bypass(PartitionLog* log, uint64_t length, runtime::Gate::Holder) {
    (void)co_await make_segment_ready(log, length);
}

Task<Result<void>> Handover::make_segment_ready(PartitionLog* log, uint64_t length) {
    CHECK(log->segment_asked);
    const Result<bool> ready = co_await extend_or_open(log, length);
    if (!ready && is_damage(ready.error()) && !log->moving() && !log->held()) {
        log->set_moving(true);
        co_await leave_segment(log, ready.error());
        log->set_moving(false);
    }
    log->end_segment_task();
    if (!ready) {
        report(*log, ready.error());
        // What was appended before the log went offline asks for another segment.
        if (log->offline() && log->has_pending()) store_.commits().enqueue(*log);
        co_return fail(ready.error());
    }
    // Where the log was busy, the end of that wakes the commit loop.
    if (*ready && log->has_pending()) store_.commits().enqueue(*log);
    co_return Result<void>{};
}

Task<Result<bool>> Handover::extend_or_open(PartitionLog* log, uint64_t length) {
    const Segment* active = log->state().active();
    const uint64_t limit = log->config().segment_bytes;
    // Ahead of need, within reason.
    const uint64_t ahead = std::max(length, std::min(8 * length, kSegmentChunkMax));
    if (active != nullptr && (active->data_end == 0 || active->data_end + length <= limit)) {
        // Growing the file needs no exclusion from those who write to it.
        const uint32_t id = active->id;
        auto pin = co_await store_.files().pin(
            {log->id(), id},
            segment_path(store_.options().directory, log->id(), active->base.offset, id),
            runtime::kOpenRead | runtime::kOpenWrite);
        if (!pin) {
            if (log->state().find_segment(id) == nullptr) co_return true;  // as in write_footer()
            co_return fail(std::move(pin).error());
        }
        co_await try_(extend(log, id, &*pin, ahead));
    } else if (log->moving() || log->held()) {
        co_return false;
    } else {
        log->set_moving(true);
        auto pin = co_await open_new_segment(log, std::max(length, std::min(ahead, limit)));
        log->set_moving(false);
        if (!pin) co_return fail(std::move(pin).error());
    }
    co_return true;
}

Task<Result<void>> Handover::admit_large(PartitionLog* log, uint64_t bytes,
                                         runtime::StopToken stop) {
    auto inside = log->gate().try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    co_await log->wait_segment_task();
    const uint64_t length = run_length(1, bytes) + round_to_page(2 * log->state().memory_bytes);
    while (true) {
        log->segment_asked = true;
        Result<void> ready = co_await make_segment_ready(log, length);
        if (ready || shortage_of(ready.error()) != Shortage::kDescriptors) co_return ready;
        co_await try_(co_await runtime::sleep_for(kShortagePause, stop));
        co_await try_(store_.usable());
        co_await log->wait_segment_task();
    }
}

Task<Result<void>> Handover::roll_if_expired(PartitionLog* log) {
    const Segment* active = log->state().active();
    const int64_t now_ms = runtime::Shard::current().wall_now().ms;
    if (active != nullptr && now_ms - active->created_ms >= log->config().segment_ms)
        co_return co_await roll(log);
    co_return Result<void>{};
}

Task<Result<void>> Handover::roll(PartitionLog* log) {
    const Segment* active = log->state().active();
    if (active == nullptr || active->data_end == 0 || log->moving()) co_return Result<void>{};
    // It takes no more runs; the next hand-over opens another. The journal has to know it now: from
    // here on a truncation may take the whole segment, and a replay must do the same.
    const SegmentClosed full{.segment = active->id, .footer_position = active->data_end};
    log->state().close_segment(full);
    log->queue_record([&full](std::vector<uint8_t>& to) { append_segment_closed(to, full); });
    auto inside = log->gate().try_enter();
    if (inside) co_await close_segment(log, active->id, std::move(*inside));
    co_return Result<void>{};
}

Task<void> Handover::close_segment(PartitionLog* log, uint32_t segment, runtime::Gate::Holder) {
    Result<void> written = co_await write_footer(log, segment);
    // Without a footer the segment is as good; only its index costs more to load.
    if (!written) report(*log, written.error());
}

Task<Result<void>> Handover::write_footer(PartitionLog* log, uint32_t id) {
    co_await try_(load_index(&store_, log, id));
    Segment* segment = log->state().find_segment(id);
    if (segment == nullptr || segment->footer_length > 0 || segment->index == nullptr ||
        segment->index->empty())
        co_return Result<void>{};
    const std::vector<uint8_t> footer =
        build_footer(log->id(), id, segment->data_end, *segment->index);
    const SegmentClosed closed{.segment = id,
                               .footer_position = segment->data_end,
                               .footer_length = static_cast<uint32_t>(footer.size())};
    auto pin = co_await store_.files().pin(
        {log->id(), id},
        segment_path(store_.options().directory, log->id(), segment->base.offset, id),
        runtime::kOpenRead | runtime::kOpenWrite);
    if (!pin) {
        // A truncation took the segment meanwhile, and so its file is gone.
        if (log->state().find_segment(id) == nullptr) co_return Result<void>{};
        co_return fail(std::move(pin).error());
    }
    // A task that grew the file for a bypass must not grow it behind the footer.
    co_await log->wait_segment_task();
    co_await try_(append_footer(&pin->file(), closed.footer_position, &footer));
    segment = log->state().find_segment(id);
    if (segment == nullptr) co_return Result<void>{};
    log->state().close_segment(closed);
    log->queue_record([&closed](std::vector<uint8_t>& to) { append_segment_closed(to, closed); });
    co_return Result<void>{};
}

}  // namespace weir::storage
