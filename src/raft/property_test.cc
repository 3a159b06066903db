// Many seeds of a small cluster under faults, and the same for each bug that can be switched on.
// RAFT_SEEDS=N runs more, RAFT_SEED=S replays one with its trace.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iterator>
#include <string>

#include "raft/testing/cluster.h"

namespace weir::raft {
namespace {

uint64_t from_environment(const char* name, uint64_t fallback) {
    const char* text = std::getenv(name);
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

TEST(RaftProperty, WhatIsCommittedStaysAndTheGroupRecovers) {
    if (std::getenv("RAFT_SEED") != nullptr) {
        const ClusterResult result = run_cluster(from_environment("RAFT_SEED", 0), {}, true);
        EXPECT_EQ(result.violation, "");
        return;
    }
    const uint64_t first = from_environment("RAFT_FIRST", 1);
    const uint64_t count = from_environment("RAFT_SEEDS", 1'000);
    ClusterStats stats;
    for (uint64_t seed = first; seed < first + count; ++seed) {
        const ClusterResult result = run_cluster(seed, {});
        stats.add(result.stats);
        ASSERT_EQ(result.violation, "") << "RAFT_SEED=" << seed << " replays it";
    }
    fmt::print(
        "{} seeds, {} events, {:.1f} virtual hours: {} elections, {} entries committed, {} reads "
        "({} at once), {} crashes, {} truncations, {} snapshots, {} changes, {} transfers, {} "
        "sleeps; relaxed: {} entries committed, {} recoveries, {} elections by all, {} of them "
        "with a loss, {} disks rolled back, {} logs discarded\n",
        count, stats.events, static_cast<double>(stats.virtual_ns) / 3.6e12, stats.elections,
        stats.committed, stats.reads, stats.lease_reads, stats.crashes, stats.truncations,
        stats.installs, stats.changes, stats.transfers, stats.sleeps, stats.relaxed_committed,
        stats.recoveries, stats.elections_by_all, stats.losses, stats.disks_rolled_back,
        stats.logs_discarded);
}

struct Bug {
    const char* name;
    bool RaftBugs::* flag;
};

const Bug kBugs[] = {
    {"commit_old_term_by_count", &RaftBugs::commit_old_term_by_count},
    {"forget_vote", &RaftBugs::forget_vote},
    {"reply_before_save", &RaftBugs::reply_before_save},
    {"acknowledge_before_durable", &RaftBugs::acknowledge_before_durable},
    {"acknowledge_unverified", &RaftBugs::acknowledge_unverified},
    {"leader_counts_unwritten", &RaftBugs::leader_counts_unwritten},
    {"joint_needs_new_majority_only", &RaftBugs::joint_needs_new_majority_only},
    {"accept_stale_leader", &RaftBugs::accept_stale_leader},
    {"high_watermark_off_by_one", &RaftBugs::high_watermark_off_by_one},
    {"vote_without_log_check", &RaftBugs::vote_without_log_check},
    {"skip_prev_check", &RaftBugs::skip_prev_check},
    {"truncate_always", &RaftBugs::truncate_always},
    {"keep_configuration_on_truncation", &RaftBugs::keep_configuration_on_truncation},
    {"learner_counts_as_voter", &RaftBugs::learner_counts_as_voter},
    {"lease_ignores_drift", &RaftBugs::lease_ignores_drift},
    {"lease_survives_transfer", &RaftBugs::lease_survives_transfer},
    {"read_without_term_commit", &RaftBugs::read_without_term_commit},
    {"believe_strangers", &RaftBugs::believe_strangers},
    {"believe_wild_terms", &RaftBugs::believe_wild_terms},
    {"rejoin_by_plain_raft", &RaftBugs::rejoin_by_plain_raft},
};

// A bug may also trip one of the core's own checks, which ends the test: the oracles must be first.
TEST(RaftBugsTest, EachIsFoundWithinAThousandSeeds) {
    static_assert(sizeof(RaftBugs) == std::size(kBugs));
    for (const Bug& bug : kBugs) {
        RaftBugs bugs;
        bugs.*bug.flag = true;
        uint64_t seed = 1;
        ClusterResult result;
        for (; seed <= 1'000; ++seed) {
            result = run_cluster(seed, bugs);
            if (!result.violation.empty()) break;
        }
        EXPECT_NE(result.violation, "") << bug.name << " was not found";
        if (result.violation.empty()) continue;
        fmt::print("{:<34} seed {:>3}: {}\n", bug.name, seed, result.violation);
        EXPECT_EQ(run_cluster(seed, {}).violation, "") << bug.name << ", without it, seed " << seed;
    }
}

TEST(RaftProperty, ASeedTellsTheSameStoryTwice) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        const ClusterResult once = run_cluster(seed, {});
        const ClusterResult again = run_cluster(seed, {});
        EXPECT_EQ(once.trace_hash, again.trace_hash) << seed;
        EXPECT_EQ(once.stats.events, again.stats.events) << seed;
    }
}

}  // namespace
}  // namespace weir::raft
