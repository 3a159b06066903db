// The bugs that the cluster simulation switches on, by name: of the consensus core, of the store
// below it and of the Kafka server above it.
#pragma once

#include <array>
#include <string_view>

#include "kafka/server/partitions/server_bugs.h"
#include "raft/raft_bugs.h"
#include "rpc/rpc_bugs.h"
#include "storage/storage_bugs.h"

namespace weir::sim {

struct ClusterBugs {
    raft::RaftBugs raft;
    storage::StorageBugs storage;
    kafka::ServerBugs server;
    rpc::RpcBugs rpc;
};

struct NamedClusterBug {
    std::string_view name;
    bool raft::RaftBugs::* raft = nullptr;
    bool storage::StorageBugs::* storage = nullptr;
    bool kafka::ServerBugs::* server = nullptr;
    bool rpc::RpcBugs::* rpc = nullptr;

    void switch_on(ClusterBugs& bugs) const {
        if (raft != nullptr) bugs.raft.*raft = true;
        if (storage != nullptr) bugs.storage.*storage = true;
        if (server != nullptr) bugs.server.*server = true;
        if (rpc != nullptr) bugs.rpc.*rpc = true;
    }
};

inline constexpr std::array kClusterBugs{
    NamedClusterBug{.name = "commit_old_term_by_count",
                    .raft = &raft::RaftBugs::commit_old_term_by_count},
    NamedClusterBug{.name = "forget_vote", .raft = &raft::RaftBugs::forget_vote},
    NamedClusterBug{.name = "reply_before_save", .raft = &raft::RaftBugs::reply_before_save},
    NamedClusterBug{.name = "acknowledge_before_durable",
                    .raft = &raft::RaftBugs::acknowledge_before_durable},
    NamedClusterBug{.name = "acknowledge_unverified",
                    .raft = &raft::RaftBugs::acknowledge_unverified},
    NamedClusterBug{.name = "leader_counts_unwritten",
                    .raft = &raft::RaftBugs::leader_counts_unwritten},
    NamedClusterBug{.name = "joint_needs_new_majority_only",
                    .raft = &raft::RaftBugs::joint_needs_new_majority_only},
    NamedClusterBug{.name = "accept_stale_leader", .raft = &raft::RaftBugs::accept_stale_leader},
    NamedClusterBug{.name = "high_watermark_off_by_one",
                    .raft = &raft::RaftBugs::high_watermark_off_by_one},
    NamedClusterBug{.name = "vote_without_log_check",
                    .raft = &raft::RaftBugs::vote_without_log_check},
    NamedClusterBug{.name = "skip_prev_check", .raft = &raft::RaftBugs::skip_prev_check},
    NamedClusterBug{.name = "truncate_always", .raft = &raft::RaftBugs::truncate_always},
    NamedClusterBug{.name = "keep_configuration_on_truncation",
                    .raft = &raft::RaftBugs::keep_configuration_on_truncation},
    NamedClusterBug{.name = "learner_counts_as_voter",
                    .raft = &raft::RaftBugs::learner_counts_as_voter},
    NamedClusterBug{.name = "lease_ignores_drift", .raft = &raft::RaftBugs::lease_ignores_drift},
    NamedClusterBug{.name = "lease_survives_transfer",
                    .raft = &raft::RaftBugs::lease_survives_transfer},
    NamedClusterBug{.name = "read_without_term_commit",
                    .raft = &raft::RaftBugs::read_without_term_commit},
    NamedClusterBug{.name = "rejoin_by_plain_raft", .raft = &raft::RaftBugs::rejoin_by_plain_raft},
    NamedClusterBug{.name = "believe_wild_terms", .raft = &raft::RaftBugs::believe_wild_terms},
    NamedClusterBug{.name = "trust_hello", .rpc = &rpc::RpcBugs::trust_hello},
    NamedClusterBug{.name = "acknowledge_before_flush",
                    .storage = &storage::StorageBugs::acknowledge_before_flush},
    NamedClusterBug{.name = "forget_journal_tail",
                    .storage = &storage::StorageBugs::forget_journal_tail},
    NamedClusterBug{.name = "truncate_suffix_in_memory_only",
                    .storage = &storage::StorageBugs::truncate_suffix_in_memory_only},
    NamedClusterBug{.name = "keep_foreign_charge",
                    .storage = &storage::StorageBugs::keep_foreign_charge},
    NamedClusterBug{.name = "forget_hard_state",
                    .storage = &storage::StorageBugs::forget_hard_state},
    NamedClusterBug{.name = "stale_state_blob", .storage = &storage::StorageBugs::stale_state_blob},
    NamedClusterBug{.name = "lose_run_record", .storage = &storage::StorageBugs::lose_run_record},
    NamedClusterBug{.name = "recycle_too_early",
                    .storage = &storage::StorageBugs::recycle_too_early},
    NamedClusterBug{.name = "acknowledge_before_commit",
                    .server = &kafka::ServerBugs::acknowledge_before_commit},
    NamedClusterBug{.name = "read_uncommitted", .server = &kafka::ServerBugs::read_uncommitted},
    NamedClusterBug{.name = "answer_duplicate_before_commit",
                    .server = &kafka::ServerBugs::answer_duplicate_before_commit},
    NamedClusterBug{.name = "lose_producer_state",
                    .server = &kafka::ServerBugs::lose_producer_state},
    NamedClusterBug{.name = "keep_truncated_producers",
                    .server = &kafka::ServerBugs::keep_truncated_producers},
    NamedClusterBug{.name = "answer_unconfirmed", .server = &kafka::ServerBugs::answer_unconfirmed},
    NamedClusterBug{.name = "load_coordinator_early",
                    .server = &kafka::ServerBugs::load_coordinator_early},
    NamedClusterBug{.name = "forget_commits", .server = &kafka::ServerBugs::forget_commits},
};

}  // namespace weir::sim
