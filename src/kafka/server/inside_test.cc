// Who produces and reads inside of the node: the same checks, order and waits as a client's
// requests, over three shards, stores in memory and a virtual clock.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kafka/protocol/create_topics.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "kafka/server/producing.h"
#include "kafka/server/reading.h"
#include "kafka/server/test_node.h"

namespace weir::kafka {
namespace {

using runtime::SharedBytes;
using runtime::Task;

SharedBytes batch_of(const std::vector<std::string>& values) {
    BatchBuilder builder;
    for (const std::string& value : values)
        builder.append({.timestamp = {1'000}, .key = {}, .value = as_bytes(value), .headers = {}});
    return SharedBytes::copy_of(*builder.build());
}

std::vector<std::string> values_of(const ReadPart& part) {
    std::vector<std::string> values;
    for (const SharedBytes& bytes : part.outcome.parts) {
        BatchIterator batches(bytes.bytes());
        while (const auto batch = batches.next()) {
            const auto open = OpenBatch::open(batch->bytes, 1_MiB);
            EXPECT_TRUE(open);
            RecordIterator records = open->records();
            while (const auto record = records.next()) values.emplace_back(as_text(*record->value));
        }
    }
    return values;
}

class Inside : public testing::Test {
  protected:
    Inside() {
        CreateTopicsRequest request;
        request.topics.push_back({.name = "t", .num_partitions = 4, .replication_factor = 1});
        TestClient client(loop, node.server());
        EXPECT_EQ(client.call<CreateTopicsResponse>(request, 7).topics.at(0).error_code, 0);
    }

    runtime::TestLoop loop{TestNode::kShards};
    storage::MemoryStoreSet stores{TestNode::kShards};
    TestNode node{loop, stores};
};

Task<void> produce_then_read(Server* server) {
    Producer producer(*server);
    std::vector<Producer::Batch> batches;
    for (int32_t i = 0; i < 4; ++i)
        batches.push_back({"t", i, batch_of({"a" + std::to_string(i), "b"})});
    batches.push_back({"none", 0, batch_of({"x"})});
    batches.push_back({"t", 0, SharedBytes::copy_of(std::vector<uint8_t>(80, 7))});
    const auto results = co_await producer.produce(std::move(batches), {});
    for (size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(results[i].outcome.error, KafkaError::kNone);
        EXPECT_EQ(results[i].outcome.base_offset, 0);
    }
    EXPECT_EQ(results[4].outcome.error, KafkaError::kUnknownTopicOrPartition);
    EXPECT_EQ(results[5].outcome.error, KafkaError::kCorruptMessage);
    co_await producer.close();

    std::vector<ReadPart> parts;
    for (int32_t i = 0; i < 4; ++i) parts.push_back(read_part(*server, "t", i, 0, 1_MiB));
    parts.push_back(read_part(*server, "none", 0, 0, 1_MiB));
    std::vector<ReadPart*> to_read;
    for (ReadPart& part : parts) to_read.push_back(&part);
    const ReadTotal total = co_await read_parts(*server, to_read, {.bytes_max = 8_MiB});
    EXPECT_GT(total.bytes, 0u);
    for (size_t i = 0; i < 4; ++i)
        EXPECT_EQ(values_of(parts[i]), (std::vector<std::string>{"a" + std::to_string(i), "b"}));
    EXPECT_EQ(parts[4].outcome.error, KafkaError::kUnknownTopicOrPartition);
}

TEST_F(Inside, what_is_produced_inside_is_checked_committed_and_read_inside) {
    loop.run(produce_then_read(&node.server()));
}

Task<void> produce_many(Server* server) {
    Producer producer(*server);
    std::vector<Task<std::vector<Producer::Result>>> calls;
    for (int i = 0; i < 20; ++i) {
        std::vector<Producer::Batch> batches;
        for (int32_t p = 0; p < 4; ++p) batches.push_back({"t", p, batch_of({std::to_string(i)})});
        calls.push_back(producer.produce(std::move(batches), {}));
    }
    const auto all = co_await runtime::all(std::move(calls));
    for (size_t i = 0; i < all.size(); ++i) {
        for (const Producer::Result& result : all[i])
            EXPECT_EQ(result.outcome.base_offset, static_cast<int64_t>(i));
    }
    co_await producer.close();
}

TEST_F(Inside, calls_that_wait_side_by_side_append_in_their_order_on_every_shard) {
    loop.run(produce_many(&node.server()));
    for (uint32_t i = 0; i < TestNode::kShards; ++i)
        EXPECT_EQ(node.server(i).append_turns().size(), 0u) << "the order's bookkeeping is gone";
}

Task<void> wait_for_news(Server* server) {
    ReadPart part = read_part(*server, "t", 1, 0, 1_MiB);
    const Instant began = runtime::Shard::current().now();
    (void)co_await read_parts(*server, {&part}, {.bytes_max = 1_MiB, .deadline = began + 2s});
    EXPECT_GE(runtime::Shard::current().now() - began, Duration(2s)) << "nothing came";

    runtime::Scope scope;
    scope.spawn([](Server* server) -> Task<void> {
        (void)co_await runtime::sleep_for(1s);
        Producer producer(*server);
        (void)co_await producer.produce({{"t", 1, batch_of({"x"})}}, {});
        co_await producer.close();
    }(server));
    const Instant before = runtime::Shard::current().now();
    (void)co_await read_parts(*server, {&part}, {.bytes_max = 1_MiB, .deadline = before + 60s});
    EXPECT_LT(runtime::Shard::current().now() - before, Duration(5s));
    EXPECT_EQ(values_of(part), std::vector<std::string>{"x"});
    co_await scope.close();
}

TEST_F(Inside, a_reader_inside_waits_for_data_and_no_longer_than_it_said) {
    loop.run(wait_for_news(&node.server()));
    for (uint32_t i = 0; i < TestNode::kShards; ++i)
        EXPECT_EQ(node.server(i).partitions().watches().size(), 0u);
}

}  // namespace
}  // namespace weir::kafka
