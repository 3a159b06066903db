// What an operator may tune about groups, with Kafka's defaults where Kafka has the option, and the
// bounds of one coordinator's memory. Kafka's option names stand beside them.
#pragma once

#include <cstddef>

#include "base/time.h"
#include "base/units.h"

namespace weir::kafka {

struct GroupConfig {
    Duration initial_rebalance_delay = 3s;  // group.initial.rebalance.delay.ms
    Duration session_timeout_min = 6s;      // group.min.session.timeout.ms
    Duration session_timeout_max = 30min;   // group.max.session.timeout.ms
    size_t group_size_max = 4096;  // group.max.size; of the members, and again of those told their
                                   // id but not yet joined
    Duration offsets_retention = std::chrono::days(7);  // offsets.retention.minutes
    Duration offsets_retention_check_interval = 10min;  // offsets.retention.check.interval.ms
    size_t offset_metadata_bytes_max = 4096;            // offset.metadata.max.bytes

    // Bounds of one coordinator (one partition of __consumer_offsets).
    size_t groups_max = 100'000;
    size_t offsets_per_group_max = 200'000;
    size_t state_bytes_max = 256_MiB;  // offsets, members' metadata and assignments; an estimate
    size_t append_bytes_max =
        1'000'000;  // keys and values of one append: fits a batch of max.message.bytes
    size_t appends_outstanding_max = 10'000;
    size_t append_bytes_outstanding_max = 64_MiB;
};

// A new member that waits in its first join can't send heartbeats, and its broken connection is not
// noticed: it is removed after this time.
inline constexpr Duration kNewMemberJoinTimeout = 5min;
// Lengths of names in requests. Kafka's clients stay far below; the log's format can hold 32,767.
inline constexpr size_t kGroupNameBytesMax =
    4096;  // group ids, instance ids, protocol types and names, client ids
inline constexpr size_t kProtocolsPerMemberMax = 64;
inline constexpr size_t kTopicNameBytesMax = 249;
// How much of a client id goes into the member ids made from it, and of a reason into the log.
inline constexpr size_t kMemberIdPrefixBytesMax = 255;
inline constexpr size_t kReasonBytesMax = 255;
// Bounds the steps of one tick(), so that a call stays short; if there is more to do,
// next_deadline() is due at once.
inline constexpr size_t kGroupsPerTickMax = 256;
inline constexpr size_t kGroupsPerExpiryStepMax = 1024;

}  // namespace weir::kafka
