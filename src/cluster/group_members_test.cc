#include "cluster/group_members.h"

#include <gtest/gtest.h>

#include "cluster/features.h"
#include "cluster/node_admin.h"

namespace weir::cluster {
namespace {

struct GroupMembers : testing::Test {
    GroupMembers() { take(FeatureFinalized{std::string(kWeirVersion), 1}); }
    void take(MetadataRecord record) { ASSERT_TRUE(image.apply(record)); }
    void add(int32_t id) {
        take(NodeRegistered{.id = id,
                            .uuid = Uuid::random(static_cast<uint64_t>(id), 1),
                            .epoch = 1,
                            .rpc = {"r", 1},
                            .kafka = {"k", 2},
                            .features = supported_features()});
    }
    // "1v 2v 3l", or "" if nothing is to change; the configuration follows the plan.
    std::string plan() {
        const auto planned =
            plan_group_members(image, now, [this](int32_t id) { return id != dead; });
        if (!planned) return "";
        EXPECT_TRUE(planned->valid());
        now = *planned;
        std::string text;
        for (const raft::Member& member : now.members) {
            text += (text.empty() ? "" : " ") + std::to_string(member.node.v) +
                    (member.voter     ? "v"
                     : member.learner ? "l"
                                      : "?");
        }
        return text;
    }

    MetadataImage image;
    raft::Configuration now = raft::voters({1, 2, 3});
    int32_t dead = -1;
};

TEST_F(GroupMembers, nobody_else_votes_before_all_founders_have_registered) {
    EXPECT_EQ(plan(), "");
    add(1);
    add(2);
    EXPECT_EQ(plan(), "");
    add(4);
    add(5);
    EXPECT_EQ(plan(), "1v 2v 3v 4l 5l");
    add(3);
    EXPECT_EQ(plan(), "1v 2v 3v 4v 5v");
    EXPECT_EQ(plan(), "");
}

TEST_F(GroupMembers, voters_are_an_odd_number_and_at_most_five) {
    for (int32_t id = 1; id <= 4; ++id) add(id);
    EXPECT_EQ(plan(), "1v 2v 3v 4l");
    add(5);
    dead = 4;
    EXPECT_EQ(plan(), "1v 2v 3v 4l 5v");
    dead = -1;
    EXPECT_EQ(plan(), "1v 2v 3v 4v 5v");
    add(6);
    add(7);
    EXPECT_EQ(plan(), "1v 2v 3v 4v 5v 6l 7l");
    EXPECT_EQ(plan(), "");
}

TEST_F(GroupMembers, a_node_that_was_alone_gets_company_and_then_other_voters) {
    now = raft::voters({0});
    add(0);
    add(1);
    EXPECT_EQ(plan(), "0v 1l");
    add(2);
    EXPECT_EQ(plan(), "0v 1v 2v");
}

TEST_F(GroupMembers, a_decommissioned_node_leaves_when_it_is_empty_and_another_votes_for_it) {
    for (int32_t id = 1; id <= 4; ++id) add(id);
    EXPECT_EQ(plan(), "1v 2v 3v 4l");
    const Uuid topic = Uuid::random(7, 7);
    take(LogIdsReserved{.end = 10});
    take(TopicCreated{"t", topic, {{.log = {5}, .replicas = {2}}}, {}});
    take(NodeStateChanged{2, NodeState::kDecommissioning});
    EXPECT_EQ(plan(), "");
    take(PartitionReplicasChanged{topic, 0, {3}, 1});
    EXPECT_EQ(plan(), "1v 3v 4v");
    take(NodeRemoved{2});
    EXPECT_EQ(plan(), "");
}

TEST_F(GroupMembers, the_group_has_a_bound) {
    for (int32_t id = 1; id <= 30; ++id) add(id);
    EXPECT_NE(plan(), "");
    EXPECT_EQ(now.members.size(), raft::kMembersMax - 1);
    EXPECT_EQ(plan(), "");
}

}  // namespace
}  // namespace weir::cluster
