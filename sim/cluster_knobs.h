// What a run of the cluster simulation draws from its seed besides the events themselves: the size
// of the cluster, the classes of faults that are on, the limits of its nodes, what its clients do.
#pragma once

#include <cstdint>
#include <string>

#include "broker/options.h"
#include "cluster_bugs.h"
#include "cluster_clients.h"
#include "runtime/sim/plan.h"

namespace weir::sim {

constexpr uint64_t kDiskBytes = uint64_t{1} << 30;

// What is drawn for the whole run besides the plan of faults.
struct Knobs {
    uint32_t nodes;    // that found the cluster
    uint32_t joiners;  // that come later
    uint32_t shards_max;
    bool minority_only;  // no majority is down or cut off at a time
    Duration work_time;  // under faults
    Duration fault_mean;
    // Classes of faults that are on.
    bool kills, pauses, orderly, links, full_disk, clock_jumps, rolling;
    bool blackouts;  // kills of most nodes at once
    bool
        busy_controller;  // the controller is stopped in order while it works for the administrator
    bool hunting;         // most faults strike leaders, one soon after the other
    bool lost_disk;       // one node's, once
    bool one_sick_disk;   // the plan's disk errors strike one node; else none
    bool slow_disks;      // some machines' disks take long to flush
    // Whether nodes have a secret: none, all (and ask for it), or some of them (and none asks).
    enum class Secret : uint8_t { kNone, kAll, kSome };
    Secret secret;
    Duration strangers_mean;  // between two attempts of hostile peers; 0: there are none
    uint64_t send_bytes;      // of one append between replicas
    int32_t offsets_partitions;
    uint64_t journal_file_bytes;
    // --memory, far below what a node takes; divided as broker/budget.h says.
    uint64_t memory_bytes;
    uint64_t cache_bytes;
    uint64_t bypass_bytes;
    ClientOptions clients;

    std::string to_string() const;
};
// Both are functions of the seed alone. `nodes_wanted` 0: drawn.
Knobs draw_knobs(uint64_t seed, uint32_t nodes_wanted);
Plan plan_of(uint64_t seed);

// The name of a machine on the network.
std::string host(uint32_t index);
// The addresses of the cluster's nodes and joiners, for the clients.
ClientOptions with_addresses(ClientOptions options, uint32_t nodes);
// The options of the broker on that machine. `knobs` and `bugs` outlive them.
// The secret that nodes and hostile members have.
std::shared_ptr<const rpc::Credentials> cluster_secret(bool required);
broker::BrokerOptions broker_options(const Knobs& knobs, const ClusterBugs& bugs, uint32_t index);

}  // namespace weir::sim
