#include "kafka/server/api/topics/topics.h"

#include <algorithm>

#include "base/byte_reader.h"
#include "kafka/protocol/create_topics.h"
#include "kafka/server/net/forward.h"
#include "runtime/deadline_stop.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {

using runtime::Shard;
using runtime::Task;

namespace {

constexpr size_t kOffsetsReplicas = 3;
// A new partition has its leader some flushes after its creation, or an election timeout later if
// the first of its replicas does not answer.
constexpr Duration kLeadersMax = 5s;

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
        case AdminFault::kNoReassignment:
            return KafkaError::kNoReassignmentInProgress;
        case AdminFault::kUnknownNode:
            return KafkaError::kBrokerIdNotRegistered;
        case AdminFault::kInvalidFeatureLevel:
            return KafkaError::kInvalidUpdateVersion;
        case AdminFault::kStorage:
            return KafkaError::kKafkaStorageError;
        case AdminFault::kUnavailable:
            return KafkaError::kRequestTimedOut;
        case AdminFault::kNotController:
            return KafkaError::kNotController;
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

Instant admin_end(const Request& request, int32_t timeout_ms) {
    return request.arrived + std::chrono::milliseconds(std::clamp(timeout_ms, 1, 300'000));
}

Task<void> await_leaders(Server& server, std::vector<std::string> topics, Instant end,
                         runtime::StopToken stop, runtime::StopToken hurry) {
    cluster::MetadataShard& metadata = server.metadata();
    std::vector<std::pair<Uuid, storage::LogId>> left;
    for (const std::string& name : topics) {
        const cluster::TopicImage* topic = metadata.image().find(name);
        if (topic == nullptr) continue;
        for (const auto& partition : topic->partitions) left.emplace_back(topic->id, partition.log);
    }
    const auto is_settled = [&](const auto& each) {
        const cluster::LeaderState* known = metadata.leaders().find(each.second);
        return (known != nullptr && !known->is_expected()) ||
               metadata.image().find(each.first) == nullptr;  // deleted meanwhile
    };
    const Instant latest = std::min(end, Shard::current().now() + kLeadersMax);
    runtime::DeadlineStop until(latest, stop, hurry);
    while (true) {
        while (!left.empty() && is_settled(left.back())) left.pop_back();
        if (left.empty() || !co_await metadata.leaders_moved({.stop = until.token()})) co_return;
    }
}

namespace {

constexpr int16_t kCreateTopicsVersion = 7;

CreateTopicsRequest to_request(const std::vector<cluster::NewTopic>& topics, bool validate_only,
                               Duration timeout) {
    CreateTopicsRequest request;
    request.validate_only = validate_only;
    request.timeout_ms = static_cast<int32_t>(timeout / std::chrono::milliseconds(1));
    for (const cluster::NewTopic& topic : topics) {
        CreateTopicsRequest::Topic& wanted = request.topics.emplace_back();
        wanted.name = topic.name;
        wanted.num_partitions = topic.partitions;
        wanted.replication_factor = static_cast<int16_t>(topic.replication_factor);
        for (const auto& [index, nodes] : topic.assignments)
            wanted.assignments.push_back({.partition_index = index, .broker_ids = nodes});
        for (const auto& [key, value] : topic.configs)
            wanted.configs.push_back({.name = key, .value = value});
    }
    return request;
}

cluster::AdminFault to_fault(int16_t error) {
    using enum cluster::AdminFault;
    for (const cluster::AdminFault fault :
         {kNone, kInvalidRequest, kInvalidTopicName, kTopicExists, kInvalidPartitions,
          kInvalidReplicationFactor, kInvalidReplicaAssignment, kInvalidConfig, kPolicyViolation,
          kUnavailable, kNotController}) {
        if (code(to_kafka(fault)) == error) return fault;
    }
    return kStorage;
}

std::vector<cluster::TopicOutcome> fail_all(const std::vector<cluster::NewTopic>& topics,
                                            const Error& error) {
    std::vector<cluster::TopicOutcome> outcomes;
    for (const cluster::NewTopic& topic : topics) {
        cluster::TopicOutcome& outcome = outcomes.emplace_back();
        outcome.topic.name = topic.name;
        outcome.error = {cluster::AdminFault::kUnavailable, error.to_string()};
    }
    return outcomes;
}

}  // namespace

Task<std::vector<cluster::TopicOutcome>> create_topics_at_controller(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline) {
    ByteWriter body;
    const auto encoded = to_request(topics, validate_only, deadline - Shard::current().now())
                             .encode(body, kCreateTopicsVersion);
    if (!encoded) co_return fail_all(topics, encoded.error());
    const auto answer =
        co_await ask_controller(server, ApiKey::kCreateTopics, kCreateTopicsVersion,
                                runtime::SharedBytes::copy_of(body.flatten()), deadline);
    if (!answer) co_return fail_all(topics, answer.error());
    if (!*answer)
        co_return co_await create_topics_here(server, std::move(topics), validate_only, deadline);
    ByteReader in((*answer)->bytes());
    const auto response = CreateTopicsResponse::decode(in, kCreateTopicsVersion);
    if (!response) co_return fail_all(topics, response.error());
    std::vector<cluster::TopicOutcome> outcomes;
    for (const CreateTopicsResponse::Topic& topic : response->topics) {
        cluster::TopicOutcome& outcome = outcomes.emplace_back();
        outcome.topic.name = topic.name;
        outcome.topic.id = topic.topic_id;
        outcome.error = {to_fault(topic.error_code), topic.error_message.value_or("")};
    }
    co_return outcomes;
}

Task<std::vector<cluster::TopicOutcome>> create_topics_here(Server& server,
                                                            std::vector<cluster::NewTopic> topics,
                                                            bool validate_only, Instant deadline) {
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
    // offsets.topic.segment.bytes may be less than a topic's own may be.
    const int32_t segment_bytes = server.settings().offsets_segment_bytes;
    topic.configs = {{"cleanup.policy", "compact"},
                     {"compression.type", "producer"},
                     {segment_bytes < (1 << 20) ? "internal.segment.bytes" : "segment.bytes",
                      std::to_string(segment_bytes)}};
    const auto outcomes = co_await create_topics_at_controller(server, {std::move(topic)}, false,
                                                               admin_deadline(30'000));
    const cluster::AdminFault fault =
        outcomes.empty() ? cluster::AdminFault::kStorage : outcomes[0].error.fault;
    const KafkaError error =
        fault == cluster::AdminFault::kTopicExists ? KafkaError::kNone : to_kafka(fault);
    // Groups begin where they stay.
    if (error == KafkaError::kNone)
        co_await await_leaders(server, {std::string(kOffsetsTopic)},
                               Shard::current().now() + kLeadersMax, server.waits(), {});
    co_return error;
}

}  // namespace weir::kafka
