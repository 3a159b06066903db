// PartitionTable: one shard's Kafka partitions, in one place for the folders above: the replicas
// (replica_set.h), the listeners to their leadership (lead_listeners.h), the announcements of their
// leaders (leader_announcements.h), their groups' members (members.h), and the fetches that wait
// (fetch_watches.h). It follows the metadata. Used on its shard alone.
#pragma once

#include <functional>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/fetch_watches.h"
#include "kafka/server/partitions/lead_listeners.h"
#include "kafka/server/partitions/leader_announcements.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/members.h"
#include "kafka/server/partitions/partition.h"
#include "kafka/server/partitions/replica_set.h"
#include "replication/replicator.h"
#include "runtime/scope.h"
#include "storage/store.h"

namespace weir::kafka {

class PartitionTable final : private PartitionEvents {
  public:
    PartitionTable(storage::Store& store, cluster::MetadataShard& metadata,
                   replication::Replicator& replicator, Mailbox& mailbox, const ServerBugs& bugs,
                   Unpacking& unpacking, size_t producers_max = SIZE_MAX);
    ~PartitionTable() override;

    // Brings the replicas in line with the image: creates missing logs, and removes logs that no
    // topic names. Returns when the replicas that are their group's only member are ready.
    runtime::Task<Result<void>> open();
    runtime::Task<void> close();

    // The hooks of cluster::MetadataShard.
    runtime::Task<Result<void>> create_logs(std::vector<cluster::NewLog> logs) {
        return replicas_.create_logs(std::move(logs));
    }
    runtime::Task<void> remove_logs(std::vector<storage::LogId> ids) {
        return replicas_.remove_logs(std::move(ids));
    }
    runtime::Task<void> follow(const cluster::MetadataChange& change);
    // Called when a replica begins to lead and is ready, and when it leads no more.
    LeadListeners& lead_listeners() { return lead_listeners_; }

    // Transfers the partition's leadership to that node. kNotFound; kUnavailable: not the leader;
    // kTimedOut.
    runtime::Task<Result<void>> transfer(storage::LogId id, NodeId to);

    // nullptr if it is not here. A use that waits holds Partition::enter().
    Partition* find(storage::LogId id) { return replicas_.find(id); }
    size_t size() const { return replicas_.size(); }
    void for_each(const std::function<void(Partition&)>& visit);
    // Counts of the replicas here, for the metrics.
    struct Tally {
        uint64_t leaders = 0;
        uint64_t under_replicated = 0;  // led here, and not all replicas are in sync
        uint64_t leaderless = 0;        // of which this node knows no leader
        uint64_t lag_max = 0;           // offsets that a follower of a partition led here lacks
        uint64_t recovering = 0;        // may lack what they acknowledged (raft::Core::recovering)
        uint64_t recoveries = 0;        // since the start
        uint64_t elections_by_all = 0;  // won here since the start
    };
    Tally tally() const;
    // Idempotent producers that the partitions here remember, and how many they may.
    const ProducerShare& producers() const { return producer_share_; }
    runtime::Task<void> expire_producers(WallTime now, int64_t age_ms);

    // The fetches that wait for data of these partitions.
    FetchWatches& watches() { return watches_; }
    const FetchWatches& watches() const { return watches_; }

  private:
    using Place = ReplicaSet::Place;

    void fire(FetchWatch& watch) override { watches_.fire(watch); }
    void on_role(Partition& partition) override;
    const ServerBugs& bugs() const override { return bugs_; }
    Unpacking& unpacking() override { return unpacking_; }
    ProducerShare& producer_share() override { return producer_share_; }
    bool is_named(const Partition& partition, NodeId node) const override {
        return replicas_.is_named(partition, node);
    }

    cluster::MetadataShard& metadata_;
    replication::Replicator& replicator_;
    const ServerBugs& bugs_;
    Unpacking& unpacking_;
    ProducerShare producer_share_;  // outlives the replicas
    LeadListeners lead_listeners_;
    ReplicaSet replicas_;
    LeaderAnnouncements announcements_;
    GroupMembers members_;
    FetchWatches watches_;
    runtime::Scope scope_;  // of the parts: what runs in it uses them to its end
};

}  // namespace weir::kafka
