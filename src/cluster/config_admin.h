// What administrators and tools may do to configuration: the rules of AlterConfigs and
// IncrementalAlterConfigs, as changes of the metadata log. Run on shard 0, where the controller is.
// Each resource of a request succeeds or fails by itself.
//
// The rules and the error codes are Kafka's (ConfigAdminManager, DynamicConfig, GroupConfig,
// ClientMetricsConfigs): a broker takes names that it does not know, for plug-ins; what it knows
// and can't change while running is INVALID_REQUEST, as is a bad value of a broker's; topics and
// groups take known names only, else INVALID_CONFIG.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/admin_error.h"
#include "cluster/controller.h"

namespace weir::cluster {

// Of a name that no table knows, and of its value; and how many such names a broker, and how many
// named groups and subscriptions a cluster, may have.
inline constexpr size_t kUnknownNameBytesMax = 512;
inline constexpr size_t kUnknownValueBytesMax = 32'767;
inline constexpr size_t kUnknownNamesMax = 1000;
inline constexpr size_t kConfiguredResourcesMax = 10'000;

enum class ConfigOp : int8_t { kSet = 0, kDelete = 1, kAppend = 2, kSubtract = 3 };

struct ConfigChange {
    ConfigResource resource = ConfigResource::kTopic;
    int8_t resource_type = 2;  // as the request had it
    std::string name;
    struct Item {
        std::string key;
        ConfigOp op = ConfigOp::kSet;
        std::optional<std::string> value;
    };
    std::vector<Item> items;
    bool replace_all = false;  // AlterConfigs: what is not named goes back to its default
};
runtime::Task<std::vector<AdminError>> alter_configs(Controller& controller,
                                                     std::vector<ConfigChange> changes,
                                                     bool validate_only,
                                                     runtime::WaitOptions options);

// What a topic may be configured with, as CreateTopics says it: into `checked`. kInvalidConfig.
AdminError check_topic_configs(
    const ConfigView& view,
    const std::vector<std::pair<std::string, std::optional<std::string>>>& configs,
    ConfigMap& checked);
// What is stored of a topic must be understood by all nodes that may get a replica of it.
AdminError check_durability(const MetadataImage& image, std::string_view topic,
                            const ConfigMap& configs);

}  // namespace weir::cluster
