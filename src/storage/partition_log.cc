#include "storage/partition_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "storage/log_reader.h"
#include "storage/segment_rewrite.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::StopToken;
using runtime::Task;
using runtime::try_;

namespace {

// A small payload that is a slice of a large block (a request with many partitions) would keep the
// whole block alive for as long as it waits for its hand-over: it is copied. So is none whose block
// it fills well.
constexpr size_t kCopyBytesMax = 16_KiB;
bool wastes_its_block(const runtime::SharedBytes& payload) {
    return payload.size() <= kCopyBytesMax && payload.block_size() > 4 * payload.size() + 4_KiB;
}

// A log's state is a fold of its entries, so a checkpoint without it costs a reading of the log.
// Not the metadata log's: its entries go once a checkpoint has what they say, so that no checkpoint
// may be without it.
bool keeps_state(LogId id) { return id == kMetadataLog; }

}  // namespace

PartitionLog::PartitionLog(ShardStore& store, LogId id) : store_(store) {
    state_.id = id;
    configured_ = true;
}

PartitionLog::PartitionLog(ShardStore& store, LogSnapshot recovered,
                           std::unique_ptr<RecoveredState> replay)
    : store_(store),
      state_(std::move(recovered.log)),
      durable_end_(state_.end),
      state_end_(recovered.state_end),
      state_floor_(recovered.state_floor),
      saved_state_(std::move(recovered.state)),
      recovered_(std::move(replay)) {
    unflushed_since_ms_ = unstamped_since_ms_ = runtime::Shard::current().wall_now().ms;
}

PartitionLog::~PartitionLog() = default;

void PartitionLog::configure(const LogConfig& config) {
    config_ = config;
    configured_ = true;
}

std::optional<Log::TermEnd> PartitionLog::end_of_term(int32_t term) const {
    const auto after =
        std::upper_bound(state_.terms.begin(), state_.terms.end(), term,
                         [](int32_t t, const TermStart& start) { return t < start.term; });
    if (after == state_.terms.begin()) return std::nullopt;
    return TermEnd{(after - 1)->term,
                   after == state_.terms.end() ? state_.end.offset : after->first.offset};
}

bool PartitionLog::is_in_older_segment(int64_t offset) const {
    if (!state_.segments.empty()) {
        const Segment& last = state_.segments.back();
        if (offset < last.base.offset) return true;
        if (offset < last.end.offset) return last.full && !state_.memory.empty();
    }
    // What is in memory would fill more than one segment by now.
    if (state_.memory_bytes <= config_.segment_bytes) return false;
    uint64_t bytes = 0;
    for (size_t i = state_.memory.find(offset); i < state_.memory.size(); ++i) {
        bytes += state_.memory[i].payload.size();
        if (bytes > config_.segment_bytes) return true;
    }
    return false;
}

Task<Result<void>> PartitionLog::admit(uint64_t bytes, StopToken stop, uint64_t entries) {
    co_await try_(online());
    co_await try_(store_.admission().admit(bytes, entries, stop));
    if (Result<void> still = online(); !still) {
        withdraw(bytes, entries);
        co_return still;
    }
    if (store_.limits().fits_inline(bytes)) co_return Result<void>{};
    auto ready = co_await store_.handover().admit_large(this, bytes, stop);
    if (!ready) withdraw(bytes, entries);
    co_return ready;
}

void PartitionLog::withdraw(uint64_t bytes, uint64_t entries) {
    store_.admission().withdrawn(bytes, entries);
}

Result<void> PartitionLog::check_entry(const Entry& entry) const {
    TRY(store_.usable());
    if (removing_) return fail(ErrorCode::kUnavailable, "the log is being removed");
    TRY(online());
    if (entry.info.first != state_.end) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("an entry at {} does not follow the log's end {}",
                                entry.info.first.offset, state_.end.offset));
    }
    if (entry.payload.size() > kEntryBytesMax || entry.summary_bytes > kSummaryBytesMax ||
        entry.summary_bytes > entry.payload.size()) {
        return fail(ErrorCode::kInvalidArgument, "an entry larger than a log takes");
    }
    const bool data = entry.info.kind == EntryKind::kData;
    if (data ? entry.info.next_offset <= entry.info.first.offset
             : entry.info.next_offset != entry.info.first.offset) {
        return fail(ErrorCode::kInvalidArgument, "an entry of the wrong width");
    }
    return {};
}

Result<void> PartitionLog::append(Entry entry) {
    if (Result<void> checked = check_entry(entry); !checked) {
        if (entry.admitted) withdraw(entry.payload.size(), 1);
        return checked;
    }
    const uint64_t size = entry.payload.size();
    used_ = true;
    if (state_.memory.empty()) unflushed_since_ms_ = runtime::Shard::current().wall_now().ms;
    if (entry.info.kind == EntryKind::kData && entry.info.max_timestamp_ms < 0)
        unstamped_since_ms_ = runtime::Shard::current().wall_now().ms;
    // The store counts it from here on. A block with entries of several logs may outlive this one,
    // so it stays charged to where it came from, and the store gives way when that runs short
    // (Handover::give_way()). What is copied is discharged, too: the others may keep the block
    // long.
    const bool is_its_own = !entry.shares_block || 2 * size >= entry.payload.block_size();
    if (is_its_own && !store_.bugs().keep_foreign_charge) entry.payload.discharge();
    if (wastes_its_block(entry.payload))
        entry.payload = runtime::SharedBytes::copy_of(entry.payload.bytes());
    state_.append({.info = entry.info,
                   .payload = std::move(entry.payload),
                   .summary_bytes = entry.summary_bytes});
    ++pending_entries_;
    pending_bytes_ += size;
    store_.add_unflushed(static_cast<int64_t>(size));
    store_.admission().appended(size, entry.admitted);
    ++store_.counters().appended_entries;
    store_.counters().appended_bytes += size;
    enqueue();
    return {};
}

void PartitionLog::enqueue() { store_.commits().enqueue(*this); }

Task<Result<void>> PartitionLog::wait_durable(Position position) {
    if (position <= durable_end_) co_return Result<void>{};
    if (store_.failed() || store_.commits().ended()) co_return store_.usable();
    co_return co_await durable_waiters_.wait(position);
}

Task<Result<void>> PartitionLog::wait_records(uint64_t count) {
    if (count <= records_durable_) co_return Result<void>{};
    if (store_.failed() || store_.commits().ended()) co_return store_.usable();
    co_return co_await record_waiters_.wait(count);
}

void PartitionLog::moved_to_block(size_t entries, uint64_t bytes, uint64_t block, bool bypassing) {
    CHECK(!in_commit_);
    CHECK(entries <= pending_entries_);
    const size_t first = first_pending();
    for (size_t i = first; i < first + entries; ++i) state_.memory[i].block = block;
    pending_entries_ -= entries;
    pending_bytes_ -= bytes;
    in_commit_bytes_ = bytes;
    pending_records_.clear();
    pending_record_count_ = 0;
    in_commit_ = true;
    bypassing_ = bypassing;
    if (bypassing) moving_ = true;
}

void PartitionLog::run_added(const RunNote& note, runtime::SharedBytes bytes) {
    const uint64_t before = state_.memory_bytes;
    const bool added = state_.add_run(note);
    CHECK(added);
    store_.add_unflushed(-static_cast<int64_t>(before - state_.memory_bytes));
    unflushed_since_ms_ = runtime::Shard::current().wall_now().ms;
    if (!bytes.empty())
        store_.cache().insert({id(), note.segment, note.position}, std::move(bytes));
}

void PartitionLog::committed(Position durable_end, uint64_t records) {
    in_commit_ = false;
    in_commit_bytes_ = 0;
    if (std::exchange(bypassing_, false)) set_moving(false);
    records_durable_ = records;
    record_waiters_.reach(records_durable_);
    quiet_.notify_all();
    if (durable_end <= durable_end_) return;
    durable_end_ = durable_end;
    durable_waiters_.reach(durable_end_);
    store_.handover().consider(*this);
    if (listener_) listener_();
}

void PartitionLog::commit_failed(const Error& error) {
    staged = {};
    in_commit_ = false;
    in_commit_bytes_ = 0;
    if (std::exchange(bypassing_, false)) moving_ = false;
    durable_waiters_.fail_beyond(durable_end_, error);
    record_waiters_.fail_beyond(records_durable_, error);
    quiet_.notify_all();
}

void PartitionLog::set_moving(bool moving) {
    if (moving_ == moving) return;
    moving_ = moving;
    if (moving) return;
    quiet_.notify_all();
    if (has_pending()) store_.commits().wake();
    store_.handover().consider(*this);
}

Task<void> PartitionLog::wait_segment_task() {
    while (segment_asked) (void)co_await quiet_.wait();
}

Task<void> PartitionLog::wait_quiet() {
    while (in_commit_ || moving_) (void)co_await quiet_.wait();
}

Task<void> PartitionLog::wait_not_moving() {
    while (moving_) (void)co_await quiet_.wait();
}

Task<Result<void>> PartitionLog::truncate_suffix(Position end) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    ++hold_;
    co_await wait_quiet();
    Result<void> usable = store_.usable();
    if (usable) usable = store_.admission().admit_record();
    if (usable && end.offset < state_.start_offset)
        usable = fail(ErrorCode::kOutOfRange, "a truncation to below the log's start");
    uint64_t record = records_queued_;
    std::vector<Segment> removed;
    if (usable && end < state_.end) {
        drop_pending_beyond(end);
        const uint64_t before = state_.memory_bytes;
        state_.truncate_suffix(end, &removed);
        store_.add_unflushed(-static_cast<int64_t>(before - state_.memory_bytes));
        durable_end_ = std::min(durable_end_, end);
        store_.read_ahead().forget(id());
        durable_waiters_.fail_beyond(end,
                                     Error{ErrorCode::kOutOfRange, "the log was truncated", 0});
        cut_state(end, &state_end_, state_floor_, &saved_state_);
        if (!store_.bugs().truncate_suffix_in_memory_only) {
            record =
                queue_record([&](std::vector<uint8_t>& to) { append_truncate_suffix(to, end); });
        }
        remove_segments(std::move(removed), record);
    }
    release_hold();
    co_await try_(std::move(usable));
    co_return co_await wait_records(record);
}

void PartitionLog::release_hold() {
    --hold_;
    store_.commits().wake();
    store_.handover().consider(*this);
}

void PartitionLog::drop_pending_beyond(Position end) {
    staged = {};
    uint64_t dropped = 0;
    const size_t before = pending_entries_;
    for (size_t i = state_.memory.size();
         pending_entries_ > 0 && state_.memory[i - 1].info.first >= end; --i) {
        dropped += state_.memory[i - 1].payload.size();
        --pending_entries_;
    }
    pending_bytes_ -= dropped;
    store_.admission().dropped(dropped, before - pending_entries_);
}

Task<Result<void>> PartitionLog::truncate_prefix(int64_t start_offset) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    // Beyond its end the log starts anew: nobody may be writing what goes then. Else only what is
    // durable may go, or a replay, which sees this record before the entries, would take it for
    // such a new start.
    bool anew = start_offset > state_.end.offset;
    if (anew) {
        ++hold_;
        co_await wait_quiet();
        // Appends go on meanwhile, and may have come as far.
        if (start_offset <= state_.end.offset) {
            anew = false;
            release_hold();
        }
    }
    if (!anew) co_await try_(wait_durable({start_offset, 0}));
    Result<void> usable = store_.usable();
    if (usable) usable = store_.admission().admit_record();
    uint64_t record = records_queued_;
    std::vector<Segment> removed;
    if (usable && start_offset > state_.start_offset) {
        const bool beyond = start_offset > state_.end.offset;
        CHECK(!beyond || anew);
        if (beyond) drop_pending_beyond({0, 0});
        const uint64_t before = state_.memory_bytes;
        state_.truncate_prefix(start_offset, 0, &removed);
        store_.add_unflushed(-static_cast<int64_t>(before - state_.memory_bytes));
        if (beyond) {
            durable_end_ = state_.end;
            durable_waiters_.reach(durable_end_);
        }
        record = queue_record(
            [&](std::vector<uint8_t>& to) { append_truncate_prefix(to, start_offset, 0); });
        remove_segments(std::move(removed), record);
    }
    if (anew) release_hold();
    co_await try_(std::move(usable));
    co_return co_await wait_records(record);
}

namespace {

SegmentInfo info_of(const Segment& segment) {
    return {.id = segment.id,
            .base = segment.base,
            .end = segment.end,
            .max_timestamp_ms = segment.max_timestamp_ms,
            .bytes = segment.file_bytes(),
            .closed = segment.full};
}

}  // namespace

std::vector<SegmentInfo> PartitionLog::segments() const {
    std::vector<SegmentInfo> infos;
    for (const Segment& segment : state_.segments)
        if (segment.base < segment.end) infos.push_back(info_of(segment));
    return infos;
}

Task<Result<SegmentPin>> PartitionLog::pin(uint32_t id) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    const Segment* segment = state_.find_segment(id);
    if (segment == nullptr) co_return fail(ErrorCode::kNotFound, "the log has no such segment");
    if (!segment->full)
        co_return fail(ErrorCode::kInvalidArgument, "the segment still takes entries");
    const SegmentInfo info = info_of(*segment);
    auto file = co_await runtime::File::open(
        segment_path(store_.options().directory, this->id(), info.base.offset, id),
        {.flags = runtime::kOpenRead});
    // It may have been removed meanwhile, before or after it was opened.
    segment = state_.find_segment(id);
    if (segment != nullptr && file) co_return SegmentPin(info, std::move(*file));
    if (file) (void)co_await file->close();
    if (segment == nullptr) co_return fail(ErrorCode::kNotFound, "the log has no such segment");
    co_return fail(std::move(file).error());
}

Task<Result<void>> PartitionLog::rewrite(uint32_t segment, SegmentRewriter rewriter,
                                         StopToken stop) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    const auto units = co_await try_(co_await store_.rewrites().acquire(1, {.stop = stop}));
    SegmentRewrite rewrite(store_, *this, segment, std::move(rewriter), stop);
    co_return co_await rewrite.run();
}

void PartitionLog::remove_segments(std::vector<Segment> segments, uint64_t after_records) {
    if (!segments.empty()) store_.remove_segments(*this, std::move(segments), after_records);
}

Task<Result<void>> PartitionLog::save_hard_state(HardState state) {
    co_await try_(store_.usable());
    co_await try_(store_.admission().admit_record());
    state_.hard_state = state;
    if (store_.bugs().forget_hard_state) co_return Result<void>{};
    const uint64_t record =
        queue_record([&](std::vector<uint8_t>& to) { append_hard_state(to, state); });
    co_return co_await wait_records(record);
}

Task<Result<void>> PartitionLog::start_anew(int64_t start_offset, int32_t term_below) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    ++hold_;
    co_await wait_quiet();
    Result<void> usable = store_.usable();
    if (usable) usable = store_.admission().admit_record();
    if (usable && start_offset < state_.start_offset)
        usable = fail(ErrorCode::kOutOfRange, "a new start below the log's start");
    uint64_t record = records_queued_;
    std::vector<Segment> removed;
    if (usable) {
        const Position old_start{state_.start_offset, 0};
        const uint64_t before = state_.memory_bytes;
        drop_pending_beyond({0, 0});
        state_.truncate_suffix(old_start, &removed);
        state_.truncate_prefix(start_offset, term_below, &removed);
        store_.add_unflushed(-static_cast<int64_t>(before - state_.memory_bytes));
        durable_end_ = state_.end;
        store_.read_ahead().forget(id());
        durable_waiters_.fail_beyond({0, 0},
                                     Error{ErrorCode::kOutOfRange, "the log began anew", 0});
        state_end_ = {};
        saved_state_.clear();
        // Both in one block, so that a crash finds both or none.
        queue_record([&](std::vector<uint8_t>& to) { append_truncate_suffix(to, old_start); });
        record = queue_record([&](std::vector<uint8_t>& to) {
            append_truncate_prefix(to, start_offset, term_below);
        });
        remove_segments(std::move(removed), record);
        end_damage();
    }
    release_hold();
    co_await try_(std::move(usable));
    co_return co_await wait_records(record);
}

Task<Result<void>> PartitionLog::save_group_config(std::vector<uint8_t> config) {
    if (config.size() > kGroupConfigBytesMax)
        co_return fail(ErrorCode::kInvalidArgument, "a group's configuration that is too large");
    co_await try_(store_.usable());
    co_await try_(store_.admission().admit_record());
    state_.group_config = std::move(config);
    const uint64_t record = queue_record(
        [&](std::vector<uint8_t>& to) { append_group_config(to, state_.group_config); });
    co_return co_await wait_records(record);
}

RecoveredState PartitionLog::take_recovered() {
    if (recovered_ == nullptr) return {};
    RecoveredState taken = std::move(*recovered_);
    recovered_.reset();
    return taken;
}

Task<Result<void>> PartitionLog::rebuild_replay() {
    CHECK(recovered_ != nullptr);
    LogReader reader(store_, *this);
    recovered_->entries.clear();
    co_return co_await reader.replay_from(std::max(state_end_, Position{state_.start_offset, 0}),
                                          &recovered_->entries);
}

Result<void> PartitionLog::online() const {
    if (!offline()) return {};
    return fail(ErrorCode::kIo, damage_->reason);
}

void PartitionLog::found_damage(const Error& error, bool offline) {
    if (damage_ && (damage_->offline || !offline)) return;
    StoreMetrics& metrics = store_.counters();
    if (!damage_) ++metrics.damaged_logs;
    if (offline) ++metrics.offline_logs;
    damage_ = LogDamage{error.message, offline};
    runtime::Shard::current().log().error(
        "storage", offline ? "a log is damaged: it goes offline" : "a log is damaged",
        "log={} error=\"{}\"", id().v, error.to_string());
    // Those who wait for room must learn of it.
    if (offline) store_.admission().all_changed();
    auto inside = gate_.try_enter();
    if (inside) store_.spawn_background(announce_damage(std::move(*inside)));
}

Task<void> PartitionLog::announce_damage(runtime::Gate::Holder) {
    co_await runtime::yield();
    if (damage_ && damage_listener_) damage_listener_();
}

void PartitionLog::end_damage() {
    if (!damage_) return;
    StoreMetrics& metrics = store_.counters();
    --metrics.damaged_logs;
    if (damage_->offline) --metrics.offline_logs;
    damage_.reset();
    owner_lacks_entries_ = false;
}

void PartitionLog::mark_may_have_lost() {
    if (!std::exchange(may_have_lost_, true)) ++store_.counters().logs_with_loss;
}

bool PartitionLog::loss_accepted() const {
    const auto& lost = store_.losses().logs();
    const auto found = lost.find(id());
    return found != lost.end() && found->second;
}

Task<Result<void>> PartitionLog::confirm_whole() {
    if (!may_have_lost_) co_return Result<void>{};
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    co_await try_(co_await store_.losses().remove(id()));
    if (std::exchange(may_have_lost_, false)) leave_losses();
    co_return Result<void>{};
}

void PartitionLog::leave_losses() { --store_.counters().logs_with_loss; }

void PartitionLog::set_state_provider(std::function<CapturedState()> provider) {
    if (provider) {
        if (!keeps_state(state_.id) && !owner_lacks_entries_) {
            state_end_ = {};
            saved_state_ = {};
        }
    } else if (provider_ && !owner_lacks_entries_) {
        // The store closes after the state machines above it: its last checkpoint still needs what
        // they knew.
        CapturedState captured = provider_();
        saved_state_ = std::move(captured.bytes);
        state_floor_ = captured.floor_offset;
        state_end_ = state_.end;
    }
    provider_ = std::move(provider);
}

void PartitionLog::capture(std::vector<uint8_t>& checkpoint, uint64_t durable_block, bool wait) {
    const bool all_durable = end() == durable_end_;
    if (provider_ && !owner_lacks_entries_ && (wait || all_durable)) {
        CapturedState state = provider_();
        // With the bug the state is older than it says: as if it had been captured before the last
        // entries.
        if (store_.bugs().stale_state_blob) {
            if (saved_state_.empty()) saved_state_ = state.bytes;
            state.bytes = saved_state_;
        }
        append_section(checkpoint, state_, durable_end_, durable_block,
                       {state_.end, state.floor_offset, state.bytes});
        if (all_durable && keeps_state(state_.id)) {
            saved_state_ = std::move(state.bytes);
            state_floor_ = state.floor_offset;
            state_end_ = state_.end;
        }
        return;
    }
    // Nobody will wait until its last entries are durable. A state that covers them could come back
    // with other entries in their place: without them then, or an older one, or none, and recovery
    // reads the log again.
    if (provider_ && !owner_lacks_entries_) {
        CapturedState state = provider_();
        Position state_end = state_.end;
        cut_state(durable_end_, &state_end, state.floor_offset, &state.bytes);
        if (state_end == durable_end_) {
            append_section(checkpoint, state_, durable_end_, durable_block,
                           {state_end, state.floor_offset, state.bytes});
            return;
        }
    }
    if (state_end_ <= durable_end_) {
        append_section(checkpoint, state_, durable_end_, durable_block,
                       {state_end_, state_floor_, saved_state_});
    } else {
        append_section(checkpoint, state_, durable_end_, durable_block, {});
    }
}

Task<Result<ReadResult>> PartitionLog::read(int64_t offset, ReadLimits limits, StopToken stop) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    used_ = true;
    LogReader reader(store_, *this);
    co_return co_await reader.read(offset, limits, stop);
}

Task<Result<std::vector<FoundEntry>>> PartitionLog::read_entries(Position from,
                                                                 ReadEntriesLimits limits,
                                                                 StopToken stop) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    used_ = true;
    LogReader reader(store_, *this);
    co_return co_await reader.read_entries(from, limits, stop);
}

Task<Result<std::optional<FoundEntry>>> PartitionLog::find_timestamp(int64_t timestamp_ms,
                                                                     int64_t end_offset) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    used_ = true;
    LogReader reader(store_, *this);
    co_return co_await reader.find_timestamp(timestamp_ms, end_offset);
}

Task<Result<std::optional<FoundEntry>>> PartitionLog::find_max_timestamp(int64_t end_offset) {
    auto inside = gate_.try_enter();
    if (!inside) co_return fail(ErrorCode::kUnavailable, "the log is being removed");
    used_ = true;
    LogReader reader(store_, *this);
    co_return co_await reader.find_max_timestamp(end_offset);
}

}  // namespace weir::storage
