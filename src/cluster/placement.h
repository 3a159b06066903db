// Placement: which nodes hold which partitions. Decides where the replicas of new partitions go and
// plans their moves when nodes come and go. It balances by rack first (a partition's replicas
// spread over as many racks as possible, as evenly as possible), then by the number of replicas of
// a node, then by how many partitions prefer it as their leader, then by its load. It sees only
// numbers, no names and no logs; the controller makes it from its image, uses it once and turns its
// moves into records. Pure; the same input and seed give the same plan.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace weir::cluster {

struct PlacementNode {
    int32_t id = 0;
    std::string rack;     // empty: all nodes that have none stand in one
    bool accepts = true;  // alive and active: may be given replicas
    double load = 0;      // bytes a second, of whatever it serves
    // What the node holds of partitions that are not passed to the Placement one by one.
    size_t replicas = 0;
    size_t leaders = 0;
};

struct PlacedPartition {
    std::vector<int32_t> replicas;  // where it shall be: the target of a reassignment under way
    double load = 0;                // bytes a second of each replica, moves with it
};

struct Move {
    size_t partition = 0;           // by its place in what the Placement was made from
    std::vector<int32_t> replicas;  // what they shall be; the first is the preferred leader
    bool operator==(const Move&) const = default;
};

// Moves, and the partitions that need one but fit no node.
struct Evacuation {
    std::vector<Move> moves;
    std::vector<size_t> impossible;
};

struct RebalanceOptions {
    size_t moves_max = 0;  // of replicas to another node
    // Nothing moves for balance until two nodes differ by more than this share of the average; then
    // they are made even.
    double tolerance = 0.1;
};

class Placement {
  public:
    Placement(std::vector<PlacementNode> nodes, std::vector<PlacedPartition> partitions,
              uint64_t seed);

    // Places `count` new partitions, which count in later calls. kInvalidArgument if too few nodes
    // accept replicas.
    Result<std::vector<std::vector<int32_t>>> place(size_t count, size_t replication_factor);

    // Moves every replica on `leaving` to another node that accepts it, and no other replica. If
    // `onto` is given and has no replica of the partition yet, it goes there.
    Evacuation plan_evacuation(const std::set<int32_t>& leaving,
                               std::optional<int32_t> onto = std::nullopt);

    // Adds or drops replicas of these partitions without moving any. It drops replicas on nodes
    // that do not accept first, then of the fullest rack, then of the fullest node; the preferred
    // leader stays if its node accepts.
    Result<std::vector<Move>> plan_replication_factor(std::span<const size_t> partitions,
                                                      size_t replication_factor);

    // After nodes were added or racks changed: first mends the spread over racks, then evens out
    // replicas, then preferred leaders (which moves no data, so moves_max does not bound it).
    std::vector<Move> plan_rebalance(const RebalanceOptions& options);

    size_t accepting() const;
    // The replicas of a node; 0 if it is unknown.
    size_t replica_count(int32_t node) const;
    size_t leader_count(int32_t node) const;

  private:
    using SlotIndex = uint32_t;
    struct Slot {
        int32_t id = 0;
        uint32_t rack = 0;
        bool accepts = false;
        size_t replicas = 0;
        size_t leaders = 0;  // partitions that prefer it
        double load = 0;
    };
    struct Partition {
        std::vector<SlotIndex> replicas;
        double load = 0;
    };

    std::optional<SlotIndex> find_slot(int32_t node) const;
    SlotIndex slot_of(int32_t node);  // made if it is unknown: it accepts nothing
    void count(const Partition& partition, int difference);
    void count_racks(const Partition& partition);
    // The best node that accepts and has no replica of the partition yet; of `rack` alone if that
    // is given.
    std::optional<SlotIndex> choose(const Partition& partition,
                                    std::optional<uint32_t> rack = std::nullopt);
    bool is_fuller(SlotIndex a, SlotIndex b) const;
    uint64_t tie_of(SlotIndex slot) const;
    void prefer_least_leader(Partition& partition) const;
    std::vector<int32_t> ids_of(const Partition& partition) const;

    bool mend_racks(Partition& partition);
    size_t even_replicas(const RebalanceOptions& options, size_t moves_max);
    // Among the partitions from `first` on.
    void even_leaders(size_t first, double tolerance);
    bool is_uneven(size_t Slot::* count, double tolerance) const;

    std::vector<Slot> slots_;  // by id
    std::vector<Partition> partitions_;
    uint32_t racks_ = 0;
    std::vector<uint32_t> rack_use_;  // of the partition at hand
    uint64_t seed_;
    uint64_t decision_ = 0;  // so that ties fall differently each time
};

// Whether an administrator's list can be a partition's replicas: known nodes, each once, none that
// is being decommissioned. kInvalidArgument with a sentence.
Result<void> check_assignment(std::span<const int32_t> replicas, const std::set<int32_t>& known,
                              const std::set<int32_t>& decommissioning);

}  // namespace weir::cluster
