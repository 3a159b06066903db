// MetadataImage: what the metadata log says so far: topics, their partitions and configuration, the
// cluster's id. A pure fold of records. Every shard has a copy of its own; the controller on shard
// 0 has the one that decisions are made on. What survives a crash is the log; an image is rebuilt
// from it, or from a snapshot, which is a list of records that makes the same image.
#pragma once

#include <map>
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

class MetadataImage {
  public:
    // An error says that the record does not follow from what came before: a damaged log, or a bug.
    // The image is unchanged then.
    Result<void> apply(const MetadataRecord& record);

    const Uuid& cluster_id() const { return cluster_id_; }
    uint64_t log_ids_end() const { return log_ids_end_; }
    int64_t producer_ids_end() const { return producer_ids_end_; }

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
    Result<void> take(const ClusterCreated& record);
    Result<void> take(const LogIdsReserved& record);
    Result<void> take(const ProducerIdsReserved& record);
    Result<void> take(const TopicCreated& record);
    Result<void> take(const TopicDeleted& record);
    Result<void> take(const PartitionsAdded& record);
    Result<void> take(const TopicConfigChanged& record);
    Result<void> take(const ResourceConfigChanged& record);
    TopicImage* find_mutable(const Uuid& id);

    Uuid cluster_id_;
    uint64_t log_ids_end_ = storage::kMetadataLog.v + 1;
    int64_t producer_ids_end_ = 0;
    std::map<std::string, TopicImage, std::less<>> topics_;
    std::map<Uuid, std::string> names_;
    std::map<std::string, std::string, std::less<>>
        folded_names_;  // with '_' for '.', of those that have either
    std::map<std::pair<ConfigResource, std::string>, ConfigMap> configs_;
    size_t partition_count_ = 0;
};

}  // namespace weir::cluster
