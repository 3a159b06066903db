// Bugs that can be switched on; see base/bugs.h.
#pragma once

#include "base/bugs.h"

namespace weir::storage {

struct StorageBugs {
    WEIR_BUG(acknowledge_before_flush);  // durable_end() advances when the write is submitted
    WEIR_BUG(skip_block_checksum);       // recovery and reads trust blocks without their checksums
    WEIR_BUG(recycle_too_early);    // a journal file is reused before what it holds is in a durable
                                    // checkpoint
    WEIR_BUG(forget_journal_tail);  // recovery drops the last whole commit
    WEIR_BUG(lose_run_record);      // a hand-over or bypass is not noted in the journal
    WEIR_BUG(lose_replacement);     // that a segment was replaced is not noted in the journal
    WEIR_BUG(skip_directory_sync);  // new segment and checkpoint names are not synced
    WEIR_BUG(acknowledge_bypass_before_segment_flush);
    WEIR_BUG(truncate_suffix_in_memory_only);
    WEIR_BUG(forget_hard_state);     // a vote is not written
    WEIR_BUG(stale_state_blob);      // a checkpoint's state covers less than it says
    WEIR_BUG(keep_foreign_charge);   // entries in memory fill the share of what brought them
    WEIR_BUG(leave_stray_segments);  // segment files that no log knows stay for ever
    WEIR_BUG(trust_short_journal);   // journal files are believed whatever size and mark they have
    WEIR_BUG(ignore_journal_gap);    // ... and whichever of them are missing
    WEIR_BUG(one_bad_file_ends_store);  // a damaged segment stops the store

    bool operator==(const StorageBugs&) const = default;
};

}  // namespace weir::storage
