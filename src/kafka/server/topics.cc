#include "kafka/server/topics.h"

#include <algorithm>

#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {

using runtime::Shard;
using runtime::Task;

namespace {

constexpr size_t kOffsetsReplicas = 3;

}  // namespace

KafkaError to_kafka(cluster::AdminFault fault) {
    using cluster::AdminFault;
    switch (fault) {
        case AdminFault::kNone:
            return KafkaError::kNone;
        case AdminFault::kInvalidRequest:
            return KafkaError::kInvalidRequest;
        case AdminFault::kInvalidTopicName:
            return KafkaError::kInvalidTopicException;
        case AdminFault::kTopicExists:
            return KafkaError::kTopicAlreadyExists;
        case AdminFault::kUnknownTopic:
            return KafkaError::kUnknownTopicOrPartition;
        case AdminFault::kUnknownTopicId:
            return KafkaError::kUnknownTopicId;
        case AdminFault::kInvalidPartitions:
            return KafkaError::kInvalidPartitions;
        case AdminFault::kInvalidReplicationFactor:
            return KafkaError::kInvalidReplicationFactor;
        case AdminFault::kInvalidReplicaAssignment:
            return KafkaError::kInvalidReplicaAssignment;
        case AdminFault::kInvalidConfig:
            return KafkaError::kInvalidConfig;
        case AdminFault::kPolicyViolation:
            return KafkaError::kPolicyViolation;
        case AdminFault::kDeletionDisabled:
            return KafkaError::kTopicDeletionDisabled;
        case AdminFault::kResourceNotFound:
            return KafkaError::kResourceNotFound;
        case AdminFault::kStorage:
            return KafkaError::kKafkaStorageError;
        case AdminFault::kUnavailable:
            return KafkaError::kRequestTimedOut;
    }
    return KafkaError::kUnknownServerError;
}

FoundPartition find_partition(Server& server, const cluster::TopicImage* topic, int32_t index,
                              bool by_id) {
    if (topic == nullptr)
        return {.error =
                    by_id ? KafkaError::kUnknownTopicId : KafkaError::kUnknownTopicOrPartition};
    if (index < 0 || static_cast<size_t>(index) >= topic->partitions.size())
        return {.error = KafkaError::kUnknownTopicOrPartition};
    const storage::LogId log = topic->partitions[static_cast<size_t>(index)].log;
    return {.log = log, .owner = server.owner_of(log)};
}

Instant admin_deadline(int32_t timeout_ms) {
    return Shard::current().now() + std::chrono::milliseconds(std::clamp(timeout_ms, 1, 300'000));
}

Task<std::vector<cluster::TopicOutcome>> create_topics_at_controller(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline) {
    co_return co_await runtime::on(
        0,
        [server0 = &server.peer(0), topics = std::move(topics), validate_only,
         timeout = deadline -
                   Shard::current().now()]() mutable -> Task<std::vector<cluster::TopicOutcome>> {
            co_return co_await cluster::create_topics(server0->controller(), std::move(topics),
                                                      validate_only,
                                                      {.deadline = Shard::current().now() + timeout,
                                                       .stop = server0->background().stop_token()});
        });
}

Task<KafkaError> ensure_offsets_topic(Server& server) {
    if (server.image().find(kOffsetsTopic) != nullptr) co_return KafkaError::kNone;
    cluster::NewTopic topic;
    topic.name = kOffsetsTopic;
    topic.partitions = server.settings().offsets_partitions;
    // As many as Kafka's default, if there are so many nodes.
    topic.replication_factor = static_cast<int16_t>(
        std::clamp<size_t>(server.image().nodes().size(), 1, kOffsetsReplicas));
    topic.configs = {{"cleanup.policy", "compact"},
                     {"compression.type", "producer"},
                     {"segment.bytes", std::to_string(server.settings().offsets_segment_bytes)}};
    const auto outcomes = co_await create_topics_at_controller(server, {std::move(topic)}, false,
                                                               admin_deadline(30'000));
    const cluster::AdminFault fault = outcomes[0].error.fault;
    co_return fault == cluster::AdminFault::kTopicExists ? KafkaError::kNone : to_kafka(fault);
}

}  // namespace weir::kafka
