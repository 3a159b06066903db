// Health: an administrator's view of a cluster and its partitions, from a shard's image, its leader
// table, and the nodes that are alive. Plain structs and their JSON, whose names are an interface:
// `weir cluster health` and `weir partition list` print it, and the admin API answers with it.
// Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/image.h"
#include "cluster/leader_table.h"

namespace weir::cluster {

struct NodeHealth {
    int32_t id = 0;
    std::string address;  // as Kafka's clients are told
    std::optional<std::string> rack;
    bool alive = false;
    bool draining = false;  // in maintenance, or being decommissioned
    bool decommissioning = false;
    bool operator==(const NodeHealth&) const = default;
};

// What is wrong with a replica, as its node reports it: how its log is damaged, and what is done
// about it.
struct ReplicaAilment {
    int32_t node = -1;
    storage::LogId log;
    std::string topic;  // empty: the cluster's metadata
    int32_t partition = 0;
    std::string reason;
    bool operator==(const ReplicaAilment&) const = default;
};

struct ClusterHealth {
    // A controller, every node alive, both counts zero, and no ailments.
    bool healthy = false;
    int32_t controller = -1;        // -1: none is known
    std::vector<NodeHealth> nodes;  // by id
    size_t leaderless = 0;          // partitions that no node that is alive leads
    size_t under_replicated = 0;    // partitions with a replica that is not in sync, or not alive
    std::vector<ReplicaAilment> ailments;
    bool operator==(const ClusterHealth&) const = default;
};

// What the image and the table do not contain.
struct ClusterView {
    int32_t controller = -1;
    std::function<bool(int32_t)> is_alive;
    // For a cluster of one node that never registered: the node itself, which leads everything.
    NodeHealth self;
};

// `ailments` are the nodes' reports, by node and log; topic and partition are filled in.
ClusterHealth health_of(const MetadataImage& image, const LeaderTable& leaders,
                        const ClusterView& view, std::vector<ReplicaAilment> ailments = {});

// What the partition's leader reports when asked. It is not in the table, since it changes with
// each record.
struct PartitionProgress {
    int64_t high_watermark = -1;
    std::map<int32_t, int64_t> lag;  // by node: records that the leader has and the node has not
    bool operator==(const PartitionProgress&) const = default;
};

struct PartitionRow {
    std::string topic;
    int32_t partition = 0;
    int32_t leader = -1;
    int32_t epoch = -1;
    std::vector<int32_t> replicas;  // as Kafka shows them: those on their way in and out too
    std::vector<int32_t> in_sync;
    PartitionProgress progress;  // nothing, as long as its leader was not heard
    bool operator==(const PartitionRow&) const = default;
};

// Rows by topic and partition, of one topic if it is given. `progress` is by the partition's log.
std::vector<PartitionRow> partition_rows(
    const MetadataImage& image, const LeaderTable& leaders, const ClusterView& view,
    std::optional<std::string_view> topic,
    const std::map<storage::LogId, PartitionProgress>& progress);

std::string to_json(const ClusterHealth& health);
std::string to_json(const std::vector<PartitionRow>& rows);

}  // namespace weir::cluster
