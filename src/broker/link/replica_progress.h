// ReplicaProgress: how far the replicas of partitions are, as their leaders report it. Shard 0.
#pragma once

#include <map>
#include <vector>

#include "broker/link/link_parts.h"
#include "cluster/wire.h"

namespace weir::broker {

class ReplicaProgress {
  public:
    explicit ReplicaProgress(LinkParts& link) : link_(link) {}

    // `logs` are grouped by the node that leads them. A node that does not answer by the deadline
    // is missing.
    runtime::Task<cluster::ProgressMap> ask(std::map<int32_t, std::vector<storage::LogId>> logs,
                                            Instant deadline);
    // Answers kProgressCall.
    runtime::Task<Result<rpc::Message>> answer(rpc::Request request);

  private:
    runtime::Task<cluster::ProgressMap> progress_here(std::vector<storage::LogId> logs);
    runtime::Task<bool> ask_one(int32_t node, std::vector<storage::LogId> logs, Instant deadline,
                                cluster::ProgressMap* all);

    LinkParts& link_;
};

}  // namespace weir::broker
