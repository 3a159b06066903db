// What may be configured, and how Kafka says no.
#include "cluster/config_admin.h"

#include <gtest/gtest.h>

#include "cluster/test_controller.h"
#include "cluster/topic_admin.h"
#include "runtime/test_loop.h"

namespace weir::cluster {
namespace {

class ConfigAdmin : public testing::Test {
  protected:
    ConfigAdmin() {
        EXPECT_TRUE(loop.run(node->start()));
        loop.run(create_topics(*node->controller, {{.name = "a"}}, false, {}));
    }
    ~ConfigAdmin() override { loop.run(node->stop()); }

    AdminError alter(ConfigChange change, bool validate_only = false) {
        return loop.run(
            alter_configs(*node->controller, {std::move(change)}, validate_only, {}))[0];
    }
    AdminFault set(ConfigResource resource, std::string name, std::string key,
                   std::optional<std::string> value, ConfigOp op = ConfigOp::kSet) {
        return alter({.resource = resource,
                      .resource_type = static_cast<int8_t>(resource),
                      .name = std::move(name),
                      .items = {{std::move(key), op, std::move(value)}}})
            .fault;
    }
    AdminFault topic(std::string key, std::string value) {
        return set(ConfigResource::kTopic, "a", std::move(key), std::move(value));
    }
    AdminFault broker(std::string key, std::string value, std::string name = "0") {
        return set(ConfigResource::kBroker, std::move(name), std::move(key), std::move(value));
    }
    const MetadataImage& image() { return node->controller->image(); }

    runtime::TestLoop loop{TestController::kShards};
    storage::MemoryStoreSet stores{TestController::kShards};
    std::unique_ptr<TestController> node = std::make_unique<TestController>(stores);
};

constexpr auto kOk = AdminFault::kNone;
constexpr auto kBadRequest = AdminFault::kInvalidRequest;
constexpr auto kBadConfig = AdminFault::kInvalidConfig;

TEST_F(ConfigAdmin, a_broker_takes_names_that_nobody_knows_and_keeps_them) {
    EXPECT_EQ(broker("my.plugin.setting", "x"), kOk);
    EXPECT_EQ(broker("my.plugin.setting", "y", ""), kOk);
    EXPECT_EQ(image().configs(ConfigResource::kBroker, "0").at("my.plugin.setting"), "x");
    EXPECT_EQ(image().configs(ConfigResource::kBroker, "").at("my.plugin.setting"), "y");
    EXPECT_EQ(broker(std::string(513, 'n'), "x"), kBadRequest);
    EXPECT_EQ(broker("n", std::string(32'768, 'x')), kBadRequest);
    const AdminError longest = alter(
        {.name = "a", .items = {{std::string(32'000, 'n'), ConfigOp::kSet, std::string("x")}}});
    EXPECT_EQ(longest.fault, kBadConfig);
    EXPECT_LE(longest.message.size(), 1024u);
}

TEST_F(ConfigAdmin, the_throttles_of_a_reassignment_are_set_and_deleted_set_or_not) {
    for (const std::string name :
         {"leader.replication.throttled.rate", "follower.replication.throttled.rate",
          "replica.alter.log.dirs.io.max.bytes.per.second", "never.heard.of"}) {
        EXPECT_EQ(set(ConfigResource::kBroker, "0", name, {}, ConfigOp::kDelete), kOk) << name;
        EXPECT_EQ(broker(name, "1000000"), kOk) << name;
        EXPECT_EQ(set(ConfigResource::kBroker, "0", name, {}, ConfigOp::kDelete), kOk) << name;
    }
    EXPECT_TRUE(image().configs(ConfigResource::kBroker, "0").empty());
    EXPECT_EQ(broker("leader.replication.throttled.rate", "fast"), kBadRequest);
    EXPECT_EQ(broker("leader.replication.throttled.rate", "-1"), kBadRequest);
}

TEST_F(ConfigAdmin, what_a_broker_reads_at_its_start_is_refused_and_may_be_deleted) {
    for (const std::string name :
         {"broker.id", "log.dirs", "listeners", "auto.create.topics.enable", "delete.topic.enable",
          "num.partitions", "connections.max.idle.ms", "process.roles", "shards"}) {
        EXPECT_EQ(broker(name, "1"), kBadRequest) << name;
        EXPECT_EQ(set(ConfigResource::kBroker, "0", name, {}, ConfigOp::kDelete), kOk) << name;
    }
    const AdminError error = alter({.resource = ConfigResource::kBroker,
                                    .name = "0",
                                    .items = {{"num.partitions", ConfigOp::kSet, "4"}}});
    EXPECT_NE(error.message.find("Cannot update these configs dynamically"), std::string::npos);
    // As an older version stored it: it counts until it is deleted.
    ASSERT_TRUE(loop.run(node->controller->commit(
        {ResourceConfigChanged{ConfigResource::kBroker, "", "num.partitions", "4"}})));
    EXPECT_EQ(node->controller->local().broker().partitions_default, 4);
    EXPECT_EQ(set(ConfigResource::kBroker, "", "num.partitions", {}, ConfigOp::kDelete), kOk);
    EXPECT_EQ(node->controller->local().broker().partitions_default, 1);
}

TEST_F(ConfigAdmin, options_of_one_broker_or_listener_are_not_set_for_all) {
    EXPECT_EQ(broker("sasl.kerberos.min.time.before.relogin", "58000"), kOk);
    EXPECT_EQ(broker("sasl.kerberos.min.time.before.relogin", "58000", ""), kBadRequest);
    EXPECT_EQ(broker("listener.name.internal.ssl.keystore.location", "/x"), kOk);
    EXPECT_EQ(broker("listener.name.internal.ssl.keystore.location", "/x", ""), kBadRequest);
    EXPECT_EQ(broker("ssl.keystore.location", "/x"), kBadRequest) << "only by listener";
    EXPECT_EQ(broker("listener.name.x.scram-sha-256.sasl.jaas.config", "secret"), kOk);
    EXPECT_EQ(broker("num.io.threads", "16", ""), kOk);
    EXPECT_EQ(broker("num.io.threads", "0", ""), kBadRequest);
}

// Each of these would have closed every connection that could set it back.
TEST_F(ConfigAdmin, no_option_shuts_everybody_out) {
    EXPECT_EQ(broker("max.connections", "0"), kBadRequest);
    EXPECT_EQ(broker("max.connections", "-1", ""), kBadRequest);
    EXPECT_EQ(broker("max.connections.per.ip", "0", ""), kBadRequest);
    EXPECT_EQ(broker("connections.max.idle.ms", "0"), kBadRequest);
    EXPECT_EQ(broker("max.connections.per.ip.overrides", "127.0.0.1:0"), kBadRequest);
    EXPECT_EQ(broker("max.connections.per.ip.overrides", "127.0.0.1"), kBadRequest);
    EXPECT_EQ(broker("max.connections.per.ip.overrides", "127.0.0.1:7,h:8"), kOk);
    EXPECT_EQ(broker("max.connections", "1"), kOk);
}

TEST_F(ConfigAdmin, least_in_sync_replicas_are_set_for_the_cluster_alone_as_with_elr) {
    EXPECT_EQ(broker("min.insync.replicas", "2"), kBadConfig);
    EXPECT_EQ(broker("min.insync.replicas", "2", ""), kOk);
    EXPECT_EQ(set(ConfigResource::kBroker, "", "min.insync.replicas", {}, ConfigOp::kDelete),
              kBadConfig);
}

TEST_F(ConfigAdmin, topics_take_known_names_and_what_they_promise_can_be_kept) {
    EXPECT_EQ(topic("no.such", "1"), kBadConfig);
    EXPECT_EQ(topic("message.format.version", "3.0-IV1"), kBadConfig);
    EXPECT_EQ(topic("message.downconversion.enable", "true"), kBadConfig);
    EXPECT_EQ(topic("remote.storage.enable", "true"), kBadConfig);
    EXPECT_EQ(topic("remote.storage.enable", "false"), kOk);
    EXPECT_EQ(topic("segment.bytes", "1048575"), kBadConfig);
    EXPECT_EQ(topic("segment.bytes", "1048576"), kOk);
    EXPECT_EQ(topic("internal.segment.bytes", "100"), kOk);
    EXPECT_EQ(topic("retention.ms", "+5"), kOk);
    EXPECT_EQ(topic("retention.ms", "+-5"), kBadConfig);
    EXPECT_EQ(topic("leader.replication.throttled.replicas", "bogus"), kBadConfig);
    EXPECT_EQ(topic("leader.replication.throttled.replicas", "0:"), kBadConfig);
    EXPECT_EQ(topic("leader.replication.throttled.replicas", "0:1,12:3"), kOk);
    EXPECT_EQ(topic("follower.replication.throttled.replicas", "*"), kOk);
    EXPECT_EQ(topic("follower.replication.throttled.replicas", ""), kOk);
    const auto created = loop.run(
        create_topics(*node->controller,
                      {{.name = "b", .configs = {{"remote.storage.enable", "true"}}}}, false, {}));
    EXPECT_EQ(created[0].error.fault, kBadConfig);
    EXPECT_NE(created[0].error.message.find("Tiered Storage functionality is disabled"),
              std::string::npos);
}

TEST_F(ConfigAdmin, a_lag_that_is_longer_than_the_longest_is_refused_wherever_either_is_set) {
    EXPECT_EQ(topic("max.compaction.lag.ms", "1000"), kOk);
    EXPECT_EQ(topic("min.compaction.lag.ms", "1001"), kBadConfig);
    EXPECT_EQ(topic("min.compaction.lag.ms", "1000"), kOk);
    EXPECT_EQ(topic("max.compaction.lag.ms", "999"), kBadConfig);
    const auto created = loop.run(create_topics(
        *node->controller,
        {{.name = "b",
          .configs = {{"min.compaction.lag.ms", "2"}, {"max.compaction.lag.ms", "1"}}}},
        false, {}));
    EXPECT_EQ(created[0].error.fault, kBadConfig);
}

TEST_F(ConfigAdmin, an_old_value_that_is_known_no_more_may_stay_and_be_deleted) {
    const Uuid id = image().find("a")->id;
    ASSERT_TRUE(loop.run(
        node->controller->commit({TopicConfigChanged{id, "message.format.version", "3.0-IV1"},
                                  TopicConfigChanged{id, "segment.bytes", "100"}})));
    EXPECT_EQ(node->controller->local().settings(*image().find("a")).log.segment_bytes, 100u);
    EXPECT_EQ(topic("retention.ms", "5"), kOk);
    EXPECT_EQ(set(ConfigResource::kTopic, "a", "message.format.version", {}, ConfigOp::kDelete),
              kOk);
    EXPECT_FALSE(image().find("a")->configs.contains("message.format.version"));
}

TEST_F(ConfigAdmin, groups_take_known_names_within_the_brokers_bounds) {
    const auto group = [&](std::string key, std::string value) {
        return set(ConfigResource::kGroup, "g", std::move(key), std::move(value));
    };
    EXPECT_EQ(group("nosuch", "1"), kBadConfig);
    EXPECT_EQ(group("consumer.session.timeout.ms", "1"), kBadConfig);
    EXPECT_EQ(group("consumer.session.timeout.ms", "60001"), kBadConfig);
    EXPECT_EQ(group("consumer.session.timeout.ms", "x"), kBadConfig);
    EXPECT_EQ(group("consumer.session.timeout.ms", "50000"), kOk);
    EXPECT_EQ(group("share.auto.offset.reset", "never"), kBadConfig);
    EXPECT_EQ(group("share.auto.offset.reset", "by_duration:PT1H"), kOk);
    EXPECT_EQ(group("share.isolation.level", "READ"), kBadConfig);
    EXPECT_EQ(group("streams.num.standby.replicas", "3"), kBadConfig);
    EXPECT_EQ(set(ConfigResource::kGroup, "", "consumer.session.timeout.ms", "50000"), kBadRequest);
    EXPECT_EQ(alter({.resource = ConfigResource::kGroup,
                     .name = "other",
                     .items = {{"consumer.session.timeout.ms", ConfigOp::kSet, "45000"},
                               {"consumer.heartbeat.interval.ms", ConfigOp::kSet, "45000"}}})
                  .fault,
              kBadConfig);
}

TEST_F(ConfigAdmin, client_metrics_are_checked_as_in_kafka) {
    const auto metrics = [&](std::string key, std::string value) {
        return set(ConfigResource::kClientMetrics, "m", std::move(key), std::move(value));
    };
    EXPECT_EQ(metrics("nosuch", "1"), kBadRequest);
    EXPECT_EQ(metrics("interval.ms", "1"), kBadRequest);
    EXPECT_EQ(metrics("interval.ms", "3600001"), kBadRequest);
    EXPECT_EQ(metrics("interval.ms", "1000"), kOk);
    EXPECT_EQ(metrics("match", "client_id"), kBadConfig);
    EXPECT_EQ(metrics("match", "colour=blue"), kBadConfig);
    EXPECT_EQ(metrics("match", "client_id=app-.*,client_source_port=9.*"), kOk);
    EXPECT_EQ(metrics("metrics", "org.apache.kafka.consumer."), kOk);
    EXPECT_EQ(set(ConfigResource::kClientMetrics, "", "interval.ms", "1000"), kBadRequest);
}

}  // namespace
}  // namespace weir::cluster
