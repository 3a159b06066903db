// PartitionLog: a Log of a ShardStore. Holds the log's state and its waiters; the store's parts
// (commit, hand-over, checkpoint, retention) change them. Owned by its ShardStore, used on that
// shard alone. What survives a crash: entries below durable_end(), and the records that were waited
// for.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "runtime/milestones.h"
#include "runtime/scope.h"
#include "runtime/wait.h"
#include "storage/checkpoint_format.h"
#include "storage/log.h"
#include "storage/log_state.h"
#include "storage/run_plan.h"

namespace weir::storage {

class ShardStore;
class PartitionLog;

// A log in one of the store's queues.
struct LogHook : ListHook {
    explicit LogHook(PartitionLog& owner) : log(owner) {}
    PartitionLog& log;
};

class PartitionLog final : public Log {
  public:
    PartitionLog(ShardStore& store, LogId id);  // a new one
    PartitionLog(ShardStore& store, LogSnapshot recovered, std::unique_ptr<RecoveredState> replay);
    ~PartitionLog() override;

    LogId id() const override { return state_.id; }
    const LogConfig& config() const override { return config_; }
    void configure(const LogConfig& config) override;
    int64_t start_offset() const override { return state_.start_offset; }
    Position end() const override { return state_.end; }
    Position durable_end() const override { return durable_end_; }
    HardState hard_state() const override { return state_.hard_state; }
    int32_t last_term() const override { return state_.last_term(); }
    std::vector<TermStart> terms() const override { return state_.terms; }
    std::optional<TermEnd> end_of_term(int32_t term) const override;
    bool is_in_older_segment(int64_t offset) const override;
    uint64_t size_bytes() const override { return state_.segment_bytes() + state_.memory_bytes; }
    runtime::Task<Result<void>> admit(uint64_t bytes, runtime::StopToken stop,
                                      uint64_t entries) override;
    void withdraw(uint64_t bytes, uint64_t entries) override;
    Result<void> append(Entry entry) override;
    runtime::Task<Result<void>> wait_durable(Position position) override;
    void on_durable(std::function<void()> listener) override { listener_ = std::move(listener); }
    runtime::Task<Result<ReadResult>> read(int64_t offset, ReadLimits limits,
                                           runtime::StopToken stop) override;
    runtime::Task<Result<std::vector<FoundEntry>>> read_entries(Position from,
                                                                ReadEntriesLimits limits,
                                                                runtime::StopToken stop) override;
    runtime::Task<Result<std::optional<FoundEntry>>> find_timestamp(int64_t timestamp_ms,
                                                                    int64_t end_offset) override;
    runtime::Task<Result<std::optional<FoundEntry>>> find_max_timestamp(
        int64_t end_offset) override;
    runtime::Task<Result<void>> truncate_suffix(Position end) override;
    runtime::Task<Result<void>> truncate_prefix(int64_t start_offset) override;
    RetentionHold hold_from(int64_t offset) override { return holds_.add(offset); }
    int64_t held_from() const { return holds_.lowest(); }
    std::vector<SegmentInfo> segments() const override;
    runtime::Task<Result<SegmentPin>> pin(uint32_t segment) override;
    runtime::Task<Result<void>> rewrite(uint32_t segment, SegmentRewriter rewriter,
                                        runtime::StopToken stop) override;
    runtime::Task<Result<void>> save_hard_state(HardState state) override;
    runtime::Task<Result<void>> start_anew(int64_t start_offset, int32_t term_below) override;
    runtime::Task<Result<void>> save_group_config(std::vector<uint8_t> config) override;
    const std::vector<uint8_t>& group_config() const override { return state_.group_config; }
    void set_state_provider(std::function<CapturedState()> provider) override;
    RecoveredState take_recovered() override;
    const std::optional<LogDamage>& damage() const override { return damage_; }
    void on_damage(std::function<void()> listener) override {
        damage_listener_ = std::move(listener);
    }
    bool may_have_lost() const override { return may_have_lost_; }
    bool loss_accepted() const override;
    runtime::Task<Result<void>> confirm_whole() override;

    // --- for the store's parts
    // ---------------------------------------------------------------------------------------------
    LogState& state() { return state_; }
    const LogState& state() const { return state_; }
    bool configured() const { return configured_; }

    // Queues a record without payload for the next block, before the waiting entries;
    // wait_records(n) returns when n records are durable.
    template <class Append>
    uint64_t queue_record(Append append_to) {
        append_to(pending_records_);
        ++pending_record_count_;
        enqueue();
        return ++records_queued_;
    }
    runtime::Task<Result<void>> wait_records(uint64_t count);
    uint64_t records_queued() const { return records_queued_; }
    uint64_t records_durable() const { return records_durable_; }

    // What the next block should hold.
    size_t pending_entries() const { return pending_entries_; }
    uint64_t pending_bytes() const { return pending_bytes_; }
    size_t first_pending() const { return state_.memory.size() - pending_entries_; }
    Bytes pending_records() const { return pending_records_; }
    uint32_t pending_record_count() const { return pending_record_count_; }
    bool has_pending() const { return pending_entries_ > 0 || pending_record_count_ > 0; }
    // Bytes of entries that are durable and only in memory.
    uint64_t unflushed_durable_bytes() const {
        return state_.memory_bytes - pending_bytes_ - in_commit_bytes_;
    }
    bool has_unflushed_durable() const {
        return !state_.memory.empty() && state_.flushed_end < durable_end_;
    }

    // The commit moved `entries` of the waiting entries, and all waiting records, into `block`.
    void moved_to_block(size_t entries, uint64_t bytes, uint64_t block, bool bypassing);
    // ... and that block is durable.
    void committed(Position durable_end, uint64_t records);
    void commit_failed(const Error& error);

    bool in_commit() const { return in_commit_; }
    bool bypassing() const { return bypassing_; }
    // Waits until no commit has the log and nobody writes to its segment.
    runtime::Task<void> wait_quiet();
    // ... nobody writes to its segment.
    runtime::Task<void> wait_not_moving();
    // Reads from the segments what recovery passes on, where the journal does not reach back to the
    // saved state.
    runtime::Task<Result<void>> rebuild_replay();
    // Some of that could not be read, so the owner's state lacks it: until the log is whole again,
    // checkpoints keep the last one's state.
    void keep_saved_state() { owner_lacks_entries_ = true; }
    // A hand-over or a bypass writes to the active segment, or a cut of the log waits until none
    // does.
    bool moving() const { return moving_; }
    void set_moving(bool moving);
    bool held() const { return hold_ > 0; }
    // Entries that went into a segment leave the memory.
    void run_added(const RunNote& note, runtime::SharedBytes bytes);

    // The state machine's bytes for a checkpoint: from the provider, or what recovery found.
    // `wait`: the checkpoint waits until what is captured is durable.
    void capture(std::vector<uint8_t>& checkpoint, uint64_t durable_block, bool wait);
    void remove_segments(std::vector<Segment> segments, uint64_t after_records);
    // The file that takes the place of a segment while it is written: nobody else knows it.
    struct Draft {
        uint32_t segment = 0;
        int64_t base_offset = 0;
    };
    std::optional<Draft> draft;
    void mark_removing() { removing_ = true; }
    bool removing() const { return removing_; }
    runtime::Gate& gate() { return gate_; }
    int64_t unflushed_since_ms() const { return unflushed_since_ms_; }
    // When the last entry without a timestamp came, or the log was opened.
    int64_t unstamped_since_ms() const { return unstamped_since_ms_; }

    // A file of the log is damaged or missing: `error` says which and how. Logged once.
    void found_damage(const Error& error, bool offline);
    bool offline() const { return damage_ && damage_->offline; }
    void mark_may_have_lost();
    // The log leaves the store: it no longer counts among the damaged ones.
    void leave() {
        end_damage();
        if (std::exchange(may_have_lost_, false)) leave_losses();
    }

    // Whether it was appended to or read since the last call.
    bool take_used() { return std::exchange(used_, false); }

    LogHook commit_hook{*this};
    LogHook memory_hook{*this};  // logs with entries in memory: lingering, or set aside
    bool set_aside = false;
    uint64_t oldest_block = 0;     // of its entries in memory, when it was listed
    uint32_t segments_left = 0;    // in a row, because they could not be written
    LogHook handover_hook{*this};  // logs with a whole run in memory
    // A task makes the active segment ready for a bypass.
    bool segment_asked = false;
    void end_segment_task() {
        segment_asked = false;
        quiet_.notify_all();
    }
    runtime::Task<void> wait_segment_task();
    // The last commit was as large as a bypass: the next one will be too, and includes what is in
    // memory. A hand-over would only delay it.
    bool streaming = false;
    StagedRuns staged;  // by the commit loop

  private:
    friend class LogReader;
    // Whether the entry can be appended now.
    Result<void> check_entry(const Entry& entry) const;
    void enqueue();
    void drop_pending_beyond(Position end);
    void release_hold();
    void end_damage();
    void leave_losses();
    Result<void> online() const;
    runtime::Task<void> announce_damage(runtime::Gate::Holder inside);

    ShardStore& store_;
    LogState state_;
    LogConfig config_;
    bool configured_ = false;
    bool removing_ = false;
    bool used_ = true;
    Position durable_end_;
    size_t pending_entries_ = 0;  // the last ones of state_.memory
    uint64_t pending_bytes_ = 0;
    uint64_t in_commit_bytes_ = 0;
    std::vector<uint8_t> pending_records_;
    uint32_t pending_record_count_ = 0;
    uint64_t records_queued_ = 0;
    uint64_t records_durable_ = 0;
    bool in_commit_ = false;
    bool moving_ = false;
    bool bypassing_ = false;
    uint32_t hold_ = 0;
    int64_t unflushed_since_ms_ = 0;
    int64_t unstamped_since_ms_ = 0;
    RetentionHolds holds_;
    runtime::WaitQueue quiet_;
    runtime::Milestones<Position> durable_waiters_;
    runtime::Milestones<uint64_t> record_waiters_;
    std::function<void()> listener_;
    std::function<CapturedState()> provider_;
    // What a checkpoint gets if the provider can't be called: the state and the end that it covers;
    // {} and nothing if there is none.
    Position state_end_;
    int64_t state_floor_ = -1;
    std::vector<uint8_t> saved_state_;
    bool owner_lacks_entries_ = false;
    std::unique_ptr<RecoveredState> recovered_;
    std::optional<LogDamage> damage_;
    std::function<void()> damage_listener_;
    bool may_have_lost_ = false;
    runtime::Gate gate_;
};

}  // namespace weir::storage
