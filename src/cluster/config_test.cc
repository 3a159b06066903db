#include <gtest/gtest.h>

#include <set>

#include "cluster/config_view.h"

namespace weir::cluster {
namespace {

TEST(ConfigTable, every_default_is_a_valid_value_of_its_option) {
    std::set<std::string_view> broker_names;
    for (const auto keys : {broker_config_keys(), other_broker_config_keys()}) {
        for (const ConfigKey& key : keys)
            EXPECT_TRUE(broker_names.insert(key.name).second) << key.name << " is in both tables";
    }
    for (const auto keys : {topic_config_keys(), broker_config_keys(), other_broker_config_keys(),
                            group_config_keys(), client_metrics_config_keys()}) {
        std::set<std::string_view> names;
        for (const ConfigKey& key : keys) {
            EXPECT_TRUE(names.insert(key.name).second) << key.name;
            EXPECT_FALSE(key.doc.empty()) << key.name;
            if (key.only) EXPECT_FALSE(key.reason.empty()) << key.name;
            if (key.default_value) {
                EXPECT_TRUE(validate_config(key, *key.default_value)) << key.name;
            }
        }
    }
}

TEST(ConfigTable, a_topic_option_and_its_broker_option_have_the_same_default) {
    const MetadataImage image;
    const ConfigMap given;
    const ConfigView view(image, given, 0);
    for (const ConfigKey& key : topic_config_keys()) {
        if (key.broker_keys.empty()) continue;
        for (const std::string_view broker_key : split(key.broker_keys, '|')) {
            EXPECT_NE(find_broker_config(broker_key), nullptr)
                << key.name << " names " << broker_key;
        }
        EXPECT_EQ(view.topic({}, key).value, key.default_value) << key.name;
        // KIP-966: always set for the cluster.
        const bool is_set = key.name == "min.insync.replicas";
        EXPECT_EQ(view.topic({}, key).source,
                  is_set ? ConfigSource::kDynamicDefaultBroker : ConfigSource::kDefault)
            << key.name;
    }
}

TEST(ConfigTable, values_are_checked_by_type_range_and_choice) {
    const auto valid = [](std::string_view name, std::string_view value) {
        return validate_config(*find_topic_config(name), value).has_value();
    };
    EXPECT_TRUE(valid("retention.ms", "-1"));
    EXPECT_FALSE(valid("retention.ms", "-2"));
    EXPECT_FALSE(valid("retention.ms", "1h"));
    EXPECT_FALSE(valid("retention.ms", ""));
    EXPECT_FALSE(valid("max.message.bytes", "2147483648"));
    EXPECT_TRUE(valid("cleanup.policy", "compact,delete"));
    EXPECT_TRUE(valid("cleanup.policy", ""));
    EXPECT_FALSE(valid("cleanup.policy", "compact,shred"));
    EXPECT_TRUE(valid("preallocate", "TRUE"));
    EXPECT_FALSE(valid("preallocate", "yes"));
    EXPECT_TRUE(valid("min.cleanable.dirty.ratio", "0.25"));
    EXPECT_FALSE(valid("min.cleanable.dirty.ratio", "1.25"));
    EXPECT_FALSE(valid("compression.type", "brotli"));
    EXPECT_EQ(find_topic_config("no.such.option"), nullptr);
    EXPECT_TRUE(valid("retention.ms", "+5"));
    EXPECT_FALSE(valid("min.cleanable.dirty.ratio", "NaN"));
    EXPECT_EQ(validate_config(*find_topic_config("retention.ms"), "1h").error().message,
              "Invalid value 1h for configuration retention.ms: Not a number of type LONG");
}

TEST(ConfigView, the_most_specific_source_wins_and_all_are_listed_in_order) {
    MetadataImage image;
    ASSERT_TRUE(
        image.apply(ResourceConfigChanged{ConfigResource::kBroker, "", "log.retention.ms", "1"}));
    const ConfigMap given = {{"log.retention.hours", "2"}};
    const ConfigView view(image, given, 5);
    const ConfigKey& key = *find_topic_config("retention.ms");

    EffectiveConfig config = view.topic({}, key);
    EXPECT_EQ(config.value, "1");
    EXPECT_EQ(config.source, ConfigSource::kDynamicDefaultBroker);
    ASSERT_EQ(config.synonyms.size(), 3u);
    EXPECT_EQ(config.synonyms[1].name, "log.retention.hours");
    EXPECT_EQ(config.synonyms[1].source, ConfigSource::kStaticBroker);
    EXPECT_EQ(config.synonyms[2].source, ConfigSource::kDefault);

    ASSERT_TRUE(
        image.apply(ResourceConfigChanged{ConfigResource::kBroker, "5", "log.retention.ms", "3"}));
    EXPECT_EQ(view.topic({}, key).source, ConfigSource::kDynamicBroker);
    EXPECT_EQ(view.topic({{"retention.ms", "4"}}, key).value, "4");
    EXPECT_EQ(view.topic({{"retention.ms", "4"}}, key).source, ConfigSource::kTopic);
}

TEST(ConfigView, what_stands_behind_an_option_is_listed_as_kafka_lists_it) {
    MetadataImage image;
    const ConfigMap given;
    const ConfigView view(image, given, 5);
    const ConfigKey& topic = *find_topic_config("retention.ms");
    const ConfigKey& ms = *find_broker_config("log.retention.ms");
    const ConfigKey& hours = *find_broker_config("log.retention.hours");
    // The topic's default is the hours', and is not named where nothing was set.
    EXPECT_TRUE(view.topic({}, topic).synonyms.empty());
    EXPECT_EQ(view.topic({}, topic).value, "604800000");
    EXPECT_TRUE(view.broker(ms).synonyms.empty());
    EXPECT_EQ(view.broker(ms).value, std::nullopt);
    ASSERT_EQ(view.broker(hours).synonyms.size(), 1u);
    EXPECT_EQ(view.broker(hours).synonyms[0].source, ConfigSource::kDefault);
    ASSERT_TRUE(
        image.apply(ResourceConfigChanged{ConfigResource::kBroker, "5", "log.retention.ms", "3"}));
    ASSERT_EQ(view.broker(ms).synonyms.size(), 2u);
    EXPECT_EQ(view.broker(ms).synonyms[1].name, "log.retention.hours");
    EXPECT_EQ(view.topic({}, topic).synonyms.size(), 2u);
}

TEST(ConfigView, the_cluster_has_its_least_in_sync_replicas_set_always) {
    MetadataImage image;
    const ConfigMap given = {{"min.insync.replicas", "2"}};
    const ConfigView view(image, given, 0);
    const EffectiveConfig config = view.topic({}, *find_topic_config("min.insync.replicas"));
    EXPECT_EQ(config.value, "2");
    EXPECT_EQ(config.source, ConfigSource::kDynamicDefaultBroker);
    EXPECT_EQ(view.default_broker().at("min.insync.replicas"), "2");
    ASSERT_TRUE(image.apply(
        ResourceConfigChanged{ConfigResource::kBroker, "", "min.insync.replicas", "3"}));
    EXPECT_EQ(topic_settings(view, {}).in_sync_min, 3);
}

// Zeros that older versions took closed every connection, after each start too.
TEST(ConfigView, stored_values_that_locked_everybody_out_are_tamed) {
    MetadataImage image;
    for (const std::string name :
         {"max.connections", "max.connections.per.ip", "connections.max.idle.ms"}) {
        ASSERT_TRUE(image.apply(ResourceConfigChanged{ConfigResource::kBroker, "0", name, "0"}));
    }
    ASSERT_TRUE(image.apply(ResourceConfigChanged{
        ConfigResource::kBroker, "", "max.connections.per.ip.overrides", "127.0.0.1:0"}));
    const ConfigMap given;
    const BrokerSettings settings = broker_settings({image, given, 0});
    EXPECT_EQ(settings.connections_max, 1);
    EXPECT_EQ(settings.connections_per_ip_max, 1);
    EXPECT_EQ(settings.idle_ms_max, kIdleMsMin);
    EXPECT_EQ(settings.connections_per_ip_overrides[0].second, 1);
}

TEST(ConfigView, broker_values_of_other_units_are_converted) {
    const MetadataImage image;
    const ConfigMap given = {{"log.retention.hours", "2"}};
    EXPECT_EQ(topic_settings({image, given, 0}, {}).log.retention_ms, 7'200'000);
    const ConfigMap minutes = {{"log.retention.hours", "2"}, {"log.retention.minutes", "3"}};
    EXPECT_EQ(topic_settings({image, minutes, 0}, {}).log.retention_ms, 180'000);
    const ConfigMap for_ever = {{"log.retention.hours", "-1"}};
    EXPECT_EQ(topic_settings({image, for_ever, 0}, {}).log.retention_ms, -1);
}

TEST(ConfigView, settings_follow_the_options) {
    const MetadataImage image;
    const ConfigMap given;
    const TopicSettings settings =
        topic_settings({image, given, 0}, {{"compression.type", "zstd"},
                                           {"compression.zstd.level", "7"},
                                           {"cleanup.policy", "compact"},
                                           {"message.timestamp.type", "LogAppendTime"}});
    EXPECT_EQ(settings.compression_level, 7);
    EXPECT_TRUE(settings.compacted);
    EXPECT_FALSE(settings.log.delete_by_retention);
    EXPECT_TRUE(settings.log_append_time);
    EXPECT_EQ(settings.batch_bytes_max, 1048588);
}

// Kafka's default: the leader serves all.
TEST(ConfigView, consumers_read_by_rack_only_where_the_selector_says_so) {
    const MetadataImage image;
    EXPECT_FALSE(broker_settings({image, {}, 0}).reads_by_rack);
    const ConfigMap other{{"replica.selector.class", "com.example.Selector"}};
    EXPECT_FALSE(broker_settings({image, other, 0}).reads_by_rack);
    const ConfigMap by_rack{
        {"replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"}};
    EXPECT_TRUE(broker_settings({image, by_rack, 0}).reads_by_rack);
}

TEST(ConfigView, the_longest_times_fit_a_duration) {
    const MetadataImage image;
    ConfigMap given;
    for (const ConfigKey& key : broker_config_keys()) {
        if (!key.name.ends_with(".ms") && !key.name.ends_with(".minutes") &&
            !key.name.ends_with(".hours"))
            continue;
        const int64_t max =
            std::min(key.max, key.type == ConfigType::kInt ? int64_t{INT32_MAX} : INT64_MAX);
        given[std::string(key.name)] = std::to_string(max);
        ASSERT_TRUE(validate_config(key, given[std::string(key.name)])) << key.name;
    }
    const BrokerSettings settings = broker_settings({image, given, 0});
    // As their users compute: nanoseconds, from now on.
    const auto fits = [](int64_t count, int64_t unit_ms) {
        int64_t ns = 0;
        return !__builtin_mul_overflow(count, unit_ms * 1'000'000, &ns) && ns < INT64_MAX / 2;
    };
    EXPECT_TRUE(fits(settings.idle_ms_max, 1));
    EXPECT_TRUE(fits(settings.producer_expiration_ms, 1));
    EXPECT_TRUE(fits(settings.producer_expiration_check_ms, 1));
    EXPECT_TRUE(fits(settings.offsets_retention_check_ms, 1));
    EXPECT_TRUE(fits(settings.offsets_retention_minutes, 60'000));
    EXPECT_TRUE(fits(settings.group_initial_rebalance_delay_ms, 1));
    EXPECT_TRUE(fits(settings.group_session_timeout_max_ms, 1));
    EXPECT_GT(settings.idle_ms_max, INT32_MAX) << "and are long still";
}

TEST(ConfigTable, sizes_have_units) {
    EXPECT_EQ(config_size("512MiB"), 512u << 20);
    EXPECT_EQ(config_size("1 GiB"), 1u << 30);
    EXPECT_EQ(config_size("4096"), 4096u);
    EXPECT_EQ(config_size("12MB"), std::nullopt);
    EXPECT_EQ(config_size("-1"), std::nullopt);
    EXPECT_EQ(config_size("99999999999TiB"), std::nullopt);
}

}  // namespace
}  // namespace weir::cluster
