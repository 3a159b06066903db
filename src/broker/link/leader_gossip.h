// LeaderGossip: every node tells each other node which partitions it leads and who is in sync, and
// gives what it hears to the leader tables of its shards (cluster/leader_table.h). A node is told
// what it has not acknowledged, one update at a time. Shard 0; nothing of it survives a crash.
#pragma once

#include <set>
#include <vector>

#include "broker/link/link_parts.h"
#include "cluster/leader_table.h"

namespace weir::broker {

class LeaderGossip {
  public:
    explicit LeaderGossip(LinkParts& link);

    // Adds what this node's replicas said, in order. Whether others are to be told.
    bool publish(const std::vector<cluster::LeaderState>& states);
    void forget(storage::LogId log) { publisher_.forget(log); }
    // The node knows nothing (any more): it is told everything.
    void forget_peer(int32_t node) { publisher_.forget_peer(node); }

    // Tells the node what it has not acknowledged, if it is not being told already.
    void send_to(int32_t node);
    // Of kLeaderUpdateCall.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);
    // Forgets on all shards what has been said of partitions that are gone. Others do the same, and
    // one that has not heard of a partition for as long forgets what it acknowledged: so `nodes`
    // are told all again.
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
