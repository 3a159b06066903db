// Partition: one partition of a topic on its owner shard: the rules of Kafka between requests and a
// storage::Log. It decides what may be appended (idempotence, offsets, timestamps of the broker's),
// what may be read (nothing above the high watermark), and wakes who waits for data. Owned by the
// shard's PartitionTable; used on that shard alone. What survives a crash is the log, and producer
// state as a fold of it.
//
// One node: the high watermark is what is on stable storage, and the leader's epoch never changes.
// With Raft both come from the group.
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
#include "kafka/server/mailbox.h"
#include "kafka/server/producer_state.h"
#include "runtime/buffer.h"
#include "runtime/scope.h"
#include "storage/log.h"

namespace weir::kafka {

inline constexpr int32_t kLeaderEpoch = 1;

// A failed disk, a full one, a node that stops: as the client should see it.
KafkaError storage_error(const Error& error);

// A batch that was validated (on the connection's shard) and is ready to be appended as it lies
// there, but for what the broker writes into its header.
struct CheckedBatch {
    runtime::SharedBytes
        bytes;  // this batch alone; nobody else reads or writes these bytes until it is appended
    WallTime max_timestamp;  // by its records
};

struct AppendOutcome {
    KafkaError error = KafkaError::kNone;
    std::string message;
    int64_t base_offset = -1;
    int64_t log_append_time_ms = -1;
    int64_t log_start_offset = -1;
    storage::Position end;  // durable when the log is up to here
};

struct FetchRange {
    int64_t offset = 0;
    int32_t current_leader_epoch = -1;
    int32_t last_fetched_epoch = -1;
    uint64_t bytes_max = 0;
    bool at_least_one = false;
};

struct FetchOutcome {
    KafkaError error = KafkaError::kNone;
    int64_t high_watermark = -1;
    int64_t log_start_offset = -1;
    std::optional<storage::Log::TermEnd> diverging;
    std::vector<runtime::SharedBytes> parts;
    uint64_t size = 0;
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

class Partition {
  public:
    Partition(storage::Log& log, Uuid topic_id, std::string topic, int32_t index,
              size_t producers_max);
    ~Partition();
    Partition(const Partition&) = delete;
    Partition& operator=(const Partition&) = delete;

    // Takes over what recovery found. Once, before use.
    Result<void> recover();

    storage::Log& log() { return log_; }
    const Uuid& topic_id() const { return topic_id_; }
    const std::string& topic() const { return topic_; }
    int32_t index() const { return index_; }
    int64_t high_watermark() const { return log_.durable_end().offset; }
    int64_t log_start_offset() const { return log_.start_offset(); }
    int32_t leader_epoch() const { return kLeaderEpoch; }
    // FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH or kNone for what a client believes the epoch is
    // (-1: does not say).
    KafkaError check_epoch(int32_t current_leader_epoch) const;

    // Waits for room, then takes the batch; it is not durable yet. Batches of one caller are
    // appended in the order of its calls if it awaits each.
    runtime::Task<AppendOutcome> append(CheckedBatch batch, bool log_append_time,
                                        runtime::StopToken stop);
    // Until what lies below `end` is committed.
    runtime::Task<KafkaError> wait_committed(storage::Position end);

    runtime::Task<FetchOutcome> fetch(FetchRange range, runtime::StopToken stop);
    runtime::Task<OffsetOutcome> find_offset(int64_t timestamp_ms, int32_t current_leader_epoch);
    // {-1, -1} if the epoch is not known.
    storage::Log::TermEnd end_of_epoch(int32_t epoch) const;
    // The new low watermark.
    runtime::Task<std::expected<int64_t, KafkaError>> delete_records(int64_t before_offset);

    std::vector<ProducerStates::Producer> producers() const { return producers_.list(); }
    void expire_producers(WallTime now, int64_t age_ms) { producers_.expire(now, age_ms); }

    void watch(WatchHook& hook) { watches_.push_back(hook); }
    // Tells the waiting fetches that something changed. `fire` ends a watch.
    using Fire = std::function<void(FetchWatch&)>;
    void set_fire(Fire fire) { fire_ = std::move(fire); }

    // No new use from now on; waits for those that are under way.
    runtime::Task<void> close();
    // Nothing when the partition is going away.
    std::optional<runtime::Gate::Holder> enter() { return gate_.try_enter(); }

    uint64_t bytes_in() const { return appended_bytes_; }

  private:
    void on_durable();
    void fire_all();
    runtime::Task<OffsetOutcome> find_by_time(int64_t timestamp_ms, int64_t end_offset);

    storage::Log& log_;
    const Uuid topic_id_;
    const std::string topic_;
    const int32_t index_;
    ProducerStates producers_;
    // Appends that are not durable yet: where each ends, and how many bytes there were by then.
    struct Pending {
        int64_t next_offset;
        uint64_t bytes;
    };
    std::deque<Pending> pending_;
    uint64_t appended_bytes_ = 0;
    uint64_t durable_bytes_ = 0;
    IntrusiveList<WatchHook> watches_;
    Fire fire_;
    runtime::Gate gate_;
};

}  // namespace weir::kafka
