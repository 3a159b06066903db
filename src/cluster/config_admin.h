// What administrators and tools may do to configuration: the rules of AlterConfigs and
// IncrementalAlterConfigs, as changes of the metadata log. Runs on shard 0 of the controller's
// node. Each resource of a request succeeds or fails on its own.
//
// The rules and error codes are Kafka's (ConfigAdminManager, DynamicConfig, GroupConfig,
// ClientMetricsConfigs). A broker accepts unknown names, for plug-ins; INVALID_REQUEST is the
// answer for names that it can't change while running and for a broker's bad values. Topics and
// groups accept known names only, else INVALID_CONFIG.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/admin_error.h"
#include "cluster/controller.h"

namespace weir::cluster {

// Bounds of a name that no table knows and of its value, of the number of such names of a broker,
// and of the named groups and subscriptions of a cluster.
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

// Validates a topic's configuration as given to CreateTopics, into `checked`. kInvalidConfig.
AdminError check_topic_configs(
    const ConfigView& view,
    const std::vector<std::pair<std::string, std::optional<std::string>>>& configs,
    ConfigMap& checked);
// Checks that all nodes that may get a replica understand what is stored of a topic.
AdminError check_durability(const MetadataImage& image, std::string_view topic,
                            const ConfigMap& configs);

}  // namespace weir::cluster
