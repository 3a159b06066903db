// Reading: reads partitions whose replicas are anywhere on this node, up to a number of bytes. If
// that gives less than the reader's minimum, it waits until an owner has news, the time is over, or
// it is told to hurry, and reads again. Fetch requests use it, and so do readers inside the node
// (procedures, the registry, the web API), with the same checks, limits and waits, and without the
// wire. It sends one message to each shard that owns some of the partitions, and gets one back.
//
// Limits are soft, as in Kafka: the first partition with data gives at least one batch; after it
// nothing exceeds bytes_max.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "kafka/server/partitions/partition.h"
#include "runtime/driver.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/entry.h"

namespace weir::kafka {

class Server;

// One partition to read, and what came of it.
struct ReadPart {
    storage::LogId log;  // zero: it was not found, and `outcome` says why
    runtime::ShardId owner = 0;
    FetchRange range;  // at_least_one is set by the reading
    FetchOutcome outcome = {};
    bool is_found() const { return log.v != 0; }
};
// A part for a reader inside the node, read from the leading replica.
ReadPart read_part(Server& server, std::string_view topic, int32_t partition, int64_t offset,
                   uint64_t bytes_max);

struct ReadWants {
    // Enough bytes to answer before the deadline, as far as limits, memory and closed segments
    // allow.
    int64_t bytes_min = 1;
    uint64_t bytes_max = 0;  // of all partitions
    Instant deadline{};      // of the waiting
    bool may_wait = true;
    runtime::StopToken hurry = {};  // end with what there is
};
struct ReadTotal {
    uint64_t bytes = 0;
    // The share of Server::fetch_bytes(), which bounds the bytes in this shard's answers: held
    // until what was read has been used.
    runtime::Units units;
};

// Reads the parts. Then each part has its outcome, whose batches share the log's bytes. The parts
// and the server outlive the call; it runs on any shard.
runtime::Task<ReadTotal> read_parts(Server& server, std::vector<ReadPart*> parts, ReadWants wants);

}  // namespace weir::kafka
