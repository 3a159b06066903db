#include "cluster/cluster_admin.h"

#include <fmt/format.h>

#include <map>

#include "cluster/node_admin.h"
#include "runtime/shard.h"

namespace weir::cluster {

using runtime::Task;
using runtime::WaitOptions;

namespace {

// Of one entry of the log.
constexpr size_t kReassignmentsAtOnce = 500;
constexpr Duration kRemovalCheck = 50ms;

AdminError fault(AdminFault fault, std::string message) { return {fault, std::move(message)}; }

// Of what node_admin.h says of nodes.
AdminError node_error(const Error& error) {
    return fault(
        error.code == ErrorCode::kNotFound ? AdminFault::kUnknownNode : AdminFault::kInvalidRequest,
        error.message);
}

// Under the controller's lock.
Task<AdminError> commit(Controller& controller, std::vector<MetadataRecord> records) {
    if (records.empty()) co_return AdminError{};
    const auto done = co_await controller.commit(std::move(records));
    co_return done ? AdminError{} : admin_error(done.error());
}

AdminError plan_one(const MetadataImage& image, const Reassignment& wanted, bool may_change_count,
                    std::vector<MetadataRecord>& records) {
    const TopicImage* topic = image.find(wanted.topic);
    if (topic == nullptr || wanted.partition < 0 ||
        static_cast<size_t>(wanted.partition) >= topic->partitions.size()) {
        return fault(AdminFault::kUnknownTopic, fmt::format("there is no partition {} of '{}'",
                                                            wanted.partition, wanted.topic));
    }
    const PartitionAssignment& now = topic->partitions[static_cast<size_t>(wanted.partition)];
    const size_t count = now.target.empty() ? now.replicas.size() : now.target.size();
    if (wanted.target && !may_change_count && !wanted.target->empty() &&
        wanted.target->size() != count) {
        return fault(AdminFault::kInvalidReplicationFactor,
                     fmt::format("the partition has {} replicas, and would have {}", count,
                                 wanted.target->size()));
    }
    auto planned =
        plan_reassignment(image, topic->id, static_cast<uint32_t>(wanted.partition), wanted.target);
    if (!planned) {
        return fault(planned.error().code == ErrorCode::kUnavailable
                         ? AdminFault::kNoReassignment
                         : AdminFault::kInvalidReplicaAssignment,
                     planned.error().message);
    }
    std::ranges::move(*planned, std::back_inserter(records));
    return {};
}

// Whether what `node` has fits on the others.
AdminError check_evacuation(const Controller& controller, int32_t node) {
    const MetadataImage& image = controller.image();
    if (image.nodes().size() < 2) {
        return fault(AdminFault::kInvalidRequest,
                     "the last node of a cluster can't be decommissioned");
    }
    std::vector<PlacementNode> nodes = controller.placement_nodes();
    for (PlacementNode& each : nodes) {
        each.replicas = each.leaders = 0;
        if (each.id == node) each.accepts = false;
    }
    std::vector<PlacedPartition> partitions;
    for (const auto& [name, topic] : image.topics()) {
        for (const auto& partition : topic.partitions) {
            partitions.push_back(
                {.replicas = partition.target.empty() ? partition.replicas : partition.target});
        }
    }
    Placement placement(std::move(nodes), std::move(partitions), 1);
    const Evacuation evacuation = placement.plan_evacuation({node});
    if (evacuation.impossible.empty()) return {};
    return fault(AdminFault::kInvalidRequest,
                 fmt::format("{} partitions would have fewer replicas than they ask for: too few "
                             "other nodes are alive and active",
                             evacuation.impossible.size()));
}

}  // namespace

Task<std::vector<AdminError>> reassign(Controller& controller,
                                       std::vector<Reassignment> reassignments,
                                       bool may_change_count, WaitOptions options) {
    std::vector<AdminError> errors(reassignments.size());
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) {
        errors.assign(reassignments.size(), admin_error(lock.error()));
        co_return errors;
    }
    std::map<std::pair<std::string_view, int32_t>, size_t> named;
    for (const Reassignment& each : reassignments) ++named[{each.topic, each.partition}];
    for (size_t begin = 0; begin < reassignments.size(); begin += kReassignmentsAtOnce) {
        const size_t end = std::min(begin + kReassignmentsAtOnce, reassignments.size());
        std::vector<MetadataRecord> records;
        for (size_t i = begin; i < end; ++i) {
            const Reassignment& each = reassignments[i];
            // They are planned side by side, from one image.
            errors[i] = named[{each.topic, each.partition}] > 1
                            ? fault(AdminFault::kInvalidRequest, "The partition is named twice.")
                            : plan_one(controller.image(), each, may_change_count, records);
        }
        const AdminError committed = co_await commit(controller, std::move(records));
        for (size_t i = begin; i < end; ++i) {
            if (errors[i].ok()) errors[i] = committed;
        }
    }
    co_return errors;
}

Task<AdminError> set_node_state(Controller& controller, int32_t node, NodeState state,
                                WaitOptions options) {
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) co_return admin_error(lock.error());
    auto planned = plan_state(controller.image(), node, state);
    if (!planned) co_return node_error(planned.error());
    co_return co_await commit(controller, std::move(*planned));
}

Task<AdminError> decommission(Controller& controller, int32_t node, WaitOptions options) {
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) co_return admin_error(lock.error());
    auto planned = plan_state(controller.image(), node, NodeState::kDecommissioning);
    if (!planned) co_return node_error(planned.error());
    if (AdminError error = check_evacuation(controller, node); !error.ok()) co_return error;
    co_return co_await commit(controller, std::move(*planned));
}

Task<AdminError> unregister(Controller& controller, int32_t node,
                            std::function<bool(int32_t)> is_alive, WaitOptions options) {
    {
        const Result<runtime::Units> lock = co_await controller.lock(options);
        if (!lock) co_return admin_error(lock.error());
        // Not the removal itself: first the node leaves the controller's group, as at the end of a
        // decommission. A voter that is no node would look like a founder that is yet to register.
        if (const auto removable = plan_removal(controller.image(), node); !removable)
            co_return node_error(removable.error());
        if (is_alive(node)) {
            co_return fault(AdminFault::kInvalidRequest,
                            fmt::format("node {} is alive: stop it, or decommission it", node));
        }
        auto planned = plan_state(controller.image(), node, NodeState::kDecommissioning);
        if (!planned) co_return node_error(planned.error());
        AdminError error = co_await commit(controller, std::move(*planned));
        if (!error.ok()) co_return error;
    }
    while (controller.image().find_node(node) != nullptr) {
        if (!controller.leads())
            co_return fault(AdminFault::kNotController, "this node is not the controller");
        if (runtime::Shard::current().now() >= options.deadline) {
            co_return fault(AdminFault::kUnavailable,
                            fmt::format("node {} is about to be removed", node));
        }
        if (!co_await runtime::sleep_for(kRemovalCheck, options.stop))
            co_return fault(AdminFault::kUnavailable, "this node is stopping");
    }
    co_return AdminError{};
}

Task<AdminError> update_features(Controller& controller, std::vector<FeatureUpdate> updates,
                                 bool validate_only, WaitOptions options) {
    const Result<runtime::Units> lock = co_await controller.lock(options);
    if (!lock) co_return admin_error(lock.error());
    auto planned = plan_features(controller.image(), updates);
    if (!planned) co_return fault(AdminFault::kInvalidFeatureLevel, planned.error().message);
    if (validate_only) co_return AdminError{};
    co_return co_await commit(controller, std::move(*planned));
}

}  // namespace weir::cluster
