// The switched-on bugs by name (storage/storage_bugs.h): what the oracles must catch.
#pragma once

#include <array>
#include <string_view>

#include "storage/storage_bugs.h"

namespace weir::sim {

struct NamedBug {
    std::string_view name;
    bool storage::StorageBugs::* flag;
};

inline constexpr std::array kBugs{
    NamedBug{"acknowledge_before_flush", &storage::StorageBugs::acknowledge_before_flush},
    NamedBug{"skip_block_checksum", &storage::StorageBugs::skip_block_checksum},
    NamedBug{"recycle_too_early", &storage::StorageBugs::recycle_too_early},
    NamedBug{"forget_journal_tail", &storage::StorageBugs::forget_journal_tail},
    NamedBug{"lose_run_record", &storage::StorageBugs::lose_run_record},
    NamedBug{"lose_replacement", &storage::StorageBugs::lose_replacement},
    NamedBug{"skip_directory_sync", &storage::StorageBugs::skip_directory_sync},
    NamedBug{"acknowledge_bypass_before_segment_flush",
             &storage::StorageBugs::acknowledge_bypass_before_segment_flush},
    NamedBug{"truncate_suffix_in_memory_only",
             &storage::StorageBugs::truncate_suffix_in_memory_only},
    NamedBug{"forget_hard_state", &storage::StorageBugs::forget_hard_state},
    NamedBug{"stale_state_blob", &storage::StorageBugs::stale_state_blob},
    NamedBug{"leave_stray_segments", &storage::StorageBugs::leave_stray_segments},
    NamedBug{"trust_short_journal", &storage::StorageBugs::trust_short_journal},
    NamedBug{"ignore_journal_gap", &storage::StorageBugs::ignore_journal_gap},
    NamedBug{"one_bad_file_ends_store", &storage::StorageBugs::one_bad_file_ends_store},
};
// Of the store's flags, one shows in clusters alone (cluster_bugs.h): keep_foreign_charge.
constexpr size_t kOfClustersAlone = 1;
// A flag that nobody can switch on would never be tested.
static_assert(kBugs.size() + kOfClustersAlone == sizeof(storage::StorageBugs));

}  // namespace weir::sim
