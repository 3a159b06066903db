// ReplicaAilments: what is wrong with replicas, as their nodes report it. Shard 0.
#pragma once

#include <string>
#include <vector>

#include "broker/link/link_parts.h"
#include "cluster/wire.h"

namespace weir::broker {

class ReplicaAilments {
  public:
    explicit ReplicaAilments(LinkParts& link) : link_(link) {}

    // The ailments of all replicas of these nodes, by node and log. A node that does not answer by
    // the deadline is missing.
    runtime::Task<std::vector<cluster::ReplicaAilment>> ask(std::vector<int32_t> nodes,
                                                            Instant deadline);
    // Answers kAilmentsCall.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);

  private:
    runtime::Task<cluster::AilmentMap> ailments_here();
    runtime::Task<bool> ask_one(int32_t node, Instant deadline, cluster::AilmentMap* into);

    LinkParts& link_;
};

}  // namespace weir::broker
