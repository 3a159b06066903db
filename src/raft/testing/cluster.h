// A small deterministic cluster around cores, for tests: a model of the driver, of a disk that
// loses what was not flushed, of a network that loses, doubles, delays and reorders, and of clocks
// that drift; a plan of faults drawn from a seed; and oracles that see everything. A run is a
// safety phase with faults and a phase after healing in which the group must work again.
//
// Some groups are relaxed: what is in memory counts, and a crash loses it. In most of those so few
// nodes are lost or recovering at one time that nothing committed may go; in the others it may go
// by an election of all voters alone, when a majority of them may have lost it.
#pragma once

#include <cstdint>
#include <string>

#include "raft/options.h"

namespace weir::raft {

struct ClusterStats {
    uint64_t events = 0;
    uint64_t virtual_ns = 0;
    uint64_t elections = 0;
    uint64_t committed = 0;  // entries
    uint64_t reads = 0;
    uint64_t lease_reads = 0;  // of them, answered at once
    uint64_t crashes = 0;
    uint64_t truncations = 0;
    uint64_t installs = 0;
    uint64_t changes = 0;  // of the configuration, finished
    uint64_t transfers = 0;
    uint64_t sleeps = 0;
    uint64_t attacks = 0;            // messages that no healthy member sends
    uint64_t invalid = 0;            // messages that a core called invalid
    uint64_t relaxed_committed = 0;  // entries, from memory
    uint64_t recoveries = 0;
    uint64_t elections_by_all = 0;
    uint64_t disks_rolled_back = 0;  // to an older log, term and vote
    uint64_t logs_discarded = 0;
    uint64_t losses = 0;  // of what was committed, by such an election

    void add(const ClusterStats& other);
};

struct ClusterResult {
    std::string violation;  // empty: all went well
    ClusterStats stats;
    uint64_t trace_hash = 0;
};

// `trace`: every event on stdout.
ClusterResult run_cluster(uint64_t seed, const RaftBugs& bugs, bool trace = false);

}  // namespace weir::raft
