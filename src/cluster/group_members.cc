#include "cluster/group_members.h"

#include <algorithm>

namespace weir::cluster {
namespace {

// While a configuration changes, voters of both are in it.
constexpr size_t kNodesInGroupMax = raft::kMembersMax - 1;

bool leaves(const MetadataImage& image, const NodeImage& node) {
    return node.state == NodeState::kDecommissioning && image.replica_count(node.info.id) == 0;
}

}  // namespace

std::optional<raft::Configuration> plan_group_members(
    const MetadataImage& image, const raft::Configuration& now,
    const std::function<bool(int32_t)>& is_alive) {
    if (now.joint() || image.nodes().empty()) return std::nullopt;
    raft::Configuration wanted;
    size_t voters = 0;
    bool all_registered = true;
    for (const raft::Member& member : now.members) {
        const NodeImage* node = image.find_node(member.node.v);
        all_registered &= !member.voter || node != nullptr;
        const bool stays = node != nullptr ? !leaves(image, *node) : member.voter;
        if (!stays) continue;
        wanted.members.push_back(member);
        voters += member.voter ? 1 : 0;
    }
    size_t staying = 0;
    for (const auto& [id, node] : image.nodes()) {
        if (leaves(image, node)) continue;
        ++staying;
        if (wanted.find(NodeId{id}) != nullptr || wanted.members.size() >= kNodesInGroupMax)
            continue;
        wanted.members.insert(
            std::ranges::lower_bound(wanted.members, NodeId{id}, {}, &raft::Member::node),
            {.node = NodeId{id}, .learner = true});
    }
    const size_t few = std::min(staying, kVotersMax);
    const size_t voters_wanted = few - (few % 2 == 0 ? 1 : 0);
    for (raft::Member& member : wanted.members) {
        if (!all_registered || voters >= voters_wanted) break;
        const NodeImage* node = image.find_node(member.node.v);
        if (member.voter || node == nullptr || !is_alive(member.node.v)) continue;
        if (node->state == NodeState::kDecommissioning) continue;
        member.voter = true;
        member.learner = false;
        ++voters;
    }
    if (voters == 0 || wanted == now) return std::nullopt;
    return wanted;
}

}  // namespace weir::cluster
