// DescribeProducers (KIP-664): which idempotent producers a partition remembers.
#include "kafka/protocol/describe_producers.h"

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/repeated.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

using Producers = std::optional<std::vector<ProducerStates::Producer>>;

Task<std::vector<Producers>> producers_here(Server& server, std::vector<storage::LogId> logs) {
    std::vector<Producers> all;
    for (const storage::LogId log : logs) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        Partition* partition = server.partitions().find(log);
        all.push_back(partition == nullptr ? std::nullopt : Producers(partition->producers()));
    }
    co_return all;
}

Task<DescribeProducersResponse> answer(Request& request, DescribeProducersRequest body) {
    Server& server = request.server;
    DescribeProducersResponse response;
    using Wanted = DescribeProducersRequest::Topic;
    drop_repeated_partitions(body.topics, &Wanted::name, &Wanted::partition_indexes);
    response.topics.resize(body.topics.size());
    std::vector<std::pair<runtime::ShardId, storage::LogId>> questions;
    std::vector<DescribeProducersResponse::Partition*> asked;
    for (size_t t = 0; t < body.topics.size(); ++t) {
        response.topics[t].name = body.topics[t].name;
        response.topics[t].partitions.resize(body.topics[t].partition_indexes.size());
        const cluster::TopicImage* topic = server.image().find(body.topics[t].name);
        for (size_t p = 0; p < body.topics[t].partition_indexes.size(); ++p) {
            DescribeProducersResponse::Partition& partition = response.topics[t].partitions[p];
            partition.partition_index = body.topics[t].partition_indexes[p];
            const FoundPartition found = find_partition(server, topic, partition.partition_index);
            partition.error_code = code(found.error);
            if (found.error != KafkaError::kNone) continue;
            questions.emplace_back(found.owner, found.log);
            asked.push_back(&partition);
        }
    }
    const auto answers =
        co_await fan_out<storage::LogId, Producers, producers_here>(server, std::move(questions));
    for (size_t i = 0; i < answers.size(); ++i) {
        if (!answers[i]) {
            asked[i]->error_code = code(KafkaError::kNotLeaderOrFollower);
            continue;
        }
        for (const ProducerStates::Producer& producer : *answers[i]) {
            asked[i]->active_producers.push_back({.producer_id = producer.id,
                                                  .producer_epoch = producer.epoch,
                                                  .last_sequence = producer.last_sequence,
                                                  .last_timestamp = producer.last_timestamp_ms,
                                                  .coordinator_epoch = -1,
                                                  .current_txn_start_offset = -1});
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_producers(Request& request) {
    return run_handler<DescribeProducersRequest, DescribeProducersResponse, answer>(request);
}

}  // namespace weir::kafka
