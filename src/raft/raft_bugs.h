// Bugs that can be switched on; see base/bugs.h.
#pragma once

#include "base/bugs.h"

namespace weir::raft {

struct RaftBugs {
    WEIR_BUG(commit_old_term_by_count);    // Raft §5.4.2, figure 8
    WEIR_BUG(forget_vote);                 // the vote is not in the hard state
    WEIR_BUG(reply_before_save);           // messages don't wait for the hard state
    WEIR_BUG(acknowledge_before_durable);  // a follower reports what it has, not what is durable
    WEIR_BUG(acknowledge_unverified);      // ... its own end, whether the leader has it or not
    WEIR_BUG(leader_counts_unwritten);     // the leader's own match is its end
    WEIR_BUG(joint_needs_new_majority_only);
    WEIR_BUG(accept_stale_leader);  // an append of an older term is taken
    WEIR_BUG(high_watermark_off_by_one);
    WEIR_BUG(vote_without_log_check);
    WEIR_BUG(skip_prev_check);
    WEIR_BUG(truncate_always);  // an append cuts what follows it, conflict or not
    WEIR_BUG(keep_configuration_on_truncation);
    WEIR_BUG(learner_counts_as_voter);
    WEIR_BUG(lease_ignores_drift);
    WEIR_BUG(lease_survives_transfer);
    WEIR_BUG(read_without_term_commit);  // a new leader reads before its term start is in
    WEIR_BUG(believe_strangers);         // messages of nodes that are not members count
    WEIR_BUG(believe_wild_terms);        // a term may lie any distance above one's own
    WEIR_BUG(rejoin_by_plain_raft);      // a replica that lost entries counts as if it had them

    bool operator==(const RaftBugs&) const = default;
};

}  // namespace weir::raft
