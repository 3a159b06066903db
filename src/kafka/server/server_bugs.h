// Bugs that can be switched on, so that the simulator shows that it would find them. All off in a
// real node; nothing but sim/ sets them.
#pragma once

namespace weir::kafka {

struct ServerBugs {
    bool acknowledge_before_commit = false;  // acks=all is answered when the leader has the batch
    bool read_uncommitted = false;           // readers are given one entry above the high watermark
    bool answer_duplicate_before_commit = false;  // ... of a batch that is not committed yet
    bool lose_producer_state = false;             // recovery forgets the producers of a checkpoint
    bool coordinator_answers_before_loaded = false;  // a new coordinator serves what it has so far
    bool forget_commits =
        false;  // offsets are acknowledged when the coordinator has them in memory

    bool operator==(const ServerBugs&) const = default;
};

}  // namespace weir::kafka
