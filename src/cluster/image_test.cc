#include "cluster/image.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/prng.h"
#include "cluster/features.h"

namespace weir::cluster {
namespace {

Uuid id_of(uint64_t n) { return Uuid::random(n, n * 31); }

TEST(MetadataImage, a_topic_is_found_by_name_and_by_id_until_it_is_deleted) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(TopicCreated{"orders", id_of(1), {{{2}, {0}}, {{3}, {0}}}, {}}));
    ASSERT_NE(image.find("orders"), nullptr);
    EXPECT_EQ(image.find("orders"), image.find(id_of(1)));
    EXPECT_EQ(image.partition_count(), 2u);
    ASSERT_TRUE(image.apply(PartitionsAdded{id_of(1), {{{4}, {0}}}}));
    EXPECT_EQ(image.find("orders")->partitions.back().log.v, 4u);
    ASSERT_TRUE(image.apply(TopicDeleted{id_of(1)}));
    EXPECT_EQ(image.find("orders"), nullptr);
    EXPECT_EQ(image.find(id_of(1)), nullptr);
    EXPECT_EQ(image.partition_count(), 0u);
}

TEST(MetadataImage, what_does_not_follow_is_refused_and_changes_nothing) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(ClusterCreated{id_of(9)}));
    ASSERT_TRUE(image.apply(TopicCreated{"a", id_of(1), {}, {}}));
    ASSERT_TRUE(image.apply(LogIdsReserved{100}));
    const MetadataImage before = image;
    EXPECT_FALSE(image.apply(ClusterCreated{id_of(8)}));
    EXPECT_FALSE(image.apply(TopicCreated{"a", id_of(2), {}, {}}));
    EXPECT_FALSE(image.apply(TopicCreated{"b", id_of(1), {}, {}}));
    EXPECT_FALSE(image.apply(TopicDeleted{id_of(3)}));
    EXPECT_FALSE(image.apply(PartitionsAdded{id_of(3), {}}));
    EXPECT_FALSE(image.apply(TopicConfigChanged{id_of(3), "k", "v"}));
    EXPECT_FALSE(image.apply(LogIdsReserved{99}));
    EXPECT_EQ(image, before);
}

NodeRegistered node_of(int32_t id, uint64_t uuid, uint64_t epoch = 1) {
    return {.id = id,
            .uuid = id_of(uuid),
            .epoch = epoch,
            .rpc = {"rpc", 1},
            .kafka = {"kafka", 2},
            .features = supported_features()};
}

// At the level of clusters, with nodes 1 to 3 and topic "a" of two partitions on them.
MetadataImage image_of_three() {
    MetadataImage image;
    EXPECT_TRUE(image.apply(ClusterCreated{id_of(9)}));
    EXPECT_TRUE(image.apply(FeatureFinalized{std::string(kWeirVersion), 1}));
    for (int32_t id = 1; id <= 3; ++id)
        EXPECT_TRUE(image.apply(node_of(id, static_cast<uint64_t>(id) + 100)));
    EXPECT_TRUE(image.apply(TopicCreated{"a", id_of(1), {{{2}, {1, 2}}, {{3}, {2, 1}}}, {}}));
    return image;
}

TEST(MetadataImage, a_node_is_known_by_id_and_by_uuid_and_may_change_its_address) {
    MetadataImage image = image_of_three();
    ASSERT_NE(image.find_node(2), nullptr);
    EXPECT_EQ(image.find_node(2), image.find_node(id_of(102)));
    EXPECT_EQ(image.node_ids_end(), 4);
    ASSERT_TRUE(image.apply(NodeStateChanged{2, NodeState::kDraining}));
    NodeRegistered moved = node_of(2, 102, 2);
    moved.rpc = {"elsewhere", 7};
    ASSERT_TRUE(image.apply(moved));
    EXPECT_EQ(image.find_node(2)->info.rpc.host, "elsewhere");
    EXPECT_EQ(image.find_node(2)->state, NodeState::kDraining);
    EXPECT_EQ(image.nodes().size(), 3u);
}

TEST(MetadataImage, another_disk_under_a_known_id_and_a_known_disk_under_another_id_are_refused) {
    MetadataImage image = image_of_three();
    const MetadataImage before = image;
    EXPECT_FALSE(image.apply(node_of(2, 999, 2)));  // another disk
    EXPECT_FALSE(image.apply(node_of(4, 102, 2)));  // node 2's disk
    EXPECT_FALSE(image.apply(node_of(2, 102, 1)));  // an old registration again
    EXPECT_FALSE(image.apply(node_of(2, 101, 2)));  // node 1's disk
    EXPECT_EQ(image, before);
}

TEST(MetadataImage,
     a_node_is_removed_when_no_partition_names_it_and_its_id_is_not_given_out_again) {
    MetadataImage image = image_of_three();
    EXPECT_EQ(image.replica_count(1), 2u);
    EXPECT_EQ(image.replica_count(3), 0u);
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {2, 3}, 1}));
    EXPECT_EQ(image.replica_count(3), 1u);
    EXPECT_FALSE(image.apply(NodeRemoved{3}));  // the target of a reassignment
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {}, 2}));
    EXPECT_EQ(image.replica_count(3), 1u);  // it may be a member of the group still
    MetadataImage as_older_controllers_did = image;
    EXPECT_TRUE(as_older_controllers_did.apply(NodeRemoved{3}));
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {1, 2}, 3}));
    EXPECT_EQ(image.replica_count(3), 0u);
    ASSERT_TRUE(image.apply(NodeRemoved{3}));
    EXPECT_EQ(image.node_ids_end(), 4);
    EXPECT_FALSE(image.apply(NodeRemoved{3}));
    EXPECT_FALSE(image.apply(NodeRemoved{1}));
    ASSERT_TRUE(image.apply(TopicDeleted{id_of(1)}));
    ASSERT_TRUE(image.apply(NodeRemoved{1}));
}

TEST(MetadataImage, a_reassignment_is_under_way_until_it_is_done_or_cancelled) {
    MetadataImage image = image_of_three();
    const auto first = [&]() -> const PartitionAssignment& {
        return image.find("a")->partitions[0];
    };
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {2, 3}, 1}));
    EXPECT_EQ(first().replicas, (std::vector<int32_t>{1, 2}));
    EXPECT_EQ(first().target, (std::vector<int32_t>{2, 3}));
    // A report that is late: of the same revision.
    EXPECT_FALSE(image.apply(PartitionReplicasChanged{id_of(1), 0, {1, 2}, 1}));
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {2, 3}, 2}));
    EXPECT_EQ(first().replicas, (std::vector<int32_t>{2, 3}));
    EXPECT_TRUE(first().target.empty());
    EXPECT_EQ(image.replica_count(1), 1u);
    EXPECT_FALSE(image.apply(PartitionReassigned{id_of(1), 0, {}, 3}));       // nothing to cancel
    EXPECT_FALSE(image.apply(PartitionReassigned{id_of(1), 0, {2, 2}, 3}));   // twice the same
    EXPECT_FALSE(image.apply(PartitionReassigned{id_of(1), 2, {1}, 3}));      // no such partition
    EXPECT_FALSE(image.apply(PartitionReplicasChanged{id_of(1), 0, {}, 3}));  // nowhere
}

// Who is one of them begins with all of them for its group's members.
TEST(MetadataImage, the_replicas_are_the_founders_until_one_of_them_may_have_gone) {
    MetadataImage image = image_of_three();
    const auto are_founders = [&] {
        MetadataImage restored;
        for (const auto& record : *decode_metadata(encode_metadata(image.to_records())))
            EXPECT_TRUE(restored.apply(record));
        EXPECT_EQ(restored, image);
        return image.find("a")->partitions[0].are_founders;
    };
    EXPECT_TRUE(are_founders());
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {2, 3}, 1, true}));
    EXPECT_TRUE(are_founders());
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {}, 2, true}));
    EXPECT_TRUE(are_founders());
    // In another order, that is.
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {2, 1}, 3, true}));
    EXPECT_TRUE(are_founders());
    MetadataImage of_older_controller = image;
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {2, 3}, 4}));
    EXPECT_FALSE(are_founders());
    // Those of the beginning once more: what they held is gone.
    ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {2, 1}, 5, true}));
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {2, 1}, 6, true}));
    EXPECT_FALSE(are_founders());
    // A snapshot of an older version does not tell what was before, and its records say nothing.
    ASSERT_TRUE(of_older_controller.apply(PartitionReassigned{id_of(1), 0, {2, 3}, 4}));
    EXPECT_FALSE(of_older_controller.find("a")->partitions[0].are_founders);
}

// A controller asks for no such thing, but one of an older version did not count.
TEST(MetadataImage, more_nodes_than_a_target_holds_may_have_been_given_up) {
    MetadataImage image = image_of_three();
    uint32_t revision = 0;
    for (int32_t begin = 100; begin < 400; begin += 50) {
        std::vector<int32_t> target(50);
        std::iota(target.begin(), target.end(), begin);
        ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, target, ++revision}));
    }
    EXPECT_EQ(image.find("a")->partitions[0].abandoned.size(), 250u);
    for (const bool is_cancelled : {false, true}) {
        if (is_cancelled)
            ASSERT_TRUE(image.apply(PartitionReassigned{id_of(1), 0, {}, ++revision}));
        MetadataImage restored;
        for (const MetadataRecord& record : image.to_records()) ASSERT_TRUE(restored.apply(record));
        EXPECT_EQ(restored, image);
    }
    ASSERT_TRUE(image.apply(PartitionReplicasChanged{id_of(1), 0, {1, 2}, ++revision}));
    EXPECT_EQ(image.replica_count(100), 0u);
}

TEST(MetadataImage, records_above_the_finalized_level_are_refused) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(ClusterCreated{id_of(9)}));
    EXPECT_FALSE(image.apply(node_of(1, 101)));
    ASSERT_TRUE(image.apply(FeatureFinalized{std::string(kWeirVersion), 1}));
    EXPECT_TRUE(image.apply(node_of(1, 101)));
    EXPECT_FALSE(image.apply(FeatureFinalized{std::string(kWeirVersion), 1}));  // not newer
    const auto later = image.apply(FeatureFinalized{std::string(kWeirVersion), 1000});
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().code, ErrorCode::kUnsupported);
    EXPECT_EQ(image.apply(FeatureFinalized{"other", 1}).error().code, ErrorCode::kUnsupported);
}

TEST(MetadataImage, a_level_that_a_node_does_not_know_is_not_finalized_and_no_such_node_registers) {
    MetadataImage image = image_of_three();
    NodeRegistered old = node_of(4, 104);
    old.features = {{std::string(kWeirVersion), {0, 0}}};
    EXPECT_FALSE(image.apply(old));
    const auto again = check_finalize(image, kWeirVersion, 1);
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().message.find("already"), std::string::npos);
    EXPECT_FALSE(check_finalize(image, kWeirVersion, 1000));
    EXPECT_FALSE(check_finalize(image, "other", 1));
    EXPECT_TRUE(check_finalize(MetadataImage{}, kWeirVersion, 1));
}

TEST(MetadataImage, registrations_that_none_can_have_are_refused) {
    MetadataImage image = image_of_three();
    const MetadataImage before = image;
    const auto refused = [&](auto change) {
        NodeRegistered node = node_of(4, 104);
        change(node);
        return !image.apply(node);
    };
    EXPECT_TRUE(refused([](auto& node) { node.id = -1; }));
    EXPECT_TRUE(refused([](auto& node) { node.uuid = Uuid{}; }));
    EXPECT_TRUE(refused([](auto& node) { node.epoch = 0; }));
    EXPECT_TRUE(refused([](auto& node) { node.rpc.host = ""; }));
    EXPECT_TRUE(refused([](auto& node) { node.kafka.primary().host = std::string(256, 'h'); }));
    EXPECT_TRUE(refused([](auto& node) { node.rack = ""; }));
    EXPECT_TRUE(refused([](auto& node) { node.shards = 0; }));
    EXPECT_TRUE(refused([](auto& node) { node.features["x"] = {2, 1}; }));
    EXPECT_EQ(image, before);
}

TEST(MetadataImage, names_that_differ_in_dots_and_underscores_collide) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(TopicCreated{"a.b_c", id_of(1), {}, {}}));
    ASSERT_NE(image.find_collision("a_b.c"), nullptr);
    EXPECT_EQ(image.find_collision("a_b.c")->name, "a.b_c");
    EXPECT_EQ(image.find_collision("a.b_c"), nullptr);
    EXPECT_EQ(image.find_collision("abc"), nullptr);
    ASSERT_TRUE(image.apply(TopicDeleted{id_of(1)}));
    EXPECT_EQ(image.find_collision("a_b.c"), nullptr);
}

// No controller writes such a log, but one that holds it is read all the same.
TEST(MetadataImage, topics_that_collide_already_make_the_same_image_in_any_order) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(TopicCreated{"a_b", id_of(1), {}, {}}));
    ASSERT_TRUE(image.apply(TopicCreated{"a.b", id_of(2), {}, {}}));
    MetadataImage restored;
    for (const MetadataRecord& record : image.to_records()) ASSERT_TRUE(restored.apply(record));
    EXPECT_EQ(restored, image);
    ASSERT_NE(image.find_collision("a_b"), nullptr);
    EXPECT_EQ(image.find_collision("a_b")->name, "a.b");
    ASSERT_NE(image.find_collision("a.b"), nullptr);
    EXPECT_EQ(image.find_collision("a.b")->name, "a_b");
    // The one that stays still stands in the way of the other's name.
    ASSERT_TRUE(image.apply(TopicDeleted{id_of(1)}));
    ASSERT_NE(image.find_collision("a_b"), nullptr);
    EXPECT_EQ(image.find_collision("a.b"), nullptr);
}

TEST(MetadataImage, its_records_make_the_same_image_again) {
    Prng prng(7);
    MetadataImage image;
    std::vector<Uuid> topics;
    ASSERT_TRUE(image.apply(ClusterCreated{id_of(1000)}));
    ASSERT_TRUE(image.apply(FeatureFinalized{std::string(kWeirVersion), 1}));
    for (uint64_t step = 0; step < 3000; ++step) {
        const auto any = [&] { return topics[prng.below(topics.size())]; };
        const std::string text = std::to_string(prng.below(4));
        switch (topics.empty() ? 0 : prng.below(11)) {
            case 0:
                topics.push_back(id_of(step + 1));
                ASSERT_TRUE(image.apply(TopicCreated{"t." + std::to_string(step),
                                                     topics.back(),
                                                     {{{step + 2}, {0}}},
                                                     {{"k", text}}}));
                break;
            case 1: {
                const size_t at = prng.below(topics.size());
                ASSERT_TRUE(image.apply(TopicDeleted{topics[at]}));
                topics.erase(topics.begin() + static_cast<ptrdiff_t>(at));
                break;
            }
            case 2:
                ASSERT_TRUE(image.apply(PartitionsAdded{any(), {{{step + 2}, {0}}}}));
                break;
            case 3:
                ASSERT_TRUE(image.apply(TopicConfigChanged{any(), "k" + text, text}));
                break;
            case 4:
                ASSERT_TRUE(image.apply(TopicConfigChanged{any(), "k" + text, std::nullopt}));
                break;
            case 5:
                ASSERT_TRUE(image.apply(
                    ResourceConfigChanged{ConfigResource::kBroker, text, "k",
                                          prng.chance(0.5) ? std::optional(text) : std::nullopt}));
                break;
            case 6:
                ASSERT_TRUE(image.apply(ProducerIdsReserved{static_cast<int64_t>(step)}));
                break;
            // These may or may not follow; what matters is that the snapshot has what they left.
            case 7:
                (void)image.apply(node_of(static_cast<int32_t>(prng.below(20)),
                                          100'000 + prng.below(20), prng.between(1, 9)));
                break;
            case 8:
                (void)image.apply(NodeRemoved{static_cast<int32_t>(prng.below(20))});
                (void)image.apply(NodeStateChanged{static_cast<int32_t>(prng.below(20)),
                                                   static_cast<NodeState>(prng.below(3))});
                break;
            case 9:
                for (uint32_t revision = 0; revision < 9; revision += 1 + prng.below(4)) {
                    (void)image.apply(PartitionReassigned{
                        any(), static_cast<uint32_t>(prng.below(2)),
                        prng.chance(0.5)
                            ? std::vector<int32_t>{}
                            : std::vector<int32_t>{static_cast<int32_t>(prng.below(9))},
                        revision, prng.chance(0.8)});
                }
                break;
            default:
                (void)image.apply(PartitionReplicasChanged{any(),
                                                           static_cast<uint32_t>(prng.below(2)),
                                                           {static_cast<int32_t>(prng.below(9)), 9},
                                                           static_cast<uint32_t>(prng.below(9)),
                                                           prng.chance(0.5)});
                break;
        }
    }
    MetadataImage again;
    for (const auto& record : *decode_metadata(encode_metadata(image.to_records())))
        ASSERT_TRUE(again.apply(record));
    EXPECT_EQ(again, image);
}

}  // namespace
}  // namespace weir::cluster
