#include "cluster/cluster_admin.h"

#include <gtest/gtest.h>

#include "cluster/node_admin.h"
#include "cluster/test_controller.h"

namespace weir::cluster {
namespace {

using runtime::Task;
using Targets = std::optional<std::vector<int32_t>>;

// Node 0 is the controller and the only voter; nodes 1 to 3 are what the metadata says of them.
class ClusterAdmin : public testing::Test {
  protected:
    ClusterAdmin() {
        EXPECT_TRUE(loop.run(node.start()));
        std::vector<MetadataRecord> records;
        records.emplace_back(FeatureFinalized{std::string(kWeirVersion), 1});
        for (int32_t id = 0; id <= 3; ++id) {
            records.emplace_back(NodeRegistered{.id = id,
                                                .uuid = Uuid::random(static_cast<uint64_t>(id), 7),
                                                .epoch = 1,
                                                .rpc = {"h", 9700},
                                                .kafka = {"h", 9092},
                                                .features = supported_features()});
        }
        records.emplace_back(TopicCreated{
            "t", Uuid::random(9, 9), {{{701}, {0, 1}}, {{702}, {1, 2}}, {{703}, {2, 0}}}, {}});
        commit(std::move(records));
    }
    ~ClusterAdmin() override { loop.run(node.stop()); }

    Controller& controller() { return *node.controller; }
    static Task<Result<void>> commit_one(Controller* controller,
                                         std::vector<MetadataRecord> records) {
        const auto lock = co_await runtime::try_(controller->lock({}));
        co_return co_await controller->commit(std::move(records));
    }
    void commit(std::vector<MetadataRecord> records) {
        const auto done = loop.run(commit_one(&controller(), std::move(records)));
        EXPECT_TRUE(done) << done.error().to_string();
    }
    std::vector<AdminFault> move(std::vector<Reassignment> wanted, bool may_change_count = true) {
        std::vector<AdminFault> faults;
        for (const AdminError& error :
             loop.run(reassign(controller(), std::move(wanted), may_change_count, {})))
            faults.push_back(error.fault);
        return faults;
    }
    AdminFault move_one(Targets target, bool may_change_count = true) {
        return move({{"t", 0, std::move(target)}}, may_change_count)[0];
    }
    ReplicasShown first() { return shown(controller().image().find("t")->partitions[0]); }

    runtime::TestLoop loop{TestController::kShards};
    storage::MemoryStoreSet stores{TestController::kShards};
    TestController node{stores};
};

// A node asks through several others to be taken in, is, and is removed; then the last of its
// requests arrives.
TEST_F(ClusterAdmin, the_controller_remembers_who_was_removed) {
    const auto uuid = Uuid::random(3, 7);
    EXPECT_FALSE(controller().was_removed(uuid));
    commit(*plan_removal(controller().image(), 3));
    EXPECT_TRUE(controller().was_removed(uuid));
    EXPECT_FALSE(controller().was_removed(Uuid::random(2, 7)));
}

TEST_F(ClusterAdmin, partitions_are_reassigned_each_by_itself) {
    using enum AdminFault;
    EXPECT_EQ(
        move({{"t", 0, {{2, 3}}},
              {"t", 1, {{1, 9}}},
              {"t", 2, {{}}},
              {"t", 3, {{1, 2}}},
              {"t", -1, {{1, 2}}},
              {"u", 0, {{1, 2}}},
              {"t", 1, std::nullopt}}),
        (std::vector<AdminFault>{kNone, kInvalidRequest, kInvalidReplicaAssignment, kUnknownTopic,
                                 kUnknownTopic, kUnknownTopic, kInvalidRequest}));
    EXPECT_EQ(first(), (ReplicasShown{{2, 3, 0, 1}, {2, 3}, {0, 1}}));
    EXPECT_EQ(move({{"t", 1, {{1, 9}}}}), (std::vector{kInvalidReplicaAssignment}));
    EXPECT_EQ(move({{"t", 1, {{1, 1}}}}), (std::vector{kInvalidReplicaAssignment}));
    // All shards know.
    for (const auto& shard : node.shards)
        EXPECT_EQ(shard->image().find("t")->partitions[0].target, (std::vector<int32_t>{2, 3}));
}

TEST_F(ClusterAdmin, a_reassignment_is_cancelled_once) {
    EXPECT_EQ(move_one(std::nullopt), AdminFault::kNoReassignment);
    EXPECT_EQ(move_one({{2, 3}}), AdminFault::kNone);
    EXPECT_EQ(move_one(std::nullopt), AdminFault::kNone);
    EXPECT_EQ(first(), (ReplicasShown{{0, 1}, {}, {}}));
    EXPECT_EQ(move_one(std::nullopt), AdminFault::kNoReassignment);
}

TEST_F(ClusterAdmin, the_number_of_replicas_changes_where_the_request_allows_it) {
    EXPECT_EQ(move_one({{0, 1, 2}}, false), AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(move_one({{0}}, false), AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(move_one({{0, 2}}, false), AdminFault::kNone);
    EXPECT_EQ(move_one({{0, 1, 2}}), AdminFault::kNone);
    // It counts what the partition shall have.
    EXPECT_EQ(move_one({{0, 1}}, false), AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(move_one({{1, 2, 3}}, false), AdminFault::kNone);
    EXPECT_EQ(move_one(std::nullopt, false), AdminFault::kNone);
}

TEST_F(ClusterAdmin, more_than_one_entry_holds_is_reassigned) {
    TopicCreated topic{"large", Uuid::random(8, 8), {}, {}};
    for (uint64_t i = 0; i < 1200; ++i) topic.partitions.push_back({{1000 + i}, {0, 1}});
    std::vector<MetadataRecord> records;
    records.emplace_back(std::move(topic));
    commit(std::move(records));
    std::vector<Reassignment> wanted;
    for (int32_t i = 0; i < 1200; ++i) wanted.push_back({"large", i, {{1, 2}}});
    for (const AdminFault fault : move(std::move(wanted))) ASSERT_EQ(fault, AdminFault::kNone);
    for (const auto& partition : controller().image().find("large")->partitions)
        ASSERT_EQ(partition.target, (std::vector<int32_t>{1, 2}));
}

TEST_F(ClusterAdmin, a_node_goes_into_maintenance_and_comes_back) {
    const auto set = [&](int32_t id, NodeState state) {
        return loop.run(set_node_state(controller(), id, state, {})).fault;
    };
    EXPECT_EQ(set(1, NodeState::kDraining), AdminFault::kNone);
    EXPECT_EQ(controller().image().find_node(1)->state, NodeState::kDraining);
    EXPECT_EQ(set(1, NodeState::kActive), AdminFault::kNone);
    EXPECT_EQ(set(7, NodeState::kActive), AdminFault::kUnknownNode);
}

TEST_F(ClusterAdmin, a_node_is_decommissioned_only_if_the_others_can_take_what_it_has) {
    const auto leave = [&](int32_t id) {
        return loop.run(decommission(controller(), id, {})).fault;
    };
    EXPECT_EQ(leave(7), AdminFault::kUnknownNode);
    EXPECT_EQ(leave(1), AdminFault::kNone);
    EXPECT_EQ(controller().image().find_node(1)->state, NodeState::kDecommissioning);
    EXPECT_EQ(move_one({{0, 2, 3}}), AdminFault::kNone);
    EXPECT_EQ(leave(2), AdminFault::kInvalidRequest);
    EXPECT_EQ(controller().image().find_node(2)->state, NodeState::kActive);
    EXPECT_EQ(move_one({{0, 1}}), AdminFault::kInvalidReplicaAssignment);  // onto one that leaves
}

TEST_F(ClusterAdmin, a_node_is_unregistered_when_it_is_gone_and_holds_nothing) {
    bool alive = true;
    const auto unregister_one = [&](int32_t id) {
        return loop
            .run(unregister(controller(), id, [&](int32_t) { return alive; },
                            {.deadline = runtime::Shard::current().now() + 1s}))
            .fault;
    };
    EXPECT_EQ(unregister_one(7), AdminFault::kUnknownNode);
    EXPECT_EQ(unregister_one(3), AdminFault::kInvalidRequest);
    alive = false;
    EXPECT_EQ(unregister_one(1), AdminFault::kInvalidRequest);
    EXPECT_EQ(controller().image().find_node(3)->state, NodeState::kActive);
    // Nobody here does what the controller's loops do: it is on its way out, and stays so.
    EXPECT_EQ(unregister_one(3), AdminFault::kUnavailable);
    EXPECT_EQ(controller().image().find_node(3)->state, NodeState::kDecommissioning);
    std::vector<MetadataRecord> removal;
    removal.emplace_back(NodeRemoved{3});
    commit(std::move(removal));
    EXPECT_EQ(unregister_one(3), AdminFault::kUnknownNode);
}

TEST_F(ClusterAdmin, features_are_finalized_or_only_looked_at) {
    const int32_t max = supported_features().at(std::string(kWeirVersion)).max;
    const auto update = [&](std::string feature, int32_t level, bool validate_only) {
        std::vector<FeatureUpdate> updates{{.feature = std::move(feature), .level = level}};
        return loop.run(update_features(controller(), std::move(updates), validate_only, {})).fault;
    };
    EXPECT_EQ(update("other", 1, false), AdminFault::kInvalidFeatureLevel);
    EXPECT_EQ(update("weir.version", max + 1, true), AdminFault::kInvalidFeatureLevel);
    EXPECT_EQ(update("weir.version", max, true), AdminFault::kNone);
    EXPECT_EQ(controller().image().feature_level(kWeirVersion), 1);
    EXPECT_EQ(update("weir.version", max, false), AdminFault::kNone);
    EXPECT_EQ(controller().image().feature_level(kWeirVersion), max);
}

}  // namespace
}  // namespace weir::cluster
