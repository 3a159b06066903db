// Bugs that can be switched on; see base/bugs.h.
#pragma once

#include "base/bugs.h"

namespace weir::kafka {

struct ServerBugs {
    WEIR_BUG(acknowledge_before_commit);  // acks=all is answered when the leader has the batch
    WEIR_BUG(read_uncommitted);           // a leader takes its log's end for the high watermark
    WEIR_BUG(answer_duplicate_before_commit);  // ... of a batch that is not committed yet
    WEIR_BUG(lose_producer_state);             // recovery forgets the producers of a checkpoint
    WEIR_BUG(keep_truncated_producers);        // batches that were cut off stay known
    // a deposed leader answers what is the newest without asking its followers
    WEIR_BUG(answer_unconfirmed);
    WEIR_BUG(load_coordinator_early);  // before it is known what was committed before
    WEIR_BUG(forget_commits);          // offsets are acknowledged when the coordinator has them

    bool operator==(const ServerBugs&) const = default;
};

}  // namespace weir::kafka
