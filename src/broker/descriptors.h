// How the descriptors that the process may open are divided. A connection needs one and an open
// segment two; each shard and the node itself keep some open for good. Clients' connections are
// bounded by what a reserve for the others leaves: a node that runs out of descriptors can't open
// the next segment, and ends. Pure.
#pragma once

#include <cstdint>

namespace weir::broker {

struct DescriptorShares {
    uint64_t connections = UINT64_MAX;  // of clients
    uint32_t open_segments = 256;       // that a shard keeps open beside those in use
    uint32_t admin = 256;               // connections to the admin port
};

// `limit`: RLIMIT_NOFILE; 0: none. At least one of each.
DescriptorShares share_descriptors(uint64_t limit, uint32_t shards);

}  // namespace weir::broker
