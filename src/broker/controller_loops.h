// ControllerLoops: the controller's background work. It keeps the members of the controller's group
// in line with the cluster's, moves partitions away from nodes that are being decommissioned and
// finally removes those nodes, moves leaders away from nodes in maintenance, and returns leadership
// to preferred replicas. Runs on shard 0 of every node that can have others beside it, and is idle
// where the controller is not. It keeps no state: a new controller continues from the image.
#pragma once

#include <vector>

#include "broker/link/cluster_link.h"
#include "cluster/controller.h"
#include "cluster/leader_balance.h"
#include "runtime/scope.h"

namespace weir::broker {

class ControllerLoops {
  public:
    // Both outlive close().
    ControllerLoops(cluster::Controller& controller, ClusterLink& link)
        : controller_(controller), link_(link), balancer_({}) {}

    void start();
    runtime::Task<void> close();

  private:
    // One partition as balancers see it, and where it is.
    struct Led {
        std::vector<cluster::LedPartition> partitions;
        std::vector<storage::LogId> logs;
    };

    runtime::Task<void> run_members();
    runtime::Task<void> run_moves();
    runtime::Task<void> run_leaders();
    runtime::Task<Result<void>> remove_empty_nodes();
    runtime::Task<Result<void>> move_away();
    runtime::Task<void> transfer(std::vector<cluster::LeaderTransfer> transfers, const Led& led);
    runtime::Task<bool> transfer_one(storage::LogId log, int32_t from, int32_t to);
    runtime::Task<void> hand_over_controller();
    Led led_partitions() const;
    bool can_lead(int32_t node) const;
    bool is_balance_due(Instant now);

    cluster::Controller& controller_;
    ClusterLink& link_;
    cluster::LeaderBalancer balancer_;
    Instant balanced_;
    // What the balancer last saw, and since when it has been so.
    std::vector<int32_t> could_lead_;
    size_t partitions_seen_ = 0;
    Instant changed_;
    runtime::Scope scope_;
};

}  // namespace weir::broker
