#include "cluster/features.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cluster/image.h"

namespace weir::cluster {
namespace {

constexpr FeatureLevel kLevels[] = {
    {kWeirVersion, 0, "one node: topics, configuration, ranges of ids"},
    {kWeirVersion, 1, "clusters: nodes and their states, reassignment of partitions"},
    {kWeirVersion, 2, "topics whose records count when they are in memory: weir.durability"},
#ifdef WEIR_TEST_FEATURE_LEVEL
    {kWeirVersion, 3, "nothing more: stands for a later version in tests of upgrades"},
#endif
};

struct LevelOf {
    int32_t operator()(const NodeIdsReserved&) const { return kCluster; }
    int32_t operator()(const NodeRegistered&) const { return kCluster; }
    int32_t operator()(const NodeRemoved&) const { return kCluster; }
    int32_t operator()(const NodeStateChanged&) const { return kCluster; }
    int32_t operator()(const PartitionReassigned&) const { return kCluster; }
    int32_t operator()(const PartitionReplicasChanged&) const { return kCluster; }
    template <class T>
    int32_t operator()(const T&) const {
        return static_cast<int32_t>(WeirLevel::kOneNode);
    }
    static constexpr auto kCluster = static_cast<int32_t>(WeirLevel::kCluster);
};

}  // namespace

std::span<const FeatureLevel> feature_levels() { return kLevels; }

const FeatureRanges& supported_features() {
    static const FeatureRanges ranges = [] {
        FeatureRanges all;
        for (const FeatureLevel& each : kLevels) {
            const auto [at, is_first] =
                all.try_emplace(std::string(each.feature), FeatureRange{each.level, each.level});
            if (!is_first) at->second.max = each.level;
        }
        return all;
    }();
    return ranges;
}

int32_t level_needed(const MetadataRecord& record) { return std::visit(LevelOf{}, record); }

Result<void> check_finalize(const MetadataImage& image, std::string_view feature, int32_t level) {
    const auto known = supported_features().find(feature);
    if (known == supported_features().end())
        return fail(ErrorCode::kInvalidArgument, fmt::format("there is no feature '{}'", feature));
    if (level > known->second.max || level < known->second.min) {
        return fail(ErrorCode::kInvalidArgument, fmt::format("{} has levels {} to {}", feature,
                                                             known->second.min, known->second.max));
    }
    const int32_t now = image.feature_level(feature);
    if (level <= now) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("{} is at level {} already, and never goes back", feature, now));
    }
    std::string behind;
    for (const auto& [id, node] : image.nodes()) {
        const auto range = node.info.features.find(feature);
        if (range != node.info.features.end() && range->second.min <= level &&
            level <= range->second.max)
            continue;
        behind += fmt::format("{}{}", behind.empty() ? "" : ", ", id);
    }
    if (!behind.empty()) {
        return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("these nodes do not know level {} of {}: {}", level, feature, behind));
    }
    return {};
}

int32_t highest_common_level(const MetadataImage& image, std::string_view feature) {
    const auto known = supported_features().find(feature);
    if (known == supported_features().end()) return 0;
    int32_t highest = known->second.max;
    for (const auto& [id, node] : image.nodes()) {
        const auto range = node.info.features.find(feature);
        highest = std::min(highest, range == node.info.features.end() ? 0 : range->second.max);
    }
    return highest;
}

Result<std::vector<MetadataRecord>> plan_features(const MetadataImage& image,
                                                  std::span<const FeatureUpdate> updates) {
    const auto invalid = [](std::string message) {
        return fail(ErrorCode::kInvalidArgument, std::move(message));
    };
    std::vector<MetadataRecord> records;
    std::set<std::string_view> named;
    for (const FeatureUpdate& update : updates) {
        if (!named.insert(update.feature).second)
            return invalid(fmt::format("the feature '{}' is named twice", update.feature));
        const int32_t now = image.feature_level(update.feature);
        const bool is_known = supported_features().contains(update.feature);
        if (is_known && update.level == now) continue;
        if (is_known && update.level > now && update.change != FeatureChange::kUpgrade) {
            return invalid(fmt::format("{} is at level {}: {} is an upgrade, not a downgrade",
                                       update.feature, now, update.level));
        }
        TRY(check_finalize(image, update.feature, update.level));
        records.emplace_back(FeatureFinalized{update.feature, update.level});
    }
    return records;
}

}  // namespace weir::cluster
