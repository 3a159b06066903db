// What administrators may do to nodes, to where partitions are, and to features: the rules of
// node_admin.h and features.h, carried out as changes of the metadata log. Run on shard 0, where
// the controller is; the Kafka APIs and the admin API are both made of these. Each takes the
// controller's lock; kNotController and kUnavailable come from there, and what became of the change
// may then not be known. Repeating one is harmless.
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
// AlterPartitionReassignments (KIP-455, KIP-860). Each by itself, outcomes in their order: done
// when it is committed, not when the replicas are there. Without `may_change_count` a target with
// another number of replicas is kInvalidReplicationFactor.
runtime::Task<std::vector<AdminError>> reassign(Controller& controller,
                                                std::vector<Reassignment> reassignments,
                                                bool may_change_count,
                                                runtime::WaitOptions options);

// Maintenance on (kDraining) and off (kActive). kUnknownNode.
runtime::Task<AdminError> set_node_state(Controller& controller, int32_t node, NodeState state,
                                         runtime::WaitOptions options);

// From now on the node's replicas move to others; then it leaves the cluster
// (broker/controller_loops.h). kUnknownNode; kInvalidRequest if the others can't take what it has.
runtime::Task<AdminError> decommission(Controller& controller, int32_t node,
                                       runtime::WaitOptions options);

// UnregisterBroker: forgets a node that will not come back. `is_alive`: as this node sees it. Ends
// when the node is no member any more. kUnknownNode; kInvalidRequest for one that answers, or
// holds replicas: those would be moved by a decommission.
runtime::Task<AdminError> unregister(Controller& controller, int32_t node,
                                     std::function<bool(int32_t)> is_alive,
                                     runtime::WaitOptions options);

// UpdateFeatures: all or none. kInvalidFeatureLevel. With validate_only nothing is changed.
runtime::Task<AdminError> update_features(Controller& controller,
                                          std::vector<FeatureUpdate> updates, bool validate_only,
                                          runtime::WaitOptions options);

}  // namespace weir::cluster
