// Group commit. One loop a shard: it collects what waits in all logs into one block of the journal,
// writes it, flushes, tells the logs; what arrives meanwhile is the next block. A log with much to
// write goes straight to its segment in the same commit, and the block holds a reference; while
// that is in flight, what comes next of the stream is laid out as runs already. A commit is durable
// as a whole: nothing of it is acknowledged before the block, and every run that it refers to, are
// flushed. Recovery relies on it.
#pragma once

#include <vector>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "runtime/buffer.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/journal_format.h"
#include "storage/partition_log.h"
#include "storage/run_plan.h"
#include "storage/segment_files.h"

namespace weir::storage {

class ShardStore;

class Committer {
  public:
    explicit Committer(ShardStore& store) : store_(store) {}

    void start(uint64_t durable_block);
    void enqueue(PartitionLog& log);
    // Ends when `stop` is requested and nothing waits, or when the store failed.
    runtime::Task<void> run(runtime::StopToken stop);
    // Until nothing waits, or the store failed, or the disk is full.
    runtime::Task<void> drain();
    // Notified after each commit, when there is nothing to do, and when the disk is full: then what
    // waits may have to wait for ever.
    runtime::WaitQueue& progress() { return progress_; }
    // A log that could not be taken can be now.
    void wake() { work_.notify_all(); }

    // The loop has ended: nothing more will be durable.
    bool ended() const { return ended_; }

    uint64_t durable_block() const { return durable_block_; }

  private:
    struct Item {
        PartitionLog* log;
        Position end;
        uint64_t records = 0;
        uint64_t bytes = 0;
        uint64_t entries = 0;
        // What bypasses the journal.
        SegmentFiles::Pin segment;
        uint32_t segment_id = 0;
        std::vector<BuiltRun> runs;  // those that were laid out ahead; the others follow them
        RunPlan plan;                // ... of the others
        size_t notes_at = 0;         // in the block
        bool bypasses() const { return !runs.empty() || !plan.runs.empty(); }
    };

    runtime::Task<bool> wait_for_work(runtime::StopToken stop);
    void collect();
    // False when the block is full.
    bool collect_from(PartitionLog& log);
    enum class Bypass : uint8_t { kTaken, kInline, kLater };
    // Lays the log's entries out as runs of its active segment; gives how many of those that wait
    // were taken.
    Bypass try_bypass(PartitionLog& log, Item* item, size_t* taken);
    // Lays out what waits in a stream while its last commit is on its way.
    void stage(PartitionLog& log);
    size_t add_entries(PartitionLog& log, Item* item);
    runtime::Task<Result<void>> write_and_flush();
    runtime::Task<Result<void>> write_beside_runs();
    runtime::Task<Result<void>> flush_all();
    void complete();
    void give_up(const Error& error);

    ShardStore& store_;
    IntrusiveList<LogHook> queue_;
    runtime::WaitQueue work_;
    runtime::WaitQueue progress_;
    bool busy_ = false;
    bool ended_ = false;
    uint64_t durable_block_ = 0;
    runtime::IoBuffer memory_;
    BlockBuilder builder_;
    uint64_t bypass_budget_ = 0;
    std::vector<Item> items_;  // what the block in flight holds
};

}  // namespace weir::storage
