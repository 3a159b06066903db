// Bugs that can be switched on, so that the simulator shows that it would find them. All off in a
// real node; nothing but sim/ sets them.
#pragma once

namespace weir::storage {

struct StorageBugs {
    bool acknowledge_before_flush = false;  // durable_end() advances when the write is submitted
    bool skip_block_checksum = false;  // recovery and reads trust blocks without their checksums
    bool recycle_too_early =
        false;  // a journal file is reused before what it holds is in a durable checkpoint
    bool forget_journal_tail = false;  // recovery drops the last whole commit
    bool lose_run_record = false;      // a hand-over or bypass is not noted in the journal
    bool skip_directory_sync = false;  // new segment and checkpoint names are not synced
    bool acknowledge_bypass_before_segment_flush = false;
    bool truncate_suffix_in_memory_only = false;
    bool forget_hard_state = false;     // a vote is not written
    bool stale_state_blob = false;      // a checkpoint's state covers less than it says
    bool keep_foreign_charge = false;   // entries in memory fill the share of what brought them
    bool leave_stray_segments = false;  // segment files that no log knows stay for ever

    bool operator==(const StorageBugs&) const = default;
};

}  // namespace weir::storage
