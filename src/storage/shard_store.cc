#include "storage/shard_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "storage/mend.h"
#include "storage/recovery.h"
#include "storage/run_index.h"

namespace weir::storage {

using runtime::Shard;
using runtime::Task;
using runtime::try_;
using runtime::WorkClass;

namespace {

// Each hand-over flushes a file beside the flushes of commits: rarely, then.
constexpr uint64_t kHandoverBytes = 8_MiB;
constexpr uint64_t kRunBytes = 1_MiB;

StoreOptions sane(StoreOptions options) {
    options.journal_file_bytes =
        std::max<uint64_t>(round_to_page(options.journal_file_bytes), 16 * kPage);
    options.journal_first_file_bytes = std::clamp(round_to_page(options.journal_first_file_bytes),
                                                  16 * kPage, options.journal_file_bytes);
    options.journal_bytes_max = std::max(options.journal_bytes_max, 3 * options.journal_file_bytes);
    options.commit_bytes_max = std::max<uint64_t>(options.commit_bytes_max, 8 * kPage);
    return options;
}

StoreLimits limits_of(const StoreOptions& options) {
    StoreLimits limits{};
    limits.block_bytes_max = std::min(round_to_page(options.commit_bytes_max),
                                      round_down(options.journal_file_bytes / 2, kPage));
    limits.inline_bytes_max = limits.block_bytes_max / 2;
    limits.bypass_bytes_min = std::min(options.bypass_bytes_min, limits.inline_bytes_max);
    limits.stage_bytes = limits.bypass_bytes_min / 2;
    limits.run_bytes = std::min(kRunBytes, std::max(options.unflushed_bytes_max / 4, kPage));
    limits.handover_bytes =
        std::max(limits.run_bytes, std::min(kHandoverBytes, options.unflushed_bytes_max / 8));
    limits.checkpoint_bytes =
        std::clamp<uint64_t>(options.journal_bytes_max / 8, options.journal_file_bytes, 64_MiB);
    return limits;
}

}  // namespace

ShardStore::ShardStore(StoreOptions options, Layout layout, uint32_t shard)
    : options_(sane(std::move(options))),
      limits_(limits_of(options_)),
      layout_(layout),
      shard_(shard),
      directory_(shard_directory(options_.directory, layout.generation, shard)),
      files_(options_.open_segments_max),
      cache_(options_.cache_bytes_max),
      read_ahead_(*this),
      admission_(*this),
      committer_(*this),
      handover_(*this),
      checkpointer_(*this),
      retention_(*this),
      sweeper_(*this),
      idle_sweep_(*this) {}

ShardStore::~ShardStore() = default;

Task<Result<RecoveredShard>> ShardStore::recover() {
    const RecoveryOptions options{.data = options_.directory,
                                  .directory = directory_,
                                  .layout = layout_,
                                  .shard = shard_,
                                  .bugs = options_.bugs};
    auto recovered = co_await recover_shard(options);
    if (recovered || recovered.error().code != ErrorCode::kCorrupt) co_return recovered;
    if (!options_.go_on) {
        Shard::current().log().error(
            "storage", "a shard can't be opened: `weir debug repair` says what it lost", "shard={}",
            shard_);
        co_return recovered;
    }
    const ShardDamage damage = co_await try_(find_damage(options));
    if (!damage.can_be_mended()) co_return recovered;
    for (const DamagedPlace& place : damage.places) {
        Shard::current().log().error(
            "storage",
            "the journal is damaged: the shard goes on with what comes before, and all its logs "
            "are to recover from other replicas",
            "shard={} file={} offset={} error=\"{}\"", shard_, place.file, place.offset,
            place.what);
    }
    co_await try_(mend(options, damage, {.accepted = false}));
    co_return co_await recover_shard(options);
}

Task<Result<void>> ShardStore::open() {
    const Instant begin = Shard::current().now();
    RecoveredShard recovered = co_await try_(recover());
    losses_.start(directory_, co_await try_(Losses::load(directory_)));
    const uint64_t durable_block = recovered.journal.next_block - 1;
    const uint64_t blocks = recovered.blocks;
    if (!recovered.torn.empty()) torn_end_ = recovered.torn;
    metrics_.torn_ends = torn_end_.empty() ? 0 : 1;
    const bool is_fresh = recovered.journal.old.empty() && !recovered.header.marked;
    co_await try_(journal_.open({.directory = directory_,
                                 .journal_id = recovered.header.journal_id,
                                 .shard = shard_,
                                 .file_bytes = options_.journal_file_bytes,
                                 .first_file_bytes = options_.journal_first_file_bytes,
                                 .bytes_max = options_.journal_bytes_max,
                                 .mark_pause = mark_pause()},
                                std::move(recovered.journal)));
    checkpointer_.start(recovered.header.journal_id);
    committer_.start(durable_block);
    opened_ = true;
    options_.memory->set_reclaimer(Shard::current().id(), [this](uint64_t bytes) {
        const uint64_t freed = cache_.reclaim(bytes);
        if (freed < bytes) handover_.give_way();
        return freed;
    });
    if (options_.received_memory != nullptr) {
        options_.received_memory->set_reclaimer(Shard::current().id(), [this](uint64_t) {
            handover_.give_way();
            return uint64_t{0};
        });
    }
    std::vector<LogId> rebuild;
    std::vector<PartitionLog*> in_memory;
    for (auto& [id, log] : recovered.logs) {
        auto replay = std::make_unique<RecoveredState>();
        const Position state_end = log.snapshot.state_end;
        replay->state = log.snapshot.state;
        replay->state_end = state_end;
        replay->state_offset = std::max(state_end.offset, log.snapshot.log.start_offset);
        if (state_end < log.entries_from) {
            rebuild.push_back(id);
        } else {
            for (auto& entry : log.entries) {
                if (entry.info.first >= state_end) replay->entries.push_back(std::move(entry));
            }
        }
        add_unflushed(static_cast<int64_t>(log.snapshot.log.memory_bytes));
        auto made =
            std::make_unique<PartitionLog>(*this, std::move(log.snapshot), std::move(replay));
        if (losses_.logs().contains(id)) made->mark_may_have_lost();
        in_memory.push_back(made.get());
        logs_.emplace(id, std::move(made));
        ++metrics_.logs;
    }
    // In the order in which they were listed while the store ran.
    std::ranges::sort(in_memory, {}, [](const PartitionLog* log) {
        const EntryQueue& memory = log->state().memory;
        return std::pair(memory.empty() ? 0 : memory.front().block, log->id());
    });
    for (PartitionLog* log : in_memory) handover_.consider(*log);
    for (const LogId id : rebuild) {
        PartitionLog* log = find_log(id);
        Result<void> rebuilt = co_await log->rebuild_replay();
        // The owner of a log can do without, while it is offline. Not that of the metadata log.
        if (!rebuilt && is_damage(rebuilt.error()) && id != kMetadataLog) {
            log->keep_saved_state();
            log->found_damage(rebuilt.error(), true);
        } else {
            co_await try_(std::move(rebuilt));
        }
    }
    // Before anything is acknowledged, also where the disk is full: from now on it is known if the
    // first file is gone.
    if (is_fresh) co_await try_(checkpointer_.run(false));
    commit_scope_.spawn(committer_.run(commit_scope_.stop_token()), WorkClass::kProduce);
    journal_scope_.spawn(prepare_journal(), WorkClass::kBackground);
    spawn_background(maintain());
    spawn_background(retention_.run());
    spawn_background(sweeper_.run());
    spawn_background(idle_sweep_.run());
    // What was given up lies before what follows now: from the first new record on, no start may
    // replay both.
    if (recovered.header.mended) co_await try_(flush());
    Shard::current().log().info("storage", "shard open",
                                "shard={} logs={} blocks_replayed={} ms={}", shard_, logs_.size(),
                                blocks, (Shard::current().now() - begin).count() / 1'000'000);
    co_return Result<void>{};
}

Task<void> ShardStore::close() {
    stopping_ = true;
    admission_.all_changed();
    if (opened_) {
        // What waits may need what the background does: room in a segment.
        co_await committer_.drain();
        scope_.request_stop();
        committer_.progress().notify_all();
        co_await scope_.close();
        // The background waited for records of its own, and leaves some: they need journal files.
        co_await commit_scope_.close();
        co_await journal_scope_.close();
        closed_whole_ = !failed() && std::ranges::all_of(logs_, [](const auto& row) {
            const PartitionLog& log = *row.second;
            return !log.has_pending() && !log.in_commit() && log.durable_end() == log.end();
        });
        if (!failed()) {
            auto done = co_await checkpointer_.run(false);
            if (!done && !failed())
                Shard::current().log().warn("storage", "no checkpoint at the close", "error=\"{}\"",
                                            done.error().to_string());
        }
        options_.memory->set_reclaimer(Shard::current().id(), nullptr);
        if (options_.received_memory != nullptr)
            options_.received_memory->set_reclaimer(Shard::current().id(), nullptr);
        opened_ = false;
    }
    for (auto& [id, log] : logs_) co_await log->gate().close();
    co_await journal_.close();
    co_await files_.close_all();
    cache_.clear();
}

Task<Result<void>> ShardStore::flush() {
    std::vector<LogId> ids = logs();
    for (const LogId id : ids) {
        while (true) {
            PartitionLog* log = find_log(id);
            if (log == nullptr || log->state().memory.empty()) break;
            co_await try_(log->wait_durable(log->end()));
            co_await try_(handover_.move(log));
            co_await log->wait_quiet();
        }
    }
    co_await committer_.drain();
    co_await try_(usable());
    // The checkpoint is what the caller goes on with: an older one would bring back an older state.
    co_return co_await checkpointer_.run(true);
}

Task<Result<Log*>> ShardStore::create_log(LogId id, LogConfig config) {
    co_await try_(usable());
    co_await try_(admission_.admit_record());
    if (logs_.contains(id)) co_return fail(ErrorCode::kAlreadyExists, fmt::format("log {}", id.v));
    auto made = std::make_unique<PartitionLog>(*this, id);
    PartitionLog* log = made.get();
    log->configure(config);
    // It was there before, and the journal lost even that.
    if (losses_.logs().contains(id)) log->mark_may_have_lost();
    logs_.emplace(id, std::move(made));
    ++metrics_.logs;
    const uint64_t record = log->queue_record(
        [](std::vector<uint8_t>& to) { append_mark(to, RecordType::kCreateLog); });
    co_await try_(log->wait_records(record));
    co_return log;
}

Task<Result<void>> ShardStore::remove_log(LogId id) {
    co_await try_(usable());
    PartitionLog* log = find_log(id);
    if (log == nullptr || log->removing())
        co_return fail(ErrorCode::kNotFound, fmt::format("log {}", id.v));
    co_await try_(admission_.admit_record());
    log->mark_removing();
    const uint64_t record = log->queue_record(
        [](std::vector<uint8_t>& to) { append_mark(to, RecordType::kRemoveLog); });
    co_await try_(log->wait_records(record));
    co_await log->gate().close();
    co_await log->wait_quiet();
    add_unflushed(-static_cast<int64_t>(log->state().memory_bytes));
    admission_.dropped(log->pending_bytes(), log->pending_entries());
    log->commit_failed({ErrorCode::kUnavailable, "the log was removed", 0});
    std::vector<Segment> segments = std::move(log->state().segments);
    cache_.erase_log(id);
    read_ahead_.forget(id);
    log->leave();
    logs_.erase(id);
    --metrics_.logs;
    // Its memory is free, and perhaps an old file of the journal.
    admission_.changed();
    if (checkpointer_.short_of_space()) wake_maintenance();
    spawn_background(delete_log_files(id, std::move(segments)));
    co_return Result<void>{};
}

Task<Result<void>> ShardStore::checkpoint() {
    co_await try_(usable());
    co_return co_await checkpointer_.run_shared();
}

Log* ShardStore::find(LogId id) {
    PartitionLog* log = find_log(id);
    return log == nullptr || log->removing() ? nullptr : log;
}

PartitionLog* ShardStore::find_log(LogId id) {
    const auto found = logs_.find(id);
    return found == logs_.end() ? nullptr : found->second.get();
}

std::vector<LogId> ShardStore::logs() const {
    std::vector<LogId> ids;
    ids.reserve(logs_.size());
    for (const auto& [id, log] : logs_) {
        if (!log->removing()) ids.push_back(id);
    }
    return ids;
}

const StoreMetrics& ShardStore::metrics() const {
    metrics_.cache_bytes = cache_.bytes();
    return metrics_;
}

void ShardStore::fail_store(const Error& error) {
    if (failure_) return;
    failure_ = error;
    Shard::current().log().error("storage", "store failed", "shard={} error=\"{}\"", shard_,
                                 error.to_string());
    committer_.wake();
    journal_.give_up();
    admission_.all_changed();
    wake_maintenance();
    if (options_.on_fatal) options_.on_fatal(error);
}

Result<void> ShardStore::healthy() const {
    if (failure_) return fail(*failure_);
    return {};
}

Result<void> ShardStore::usable() const {
    TRY(healthy());
    if (stopping_) return fail(ErrorCode::kUnavailable, "the store is stopping");
    return {};
}

void ShardStore::add_unflushed(int64_t bytes) {
    metrics_.unflushed_bytes =
        static_cast<uint64_t>(static_cast<int64_t>(metrics_.unflushed_bytes) + bytes);
    if (bytes < 0) admission_.changed();
}

bool ShardStore::spawn_background(Task<void> task) {
    return scope_.spawn(std::move(task), WorkClass::kBackground);
}

bool ShardStore::spawn_read(Task<void> task) {
    return scope_.spawn(std::move(task), WorkClass::kFetch);
}

Task<Result<void>> ShardStore::sync_names(std::string directory) {
    if (bugs().skip_directory_sync) co_return Result<void>{};
    co_return co_await runtime::sync_directory(std::move(directory));
}

Task<Result<void>> ShardStore::make_log_directory(LogId id) {
    const std::string directory = log_directory(options_.directory, id);
    if (bugs().skip_directory_sync) co_return co_await runtime::make_directories(directory);
    const size_t fan = id.v & 0xff;
    co_await try_(make_durable_directory(directory, durable_fans_[fan] ? 1 : 2));
    durable_fans_.set(fan);
    co_return Result<void>{};
}

Task<void> ShardStore::maintain() {
    const runtime::StopToken stop = scope_.stop_token();
    while (!stop.stop_requested() && !failed()) {
        if (!std::exchange(maintenance_due_, false)) {
            (void)co_await maintenance_wake_.wait({.stop = stop});
            continue;
        }
        co_await handover_.run(checkpointer_.old_block());
        if (stop.stop_requested()) co_return;
        Result<void> done;
        if (checkpointer_.due()) done = co_await checkpointer_.run(true);
        const Shortage shortage = done ? Shortage::kNone : shortage_of(done.error());
        if (!done && shortage == Shortage::kNone) {
            fail_store(done.error());
            co_return;
        }
        admission_.set_shortage(FullPart::kCheckpoint, shortage);
        if (shortage == Shortage::kNone) continue;
        (void)co_await runtime::sleep_for(kShortagePause, stop);
        maintenance_due_ = true;
    }
}

Task<void> ShardStore::prepare_journal() {
    const runtime::StopToken stop = journal_scope_.stop_token();
    while (!stop.stop_requested() && !failed()) {
        if (!journal_.wants_file()) {
            (void)co_await journal_.wanted().wait({.stop = stop});
            continue;
        }
        auto prepared = co_await journal_.prepare();
        if (prepared) {
            admission_.set_shortage(FullPart::kJournal, Shortage::kNone);
            admission_.changed();
            continue;
        }
        const bool no_file = is_largest(prepared.error());
        const Shortage shortage = no_file ? Shortage::kNone : shortage_of(prepared.error());
        if (!no_file && shortage == Shortage::kNone) {
            fail_store(prepared.error());
            co_return;
        }
        if (!no_file) admission_.set_shortage(FullPart::kJournal, shortage);
        wake_maintenance();
        if (!no_file && stopping_) {
            // The close does not wait until there is room.
            journal_.give_up();
            co_return;
        }
        // A checkpoint frees files, and says so.
        const Instant deadline =
            no_file ? Instant::never() : Shard::current().now() + kShortagePause;
        (void)co_await journal_.wanted().wait({.deadline = deadline, .stop = stop});
    }
}

void ShardStore::remove_segments(PartitionLog& log, std::vector<Segment> segments,
                                 uint64_t after_records) {
    for (const Segment& segment : segments) cache_.erase_segment(log.id(), segment.id);
    spawn_background(delete_segments(log.id(), std::move(segments), after_records));
}

Task<void> ShardStore::delete_segments(LogId id, std::vector<Segment> segments,
                                       uint64_t after_records) {
    if (PartitionLog* log = find_log(id); log != nullptr) {
        auto inside = log->gate().try_enter();
        if (inside && !co_await log->wait_records(after_records)) co_return;
    }
    for (const Segment& segment : segments) co_await delete_segment_file(id, &segment);
}

Task<void> ShardStore::delete_segment_file(LogId id, const Segment* segment) {
    auto units = co_await deletes_.acquire(1);
    co_await files_.forget({id, segment->id});
    (void)co_await runtime::unlink_file(
        segment_path(options_.directory, id, segment->base.offset, segment->id));
}

Task<void> ShardStore::delete_log_files(LogId id, std::vector<Segment> segments) {
    for (const Segment& segment : segments) co_await delete_segment_file(id, &segment);
    co_await delete_log_directory(id);
}

Task<void> ShardStore::delete_log_directory(LogId id) {
    const std::string directory = log_directory(options_.directory, id);
    auto names = co_await runtime::list_directory(directory);
    if (!names) co_return;
    for (const std::string& name : *names)
        (void)co_await runtime::unlink_file(directory + "/" + name);
    (void)co_await runtime::remove_directory(directory);
}

}  // namespace weir::storage
