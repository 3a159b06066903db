#include "cluster/image.h"

#include <gtest/gtest.h>

#include "base/prng.h"

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

TEST(MetadataImage, its_records_make_the_same_image_again) {
    Prng prng(7);
    MetadataImage image;
    std::vector<Uuid> topics;
    ASSERT_TRUE(image.apply(ClusterCreated{id_of(1000)}));
    for (uint64_t step = 0; step < 3000; ++step) {
        const auto any = [&] { return topics[prng.below(topics.size())]; };
        const std::string text = std::to_string(prng.below(4));
        switch (topics.empty() ? 0 : prng.below(7)) {
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
            default:
                ASSERT_TRUE(image.apply(ProducerIdsReserved{static_cast<int64_t>(step)}));
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
