// Metadata: the brokers, and topics with their partitions' leaders. Asking for a topic that is not
// there may create it.
#include "kafka/protocol/metadata.h"

#include <set>

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/repeated.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/helper.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr size_t kCreatedAtOnceMax = 100;
// With more topics and partitions an answer is encoded beside the shard.
constexpr size_t kLargeAnswer = 2'000;

MetadataResponse::Topic describe(Server& server, const cluster::TopicImage& topic) {
    MetadataResponse::Topic answer;
    answer.name = topic.name;
    answer.topic_id = topic.id;
    answer.is_internal = cluster::is_internal_topic(topic.name);
    answer.partitions.reserve(topic.partitions.size());
    for (size_t i = 0; i < topic.partitions.size(); ++i) {
        MetadataResponse::Partition& partition = answer.partitions.emplace_back();
        partition.partition_index = static_cast<int32_t>(i);
        fill_leader(server, topic.partitions[i], partition);
    }
    return answer;
}

MetadataResponse::Topic refuse(const MetadataRequest::Topic& topic, KafkaError error) {
    MetadataResponse::Topic answer;
    answer.error_code = code(error);
    answer.name = topic.name;
    answer.topic_id = topic.topic_id;
    return answer;
}

// Before version 12 the name can't be null.
void fit(MetadataResponse::Topic& topic, int16_t version) {
    if (version < 12 && !topic.name) topic.name = "";
}

bool names_all(const MetadataRequest& request, int16_t version) {
    return !request.topics || (version == 0 && request.topics->empty());
}

Task<MetadataResponse> answer(Request& request, MetadataRequest body) {
    Server& server = request.server;
    MetadataResponse response;
    size_t parts = 0;
    for (BrokerEndpoint& broker : all_brokers(server)) {
        response.brokers.push_back(
            {broker.id, std::move(broker.host), broker.port, std::move(broker.rack)});
    }
    response.cluster_id = server.image().cluster_id().to_string();
    response.controller_id = server.controller_id();

    if (body.include_cluster_authorized_operations)
        response.cluster_authorized_operations = kClusterOperations;
    const auto permit = [&](MetadataResponse::Topic& topic) {
        if (body.include_topic_authorized_operations && topic.error_code == 0)
            topic.topic_authorized_operations = kTopicOperations;
    };
    if (names_all(body, request.version())) {
        response.topics.reserve(server.image().topics().size());
        for (auto at = server.image().topics().begin(); at != server.image().topics().end();) {
            response.topics.push_back(describe(server, at->second));
            permit(response.topics.back());
            parts += 1 + at->second.partitions.size();
            if (!Shard::current().need_preempt()) {
                ++at;
                continue;
            }
            // The map may change while others run.
            const std::string last = at->first;
            co_await runtime::yield();
            at = server.image().topics().upper_bound(last);
        }
        request.has_large_answer = parts > kLargeAnswer;
        co_return response;
    }
    // An id counts for more than a name: Java's clients send "" with it.
    for (MetadataRequest::Topic& topic : *body.topics) {
        if (!topic.topic_id.is_zero()) topic.name.reset();
    }
    // By name, or by id where there is no name.
    const auto drop = [&body] {
        drop_repeated(*body.topics, [](const MetadataRequest::Topic& topic) {
            return std::pair(topic.name, topic.name ? Uuid() : topic.topic_id);
        });
        return true;
    };
    const bool names_many = body.topics->size() > kLargeAnswer;
    if (names_many) {
        co_await runtime::on_helper(drop);
    } else {
        drop();
    }
    std::vector<cluster::NewTopic> missing;
    std::set<std::string_view> asked;
    const bool may_create = body.allow_auto_topic_creation && server.settings().auto_create_topics;
    for (const MetadataRequest::Topic& topic : *body.topics) {
        if (Shard::current().need_preempt()) co_await runtime::yield();
        if (!topic.name || server.image().find(*topic.name) != nullptr || !may_create) continue;
        if (missing.size() < kCreatedAtOnceMax && asked.insert(*topic.name).second &&
            cluster::check_topic_name(*topic.name).empty()) {
            cluster::NewTopic& wanted = missing.emplace_back();
            wanted.name = *topic.name;
            if (*topic.name == kOffsetsTopic)
                wanted.partitions = server.settings().offsets_partitions;
        }
    }
    // The request that creates a topic is answered as by Kafka: the topic is not known, without
    // partitions; the client asks again, and finds it with its leaders. A refusal that no second
    // attempt would change is said at once.
    std::map<std::string, KafkaError> created;
    if (!missing.empty()) {
        std::vector<std::string> made;
        for (const cluster::NewTopic& topic : missing) {
            created[topic.name] = KafkaError::kUnknownTopicOrPartition;
        }
        const auto outcomes = co_await create_topics_at_controller(server, std::move(missing),
                                                                   false, admin_deadline(30'000));
        for (const cluster::TopicOutcome& outcome : outcomes) {
            const KafkaError error = to_kafka(outcome.error.fault);
            // Of two requests for one topic the second finds it made.
            if (outcome.error.ok() || outcome.error.fault == cluster::AdminFault::kTopicExists)
                made.push_back(outcome.topic.name);
            else if (!is_retriable(error))
                created[outcome.topic.name] = error;
        }
        co_await await_leaders(request, std::move(made), admin_deadline(30'000));
    }
    response.topics.reserve(body.topics->size());
    for (const MetadataRequest::Topic& wanted : *body.topics) {
        const cluster::TopicImage* topic =
            wanted.name ? server.image().find(*wanted.name) : server.image().find(wanted.topic_id);
        if (wanted.name && created.contains(*wanted.name)) {
            response.topics.push_back(refuse(wanted, created.at(*wanted.name)));
        } else if (topic != nullptr) {
            response.topics.push_back(describe(server, *topic));
        } else if (!wanted.name) {
            response.topics.push_back(refuse(wanted, KafkaError::kUnknownTopicId));
        } else if (!cluster::check_topic_name(*wanted.name).empty()) {
            response.topics.push_back(refuse(wanted, KafkaError::kInvalidTopicException));
        } else {
            response.topics.push_back(refuse(wanted, KafkaError::kUnknownTopicOrPartition));
        }
        parts += 1 + response.topics.back().partitions.size();
        fit(response.topics.back(), request.version());
        permit(response.topics.back());
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    request.has_large_answer = parts > kLargeAnswer;
    if (names_many) {
        co_await runtime::on_helper([&body] {
            body.topics.reset();  // as many strings to free
            return true;
        });
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_metadata(Request& request) {
    return run_handler<MetadataRequest, MetadataResponse, answer>(request);
}

}  // namespace weir::kafka
