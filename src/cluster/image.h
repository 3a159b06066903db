// MetadataImage: the state of the metadata log so far: nodes, topics, their partitions and
// configuration, features, the cluster's id. A pure fold of records. Every shard has its own copy;
// decisions are made on the controller's, on shard 0. The log survives a crash; an image is rebuilt
// from it, or from a snapshot, which is a list of records that make the same image.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"
#include "cluster/records.h"

namespace weir::cluster {

struct TopicImage {
    std::string name;
    Uuid id;
    std::vector<PartitionAssignment> partitions;
    ConfigMap configs;
    bool operator==(const TopicImage&) const = default;
};

struct NodeImage {
    NodeRegistered info;  // the newest
    NodeState state = NodeState::kActive;
    bool operator==(const NodeImage&) const = default;
};

// The largest cluster; a log that registers more is damaged.
inline constexpr size_t kNodesMax = 1000;

class MetadataImage {
  public:
    // kCorrupt: the record does not follow from what came before (a damaged log, or a bug).
    // kUnsupported: it finalizes a level that this binary does not know. The image is unchanged
    // then.
    Result<void> apply(const MetadataRecord& record);

    const Uuid& cluster_id() const { return cluster_id_; }
    uint64_t log_ids_end() const { return log_ids_end_; }
    int64_t producer_ids_end() const { return producer_ids_end_; }

    // The finalized level; 0 if nothing was finalized.
    int32_t feature_level(std::string_view feature) const;
    const std::map<std::string, int32_t, std::less<>>& features() const { return features_; }

    // By id, in order. Empty in a cluster of one node that never registered.
    const std::map<int32_t, NodeImage>& nodes() const { return nodes_; }
    // nullptr if there is none. Valid until the next apply().
    const NodeImage* find_node(int32_t id) const;
    const NodeImage* find_node(const Uuid& uuid) const;
    // Every id that was ever assigned automatically is below.
    int32_t node_ids_end() const { return node_ids_end_; }
    // How many partitions have the node among their replicas or in their target, or had it in an
    // abandoned target and may still have it in their group.
    size_t replica_count(int32_t node) const;
    // How many partitions prefer the node as their leader, or will when their reassignment is done.
    size_t preferred_count(int32_t node) const;

    // nullptr if there is none. Valid until the next apply().
    const TopicImage* find(std::string_view name) const;
    const TopicImage* find(const Uuid& id) const;
    // The other topic whose name differs from this one only in '.' against '_' (metric names would
    // be the same, so Kafka refuses the second); nullptr if there is none.
    const TopicImage* find_collision(std::string_view name) const;
    // By name, in order.
    const std::map<std::string, TopicImage, std::less<>>& topics() const { return topics_; }
    size_t partition_count() const { return partition_count_; }
    // Empty if nothing was set.
    const ConfigMap& configs(ConfigResource resource, std::string_view name) const;
    // The names of a kind of resource that have configuration.
    std::vector<std::string> configured(ConfigResource resource) const;

    std::vector<MetadataRecord> to_records() const;
    bool operator==(const MetadataImage&) const = default;

  private:
    Result<void> apply_one(const ClusterCreated& record);
    Result<void> apply_one(const LogIdsReserved& record);
    Result<void> apply_one(const ProducerIdsReserved& record);
    Result<void> apply_one(const TopicCreated& record);
    Result<void> apply_one(const TopicDeleted& record);
    Result<void> apply_one(const PartitionsAdded& record);
    Result<void> apply_one(const TopicConfigChanged& record);
    Result<void> apply_one(const ResourceConfigChanged& record);
    Result<void> apply_one(const FeatureFinalized& record);
    Result<void> apply_one(const NodeIdsReserved& record);
    Result<void> apply_one(const NodeRegistered& record);
    Result<void> apply_one(const NodeRemoved& record);
    Result<void> apply_one(const NodeStateChanged& record);
    Result<void> apply_one(const PartitionReassigned& record);
    Result<void> apply_one(const PartitionReplicasChanged& record);
    TopicImage* find_mutable(const Uuid& id);
    // nullptr if there is none, or if its revision is later.
    PartitionAssignment* find_older(const Uuid& topic, uint32_t partition, uint32_t revision);
    // Whether the node is among the replicas or in the target of a partition.
    bool is_named(int32_t node) const;
    void count_replicas(const PartitionAssignment& partition, int difference);

    Uuid cluster_id_;
    uint64_t log_ids_end_ = storage::kMetadataLog.v + 1;
    int64_t producer_ids_end_ = 0;
    int32_t node_ids_end_ = 0;
    std::map<std::string, int32_t, std::less<>> features_;
    std::map<int32_t, NodeImage> nodes_;
    std::map<int32_t, size_t> replica_counts_;    // no zeros
    std::map<int32_t, size_t> preferred_counts_;  // no zeros
    std::map<std::string, TopicImage, std::less<>> topics_;
    std::map<Uuid, std::string> names_;
    // Names with a '.' or a '_': first with '_' for '.', then as they are.
    std::set<std::pair<std::string, std::string>> folded_names_;
    std::map<std::pair<ConfigResource, std::string>, ConfigMap> configs_;
    size_t partition_count_ = 0;
};

}  // namespace weir::cluster
