// Which partitions should change their leader: back to the preferred one (the first replica) after
// a node returned, and away from nodes that go into maintenance. Transfers move no data. The driver
// carries a plan out a few at a time, and asks again. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace weir::cluster {

struct LedPartition {
    std::vector<int32_t> replicas;  // the first is the preferred leader
    int32_t leader = -1;            // -1: none
    std::vector<int32_t> in_sync;
};

struct LeaderTransfer {
    size_t partition = 0;  // by its place in what was given
    int32_t from = 0;
    int32_t to = 0;
    bool operator==(const LeaderTransfer&) const = default;
};

// Whether a node may be made leader: alive and active.
using CanLead = std::function<bool(int32_t)>;

class LeaderBalancer {
  public:
    struct Options {
        // For each node, the share of the partitions that prefer it and are led by others.
        // Transfers begin when this is above the first value for some node, and end when it is
        // above the second for none. Kafka's leader.imbalance.per.broker.percentage.
        double start = 0.10;
        double stop = 0.0;
        size_t transfers_max = 50;  // of one plan
    };
    explicit LeaderBalancer(Options options) : options_(options) {}

    // What to transfer now; only to preferred leaders that can lead and are in sync.
    std::vector<LeaderTransfer> plan(const std::vector<LedPartition>& partitions,
                                     const CanLead& can_lead);
    bool is_active() const { return active_; }

  private:
    Options options_;
    bool active_ = false;
};

// Moves everything that `leaving` leads to other replicas that are in sync and can lead: to the
// preferred one, else to the one that leads least. *stuck counts the partitions without such a
// replica.
std::vector<LeaderTransfer> plan_leader_drain(const std::vector<LedPartition>& partitions,
                                              int32_t leaving, const CanLead& can_lead,
                                              size_t transfers_max, size_t* stuck);

// Whether an administrator's ElectLeaders for the preferred replica needs a transfer.
enum class PreferredElection : uint8_t {
    kTransfer,      // from the leader to replicas.front()
    kNotNeeded,     // it leads
    kNoLeader,      // an election is under way, or no majority is there for one
    kNotAvailable,  // it can't lead, or is not in sync
};
PreferredElection plan_preferred_election(const LedPartition& partition, const CanLead& can_lead);

}  // namespace weir::cluster
