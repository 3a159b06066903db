// The partition of a record with a key, as the Java client and librdkafka's "murmur2" partitioner
// choose it: records with one key from any client meet in one partition.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace weir::kafka {

uint32_t murmur2(Bytes key);  // Austin Appleby's MurmurHash2 with Kafka's seed
int32_t partition_of_key(Bytes key, int32_t partition_count);

}  // namespace weir::kafka
