// What /metrics shows: the sums of copies of all shards' counters. docs/reference/metrics.md lists
// the names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kafka/server/metrics.h"
#include "kafka/server/partitions/partition_table.h"
#include "rpc/endpoint.h"
#include "rpc/listener.h"
#include "runtime/stall_counts.h"
#include "storage/store.h"

namespace weir::kafka {
class Server;
}

namespace weir::broker {

struct BuildInfo;

// A copy of one shard's numbers.
struct ShardMetrics {
    kafka::ServerMetrics server;
    storage::StoreMetrics store;
    uint64_t connections = 0;
    uint64_t connections_max = 0;  // of all shards
    uint64_t partitions = 0;
    kafka::PartitionTable::Tally tally = {};
    uint64_t groups = 0;
    uint64_t fetches_waiting = 0;
    uint64_t fetch_answer_bytes = 0;
    uint64_t producers = 0;  // idempotent ones that partitions remember
    runtime::StallCounts stalls = {};
    rpc::EndpointMetrics rpc = {};  // zeros without --rpc
};

// One share of --memory (broker/budget.h).
struct MemoryShare {
    std::string_view name;
    uint64_t used = 0;
    uint64_t limit = 0;
};

// Call it on the shard of both.
ShardMetrics gather_metrics(kafka::Server& server, storage::Store& store);

// `listener`: of the rpc port; zeros without --rpc.
std::string render_metrics(const std::vector<ShardMetrics>& shards,
                           const std::vector<MemoryShare>& memory,
                           const rpc::ListenerMetrics& listener, const BuildInfo& build);

}  // namespace weir::broker
