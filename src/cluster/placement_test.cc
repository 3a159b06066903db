#include "cluster/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/prng.h"

namespace weir::cluster {
namespace {

using Replicas = std::vector<int32_t>;

std::vector<PlacementNode> nodes_of(int32_t count, int32_t racks = 0) {
    std::vector<PlacementNode> nodes;
    for (int32_t id = 1; id <= count; ++id)
        nodes.push_back({.id = id, .rack = racks == 0 ? "" : std::to_string(id % racks)});
    return nodes;
}

std::vector<PlacedPartition> placed(const std::vector<Replicas>& lists) {
    std::vector<PlacedPartition> partitions;
    for (const Replicas& list : lists) partitions.push_back({.replicas = list});
    return partitions;
}

Replicas sorted(Replicas list) {
    std::ranges::sort(list);
    return list;
}

// What must hold of any partition's replicas, whatever was asked.
void expect_sound(const Replicas& replicas, const std::vector<PlacementNode>& nodes) {
    const Replicas each = sorted(replicas);
    EXPECT_EQ(std::ranges::adjacent_find(each), each.end());
    std::map<std::string, size_t> use;
    std::map<std::string, size_t> room;
    for (const PlacementNode& node : nodes) {
        const bool holds = std::ranges::count(replicas, node.id) > 0;
        if (holds) EXPECT_TRUE(node.accepts) << node.id;
        if (holds) ++use[node.rack];
        if (!holds && node.accepts) ++room[node.rack];
    }
    for (const auto& [full, count] : use) {
        for (const auto& [free, nodes_left] : room)
            EXPECT_LE(count, use[free] + 1) << "rack " << full << " beside " << free;
    }
}

struct Spread {
    size_t least = SIZE_MAX;
    size_t most = 0;
    void add(size_t count) {
        least = std::min(least, count);
        most = std::max(most, count);
    }
    size_t width() const { return most - least; }
};

Spread replica_spread(const Placement& placement, const std::vector<PlacementNode>& nodes) {
    Spread spread;
    for (const PlacementNode& node : nodes) {
        if (node.accepts) spread.add(placement.replica_count(node.id));
    }
    return spread;
}

Spread leader_spread(const Placement& placement, const std::vector<PlacementNode>& nodes) {
    Spread spread;
    for (const PlacementNode& node : nodes) {
        if (node.accepts) spread.add(placement.leader_count(node.id));
    }
    return spread;
}

size_t replicas_moved(const std::vector<Replicas>& before, const std::vector<Move>& moves) {
    size_t moved = 0;
    for (const Move& move : moves) {
        for (const int32_t node : move.replicas)
            moved += std::ranges::count(before[move.partition], node) == 0 ? 1 : 0;
    }
    return moved;
}

TEST(Placement, three_nodes_share_replicas_and_leaders_evenly) {
    const auto nodes = nodes_of(3);
    Placement placement(nodes, {}, 1);
    const auto lists = placement.place(9, 3);
    ASSERT_TRUE(lists);
    for (const Replicas& list : *lists) EXPECT_EQ(sorted(list), (Replicas{1, 2, 3}));
    for (int32_t id = 1; id <= 3; ++id) {
        EXPECT_EQ(placement.replica_count(id), 9u);
        EXPECT_EQ(placement.leader_count(id), 3u);
    }
}

TEST(Placement, more_replicas_than_nodes_that_accept_them_are_refused_in_kafkas_words) {
    auto nodes = nodes_of(4);
    nodes[2].accepts = false;
    Placement placement(nodes, {}, 1);
    const auto refused = placement.place(1, 4);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(
        refused.error().message,
        "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot "
        "be reached because only 3 broker(s) are registered.");
    const auto three = placement.place(1, 3);
    ASSERT_TRUE(three);
    EXPECT_EQ(sorted((*three)[0]), (Replicas{1, 2, 4}));
}

TEST(Placement, a_rack_counts_more_than_an_empty_node) {
    std::vector<PlacementNode> nodes = {
        {.id = 1, .rack = "a"}, {.id = 2, .rack = "a"}, {.id = 3, .rack = "b"}};
    Placement placement(nodes, placed({{3}, {3}, {3}, {3}}), 1);
    const auto lists = placement.place(4, 2);
    ASSERT_TRUE(lists);
    for (const Replicas& list : *lists) EXPECT_EQ(std::ranges::count(list, 3), 1);
}

TEST(Placement, of_nodes_that_hold_equally_much_the_one_with_less_load_is_taken) {
    std::vector<PlacementNode> nodes = nodes_of(3);
    nodes[0].load = 5e6;
    nodes[1].load = 1e6;
    nodes[2].load = 9e6;
    Placement placement(nodes, {}, 1);
    EXPECT_EQ((*placement.place(1, 1))[0], Replicas{2});
    EXPECT_EQ((*placement.place(1, 1))[0], Replicas{1});
    EXPECT_EQ((*placement.place(1, 1))[0], Replicas{3});
}

TEST(Placement, the_same_seed_gives_the_same_plan_and_another_seed_another) {
    const auto plan = [](uint64_t seed) {
        return *Placement(nodes_of(7, 3), {}, seed).place(200, 3);
    };
    EXPECT_EQ(plan(5), plan(5));
    EXPECT_NE(plan(5), plan(6));
}

TEST(Placement, random_clusters_are_filled_evenly_over_racks_and_nodes) {
    for (uint64_t seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE(seed);
        Prng prng(seed);
        const bool equal_racks = prng.chance(0.5);
        const auto racks = static_cast<int32_t>(prng.between(1, 5));
        auto nodes = nodes_of(equal_racks ? racks * static_cast<int32_t>(prng.between(1, 6))
                                          : static_cast<int32_t>(prng.between(1, 25)),
                              racks);
        if (!equal_racks) {
            for (PlacementNode& node : nodes) {
                node.rack = std::to_string(prng.below(static_cast<uint64_t>(racks)));
                node.accepts = prng.chance(0.9);
            }
        }
        Placement placement(nodes, {}, seed);
        const size_t factor = prng.between(1, 5);
        if (factor > placement.accepting()) {
            EXPECT_FALSE(placement.place(1, factor));
            continue;
        }
        std::vector<Replicas> all;
        for (int topic = 0; topic < 20; ++topic) {
            const auto lists = placement.place(prng.between(1, 60), factor);
            ASSERT_TRUE(lists);
            for (const Replicas& list : *lists) {
                EXPECT_EQ(list.size(), factor);
                expect_sound(list, nodes);
                all.push_back(list);
            }
        }
        if (equal_racks) {
            EXPECT_LE(replica_spread(placement, nodes).width(), 2u);
            EXPECT_LE(leader_spread(placement, nodes).width(), 2u);
            Placement again(nodes, placed(all), seed + 1);
            EXPECT_TRUE(again.plan_rebalance({.moves_max = 1000}).empty());
        }
    }
}

TEST(Placement, a_decommissioned_node_gives_away_all_it_has_and_nothing_else_moves) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(seed);
        Prng prng(seed);
        const auto racks = static_cast<int32_t>(prng.between(1, 4));
        auto nodes = nodes_of(racks * static_cast<int32_t>(prng.between(2, 5)), racks);
        const size_t factor = prng.between(1, 3);
        Placement first(nodes, {}, seed);
        if (factor + 1 > first.accepting()) continue;
        const auto before = *first.place(prng.between(1, 300), factor);
        const auto leaving = static_cast<int32_t>(prng.between(1, nodes.size()));
        Placement placement(nodes, placed(before), seed);
        const Evacuation plan = placement.plan_evacuation({leaving});
        EXPECT_TRUE(plan.impossible.empty());
        std::set<size_t> moved;
        nodes[static_cast<size_t>(leaving - 1)].accepts = false;
        for (const Move& move : plan.moves) {
            EXPECT_TRUE(moved.insert(move.partition).second);
            const Replicas& old = before[move.partition];
            EXPECT_EQ(move.replicas.size(), factor);
            expect_sound(move.replicas, nodes);
            for (const int32_t node : old) {
                EXPECT_EQ(std::ranges::count(move.replicas, node), node == leaving ? 0 : 1);
            }
            // Who was preferred and stays is preferred still.
            if (old.front() != leaving) EXPECT_EQ(move.replicas.front(), old.front());
        }
        for (size_t i = 0; i < before.size(); ++i)
            EXPECT_EQ(moved.contains(i), std::ranges::count(before[i], leaving) == 1);
        EXPECT_EQ(placement.replica_count(leaving), 0u);
        EXPECT_EQ(placement.leader_count(leaving), 0u);
        if (racks == 1) EXPECT_LE(replica_spread(placement, nodes).width(), 2u);
    }
}

TEST(Placement, a_node_that_no_other_can_replace_is_told) {
    Placement placement(nodes_of(3), placed({{1, 2, 3}, {1, 2}}), 1);
    const Evacuation plan = placement.plan_evacuation({3, 2});
    EXPECT_EQ(plan.impossible, (std::vector<size_t>{0, 1}));
    EXPECT_TRUE(plan.moves.empty());
    Placement again(nodes_of(3), placed({{1, 2, 3}, {1, 2}}), 1);
    const Evacuation one = again.plan_evacuation({2});
    EXPECT_EQ(one.impossible, (std::vector<size_t>{0}));
    EXPECT_EQ(one.moves, (std::vector<Move>{{1, {1, 3}}}));
}

TEST(Placement, a_dead_nodes_replicas_go_onto_the_one_that_takes_its_place) {
    auto nodes = nodes_of(4);
    nodes[1].accepts = false;  // dead, and not even known any more below
    nodes.erase(nodes.begin() + 1);
    Placement placement(nodes, placed({{1, 2, 3}, {2, 3, 1}, {3, 1}, {2, 4}}), 1);
    const Evacuation plan = placement.plan_evacuation({2}, 4);
    EXPECT_TRUE(plan.impossible.empty());
    ASSERT_EQ(plan.moves.size(), 3u);
    EXPECT_EQ(plan.moves[0], (Move{0, {1, 4, 3}}));
    EXPECT_EQ(sorted(plan.moves[1].replicas), (Replicas{1, 3, 4}));
    // It has the last one already: another node takes that.
    EXPECT_EQ(plan.moves[2].partition, 3u);
    EXPECT_EQ(std::ranges::count(plan.moves[2].replicas, 4), 1);
}

TEST(Placement, a_replication_factor_grows_and_shrinks_without_moving_anything) {
    for (uint64_t seed = 1; seed <= 100; ++seed) {
        SCOPED_TRACE(seed);
        Prng prng(seed);
        const auto nodes = nodes_of(static_cast<int32_t>(prng.between(5, 12)), 3);
        Placement placement(nodes, {}, seed);
        const auto before = *placement.place(50, prng.between(1, 5));
        const size_t factor = prng.between(1, 5);
        std::vector<size_t> all(before.size());
        for (size_t i = 0; i < all.size(); ++i) all[i] = i;
        const auto moves = placement.plan_replication_factor(all, factor);
        ASSERT_TRUE(moves);
        EXPECT_EQ(moves->empty(), before[0].size() == factor);
        for (const Move& move : *moves) {
            EXPECT_EQ(move.replicas.size(), factor);
            expect_sound(move.replicas, nodes);
            const Replicas& old = before[move.partition];
            EXPECT_EQ(move.replicas.front(), old.front());
            const Replicas& small = factor < old.size() ? move.replicas : old;
            const Replicas& large = factor < old.size() ? old : move.replicas;
            for (const int32_t node : small) EXPECT_EQ(std::ranges::count(large, node), 1);
        }
    }
    Placement placement(nodes_of(3), placed({{1}}), 1);
    const size_t one[] = {0};
    EXPECT_FALSE(placement.plan_replication_factor(one, 4));
    EXPECT_FALSE(placement.plan_replication_factor(one, 0));
}

TEST(Placement, a_shrinking_partition_drops_dead_nodes_first) {
    auto nodes = nodes_of(4);
    nodes[0].accepts = false;
    Placement placement(nodes, placed({{1, 2, 3}, {2, 1, 4}}), 1);
    const size_t both[] = {0, 1};
    const auto moves = placement.plan_replication_factor(both, 2);
    ASSERT_TRUE(moves);
    EXPECT_EQ((*moves)[0].replicas, (Replicas{2, 3}));
    EXPECT_EQ((*moves)[1].replicas, (Replicas{2, 4}));
}

TEST(Placement, an_added_node_is_filled_with_as_few_moves_as_can_be) {
    for (uint64_t seed = 1; seed <= 100; ++seed) {
        SCOPED_TRACE(seed);
        Prng prng(seed);
        const auto count = static_cast<int32_t>(prng.between(3, 9));
        const size_t partitions = prng.between(count, 300);
        Placement first(nodes_of(count), {}, seed);
        const auto before = *first.place(partitions, 3);
        const auto nodes = nodes_of(count + 1);
        Placement placement(nodes, placed(before), seed);
        const auto moves = placement.plan_rebalance({.moves_max = 10'000, .tolerance = 0});
        const size_t each = partitions * 3 / nodes.size();  // what the new node must get
        EXPECT_EQ(replicas_moved(before, moves), each);
        EXPECT_EQ(placement.replica_count(count + 1), each);
        EXPECT_LE(replica_spread(placement, nodes).width(), 2u);
        EXPECT_LE(leader_spread(placement, nodes).width(), 1u);
        for (const Move& move : moves) expect_sound(move.replicas, nodes);
    }
}

TEST(Placement, a_rebalance_is_bounded_and_comes_to_an_end) {
    Placement first(nodes_of(4), {}, 1);
    auto lists = *first.place(100, 3);
    const auto nodes = nodes_of(6);
    int rounds = 0;
    for (;; ++rounds) {
        ASSERT_LT(rounds, 20);
        Placement placement(nodes, placed(lists), static_cast<uint64_t>(rounds));
        const auto moves = placement.plan_rebalance({.moves_max = 10});
        EXPECT_LE(replicas_moved(lists, moves), 10u);
        if (moves.empty()) break;
        for (const Move& move : moves) lists[move.partition] = move.replicas;
    }
    Placement at_last(nodes, placed(lists), 1);
    EXPECT_LE(replica_spread(at_last, nodes).width(), 5u);  // a tenth of 50
    EXPECT_GE(rounds, 9);
}

TEST(Placement, racks_that_are_told_later_are_mended_with_one_move_a_partition) {
    // Two racks in turn; the lists know nothing of them.
    std::vector<Replicas> before;
    for (int i = 0; i < 20; ++i) before.push_back(i % 2 == 0 ? Replicas{1, 3} : Replicas{2, 4});
    const auto nodes = nodes_of(4, 2);
    Placement placement(nodes, placed(before), 1);
    const auto moves = placement.plan_rebalance({.moves_max = 100});
    EXPECT_EQ(replicas_moved(before, moves), 20u);
    for (const Move& move : moves) expect_sound(move.replicas, nodes);
    EXPECT_LE(replica_spread(placement, nodes).width(), 1u);
}

TEST(Placement, preferred_leaders_are_evened_out_by_order_alone) {
    // Node 1 leads all that it has; node 3 shares nothing with it.
    std::vector<Replicas> before;
    for (int i = 0; i < 30; ++i) before.push_back({1, 2});
    for (int i = 0; i < 30; ++i) before.push_back({2, 3});
    std::vector<PlacementNode> nodes = nodes_of(3);
    Placement placement(nodes, placed(before), 1);
    const auto moves = placement.plan_rebalance({.moves_max = 0});
    EXPECT_EQ(replicas_moved(before, moves), 0u);
    for (int32_t id = 1; id <= 3; ++id) EXPECT_EQ(placement.leader_count(id), 20u);
    for (const Move& move : moves) EXPECT_EQ(sorted(move.replicas), sorted(before[move.partition]));
}

TEST(Placement, a_balanced_cluster_is_left_alone) {
    Placement first(nodes_of(6, 3), {}, 1);
    const auto lists = *first.place(500, 3);
    for (uint64_t seed = 0; seed < 10; ++seed) {
        Placement placement(nodes_of(6, 3), placed(lists), seed);
        EXPECT_TRUE(placement.plan_rebalance({.moves_max = 1000}).empty());
        EXPECT_TRUE(placement.plan_evacuation({}).moves.empty());
        EXPECT_TRUE(placement.plan_evacuation({99}).moves.empty());
    }
}

TEST(Placement, a_node_in_maintenance_keeps_what_it_has_and_gets_nothing) {
    Placement first(nodes_of(4), {}, 1);
    const auto lists = *first.place(40, 2);
    auto nodes = nodes_of(5);
    nodes[0].accepts = false;
    Placement placement(nodes, placed(lists), 1);
    const size_t before = placement.replica_count(1);
    (void)placement.plan_rebalance({.moves_max = 1000});
    EXPECT_EQ(placement.replica_count(1), before);
    ASSERT_TRUE(placement.place(20, 3));
    EXPECT_EQ(placement.replica_count(1), before);
}

TEST(Placement, an_administrators_list_is_checked) {
    const std::set<int32_t> known = {1, 2, 3};
    const auto problem = [&](Replicas replicas) {
        const auto checked = check_assignment(replicas, known, {3});
        return checked ? "" : checked.error().message;
    };
    EXPECT_EQ(problem({2, 1}), "");
    EXPECT_EQ(problem({}), "A partition needs at least one replica.");
    EXPECT_EQ(problem({1, 1}), "A partition has two replicas on one broker.");
    EXPECT_EQ(problem({1, 4}), "Broker 4 is not in the cluster.");
    EXPECT_EQ(problem({3, 1}), "Broker 3 is being decommissioned.");
    EXPECT_EQ(problem(Replicas(65, 1)), "A partition has at most 64 replicas.");
}

}  // namespace
}  // namespace weir::cluster
