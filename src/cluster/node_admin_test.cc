#include "cluster/node_admin.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "cluster/features.h"

namespace weir::cluster {
namespace {

Uuid uuid_of(uint64_t n) { return Uuid::random(n, n * 31); }

Founding three_founders() {
    return {{"h1:9700", uuid_of(1), 1}, {"h2:9700", uuid_of(2), 2}, {"h3:9700", uuid_of(3), 5}};
}

NodeRegistered node_of(uint64_t uuid, int32_t id = -1) {
    return {.id = id,
            .uuid = uuid_of(uuid),
            .rpc = {"h", 9700},
            .kafka = {"h", 9092},
            .features = supported_features()};
}

class NodeAdmin : public testing::Test {
  protected:
    NodeAdmin() {
        commit(founding_records(cluster_id_of(three_founders()), three_founders()));
        for (uint64_t uuid = 1; uuid <= 3; ++uuid) add(node_of(uuid));
        commit({TopicCreated{"t", uuid_of(99), {{{7}, {1, 2}}, {{8}, {2, 5}}}, {}}});
    }
    void commit(const std::vector<MetadataRecord>& records) {
        for (const MetadataRecord& record : records) {
            const auto applied = image.apply(record);
            ASSERT_TRUE(applied) << applied.error().to_string();
        }
    }
    int32_t add(NodeRegistered node) {
        const auto plan = plan_registration(image, three_founders(), std::move(node));
        EXPECT_TRUE(plan) << plan.error().to_string();
        if (plan->is_news) commit({plan->node});
        return plan->node.id;
    }
    std::string refusal(NodeRegistered node, const Founding& founding = {}) {
        const auto plan = plan_registration(image, founding, std::move(node));
        return plan ? "" : plan.error().message;
    }
    const PartitionAssignment& partition(size_t index) {
        return image.find("t")->partitions[index];
    }
    auto reassign(std::optional<std::vector<int32_t>> target) {
        return plan_reassignment(image, uuid_of(99), 0, target);
    }

    MetadataImage image;
};

TEST_F(NodeAdmin, founders_get_the_ids_of_the_founding_and_others_the_next) {
    EXPECT_EQ(image.find_node(uuid_of(3))->info.id, 5);
    EXPECT_EQ(image.cluster_id(), cluster_id_of(three_founders()));
    EXPECT_EQ(image.feature_level(kWeirVersion), static_cast<int32_t>(WeirLevel::kNewest));
    EXPECT_EQ(add(node_of(4)), 6);
    EXPECT_EQ(add(node_of(5, 3)), 3);  // a low one that was told
    EXPECT_EQ(add(node_of(6)), 7);
}

TEST_F(NodeAdmin, one_that_missed_the_answer_gets_the_same_and_nothing_is_written) {
    EXPECT_EQ(add(node_of(4)), 6);
    const auto again = plan_registration(image, {}, node_of(4));
    ASSERT_TRUE(again);
    EXPECT_FALSE(again->is_news);
    EXPECT_EQ(again->node.id, 6);
    NodeRegistered moved = node_of(4, 6);
    moved.rpc.host = "elsewhere";
    const auto there = plan_registration(image, {}, moved);
    ASSERT_TRUE(there);
    EXPECT_TRUE(there->is_news);
    EXPECT_EQ(there->node.epoch, 2u);
    commit({there->node});
}

TEST_F(NodeAdmin, the_id_of_another_disk_is_refused_and_its_address_told) {
    EXPECT_NE(refusal(node_of(4, 2)).find("node id 2 is that of the node at h:9700"),
              std::string::npos);
    EXPECT_EQ(refusal(node_of(2, 9)), "this data directory is node 2, not 9");
    NodeRegistered old = node_of(4);
    old.features.clear();
    EXPECT_NE(refusal(old).find("the cluster is at level 2 of weir.version"), std::string::npos);
}

TEST(NodeAdminFounding, a_founders_id_is_kept_for_it_until_it_registers) {
    MetadataImage image;
    for (const auto& record : founding_records(cluster_id_of(three_founders()), three_founders()))
        ASSERT_TRUE(image.apply(record));
    const auto taken = plan_registration(image, three_founders(), node_of(4, 5));
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().message, "node id 5 is that of h3:9700, which founded the cluster");
    EXPECT_EQ(plan_registration(image, three_founders(), node_of(4))->node.id, 6);
    EXPECT_EQ(plan_registration(image, three_founders(), node_of(3))->node.id, 5);
}

TEST_F(NodeAdmin, a_node_with_replicas_is_not_removed) {
    const auto held = plan_removal(image, 5);
    ASSERT_FALSE(held);
    EXPECT_EQ(held.error().message, "node 5 holds replicas of 1 partitions: decommission it first");
    EXPECT_EQ(plan_removal(image, 77).error().code, ErrorCode::kNotFound);
    const int32_t added = add(node_of(4));
    const auto removed = plan_removal(image, added);
    ASSERT_TRUE(removed);
    commit(*removed);
    EXPECT_EQ(image.find_node(added), nullptr);
}

// Its first registration came, was undone, and is asked for again because the answer was lost.
TEST_F(NodeAdmin, a_node_that_was_removed_does_not_register_itself_again) {
    const int32_t added = add(node_of(4));
    commit(*plan_removal(image, added));
    const auto again = plan_registration(image, three_founders(), node_of(4, added), true);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().message,
              "node 6 was removed from the cluster: start it with an empty data directory to have "
              "it join anew");
    EXPECT_EQ(plan_registration(image, three_founders(), node_of(4), true).error().message,
              "this node was removed from the cluster: start it with an empty data directory to "
              "have it join anew");
    // An administrator may give the id to an empty disk.
    EXPECT_EQ(plan_registration(image, three_founders(), node_of(4, added))->node.id, added);
    EXPECT_TRUE(plan_registration(image, three_founders(), node_of(3, 5), true)) << "known";
}

// Founders register one after the other. Whoever joins meanwhile follows the log from its start,
// and the leader, which it needs for that, registers last.
TEST(Dialling, who_joined_takes_founders_that_it_has_not_heard_of_for_members) {
    MetadataImage image;
    for (const MetadataRecord& record :
         founding_records(cluster_id_of(three_founders()), three_founders()))
        ASSERT_TRUE(image.apply(record));
    const auto is_let_in = [&](int32_t self, const Founding& founding, Dialling from) {
        return check_dialling(image, founding, self, from).has_value();
    };
    const auto add = [&](uint64_t uuid) {
        const auto plan = plan_registration(image, three_founders(), node_of(uuid));
        ASSERT_TRUE(plan && image.apply(plan->node));
    };
    add(1);
    // Node 6 joined, and its image is from before that.
    const Dialling second{.node = 2, .uuid = uuid_of(2)};
    EXPECT_TRUE(is_let_in(6, {}, second));
    add(4);
    EXPECT_TRUE(is_let_in(6, {}, second)) << "a founder may register later (cluster seed 1092)";
    EXPECT_FALSE(is_let_in(6, {}, {.node = 2, .uuid = uuid_of(2), .may_be_voter = false}));
    EXPECT_FALSE(is_let_in(6, {}, {.node = 1, .uuid = uuid_of(9)})) << "another disk";
    EXPECT_TRUE(is_let_in(6, {}, {.node = 7, .uuid = uuid_of(7)})) << "it may have joined since";
    // A founder knows the others, as long as they belong to the controller's group.
    EXPECT_TRUE(is_let_in(1, three_founders(), second));
    EXPECT_FALSE(is_let_in(1, three_founders(), {.node = 2, .uuid = uuid_of(9)}));
    EXPECT_FALSE(
        is_let_in(1, three_founders(), {.node = 2, .uuid = uuid_of(2), .may_be_voter = false}));
}

// Cluster seed 23336: a founder led the controller's group before it had registered; a node that
// joined was not told where it is, and could not answer it.
TEST_F(NodeAdmin, who_joins_is_told_of_founders_that_have_not_registered) {
    MetadataImage young;
    for (const MetadataRecord& record :
         founding_records(cluster_id_of(three_founders()), three_founders()))
        ASSERT_TRUE(young.apply(record));
    const auto first = plan_registration(young, three_founders(), node_of(1));
    ASSERT_TRUE(first && young.apply(first->node));
    const std::map<int32_t, Endpoint> known{
        {1, {"old", 1}}, {2, {"h2", 9700}}, {5, {"h3", 9700}}, {9, {"h9", 9700}}};
    const auto told = member_addresses(young, raft::voters({1, 2, 5, 7}), known);
    EXPECT_EQ(told, (std::vector<std::pair<int32_t, Endpoint>>{
                        {1, {"h", 9700}}, {2, {"h2", 9700}}, {5, {"h3", 9700}}}));
}

TEST_F(NodeAdmin, a_state_is_changed_once) {
    commit(*plan_state(image, 2, NodeState::kDraining));
    EXPECT_EQ(image.find_node(2)->state, NodeState::kDraining);
    EXPECT_TRUE(plan_state(image, 2, NodeState::kDraining)->empty());
    EXPECT_EQ(plan_state(image, 77, NodeState::kActive).error().code, ErrorCode::kNotFound);
}

TEST_F(NodeAdmin, a_reassignment_is_shown_as_kafka_shows_it_until_its_leader_reports) {
    commit(*reassign(std::vector<int32_t>{5, 2}));
    EXPECT_EQ(shown(partition(0)), (ReplicasShown{{5, 2, 1}, {5}, {1}}));
    EXPECT_EQ(shown(partition(1)), (ReplicasShown{{2, 5}, {}, {}}));
    EXPECT_TRUE(reassign(std::vector<int32_t>{5, 2})->empty());  // asked again
    EXPECT_TRUE(plan_replicas_changed(image, uuid_of(99), 0, 7).empty());
    EXPECT_TRUE(plan_replicas_changed(image, uuid_of(99), 1, 0).empty());
    const auto done = plan_replicas_changed(image, uuid_of(99), 0, partition(0).revision);
    ASSERT_EQ(done.size(), 1u);
    commit(done);
    EXPECT_EQ(shown(partition(0)), (ReplicasShown{{5, 2}, {}, {}}));
}

TEST_F(NodeAdmin, a_reassignment_that_was_cancelled_and_begun_again_is_not_done_by_an_old_report) {
    commit(*reassign(std::vector<int32_t>{5, 2}));
    const uint32_t first = partition(0).revision;
    commit(*reassign(std::nullopt));
    EXPECT_EQ(shown(partition(0)), (ReplicasShown{{1, 2}, {}, {}}));
    EXPECT_EQ(reassign(std::nullopt).error().code, ErrorCode::kUnavailable);
    commit(*reassign(std::vector<int32_t>{5, 2}));
    EXPECT_TRUE(plan_replicas_changed(image, uuid_of(99), 0, first).empty());
}

TEST_F(NodeAdmin, another_order_is_another_preferred_leader_at_once) {
    commit(*reassign(std::vector<int32_t>{2, 1}));
    EXPECT_EQ(partition(0).replicas, (std::vector<int32_t>{2, 1}));
    EXPECT_TRUE(partition(0).target.empty());
    EXPECT_TRUE(reassign(std::vector<int32_t>{2, 1})->empty());
    commit(*reassign(std::vector<int32_t>{5, 2}));
    commit(*reassign(std::vector<int32_t>{1, 2}));  // cancels, and turns round
    EXPECT_EQ(partition(0).target, (std::vector<int32_t>{1, 2}));
    commit(plan_replicas_changed(image, uuid_of(99), 0, partition(0).revision));
    EXPECT_EQ(partition(0).replicas, (std::vector<int32_t>{1, 2}));
    EXPECT_FALSE(partition(0).is_moving());
}

// The group may have come to a target that was given up, and its leader goes back: a node that is
// not named before would drop what may be a majority's copy.
TEST_F(NodeAdmin, nodes_of_a_target_that_was_given_up_stay_until_the_leader_reports) {
    const size_t held = image.replica_count(5);
    commit(*reassign(std::vector<int32_t>{5, 2}));
    commit(*reassign(std::nullopt));
    EXPECT_EQ(partition(0).abandoned, (std::vector<int32_t>{5}));
    EXPECT_EQ(image.replica_count(5), held + 1);
    EXPECT_FALSE(plan_removal(image, 5));
    const auto done = plan_replicas_changed(image, uuid_of(99), 0, partition(0).revision);
    ASSERT_EQ(done.size(), 1u);
    commit(done);
    EXPECT_EQ(partition(0).replicas, (std::vector<int32_t>{1, 2}));
    EXPECT_FALSE(partition(0).is_moving());
    EXPECT_EQ(image.replica_count(5), held);
    // Elsewhere, instead of back: what was left on the way is remembered too.
    commit(*reassign(std::vector<int32_t>{5, 2}));
    commit(*reassign(std::vector<int32_t>{2}));
    EXPECT_EQ(partition(0).abandoned, (std::vector<int32_t>{5}));
    commit(*reassign(std::nullopt));
    EXPECT_EQ(partition(0).abandoned, (std::vector<int32_t>{5}));
    commit(*reassign(std::vector<int32_t>{5}));  // wanted again
    EXPECT_TRUE(partition(0).abandoned.empty());
    commit(plan_replicas_changed(image, uuid_of(99), 0, partition(0).revision));
    EXPECT_EQ(partition(0).replicas, (std::vector<int32_t>{5}));
    EXPECT_FALSE(partition(0).is_moving());
}

TEST_F(NodeAdmin, targets_that_can_not_be_are_refused) {
    EXPECT_FALSE(reassign(std::vector<int32_t>{1, 1}));
    EXPECT_FALSE(reassign(std::vector<int32_t>{1, 77}));
    EXPECT_FALSE(reassign(std::vector<int32_t>{}));
    commit(*plan_state(image, 5, NodeState::kDecommissioning));
    EXPECT_FALSE(reassign(std::vector<int32_t>{1, 5}));
    EXPECT_EQ(plan_reassignment(image, uuid_of(99), 2, std::nullopt).error().code,
              ErrorCode::kNotFound);
    EXPECT_EQ(plan_reassignment(image, uuid_of(98), 0, std::nullopt).error().code,
              ErrorCode::kNotFound);
}

}  // namespace
}  // namespace weir::cluster
