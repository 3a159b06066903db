// ShardStore: one shard's logs, journal, checkpoint and cache. Owned by the StoreSet; made, used
// and closed on its shard. Its parts are small classes that reach each other through it:
//   Committer     collects what waits into blocks of the journal, one in flight    commit.h
//   Handover      moves entries from memory to segments, in the background         handover.h
//   Checkpointer  writes checkpoints and frees journal files                       checkpoint.h
//   Admission     back-pressure                                                    admission.h
//   ReadCache     runs of segments in memory                                       read_cache.h
#pragma once

#include <bitset>
#include <map>
#include <memory>
#include <string>

#include "runtime/scope.h"
#include "runtime/shard.h"
#include "runtime/wait.h"
#include "storage/admission.h"
#include "storage/checkpoint.h"
#include "storage/commit.h"
#include "storage/handover.h"
#include "storage/idle_sweep.h"
#include "storage/journal_writer.h"
#include "storage/losses.h"
#include "storage/partition_log.h"
#include "storage/read_ahead.h"
#include "storage/read_cache.h"
#include "storage/retention.h"
#include "storage/segment_files.h"
#include "storage/store.h"
#include "storage/sweeper.h"

namespace weir::storage {

// So long after space or descriptors were found short it is tried again.
inline constexpr Duration kShortagePause = 200ms;

// Limits that follow from the options.
struct StoreLimits {
    uint64_t block_bytes_max;   // of one journal block
    uint64_t inline_bytes_max;  // of one entry with its header in a block
    uint64_t bypass_bytes_min;
    uint64_t stage_bytes;       // a stream that has so much waiting lays it out ahead of its commit
    uint64_t run_bytes;         // a run is closed when its payloads reach this
    uint64_t handover_bytes;    // a log that has so much in memory hands it over: a flush each
    uint64_t checkpoint_bytes;  // of journal between two checkpoints

    // Else the entry goes to its segment in any case, never into the journal.
    bool fits_inline(uint64_t payload_bytes) const {
        return payload_bytes + kEntryHeaderBytes <= inline_bytes_max;
    }
};

struct RecoveredShard;

class ShardStore final : public Store {
  public:
    // The store of one shard's directory; `shard` is its number in the layout.
    ShardStore(StoreOptions options, Layout layout, uint32_t shard);
    ~ShardStore() override;

    // Recovers what the shard's directory holds; then serves.
    runtime::Task<Result<void>> open();
    // Commits what waits, checkpoints, closes. Also after a failed open().
    runtime::Task<void> close();
    // Moves all entries to segments and writes a checkpoint that needs no journal.
    runtime::Task<Result<void>> flush();

    runtime::Task<Result<Log*>> create_log(LogId id, LogConfig config) override;
    runtime::Task<Result<void>> remove_log(LogId id) override;
    runtime::Task<Result<void>> checkpoint() override;
    Log* find(LogId id) override;
    std::vector<LogId> logs() const override;
    const StoreMetrics& metrics() const override;
    bool failed() const override { return failure_.has_value(); }
    uint64_t history() const override { return history_; }
    std::string torn_end() const override { return torn_end_; }
    uint64_t journal_id() const { return checkpointer_.journal_id(); }
    void set_history(uint64_t history) { history_ = history; }
    // Before open(): the place of another shard of the same data, where this one's journal is
    // whole.
    void set_torn_end(std::string place) { torn_end_ = std::move(place); }
    // After close(): all that was ever taken is on stable storage.
    bool closed_whole() const { return closed_whole_; }

    // --- for the parts
    // -----------------------------------------------------------------------------------------------------
    const StoreOptions& options() const { return options_; }
    const StoreLimits& limits() const { return limits_; }
    const std::string& directory() const { return directory_; }
    const Layout& layout() const { return layout_; }
    uint32_t shard() const { return shard_; }
    StoreMetrics& counters() { return metrics_; }
    Duration mark_pause() const { return std::chrono::milliseconds(options_.journal_mark_ms); }
    const StorageBugs& bugs() const { return options_.bugs; }
    JournalWriter& journal() { return journal_; }
    SegmentFiles& files() { return files_; }
    ReadCache& cache() { return cache_; }
    ReadAhead& read_ahead() { return read_ahead_; }
    Committer& commits() { return committer_; }
    Handover& handover() { return handover_; }
    Admission& admission() { return admission_; }
    Losses& losses() { return losses_; }
    Checkpointer& checkpoints() { return checkpointer_; }
    const Sweeper& sweeper() const { return sweeper_; }
    // Few at a time: deleting frees blocks in the file system's journal, which the commits share.
    runtime::Semaphore& deletes() { return deletes_; }
    // One at a time: it may have to hold a run that no budget counts.
    runtime::Semaphore& rewrites() { return rewrites_; }
    PartitionLog* find_log(LogId id);
    std::map<LogId, std::unique_ptr<PartitionLog>>& all_logs() { return logs_; }

    // A journal write or flush failed: nothing may be trusted to come. Once.
    void fail_store(const Error& error);
    // The error that appends and waits get: of the failure, or that the store stops.
    Result<void> usable() const;
    // The error of the failure alone.
    Result<void> healthy() const;
    bool stopping() const { return stopping_; }
    void add_unflushed(int64_t bytes);
    // Background work: on the store's scope, in its class.
    bool spawn_background(runtime::Task<void> task);
    // Reads that a fetch will want: in its class.
    bool spawn_read(runtime::Task<void> task);
    runtime::StopToken stop_token() { return scope_.stop_token(); }
    void wake_maintenance() {
        maintenance_wake_.notify_all();
        maintenance_due_ = true;
    }
    // Deletes segment files, a few at a time, once the log's records up to `after_records` are
    // durable.
    void remove_segments(PartitionLog& log, std::vector<Segment> segments, uint64_t after_records);
    runtime::Task<Result<void>> sync_names(std::string directory);
    runtime::Task<Result<void>> make_log_directory(LogId id);

  private:
    // With `go_on`, past a damaged journal.
    runtime::Task<Result<RecoveredShard>> recover();
    runtime::Task<void> maintain();
    runtime::Task<void> prepare_journal();
    runtime::Task<void> delete_segments(LogId log, std::vector<Segment> segments,
                                        uint64_t after_records);
    runtime::Task<void> delete_log_files(LogId log, std::vector<Segment> segments);
    runtime::Task<void> delete_log_directory(LogId log);
    runtime::Task<void> delete_segment_file(LogId log, const Segment* segment);

    StoreOptions options_;
    StoreLimits limits_;
    Layout layout_;
    uint32_t shard_;
    std::string directory_;
    mutable StoreMetrics metrics_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool opened_ = false;
    bool closed_whole_ = false;
    uint64_t history_ = 0;
    std::string torn_end_;
    JournalWriter journal_;
    Losses losses_;
    SegmentFiles files_;
    ReadCache cache_;
    ReadAhead read_ahead_;
    Admission admission_;
    Committer committer_;
    Handover handover_;
    Checkpointer checkpointer_;
    Retention retention_;
    Sweeper sweeper_;
    IdleSweep idle_sweep_;
    std::map<LogId, std::unique_ptr<PartitionLog>> logs_;
    runtime::WaitQueue maintenance_wake_;
    bool maintenance_due_ = false;
    runtime::Semaphore deletes_{2};
    runtime::Semaphore rewrites_{1};
    std::bitset<256> durable_fans_;  // logs/xx
    // Last, so that what still runs at a simulated crash goes before what it uses.
    runtime::Scope journal_scope_;  // makes journal files ready: stops last
    runtime::Scope commit_scope_;   // the commit loop: stops when nobody waits for it any more
    runtime::Scope scope_;          // everything else in the background
};

}  // namespace weir::storage
