#include "cluster/leader_balance.h"

#include <gtest/gtest.h>

namespace weir::cluster {
namespace {

bool anyone(int32_t) { return true; }

// `count` partitions of nodes 1, 2, 3 in turn, all led by whom they prefer.
std::vector<LedPartition> settled(size_t count) {
    std::vector<LedPartition> partitions;
    for (size_t i = 0; i < count; ++i) {
        const auto first = static_cast<int32_t>(i % 3);
        partitions.push_back({.replicas = {first + 1, (first + 1) % 3 + 1, (first + 2) % 3 + 1},
                              .leader = first + 1,
                              .in_sync = {1, 2, 3}});
    }
    return partitions;
}

void carry_out(std::vector<LedPartition>& partitions, const std::vector<LeaderTransfer>& plan) {
    for (const LeaderTransfer& transfer : plan) {
        EXPECT_EQ(partitions[transfer.partition].leader, transfer.from);
        partitions[transfer.partition].leader = transfer.to;
    }
}

TEST(LeaderBalancer, a_settled_cluster_is_left_alone) {
    LeaderBalancer balancer({});
    EXPECT_TRUE(balancer.plan(settled(90), anyone).empty());
    EXPECT_TRUE(balancer.plan({}, anyone).empty());
    EXPECT_FALSE(balancer.is_active());
}

TEST(LeaderBalancer, it_starts_above_a_tenth_and_goes_on_until_all_is_as_preferred) {
    auto partitions = settled(90);
    const auto misplace = [&](size_t count) {
        for (size_t i = 0; i < count; ++i) partitions[i * 3].leader = 2;  // of node 1's thirty
    };
    LeaderBalancer balancer({.transfers_max = 2});
    misplace(3);
    EXPECT_TRUE(balancer.plan(partitions, anyone).empty());  // a tenth, not more
    misplace(4);
    size_t transfers = 0;
    for (int round = 0; round < 10; ++round) {
        const auto plan = balancer.plan(partitions, anyone);
        EXPECT_LE(plan.size(), 2u);
        EXPECT_EQ(balancer.is_active(), !plan.empty());
        transfers += plan.size();
        carry_out(partitions, plan);
    }
    EXPECT_EQ(transfers, 4u);
    for (const auto& partition : partitions)
        EXPECT_EQ(partition.leader, partition.replicas.front());
}

TEST(LeaderBalancer, a_node_that_is_not_in_sync_or_can_not_lead_is_waited_for) {
    auto partitions = settled(3);
    partitions[0].leader = 2;
    partitions[0].in_sync = {2, 3};
    LeaderBalancer balancer({});
    EXPECT_TRUE(balancer.plan(partitions, anyone).empty());
    partitions[0].in_sync = {1, 2, 3};
    EXPECT_TRUE(balancer.plan(partitions, [](int32_t node) { return node != 1; }).empty());
    EXPECT_EQ(balancer.plan(partitions, anyone), (std::vector<LeaderTransfer>{{0, 2, 1}}));
    partitions[0].leader = -1;  // an election is under way
    EXPECT_TRUE(balancer.plan(partitions, anyone).empty());
}

TEST(LeaderBalancer, nodes_get_theirs_by_turns) {
    auto partitions = settled(60);
    for (auto& partition : partitions) partition.leader = 3;
    LeaderBalancer balancer({.transfers_max = 6});
    size_t to_first = 0;
    for (const auto& transfer : balancer.plan(partitions, anyone))
        to_first += transfer.to == 1 ? 1 : 0;
    EXPECT_EQ(to_first, 3u);
}

TEST(LeaderDrain, everything_leaves_evenly_to_those_in_sync) {
    auto partitions = settled(90);
    size_t stuck = 0;
    const auto plan = plan_leader_drain(partitions, 1, anyone, 1000, &stuck);
    EXPECT_EQ(plan.size(), 30u);
    EXPECT_EQ(stuck, 0u);
    carry_out(partitions, plan);
    size_t second = 0;
    for (const auto& partition : partitions) {
        EXPECT_NE(partition.leader, 1);
        second += partition.leader == 2 ? 1 : 0;
    }
    EXPECT_EQ(second, 45u);
    EXPECT_EQ(plan_leader_drain(settled(90), 1, anyone, 7, &stuck).size(), 7u);
}

TEST(LeaderDrain, the_preferred_leader_is_preferred_and_who_can_not_leave_is_counted) {
    std::vector<LedPartition> partitions = {
        {.replicas = {2, 3, 1}, .leader = 1, .in_sync = {1, 2, 3}},
        {.replicas = {2, 3, 1}, .leader = 1, .in_sync = {1, 2, 3}},
        {.replicas = {1, 2}, .leader = 1, .in_sync = {1}},
        {.replicas = {1}, .leader = 1, .in_sync = {1}}};
    size_t stuck = 0;
    const auto plan = plan_leader_drain(partitions, 1, anyone, 1000, &stuck);
    EXPECT_EQ(plan, (std::vector<LeaderTransfer>{{0, 1, 2}, {1, 1, 2}}));
    EXPECT_EQ(stuck, 2u);
}

TEST(PreferredElection, says_what_stands_in_its_way) {
    LedPartition partition{.replicas = {1, 2, 3}, .leader = 2, .in_sync = {1, 2, 3}};
    EXPECT_EQ(plan_preferred_election(partition, anyone), PreferredElection::kTransfer);
    EXPECT_EQ(plan_preferred_election(partition, [](int32_t node) { return node != 1; }),
              PreferredElection::kNotAvailable);
    partition.in_sync = {2, 3};
    EXPECT_EQ(plan_preferred_election(partition, anyone), PreferredElection::kNotAvailable);
    partition.leader = 1;
    EXPECT_EQ(plan_preferred_election(partition, anyone), PreferredElection::kNotNeeded);
    partition.leader = -1;
    EXPECT_EQ(plan_preferred_election(partition, anyone), PreferredElection::kNoLeader);
    EXPECT_EQ(plan_preferred_election({.leader = 1}, anyone), PreferredElection::kNotAvailable);
}

}  // namespace
}  // namespace weir::cluster
