#include "cluster/config_view.h"

#include <algorithm>

#include "base/check.h"

namespace weir::cluster {
namespace {

// As good as for ever.
constexpr int64_t kLongTimeMs = int64_t{100} * 365 * 24 * 3600 * 1000;

constexpr std::string_view kInSyncMin = "min.insync.replicas";

// KIP-966: with eligible leader replicas, a cluster always has its min.insync.replicas set, to what
// its brokers were given if nobody set another.
std::string cluster_in_sync_min(const ConfigMap& given) {
    const auto found = given.find(kInSyncMin);
    return found != given.end() ? found->second
                                : std::string(*find_broker_config(kInSyncMin)->default_value);
}

}  // namespace

std::vector<ConfigSynonym> ConfigView::broker_synonyms(
    const std::vector<std::string_view>& names) const {
    std::vector<ConfigSynonym> synonyms;
    const auto add = [&](const ConfigMap& configs, ConfigSource source) {
        for (const std::string_view name : names) {
            const auto found = configs.find(name);
            if (found != configs.end())
                synonyms.push_back({std::string(name), found->second, source});
        }
    };
    add(image_.configs(ConfigResource::kBroker, std::to_string(node_id_)),
        ConfigSource::kDynamicBroker);
    const ConfigMap& for_all = image_.configs(ConfigResource::kBroker, "");
    add(for_all, ConfigSource::kDynamicDefaultBroker);
    if (std::ranges::find(names, kInSyncMin) != names.end() && !for_all.contains(kInSyncMin)) {
        synonyms.push_back({std::string(kInSyncMin), cluster_in_sync_min(given_),
                            ConfigSource::kDynamicDefaultBroker});
    }
    add(given_, ConfigSource::kStaticBroker);
    for (const std::string_view name : names) {
        const ConfigKey* key = find_broker_config(name);
        if (key != nullptr && key->default_value) {
            synonyms.push_back(
                {std::string(name), std::string(*key->default_value), ConfigSource::kDefault});
        }
    }
    return synonyms;
}

ConfigMap ConfigView::default_broker() const {
    ConfigMap configs = image_.configs(ConfigResource::kBroker, "");
    configs.try_emplace(std::string(kInSyncMin), cluster_in_sync_min(given_));
    return configs;
}

EffectiveConfig ConfigView::broker(const ConfigKey& key) const {
    EffectiveConfig config;
    config.synonyms = broker_synonyms(broker_config_synonyms(key.name));
    // Others of its chain count only where they stand behind it, as in Kafka.
    const auto own = std::ranges::find(config.synonyms, key.name, &ConfigSynonym::name);
    config.synonyms.erase(config.synonyms.begin(), own);
    if (!config.synonyms.empty()) {
        config.value = config.synonyms.front().value;
        config.source = config.synonyms.front().source;
    }
    return config;
}

EffectiveConfig ConfigView::of_resource(const ConfigMap& own, const ConfigKey& key,
                                        ConfigSource source) const {
    EffectiveConfig config;
    const auto found = own.find(key.name);
    if (found != own.end())
        config.synonyms.push_back({std::string(key.name), found->second, source});
    if (!key.broker_keys.empty()) {
        const auto names = split(key.broker_keys, '|');
        for (ConfigSynonym& synonym : broker_synonyms(names))
            config.synonyms.push_back(std::move(synonym));
    }
    if (!config.synonyms.empty()) {
        const ConfigSynonym& first = config.synonyms.front();
        config.source = first.source;
        config.value =
            first.source == source ? *first.value : convert_broker_value(first.name, *first.value);
    } else if (key.default_value) {
        config.value = std::string(*key.default_value);
    }
    return config;
}

EffectiveConfig ConfigView::topic(const ConfigMap& own, const ConfigKey& key) const {
    EffectiveConfig config = of_resource(own, key, ConfigSource::kTopic);
    // The default of another option of its chain (log.retention.hours of retention.ms) is listed
    // only behind the first one's value, as in Kafka.
    const std::string_view first = key.broker_keys.substr(0, key.broker_keys.find('|'));
    if (std::ranges::find(config.synonyms, first, &ConfigSynonym::name) == config.synonyms.end()) {
        std::erase_if(config.synonyms, [](const ConfigSynonym& synonym) {
            return synonym.source == ConfigSource::kDefault;
        });
    }
    return config;
}

EffectiveConfig ConfigView::group(const ConfigMap& own, const ConfigKey& key) const {
    EffectiveConfig config = of_resource(own, key, ConfigSource::kGroup);
    if (key.broker_keys.empty() && key.default_value) {
        config.synonyms.push_back(
            {std::string(key.name), std::string(*key.default_value), ConfigSource::kDefault});
    }
    return config;
}

EffectiveConfig ConfigView::client_metrics(const ConfigMap& own, const ConfigKey& key) const {
    EffectiveConfig config = of_resource(own, key, ConfigSource::kClientMetrics);
    config.synonyms.push_back(
        {std::string(key.name), std::string(*key.default_value), ConfigSource::kDefault});
    return config;
}

std::string ConfigView::broker_value(std::string_view name) const {
    const ConfigKey* key = find_broker_config(name);
    CHECK(key != nullptr);
    return broker(*key).value.value_or("");
}

std::string ConfigView::topic_value(const ConfigMap& own, std::string_view name) const {
    const ConfigKey* key = find_topic_config(name);
    CHECK(key != nullptr);
    return topic(own, *key).value.value_or("");
}

TopicSettings topic_settings(const ConfigView& view, const ConfigMap& own) {
    const auto integer = [&](std::string_view key) {
        return config_integer(view.topic_value(own, key));
    };
    TopicSettings settings;
    settings.batch_bytes_max = static_cast<int32_t>(integer("max.message.bytes"));
    settings.in_sync_min = static_cast<int32_t>(integer("min.insync.replicas"));
    settings.log_append_time = view.topic_value(own, "message.timestamp.type") == "LogAppendTime";
    settings.timestamp_before_max_ms = integer("message.timestamp.before.max.ms");
    settings.timestamp_after_max_ms = integer("message.timestamp.after.max.ms");
    settings.compression = view.topic_value(own, "compression.type");
    if (settings.compression == "gzip" || settings.compression == "lz4" ||
        settings.compression == "zstd") {
        settings.compression_level =
            static_cast<int32_t>(integer("compression." + settings.compression + ".level"));
    }
    const std::string policy = view.topic_value(own, "cleanup.policy");
    const auto policies = config_list(policy);
    settings.compacted = std::ranges::find(policies, "compact") != policies.end();
    settings.deletes = std::ranges::find(policies, "delete") != policies.end();
    settings.relaxed = view.topic_value(own, "weir.durability") == "relaxed";
    settings.log.segment_bytes = static_cast<uint64_t>(own.contains("internal.segment.bytes")
                                                           ? integer("internal.segment.bytes")
                                                           : integer("segment.bytes"));
    settings.log.segment_ms = integer("segment.ms");
    settings.log.retention_bytes = integer("retention.bytes");
    settings.log.retention_ms = integer("retention.ms");
    settings.log.delete_by_retention = settings.deletes;
    return settings;
}

constexpr std::string_view kRackAwareSelector =
    "org.apache.kafka.common.replica.RackAwareReplicaSelector";

BrokerSettings broker_settings(const ConfigView& view) {
    // What an older version stored may be out of today's bounds, and must not lock anybody out.
    const auto integer = [&](std::string_view name) {
        const ConfigKey& key = *find_broker_config(name);
        return std::clamp(config_integer(view.broker_value(name)), key.min, key.max);
    };
    // Kafka takes any number here; a Duration and the sum with an Instant hold 146 years each.
    const auto time = [&](std::string_view key, int64_t unit_ms = 1) {
        return std::min(integer(key), kLongTimeMs / unit_ms);
    };
    const auto narrow = [&](std::string_view key) { return static_cast<int32_t>(integer(key)); };
    BrokerSettings settings;
    settings.request_bytes_max = narrow("socket.request.max.bytes");
    settings.idle_ms_max = time("connections.max.idle.ms");
    if (settings.idle_ms_max >= 0)
        settings.idle_ms_max = std::max(settings.idle_ms_max, kIdleMsMin);
    settings.connections_max = narrow("max.connections");
    settings.connections_per_ip_max = narrow("max.connections.per.ip");
    const std::string overrides = view.broker_value("max.connections.per.ip.overrides");
    for (const std::string_view entry : config_list(overrides)) {
        const size_t colon = entry.rfind(':');
        if (colon == std::string_view::npos) continue;
        settings.connections_per_ip_overrides.emplace_back(
            entry.substr(0, colon),
            static_cast<int32_t>(std::clamp<int64_t>(config_integer(entry.substr(colon + 1)), 1,
                                                     std::numeric_limits<int32_t>::max())));
    }
    settings.requests_in_flight_max = narrow("max.in.flight.requests.per.connection");
    settings.request_timeout = std::chrono::milliseconds(integer("request.timeout.ms"));
    settings.auto_create_topics = config_boolean(view.broker_value("auto.create.topics.enable"));
    settings.delete_topics = config_boolean(view.broker_value("delete.topic.enable"));
    settings.partitions_default = narrow("num.partitions");
    settings.replication_factor_default = narrow("default.replication.factor");
    settings.partitions_max = narrow("max.partitions");
    settings.fetch_bytes_max = narrow("fetch.max.bytes");
    settings.reads_by_rack = view.broker_value("replica.selector.class") == kRackAwareSelector;
    settings.fetch_sessions_max = narrow("max.incremental.fetch.session.cache.slots");
    settings.producer_expiration_ms = time("producer.id.expiration.ms");
    settings.producer_expiration_check_ms = time("producer.id.expiration.check.interval.ms");
    settings.producers_per_partition_max = narrow("max.producers.per.partition");
    settings.offsets_partitions = narrow("offsets.topic.num.partitions");
    settings.offsets_rewrite_bytes = integer("offsets.topic.rewrite.bytes");
    settings.offsets_segment_bytes = narrow("offsets.topic.segment.bytes");
    settings.group_initial_rebalance_delay_ms = narrow("group.initial.rebalance.delay.ms");
    settings.group_session_timeout_min_ms = narrow("group.min.session.timeout.ms");
    settings.group_session_timeout_max_ms = narrow("group.max.session.timeout.ms");
    settings.group_size_max = narrow("group.max.size");
    settings.offset_metadata_bytes_max = narrow("offset.metadata.max.bytes");
    settings.offsets_retention_minutes = time("offsets.retention.minutes", 60'000);
    settings.offsets_retention_check_ms = time("offsets.retention.check.interval.ms");
    return settings;
}

}  // namespace weir::cluster
