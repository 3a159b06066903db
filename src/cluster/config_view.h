// The value of an option and its source: set on the topic, set while running for this broker or for
// all, given at start, or the default. Also the values parsed into structs, for the code that acts
// on them. Plain functions over an image; any shard, on its own image.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/config_table.h"
#include "cluster/image.h"
#include "storage/log.h"

namespace weir::cluster {

// The numbers are those of DescribeConfigs.
enum class ConfigSource : int8_t {
    kUnknown = 0,
    kTopic = 1,
    kDynamicBroker = 2,
    kDynamicDefaultBroker = 3,
    kStaticBroker = 4,
    kDefault = 5,
    kBrokerLogger = 6,
    kClientMetrics = 7,
    kGroup = 8,
};

struct ConfigSynonym {
    std::string name;
    std::optional<std::string> value;
    ConfigSource source;
};

struct EffectiveConfig {
    std::optional<std::string> value;
    ConfigSource source = ConfigSource::kDefault;
    std::vector<ConfigSynonym> synonyms;  // where the value could have come from, in order of
                                          // precedence; the first is where it did
};

class ConfigView {
  public:
    // Both outlive the view. `given` holds what the node was started with: file and flags.
    ConfigView(const MetadataImage& image, const ConfigMap& given, int32_t node_id)
        : image_(image), given_(given), node_id_(node_id) {}

    // Also for an option that no table knows: then only what was set counts.
    EffectiveConfig broker(const ConfigKey& key) const;
    // For a topic, group or client metrics subscription whose own configuration is `own`.
    EffectiveConfig topic(const ConfigMap& own, const ConfigKey& key) const;
    EffectiveConfig group(const ConfigMap& own, const ConfigKey& key) const;
    EffectiveConfig client_metrics(const ConfigMap& own, const ConfigKey& key) const;
    // What is set for all brokers while running, and what counts as always set.
    ConfigMap default_broker() const;

    // The value alone; the key must exist. "" for null.
    std::string broker_value(std::string_view key) const;
    std::string topic_value(const ConfigMap& own, std::string_view key) const;

  private:
    // In order of precedence: by source, and of one source in the order of `names`.
    std::vector<ConfigSynonym> broker_synonyms(const std::vector<std::string_view>& names) const;
    EffectiveConfig of_resource(const ConfigMap& own, const ConfigKey& key,
                                ConfigSource source) const;

    const MetadataImage& image_;
    const ConfigMap& given_;
    int32_t node_id_;
};

struct TopicSettings {
    int32_t batch_bytes_max = 0;   // max.message.bytes
    int32_t in_sync_min = 1;       // min.insync.replicas
    bool log_append_time = false;  // message.timestamp.type
    int64_t timestamp_before_max_ms = 0;
    int64_t timestamp_after_max_ms = 0;
    std::string compression;        // compression.type
    int32_t compression_level = 0;  // of that codec
    bool compacted = false;
    bool deletes = true;   // cleanup.policy has "delete"
    bool relaxed = false;  // weir.durability; never heeded for internal topics
    storage::LogConfig log;
};
TopicSettings topic_settings(const ConfigView& view, const ConfigMap& own);

struct BrokerSettings {
    int32_t request_bytes_max = 0;
    int64_t idle_ms_max = 0;  // -1: for ever
    int32_t connections_max = 0;
    int32_t connections_per_ip_max = 0;
    std::vector<std::pair<std::string, int32_t>> connections_per_ip_overrides;
    int32_t requests_in_flight_max = 0;  // of one connection
    Duration request_timeout{};

    bool auto_create_topics = false;
    bool delete_topics = false;
    int32_t partitions_default = 0;
    int32_t replication_factor_default = 0;
    int32_t partitions_max = 0;

    int32_t fetch_bytes_max = 0;
    int32_t fetch_sessions_max = 0;
    bool reads_by_rack = false;  // replica.selector.class names the one that goes by racks

    int64_t producer_expiration_ms = 0;
    int64_t producer_expiration_check_ms = 0;
    int32_t producers_per_partition_max = 0;

    int32_t offsets_partitions = 0;
    int64_t offsets_rewrite_bytes = 0;
    int32_t offsets_segment_bytes = 0;
    int32_t group_initial_rebalance_delay_ms = 0;
    int32_t group_session_timeout_min_ms = 0;
    int32_t group_session_timeout_max_ms = 0;
    int32_t group_size_max = 0;
    int32_t offset_metadata_bytes_max = 0;
    int64_t offsets_retention_minutes = 0;
    int64_t offsets_retention_check_ms = 0;
};
BrokerSettings broker_settings(const ConfigView& view);

}  // namespace weir::cluster
