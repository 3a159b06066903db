// LeaderAnnouncements: announces to the cluster who leads this shard's replicas and who is in sync,
// through cluster::MetadataShard. Each shard's PartitionTable owns one.
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

    // Announces that the partition is led here and which replicas are in sync, or that it is no
    // longer led here, unless that was announced already.
    void announce(Partition& partition);
    // For a following replica: announces its group's leader, if the leader's own announcement did
    // not arrive.
    void announce_hearsay(Partition& partition);

  private:
    cluster::MetadataShard& metadata_;
    const raft::NodeId self_;
};

}  // namespace weir::kafka
