// What may be done to nodes and to the placement of partitions: the rules of joining, leaving,
// maintenance and reassignment, as records that follow from an image. Pure; the controller commits
// what they return. An error is for the requester, and nothing changes then. It is kInvalidArgument
// unless a function says more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cluster/image.h"
#include "cluster/node_identity.h"
#include "raft/types.h"

namespace weir::cluster {

// The first entry of a cluster with these founders: its id, the level at which clusters exist, and
// the founders' node ids, so that none of these is assigned again. Written by the first leader of
// group 0 whose image has no cluster id when it has applied everything before its term.
std::vector<MetadataRecord> founding_records(const Uuid& cluster_id, const Founding& founding);

// A starting node says how it is reached (`id` -1: it has none yet). Returns the registration with
// the node's id and next epoch; the same id again for a node that asked before and missed the
// answer, or that changed its address. There is nothing to commit if the image has the same
// registration but for the epoch. `founding` is from this controller's own identity file; ids in it
// belong to these nodes. `is_member`: the node was registered before, as it says or as the
// controller remembers; if such a node is unknown now it was removed, and may not come back with
// what it has.
struct Registration {
    NodeRegistered node;
    bool is_news = true;
};
Result<Registration> plan_registration(const MetadataImage& image, const Founding& founding,
                                       NodeRegistered node, bool is_member = false);

// Whether a node that says that it is `node`, with the data directory `uuid`, may be a member, as
// far as a perhaps outdated image shows. `self` is the image's node; `founding` is from its own
// identity file, none if it joined. `may_be_voter`: the controller's group has that node, as known
// here, or is not known. Otherwise says why not.
struct Dialling {
    int32_t node = 0;
    Uuid uuid;
    bool may_be_voter = true;
};
Result<void> check_dialling(const MetadataImage& image, const Founding& founding, int32_t self,
                            const Dialling& from);

// The addresses of the members, for a node that registers: the registered ones, and those of the
// controller's group that have not registered yet. A founder may lead that group before it has
// registered, and a node that can't reach the leader never learns where it is. `known` are
// addresses from elsewhere.
std::vector<std::pair<int32_t, Endpoint>> member_addresses(
    const MetadataImage& image, const raft::Configuration& group,
    const std::map<int32_t, Endpoint>& known);

// UnregisterBroker, and the end of a decommission. kNotFound if there is no such node.
Result<std::vector<MetadataRecord>> plan_removal(const MetadataImage& image, int32_t node);

// Maintenance and decommission. Nothing to commit if the node is in that state. kNotFound as above.
Result<std::vector<MetadataRecord>> plan_state(const MetadataImage& image, int32_t node,
                                               NodeState state);

// AlterPartitionReassignments of one partition. No target cancels. kNotFound: there is no such
// partition; kUnavailable: there is nothing to cancel (Kafka's NO_REASSIGNMENT_IN_PROGRESS). A
// target equal to the present replicas cancels a reassignment in progress. The same nodes in
// another order change the preferred leader at once, or when what was in progress is undone. An
// abandoned target may have been reached: its nodes stay named until the leader reports
// (PartitionAssignment::abandoned). In a cluster of one node that never registered, that node is
// the only possible target.
Result<std::vector<MetadataRecord>> plan_reassignment(
    const MetadataImage& image, const Uuid& topic, uint32_t partition,
    const std::optional<std::vector<int32_t>>& target);

// The partition's leader reports that its group's voters are exactly the target or, after a
// cancellation, the replicas. Nothing to commit if the report is about an older revision.
std::vector<MetadataRecord> plan_replicas_changed(const MetadataImage& image, const Uuid& topic,
                                                  uint32_t partition, uint32_t revision);

// A partition during reassignment as Kafka shows it: the target, then the replicas that will go.
struct ReplicasShown {
    std::vector<int32_t> replicas;
    std::vector<int32_t> adding;
    std::vector<int32_t> removing;
    bool operator==(const ReplicasShown&) const = default;
};
ReplicasShown shown(const PartitionAssignment& partition);

}  // namespace weir::cluster
