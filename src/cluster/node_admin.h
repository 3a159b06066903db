// What may be done to nodes and to where partitions are: the rules of joining, leaving, maintenance
// and reassignment, as records that follow from an image. Pure; the controller commits what they
// return. An error is for whoever asked, and nothing is changed then: kInvalidArgument unless a
// function says more.
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

// The first entry of a cluster that these found: its id, the level at which clusters exist, and the
// founders' node ids, so that none of them is given to another. Written by the first leader of
// group 0 whose image has no cluster id when it has applied all that came before its term.
std::vector<MetadataRecord> founding_records(const Uuid& cluster_id, const Founding& founding);

// A node that starts says how it is reached (`id` -1: it has none yet). Gives the registration with
// the id it gets and its next epoch; the same again for one that asked before and missed the
// answer, or that changed its address. Nothing to commit if the image has the very same but for the
// epoch. `founding`: of this controller's own identity file; ids in it belong to these nodes.
// `is_member`: it was registered before, by its own account or as the controller remembers, so one
// that is not known was removed since, and does not come back with what it has.
struct Registration {
    NodeRegistered node;
    bool is_news = true;
};
Result<Registration> plan_registration(const MetadataImage& image, const Founding& founding,
                                       NodeRegistered node, bool is_member = false);

// Whether a node that says it is `node`, with the data directory `uuid`, may be one of the cluster,
// as far as an image tells that may be old. `self`: whose image it is; `founding`: of its own
// identity file, none if it joined. `may_be_voter`: the controller's group has that node, as known
// here, or is not known. Else why not.
struct Dialling {
    int32_t node = 0;
    Uuid uuid;
    bool may_be_voter = true;
};
Result<void> check_dialling(const MetadataImage& image, const Founding& founding, int32_t self,
                            const Dialling& from);

// How to reach the members, for one that registers: those that are registered, and those of the
// controller's group that are not yet. A founder may lead that group before it has registered, and
// who can't reach the leader never hears where it is. `known`: where nodes are said to be.
std::vector<std::pair<int32_t, Endpoint>> member_addresses(
    const MetadataImage& image, const raft::Configuration& group,
    const std::map<int32_t, Endpoint>& known);

// UnregisterBroker, and the end of a decommission. kNotFound for a node that is not there.
Result<std::vector<MetadataRecord>> plan_removal(const MetadataImage& image, int32_t node);

// Maintenance and decommission. Nothing to commit if it is so already. kNotFound as above.
Result<std::vector<MetadataRecord>> plan_state(const MetadataImage& image, int32_t node,
                                               NodeState state);

// AlterPartitionReassignments of one partition. No target cancels. kNotFound: there is no such
// partition; kUnavailable: there is nothing to cancel (Kafka's NO_REASSIGNMENT_IN_PROGRESS). With
// the target equal to the replicas as they are a reassignment under way is cancelled; the same
// nodes in another order change the preferred leader at once, or when what was under way is undone.
// A target that is given up may have been reached: its nodes stay named until the leader reports
// (PartitionAssignment::abandoned). In a cluster of one node that never
// registered, that node is the only target.
Result<std::vector<MetadataRecord>> plan_reassignment(
    const MetadataImage& image, const Uuid& topic, uint32_t partition,
    const std::optional<std::vector<int32_t>>& target);

// The partition's leader reports that its group has exactly the target for its voters, or, after a
// cancellation, the replicas. Nothing to commit if the report is about an older revision.
std::vector<MetadataRecord> plan_replicas_changed(const MetadataImage& image, const Uuid& topic,
                                                  uint32_t partition, uint32_t revision);

// Of a partition, as Kafka shows one that is being reassigned: the target and then what is on its
// way out.
struct ReplicasShown {
    std::vector<int32_t> replicas;
    std::vector<int32_t> adding;
    std::vector<int32_t> removing;
    bool operator==(const ReplicasShown&) const = default;
};
ReplicasShown shown(const PartitionAssignment& partition);

}  // namespace weir::cluster
