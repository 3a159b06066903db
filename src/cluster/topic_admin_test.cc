#include "cluster/topic_admin.h"

#include <gtest/gtest.h>

#include "cluster/cluster_admin.h"
#include "cluster/config_admin.h"
#include "cluster/features.h"
#include "cluster/test_controller.h"

namespace weir::cluster {
namespace {

using runtime::Task;
using storage::LogId;

class TopicAdmin : public testing::Test {
  protected:
    TopicAdmin() { EXPECT_TRUE(loop.run(node->start())); }
    ~TopicAdmin() override {
        if (node) loop.run(node->stop());
    }
    std::vector<TopicOutcome> create(std::vector<NewTopic> topics, bool validate_only = false) {
        return loop.run(create_topics(*node->controller, std::move(topics), validate_only, {}));
    }
    AdminFault create_one(NewTopic topic) { return create({std::move(topic)})[0].error.fault; }
    std::vector<AdminError> alter(ConfigChange change, bool validate_only = false) {
        return loop.run(alter_configs(*node->controller, {std::move(change)}, validate_only, {}));
    }
    const MetadataImage& image(uint32_t shard = 1) { return node->shards[shard]->image(); }

    runtime::TestLoop loop{TestController::kShards};
    storage::MemoryStoreSet stores{TestController::kShards};
    std::unique_ptr<TestController> node = std::make_unique<TestController>(stores);
};

TEST_F(TopicAdmin, a_topic_is_made_on_every_shard_with_logs_on_their_owners) {
    const auto outcome = create({{.name = "a", .partitions = 7, .replication_factor = 1}})[0];
    ASSERT_TRUE(outcome.error.ok()) << outcome.error.message;
    for (uint32_t shard = 0; shard < TestController::kShards; ++shard) {
        ASSERT_NE(image(shard).find("a"), nullptr);
        EXPECT_EQ(*image(shard).find("a"), outcome.topic);
    }
    for (const auto& partition : outcome.topic.partitions) {
        EXPECT_NE(stores.store(storage::owner_of(partition.log, TestController::kShards))
                      .find(partition.log),
                  nullptr);
    }
}

TEST_F(TopicAdmin, each_rule_has_its_own_fault) {
    EXPECT_EQ(create_one({.name = "a"}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "a"}), AdminFault::kTopicExists);
    EXPECT_EQ(create_one({.name = ""}), AdminFault::kInvalidTopicName);
    EXPECT_EQ(create_one({.name = ".."}), AdminFault::kInvalidTopicName);
    EXPECT_EQ(create_one({.name = "a b"}), AdminFault::kInvalidTopicName);
    EXPECT_EQ(create_one({.name = std::string(250, 'a')}), AdminFault::kInvalidTopicName);
    EXPECT_EQ(create_one({.name = std::string(249, 'a')}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "x.y"}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "x_y"}), AdminFault::kInvalidTopicName);
    EXPECT_EQ(create_one({.name = "b", .partitions = 0}), AdminFault::kInvalidPartitions);
    EXPECT_EQ(create_one({.name = "b", .partitions = -2}), AdminFault::kInvalidPartitions);
    EXPECT_EQ(create_one({.name = "b", .replication_factor = 3}),
              AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(create_one({.name = "b", .replication_factor = 0}),
              AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(create_one({.name = "b", .configs = {{"no.such", "1"}}}), AdminFault::kInvalidConfig);
    EXPECT_EQ(create_one({.name = "b", .configs = {{"retention.ms", "x"}}}),
              AdminFault::kInvalidConfig);
    EXPECT_EQ(create_one({.name = "b", .configs = {{"retention.ms", std::nullopt}}}),
              AdminFault::kInvalidConfig);
    EXPECT_EQ(create_one({.name = "b", .partitions = 1, .assignments = {{0, {0}}}}),
              AdminFault::kInvalidRequest);
    EXPECT_EQ(create_one({.name = "b", .assignments = {{1, {0}}}}),
              AdminFault::kInvalidReplicaAssignment);
    EXPECT_EQ(create_one({.name = "b", .assignments = {{0, {0, 0}}}}),
              AdminFault::kInvalidReplicaAssignment);
    EXPECT_EQ(create_one({.name = "b", .assignments = {{0, {4}}}}),
              AdminFault::kInvalidReplicaAssignment);
    EXPECT_EQ(create_one({.name = "b", .assignments = {{0, {0}}, {1, {0}}}}), AdminFault::kNone);
    EXPECT_EQ(image().find("b")->partitions.size(), 2u);
}

// The second node is another process; what it would do is not here.
TEST_F(TopicAdmin, relaxed_durability_waits_for_nodes_that_know_it) {
    const std::vector<std::pair<std::string, std::optional<std::string>>> relaxed{
        {"weir.durability", "relaxed"}};
    EXPECT_EQ(create_one({.name = "alone", .configs = relaxed}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "b", .configs = {{"weir.durability", "lax"}}}),
              AdminFault::kInvalidConfig);
    const auto internal = create({{.name = "__consumer_offsets", .configs = relaxed}})[0];
    EXPECT_EQ(internal.error.message, "weir.durability=relaxed is not for internal topics.");
    const auto commit = [&](MetadataRecord record) {
        std::vector<MetadataRecord> records{std::move(record)};
        EXPECT_TRUE(loop.run(node->controller->commit(std::move(records))));
    };
    const auto level = [](WeirLevel level) {
        return FeatureFinalized{std::string(kWeirVersion), static_cast<int32_t>(level)};
    };
    commit(level(WeirLevel::kCluster));
    commit(NodeRegistered{.id = 0,
                          .uuid = Uuid::random(1, 2),
                          .epoch = 1,
                          .rpc = {"h", 1},
                          .kafka = {"h", 2},
                          .shards = TestController::kShards,
                          .features = supported_features()});
    EXPECT_EQ(create_one({.name = "flushed", .configs = {{"weir.durability", "flush"}}}),
              AdminFault::kNone);
    EXPECT_NE(create({{.name = "b", .configs = relaxed}})[0].error.message.find(
                  "needs level 2 of weir.version, and the cluster is at level 1"),
              std::string::npos);
    const auto alter_one = [&] {
        return alter({.resource = ConfigResource::kTopic,
                      .name = "flushed",
                      .items = {{.key = "weir.durability", .value = "relaxed"}}})[0]
            .fault;
    };
    EXPECT_EQ(alter_one(), AdminFault::kInvalidConfig);
    commit(level(WeirLevel::kRelaxed));
    EXPECT_EQ(alter_one(), AdminFault::kNone);
    EXPECT_TRUE(node->shards[1]->settings(*image().find("flushed")).relaxed);
}

TEST_F(TopicAdmin, partitions_go_to_all_nodes_and_each_is_left_to_make_its_own_logs) {
    std::vector<MetadataRecord> records;
    records.emplace_back(FeatureFinalized{std::string(kWeirVersion), 1});
    for (int32_t id = 0; id < 3; ++id) {
        records.emplace_back(NodeRegistered{.id = id,
                                            .uuid = Uuid::random(static_cast<uint64_t>(id), 1),
                                            .epoch = 1,
                                            .rpc = {"r", 1},
                                            .kafka = {"k", 2},
                                            .features = supported_features()});
    }
    records.emplace_back(NodeStateChanged{2, NodeState::kDecommissioning});
    ASSERT_TRUE(loop.run(node->controller->commit(std::move(records))));
    const auto topic = create({{.name = "a", .partitions = 8, .replication_factor = 1}})[0].topic;
    size_t here = 0;
    for (const auto& partition : topic.partitions) {
        const bool is_here = partition.replicas == std::vector<int32_t>{0};
        if (!is_here) EXPECT_EQ(partition.replicas, std::vector<int32_t>{1});
        here += is_here ? 1 : 0;
        EXPECT_EQ(stores.store(storage::owner_of(partition.log, TestController::kShards))
                      .find(partition.log),
                  nullptr);
    }
    EXPECT_EQ(here, 4u);
    EXPECT_EQ(create_one({.name = "b", .replication_factor = 2}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "c", .replication_factor = 3}),
              AdminFault::kInvalidReplicationFactor);
    EXPECT_EQ(create_one({.name = "c", .assignments = {{0, {1, 0}}}}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "d", .assignments = {{0, {2, 0}}}}),
              AdminFault::kInvalidReplicaAssignment);
    const auto grown =
        loop.run(create_partitions(*node->controller, {{"b", 5, {}}}, false, {}))[0].topic;
    for (const auto& partition : grown.partitions) EXPECT_EQ(partition.replicas.size(), 2u);
    const auto configure = [&](std::string name) {
        return alter({.resource = ConfigResource::kBroker,
                      .name = std::move(name),
                      .items = {{"log.retention.bytes", ConfigOp::kSet, "4"}}})[0]
            .fault;
    };
    EXPECT_EQ(configure("1"), AdminFault::kNone);
    EXPECT_EQ(configure("3"), AdminFault::kInvalidRequest);
    node->controller->set_liveness([](int32_t id) { return id == 0; });
    // One that does not answer is taken where there are too few; one that leaves never is.
    const auto alive =
        create({{.name = "e", .partitions = 4, .replication_factor = 1}})[0].topic.partitions;
    for (const auto& partition : alive) EXPECT_EQ(partition.replicas, std::vector<int32_t>{0});
    EXPECT_EQ(create_one({.name = "f", .replication_factor = 2}), AdminFault::kNone);
    EXPECT_EQ(create_one({.name = "g", .replication_factor = 3}),
              AdminFault::kInvalidReplicationFactor);
}

TEST_F(TopicAdmin, one_bad_topic_does_not_fail_the_others) {
    const auto outcomes =
        create({{.name = "a"}, {.name = "!"}, {.name = "twice"}, {.name = "b"}, {.name = "twice"}});
    EXPECT_TRUE(outcomes[0].error.ok());
    EXPECT_EQ(outcomes[1].error.fault, AdminFault::kInvalidTopicName);
    EXPECT_EQ(outcomes[2].error.fault, AdminFault::kInvalidRequest);
    EXPECT_TRUE(outcomes[3].error.ok());
    EXPECT_EQ(image().topics().size(), 2u);
}

TEST_F(TopicAdmin, validation_alone_changes_nothing) {
    const auto outcomes = create({{.name = "a", .partitions = 3}}, true);
    EXPECT_TRUE(outcomes[0].error.ok());
    EXPECT_EQ(outcomes[0].topic.partitions.size(), 3u);
    EXPECT_FALSE(outcomes[0].topic.id.is_zero()) << "an id that it might have had, as Kafka shows";
    EXPECT_EQ(image().find("a"), nullptr);
}

TEST_F(TopicAdmin, a_recreated_topic_has_another_id_and_other_logs) {
    const auto first = create({{.name = "a"}})[0].topic;
    const auto gone = loop.run(delete_topics(*node->controller, {{"a", {}}}, {}));
    ASSERT_TRUE(gone[0].error.ok());
    const auto second = create({{.name = "a"}})[0].topic;
    EXPECT_NE(first.id, second.id);
    EXPECT_NE(first.partitions[0].log, second.partitions[0].log);
    const auto unknown = loop.run(
        delete_topics(*node->controller, {{"b", {}}, {"", first.id}, {"", second.id}}, {}));
    EXPECT_EQ(unknown[0].error.fault, AdminFault::kUnknownTopic);
    EXPECT_EQ(unknown[1].error.fault, AdminFault::kUnknownTopicId);
    EXPECT_EQ(unknown[2].topic.name, "a");
}

TEST_F(TopicAdmin, partitions_only_grow) {
    create({{.name = "a", .partitions = 2}});
    const auto grow = [&](int32_t count) {
        return loop.run(create_partitions(*node->controller, {{"a", count, {}}}, false, {}))[0]
            .error.fault;
    };
    EXPECT_EQ(grow(2), AdminFault::kInvalidPartitions);
    EXPECT_EQ(grow(1), AdminFault::kInvalidPartitions);
    EXPECT_EQ(grow(5), AdminFault::kNone);
    EXPECT_EQ(image().find("a")->partitions.size(), 5u);
}

// Which partition a group's offsets are in follows from how many there are (case-08).
TEST_F(TopicAdmin, internal_topics_do_not_grow) {
    create({{.name = "__consumer_offsets", .partitions = 5}});
    for (const bool validate_only : {true, false}) {
        const auto grown = loop.run(create_partitions(
            *node->controller, {{"__consumer_offsets", 6, {}}}, validate_only, {}))[0];
        EXPECT_EQ(grown.error.fault, AdminFault::kInvalidPartitions);
        EXPECT_NE(grown.error.message.find("internal topic"), std::string::npos);
    }
    EXPECT_EQ(image().find("__consumer_offsets")->partitions.size(), 5u);
}

TEST_F(TopicAdmin, when_a_log_cannot_be_made_there_is_no_topic_and_no_other_log) {
    stores.store(2).fail_with(ErrorCode::kDiskFull);
    const auto outcome = create({{.name = "a", .partitions = 12}})[0];
    EXPECT_EQ(outcome.error.fault, AdminFault::kStorage);
    EXPECT_EQ(image().find("a"), nullptr);
    EXPECT_TRUE(stores.store(1).logs().empty());
    stores.store(2).heal();
    EXPECT_EQ(create_one({.name = "a", .partitions = 12}), AdminFault::kNone);
}

TEST_F(TopicAdmin, configuration_is_set_appended_subtracted_and_deleted) {
    create({{.name = "a"}});
    const auto one = [&](ConfigChange::Item item) {
        return alter({.name = "a", .items = {std::move(item)}})[0].fault;
    };
    EXPECT_EQ(one({"retention.ms", ConfigOp::kSet, "5"}), AdminFault::kNone);
    EXPECT_EQ(image().find("a")->configs.at("retention.ms"), "5");
    EXPECT_EQ(one({"cleanup.policy", ConfigOp::kAppend, "compact"}), AdminFault::kNone);
    EXPECT_EQ(image().find("a")->configs.at("cleanup.policy"), "delete,compact");
    EXPECT_EQ(one({"cleanup.policy", ConfigOp::kSubtract, "delete"}), AdminFault::kNone);
    EXPECT_EQ(image().find("a")->configs.at("cleanup.policy"), "compact");
    EXPECT_EQ(one({"retention.ms", ConfigOp::kAppend, "5"}), AdminFault::kInvalidConfig);
    EXPECT_EQ(one({"no.such", ConfigOp::kSet, "5"}), AdminFault::kInvalidConfig);
    EXPECT_EQ(one({"retention.ms", ConfigOp::kDelete, {}}), AdminFault::kNone);
    EXPECT_FALSE(image().find("a")->configs.contains("retention.ms"));
    EXPECT_TRUE(alter({.name = "a",
                       .items = {{"retention.bytes", ConfigOp::kSet, "7"}},
                       .replace_all = true})[0]
                    .ok());
    EXPECT_EQ(image().find("a")->configs, (ConfigMap{{"retention.bytes", "7"}}));
    EXPECT_TRUE(
        alter({.name = "a", .items = {{"retention.bytes", ConfigOp::kSet, "8"}}}, true)[0].ok());
    EXPECT_EQ(image().find("a")->configs.at("retention.bytes"), "7");
}

TEST_F(TopicAdmin, broker_configuration_changes_what_topics_get) {
    EXPECT_TRUE(alter({.resource = ConfigResource::kBroker,
                       .name = "",
                       .items = {{"log.retention.bytes", ConfigOp::kSet, "4"}}})[0]
                    .ok());
    create({{.name = "a"}});
    EXPECT_EQ(node->controller->local().settings(*image().find("a")).log.retention_bytes, 4);
    EXPECT_EQ(alter({.resource = ConfigResource::kBroker,
                     .name = "",
                     .items = {{"shards", ConfigOp::kSet, "4"}}})[0]
                  .fault,
              AdminFault::kInvalidRequest);
    EXPECT_EQ(alter({.resource = ConfigResource::kBroker,
                     .name = "9",
                     .items = {{"log.retention.bytes", ConfigOp::kSet, "4"}}})[0]
                  .fault,
              AdminFault::kInvalidRequest);
}

TEST_F(TopicAdmin, a_restart_finds_the_same_metadata_and_hands_out_new_numbers) {
    create({{.name = "a", .partitions = 3}, {.name = "b"}});
    alter({.name = "a", .items = {{"retention.ms", ConfigOp::kSet, "5"}}});
    EXPECT_EQ(*loop.run(node->controller->allocate_producer_ids(10, {})), 0);
    for (int i = 0; i < 2; ++i) {
        const MetadataImage before = image();
        if (i == 1) ASSERT_TRUE(loop.run(stores.store(0).checkpoint()));
        loop.run(node->stop());
        loop.run(stores.store(0).restart(true));
        node = std::make_unique<TestController>(stores);
        ASSERT_TRUE(loop.run(node->start()));
        EXPECT_EQ(image(), before);
        EXPECT_EQ(*loop.run(node->controller->allocate_producer_ids(10, {})), 10 * (i + 1));
        const auto again = create({{.name = "c" + std::to_string(i)}})[0].topic;
        for (const auto& [name, topic] : before.topics()) {
            for (const auto& partition : topic.partitions)
                EXPECT_NE(partition.log, again.partitions[0].log);
        }
    }
}

// 1. The controller is at one of the items of a request.  2. The node is asked to stop.  3. The
// next item finds no controller. What was done before it stays.
class TopicAdminStop : public TopicAdmin {
  protected:
    static constexpr int kItems = 20;
    using Faults = std::vector<AdminFault>;
    using Work = Task<Faults> (*)(Controller*);

    static std::string name(int item) { return "t" + std::to_string(item); }
    static Faults faults_of(const std::vector<TopicOutcome>& outcomes) {
        Faults faults;
        for (const TopicOutcome& outcome : outcomes) faults.push_back(outcome.error.fault);
        return faults;
    }
    static Faults faults_of(const std::vector<AdminError>& errors) {
        Faults faults;
        for (const AdminError& error : errors) faults.push_back(error.fault);
        return faults;
    }
    static Task<Faults> create_many(Controller* controller) {
        std::vector<NewTopic> topics;
        for (int i = 0; i < kItems; ++i) topics.push_back({.name = "new-" + name(i)});
        co_return faults_of(co_await create_topics(*controller, std::move(topics), false, {}));
    }
    static Task<Faults> delete_many(Controller* controller) {
        std::vector<TopicRef> topics;
        for (int i = 0; i < kItems; ++i) topics.push_back({.name = name(i), .id = {}});
        co_return faults_of(co_await delete_topics(*controller, std::move(topics), {}));
    }
    static Task<Faults> grow_many(Controller* controller) {
        std::vector<MorePartitions> topics;
        for (int i = 0; i < kItems; ++i)
            topics.push_back({.topic = name(i), .count = 3, .assignments = {}});
        co_return faults_of(co_await create_partitions(*controller, std::move(topics), false, {}));
    }
    static Task<Faults> configure_many(Controller* controller) {
        std::vector<ConfigChange> changes;
        for (int i = 0; i < kItems; ++i)
            changes.push_back({.name = name(i), .items = {{"retention.ms", ConfigOp::kSet, "77"}}});
        co_return faults_of(co_await alter_configs(*controller, std::move(changes), false, {}));
    }
    static Task<Faults> move_many(Controller* controller) {
        std::vector<Reassignment> moves;
        for (int i = 0; i < kItems; ++i)
            moves.push_back({.topic = name(i), .partition = 0, .target = {{1}}});
        co_return faults_of(co_await reassign(*controller, std::move(moves), true, {}));
    }
    static Task<Faults> stop_after(TestController* node, int turns) {
        for (int i = 0; i < turns; ++i) co_await runtime::yield();
        node->controller->begin_close();
        co_return Faults{};
    }
    static Task<std::vector<Faults>> both(TestController* node, Work work, int turns) {
        std::vector<Task<Faults>> tasks;
        tasks.push_back(work(node->controller.get()));
        tasks.push_back(stop_after(node, turns));
        co_return co_await runtime::all(std::move(tasks));
    }

    void expect_ends_between_items(Work work, bool each_by_itself = true) {
        std::vector<MetadataRecord> nodes;
        nodes.emplace_back(
            FeatureFinalized{std::string(kWeirVersion), static_cast<int32_t>(WeirLevel::kNewest)});
        for (int32_t id = 0; id <= 1; ++id) {
            nodes.emplace_back(NodeRegistered{.id = id,
                                              .uuid = Uuid::random(static_cast<uint64_t>(id), 2),
                                              .epoch = 1,
                                              .rpc = {"h", 1},
                                              .kafka = {"h", 2},
                                              .shards = TestController::kShards,
                                              .features = supported_features()});
        }
        ASSERT_TRUE(loop.run(commit(node->controller.get(), std::move(nodes))));
        std::vector<NewTopic> topics;
        for (int i = 0; i < kItems; ++i)
            topics.push_back({.name = name(i), .assignments = {{0, {0}}}});
        create(std::move(topics));
        size_t within = 0;  // stops that came after the first item and before the last
        for (const int turns : {1, 3, 7, 20, 50, 100, 200, 400}) {
            const Faults faults = loop.run(both(node.get(), work, turns))[0];
            ASSERT_EQ(faults.size(), static_cast<size_t>(kItems));
            bool stopped = false;
            size_t done = 0;
            for (const AdminFault fault : faults) {
                stopped |= fault == AdminFault::kNotController;
                done += fault == AdminFault::kNotController ? 0 : 1;
                EXPECT_EQ(fault == AdminFault::kNotController, stopped);
            }
            within += stopped && done > 0 ? 1 : 0;
            // What comes later finds it closing, and then closed.
            EXPECT_EQ(loop.run(configure_many(node->controller.get()))[0],
                      AdminFault::kNotController);
            loop.run(node->stop());
            EXPECT_EQ(loop.run(configure_many(node->controller.get()))[0],
                      AdminFault::kNotController);
            std::vector<MetadataRecord> none;
            EXPECT_FALSE(loop.run(node->controller->commit(std::move(none))));
            node = std::make_unique<TestController>(stores);
            ASSERT_TRUE(loop.run(node->start()));
        }
        EXPECT_EQ(within > 0, each_by_itself);
    }
    static Task<Result<void>> commit(Controller* controller, std::vector<MetadataRecord> records) {
        const auto lock = co_await runtime::try_(controller->lock({}));
        co_return co_await controller->commit(std::move(records));
    }
};

TEST_F(TopicAdminStop, creations_end_between_two_topics_when_the_controller_closes) {
    expect_ends_between_items(create_many);
}
TEST_F(TopicAdminStop, deletions_end_between_two_topics_when_the_controller_closes) {
    expect_ends_between_items(delete_many);
}
TEST_F(TopicAdminStop, new_partitions_end_between_two_topics_when_the_controller_closes) {
    expect_ends_between_items(grow_many);
}
TEST_F(TopicAdminStop, configs_end_between_two_topics_when_the_controller_closes) {
    expect_ends_between_items(configure_many);
}
// So many are one change of the metadata.
TEST_F(TopicAdminStop, moves_are_all_begun_or_none_when_the_controller_closes) {
    expect_ends_between_items(move_many, false);
}

// Whoever waits for the lock of a controller that closes is told, one after the other.
TEST_F(TopicAdminStop, producer_ids_that_wait_for_the_lock_end_when_the_controller_closes) {
    const auto hold = [](TestController* each, bool* done) -> Task<bool> {
        const auto lock = co_await each->controller->lock({});
        for (int i = 0; i < 50; ++i) co_await runtime::yield();
        each->controller->begin_close();
        co_return * done = lock.has_value();
    };
    const auto ask = [](TestController* each, bool*) -> Task<bool> {
        co_return (co_await each->controller->allocate_producer_ids(10, {})).has_value();
    };
    bool held = false;
    std::vector<Task<bool>> tasks;
    tasks.push_back(hold(node.get(), &held));
    for (int i = 0; i < 3; ++i) tasks.push_back(ask(node.get(), nullptr));
    EXPECT_EQ(loop.run(runtime::all(std::move(tasks))),
              (std::vector<bool>{true, false, false, false}));
    loop.run(node->stop());
    node.reset();
}

}  // namespace
}  // namespace weir::cluster
