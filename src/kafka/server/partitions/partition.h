// Partition: one replica of a partition of a topic on its owner shard: the rules of Kafka between
// requests and a replication::Group. It decides what may be appended (idempotence, offsets,
// timestamps of the broker's), what may be read (nothing above the high watermark), and wakes who
// waits for data. Owned by the shard's PartitionTable; used on that shard alone. What survives a
// crash is the log, and producer state as a fold of it.
//
// The high watermark is what the group has committed, as far as this replica knows: it never goes
// back, so that whatever is below it may be read here, leader or not. What a client takes for the
// newest (ListOffsets, an offset beyond the log's end) is answered by a leader that has asked its
// followers whether it still is one. The leader's epoch is the group's term.
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

// A failed disk, a full one, a node that stops: as the client should see it.
KafkaError storage_error(const Error& error);

// A batch that was validated (on the connection's shard) and is ready to be appended as it lies
// there, but for what the broker writes into its header.
struct CheckedBatch {
    runtime::SharedBytes
        bytes;  // this batch alone; nobody else reads or writes these bytes until it is appended
    WallTime max_timestamp;  // by its records
};

// Who leads, as far as a replica knows, for a client that asked the wrong one; -1: not known.
struct LeaderHint {
    int32_t leader = -1;
    int32_t epoch = -1;
};

struct AppendOptions {
    bool log_append_time = false;
    // Refused when fewer replicas than this are in sync (min.insync.replicas with acks=all).
    int32_t in_sync_min = 1;
    // What is written was decided in this term, and may not come in a later one. 0: any.
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
    // The client has a replica nearer to it than the leader: nothing is read if this one leads.
    bool is_elsewhere = false;
};

struct FetchOutcome {
    KafkaError error = KafkaError::kNone;
    LeaderHint hint;
    int32_t epoch = -1;  // the replica's, when it looked
    int64_t high_watermark = -1;
    int64_t log_start_offset = -1;
    std::optional<storage::Log::TermEnd> diverging;
    bool is_elsewhere = false;  // see FetchRange
    std::vector<runtime::SharedBytes> parts;
    uint64_t size = 0;
    bool has_more = false;  // below the high watermark, and did not fit
    bool memory_was_short = false;
    bool is_in_older_segment = false;  // where it read from: see storage::Log
    // What it counts towards fetch.min.bytes, and whether the fetch is answered whatever that is:
    // its reader decides (reading.cc).
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

// Ties a watch to one of the partitions that it watches.
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

// What a partition tells its owner.
class PartitionEvents {
  public:
    virtual ~PartitionEvents() = default;
    // What this watch waits for may have come; ends it.
    virtual void fire(FetchWatch& watch) = 0;
    // Its role, term or leader changed, or it leads and is ready now. It must not be closed, and
    // its group not called, in here.
    virtual void on_role(Partition& partition) = 0;
    virtual const ServerBugs& bugs() const = 0;
    // Asked before a batch is unpacked.
    virtual Unpacking& unpacking() = 0;
    // Of the partitions of this shard.
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

    // The group that replicates the log; once, when it is open and before it does anything.
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
    // It leads, and knows all that was committed before.
    bool leads() const { return is_ready_; }
    LeaderHint hint() const { return {leader_, leader_ < 0 ? -1 : epoch_}; }
    // The members of the group that can be counted on to take the next entries, itself among them,
    // ascending; none if it does not lead. A follower is in sync while its node answers and it
    // lacks no more than its leader sends it at once: what it acknowledged is the leader's log but
    // for what is on the way. Right after an election all count until they prove otherwise.
    std::vector<int32_t> in_sync() const;
    // FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH or kNone for what a client believes the epoch is
    // (-1: does not say).
    KafkaError check_epoch(int32_t current_leader_epoch) const;

    // Waits for room, then takes the batch; it is neither durable nor committed yet. Batches of one
    // caller are appended in the order of its calls if it awaits each.
    runtime::Task<AppendOutcome> append(CheckedBatch batch, AppendOptions options,
                                        runtime::StopToken stop);
    // Until what append() took is committed. A leader that is deposed meanwhile waits for what its
    // successor tells, for a while. NOT_LEADER_OR_FOLLOWER says that it was lost, or that nobody
    // told: sent again, it is known again if it is there. As Kafka's, which does not wait. (Another
    // error for the second case would say more, and makes librdkafka 2.0 give up for good when it
    // sends the batch after it first.)
    runtime::Task<KafkaError> wait_committed(storage::Position end, raft::Term term,
                                             runtime::WaitOptions options);
    // Until it is on this node's stable storage, or at once where memory counts for that; it may
    // still be lost with the node.
    runtime::Task<KafkaError> wait_durable(storage::Position end);
    // Until this replica leads and is ready. kTimedOut, kUnavailable.
    runtime::Task<Result<void>> wait_ready(runtime::WaitOptions options);

    runtime::Task<FetchOutcome> fetch(FetchRange range, runtime::StopToken stop);
    runtime::Task<OffsetOutcome> find_offset(int64_t timestamp_ms, int32_t current_leader_epoch);
    // Where an epoch ends: {the largest epoch that is not larger, its end}; an epoch before the
    // first that this log knows ended where that one begins; {-1, -1} for one that is yet to come.
    storage::Log::TermEnd end_of_epoch(int32_t epoch) const;
    // The new low watermark. Followers hear of it with the next heartbeat.
    runtime::Task<std::expected<int64_t, KafkaError>> delete_records(int64_t before_offset);
    // kNone when this replica was the leader at some moment of this call.
    runtime::Task<KafkaError> confirm_leader();

    std::vector<ProducerStates::Producer> producers() const { return producers_.states().list(); }
    void expire_producers(WallTime now, int64_t age_ms) { producers_.states().expire(now, age_ms); }

    // Tells the waiting fetch when something changes.
    void watch(WatchHook& hook) { watches_.push_back(hook); }

    // No new use from now on, and those that wait end: they do not come back to the group, which
    // may be closed then.
    void begin_close();
    // After begin_close() and the group's end: waits for those uses.
    runtime::Task<void> close();
    // Nothing when the partition is going away.
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
    // It led until just now, and who leads next is not known here yet.
    bool is_successor_awaited() const;
    void note_appended(const BatchHeader& header, WallTime now);
    void note_ready();
    // Of the record at `offset`, or of the next one to be appended there.
    int32_t epoch_of(int64_t offset) const;
    void fire_all();
    runtime::Task<OffsetOutcome> find_by_time(int64_t timestamp_ms, int64_t end_offset);

    PartitionEvents& events_;
    storage::Log& log_;
    replication::Group* group_ = nullptr;
    const Uuid topic_id_;
    const std::string topic_;
    const int32_t index_;
    // As the group last told; they outlive it.
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
