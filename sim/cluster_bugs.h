// The bugs that the cluster simulation switches on, by name: of the consensus core, of the store
// below it and of the Kafka server above it.
#pragma once

#include <array>
#include <string_view>

#include "kafka/server/server_bugs.h"
#include "raft/raft_bugs.h"
#include "storage/storage_bugs.h"

namespace weir::sim {

struct ClusterBugs {
    raft::RaftBugs raft;
    storage::StorageBugs storage;
    kafka::ServerBugs server;
};

struct NamedClusterBug {
    std::string_view name;
    bool raft::RaftBugs::* raft = nullptr;
    bool storage::StorageBugs::* storage = nullptr;
    bool kafka::ServerBugs::* server = nullptr;

    void switch_on(ClusterBugs& bugs) const {
        if (raft != nullptr) bugs.raft.*raft = true;
        if (storage != nullptr) bugs.storage.*storage = true;
        if (server != nullptr) bugs.server.*server = true;
    }
};

inline constexpr std::array kClusterBugs{
    NamedClusterBug{.name = "acknowledge_before_flush",
                    .storage = &storage::StorageBugs::acknowledge_before_flush},
    NamedClusterBug{.name = "forget_journal_tail",
                    .storage = &storage::StorageBugs::forget_journal_tail},
    NamedClusterBug{.name = "acknowledge_before_commit",
                    .server = &kafka::ServerBugs::acknowledge_before_commit},
    NamedClusterBug{.name = "read_uncommitted", .server = &kafka::ServerBugs::read_uncommitted},
    NamedClusterBug{.name = "answer_duplicate_before_commit",
                    .server = &kafka::ServerBugs::answer_duplicate_before_commit},
    NamedClusterBug{.name = "lose_producer_state",
                    .server = &kafka::ServerBugs::lose_producer_state},
    NamedClusterBug{.name = "coordinator_answers_before_loaded",
                    .server = &kafka::ServerBugs::coordinator_answers_before_loaded},
    NamedClusterBug{.name = "forget_commits", .server = &kafka::ServerBugs::forget_commits},
};

}  // namespace weir::sim
