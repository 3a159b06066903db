// LeaderAnnouncements: what this shard's replicas let the cluster know of who leads and who is in
// sync, through cluster::MetadataShard. One a shard, owned by its PartitionTable.
#pragma once

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/partition.h"
#include "storage/entry.h"

namespace weir::kafka {

class LeaderAnnouncements {
  public:
    // `metadata` outlives it.
    LeaderAnnouncements(cluster::MetadataShard& metadata, raft::NodeId self)
        : metadata_(metadata), self_(self) {}

    // Announces that the partition is led here and which replicas are in sync, or that it is led
    // here no more, if that is not announced yet.
    void announce(Partition& partition);
    // For a replica that follows: announces the leader that its group has, where the leader's own
    // announcement did not arrive.
    void announce_hearsay(Partition& partition);

  private:
    cluster::MetadataShard& metadata_;
    const raft::NodeId self_;
};

}  // namespace weir::kafka
