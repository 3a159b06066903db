// What all groups of a node share. The owner keeps it alive and unchanged while a core uses it.
#pragma once

#include <cstdint>

#include "base/time.h"
#include "raft/raft_bugs.h"

namespace weir::raft {

struct Options {
    // A follower that hears no leader campaigns after a time drawn from [min, max). A voter refuses
    // votes until `min` after it last heard its leader (leader stickiness). A leader that hears no
    // majority for `max` steps down.
    Duration election_timeout_min = 400ms;
    Duration election_timeout_max = 700ms;
    // The first leader of a new group asks for votes again after this time, then after twice as
    // long, until its election timeout: the other founders may learn of the group a moment later.
    Duration founding_retry = 5ms;
    // Heartbeats leave at multiples of this, so that those of many groups leave together.
    Duration heartbeat_interval = 100ms;
    // Entries in flight to a peer that answers heartbeats are sent again if it has received none of
    // them for this long; if it has received all of them, after kResendSlow times as long.
    Duration resend_timeout = 500ms;
    // If a leader's group is replicated and idle for this long, the leader asks it to go quiet. 0:
    // never.
    Duration quiet_after = 2s;
    Duration transfer_timeout = 1s;
    // A configuration change fails if its new voters do not catch up in this time.
    Duration catch_up_timeout = 60s;
    Duration snapshot_retry = 1s;  // after one that failed

    uint64_t window_bytes = 2u << 20;    // of entries in flight to one peer
    uint64_t send_bytes_max = 1u << 20;  // of one append; its first entry in any case
    uint32_t reads_max = 1024;           // that wait in one group

    // Reads by lease. Safe only if no node's clock runs faster than another's by more than
    // `clock_drift_max` (a share). If off, each read costs a round of heartbeats.
    bool lease_reads = false;
    double clock_drift_max = 0.05;

    RaftBugs bugs;
};

}  // namespace weir::raft
