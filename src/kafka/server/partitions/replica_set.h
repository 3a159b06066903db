// ReplicaSet: this shard's replicas, created and removed as the metadata says: this node has a
// replica of each partition that names it among its replicas or in their target. A replica is
// created when the record is here; on a node alone its log is created before the record, since a
// topic whose logs can't be created must not exist. It is removed when the partition no longer
// names the node. How a replica begins, and why that is safe: docs/decisions/0007-how-a-replica-
// begins.md. Owned by the shard's PartitionTable, used on that shard alone.
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

    // All outlive it. Background work runs in `scope`. The replicas get `events`; `resigned` is
    // called for a replica that led and is being removed.
    ReplicaSet(storage::Store& store, cluster::MetadataShard& metadata,
               replication::Replicator& replicator, PartitionEvents& events, runtime::Scope& scope,
               std::function<void(Partition&)> resigned);

    // Brings the replicas in line with the image: creates missing logs, and removes logs that no
    // topic names. Returns when the replicas that are their group's only member are ready.
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
    // The assignment, if it names this node and this shard; nullptr if there is none (any more).
    const cluster::PartitionAssignment* find_wanted(const Place& place) const;
    // Whether the image names that node for the partition, among its replicas or in the target.
    bool is_named(const Partition& partition, NodeId node) const;
    // Creates or removes the replicas as the image says. Returns when that is done, with the first
    // failure if there was one; or goes on in the background until it is done.
    runtime::Task<Result<void>> bring_all_in_line(std::vector<Place> places);
    void bring_in_line_soon(std::vector<Place> places);
    void retry(std::vector<Place> places);  // after a failure
    // Waits, for a while, for the replicas that are their group's only member: they lead as soon as
    // they have written so.
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
    // Waits until the image's word on the place is what the cluster has decided, or names it again.
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
