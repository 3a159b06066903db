#include "cluster/features.h"

#include <gtest/gtest.h>

#include "cluster/image.h"

namespace weir::cluster {
namespace {

const std::string kName(kWeirVersion);

NodeRegistered node_of(int32_t id, FeatureRange range) {
    return {.id = id,
            .uuid = Uuid::random(static_cast<uint64_t>(id), 1),
            .epoch = 1,
            .rpc = {"h", 9700},
            .kafka = {"h", 9092},
            .features = {{kName, range}}};
}

TEST(Features, what_a_binary_knows_is_a_range_of_levels_that_are_all_described) {
    const FeatureRange range = supported_features().at(kName);
    EXPECT_EQ(range.min, 0);
    EXPECT_GE(range.max, 1);
    EXPECT_EQ(feature_levels().size(), static_cast<size_t>(range.max) + 1);
    for (const FeatureLevel& each : feature_levels()) EXPECT_FALSE(each.what.empty());
}

TEST(Features, a_level_is_finalized_once_and_again_is_no_news) {
    MetadataImage image;
    const std::vector<FeatureUpdate> updates{{.feature = kName, .level = 1}};
    const auto planned = plan_features(image, updates);
    ASSERT_TRUE(planned);
    EXPECT_EQ(*planned, (std::vector<MetadataRecord>{FeatureFinalized{kName, 1}}));
    ASSERT_TRUE(image.apply(planned->front()));
    EXPECT_EQ(plan_features(image, updates)->size(), 0u);
}

TEST(Features, what_can_not_be_finalized_is_told_and_nothing_of_the_request_is_done) {
    MetadataImage image;
    ASSERT_TRUE(image.apply(FeatureFinalized{kName, 1}));
    const auto refusal = [&](std::vector<FeatureUpdate> updates) {
        const auto planned = plan_features(image, updates);
        return planned ? "" : planned.error().message;
    };
    EXPECT_EQ(refusal({{"other", 1}}), "there is no feature 'other'");
    EXPECT_NE(refusal({{kName, 1000}}), "");
    EXPECT_NE(refusal({{kName, -1}}), "");
    EXPECT_NE(refusal({{kName, 1}, {kName, 1}}), "");
    EXPECT_NE(refusal({{kName, 1}, {"other", 1}}), "");
    EXPECT_NE(refusal({{kName, 1000, FeatureChange::kSafeDowngrade}}), "");
    for (const FeatureChange change : {FeatureChange::kUpgrade, FeatureChange::kSafeDowngrade,
                                       FeatureChange::kUnsafeDowngrade}) {
        EXPECT_EQ(refusal({{kName, 0, change}}),
                  "weir.version is at level 1 already, and never goes back");
        EXPECT_EQ(refusal({{kName, 1, change}}), "");
    }
}

TEST(Features, the_highest_common_level_is_that_of_the_oldest_node) {
    const int32_t max = supported_features().at(kName).max;
    MetadataImage image;
    ASSERT_TRUE(image.apply(FeatureFinalized{kName, 1}));
    EXPECT_EQ(highest_common_level(image, kName), max);
    ASSERT_TRUE(image.apply(node_of(1, {0, max + 1})));
    EXPECT_EQ(highest_common_level(image, kName), max);
    ASSERT_TRUE(image.apply(node_of(2, {0, 1})));
    EXPECT_EQ(highest_common_level(image, kName), 1);
    EXPECT_EQ(highest_common_level(image, "other"), 0);
}

}  // namespace
}  // namespace weir::cluster
