// LeaderTransfer: transfers the leadership of a partition from one node to another, on whatever
// node its leader is. The request goes to the shard that owns the log there. Called on shard 0;
// answered on each shard.
#pragma once

#include "broker/link/link_parts.h"

namespace weir::broker {

class LeaderTransfer {
  public:
    explicit LeaderTransfer(LinkParts& link) : link_(link) {}

    // Sets the handler of kTransferCall on all shards.
    runtime::Task<void> set_handlers();
    // Transfers the leadership of a partition from `leader` to `target`. kUnavailable: `leader`
    // does not lead, or can't be reached; kTimedOut.
    runtime::Task<Result<void>> transfer(storage::LogId log, int32_t leader, int32_t target,
                                         Instant deadline);

  private:
    // The shard of the node that owns the log.
    runtime::ShardId shard_of(int32_t node, storage::LogId log) const;

    LinkParts& link_;
};

}  // namespace weir::broker
