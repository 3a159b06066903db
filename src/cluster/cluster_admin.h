// What administrators may do to nodes, to the placement of partitions, and to features: the rules
// of node_admin.h and features.h, carried out as changes of the metadata log. Runs on shard 0 of
// the controller's node; the Kafka APIs and the admin API both use it. Each function acquires the
// controller's lock. kNotController and kUnavailable come from there; then it may be unknown
// whether the change was made. Repeating a call is harmless.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cluster/admin_error.h"
#include "cluster/controller.h"
#include "cluster/features.h"

namespace weir::cluster {

struct Reassignment {
    std::string topic;
    int32_t partition = 0;
    std::optional<std::vector<int32_t>> target;  // none: cancel
};
// AlterPartitionReassignments (KIP-455, KIP-860). Each item succeeds or fails on its own; outcomes
// are in the order of the items. An item succeeds when it is committed, not when the replicas are
// there. Without `may_change_count`, a target with a different number of replicas is
// kInvalidReplicationFactor.
runtime::Task<std::vector<AdminError>> reassign(Controller& controller,
                                                std::vector<Reassignment> reassignments,
                                                bool may_change_count,
                                                runtime::WaitOptions options);

// Maintenance on (kDraining) and off (kActive). kUnknownNode.
runtime::Task<AdminError> set_node_state(Controller& controller, int32_t node, NodeState state,
                                         runtime::WaitOptions options);

// From now on the node's replicas move to other nodes; then it leaves the cluster
// (broker/controller_loops.h). kUnknownNode; kInvalidRequest if the other nodes can't hold what it
// has.
runtime::Task<AdminError> decommission(Controller& controller, int32_t node,
                                       runtime::WaitOptions options);

// UnregisterBroker: removes a node that will not come back. `is_alive` is this node's view. Returns
// when the node is no longer a member. kUnknownNode; kInvalidRequest if the node answers, or holds
// replicas: use decommission, which moves them.
runtime::Task<AdminError> unregister(Controller& controller, int32_t node,
                                     std::function<bool(int32_t)> is_alive,
                                     runtime::WaitOptions options);

// UpdateFeatures: all or none. kInvalidFeatureLevel. With validate_only nothing changes.
runtime::Task<AdminError> update_features(Controller& controller,
                                          std::vector<FeatureUpdate> updates, bool validate_only,
                                          runtime::WaitOptions options);

}  // namespace weir::cluster
