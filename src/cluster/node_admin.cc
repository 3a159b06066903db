#include "cluster/node_admin.h"

#include <fmt/format.h>

#include <algorithm>

#include "cluster/features.h"
#include "cluster/placement.h"

namespace weir::cluster {
namespace {

std::unexpected<Error> invalid(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

std::unexpected<Error> no_node(int32_t node) {
    return fail(ErrorCode::kNotFound, fmt::format("there is no node {}", node));
}

const PartitionAssignment* find_partition(const MetadataImage& image, const Uuid& topic,
                                          uint32_t partition) {
    const TopicImage* found = image.find(topic);
    if (found == nullptr || partition >= found->partitions.size()) return nullptr;
    return &found->partitions[partition];
}

bool holds(const std::vector<int32_t>& nodes, int32_t node) {
    return std::ranges::find(nodes, node) != nodes.end();
}

bool are_same_nodes(std::vector<int32_t> a, std::vector<int32_t> b) {
    std::ranges::sort(a);
    std::ranges::sort(b);
    return a == b;
}

// Whether another node than this one has the id, by registration or by founding.
Result<void> check_id_is_free(const MetadataImage& image, const Founding& founding, int32_t id,
                              const Uuid& uuid) {
    if (const NodeImage* other = image.find_node(id); other && other->info.uuid != uuid) {
        return invalid(fmt::format(
            "node id {} is that of the node at {}:{}, whose data directory is another one: "
            "decommission that node first, or start this one without --node-id",
            id, other->info.rpc.host, other->info.rpc.port));
    }
    const auto founder = std::ranges::find(founding, id, &Founder::node_id);
    if (founder != founding.end() && founder->uuid != uuid && image.find_node(id) == nullptr &&
        image.find_node(founder->uuid) == nullptr) {
        return invalid(
            fmt::format("node id {} is that of {}, which founded the cluster", id, founder->rpc));
    }
    return {};
}

}  // namespace

std::vector<MetadataRecord> founding_records(const Uuid& cluster_id, const Founding& founding) {
    int32_t ids_end = 0;
    for (const Founder& founder : founding) ids_end = std::max(ids_end, founder.node_id + 1);
    std::vector<MetadataRecord> records;
    records.emplace_back(ClusterCreated{cluster_id});
    records.emplace_back(
        FeatureFinalized{std::string(kWeirVersion), static_cast<int32_t>(WeirLevel::kNewest)});
    records.emplace_back(NodeIdsReserved{ids_end});
    return records;
}

Result<Registration> plan_registration(const MetadataImage& image, const Founding& founding,
                                       NodeRegistered node, bool is_member) {
    if (const NodeImage* known = image.find_node(node.uuid)) {
        if (node.id >= 0 && node.id != known->info.id) {
            return invalid(
                fmt::format("this data directory is node {}, not {}", known->info.id, node.id));
        }
        node.id = known->info.id;
        node.epoch = known->info.epoch;
        if (node == known->info) return Registration{.node = std::move(node), .is_news = false};
        ++node.epoch;
    } else {
        node.epoch = 1;
        if (is_member) {
            return invalid(fmt::format(
                "{} was removed from the cluster: start it with an empty data directory to have it "
                "join anew",
                node.id < 0 ? "this node" : fmt::format("node {}", node.id)));
        }
        if (node.id < 0) {
            const auto founder = std::ranges::find(founding, node.uuid, &Founder::uuid);
            // From 1: 0 is what a node has that was told nothing and is alone.
            node.id =
                founder != founding.end() ? founder->node_id : std::max(image.node_ids_end(), 1);
        }
        if (node.id > kNodeIdMax)
            return invalid(fmt::format("node id {}: the largest is {}", node.id, kNodeIdMax));
        TRY(check_id_is_free(image, founding, node.id, node.uuid));
        if (image.nodes().size() >= kNodesMax)
            return invalid(fmt::format("a cluster has at most {} nodes", kNodesMax));
    }
    for (const auto& [feature, level] : image.features()) {
        const auto range = node.features.find(feature);
        if (range == node.features.end() || level < range->second.min ||
            level > range->second.max) {
            return invalid(
                fmt::format("the cluster is at level {} of {}, which the node's version "
                            "of Weir does not know",
                            level, feature));
        }
    }
    return Registration{.node = std::move(node), .is_news = true};
}

Result<void> check_dialling(const MetadataImage& image, const Founding& founding, int32_t self,
                            const Dialling& from) {
    if (const NodeImage* known = image.find_node(from.node)) {
        if (known->info.uuid == from.uuid) return {};
        return invalid(fmt::format("node {} is another data directory's", from.node));
    }
    // A founder belongs to the controller's group before it registers, and no more when it was
    // removed.
    const bool is_founder =
        from.may_be_voter && std::ranges::any_of(founding, [&](const Founder& founder) {
            return founder.node_id == from.node && founder.uuid == from.uuid;
        });
    // Who joined does not know the founders, which may register later than it, the leader among
    // them: one of the controller's group is one. An image that does not hold its own node is older
    // than that, and so may be what is known of the group.
    const bool may_be_founder =
        founding.empty() && (from.may_be_voter || image.find_node(self) == nullptr);
    // An id that was never given out may be that of a node that joined since.
    if (is_founder || may_be_founder || from.node >= image.node_ids_end()) return {};
    return invalid(fmt::format("node {} is not a member any more", from.node));
}

std::vector<std::pair<int32_t, Endpoint>> member_addresses(
    const MetadataImage& image, const raft::Configuration& group,
    const std::map<int32_t, Endpoint>& known) {
    std::vector<std::pair<int32_t, Endpoint>> members;
    for (const auto& [id, node] : image.nodes()) members.emplace_back(id, node.info.rpc);
    for (const raft::Member& member : group.members) {
        const auto at = known.find(member.node.v);
        if (at != known.end() && image.find_node(member.node.v) == nullptr)
            members.emplace_back(*at);
    }
    return members;
}

Result<std::vector<MetadataRecord>> plan_removal(const MetadataImage& image, int32_t node) {
    if (image.find_node(node) == nullptr) return no_node(node);
    if (const size_t held = image.replica_count(node); held != 0) {
        return invalid(fmt::format("node {} holds replicas of {} partitions: decommission it first",
                                   node, held));
    }
    std::vector<MetadataRecord> records;
    records.emplace_back(NodeRemoved{node});
    return records;
}

Result<std::vector<MetadataRecord>> plan_state(const MetadataImage& image, int32_t node,
                                               NodeState state) {
    const NodeImage* known = image.find_node(node);
    if (known == nullptr) return no_node(node);
    std::vector<MetadataRecord> records;
    if (known->state != state) records.emplace_back(NodeStateChanged{node, state});
    return records;
}

Result<std::vector<MetadataRecord>> plan_reassignment(
    const MetadataImage& image, const Uuid& topic, uint32_t partition,
    const std::optional<std::vector<int32_t>>& target) {
    const PartitionAssignment* now = find_partition(image, topic, partition);
    if (now == nullptr) return fail(ErrorCode::kNotFound, "there is no such partition");
    std::vector<MetadataRecord> records;
    if (!target) {
        if (now->target.empty())
            return fail(ErrorCode::kUnavailable, "no reassignment of the partition is in progress");
        records.emplace_back(
            PartitionReassigned{topic, partition, {}, now->revision + 1, now->are_founders});
        return records;
    }
    std::set<int32_t> known;
    std::set<int32_t> decommissioning;
    for (const auto& [id, node] : image.nodes()) {
        known.insert(id);
        if (node.state == NodeState::kDecommissioning) decommissioning.insert(id);
    }
    if (known.empty()) known.insert(now->replicas.begin(), now->replicas.end());
    TRY(check_assignment(*target, known, decommissioning));
    const uint32_t revision = now->revision + 1;
    if (*target == now->replicas) {
        if (!now->target.empty())
            records.emplace_back(
                PartitionReassigned{topic, partition, {}, revision, now->are_founders});
        return records;
    }
    if (*target == now->target) return records;
    if (are_same_nodes(*target, now->replicas) && !now->is_moving()) {
        records.emplace_back(
            PartitionReplicasChanged{topic, partition, *target, revision, now->are_founders});
        return records;
    }
    std::set<int32_t> named(target->begin(), target->end());
    named.insert(now->replicas.begin(), now->replicas.end());
    named.insert(now->target.begin(), now->target.end());
    named.insert(now->abandoned.begin(), now->abandoned.end());
    if (named.size() > kReplicasMax) {
        return invalid(fmt::format(
            "{} nodes would hold replicas, among them those of reassignments that were given up "
            "and are not undone yet: try again when they are",
            named.size()));
    }
    records.emplace_back(
        PartitionReassigned{topic, partition, *target, revision, now->are_founders});
    return records;
}

std::vector<MetadataRecord> plan_replicas_changed(const MetadataImage& image, const Uuid& topic,
                                                  uint32_t partition, uint32_t revision) {
    const PartitionAssignment* now = find_partition(image, topic, partition);
    std::vector<MetadataRecord> records;
    if (now == nullptr || !now->is_moving() || now->revision != revision) return records;
    const std::vector<int32_t>& reached = now->target.empty() ? now->replicas : now->target;
    records.emplace_back(
        PartitionReplicasChanged{topic, partition, reached, revision + 1,
                                 now->are_founders && are_same_nodes(reached, now->replicas)});
    return records;
}

ReplicasShown shown(const PartitionAssignment& partition) {
    if (partition.target.empty()) return {.replicas = partition.replicas};
    ReplicasShown all{.replicas = partition.target};
    for (const int32_t node : partition.target) {
        if (!holds(partition.replicas, node)) all.adding.push_back(node);
    }
    for (const int32_t node : partition.replicas) {
        if (holds(partition.target, node)) continue;
        all.removing.push_back(node);
        all.replicas.push_back(node);
    }
    return all;
}

}  // namespace weir::cluster
