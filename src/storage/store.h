// A Store is one shard's logs, journal, checkpoint and read cache. StoreSet opens the data
// directory of a node: takes its lock, recovers each journal there (whatever the number of shards
// that wrote them), and leaves one open Store on each shard.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "runtime/driver.h"
#include "runtime/memory.h"
#include "runtime/task.h"
#include "storage/log.h"
#include "storage/storage_bugs.h"

namespace weir::storage {

struct StoreOptions {
    std::string directory;                    // of the node's data
    runtime::MemoryBudget* memory = nullptr;  // of the node; outlives the store
    // The budget for messages of other nodes, if there are any: it is charged for the rest of a
    // message of which the store keeps entries. If somebody waits for this memory, the store hands
    // entries over. Outlives the store.
    runtime::MemoryBudget* received_memory = nullptr;
    uint64_t journal_file_bytes = 16u << 20;  // each journal file, pre-written
    uint64_t journal_first_file_bytes =
        2u << 20;  // of the one that is made while the node starts: less to pre-write
    uint64_t journal_bytes_max =
        256u << 20;  // of all journal files of a shard; beyond it hand-over must make room
    uint64_t unflushed_bytes_max =
        64u << 20;  // of one shard: entries in memory that are not in segments yet
    uint64_t commit_bytes_max = 4u << 20;  // of one group commit
    uint64_t bypass_bytes_min =
        256u << 10;  // a log with at least this much in one commit goes straight to its segment
    uint64_t cache_bytes_max = 64u << 20;  // of one shard's read cache; gives way to the budget
    uint64_t read_ahead_bytes =
        4u << 20;  // kept in the cache ahead of a sequential reader; 0: nothing is read ahead
    uint32_t open_segments_max = 256;  // of one shard, beside those in use
    // The delay after a commit until the journal's mark says that it was durable.
    int64_t journal_mark_ms = 250;
    int64_t retention_check_ms = 30'000;
    int64_t sweep_delay_ms = 2'000;  // after the start: what a crash left behind is no hurry
    // A flush or a journal write failed: the node must stop, since its data may be gone. Called
    // once, on the shard.
    std::function<void(const Error&)> on_fatal;
    // A shard with a damaged journal goes on with what comes before the damage, and all its logs
    // report that they may lack entries (Log::may_have_lost()). Otherwise open() fails with
    // kCorrupt. For a node whose logs have other replicas. mend.h
    bool go_on = false;
    StorageBugs bugs;  // for the simulator's negative tests
};

// Counters since the store opened; read on its shard.
struct StoreMetrics {
    uint64_t appended_entries = 0;
    uint64_t appended_bytes = 0;
    uint64_t journal_commits = 0;
    uint64_t journal_bytes = 0;
    uint64_t bypass_bytes = 0;
    uint64_t staged_bytes = 0;  // ... of them: laid out while the commit before was in flight
    uint64_t handed_over_bytes = 0;
    uint64_t segment_reads = 0;
    uint64_t segment_read_bytes = 0;
    uint64_t cache_hits = 0;
    uint64_t cache_misses = 0;
    uint64_t checkpoints = 0;
    uint64_t corruptions = 0;
    uint64_t damaged_logs = 0;    // of which damage is known now (Log::damage())
    uint64_t offline_logs = 0;    // ... and which take no appends
    uint64_t logs_with_loss = 0;  // Log::may_have_lost()
    uint64_t torn_ends = 0;       // 1 if torn_end() names a place
    uint64_t journal_marks = 0;   // written by themselves
    uint64_t swept_files = 0;     // left behind by a crash
    uint64_t unflushed_bytes = 0;
    uint64_t cache_bytes = 0;
    uint64_t logs = 0;
    // The cost of searches, for tests: logs visited by the hand-over and the checkpoint to find the
    // next or the oldest one, and entries in memory visited by reads of replication.
    uint64_t logs_looked_at = 0;
    uint64_t entries_looked_at = 0;
};

// Which of `shard_count` shards owns a log. The metadata log is shard 0's.
runtime::ShardId owner_of(LogId id, uint32_t shard_count);

class Store {
  public:
    virtual ~Store() = default;
    virtual runtime::Task<Result<Log*>> create_log(
        LogId id, LogConfig config) = 0;  // durable before it returns; kAlreadyExists
    virtual runtime::Task<Result<void>> remove_log(
        LogId id) = 0;  // durable; files go in the background; the Log* dies
    // Returns when a checkpoint holds what each log's state provider gives from now on. Concurrent
    // calls share one. kDiskFull, kIo, kUnavailable.
    virtual runtime::Task<Result<void>> checkpoint() = 0;
    virtual Log* find(LogId id) = 0;  // nullptr if it is not here
    virtual std::vector<LogId> logs() const = 0;
    virtual const StoreMetrics& metrics() const = 0;
    virtual bool failed() const = 0;
    // The data directory's history: the same number as long as every stop of the node was orderly,
    // with everything flushed. A caller that finds a different number may lack what was appended
    // and not durable. docs/formats/history.md.
    virtual uint64_t history() const { return 0; }
    // Where the last block of this shard's journal was torn when the store opened; empty: nowhere.
    // On shard 0 also: of a shard of the same directory, if their number has changed. A crash
    // during a commit leaves such a block, which was never acknowledged. If the last block was
    // damaged later and nothing else shows it, that looks the same: then what was acknowledged in
    // the last journal_mark_ms before the stop may be gone. docs/formats/journal.md.
    virtual std::string torn_end() const { return {}; }
};

class StoreSet {
  public:
    virtual ~StoreSet() = default;
    // Call it on shard 0, with all shards running. Creates the directory if it does not exist.
    // Errors: kUnavailable (locked), kCorrupt, kIo, kDiskFull, ...
    static runtime::Task<Result<std::unique_ptr<StoreSet>>> open(StoreOptions options);
    // The store of the calling shard.
    virtual Store& local() = 0;
    // Call it on shard 0, before destruction: commits, checkpoints, closes, and records that the
    // stop was orderly if everything appended is durable. No task of the stores is running
    // afterwards.
    virtual runtime::Task<void> close() = 0;
};

}  // namespace weir::storage
