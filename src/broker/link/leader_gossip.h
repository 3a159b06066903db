// LeaderGossip: every node tells each other node which partitions it leads and which replicas are
// in sync, and adds what it learns to its shards' leader tables (cluster/leader_table.h). A node is
// sent what it has not acknowledged, one update at a time. Shard 0; nothing of it survives a crash.
#pragma once

#include <set>
#include <vector>

#include "broker/link/link_parts.h"
#include "cluster/leader_table.h"

namespace weir::broker {

class LeaderGossip {
  public:
    explicit LeaderGossip(LinkParts& link);

    // Adds what this node's replicas announced, in order. Returns whether other nodes must be told.
    bool publish(const std::vector<cluster::LeaderState>& states);
    void forget(storage::LogId log) { publisher_.forget(log); }
    // The node knows nothing (any more): send it everything.
    void forget_peer(int32_t node) { publisher_.forget_peer(node); }

    // Sends the node what it has not acknowledged, unless an update is in flight.
    void send_to(int32_t node);
    // Answers kLeaderUpdateCall.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);
    // Forgets on all shards the states of partitions that are gone. Other nodes do the same; a node
    // that has not learned of a partition for that long forgets what it acknowledged, so `nodes`
    // are sent everything again.
    runtime::Task<void> sweep(const std::vector<int32_t>& nodes);

  private:
    runtime::Task<void> send_all_to(int32_t node);

    bool can_be(const cluster::LeaderState& state) const;

    LinkParts& link_;
    uint64_t incarnation_ = 0;
    cluster::LeaderPublisher publisher_;
    std::set<int32_t> sending_;
};

}  // namespace weir::broker
