#include "cluster/config_view.h"

#include <algorithm>

#include "base/check.h"

namespace weir::cluster {
namespace {

// As good as for ever.
constexpr int64_t kLongTimeMs = int64_t{100} * 365 * 24 * 3600 * 1000;

}  // namespace

void ConfigView::add_broker_synonyms(std::string_view key,
                                     std::vector<ConfigSynonym>& synonyms) const {
    const auto add = [&](const ConfigMap& configs, ConfigSource source) {
        const auto found = configs.find(key);
        if (found != configs.end()) synonyms.push_back({std::string(key), found->second, source});
    };
    add(image_.configs(ConfigResource::kBroker, std::to_string(node_id_)),
        ConfigSource::kDynamicBroker);
    add(image_.configs(ConfigResource::kBroker, ""), ConfigSource::kDynamicDefaultBroker);
    add(given_, ConfigSource::kStaticBroker);
}

EffectiveConfig ConfigView::broker(const ConfigKey& key) const {
    EffectiveConfig config;
    add_broker_synonyms(key.name, config.synonyms);
    if (key.default_value) {
        config.synonyms.push_back(
            {std::string(key.name), std::string(*key.default_value), ConfigSource::kDefault});
    }
    if (!config.synonyms.empty()) {
        config.value = config.synonyms.front().value;
        config.source = config.synonyms.front().source;
    }
    return config;
}

EffectiveConfig ConfigView::topic(const ConfigMap& own, const ConfigKey& key) const {
    EffectiveConfig config;
    const auto found = own.find(key.name);
    if (found != own.end())
        config.synonyms.push_back({std::string(key.name), found->second, ConfigSource::kTopic});
    if (!key.broker_keys.empty()) {
        for (const std::string_view broker_key : split(key.broker_keys, '|'))
            add_broker_synonyms(broker_key, config.synonyms);
        for (const std::string_view broker_key : split(key.broker_keys, '|')) {
            const ConfigKey* default_key = find_broker_config(broker_key);
            CHECK(default_key != nullptr);
            if (default_key->default_value) {
                config.synonyms.push_back({std::string(broker_key),
                                           std::string(*default_key->default_value),
                                           ConfigSource::kDefault});
            }
        }
    }
    if (!config.synonyms.empty()) {
        const ConfigSynonym& first = config.synonyms.front();
        config.source = first.source;
        config.value = first.source == ConfigSource::kTopic
                           ? *first.value
                           : convert_broker_value(first.name, *first.value);
    } else if (key.default_value) {
        config.value = std::string(*key.default_value);
    }
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
    settings.log.segment_bytes = static_cast<uint64_t>(integer("segment.bytes"));
    settings.log.segment_ms = integer("segment.ms");
    settings.log.retention_bytes = integer("retention.bytes");
    settings.log.retention_ms = integer("retention.ms");
    settings.log.delete_by_retention = settings.deletes;
    return settings;
}

BrokerSettings broker_settings(const ConfigView& view) {
    const auto integer = [&](std::string_view key) {
        return config_integer(view.broker_value(key));
    };
    // Kafka takes any number here; a Duration and the sum with an Instant hold 146 years each.
    const auto time = [&](std::string_view key, int64_t unit_ms = 1) {
        return std::min(integer(key), kLongTimeMs / unit_ms);
    };
    const auto narrow = [&](std::string_view key) { return static_cast<int32_t>(integer(key)); };
    BrokerSettings settings;
    settings.request_bytes_max = narrow("socket.request.max.bytes");
    settings.idle_ms_max = time("connections.max.idle.ms");
    settings.connections_max = narrow("max.connections");
    settings.connections_per_ip_max = narrow("max.connections.per.ip");
    const std::string overrides = view.broker_value("max.connections.per.ip.overrides");
    for (const std::string_view entry : config_list(overrides)) {
        const size_t colon = entry.rfind(':');
        if (colon == std::string_view::npos) continue;
        settings.connections_per_ip_overrides.emplace_back(
            entry.substr(0, colon), static_cast<int32_t>(config_integer(entry.substr(colon + 1))));
    }
    settings.requests_in_flight_max = narrow("max.in.flight.requests.per.connection");
    settings.request_timeout = std::chrono::milliseconds(integer("request.timeout.ms"));
    settings.auto_create_topics = config_boolean(view.broker_value("auto.create.topics.enable"));
    settings.delete_topics = config_boolean(view.broker_value("delete.topic.enable"));
    settings.partitions_default = narrow("num.partitions");
    settings.replication_factor_default = narrow("default.replication.factor");
    settings.partitions_max = narrow("max.partitions");
    settings.fetch_bytes_max = narrow("fetch.max.bytes");
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
