#include "cluster/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "base/check.h"
#include "base/prng.h"
#include "cluster/records.h"

namespace weir::cluster {
namespace {

std::string not_enough(size_t replication_factor, size_t nodes) {
    return fmt::format(
        "Unable to replicate the partition {} time(s): The target replication factor of {} cannot "
        "be reached because only {} broker(s) are registered.",
        replication_factor, replication_factor, nodes);
}

}  // namespace

Placement::Placement(std::vector<PlacementNode> nodes, std::vector<PlacedPartition> partitions,
                     uint64_t seed)
    : seed_(mix64(seed)) {
    std::ranges::sort(nodes, {}, &PlacementNode::id);
    std::map<std::string, uint32_t> racks;
    for (const PlacementNode& node : nodes) {
        const auto rack = racks.emplace(node.rack, static_cast<uint32_t>(racks.size())).first;
        slots_.push_back({.id = node.id,
                          .rack = rack->second,
                          .accepts = node.accepts,
                          .replicas = node.replicas,
                          .leaders = node.leaders,
                          .load = node.load});
    }
    racks_ = static_cast<uint32_t>(racks.size());
    // Before any index is taken: a slot that is made later may shift others.
    for (const PlacedPartition& partition : partitions) {
        for (const int32_t node : partition.replicas) (void)slot_of(node);
    }
    rack_use_.resize(racks_);
    partitions_.reserve(partitions.size());
    for (const PlacedPartition& placed : partitions) {
        Partition& partition = partitions_.emplace_back();
        partition.load = placed.load;
        for (const int32_t node : placed.replicas) partition.replicas.push_back(slot_of(node));
        count(partition, 1);
        // The nodes' loads are measured with what they hold.
        for (const SlotIndex slot : partition.replicas) slots_[slot].load -= partition.load;
    }
}

std::optional<Placement::SlotIndex> Placement::find_slot(int32_t node) const {
    const auto at = std::ranges::lower_bound(slots_, node, {}, &Slot::id);
    if (at == slots_.end() || at->id != node) return std::nullopt;
    return static_cast<SlotIndex>(at - slots_.begin());
}

Placement::SlotIndex Placement::slot_of(int32_t node) {
    if (const auto known = find_slot(node)) return *known;
    const auto at = std::ranges::lower_bound(slots_, node, {}, &Slot::id);
    // In a rack of its own, so that it takes no place in another's.
    const auto made = slots_.insert(at, Slot{.id = node, .rack = racks_++});
    return static_cast<SlotIndex>(made - slots_.begin());
}

void Placement::count(const Partition& partition, int difference) {
    for (const SlotIndex slot : partition.replicas) {
        slots_[slot].replicas += static_cast<size_t>(difference);
        slots_[slot].load += difference * partition.load;
    }
    if (!partition.replicas.empty())
        slots_[partition.replicas.front()].leaders += static_cast<size_t>(difference);
}

void Placement::count_racks(const Partition& partition) {
    std::ranges::fill(rack_use_, 0);
    for (const SlotIndex slot : partition.replicas) ++rack_use_[slots_[slot].rack];
}

uint64_t Placement::tie_of(SlotIndex slot) const {
    return mix64(seed_ ^ mix64(decision_ << 20 | slot));
}

bool Placement::is_fuller(SlotIndex a, SlotIndex b) const {
    const Slot& x = slots_[a];
    const Slot& y = slots_[b];
    if (x.replicas != y.replicas) return x.replicas > y.replicas;
    if (x.leaders != y.leaders) return x.leaders > y.leaders;
    if (x.load != y.load) return x.load > y.load;
    return tie_of(a) > tie_of(b);
}

std::optional<Placement::SlotIndex> Placement::choose(const Partition& partition,
                                                      std::optional<uint32_t> rack) {
    ++decision_;
    count_racks(partition);
    std::optional<SlotIndex> best;
    for (SlotIndex slot = 0; slot < slots_.size(); ++slot) {
        const Slot& candidate = slots_[slot];
        if (!candidate.accepts || (rack && candidate.rack != *rack)) continue;
        if (std::ranges::find(partition.replicas, slot) != partition.replicas.end()) continue;
        if (best) {
            const uint32_t use = rack_use_[candidate.rack];
            const uint32_t best_use = rack_use_[slots_[*best].rack];
            if (use > best_use || (use == best_use && is_fuller(slot, *best))) continue;
        }
        best = slot;
    }
    return best;
}

// Of a partition that is not counted. Nodes that do not accept lead only where no other can.
void Placement::prefer_least_leader(Partition& partition) const {
    const auto rank = [this](SlotIndex slot) {
        return std::tuple(!slots_[slot].accepts, slots_[slot].leaders, slots_[slot].load,
                          tie_of(slot));
    };
    const auto least = std::ranges::min_element(partition.replicas, {}, rank);
    std::rotate(partition.replicas.begin(), least, least + 1);
}

std::vector<int32_t> Placement::ids_of(const Partition& partition) const {
    std::vector<int32_t> ids;
    for (const SlotIndex slot : partition.replicas) ids.push_back(slots_[slot].id);
    return ids;
}

size_t Placement::accepting() const {
    return static_cast<size_t>(std::ranges::count_if(slots_, &Slot::accepts));
}

size_t Placement::replica_count(int32_t node) const {
    const auto slot = find_slot(node);
    return slot ? slots_[*slot].replicas : 0;
}

size_t Placement::leader_count(int32_t node) const {
    const auto slot = find_slot(node);
    return slot ? slots_[*slot].leaders : 0;
}

Result<std::vector<std::vector<int32_t>>> Placement::place(size_t count,
                                                           size_t replication_factor) {
    if (replication_factor > accepting()) {
        return fail(ErrorCode::kInvalidArgument, not_enough(replication_factor, accepting()));
    }
    const size_t first = partitions_.size();
    for (size_t i = 0; i < count; ++i) {
        Partition& partition = partitions_.emplace_back();
        while (partition.replicas.size() < replication_factor)
            partition.replicas.push_back(*choose(partition));
        prefer_least_leader(partition);
        this->count(partition, 1);
    }
    // They hold nothing yet, so any order is free.
    even_leaders(first, 0);
    std::vector<std::vector<int32_t>> placed;
    for (size_t i = first; i < partitions_.size(); ++i) placed.push_back(ids_of(partitions_[i]));
    return placed;
}

Evacuation Placement::plan_evacuation(const std::set<int32_t>& leaving,
                                      std::optional<int32_t> onto) {
    Evacuation plan;
    for (Slot& slot : slots_) {
        if (leaving.contains(slot.id)) slot.accepts = false;
    }
    std::optional<SlotIndex> wanted;
    if (onto) wanted = find_slot(*onto);
    if (wanted && !slots_[*wanted].accepts) wanted = std::nullopt;
    for (size_t i = 0; i < partitions_.size(); ++i) {
        Partition& partition = partitions_[i];
        const auto leaves = [&](SlotIndex slot) { return leaving.contains(slots_[slot].id); };
        if (std::ranges::none_of(partition.replicas, leaves)) continue;
        const Partition before = partition;
        count(partition, -1);
        const bool leader_leaves = leaves(partition.replicas.front());
        bool is_possible = true;
        for (size_t at = 0; at < partition.replicas.size() && is_possible; ++at) {
            if (!leaves(partition.replicas[at])) continue;
            // What leaves takes no place in a rack.
            Partition rest = partition;
            rest.replicas.erase(rest.replicas.begin() + static_cast<ptrdiff_t>(at));
            std::optional<SlotIndex> to;
            if (wanted && std::ranges::find(rest.replicas, *wanted) == rest.replicas.end()) {
                to = wanted;
            } else {
                to = choose(rest);
            }
            is_possible = to.has_value();
            if (to) partition.replicas[at] = *to;
        }
        if (!is_possible) {
            partition = before;
            plan.impossible.push_back(i);
        } else {
            if (leader_leaves) prefer_least_leader(partition);
            plan.moves.push_back({i, ids_of(partition)});
        }
        count(partition, 1);
    }
    return plan;
}

Result<std::vector<Move>> Placement::plan_replication_factor(std::span<const size_t> partitions,
                                                             size_t replication_factor) {
    if (replication_factor == 0 || replication_factor > kReplicasMax) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("A replication factor is 1 to {}.", kReplicasMax));
    }
    std::vector<Move> moves;
    for (const size_t index : partitions) {
        Partition& partition = partitions_[index];
        if (partition.replicas.size() == replication_factor) continue;
        count(partition, -1);
        while (partition.replicas.size() < replication_factor) {
            const auto to = choose(partition);
            if (!to) {
                return fail(ErrorCode::kInvalidArgument,
                            not_enough(replication_factor, accepting()));
            }
            partition.replicas.push_back(*to);
        }
        while (partition.replicas.size() > replication_factor) {
            ++decision_;
            count_racks(partition);
            size_t worst = slots_[partition.replicas[0]].accepts ? 1 : 0;
            for (size_t at = worst + 1; at < partition.replicas.size(); ++at) {
                const SlotIndex a = partition.replicas[at];
                const SlotIndex b = partition.replicas[worst];
                const auto rank = [this](SlotIndex slot) {
                    return std::pair(!slots_[slot].accepts, rack_use_[slots_[slot].rack]);
                };
                if (rank(a) > rank(b) || (rank(a) == rank(b) && is_fuller(a, b))) worst = at;
            }
            partition.replicas.erase(partition.replicas.begin() + static_cast<ptrdiff_t>(worst));
        }
        count(partition, 1);
        moves.push_back({index, ids_of(partition)});
    }
    return moves;
}

// One replica from the rack that has the most of the partition to one that has at least two fewer.
bool Placement::mend_racks(Partition& partition) {
    count_racks(partition);
    const auto use = rack_use_;
    std::optional<SlotIndex> from;
    for (const SlotIndex slot : partition.replicas) {
        const uint32_t mine = use[slots_[slot].rack];
        if (!from || mine > use[slots_[*from].rack] ||
            (mine == use[slots_[*from].rack] && is_fuller(slot, *from)))
            from = slot;
    }
    if (!from) return false;
    const auto to = choose(partition);
    if (!to || use[slots_[*to].rack] + 2 > use[slots_[*from].rack]) return false;
    count(partition, -1);
    *std::ranges::find(partition.replicas, *from) = *to;
    count(partition, 1);
    return true;
}

bool Placement::is_uneven(size_t Slot::* count, double tolerance) const {
    size_t least = std::numeric_limits<size_t>::max();
    size_t most = 0;
    size_t sum = 0;
    for (const Slot& slot : slots_) {
        if (!slot.accepts) continue;
        least = std::min(least, slot.*count);
        most = std::max(most, slot.*count);
        sum += slot.*count;
    }
    if (most < least + 2) return false;
    const double average = static_cast<double>(sum) / static_cast<double>(accepting());
    return static_cast<double>(most - least) > tolerance * average;
}

// From the fullest node to the emptiest, while they differ by more than one and the spread over
// racks gets no worse.
size_t Placement::even_replicas(const RebalanceOptions& options, size_t moves_max) {
    if (moves_max == 0 || !is_uneven(&Slot::replicas, options.tolerance)) return 0;
    std::vector<std::vector<size_t>> held(slots_.size());  // partitions, by slot
    for (size_t i = 0; i < partitions_.size(); ++i) {
        for (const SlotIndex slot : partitions_[i].replicas) held[slot].push_back(i);
    }
    std::vector<SlotIndex> order;  // that accept, the fullest first
    for (SlotIndex slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].accepts) order.push_back(slot);
    }
    // Pairs between which nothing can move. Partitions that come later might, and are left.
    std::set<std::pair<SlotIndex, SlotIndex>> stuck;
    const auto can_move = [&](const Partition& partition, SlotIndex from, SlotIndex to) {
        uint32_t from_use = 0;
        uint32_t to_use = 0;
        for (const SlotIndex slot : partition.replicas) {
            if (slot == to) return false;
            if (slots_[slot].rack == slots_[from].rack) ++from_use;
            if (slots_[slot].rack == slots_[to].rack) ++to_use;
        }
        return slots_[from].rack == slots_[to].rack || to_use < from_use;
    };
    // Scans go on where the last one from that node ended: what was passed over stays behind.
    std::vector<size_t> cursors(slots_.size());
    const auto move_one = [&](SlotIndex from, SlotIndex to) {
        std::vector<size_t>& mine = held[from];
        for (size_t step = 0; step < mine.size(); ++step) {
            const size_t at = (cursors[from] + step) % mine.size();
            Partition& partition = partitions_[mine[at]];
            if (!can_move(partition, from, to)) continue;
            count(partition, -1);
            *std::ranges::find(partition.replicas, from) = to;
            count(partition, 1);
            held[to].push_back(mine[at]);
            mine[at] = mine.back();
            mine.pop_back();
            cursors[from] = at;
            return true;
        }
        return false;
    };
    size_t moves = 0;
    bool has_moved = true;
    while (has_moved && moves < moves_max) {
        has_moved = false;
        ++decision_;
        std::ranges::sort(order, [this](SlotIndex a, SlotIndex b) { return is_fuller(a, b); });
        for (size_t i = 0; i < order.size() && !has_moved; ++i) {
            for (size_t j = order.size(); j-- > i + 1 && !has_moved;) {
                const SlotIndex from = order[i];
                const SlotIndex to = order[j];
                if (slots_[from].replicas < slots_[to].replicas + 2) break;
                if (stuck.contains({from, to})) continue;
                has_moved = move_one(from, to);
                if (!has_moved) stuck.insert({from, to});
            }
        }
        if (has_moved) ++moves;
    }
    return moves;
}

// Preferred leaders are evened out along chains: a leads too much and b too little, and although
// they share no partition, a can hand one to c, which hands one to b. Breadth first finds the
// shortest.
void Placement::even_leaders(size_t first, double tolerance) {
    if (!is_uneven(&Slot::leaders, tolerance)) return;
    std::vector<std::vector<size_t>> led(slots_.size());  // partitions, by slot
    for (size_t i = first; i < partitions_.size(); ++i) {
        if (!partitions_[i].replicas.empty()) led[partitions_[i].replicas.front()].push_back(i);
    }
    struct Step {
        SlotIndex from = 0;
        size_t partition = 0;
    };
    std::set<SlotIndex> exhausted;
    while (true) {
        std::optional<SlotIndex> most;
        for (SlotIndex slot = 0; slot < slots_.size(); ++slot) {
            if (!slots_[slot].accepts || exhausted.contains(slot)) continue;
            if (!most || slots_[slot].leaders > slots_[*most].leaders) most = slot;
        }
        if (!most) return;
        std::vector<std::optional<Step>> reached(slots_.size());
        std::vector<SlotIndex> queue{*most};
        std::optional<SlotIndex> end;
        for (size_t head = 0; head < queue.size() && !end; ++head) {
            for (const size_t index : led[queue[head]]) {
                for (const SlotIndex to : partitions_[index].replicas) {
                    if (to == *most || reached[to] || !slots_[to].accepts) continue;
                    reached[to] = Step{queue[head], index};
                    queue.push_back(to);
                    if (slots_[to].leaders + 2 <= slots_[*most].leaders) end = to;
                    if (end) break;
                }
                if (end) break;
            }
        }
        if (!end) {
            exhausted.insert(*most);
            continue;
        }
        for (SlotIndex to = *end; to != *most;) {
            const Step step = *reached[to];
            Partition& partition = partitions_[step.partition];
            count(partition, -1);
            const auto at = std::ranges::find(partition.replicas, to);
            std::rotate(partition.replicas.begin(), at, at + 1);
            count(partition, 1);
            std::erase(led[step.from], step.partition);
            led[to].push_back(step.partition);
            to = step.from;
        }
    }
}

std::vector<Move> Placement::plan_rebalance(const RebalanceOptions& options) {
    const std::vector<Partition> before = partitions_;
    size_t moves = 0;
    for (Partition& partition : partitions_) {
        while (moves < options.moves_max && mend_racks(partition)) ++moves;
    }
    even_replicas(options, options.moves_max - moves);
    even_leaders(0, options.tolerance);
    std::vector<Move> plan;
    for (size_t i = 0; i < partitions_.size(); ++i) {
        if (partitions_[i].replicas != before[i].replicas)
            plan.push_back({i, ids_of(partitions_[i])});
    }
    return plan;
}

Result<void> check_assignment(std::span<const int32_t> replicas, const std::set<int32_t>& known,
                              const std::set<int32_t>& decommissioning) {
    if (replicas.empty())
        return fail(ErrorCode::kInvalidArgument, "A partition needs at least one replica.");
    if (replicas.size() > kReplicasMax) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("A partition has at most {} replicas.", kReplicasMax));
    }
    std::set<int32_t> seen;
    for (const int32_t node : replicas) {
        if (!seen.insert(node).second) {
            return fail(ErrorCode::kInvalidArgument, "A partition has two replicas on one broker.");
        }
        if (!known.contains(node)) {
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("Broker {} is not in the cluster.", node));
        }
        if (decommissioning.contains(node)) {
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("Broker {} is being decommissioned.", node));
        }
    }
    return {};
}

}  // namespace weir::cluster
