#include "cluster/leader_balance.h"

#include <algorithm>
#include <map>

namespace weir::cluster {
namespace {

bool holds(const std::vector<int32_t>& nodes, int32_t node) {
    return std::ranges::find(nodes, node) != nodes.end();
}

}  // namespace

std::vector<LeaderTransfer> LeaderBalancer::plan(const std::vector<LedPartition>& partitions,
                                                 const CanLead& can_lead) {
    struct Preferred {
        size_t all = 0;
        std::vector<LeaderTransfer> elsewhere;  // that could be transferred now
        double share() const {
            return static_cast<double>(elsewhere.size()) / static_cast<double>(all);
        }
    };
    std::map<int32_t, Preferred> nodes;
    for (size_t i = 0; i < partitions.size(); ++i) {
        const LedPartition& partition = partitions[i];
        if (partition.replicas.empty()) continue;
        const int32_t wanted = partition.replicas.front();
        Preferred& preferred = nodes[wanted];
        ++preferred.all;
        if (partition.leader == wanted || partition.leader == -1) continue;
        if (!can_lead(wanted) || !holds(partition.in_sync, wanted)) continue;
        preferred.elsewhere.push_back({i, partition.leader, wanted});
    }
    const auto any_above = [&](double limit) {
        return std::ranges::any_of(nodes,
                                   [&](const auto& each) { return each.second.share() > limit; });
    };
    active_ = any_above(active_ ? options_.stop : options_.start);
    std::vector<LeaderTransfer> transfers;
    if (!active_) return transfers;
    // By turns, so that no node waits for all of another's.
    bool has_more = true;
    for (size_t round = 0; has_more; ++round) {
        has_more = false;
        for (const auto& [node, preferred] : nodes) {
            if (preferred.share() <= options_.stop || round >= preferred.elsewhere.size()) continue;
            if (transfers.size() == options_.transfers_max) return transfers;
            transfers.push_back(preferred.elsewhere[round]);
            has_more = true;
        }
    }
    return transfers;
}

std::vector<LeaderTransfer> plan_leader_drain(const std::vector<LedPartition>& partitions,
                                              int32_t leaving, const CanLead& can_lead,
                                              size_t transfers_max, size_t* stuck) {
    std::map<int32_t, size_t> leads;
    for (const LedPartition& partition : partitions) ++leads[partition.leader];
    std::vector<LeaderTransfer> transfers;
    *stuck = 0;
    for (size_t i = 0; i < partitions.size(); ++i) {
        const LedPartition& partition = partitions[i];
        if (partition.leader != leaving) continue;
        std::optional<int32_t> best;
        for (const int32_t node : partition.replicas) {
            if (node == leaving || !can_lead(node) || !holds(partition.in_sync, node)) continue;
            if (!best || (*best != partition.replicas.front() && leads[node] < leads[*best]))
                best = node;
        }
        if (!best) {
            ++*stuck;
        } else if (transfers.size() < transfers_max) {
            ++leads[*best];
            transfers.push_back({i, leaving, *best});
        }
    }
    return transfers;
}

PreferredElection plan_preferred_election(const LedPartition& partition, const CanLead& can_lead) {
    using enum PreferredElection;
    if (partition.leader == -1) return kNoLeader;
    if (partition.replicas.empty()) return kNotAvailable;
    const int32_t wanted = partition.replicas.front();
    if (partition.leader == wanted) return kNotNeeded;
    return can_lead(wanted) && holds(partition.in_sync, wanted) ? kTransfer : kNotAvailable;
}

}  // namespace weir::cluster
