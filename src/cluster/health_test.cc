#include "cluster/health.h"

#include <gtest/gtest.h>

#include <set>

#include "cluster/features.h"

namespace weir::cluster {
namespace {

Uuid uuid_of(uint64_t n) { return Uuid::random(n, n * 31); }

class Health : public testing::Test {
  protected:
    Health() {
        apply(ClusterCreated{uuid_of(9)});
        apply(FeatureFinalized{std::string(kWeirVersion), 1});
        for (int32_t id = 1; id <= 3; ++id) {
            apply(NodeRegistered{.id = id,
                                 .uuid = uuid_of(static_cast<uint64_t>(id)),
                                 .epoch = 1,
                                 .rpc = {"r", 1},
                                 .kafka = {id == 3 ? "::1" : "n" + std::to_string(id), 9092},
                                 .rack = id == 1 ? std::optional<std::string>("a") : std::nullopt,
                                 .features = supported_features()});
        }
        apply(TopicCreated{"t", uuid_of(99), {{{7}, {1, 2, 3}}, {{8}, {2, 3}}}, {}});
        leaders.learn({.log = {7}, .leader = 1, .epoch = 4, .in_sync = {1, 2, 3}});
        leaders.learn({.log = {8}, .leader = 2, .epoch = 2, .in_sync = {3, 2}});
    }
    void apply(const MetadataRecord& record) { ASSERT_TRUE(image.apply(record)); }
    ClusterHealth health() const { return health_of(image, leaders, view); }

    MetadataImage image;
    LeaderTable leaders{100};
    std::set<int32_t> dead;
    ClusterView view{.controller = 1,
                     .is_alive = [this](int32_t node) { return !dead.contains(node); },
                     .self = {}};
};

TEST_F(Health, a_whole_cluster_is_healthy_and_its_json_has_the_names_that_stay) {
    EXPECT_EQ(to_json(health()),
              R"({"healthy":true,"controller":1,"nodes":[)"
              R"({"id":1,"address":"n1:9092","rack":"a","alive":true,"draining":false,)"
              R"("decommissioning":false},)"
              R"({"id":2,"address":"n2:9092","rack":null,"alive":true,"draining":false,)"
              R"("decommissioning":false},)"
              R"({"id":3,"address":"[::1]:9092","rack":null,"alive":true,"draining":false,)"
              R"("decommissioning":false}],"leaderless":0,"under_replicated":0,"ailments":[]})");
}

TEST_F(Health, a_replica_that_is_damaged_is_told_with_its_reason) {
    const ClusterHealth now = health_of(
        image, leaders, view, {{.node = 2, .log = {8}, .reason = "damaged: the second segment"}});
    EXPECT_FALSE(now.healthy);
    EXPECT_EQ(now.under_replicated, 0u);
    ASSERT_EQ(now.ailments.size(), 1u);
    EXPECT_EQ(now.ailments[0].topic, "t");
    EXPECT_NE(to_json(now).find(R"("reason":"damaged: the second segment"})"), std::string::npos);
}

TEST_F(Health, a_dead_node_leaves_partitions_without_leader_and_under_replicated) {
    dead = {2};
    const ClusterHealth now = health();
    EXPECT_FALSE(now.healthy);
    EXPECT_FALSE(now.nodes[1].alive);
    EXPECT_EQ(now.leaderless, 1u);
    EXPECT_EQ(now.under_replicated, 2u);
    leaders.learn({.log = {8}, .leader = 3, .epoch = 3, .in_sync = {3}});
    EXPECT_EQ(health().leaderless, 0u);
    EXPECT_EQ(health().under_replicated, 2u);
}

TEST_F(Health, one_that_is_unknown_or_has_stepped_down_has_no_leader) {
    leaders.forget({7});
    EXPECT_EQ(health().leaderless, 1u);
    EXPECT_EQ(health().under_replicated, 1u);
    leaders.learn({.log = {8}, .leader = -1, .epoch = 2, .revision = 1, .in_sync = {2, 3}});
    EXPECT_EQ(health().leaderless, 2u);
}

TEST_F(Health, maintenance_is_healthy_and_no_controller_is_not) {
    apply(NodeStateChanged{3, NodeState::kDecommissioning});
    EXPECT_TRUE(health().healthy);
    EXPECT_TRUE(health().nodes[2].draining);
    EXPECT_TRUE(health().nodes[2].decommissioning);
    apply(NodeStateChanged{3, NodeState::kDraining});
    EXPECT_FALSE(health().nodes[2].decommissioning);
    view.controller = -1;
    EXPECT_FALSE(health().healthy);
}

TEST_F(Health, rows_of_partitions_have_the_names_that_stay) {
    apply(PartitionReassigned{uuid_of(99), 1, {3, 1}, 1});
    const auto rows =
        partition_rows(image, leaders, view, std::nullopt,
                       {{{7}, {.high_watermark = 100, .lag = {{1, 0}, {2, 0}, {3, 12}}}}});
    EXPECT_EQ(to_json(rows),
              R"([{"topic":"t","partition":0,"leader":1,"epoch":4,"replicas":[1,2,3],)"
              R"("in_sync":[1,2,3],"high_watermark":100,"lag":{"1":0,"2":0,"3":12}},)"
              R"({"topic":"t","partition":1,"leader":2,"epoch":2,"replicas":[3,1,2],)"
              R"("in_sync":[3,2],"high_watermark":-1,"lag":{}}])");
    EXPECT_TRUE(partition_rows(image, leaders, view, "other", {}).empty());
    EXPECT_EQ(partition_rows(image, leaders, view, "t", {}).size(), 2u);
    EXPECT_EQ(health().under_replicated, 0u);  // what is on its way in is not missing yet
}

TEST(HealthOfOne, a_node_of_its_own_leads_all_it_has) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(ClusterCreated{uuid_of(9)}));
    ASSERT_TRUE(image.apply(TopicCreated{"t", uuid_of(99), {{{7}, {0}}}, {}}));
    const ClusterView view{.controller = 0,
                           .is_alive = [](int32_t) { return true; },
                           .self = {.id = 0, .address = "h:9092", .alive = true}};
    const LeaderTable leaders(10);
    EXPECT_TRUE(health_of(image, leaders, view).healthy);
    const auto rows = partition_rows(image, leaders, view, std::nullopt, {});
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].leader, 0);
    EXPECT_EQ(rows[0].in_sync, (std::vector<int32_t>{0}));
}

}  // namespace
}  // namespace weir::cluster
