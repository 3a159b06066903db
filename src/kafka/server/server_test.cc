// The server as clients see it, over three shards, stores in memory and a virtual clock.
#include <gtest/gtest.h>

#include "kafka/protocol/alter_configs.h"
#include "kafka/protocol/alter_partition_reassignments.h"
#include "kafka/protocol/api_versions.h"
#include "kafka/protocol/codec.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/protocol/delete_records.h"
#include "kafka/protocol/delete_topics.h"
#include "kafka/protocol/describe_cluster.h"
#include "kafka/protocol/describe_configs.h"
#include "kafka/protocol/describe_groups.h"
#include "kafka/protocol/describe_quorum.h"
#include "kafka/protocol/describe_topic_partitions.h"
#include "kafka/protocol/elect_leaders.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/find_coordinator.h"
#include "kafka/protocol/heartbeat.h"
#include "kafka/protocol/incremental_alter_configs.h"
#include "kafka/protocol/init_producer_id.h"
#include "kafka/protocol/join_group.h"
#include "kafka/protocol/leave_group.h"
#include "kafka/protocol/list_groups.h"
#include "kafka/protocol/list_offsets.h"
#include "kafka/protocol/list_partition_reassignments.h"
#include "kafka/protocol/metadata.h"
#include "kafka/protocol/offset_commit.h"
#include "kafka/protocol/offset_fetch.h"
#include "kafka/protocol/offset_for_leader_epoch.h"
#include "kafka/protocol/produce.h"
#include "kafka/protocol/sync_group.h"
#include "kafka/protocol/unregister_broker.h"
#include "kafka/protocol/update_features.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/test_node.h"

namespace weir::kafka {
namespace {

constexpr int16_t kProduceVersion = 9;
constexpr int16_t kFetchVersion = 12;

int16_t error(KafkaError e) { return code(e); }

struct BatchOptions {
    int64_t timestamp_ms = 1'000;
    int64_t producer_id = kNoProducerId;
    int16_t epoch = -1;
    int32_t sequence = -1;
    Compression compression = Compression::kNone;
};

std::vector<uint8_t> make_batch(const std::vector<std::string>& values, BatchOptions options = {}) {
    BatchBuilder builder({.compression = options.compression,
                          .producer_id = options.producer_id,
                          .producer_epoch = options.epoch,
                          .base_sequence = options.sequence});
    int64_t timestamp = options.timestamp_ms;
    for (const std::string& value : values)
        builder.append({.timestamp = {timestamp++},
                        .key = std::nullopt,
                        .value = as_bytes(value),
                        .headers = {}});
    return *builder.build();
}

class ServerTest : public testing::Test {
  protected:
    ServerTest() { start(); }

    void start(cluster::ConfigMap given = {}) {
        node = std::make_unique<TestNode>(loop, stores, std::move(given));
        client = std::make_unique<TestClient>(loop, node->server());
    }
    void stop() {
        client.reset();
        node.reset();
    }
    void restart(cluster::ConfigMap given = {}) {
        stop();
        for (uint32_t i = 0; i < TestNode::kShards; ++i) loop.run(stores.store(i).restart(true));
        start(std::move(given));
    }
    ~ServerTest() override { stop(); }

    Uuid create(const std::string& name, int32_t partitions = 1,
                std::vector<CreateTopicsRequest::Config> configs = {}) {
        CreateTopicsRequest request;
        request.topics.push_back({.name = name,
                                  .num_partitions = partitions,
                                  .replication_factor = 1,
                                  .configs = std::move(configs)});
        const auto response = client->call<CreateTopicsResponse>(request, 7);
        EXPECT_EQ(response.topics.at(0).error_code, 0)
            << response.topics.at(0).error_message.value_or("");
        return response.topics.at(0).topic_id;
    }
    static ProduceRequest produce_request(const std::string& topic, int32_t partition,
                                          const std::vector<uint8_t>& batch, int16_t acks = -1) {
        ProduceRequest request;
        request.acks = acks;
        request.timeout_ms = 10'000;
        request.topic_data.push_back(
            {.name = topic,
             .partition_data = {{.index = partition, .records = {.parts = {Bytes(batch)}}}}});
        return request;
    }
    ProduceResponse::Partition produce(const std::string& topic, int32_t partition,
                                       const std::vector<uint8_t>& batch,
                                       int16_t version = kProduceVersion) {
        const auto response =
            client->call<ProduceResponse>(produce_request(topic, partition, batch), version);
        return response.responses.at(0).partition_responses.at(0);
    }
    struct Wanted {
        std::string topic;
        int32_t partition = 0;
        int64_t offset = 0;
        int32_t bytes_max = 1 << 20;
    };
    static FetchRequest fetch_request(const std::vector<Wanted>& wanted, int32_t max_wait_ms = 0,
                                      int32_t min_bytes = 1, int32_t max_bytes = 50 << 20) {
        FetchRequest request;
        request.max_wait_ms = max_wait_ms;
        request.min_bytes = min_bytes;
        request.max_bytes = max_bytes;
        for (const Wanted& w : wanted) {
            request.topics.push_back({.topic = w.topic,
                                      .partitions = {{.partition = w.partition,
                                                      .fetch_offset = w.offset,
                                                      .partition_max_bytes = w.bytes_max}}});
        }
        return request;
    }
    FetchResponse fetch(const std::vector<Wanted>& wanted, int32_t max_wait_ms = 0,
                        int32_t min_bytes = 1, int32_t max_bytes = 50 << 20) {
        return client->call<FetchResponse>(fetch_request(wanted, max_wait_ms, min_bytes, max_bytes),
                                           kFetchVersion);
    }
    static std::vector<std::string> values_of(const FetchResponse::Partition& partition) {
        std::vector<std::string> values;
        for (const Bytes part : partition.records.parts) {
            BatchIterator batches(part);
            while (const auto batch = batches.next()) {
                const auto open = OpenBatch::open(batch->bytes, 1_MiB);
                EXPECT_TRUE(open);
                RecordIterator records = open->records();
                while (const auto record = records.next())
                    values.emplace_back(as_text(*record->value));
            }
        }
        return values;
    }
    ListOffsetsResponse::Partition list_offset(const std::string& topic, int64_t timestamp,
                                               int16_t version = 7) {
        ListOffsetsRequest request;
        request.replica_id = -1;
        request.topics.push_back(
            {.name = topic, .partitions = {{.partition_index = 0, .timestamp = timestamp}}});
        return client->call<ListOffsetsResponse>(request, version).topics.at(0).partitions.at(0);
    }

    runtime::TestLoop loop{TestNode::kShards};
    storage::MemoryStoreSet stores{TestNode::kShards};
    std::unique_ptr<TestNode> node;
    std::unique_ptr<TestClient> client;
};

// ---- the wire

TEST_F(ServerTest,
       api_versions_of_an_unknown_version_is_answered_in_version_zero_with_its_own_range) {
    ApiVersionsRequest request;
    request.client_software_name = "test";
    request.client_software_version = "1";
    // A version from the future: the body is whatever it is.
    client->send_raw({0, 0, 0, 13, 0, 18, 0, 99, 0, 0, 0, 1, 0, 1, 'x', 0, 7});
    const auto answer = client->receive<ApiVersionsResponse>(0);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->error_code, error(KafkaError::kUnsupportedVersion));
    ASSERT_EQ(answer->api_keys.size(), 1u);
    EXPECT_EQ(answer->api_keys[0].api_key, 18);
    EXPECT_FALSE(client->closed());
}

TEST_F(ServerTest, every_advertised_version_has_a_schema_and_produce_begins_at_zero) {
    const auto answer = client->call<ApiVersionsResponse>(ApiVersionsRequest{}, 0);
    EXPECT_EQ(answer.api_keys.size(), handlers().size());
    for (const auto& api : answer.api_keys) {
        const ApiInfo* info = find_api(api.api_key);
        ASSERT_NE(info, nullptr);
        EXPECT_GE(api.min_version, info->version_min) << info->name;
        EXPECT_LE(api.max_version, info->version_max) << info->name;
        if (api.api_key == 0) EXPECT_EQ(api.min_version, 0);
    }
}

TEST_F(ServerTest, a_client_of_another_cluster_is_sent_to_bootstrap_again) {
    ApiVersionsRequest request;
    request.client_software_name = "test";
    request.client_software_version = "1";
    request.cluster_id = "another";
    EXPECT_EQ(client->call<ApiVersionsResponse>(request, 5).error_code,
              error(KafkaError::kRebootstrapRequired));
    request.cluster_id = node->server().image().cluster_id().to_string();
    request.node_id = 0;
    EXPECT_EQ(client->call<ApiVersionsResponse>(request, 5).error_code, 0);
}

TEST_F(ServerTest, what_cannot_be_a_request_closes_that_connection_alone) {
    const std::vector<std::vector<uint8_t>> bad = {
        {0xff, 0xff, 0xff, 0xff},                            // a negative size
        {0x7f, 0xff, 0xff, 0xff},                            // 2 GiB
        {0, 0, 0, 8, 0x12, 0x34, 0, 0, 0, 0, 0, 1},          // an API that is not served
        {0, 0, 0, 10, 0, 3, 0, 77, 0, 0, 0, 1, 0xff, 0xff},  // a version that is not served
        {0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff,
         0xff},  // an array of 2^31 topics
        {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P', '/', '1', '.', '1', '\r', '\n', '\r',
         '\n'},
    };
    for (const auto& bytes : bad) {
        TestClient other(loop, node->server());
        other.send_raw(bytes);
        EXPECT_FALSE(other.receive<MetadataResponse>(1));
        other.settle();
        EXPECT_TRUE(other.closed());
    }
    EXPECT_EQ(client->call<ApiVersionsResponse>(ApiVersionsRequest{}, 0).error_code, 0);
}

TEST_F(ServerTest, pipelined_requests_are_answered_in_order) {
    create("a");
    FetchRequest waits = fetch_request({{"a", 0, 0}}, 5'000);
    client->send(waits, kFetchVersion);
    client->send(MetadataRequest{.topics = std::nullopt}, 1);
    const auto batch = make_batch({"x"});
    client->send(produce_request("a", 0, batch), kProduceVersion);
    client->send(ApiVersionsRequest{}, 0);
    const auto fetched = client->receive<FetchResponse>(kFetchVersion);
    ASSERT_TRUE(fetched);
    EXPECT_EQ(values_of(fetched->responses.at(0).partitions.at(0)), std::vector<std::string>{"x"})
        << "the produce behind it woke it";
    EXPECT_TRUE(client->receive<MetadataResponse>(1));
    EXPECT_TRUE(client->receive<ProduceResponse>(kProduceVersion));
    EXPECT_TRUE(client->receive<ApiVersionsResponse>(0));
}

TEST_F(ServerTest, pipelined_batches_of_a_producer_are_appended_in_order) {
    create("a", 3);
    std::vector<std::vector<uint8_t>> batches;
    for (int32_t i = 0; i < 60; ++i) {
        batches.push_back(
            make_batch({std::to_string(i)}, {.producer_id = 5, .epoch = 0, .sequence = i}));
        ProduceRequest request = produce_request("a", 0, batches.back());
        request.topic_data[0].partition_data.push_back(
            {.index = 1, .records = {.parts = {Bytes(batches.back())}}});
        request.topic_data[0].partition_data.push_back(
            {.index = 2, .records = {.parts = {Bytes(batches.back())}}});
        client->send(request, kProduceVersion);
    }
    for (int64_t i = 0; i < 60; ++i) {
        const auto answer = client->receive<ProduceResponse>(kProduceVersion);
        ASSERT_TRUE(answer);
        for (const auto& partition : answer->responses[0].partition_responses) {
            ASSERT_EQ(partition.error_code, 0);
            ASSERT_EQ(partition.base_offset, i);
        }
    }
}

TEST_F(ServerTest, without_acks_there_is_no_answer_and_an_error_closes) {
    create("a");
    const auto batch = make_batch({"x"});
    client->send(produce_request("a", 0, batch, 0), kProduceVersion);
    client->skip_answer();
    client->send(ApiVersionsRequest{}, 0);
    EXPECT_TRUE(client->receive<ApiVersionsResponse>(0));
    EXPECT_EQ(list_offset("a", -1).offset, 1);
    client->send(produce_request("nowhere", 0, batch, 0), kProduceVersion);
    EXPECT_FALSE(client->receive<ProduceResponse>(kProduceVersion));
    client->settle();
    EXPECT_TRUE(client->closed());
}

// A producer with acks=0 sends its last records and closes. 1. A batch that takes long to check
// comes first. 2. Small ones for other partitions wait behind it. 3. The client is gone.
TEST_F(ServerTest, what_a_client_sent_before_it_closed_is_carried_out) {
    create("a", 4);
    const auto slow = make_batch(std::vector<std::string>(2000, std::string(1000, 'x')),
                                 {.compression = Compression::kGzip});
    const auto small = make_batch({"y"});
    for (const int16_t acks : {int16_t{0}, int16_t{1}, int16_t{-1}}) {
        const int64_t before = list_offset("a", -1).offset;
        {
            TestClient leaver(loop, node->server(), 4_MiB);
            leaver.send(produce_request("a", 0, slow, acks), kProduceVersion);
            for (int i = 0; i < 200; ++i)
                leaver.send(produce_request("a", i % 4, small, acks), kProduceVersion);
        }
        client->settle(100ms);
        EXPECT_EQ(list_offset("a", -1).offset, before + 2000 + 50) << "acks " << acks;
        EXPECT_EQ(node->server().connection_count(), 1u) << "and the connection is gone after them";
    }
    EXPECT_EQ(node->memory().used(), 0u);
}

// Only its wait ends with the client, so that a request behind it has its turn.
TEST_F(ServerTest, a_fetch_that_waits_does_not_keep_a_client_that_closed) {
    create("a", 1);
    const auto batch = make_batch({"x"});
    {
        TestClient leaver(loop, node->server());
        leaver.send(fetch_request({{"a", 0, 0}}, 60'000), kFetchVersion);
        leaver.settle();
        leaver.send(MetadataRequest{}, 9);
        leaver.send(produce_request("a", 0, batch, 0), kProduceVersion);
    }
    client->settle(10ms);
    EXPECT_EQ(list_offset("a", -1).offset, 1);
    EXPECT_EQ(node->server().connection_count(), 1u);
}

TEST_F(ServerTest, a_silent_connection_is_closed_and_one_that_waits_is_not) {
    restart({{"connections.max.idle.ms", "10000"}});
    create("a");
    TestClient waiting(loop, node->server());
    waiting.send(fetch_request({{"a", 0, 0}}, 60'000), kFetchVersion);
    TestClient idle(loop, node->server());
    idle.settle(11s);
    EXPECT_TRUE(idle.closed());
    EXPECT_FALSE(waiting.closed());
    waiting.settle(60s);
    EXPECT_TRUE(waiting.receive<FetchResponse>(kFetchVersion));
}

TEST_F(ServerTest, half_a_request_is_waited_for_a_while_and_no_longer) {
    TestClient slow(loop, node->server());
    slow.send_raw({0, 0, 1, 0, 0});
    slow.settle(29s);
    EXPECT_FALSE(slow.closed());
    slow.settle(2s);
    EXPECT_TRUE(slow.closed());
}

TEST_F(ServerTest, a_client_that_never_reads_is_closed_and_gives_everything_back) {
    create("a");
    for (int i = 0; i < 5; ++i)
        ASSERT_EQ(produce("a", 0, make_batch({std::string(900'000, 'x')})).error_code, 0);
    TestClient deaf(loop, node->server(), 1024);
    for (int i = 0; i < 20; ++i) deaf.send(fetch_request({{"a", 0, 0, 5 << 20}}), kFetchVersion);
    deaf.settle(10s);
    EXPECT_FALSE(deaf.closed());
    EXPECT_LT(node->server().fetch_bytes().available(),
              static_cast<int64_t>(node->server().fetch_bytes().total()));
    EXPECT_EQ(list_offset("a", -1).offset, 5) << "others are served";
    deaf.settle(40s);
    EXPECT_TRUE(deaf.closed());
    EXPECT_EQ(node->server().fetch_bytes().available(),
              static_cast<int64_t>(node->server().fetch_bytes().total()));
}

TEST_F(ServerTest, clients_that_never_read_do_not_keep_others_waiting_and_are_closed_sooner) {
    create("a");
    for (int i = 0; i < 5; ++i)
        ASSERT_EQ(produce("a", 0, make_batch({std::string(900'000, 'x')})).error_code, 0);
    std::vector<std::unique_ptr<TestClient>> deaf;
    for (int i = 0; i < 30; ++i) {
        deaf.push_back(std::make_unique<TestClient>(loop, node->server(), 1024));
        for (int j = 0; j < 5; ++j)
            deaf.back()->send(fetch_request({{"a", 0, 0, 5 << 20}}), kFetchVersion);
    }
    deaf.front()->settle(100ms);
    const Instant asked = loop.driver().now();
    const FetchResponse answer = fetch({{"a", 0, 4, 5 << 20}});
    EXPECT_EQ(values_of(answer.responses.at(0).partitions.at(0)).size(), 1u);
    EXPECT_LT(loop.driver().now() - asked, 100ms);
    // Others go on to ask while there is too little for all.
    for (int i = 0; i < 9; ++i) {
        deaf.front()->settle(1s);
        EXPECT_EQ(fetch({{"a", 0, 4, 5 << 20}}).responses.at(0).partitions.at(0).error_code, 0);
    }
    EXPECT_FALSE(deaf.front()->closed());
    deaf.front()->settle(3s);
    for (const auto& client : deaf) EXPECT_TRUE(client->closed());
    EXPECT_EQ(node->server().fetch_bytes().available(),
              static_cast<int64_t>(node->server().fetch_bytes().total()));
}

// ---- metadata and topics

TEST_F(ServerTest, asking_for_a_topic_creates_it_where_both_sides_allow) {
    MetadataRequest request;
    request.topics->push_back({.name = "wanted"});
    request.allow_auto_topic_creation = false;
    EXPECT_EQ(client->call<MetadataResponse>(request, 12).topics.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    request.allow_auto_topic_creation = true;
    // As by Kafka, whose answer does not wait for the topic.
    const auto asked = client->call<MetadataResponse>(request, 12).topics.at(0);
    EXPECT_EQ(asked.error_code, error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(asked.name, "wanted");
    EXPECT_TRUE(asked.partitions.empty());
    const auto created = client->call<MetadataResponse>(request, 12).topics.at(0);
    EXPECT_EQ(created.error_code, 0);
    ASSERT_EQ(created.partitions.size(), 1u);
    EXPECT_EQ(created.partitions[0].error_code, 0) << "its leader is there";
    EXPECT_EQ(created.partitions[0].leader_id, 0);
    EXPECT_FALSE(created.topic_id.is_zero());
    for (int16_t version = 0; version <= 13; ++version) {
        MetadataRequest next;
        next.topics->push_back({.name = "wanted-in-" + std::to_string(version)});
        const auto first = client->call<MetadataResponse>(next, version).topics.at(0);
        EXPECT_EQ(first.error_code, error(KafkaError::kUnknownTopicOrPartition)) << version;
        EXPECT_TRUE(first.partitions.empty()) << version;
        const auto second = client->call<MetadataResponse>(next, version).topics.at(0);
        EXPECT_EQ(second.error_code, 0) << version;
        EXPECT_EQ(second.partitions.at(0).error_code, 0) << version;
    }
    restart({{"auto.create.topics.enable", "false"}});
    request.topics->at(0).name = "other";
    EXPECT_EQ(client->call<MetadataResponse>(request, 12).topics.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
}

TEST_F(ServerTest, null_and_empty_topics_mean_what_each_version_says) {
    create("a");
    create("b");
    EXPECT_EQ(client
                  ->call<MetadataResponse>(
                      MetadataRequest{.topics = std::vector<MetadataRequest::Topic>{}}, 0)
                  .topics.size(),
              2u);
    EXPECT_EQ(client
                  ->call<MetadataResponse>(
                      MetadataRequest{.topics = std::vector<MetadataRequest::Topic>{}}, 1)
                  .topics.size(),
              0u);
    EXPECT_EQ(
        client->call<MetadataResponse>(MetadataRequest{.topics = std::nullopt}, 1).topics.size(),
        2u);
    EXPECT_EQ(
        client->call<MetadataResponse>(MetadataRequest{.topics = std::nullopt}, 13).topics.size(),
        2u);
}

TEST_F(ServerTest, a_topic_is_found_by_id_and_has_a_new_one_after_it_was_made_again) {
    const Uuid first = create("a");
    MetadataRequest by_id;
    by_id.topics->push_back({.topic_id = first, .name = std::nullopt});
    EXPECT_EQ(client->call<MetadataResponse>(by_id, 12).topics.at(0).name, "a");
    for (const std::string other : {"", "b"}) {
        MetadataRequest named = by_id;
        named.topics->at(0).name = other;
        EXPECT_EQ(client->call<MetadataResponse>(named, 13).topics.at(0).name, "a")
            << "an id counts whatever the name";
    }
    ASSERT_EQ(produce("a", 0, make_batch({"old"})).error_code, 0);
    DeleteTopicsRequest gone;
    gone.topic_names = {"a", "never"};
    const auto deleted = client->call<DeleteTopicsResponse>(gone, 5);
    EXPECT_EQ(deleted.responses.at(0).error_code, 0);
    EXPECT_EQ(deleted.responses.at(1).error_code, error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(client->call<MetadataResponse>(by_id, 12).topics.at(0).error_code,
              error(KafkaError::kUnknownTopicId));
    EXPECT_EQ(produce("a", 0, make_batch({"x"})).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    const Uuid second = create("a");
    EXPECT_NE(first, second);
    EXPECT_EQ(list_offset("a", -1).offset, 0);

    const auto batch = make_batch({"x"});
    ProduceRequest stale = produce_request("", 0, batch);
    stale.topic_data[0].topic_id = first;
    EXPECT_EQ(client->call<ProduceResponse>(stale, 13)
                  .responses.at(0)
                  .partition_responses.at(0)
                  .error_code,
              error(KafkaError::kUnknownTopicId));
    stale.topic_data[0].topic_id = second;
    EXPECT_EQ(client->call<ProduceResponse>(stale, 13)
                  .responses.at(0)
                  .partition_responses.at(0)
                  .error_code,
              0);
}

TEST_F(ServerTest, creation_echoes_configuration_with_its_sources) {
    CreateTopicsRequest request;
    request.topics.push_back({.name = "a",
                              .num_partitions = -1,
                              .replication_factor = -1,
                              .configs = {{"retention.ms", "77"}}});
    const auto response = client->call<CreateTopicsResponse>(request, 7);
    const auto& topic = response.topics.at(0);
    EXPECT_EQ(topic.num_partitions, 1);
    EXPECT_EQ(topic.replication_factor, 1);
    bool found = false;
    for (const auto& config : *topic.configs) {
        if (config.name == "retention.ms") {
            found = true;
            EXPECT_EQ(config.value, "77");
            EXPECT_EQ(config.config_source, 1);
        }
        if (config.name == "segment.bytes") EXPECT_EQ(config.config_source, 5);
    }
    EXPECT_TRUE(found);
    request.topics[0].name = "a.b";
    request.validate_only = true;
    EXPECT_EQ(client->call<CreateTopicsResponse>(request, 7).topics.at(0).error_code, 0);
    EXPECT_EQ(node->server().image().find("a.b"), nullptr);
}

TEST_F(ServerTest, topics_are_described_page_by_page) {
    create("a", 3);
    create("b", 3);
    DescribeTopicPartitionsRequest request;
    request.response_partition_limit = 4;
    const auto first = client->call<DescribeTopicPartitionsResponse>(request, 0);
    ASSERT_EQ(first.topics.size(), 2u);
    EXPECT_EQ(first.topics[1].partitions.size(), 1u);
    ASSERT_TRUE(first.next_cursor);
    request.cursor = {first.next_cursor->topic_name, first.next_cursor->partition_index};
    const auto second = client->call<DescribeTopicPartitionsResponse>(request, 0);
    ASSERT_EQ(second.topics.size(), 1u);
    EXPECT_EQ(second.topics[0].partitions.size(), 2u);
    EXPECT_EQ(second.topics[0].partitions[0].partition_index, 1);
    EXPECT_FALSE(second.next_cursor);
}

// ---- produce

TEST_F(ServerTest, what_is_produced_is_fetched_byte_for_byte_but_for_what_the_broker_writes) {
    create("a", 4);
    for (int32_t p = 0; p < 4; ++p) {
        EXPECT_EQ(produce("a", p, make_batch({"one", "two"})).base_offset, 0);
        EXPECT_EQ(
            produce("a", p, make_batch({"three"}, {.compression = Compression::kGzip})).base_offset,
            2);
    }
    const auto response = fetch({{"a", 0}, {"a", 1}, {"a", 2}, {"a", 3, 1}});
    ASSERT_EQ(response.responses.size(), 1u);
    for (const auto& partition : response.responses[0].partitions) {
        EXPECT_EQ(partition.high_watermark, 3);
        EXPECT_EQ(partition.last_stable_offset, 3);
        EXPECT_EQ(partition.log_start_offset, 0);
        EXPECT_EQ(values_of(partition), (std::vector<std::string>{"one", "two", "three"}))
            << "from the batch that holds the offset on";
    }
}

TEST_F(ServerTest, each_fault_of_a_batch_has_its_error) {
    create("a");
    create("compacted", 1, {{"cleanup.policy", "compact"}});
    create("small", 1, {{"max.message.bytes", "200"}});
    auto corrupt = make_batch({"x"});
    corrupt.back() ^= 1;
    EXPECT_EQ(produce("a", 0, corrupt).error_code, error(KafkaError::kCorruptMessage));
    EXPECT_EQ(produce("a", 1, make_batch({"x"})).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    auto two = make_batch({"x"});
    const auto again = make_batch({"y"});
    two.insert(two.end(), again.begin(), again.end());
    EXPECT_EQ(produce("a", 0, two).error_code, error(KafkaError::kInvalidRecord));
    const auto keyless = produce("compacted", 0, make_batch({"x"}));
    EXPECT_EQ(keyless.error_code, error(KafkaError::kInvalidRecord));
    EXPECT_EQ(keyless.record_errors.size(), 1u);
    EXPECT_EQ(produce("small", 0, make_batch({std::string(300, 'x')})).error_code,
              error(KafkaError::kMessageTooLarge));
    const int64_t far = int64_t{10} * 3600 * 1000;
    EXPECT_EQ(produce("a", 0, make_batch({"x"}, {.timestamp_ms = far})).error_code,
              error(KafkaError::kInvalidTimestamp));
    EXPECT_EQ(produce("a", 0, make_batch({"x"}, {.compression = Compression::kZstd}), 6).error_code,
              error(KafkaError::kUnsupportedCompressionType));
    const auto batch = make_batch({"x"});
    ProduceRequest odd = produce_request("a", 0, batch, 2);
    EXPECT_EQ(client->call<ProduceResponse>(odd, kProduceVersion)
                  .responses.at(0)
                  .partition_responses.at(0)
                  .error_code,
              error(KafkaError::kInvalidRequiredAcks));
    EXPECT_EQ(list_offset("a", -1).offset, 0) << "nothing of all this was appended";
}

TEST_F(ServerTest, with_log_append_time_the_brokers_clock_stamps) {
    create("a", 1, {{"message.timestamp.type", "LogAppendTime"}});
    client->settle(5s);
    const auto answer = produce("a", 0, make_batch({"x"}, {.timestamp_ms = 1}));
    EXPECT_GE(answer.log_append_time_ms, 5000);
    const auto found = list_offset("a", -3);
    EXPECT_EQ(found.timestamp, answer.log_append_time_ms);
    EXPECT_EQ(values_of(fetch({{"a", 0}}).responses.at(0).partitions.at(0)).size(), 1u)
        << "the CRC follows the stamp";
}

TEST_F(ServerTest, a_topics_codec_replaces_the_producers) {
    create("packed", 1, {{"compression.type", "zstd"}});
    create("plain", 1, {{"compression.type", "uncompressed"}});
    EXPECT_EQ(produce("packed", 0, make_batch({std::string(1000, 'x')})).error_code, 0);
    EXPECT_EQ(produce("plain", 0,
                      make_batch({std::string(1000, 'x')}, {.compression = Compression::kGzip}))
                  .error_code,
              0);
    const auto response = fetch({{"packed", 0}, {"plain", 0}});
    for (const auto& topic : response.responses) {
        const auto& partition = topic.partitions.at(0);
        const BatchHeader header = load_batch_header(partition.records.parts.at(0));
        EXPECT_EQ(header.compression(),
                  topic.topic == "packed" ? Compression::kZstd : Compression::kNone);
        EXPECT_EQ(values_of(partition).at(0).size(), 1000u);
    }
}

TEST_F(ServerTest, a_batch_too_large_for_the_topics_codec_is_refused_before_it_is_unpacked) {
    create("plain", 1, {{"compression.type", "uncompressed"}});
    const auto answer = produce(
        "plain", 0, make_batch({std::string(30 << 20, 'x')}, {.compression = Compression::kGzip}));
    EXPECT_EQ(answer.error_code, error(KafkaError::kMessageTooLarge));
}

TEST_F(ServerTest, an_idempotent_batch_that_comes_again_is_answered_and_not_appended) {
    create("a");
    const auto init = client->call<InitProducerIdResponse>(
        InitProducerIdRequest{.transactional_id = std::nullopt}, 4);
    ASSERT_EQ(init.error_code, 0);
    const auto batch = [&](int32_t sequence) {
        return make_batch({"v" + std::to_string(sequence)},
                          {.producer_id = init.producer_id, .epoch = 0, .sequence = sequence});
    };
    for (int32_t i = 0; i < 7; ++i) ASSERT_EQ(produce("a", 0, batch(i)).base_offset, i);
    for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(produce("a", 0, batch(3)).base_offset, 3);
        EXPECT_EQ(produce("a", 0, batch(6)).base_offset, 6);
        EXPECT_EQ(produce("a", 0, batch(1)).error_code,
                  error(KafkaError::kOutOfOrderSequenceNumber));
        EXPECT_EQ(produce("a", 0, batch(8)).error_code,
                  error(KafkaError::kOutOfOrderSequenceNumber));
        EXPECT_EQ(list_offset("a", -1).offset, 7);
        restart();  // the power went, and what is remembered is the same
    }
    EXPECT_EQ(produce("a", 0, batch(7)).base_offset, 7);
    const auto next = client->call<InitProducerIdResponse>(
        InitProducerIdRequest{.transactional_id = std::nullopt}, 4);
    EXPECT_GT(next.producer_id, init.producer_id) << "an id never comes twice";
    EXPECT_NE(
        client->call<InitProducerIdResponse>(InitProducerIdRequest{.transactional_id = "tx"}, 4)
            .error_code,
        0);
}

TEST_F(ServerTest, trouble_with_the_disk_is_an_error_that_clients_retry) {
    create("a", 3);
    for (uint32_t i = 0; i < TestNode::kShards; ++i)
        stores.store(i).fail_with(ErrorCode::kDiskFull);
    EXPECT_EQ(produce("a", 0, make_batch({"x"})).error_code, error(KafkaError::kKafkaStorageError));
    for (uint32_t i = 0; i < TestNode::kShards; ++i) stores.store(i).heal();
    EXPECT_EQ(produce("a", 0, make_batch({"x"})).error_code, 0);
}

// ---- fetch

TEST_F(ServerTest, a_fetch_waits_for_data_and_no_longer_than_it_said) {
    create("a", 3);
    const Instant begin = loop.driver().now();
    client->send(fetch_request({{"a", 0}, {"a", 1}, {"a", 2}}, 2'000), kFetchVersion);
    ASSERT_TRUE(client->receive<FetchResponse>(kFetchVersion));
    EXPECT_GE(loop.driver().now() - begin, Duration(2s));
    EXPECT_LT(loop.driver().now() - begin, Duration(3s));

    TestClient consumer(loop, node->server());
    consumer.send(fetch_request({{"a", 0}, {"a", 1}, {"a", 2}}, 60'000), kFetchVersion);
    consumer.settle(1s);
    const Instant before = loop.driver().now();
    ASSERT_EQ(produce("a", 1, make_batch({"x"})).error_code, 0);
    const auto woken = consumer.receive<FetchResponse>(kFetchVersion);
    ASSERT_TRUE(woken);
    EXPECT_LT(loop.driver().now() - before, Duration(1s));
    EXPECT_EQ(values_of(woken->responses.at(0).partitions.at(1)).size(), 1u);
    for (uint32_t i = 0; i < TestNode::kShards; ++i) {
        consumer.settle();
        EXPECT_EQ(node->server(i).partitions().watches().size(), 0u);
    }
}

TEST_F(ServerTest, min_bytes_count_over_all_partitions) {
    create("a", 3);
    const auto batch = make_batch({std::string(1000, 'x')});
    TestClient consumer(loop, node->server());
    consumer.send(fetch_request({{"a", 0}, {"a", 1}, {"a", 2}}, 60'000, 3'000), kFetchVersion);
    const Instant begin = loop.driver().now();
    for (int32_t p = 0; p < 3; ++p) {
        consumer.settle(1s);
        ASSERT_EQ(produce("a", p, batch).error_code, 0);
    }
    const auto woken = consumer.receive<FetchResponse>(kFetchVersion);
    ASSERT_TRUE(woken);
    size_t size = 0;
    for (const auto& partition : woken->responses.at(0).partitions)
        size += partition.records.size();
    EXPECT_GE(size, 3'000u);
    EXPECT_LT(loop.driver().now() - begin, Duration(10s));
}

// Kafka takes the least of min_bytes, max_bytes and fetch.max.bytes; and a partition's own limit,
// where more may come, is what it waits for.
TEST_F(ServerTest, min_bytes_beyond_what_an_answer_may_hold_are_not_waited_for) {
    restart({{"fetch.max.bytes", "40000"}});
    create("a", 3);
    const auto batch = make_batch({std::string(10'000, 'x')});
    for (int i = 0; i < 8; ++i) {
        ASSERT_EQ(produce("a", 0, batch).error_code, 0);
        ASSERT_EQ(produce("a", 1, batch).error_code, 0);
    }
    const auto waits = [&](const std::vector<Wanted>& wanted, int32_t min, int32_t max) {
        const Instant begin = loop.driver().now();
        const auto answer = fetch(wanted, 10'000, min, max);
        EXPECT_GT(answer.responses.at(0).partitions.at(0).records.size(), 0u);
        return loop.driver().now() - begin >= Duration(10s);
    };
    EXPECT_FALSE(waits({{"a", 0}}, 30'000, 20'500)) << "max_bytes";
    EXPECT_FALSE(waits({{"a", 0}}, INT32_MAX, 20'500));
    EXPECT_FALSE(waits({{"a", 0}}, 30'000, 25'000)) << "two batches fit, and no third one";
    EXPECT_FALSE(waits({{"a", 0}}, 60'000, 1 << 20)) << "the node's own";
    EXPECT_FALSE(waits({{"a", 0}, {"a", 1}, {"a", 2}}, 60'000, 1 << 20)) << "of several shards";
    EXPECT_TRUE(waits({{"a", 0, 0, 15'000}}, 30'000, 1 << 20)) << "the partition's, as in Kafka";
    EXPECT_FALSE(waits({{"a", 0, 0, 15'000}, {"a", 1, 0, 15'000}}, 30'000, 1 << 20))
        << "two partitions with as much between them";
}

TEST_F(ServerTest, the_first_partition_with_data_gives_a_batch_above_every_limit) {
    create("a", 3);
    const auto large = make_batch({std::string(10'000, 'x')});
    for (int32_t p = 0; p < 3; ++p) {
        for (int i = 0; i < 3; ++i) ASSERT_EQ(produce("a", p, large).error_code, 0);
    }
    const auto sizes = [](const FetchResponse& response) {
        std::vector<size_t> sizes;
        for (const auto& partition : response.responses.at(0).partitions)
            sizes.push_back(partition.records.size());
        return sizes;
    };
    const size_t one = large.size();
    EXPECT_EQ(sizes(fetch({{"a", 0, 0, 1}, {"a", 1, 0, 1}}, 0, 1, 1)),
              (std::vector<size_t>{one, 0}));
    EXPECT_EQ(sizes(fetch({{"a", 0, 3, 1}, {"a", 1, 0, 1}}, 0, 1, 1)),
              (std::vector<size_t>{0, one}));
    // max_bytes bounds the sum, partition_max_bytes each but the first.
    EXPECT_EQ(
        sizes(fetch({{"a", 0}, {"a", 1}, {"a", 2}}, 0, 1, static_cast<int32_t>(4 * one))).at(0),
        3 * one);
    const auto bounded = fetch({{"a", 0, 0, 100'000}, {"a", 1, 0, 100'000}, {"a", 2, 0, 100'000}},
                               0, 1, static_cast<int32_t>(4 * one));
    size_t total = 0;
    for (const size_t size : sizes(bounded)) total += size;
    EXPECT_LE(total, 4 * one);
    EXPECT_EQ(sizes(fetch({{"a", 0, 0, static_cast<int32_t>(2 * one)}})).at(0), 2 * one);
}

TEST_F(ServerTest, offsets_and_epochs_that_are_not_there_are_refused_by_partition) {
    create("a", 2);
    ASSERT_EQ(produce("a", 0, make_batch({"x", "y"})).error_code, 0);
    EXPECT_EQ(fetch({{"a", 0, 2}}).responses.at(0).partitions.at(0).error_code, 0)
        << "the end is in order";
    EXPECT_EQ(fetch({{"a", 0, 3}}).responses.at(0).partitions.at(0).error_code,
              error(KafkaError::kOffsetOutOfRange));
    EXPECT_EQ(fetch({{"a", 0, -1}}).responses.at(0).partitions.at(0).error_code,
              error(KafkaError::kOffsetOutOfRange));
    const auto mixed = fetch({{"nowhere", 0}, {"a", 7}, {"a", 0}}, 60'000);
    EXPECT_EQ(mixed.responses.at(0).partitions.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(mixed.responses.at(1).partitions.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(mixed.responses.at(1).partitions.at(1).error_code, 0);

    FetchRequest epochs = fetch_request({{"a", 0}});
    epochs.topics[0].partitions[0].current_leader_epoch = 0;
    EXPECT_EQ(
        client->call<FetchResponse>(epochs, kFetchVersion).responses[0].partitions[0].error_code,
        error(KafkaError::kFencedLeaderEpoch));
    epochs.topics[0].partitions[0].current_leader_epoch = 2;
    EXPECT_EQ(
        client->call<FetchResponse>(epochs, kFetchVersion).responses[0].partitions[0].error_code,
        error(KafkaError::kUnknownLeaderEpoch));
}

TEST_F(ServerTest, an_incremental_fetch_answers_what_changed) {
    create("a");
    create("b");
    FetchRequest open = fetch_request({{"a", 0}, {"b", 0}});
    open.session_epoch = 0;
    const auto full = client->call<FetchResponse>(open, kFetchVersion);
    ASSERT_NE(full.session_id, 0);
    EXPECT_EQ(full.responses.size(), 2u);
    FetchRequest next = fetch_request({});
    next.session_id = full.session_id;
    next.session_epoch = 1;
    EXPECT_TRUE(client->call<FetchResponse>(next, kFetchVersion).responses.empty());
    ASSERT_EQ(produce("b", 0, make_batch({"x"})).error_code, 0);
    next.session_epoch = 2;
    const auto changed = client->call<FetchResponse>(next, kFetchVersion);
    ASSERT_EQ(changed.responses.size(), 1u);
    EXPECT_EQ(changed.responses[0].topic, "b");
    EXPECT_EQ(client->call<FetchResponse>(next, kFetchVersion).error_code,
              error(KafkaError::kInvalidFetchSessionEpoch));
}

TEST_F(ServerTest, a_fetch_that_waits_learns_that_its_topic_was_deleted) {
    create("a");
    TestClient consumer(loop, node->server());
    consumer.send(fetch_request({{"a", 0}}, 60'000), kFetchVersion);
    consumer.settle(1s);
    DeleteTopicsRequest gone;
    gone.topic_names = {"a"};
    EXPECT_EQ(client->call<DeleteTopicsResponse>(gone, 5).responses.at(0).error_code, 0);
    const auto woken = consumer.receive<FetchResponse>(kFetchVersion);
    ASSERT_TRUE(woken);
    EXPECT_EQ(woken->responses.at(0).partitions.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
}

// ---- offsets

TEST_F(ServerTest, offsets_by_time_are_those_of_records) {
    create("a");
    ASSERT_EQ(produce("a", 0, make_batch({"x", "y", "z"}, {.timestamp_ms = 1000})).error_code, 0);
    ASSERT_EQ(produce("a", 0, make_batch({"x", "y"}, {.timestamp_ms = 500})).error_code, 0);
    EXPECT_EQ(list_offset("a", -2).offset, 0);
    EXPECT_EQ(list_offset("a", -1).offset, 5);
    EXPECT_EQ(list_offset("a", -1).leader_epoch, 1);
    EXPECT_EQ(list_offset("a", 1001).offset, 1);
    EXPECT_EQ(list_offset("a", 1001).timestamp, 1001);
    EXPECT_EQ(list_offset("a", 0).offset, 0);
    EXPECT_EQ(list_offset("a", 5000).offset, -1) << "none is not an error";
    EXPECT_EQ(list_offset("a", 5000).error_code, 0);
    EXPECT_EQ(list_offset("a", -3).offset, 2);
    EXPECT_EQ(list_offset("a", -3).timestamp, 1002);
    EXPECT_EQ(list_offset("a", -3, 6).error_code, error(KafkaError::kUnsupportedVersion));
    EXPECT_EQ(list_offset("a", -4, 8).offset, 0);
    EXPECT_EQ(list_offset("a", -5, 9).offset, -1);
    EXPECT_EQ(list_offset("a", -1, 0).old_style_offsets, std::vector<int64_t>{5});
}

TEST_F(ServerTest, deleted_records_are_out_of_reach_to_the_record) {
    create("a");
    ASSERT_EQ(produce("a", 0, make_batch({"x", "y", "z"}, {.timestamp_ms = 1000})).error_code, 0);
    const auto remove = [&](int64_t before) {
        DeleteRecordsRequest request;
        request.topics.push_back(
            {.name = "a", .partitions = {{.partition_index = 0, .offset = before}}});
        return client->call<DeleteRecordsResponse>(request, 2).topics.at(0).partitions.at(0);
    };
    EXPECT_EQ(remove(4).error_code, error(KafkaError::kOffsetOutOfRange));
    EXPECT_EQ(remove(1).low_watermark, 1);
    EXPECT_EQ(list_offset("a", -2).offset, 1);
    EXPECT_EQ(list_offset("a", 0).offset, 1);
    EXPECT_EQ(fetch({{"a", 0, 0}}).responses.at(0).partitions.at(0).error_code,
              error(KafkaError::kOffsetOutOfRange));
    EXPECT_EQ(remove(-1).low_watermark, 3);
    EXPECT_EQ(remove(1).low_watermark, 3) << "it never goes back";
}

TEST_F(ServerTest, the_end_of_an_epoch_is_told) {
    create("a");
    ASSERT_EQ(produce("a", 0, make_batch({"x", "y"})).error_code, 0);
    const auto ask = [&](int32_t epoch) {
        OffsetForLeaderEpochRequest request;
        request.topics.push_back(
            {.topic = "a", .partitions = {{.partition = 0, .leader_epoch = epoch}}});
        return client->call<OffsetForLeaderEpochResponse>(request, 4).topics.at(0).partitions.at(0);
    };
    EXPECT_EQ(ask(1).end_offset, 2);
    EXPECT_EQ(ask(1).leader_epoch, 1);
    EXPECT_EQ(ask(2).end_offset, -1);
}

// As Kafka's LeaderEpochFileCache: each life of the node is an epoch.
TEST_F(ServerTest, epochs_before_the_first_record_end_where_it_begins) {
    create("a");
    const auto remove = [&](int64_t before) {
        DeleteRecordsRequest request;
        request.topics.push_back(
            {.name = "a", .partitions = {{.partition_index = 0, .offset = before}}});
        return client->call<DeleteRecordsResponse>(request, 2).topics.at(0).partitions.at(0);
    };
    const auto ask = [&](int32_t epoch) {
        OffsetForLeaderEpochRequest request;
        request.topics.push_back(
            {.topic = "a", .partitions = {{.partition = 0, .leader_epoch = epoch}}});
        const auto answer =
            client->call<OffsetForLeaderEpochResponse>(request, 4).topics.at(0).partitions.at(0);
        return std::pair(answer.leader_epoch, answer.end_offset);
    };
    for (int life = 1; life <= 3; ++life) {
        if (life > 1) restart();
        for (int i = 0; i < 10; ++i)
            ASSERT_EQ(produce("a", 0, make_batch({std::to_string(life)})).error_code, 0);
    }
    const int32_t last = list_offset("a", -1).leader_epoch;
    EXPECT_EQ(list_offset("a", -2).leader_epoch, 1);
    EXPECT_EQ(list_offset("a", -4, 8).leader_epoch, 1);
    EXPECT_EQ(ask(0), std::pair(0, int64_t{0}));
    ASSERT_EQ(remove(15).low_watermark, 15);
    EXPECT_EQ(list_offset("a", -2).offset, 15);
    const int32_t second = list_offset("a", -2).leader_epoch;
    EXPECT_GT(second, 1);
    EXPECT_LT(second, last);
    EXPECT_EQ(ask(0), std::pair(0, int64_t{15}));
    EXPECT_EQ(ask(1), std::pair(1, int64_t{15})) << "(-1, -1) would be truncation to a client";
    EXPECT_EQ(ask(second), std::pair(second, int64_t{20}));
    ASSERT_EQ(remove(20).low_watermark, 20);
    EXPECT_EQ(list_offset("a", -2).leader_epoch, last);
    EXPECT_EQ(ask(1), std::pair(1, int64_t{20}));
    ASSERT_EQ(remove(-1).low_watermark, 30);
    EXPECT_EQ(list_offset("a", -2).leader_epoch, last) << "of the next record";
    // Who has read up to the start goes on there.
    FetchRequest request = fetch_request({{"a", 0, 30}});
    request.topics[0].partitions[0].last_fetched_epoch = 1;
    const auto answer = client->call<FetchResponse>(request, kFetchVersion);
    EXPECT_EQ(answer.responses.at(0).partitions.at(0).error_code, 0);
    EXPECT_EQ(answer.responses.at(0).partitions.at(0).diverging_epoch.epoch, -1);
}

// Names and values come back in messages; each resource of a request has its own answer.
TEST_F(ServerTest, an_error_that_quotes_a_long_name_is_said_in_a_short_text) {
    create("a");
    const std::string name(32'000, 'n');
    IncrementalAlterConfigsRequest request;
    request.resources.push_back({.resource_type = 2,
                                 .resource_name = "a",
                                 .configs = {{.name = name, .config_operation = 0, .value = "1"}}});
    request.resources.push_back(
        {.resource_type = 2,
         .resource_name = "a",
         .configs = {{.name = "retention.ms", .config_operation = 0, .value = name}}});
    request.resources.push_back(
        {.resource_type = 2,
         .resource_name = name,
         .configs = {{.name = "retention.ms", .config_operation = 0, .value = "1"}}});
    const auto altered = client->call<IncrementalAlterConfigsResponse>(request, 1);
    ASSERT_EQ(altered.responses.size(), 3u);
    for (const auto& response : altered.responses) {
        EXPECT_NE(response.error_code, 0);
        EXPECT_LE(response.error_message.value_or("").size(), kErrorTextMax);
    }
    UpdateFeaturesRequest features;
    features.feature_updates.push_back({.feature = name, .max_version_level = 1});
    EXPECT_NE(client->call<UpdateFeaturesResponse>(features, 1).results.size() +
                  client->call<UpdateFeaturesResponse>(features, 1).error_code,
              0);
    DescribeConfigsRequest describe;
    describe.resources.push_back({.resource_type = 2, .resource_name = name});
    EXPECT_NE(client->call<DescribeConfigsResponse>(describe, 4).results.at(0).error_code, 0);
}

// Kafka refuses a partition that ListOffsets names twice: one kilobyte could ask for minutes of
// work.
TEST_F(ServerTest, a_partition_that_list_offsets_names_twice_is_answered_once) {
    create("a", 2);
    ListOffsetsRequest request;
    request.replica_id = -1;
    for (int i = 0; i < 30; ++i)
        request.topics.push_back(
            {.name = "a", .partitions = {{.partition_index = 0, .timestamp = 1}}});
    request.topics.push_back(
        {.name = "a", .partitions = {{.partition_index = 1, .timestamp = -1}}});
    const auto answer = client->call<ListOffsetsResponse>(request, 7);
    std::vector<std::pair<int32_t, int16_t>> seen;
    for (const auto& topic : answer.topics) {
        for (const auto& partition : topic.partitions)
            seen.emplace_back(partition.partition_index, partition.error_code);
    }
    EXPECT_EQ(seen, (std::vector<std::pair<int32_t, int16_t>>{
                        {0, error(KafkaError::kInvalidRequest)}, {1, 0}}));
}

// ---- groups

class GroupTest : public ServerTest {
  protected:
    struct Member {
        std::string id;
        int32_t generation = -1;
        bool leads = false;
    };
    void find_coordinator() {
        const auto found =
            client->call<FindCoordinatorResponse>(FindCoordinatorRequest{.key = "g"}, 3);
        ASSERT_EQ(found.error_code, 0);
        EXPECT_EQ(found.port, 9092);
        client->settle();
    }
    JoinGroupRequest join_request(const std::string& member_id) {
        JoinGroupRequest request;
        request.group_id = "g";
        request.session_timeout_ms = 10'000;
        request.rebalance_timeout_ms = 20'000;
        request.member_id = member_id;
        request.protocol_type = "consumer";
        request.protocols.push_back({.name = "range", .metadata = {1, 2, 3}});
        return request;
    }
    Member join(TestClient& who) {
        const auto first = who.call<JoinGroupResponse>(join_request(""), 5);
        EXPECT_EQ(first.error_code, error(KafkaError::kMemberIdRequired));
        const auto second = who.call<JoinGroupResponse>(join_request(first.member_id), 5);
        EXPECT_EQ(second.error_code, 0);
        return {second.member_id, second.generation_id, second.leader == second.member_id};
    }
    SyncGroupResponse sync(TestClient& who, const Member& member) {
        SyncGroupRequest request;
        request.group_id = "g";
        request.generation_id = member.generation;
        request.member_id = member.id;
        if (member.leads)
            request.assignments.push_back({.member_id = member.id, .assignment = {9}});
        return who.call<SyncGroupResponse>(request, 3);
    }
    int16_t commit(TestClient& who, const Member& member, int64_t offset,
                   const std::string& topic = "a") {
        OffsetCommitRequest request;
        request.group_id = "g";
        request.generation_id_or_member_epoch = member.generation;
        request.member_id = member.id;
        request.topics.push_back(
            {.name = topic, .partitions = {{.partition_index = 0, .committed_offset = offset}}});
        return who.call<OffsetCommitResponse>(request, 7).topics.at(0).partitions.at(0).error_code;
    }
    int64_t committed(TestClient& who) {
        OffsetFetchRequest request;
        request.group_id = "g";
        request.topics->push_back({.name = "a", .partition_indexes = {0}});
        const auto answer = who.call<OffsetFetchResponse>(request, 7);
        EXPECT_EQ(answer.error_code, 0);
        return answer.topics.at(0).partitions.at(0).committed_offset;
    }
};

TEST_F(GroupTest, a_member_joins_commits_leaves_and_its_offsets_outlive_the_power) {
    create("a");
    find_coordinator();
    const Member member = join(*client);
    EXPECT_TRUE(member.leads);
    EXPECT_EQ(sync(*client, member).assignment, std::vector<uint8_t>{9});
    HeartbeatRequest heartbeat{
        .group_id = "g", .generation_id = member.generation, .member_id = member.id};
    EXPECT_EQ(client->call<HeartbeatResponse>(heartbeat, 3).error_code, 0);
    EXPECT_EQ(committed(*client), -1);
    EXPECT_EQ(commit(*client, member, 42), 0);
    EXPECT_EQ(commit(*client, member, 1, "nowhere"), error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(committed(*client), 42);
    const auto listed = client->call<ListGroupsResponse>(ListGroupsRequest{}, 4);
    ASSERT_EQ(listed.groups.size(), 1u);
    EXPECT_EQ(listed.groups[0].group_state, "Stable");
    const auto described =
        client->call<DescribeGroupsResponse>(DescribeGroupsRequest{.groups = {"g", "none"}}, 5);
    EXPECT_EQ(described.groups.at(0).members.size(), 1u);
    EXPECT_EQ(described.groups.at(0).members[0].client_host, "/10.0.0.1");
    EXPECT_EQ(described.groups.at(1).group_state, "Dead");
    restart();
    client->settle(1s);
    EXPECT_EQ(committed(*client), 42);
    LeaveGroupRequest leave{.group_id = "g", .member_id = member.id};
    EXPECT_EQ(client->call<LeaveGroupResponse>(leave, 2).error_code, 0)
        << "the member is known from its stored generation";
}

TEST_F(GroupTest, two_members_meet_in_one_generation) {
    create("a");
    find_coordinator();
    TestClient other(loop, node->server());
    const auto first = client->call<JoinGroupResponse>(join_request(""), 5);
    const auto second = other.call<JoinGroupResponse>(join_request(""), 5);
    client->send(join_request(first.member_id), 5);
    other.send(join_request(second.member_id), 5);
    const auto joined = client->receive<JoinGroupResponse>(5);
    const auto also = other.receive<JoinGroupResponse>(5);
    ASSERT_TRUE(joined && also);
    EXPECT_EQ(joined->generation_id, also->generation_id);
    EXPECT_EQ(joined->members.size() + also->members.size(), 2u)
        << "the leader alone learns of all";
    // The one who does not lead waits for the leader's assignment.
    const bool client_leads = joined->leader == joined->member_id;
    TestClient& leader = client_leads ? *client : other;
    TestClient& follower = client_leads ? other : *client;
    const Member follows{client_leads ? second.member_id : first.member_id, joined->generation_id,
                         false};
    const Member leads{client_leads ? first.member_id : second.member_id, joined->generation_id,
                       true};
    SyncGroupRequest waits{
        .group_id = "g", .generation_id = follows.generation, .member_id = follows.id};
    follower.send(waits, 3);
    follower.settle(1s);
    EXPECT_EQ(sync(leader, leads).error_code, 0);
    EXPECT_TRUE(follower.receive<SyncGroupResponse>(3));
}

TEST_F(GroupTest, a_connection_that_goes_while_its_join_waits_leaves_nothing_behind) {
    create("a");
    find_coordinator();
    {
        TestClient leaver(loop, node->server());
        const auto first = leaver.call<JoinGroupResponse>(join_request(""), 5);
        leaver.send(join_request(first.member_id), 5);
        leaver.settle();
    }
    client->settle(10ms);
    EXPECT_EQ(node->server().connection_count(), 1u);
}

TEST_F(GroupTest, offsets_of_a_deleted_topic_are_gone) {
    create("a");
    find_coordinator();
    const Member simple{"", -1, false};
    EXPECT_EQ(commit(*client, simple, 7), 0);
    DeleteTopicsRequest gone;
    gone.topic_names = {"a"};
    client->call<DeleteTopicsResponse>(gone, 5);
    create("a");
    client->settle();
    EXPECT_EQ(committed(*client), -1);
}

TEST_F(GroupTest, a_log_of_offsets_that_grows_is_written_again_and_cut) {
    restart({{"offsets.topic.rewrite.bytes", "65536"}, {"offsets.topic.num.partitions", "1"}});
    create("a");
    find_coordinator();
    const Member simple{"", -1, false};
    for (int64_t i = 0; i < 2000; ++i) ASSERT_EQ(commit(*client, simple, i), 0);
    client->settle(1s);
    const cluster::TopicImage* topic = node->server().image().find("__consumer_offsets");
    ASSERT_NE(topic, nullptr);
    const storage::LogId id = topic->partitions[0].log;
    const storage::Log* log = stores.store(storage::owner_of(id, TestNode::kShards)).find(id);
    EXPECT_GT(log->start_offset(), 500);
    EXPECT_LT(log->size_bytes(), 200'000u);
    restart({{"offsets.topic.rewrite.bytes", "65536"}, {"offsets.topic.num.partitions", "1"}});
    client->settle(1s);
    EXPECT_EQ(committed(*client), 1999);
}

TEST_F(GroupTest, without_a_coordinator_clients_are_told_to_look_for_one) {
    EXPECT_EQ(client->call<JoinGroupResponse>(join_request(""), 5).error_code,
              error(KafkaError::kNotCoordinator));
    const auto found = client->call<FindCoordinatorResponse>(
        FindCoordinatorRequest{.key_type = 1, .coordinator_keys = {"tx"}}, 4);
    // librdkafka asks for ever after any other code but CLUSTER_AUTHORIZATION_FAILED.
    EXPECT_EQ(found.coordinators.at(0).error_code,
              error(KafkaError::kTransactionalIdAuthorizationFailed));
}

// ---- configuration

TEST_F(ServerTest, an_altered_option_is_described_with_its_source_and_synonyms) {
    create("a");
    IncrementalAlterConfigsRequest alter;
    alter.resources.push_back(
        {.resource_type = 2,
         .resource_name = "a",
         .configs = {{.name = "retention.ms", .config_operation = 0, .value = "5"}}});
    alter.resources.push_back(
        {.resource_type = 2,
         .resource_name = "a2",
         .configs = {{.name = "retention.ms", .config_operation = 0, .value = "5"}}});
    alter.resources.push_back(
        {.resource_type = 4,
         .resource_name = "",
         .configs = {{.name = "log.retention.ms", .config_operation = 0, .value = "6"}}});
    const auto altered = client->call<IncrementalAlterConfigsResponse>(alter, 1);
    EXPECT_EQ(altered.responses.at(0).error_code, 0);
    EXPECT_EQ(altered.responses.at(1).error_code, error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(altered.responses.at(2).error_code, 0);
    DescribeConfigsRequest describe;
    describe.include_synonyms = true;
    describe.resources.push_back({.resource_type = 2,
                                  .resource_name = "a",
                                  .configuration_keys = std::vector<std::string>{"retention.ms"}});
    const auto described = client->call<DescribeConfigsResponse>(describe, 4);
    ASSERT_EQ(described.results.at(0).configs.size(), 1u);
    const auto& config = described.results[0].configs[0];
    EXPECT_EQ(config.value, "5");
    EXPECT_EQ(config.config_source, 1);
    ASSERT_EQ(config.synonyms.size(), 3u);
    EXPECT_EQ(config.synonyms[1].name, "log.retention.ms");
    EXPECT_EQ(config.synonyms[1].source, 3);
    EXPECT_EQ(config.synonyms[2].source, 5);
    const cluster::TopicImage* topic = node->server().image().find("a");
    const storage::LogId id = topic->partitions[0].log;
    EXPECT_EQ(
        stores.store(storage::owner_of(id, TestNode::kShards)).find(id)->config().retention_ms, 5)
        << "the log follows at once";
}

TEST_F(ServerTest, no_keys_ask_for_all_options_and_unknown_ones_keep_their_values_to_themselves) {
    create("a");
    IncrementalAlterConfigsRequest alter;
    alter.resources.push_back(
        {.resource_type = 4,
         .resource_name = "0",
         .configs = {
             {.name = "my.plugin", .config_operation = 0, .value = "secret"},
             {.name = "leader.replication.throttled.rate", .config_operation = 0, .value = "5"}}});
    EXPECT_EQ(client->call<IncrementalAlterConfigsResponse>(alter, 1).responses.at(0).error_code,
              0);
    DescribeConfigsRequest describe;
    for (const auto& [type, name] : {std::pair<int8_t, std::string>{2, "a"}, {4, "0"}}) {
        describe.resources.push_back(
            {.resource_type = type, .resource_name = name, .configuration_keys = std::nullopt});
        describe.resources.push_back({.resource_type = type, .resource_name = name});
    }
    // Of one resource that is named twice the first counts, so each is asked for by itself.
    std::vector<DescribeConfigsResponse::Resource> results;
    for (const auto& resource : describe.resources) {
        DescribeConfigsRequest one;
        one.resources.push_back(resource);
        results.push_back(client->call<DescribeConfigsResponse>(one, 4).results.at(0));
    }
    EXPECT_EQ(results[0].configs.size(), 37u) << "Kafka 4.4 has 36, and there is weir.durability";
    EXPECT_EQ(results[0].configs.size(), results[1].configs.size());
    EXPECT_GT(results[2].configs.size(), 350u);
    EXPECT_EQ(results[2].configs.size(), results[3].configs.size());
    size_t seen = 0;
    for (const auto& config : results[3].configs) {
        if (config.name == "my.plugin") {
            ++seen;
            EXPECT_EQ(config.value, std::nullopt);
            EXPECT_TRUE(config.is_sensitive);
            EXPECT_TRUE(config.read_only);
            EXPECT_EQ(config.config_source, 2);
        }
        if (config.name == "leader.replication.throttled.rate") {
            ++seen;
            EXPECT_EQ(config.value, "5");
            EXPECT_FALSE(config.read_only);
        }
    }
    EXPECT_EQ(seen, 2u);
}

TEST_F(ServerTest, the_cluster_is_described) {
    const auto cluster = client->call<DescribeClusterResponse>(DescribeClusterRequest{}, 1);
    EXPECT_EQ(cluster.cluster_id, node->server().image().cluster_id().to_string());
    ASSERT_EQ(cluster.brokers.size(), 1u);
    EXPECT_EQ(cluster.brokers[0].host, "node.test");
    EXPECT_EQ(client->call<DescribeClusterResponse>(DescribeClusterRequest{.endpoint_type = 2}, 1)
                  .error_code,
              error(KafkaError::kMismatchedEndpointType));
}

// ---- administration of a node that is alone

TEST_F(ServerTest, features_are_told_as_each_version_of_clients_can_bear_it) {
    ApiVersionsRequest request;
    request.client_software_name = "test";
    request.client_software_version = "1";
    for (const int16_t version : {int16_t{3}, int16_t{4}}) {
        const auto answer = client->call<ApiVersionsResponse>(request, version);
        ASSERT_EQ(answer.supported_features.size(), 1u);
        EXPECT_EQ(answer.supported_features[0].name, "weir.version");
        EXPECT_EQ(answer.supported_features[0].min_version, version < 4 ? 1 : 0);
        EXPECT_GE(answer.supported_features[0].max_version, 1);
        EXPECT_TRUE(answer.finalized_features.empty());  // level 0
    }
    UpdateFeaturesRequest update;
    update.feature_updates.push_back({.feature = "weir.version", .max_version_level = 1});
    update.validate_only = true;
    EXPECT_EQ(client->call<UpdateFeaturesResponse>(update, 1).error_code, 0);
    const auto before = client->call<ApiVersionsResponse>(request, 4);
    EXPECT_TRUE(before.finalized_features.empty());
    update.validate_only = false;
    const auto done = client->call<UpdateFeaturesResponse>(update, 1);
    EXPECT_EQ(done.error_code, 0);
    ASSERT_EQ(done.results.size(), 1u);
    EXPECT_EQ(done.results[0].error_code, 0);
    const auto after = client->call<ApiVersionsResponse>(request, 4);
    ASSERT_EQ(after.finalized_features.size(), 1u);
    EXPECT_EQ(after.finalized_features[0].name, "weir.version");
    EXPECT_EQ(after.finalized_features[0].min_version_level, 1);
    EXPECT_EQ(after.finalized_features[0].max_version_level, 1);
    EXPECT_GT(after.finalized_features_epoch, before.finalized_features_epoch);
}

TEST_F(ServerTest, features_that_can_not_be_are_refused_with_a_reason) {
    const auto refusal = [&](std::string feature, int16_t level, int8_t type, int16_t version) {
        UpdateFeaturesRequest request;
        request.feature_updates.push_back(
            {.feature = std::move(feature), .max_version_level = level});
        if (version > 0) request.feature_updates[0].upgrade_type = type;
        const auto answer = client->call<UpdateFeaturesResponse>(request, version);
        EXPECT_EQ(answer.error_code, error(KafkaError::kInvalidUpdateVersion));
        EXPECT_EQ(answer.results.size(), version < 2 ? 1u : 0u);
        return answer.error_message.value_or("");
    };
    EXPECT_NE(refusal("metadata.version", 20, 1, 2), "");
    EXPECT_NE(refusal("weir.version", 99, 1, 1), "");
    EXPECT_NE(refusal("weir.version", 1, 2, 1), "");  // a downgrade that would be none
    EXPECT_NE(refusal("weir.version", 1, 0, 1), "");  // unknown
    EXPECT_NE(refusal("weir.version", -1, 1, 0), "");
}

TEST_F(ServerTest, the_quorum_is_this_node) {
    create("t");
    DescribeQuorumRequest request;
    request.topics.push_back(
        {.topic_name = "__cluster_metadata", .partitions = {{.partition_index = 0}}});
    const auto answer = client->call<DescribeQuorumResponse>(request, 2);
    EXPECT_EQ(answer.error_code, 0);
    const auto& partition = answer.topics.at(0).partitions.at(0);
    EXPECT_EQ(partition.error_code, 0);
    EXPECT_EQ(partition.leader_id, 0);
    EXPECT_GE(partition.leader_epoch, 1);
    EXPECT_GT(partition.high_watermark, 0);
    ASSERT_EQ(partition.current_voters.size(), 1u);
    EXPECT_EQ(partition.current_voters[0].log_end_offset, partition.high_watermark);
    EXPECT_TRUE(partition.observers.empty());
    EXPECT_EQ(answer.nodes.size(), 1u);
    for (const auto& [topic, index] : {std::pair{"t", 0}, std::pair{"__cluster_metadata", 1}}) {
        request.topics = {{.topic_name = topic, .partitions = {{.partition_index = index}}}};
        EXPECT_EQ(client->call<DescribeQuorumResponse>(request, 2)
                      .topics.at(0)
                      .partitions.at(0)
                      .error_code,
                  error(KafkaError::kUnknownTopicOrPartition));
    }
    request.topics.clear();
    EXPECT_TRUE(client->call<DescribeQuorumResponse>(request, 0).topics.empty());
}

TEST_F(ServerTest, a_node_that_is_alone_elects_and_moves_nothing) {
    create("t", 2);
    ElectLeadersRequest elect;
    elect.topic_partitions.reset();
    for (const int8_t type : {int8_t{0}, int8_t{1}}) {
        elect.election_type = type;
        const auto all = client->call<ElectLeadersResponse>(elect, 2);
        EXPECT_EQ(all.error_code, 0);
        EXPECT_TRUE(all.replica_election_results.empty());  // nothing needs it
    }
    elect.topic_partitions.emplace();
    elect.topic_partitions->push_back({.topic = "t", .partitions = {1, 2}});
    elect.topic_partitions->push_back({.topic = "u", .partitions = {0}});
    const auto some = client->call<ElectLeadersResponse>(elect, 2);
    ASSERT_EQ(some.replica_election_results.size(), 2u);
    const auto& rows = some.replica_election_results[0].partition_result;
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].error_code, error(KafkaError::kElectionNotNeeded));
    EXPECT_EQ(rows[1].error_code, error(KafkaError::kUnknownTopicOrPartition));
    EXPECT_EQ(some.replica_election_results[1].partition_result.at(0).error_code,
              error(KafkaError::kUnknownTopicOrPartition));
    elect.election_type = 7;
    EXPECT_EQ(client->call<ElectLeadersResponse>(elect, 2).error_code,
              error(KafkaError::kInvalidRequest));

    AlterPartitionReassignmentsRequest alter;
    auto& topic = alter.topics.emplace_back();
    topic.name = "t";
    topic.partitions.push_back({.partition_index = 0, .replicas = {{0}}});
    topic.partitions.push_back({.partition_index = 1, .replicas = std::nullopt});
    const auto altered = client->call<AlterPartitionReassignmentsResponse>(alter, 1);
    EXPECT_EQ(altered.error_code, 0);
    const auto& results = altered.responses.at(0).partitions;
    EXPECT_EQ(results.at(0).error_code, 0);
    EXPECT_EQ(results.at(1).error_code, error(KafkaError::kNoReassignmentInProgress));
    topic.partitions = {{.partition_index = 0, .replicas = {{1}}}};
    EXPECT_EQ(client->call<AlterPartitionReassignmentsResponse>(alter, 0)
                  .responses.at(0)
                  .partitions.at(0)
                  .error_code,
              error(KafkaError::kInvalidReplicaAssignment));
    ListPartitionReassignmentsRequest list;
    list.topics.reset();
    EXPECT_TRUE(client->call<ListPartitionReassignmentsResponse>(list, 0).topics.empty());

    UnregisterBrokerRequest unregister;
    unregister.broker_id = 5;
    EXPECT_EQ(client->call<UnregisterBrokerResponse>(unregister, 0).error_code,
              error(KafkaError::kBrokerIdNotRegistered));
}

}  // namespace
}  // namespace weir::kafka
