// Offsets of a topic's partitions by ListOffsets.
#pragma once

#include <map>

#include "kafka/client/client.h"

namespace weir::kafka {

inline constexpr int64_t kLatestTimestamp = -1;
inline constexpr int64_t kEarliestTimestamp = -2;

struct ListedOffset {
    int64_t offset = -1;  // -1: no record is that new
    int64_t timestamp_ms = -1;
    int32_t leader_epoch = -1;
};

// For each partition of the topic, by index: the offset for a timestamp in milliseconds, or for one
// of the special ones above.
runtime::Task<Result<std::map<int32_t, ListedOffset>>> list_offsets(Client& client,
                                                                    Client::Topic topic,
                                                                    int64_t timestamp_ms);

}  // namespace weir::kafka
