// The cluster simulation: one seed is one cluster of real brokers, with clients, that is broken in
// every way it must survive, then healed and held to its promises.
//
// A run: nodes start in a drawn order on drawn numbers of shards, clients make topics and work,
// while a nemesis kills nodes, one or most at once, cuts their power, pauses them, cuts links one
// way and both ways, fills or slows a disk, jumps clocks, restarts nodes one after the other. Then
// everything is healed: all must finish within bounded virtual time, every promise of
// cluster_history.h must hold, and the replicas of each partition must be equal. In the end the
// nodes stop in good order.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/log.h"
#include "base/time.h"
#include "cluster_bugs.h"

namespace weir::sim {

struct ClusterRunOptions {
    uint64_t seed = 1;
    uint32_t nodes = 0;  // 0: drawn
    ClusterBugs bugs;
    Logger::Sink log_sink = {};
    LogLevel log_level = LogLevel::kInfo;
    std::function<void(const std::string&)> trace_sink = {};
    std::function<void(const std::string&)> note_sink = {};  // the run's own account
};

struct ClusterRunResult {
    std::string failure;  // empty: none
    uint64_t trace_hash = 0;
    Duration virtual_time{};
    uint64_t steps = 0;
    // How much the run saw: what no run ever meets is not tested.
    struct Seen {
        uint64_t nodes = 0;
        uint64_t kills = 0;
        uint64_t power_cuts = 0;
        uint64_t blackouts = 0;
        uint64_t pauses = 0;
        uint64_t orderly_restarts = 0;
        uint64_t failed_lives = 0;
        uint64_t partitions_two_way = 0;
        uint64_t partitions_one_way = 0;
        uint64_t full_disks = 0;
        uint64_t clock_jumps = 0;
        uint64_t sent = 0;
        uint64_t acknowledged = 0;
        uint64_t read = 0;
        uint64_t commits = 0;
        uint64_t epochs = 0;
        uint64_t may_lose = 0;  // times that a relaxed partition came to be allowed to lose
        uint64_t lost = 0;      // acknowledged records, and rightly
        uint64_t requests = 0;
        uint64_t failures = 0;
        uint64_t rebalances = 0;
        uint64_t topics_made = 0;
        uint64_t topics_removed = 0;
        uint64_t transfers = 0;
        uint64_t reassignments = 0;
        uint64_t maintenances = 0;
        uint64_t removed_nodes = 0;
        uint64_t attacks = 0;           // connections of hostile peers
        uint64_t attacks_wild = 0;      // ... that said hello as a member
        uint64_t attacks_replayed = 0;  // ... that said again what a member had said
        uint64_t lost_disks = 0;
        uint64_t joined = 0;  // after the cluster was there
        uint64_t replicas_compared = 0;

        void add(const Seen& other);
        std::string to_string() const;
    } seen;
};

ClusterRunResult run_cluster(const ClusterRunOptions& options);

}  // namespace weir::sim
