// Features: what a cluster may do that older binaries can't read or answer. Each feature has
// levels. A binary supports a range of them, and the metadata log says which level is finalized.
// Nothing above the finalized level is written, so nodes can be upgraded one by one, and downgraded
// until an administrator finalizes. A finalized level never goes back. Plain code.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cluster/records.h"

namespace weir::cluster {

class MetadataImage;

// The one feature: it gates the metadata log's own records and the messages between nodes.
inline constexpr std::string_view kWeirVersion = "weir.version";

enum class WeirLevel : int32_t {
    kOneNode = 0,  // records 1 to 9
    kCluster = 1,  // nodes, reassignments
    kRelaxed = 2,  // weir.durability=relaxed, and what its replicas say to each other; members
                   // of groups change under the revision of the record that asks for it
    kNewest = kRelaxed,  // what a new cluster begins with
};

struct FeatureLevel {
    std::string_view feature;
    int32_t level = 0;
    std::string_view what;
};
// Every level that this binary knows, by feature and level.
std::span<const FeatureLevel> feature_levels();

// The ranges that this binary registers.
const FeatureRanges& supported_features();

// The lowest level of weir.version at which such a record is written.
int32_t level_needed(const MetadataRecord& record);

// Whether this level may be finalized now. kInvalidArgument says why not and names the nodes.
Result<void> check_finalize(const MetadataImage& image, std::string_view feature, int32_t level);

// The highest level that this binary and every registered node know; 0 if there is none.
int32_t highest_common_level(const MetadataImage& image, std::string_view feature);

// What UpdateFeatures asks for. The numbers are Kafka's.
enum class FeatureChange : int8_t { kUpgrade = 1, kSafeDowngrade = 2, kUnsafeDowngrade = 3 };
struct FeatureUpdate {
    std::string feature;
    int32_t level = 0;
    FeatureChange change = FeatureChange::kUpgrade;
};
// Plans all of the changes or none: kInvalidArgument names the first impossible one. A level that
// is finalized already needs no record.
Result<std::vector<MetadataRecord>> plan_features(const MetadataImage& image,
                                                  std::span<const FeatureUpdate> updates);

}  // namespace weir::cluster
