#include "cluster/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cluster/node_admin.h"

namespace weir::cluster {
namespace {

using Json = nlohmann::ordered_json;

PartitionRow row_of(const MetadataImage& image, const LeaderTable& leaders, const ClusterView& view,
                    const TopicImage& topic, size_t index) {
    const PartitionAssignment& partition = topic.partitions[index];
    PartitionRow row{.topic = topic.name, .partition = static_cast<int32_t>(index)};
    row.replicas = shown(partition).replicas;
    if (const LeaderState* state = leaders.find(partition.log);
        state != nullptr && !state->is_expected()) {
        row.leader = state->leader;
        row.epoch = state->epoch;
        row.in_sync = state->in_sync;
    } else if (image.nodes().empty()) {
        row.leader = view.self.id;
        row.epoch = 0;
        row.in_sync = row.replicas;
    }
    const auto is_dead = [&](int32_t node) { return !view.is_alive(node); };
    if (row.leader != -1 && is_dead(row.leader)) row.leader = -1;
    std::erase_if(row.in_sync, is_dead);
    return row;
}

bool is_under_replicated(const PartitionAssignment& partition, const PartitionRow& row) {
    return std::ranges::any_of(partition.replicas, [&](int32_t node) {
        return std::ranges::find(row.in_sync, node) == row.in_sync.end();
    });
}

}  // namespace

ClusterHealth health_of(const MetadataImage& image, const LeaderTable& leaders,
                        const ClusterView& view, std::vector<ReplicaAilment> ailments) {
    ClusterHealth health{.controller = view.controller};
    if (image.nodes().empty()) health.nodes.push_back(view.self);
    for (const auto& [id, node] : image.nodes()) {
        health.nodes.push_back({.id = id,
                                .address = address_of(node.info.kafka.primary()),
                                .rack = node.info.rack,
                                .alive = view.is_alive(id),
                                .draining = node.state != NodeState::kActive,
                                .decommissioning = node.state == NodeState::kDecommissioning});
    }
    for (const auto& [name, topic] : image.topics()) {
        for (size_t i = 0; i < topic.partitions.size(); ++i) {
            const PartitionRow row = row_of(image, leaders, view, topic, i);
            for (ReplicaAilment& ailment : ailments) {
                if (ailment.log != topic.partitions[i].log) continue;
                ailment.topic = name;
                ailment.partition = static_cast<int32_t>(i);
            }
            if (row.leader == -1) ++health.leaderless;
            if (is_under_replicated(topic.partitions[i], row)) ++health.under_replicated;
        }
    }
    health.healthy = health.controller != -1 && health.leaderless == 0 &&
                     health.under_replicated == 0 && ailments.empty() &&
                     std::ranges::all_of(health.nodes, &NodeHealth::alive);
    health.ailments = std::move(ailments);
    return health;
}

std::vector<PartitionRow> partition_rows(
    const MetadataImage& image, const LeaderTable& leaders, const ClusterView& view,
    std::optional<std::string_view> topic,
    const std::map<storage::LogId, PartitionProgress>& progress) {
    std::vector<PartitionRow> rows;
    for (const auto& [name, each] : image.topics()) {
        if (topic && name != *topic) continue;
        for (size_t i = 0; i < each.partitions.size(); ++i) {
            PartitionRow& row = rows.emplace_back(row_of(image, leaders, view, each, i));
            const auto known = progress.find(each.partitions[i].log);
            if (known != progress.end()) row.progress = known->second;
        }
    }
    return rows;
}

std::string to_json(const ClusterHealth& health) {
    Json nodes = Json::array();
    for (const NodeHealth& node : health.nodes) {
        nodes.push_back({{"id", node.id},
                         {"address", node.address},
                         {"rack", node.rack ? Json(*node.rack) : Json()},
                         {"alive", node.alive},
                         {"draining", node.draining},
                         {"decommissioning", node.decommissioning}});
    }
    Json ailments = Json::array();
    for (const ReplicaAilment& each : health.ailments) {
        ailments.push_back({{"node", each.node},
                            {"topic", each.topic},
                            {"partition", each.partition},
                            {"reason", each.reason}});
    }
    // Racks and addresses come from command lines.
    return Json{{"healthy", health.healthy},
                {"controller", health.controller},
                {"nodes", std::move(nodes)},
                {"leaderless", health.leaderless},
                {"under_replicated", health.under_replicated},
                {"ailments", std::move(ailments)}}
        .dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string to_json(const std::vector<PartitionRow>& rows) {
    Json list = Json::array();
    for (const PartitionRow& row : rows) {
        Json lag = Json::object();
        for (const auto& [node, behind] : row.progress.lag) lag[std::to_string(node)] = behind;
        list.push_back({{"topic", row.topic},
                        {"partition", row.partition},
                        {"leader", row.leader},
                        {"epoch", row.epoch},
                        {"replicas", row.replicas},
                        {"in_sync", row.in_sync},
                        {"high_watermark", row.progress.high_watermark},
                        {"lag", std::move(lag)}});
    }
    return list.dump();
}

}  // namespace weir::cluster
