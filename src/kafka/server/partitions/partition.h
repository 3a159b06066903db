// Partition: one replica of a partition of a topic on its owner shard: Kafka's rules between
// requests and a replication::Group. It decides what may be appended (idempotence, offsets, the
// broker's timestamps) and what may be read (nothing above the high watermark), and wakes the
// waiting fetches. Owned by the shard's PartitionTable; used on that shard alone. The log survives
// a crash, and so does producer state as a fold of it.
//
// The high watermark is what the group has committed, as far as this replica knows. It never goes
// back, so everything below it may be read here, on a leader or not. Queries for the newest state
// (ListOffsets, an offset beyond the log's end) are answered only by a leader that has asked its
// followers whether it still leads. The leader's epoch is the group's term.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/uuid.h"
#include "cluster/config_view.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/records/batch.h"
#include "kafka/server/partitions/folds.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/producer_fold.h"
#include "kafka/server/partitions/server_bugs.h"
#include "kafka/server/partitions/unpacking.h"
#include "replication/group.h"
#include "runtime/buffer.h"
#include "runtime/scope.h"
#include "storage/log.h"

namespace weir::kafka {

// The Kafka error for a failed or full disk or a node that stops.
KafkaError storage_error(const Error& error);

// A batch that was validated on the connection's shard. It is appended as it is, except for the
// header fields that the broker writes.
struct CheckedBatch {
    runtime::SharedBytes
        bytes;  // this batch alone; nobody else reads or writes these bytes until it is appended
    WallTime max_timestamp;  // by its records
};

// The leader as far as a replica knows, for a client that asked the wrong one; -1: not known.
struct LeaderHint {
    int32_t leader = -1;
    int32_t epoch = -1;
};

struct AppendOptions {
    bool log_append_time = false;
    // The append is refused if fewer replicas than this are in sync (min.insync.replicas with
    // acks=all).
    int32_t in_sync_min = 1;
    // The term in which the write was decided: it may not be appended in a later one. 0: any term.
    raft::Term term = 0;
};

struct AppendOutcome {
    KafkaError error = KafkaError::kNone;
    std::string message;
    int64_t base_offset = -1;
    int64_t log_append_time_ms = -1;
    int64_t log_start_offset = -1;
    storage::Position end;  // committed when the group's commit is up to here ...
    raft::Term term = 0;    // ... in this term
    LeaderHint hint;
};

struct FetchRange {
    int64_t offset = 0;
    int32_t current_leader_epoch = -1;
    int32_t last_fetched_epoch = -1;
    uint64_t bytes_max = 0;
    bool at_least_one = false;
    bool leader_only = false;  // a client that does not know of reading from followers
    // The client has a nearer replica than the leader: nothing is read if this one leads.
    bool redirect_to_nearest = false;
};

struct FetchOutcome {
    KafkaError error = KafkaError::kNone;
    LeaderHint hint;
    int32_t epoch = -1;  // the replica's, when it looked
    int64_t high_watermark = -1;
    int64_t log_start_offset = -1;
    std::optional<storage::Log::TermEnd> diverging;
    bool redirect_to_nearest = false;  // see FetchRange
    std::vector<runtime::SharedBytes> parts;
    uint64_t size = 0;
    bool has_more = false;  // below the high watermark, and did not fit
    bool memory_was_short = false;
    bool is_in_older_segment = false;  // where it read from: see storage::Log
    // What counts towards fetch.min.bytes, and whether the fetch is answered whatever that is: its
    // reader decides (reading.cc).
    uint64_t counted = 0;
    bool completes = false;
};

struct OffsetOutcome {
    KafkaError error = KafkaError::kNone;
    int64_t offset = -1;
    int64_t timestamp_ms = -1;
    int32_t leader_epoch = -1;
};

class FetchWatch;

// Links a watch to one of the partitions that it watches.
struct WatchHook : ListHook {
    FetchWatch* watch = nullptr;
};

// One waiting fetch's interest in partitions of this shard; see FetchWatches.
class FetchWatch {
  public:
    MailAddress address;
    int64_t bytes_needed = 1;
    std::deque<WatchHook> hooks;
};

class Partition;

// What a partition reports to its owner.
class PartitionEvents {
  public:
    virtual ~PartitionEvents() = default;
    // What this watch waits for may have arrived; ends the watch.
    virtual void fire(FetchWatch& watch) = 0;
    // The role, term or leader changed, or the partition leads and is ready now. The partition may
    // not be closed in here, and its group not called.
    virtual void on_role(Partition& partition) = 0;
    virtual const ServerBugs& bugs() const = 0;
    // Asked before a batch is unpacked.
    virtual Unpacking& unpacking() = 0;
    // The share of this shard's partitions.
    virtual ProducerShare& producer_share() = 0;
    // Whether the metadata names the node for the partition: StateMachine::vouches_for().
    virtual bool is_named(const Partition& partition, NodeId node) const = 0;
};

class Partition final : public replication::StateMachine {
  public:
    Partition(PartitionEvents& events, storage::Log& log, Uuid topic_id, std::string topic,
              int32_t index, size_t producers_max);
    ~Partition() override;
    Partition(const Partition&) = delete;
    Partition& operator=(const Partition&) = delete;

    // Sets the group that replicates the log; once, when it is open and before it does anything.
    void set_group(replication::Group& group);
    // nullptr before, and when the partition is closing.
    replication::Group* group() { return group_; }

    storage::Log& log() { return log_; }
    const Uuid& topic_id() const { return topic_id_; }
    const std::string& topic() const { return topic_; }
    int32_t index() const { return index_; }
    int64_t high_watermark() const { return high_watermark_; }
    int64_t log_start_offset() const { return log_.start_offset(); }
    int32_t leader_epoch() const { return epoch_; }
    bool is_leader() const { return role_ == raft::Role::kLeader; }
    // This replica leads and knows everything that was committed before.
    bool leads() const { return is_ready_; }
    LeaderHint hint() const { return {leader_, leader_ < 0 ? -1 : epoch_}; }
    // The members that will accept the next entries, ascending, this replica included; none if it
    // does not lead. A follower is in sync while its node answers and it lacks no more than its
    // leader sends it at once: what it acknowledged is the leader's log except for what is in
    // flight. Right after an election all count until they prove otherwise.
    std::vector<int32_t> in_sync() const;
    // FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH or kNone, for the epoch that a client believes in
    // (-1: it does not say).
    KafkaError check_epoch(int32_t current_leader_epoch) const;

    // Waits for room, then appends the batch, which is neither durable nor committed yet. Batches
    // of one caller are appended in the order of its calls if it awaits each.
    runtime::Task<AppendOutcome> append(CheckedBatch batch, AppendOptions options,
                                        runtime::StopToken stop);
    // Waits until what append() appended is committed. If this leader is deposed meanwhile, it
    // waits for a while for its successor's log. NOT_LEADER_OR_FOLLOWER means that the batch was
    // lost, or that its fate is unknown; if the client sends it again and it is there, it is
    // recognized. Kafka answers the same without waiting. (A separate error for the unknown fate
    // would say more, but makes librdkafka 2.0 give up for good when it sends the following batch
    // first.)
    runtime::Task<KafkaError> wait_committed(storage::Position end, raft::Term term,
                                             runtime::WaitOptions options);
    // Waits until the batch is on this node's stable storage, or returns at once if memory counts
    // as that. It may still be lost with the node.
    runtime::Task<KafkaError> wait_durable(storage::Position end);
    // Waits until this replica leads and is ready. kTimedOut, kUnavailable.
    runtime::Task<Result<void>> wait_ready(runtime::WaitOptions options);

    runtime::Task<FetchOutcome> fetch(FetchRange range, runtime::StopToken stop);
    runtime::Task<OffsetOutcome> find_offset(int64_t timestamp_ms, int32_t current_leader_epoch);
    // Where an epoch ends: {the largest epoch <= `epoch`, its end}. An epoch before the first that
    // this log knows ended where that one begins; {-1, -1} for a future epoch.
    storage::Log::TermEnd end_of_epoch(int32_t epoch) const;
    // Returns the new low watermark. Followers learn it with the next heartbeat.
    runtime::Task<std::expected<int64_t, KafkaError>> delete_records(int64_t before_offset);
    // kNone if this replica was the leader at some moment of this call.
    runtime::Task<KafkaError> confirm_leader();

    std::vector<ProducerStates::Producer> producers() const { return producers_.states().list(); }
    void expire_producers(WallTime now, int64_t age_ms) { producers_.states().expire(now, age_ms); }

    // Wakes the waiting fetch when something changes.
    void watch(WatchHook& hook) { watches_.push_back(hook); }

    // Refuses new uses and ends the waiting ones; these do not return to the group, which may be
    // closed then.
    void begin_close();
    // Call it after begin_close() and the group's end: waits for those uses.
    runtime::Task<void> close();
    // Nothing if the partition is going away.
    std::optional<runtime::Gate::Holder> enter() {
        return is_closing_ ? std::nullopt : gate_.try_enter();
    }

    uint64_t bytes_in() const { return appended_bytes_; }

    // --- replication::StateMachine: the folds of the log
    uint32_t summary_bytes() const override { return kBatchHeaderSize; }
    bool vouches_for(NodeId node) const override { return events_.is_named(*this, node); }
    Result<void> recover(Bytes state, storage::Position state_end,
                         std::vector<storage::RecoveredState::Replayed> entries) override;
    storage::CapturedState capture() override;
    void on_append(const storage::EntryInfo& info, Bytes summary) override;
    void on_truncate(storage::Position end) override;
    void on_commit() override;
    void on_role() override;

  private:
    // It led until just now, and the next leader is not known here yet.
    bool is_successor_awaited() const;
    void note_appended(const BatchHeader& header, WallTime now);
    void note_ready();
    // The epoch of the record at `offset`, or of the next one to be appended there.
    int32_t epoch_of(int64_t offset) const;
    void fire_all();
    runtime::Task<OffsetOutcome> find_by_time(int64_t timestamp_ms, int64_t end_offset);

    PartitionEvents& events_;
    storage::Log& log_;
    replication::Group* group_ = nullptr;
    const Uuid topic_id_;
    const std::string topic_;
    const int32_t index_;
    // As the group last reported; they outlive it.
    raft::Role role_ = raft::Role::kFollower;
    bool is_ready_ = false;
    bool is_closing_ = false;
    int32_t epoch_ = 0;
    int32_t leader_ = -1;
    int64_t high_watermark_ = 0;
    Instant leader_since_{};
    Instant leader_until_{};  // of the last time that it led
    runtime::WaitQueue role_changed_;
    runtime::WaitQueue fate_changed_;  // of what was appended here: committed, or cut off
    ProducerFold producers_;
    LogFolds folds_;
    // Appends that are not committed yet: where each ends, and how many bytes there were by then.
    struct Pending {
        int64_t next_offset;
        uint64_t bytes;
    };
    Fifo<Pending> pending_;
    uint64_t appended_bytes_ = 0;
    uint64_t committed_bytes_ = 0;
    IntrusiveList<WatchHook> watches_;
    runtime::Gate gate_;
};

}  // namespace weir::kafka
