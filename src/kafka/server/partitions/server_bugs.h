// Bugs that can be switched on, so that the simulator shows that it would find them. All off in a
// real node; nothing but sim/ sets them.
#pragma once

namespace weir::kafka {

struct ServerBugs {
    bool acknowledge_before_commit = false;  // acks=all is answered when the leader has the batch
    bool read_uncommitted = false;           // a leader takes its log's end for the high watermark
    bool answer_duplicate_before_commit = false;  // ... of a batch that is not committed yet
    bool lose_producer_state = false;             // recovery forgets the producers of a checkpoint
    bool keep_truncated_producers = false;        // batches that were cut off stay known
    bool answer_unconfirmed = false;      // who led once answers what is the newest, unasked
    bool load_coordinator_early = false;  // before it is known what was committed before
    bool forget_commits = false;          // offsets are acknowledged when the coordinator has them

    bool operator==(const ServerBugs&) const = default;
};

}  // namespace weir::kafka
