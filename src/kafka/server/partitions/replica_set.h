// ReplicaSet: the replicas that this shard has, made and removed as the metadata says: this node
// has a replica of each partition that names it among its replicas or their target. A replica is
// made when the record is here, or a log was made for it before (on a node alone, where a topic
// whose logs can't be made must not come to be), and goes away when the partition names the node no
// more. How a replica begins, and why that is safe: docs/decisions/0007-how-a-replica-begins.md.
// Owned by the shard's PartitionTable, used on that shard alone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/partitions/partition.h"
#include "replication/replicator.h"
#include "runtime/scope.h"
#include "storage/store.h"

namespace weir::kafka {

class ReplicaSet {
  public:
    // A partition as records name it.
    struct Place {
        storage::LogId log;
        Uuid topic;
        int32_t index = 0;
    };

    // All outlive it. `scope` is where its background work runs. `events` is given to the replicas;
    // `resigned` is called for one that led and is being removed.
    ReplicaSet(storage::Store& store, cluster::MetadataShard& metadata,
               replication::Replicator& replicator, PartitionEvents& events, runtime::Scope& scope,
               std::function<void(Partition&)> resigned);

    // Brings replicas in line with the image: what has no log gets one, a log that no topic names
    // is removed. Returns when the replicas that have no other are ready.
    runtime::Task<Result<void>> open();
    // Ends the replicas' groups; when the scope's work has ended as well, close() may follow.
    runtime::Task<void> begin_close();
    runtime::Task<void> close();

    // The hooks of cluster::MetadataShard.
    runtime::Task<Result<void>> create_logs(std::vector<cluster::NewLog> logs);
    runtime::Task<void> remove_logs(std::vector<storage::LogId> ids);

    // The partitions of a topic from `first` on that this shard owns.
    void add_places(const cluster::TopicImage& topic, size_t first, std::vector<Place>& to) const;
    bool owns(storage::LogId id) const;
    // Of this node and this shard; nullptr if there is none (any more).
    const cluster::PartitionAssignment* find_wanted(const Place& place) const;
    // Whether the image names that node for the partition, among its replicas or where it moves.
    bool is_named(const Partition& partition, NodeId node) const;
    // Makes or removes the replicas, whichever the image says, before it returns (the first failure
    // if there was one), or in the background until it is done.
    runtime::Task<Result<void>> bring_all_in_line(std::vector<Place> places);
    void bring_in_line_soon(std::vector<Place> places);
    void retry(std::vector<Place> places);  // after a failure
    // Waits, for a while, for those that are their group's only member: they lead as soon as they
    // have written that they do.
    runtime::Task<void> wait_ready(std::vector<Place> places);
    static void configure(Partition& partition, const cluster::TopicSettings& settings);

    // nullptr if it is not here. A use that waits holds Partition::enter().
    Partition* find(storage::LogId id);
    size_t size() const { return partitions_.size(); }
    using Map = std::map<storage::LogId, std::unique_ptr<Partition>>;
    const Map& all() const { return partitions_; }

  private:
    // One at a time for each log.
    runtime::Task<Result<void>> bring_in_line(Place place);
    runtime::Task<Result<void>> change(const Place& place);
    runtime::Task<Result<void>> make(const Place& place, storage::Log& log);
    runtime::Task<void> remove(storage::LogId id);
    // Until what the image says of the place is what the cluster has decided, or names it again.
    runtime::Task<void> await_current(const Place& place);
    runtime::Task<void> bring_in_line_later(std::vector<Place> places, Duration delay);

    storage::Store& store_;
    cluster::MetadataShard& metadata_;
    replication::Replicator& replicator_;
    PartitionEvents& events_;
    runtime::Scope& scope_;
    std::function<void(Partition&)> resigned_;
    Map partitions_;
    std::set<storage::LogId> changing_;
    runtime::WaitQueue change_over_;
};

}  // namespace weir::kafka
