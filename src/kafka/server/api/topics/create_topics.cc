// CreateTopics: each topic succeeds or fails by itself; when the answer goes out, the topic is
// durable, known on every shard, and has its leaders (await_leaders()).
#include "kafka/protocol/create_topics.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

cluster::NewTopic wanted(CreateTopicsRequest::Topic& topic) {
    cluster::NewTopic wanted;
    wanted.name = std::move(topic.name);
    wanted.partitions = topic.num_partitions;
    wanted.replication_factor = topic.replication_factor;
    for (auto& assignment : topic.assignments) {
        wanted.assignments.emplace_back(assignment.partition_index,
                                        std::move(assignment.broker_ids));
    }
    for (auto& config : topic.configs)
        wanted.configs.emplace_back(std::move(config.name), std::move(config.value));
    return wanted;
}

CreateTopicsResponse::Topic describe(Server& server, const cluster::TopicOutcome& outcome) {
    CreateTopicsResponse::Topic topic;
    topic.name = outcome.topic.name;
    topic.error_code = code(to_kafka(outcome.error.fault));
    topic.error_message.reset();
    if (!outcome.error.ok()) {
        topic.error_message = outcome.error.message;
        topic.configs.reset();
        return topic;
    }
    topic.topic_id = outcome.topic.id;
    topic.num_partitions = static_cast<int32_t>(outcome.topic.partitions.size());
    topic.replication_factor =
        static_cast<int16_t>(outcome.topic.partitions.front().replicas.size());
    for (const cluster::ConfigKey& key : cluster::topic_config_keys()) {
        if (key.internal) continue;
        const cluster::EffectiveConfig config =
            server.metadata().configs().topic(outcome.topic.configs, key);
        topic.configs->push_back({.name = std::string(key.name),
                                  .value = config.value,
                                  .read_only = false,
                                  .config_source = static_cast<int8_t>(config.source),
                                  .is_sensitive = false});
    }
    return topic;
}

Task<CreateTopicsResponse> answer(Request& request, CreateTopicsRequest body) {
    std::vector<cluster::NewTopic> topics;
    for (auto& topic : body.topics) topics.push_back(wanted(topic));
    const auto outcomes = co_await create_topics_here(
        request.server, std::move(topics), body.validate_only, admin_deadline(body.timeout_ms));
    std::vector<std::string> made;
    CreateTopicsResponse response;
    for (const cluster::TopicOutcome& outcome : outcomes) {
        response.topics.push_back(describe(request.server, outcome));
        if (outcome.error.ok()) made.push_back(outcome.topic.name);
    }
    if (!request.passed_on && !body.validate_only)
        co_await await_leaders(request, std::move(made), admin_end(request, body.timeout_ms));
    co_return response;
}

}  // namespace

Task<void> settle_create_topics(Request& request, Bytes response) {
    ByteReader asked(request.body), answered(response);
    const auto body = CreateTopicsRequest::decode(asked, request.version());
    const auto outcome = CreateTopicsResponse::decode(answered, request.version());
    if (!body || !outcome || body->validate_only) co_return;
    std::vector<std::string> made;
    for (const CreateTopicsResponse::Topic& topic : outcome->topics) {
        if (topic.error_code == 0) made.push_back(topic.name);
    }
    co_await await_leaders(request, std::move(made), admin_end(request, body->timeout_ms));
}

Task<Result<void>> handle_create_topics(Request& request) {
    return run_handler<CreateTopicsRequest, CreateTopicsResponse, answer>(request);
}

}  // namespace weir::kafka
