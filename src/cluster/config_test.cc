#include <gtest/gtest.h>

#include <set>

#include "cluster/config_view.h"

namespace weir::cluster {
namespace {

TEST(ConfigTable, every_default_is_a_valid_value_of_its_option) {
    for (const auto keys : {topic_config_keys(), broker_config_keys()}) {
        std::set<std::string_view> names;
        for (const ConfigKey& key : keys) {
            EXPECT_TRUE(names.insert(key.name).second) << key.name;
            EXPECT_FALSE(key.doc.empty()) << key.name;
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
        EXPECT_EQ(view.topic({}, key).source, ConfigSource::kDefault) << key.name;
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
