// GroupMembers: changes the members of the groups that are led here to what the image wants, and
// announces the replicas' state in rounds: who leads, who is in sync. Owned by the shard's
// PartitionTable, used on that shard alone.
#pragma once

#include <set>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/leader_announcements.h"
#include "kafka/server/partitions/partition.h"
#include "kafka/server/partitions/replica_set.h"
#include "replication/replicator.h"
#include "runtime/scope.h"

namespace weir::kafka {

// The configuration of a group whose members are these nodes, all voters.
raft::Configuration configuration_of(const std::vector<int32_t>& nodes);

class GroupMembers {
  public:
    // All outlive it. `scope` is where its background work runs.
    GroupMembers(ReplicaSet& replicas, LeaderAnnouncements& announcements,
                 cluster::MetadataShard& metadata, replication::Replicator& replicator,
                 runtime::Scope& scope)
        : replicas_(replicas),
          announcements_(announcements),
          metadata_(metadata),
          replicator_(replicator),
          scope_(scope) {}

    // Begins the rounds.
    void start() { scope_.spawn(tend_all(), runtime::WorkClass::kBackground); }
    // One partition, at once.
    void tend(Partition& partition);
    // ... or in the next round.
    void tend_later(storage::LogId id) { to_tend_.insert(id); }

  private:
    runtime::Task<void> tend_all();
    // Begins a change of the group's members if the image wants others. Returns whether there is
    // nothing left to do or to report.
    bool settle_members(Partition& partition);
    runtime::Task<void> change_members(storage::LogId id, raft::Configuration target);

    ReplicaSet& replicas_;
    LeaderAnnouncements& announcements_;
    cluster::MetadataShard& metadata_;
    replication::Replicator& replicator_;
    runtime::Scope& scope_;
    std::set<storage::LogId> changing_;
    std::set<storage::LogId> to_tend_;  // in the next round
};

}  // namespace weir::kafka
