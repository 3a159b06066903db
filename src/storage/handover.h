// Hand-over: moves what is durable in the journal from memory to the logs' segments, in large runs,
// in the background; then memory and journal space come free. Also makes segments ready (created,
// preallocated, rolled) and closes full ones with a footer. Owned by the ShardStore, used on its
// shard.
//
// 1. The run is written to the segment and flushed. 2. A note goes into the journal with a later
// commit. 3. Until that note is durable a crash brings the entries back from the journal, and the
// run is written again at the same place.
#pragma once

#include "base/intrusive_list.h"
#include "base/result.h"
#include "base/units.h"
#include "runtime/scope.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/partition_log.h"
#include "storage/run_plan.h"
#include "storage/segment_files.h"

namespace weir::storage {

class ShardStore;

// A bypass takes what waits in memory along; more than this and a hand-over must come first.
inline constexpr uint64_t kStreamBacklogMax = 8_MiB;

class Handover {
  public:
    explicit Handover(ShardStore& store) : store_(store) {}

    // --- from the commit loop
    // The log got more durable entries.
    void consider(PartitionLog& log);
    void after_commit();
    // Soon, whatever its size.
    void ask(PartitionLog& log);
    // Another budget, which blocks of entries in memory may be charged to, runs short: moves the
    // log whose entries wait longest. Again for the next one.
    void give_way();
    // A bypass of `length` wants an open segment with room for it; there is `room`.
    void bypass_needs(PartitionLog& log, uint64_t room, uint64_t length);

    // An entry so large that only a segment can take it is to come: makes its segment ready, or
    // tells that the disk is full; where descriptors are short it waits for some.
    runtime::Task<Result<void>> admit_large(PartitionLog* log, uint64_t bytes,
                                            runtime::StopToken stop);

    // --- from the maintenance task
    // Moves what is due: whole runs; the oldest while memory is short; all whose oldest entry is in
    // a block before `old_block`.
    runtime::Task<void> run(uint64_t old_block);
    // The oldest block that holds an entry which is in no segment yet; UINT64_MAX if there is none.
    uint64_t oldest_block();

    // The runs are in the read cache afterwards, or not.
    enum class Cached : uint8_t { kYes, kNo };
    runtime::Task<Result<void>> move(PartitionLog* log, Cached cached = Cached::kYes);
    // The same for a log that is idle, within the bounds of what is moved at a time; errors are
    // reported.
    runtime::Task<void> move_idle(PartitionLog* log);
    // Rolls the active segment if it is older than its log's segment_ms.
    runtime::Task<Result<void>> roll_if_expired(PartitionLog* log);
    // Rolls it now, if it holds anything and nobody writes to it.
    runtime::Task<Result<void>> roll(PartitionLog* log);

  private:
    // For a bypass of `length`. The caller has set the log's segment_asked; when it is reset, the
    // commits that found it set go on.
    runtime::Task<Result<void>> make_segment_ready(PartitionLog* log, uint64_t length);
    // False: the log is busy, and nothing was done.
    runtime::Task<Result<bool>> extend_or_open(PartitionLog* log, uint64_t length);
    runtime::Task<void> move_and_report(PartitionLog* log, runtime::Gate::Holder inside,
                                        runtime::Units units);
    runtime::Task<Result<void>> move_durable(PartitionLog* log, Cached cached);
    // Moving is set by the caller. After it the active segment is open and has room for `length`,
    // or is new.
    runtime::Task<Result<SegmentFiles::Pin>> prepare_segment(PartitionLog* log, uint64_t length);
    runtime::Task<Result<SegmentFiles::Pin>> open_new_segment(PartitionLog* log, uint64_t length);
    runtime::Task<Result<void>> extend(PartitionLog* log, uint32_t segment, SegmentFiles::Pin* pin,
                                       uint64_t length);
    runtime::Task<void> prepare_for_bypass(PartitionLog* log, uint64_t length,
                                           runtime::Gate::Holder inside);
    runtime::Task<void> close_segment(PartitionLog* log, uint32_t segment,
                                      runtime::Gate::Holder inside);
    // Tasks that outlive the call that starts them come with a hold on their log.
    runtime::Task<Result<void>> write_footer(PartitionLog* log, uint32_t segment);
    bool memory_is_short() const;
    PartitionLog* next(uint64_t old_block);
    PartitionLog* oldest();
    // Where space or descriptors are short, moves pause for a while; else the log is damaged.
    void report(PartitionLog& log, const Error& error);
    // The active segment, or a new one, can't be written: the log goes offline, and the next run
    // goes to another segment. Moving is set by the caller.
    runtime::Task<void> leave_segment(PartitionLog* log, Error error);
    runtime::Task<void> go_on_after_a_while();
    void linger(PartitionLog& log);
    void set_aside(PartitionLog& log);

    ShardStore& store_;
    IntrusiveList<LogHook> due_;        // with a whole run, or asked for
    IntrusiveList<LogHook> lingering_;  // with any entry in memory, by the block of its oldest one
    IntrusiveList<LogHook> busy_;       // ... which are moved or cut just now
    runtime::Semaphore moves_{8_MiB};   // bytes of buffers: more would only wait for the device
    bool paused_ = false;
    bool gives_way_ = false;  // asked, and no log was moved since
};

}  // namespace weir::storage
