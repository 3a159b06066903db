// Bugs that can be switched on, so that the tests show that they would find them. All off in a real
// node; nothing but tests and sim/ set them.
#pragma once

namespace weir::raft {

struct RaftBugs {
    bool commit_old_term_by_count = false;    // Raft §5.4.2, figure 8
    bool forget_vote = false;                 // the vote is not in the hard state
    bool reply_before_save = false;           // messages don't wait for the hard state
    bool acknowledge_before_durable = false;  // a follower tells what it has, not what is durable
    bool acknowledge_unverified = false;      // ... its own end, whether the leader has it or not
    bool leader_counts_unwritten = false;     // the leader's own match is its end
    bool joint_needs_new_majority_only = false;
    bool accept_stale_leader = false;  // an append of an older term is taken
    bool high_watermark_off_by_one = false;
    bool vote_without_log_check = false;
    bool skip_prev_check = false;
    bool truncate_always = false;  // an append cuts what follows it, conflict or not
    bool keep_configuration_on_truncation = false;
    bool learner_counts_as_voter = false;
    bool lease_ignores_drift = false;
    bool lease_survives_transfer = false;
    bool read_without_term_commit = false;  // a new leader reads before its term start is in
    bool rejoin_by_plain_raft = false;      // a replica that lost entries counts as if it had not

    bool operator==(const RaftBugs&) const = default;
};

}  // namespace weir::raft
