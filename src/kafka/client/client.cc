#include "kafka/client/client.h"

#include <fmt/format.h>

#include <algorithm>

#include "kafka/protocol/find_coordinator.h"
#include "kafka/protocol/kafka_error.h"

namespace weir::kafka {

using runtime::Task;
using runtime::try_;

Error error_of(int16_t code, std::string_view what, const std::optional<std::string>& message) {
    ErrorCode kind = ErrorCode::kIo;
    switch (kafka_error(code)) {
        case KafkaError::kUnknownTopicOrPartition:
        case KafkaError::kUnknownTopicId:
        case KafkaError::kGroupIdNotFound:
            kind = ErrorCode::kNotFound;
            break;
        case KafkaError::kTopicAlreadyExists:
            kind = ErrorCode::kAlreadyExists;
            break;
        case KafkaError::kRequestTimedOut:
            kind = ErrorCode::kTimedOut;
            break;
        default:
            break;
    }
    std::string text = fmt::format("{}: {}", what, to_string(kafka_error(code)));
    if (message && !message->empty()) text += fmt::format(": {}", *message);
    return Error{kind, std::move(text), 0};
}

Task<Result<void>> Client::open() {
    Error last{ErrorCode::kInvalidArgument, "no broker address was given", 0};
    for (const std::string& address : options_.bootstrap) {
        auto connection = co_await ClientConnection::connect(address, options_.connection);
        if (!connection) {
            last = std::move(connection).error();
            continue;
        }
        bootstrap_ = std::move(*connection);
        MetadataRequest request;
        request.topics.emplace();  // none
        (void)co_await try_(metadata(std::move(request)));
        co_return Result<void>{};
    }
    co_return fail(std::move(last));
}

Task<void> Client::close() {
    for (auto& [id, connection] : by_node_) co_await connection->close();
    by_node_.clear();
    if (bootstrap_) co_await bootstrap_->close();
    bootstrap_.reset();
}

Task<Result<MetadataResponse>> Client::metadata(MetadataRequest request) {
    // Metadata 4 and up; before, asking for a topic may create it.
    const int16_t version = co_await try_(bootstrap_->version_of(ApiKey::kMetadata));
    request.allow_auto_topic_creation = version < 4;
    auto answer = co_await try_(bootstrap_->call<MetadataResponse>(std::move(request)));
    brokers_.clear();
    for (const auto& broker : answer.message.brokers) {
        brokers_.push_back({broker.node_id, fmt::format("{}:{}", broker.host, broker.port)});
    }
    co_return std::move(answer.message);
}

Task<Result<std::unique_ptr<ClientConnection>>> Client::connect_apart(int32_t node_id) {
    const auto broker = std::ranges::find(brokers_, node_id, &Broker::id);
    if (broker == brokers_.end())
        co_return fail(ErrorCode::kUnavailable, fmt::format("no broker has the id {}", node_id));
    co_return co_await ClientConnection::connect(broker->address, options_.connection);
}

Task<Result<ClientConnection*>> Client::to_node(int32_t node_id) {
    auto found = by_node_.find(node_id);
    if (found != by_node_.end()) {
        if (found->second->is_open()) co_return found->second.get();
        std::unique_ptr<ClientConnection> broken = std::move(found->second);
        by_node_.erase(found);
        co_await broken->close();
    }
    auto connection = co_await try_(connect_apart(node_id));
    ClientConnection* raw = connection.get();
    by_node_[node_id] = std::move(connection);
    co_return raw;
}

Task<Result<ClientConnection*>> Client::to_group_coordinator(std::string group) {
    FindCoordinatorRequest request;
    if (co_await try_(bootstrap_->version_of(ApiKey::kFindCoordinator)) >= 4) {
        request.coordinator_keys = {group};
    } else {
        request.key = group;
    }
    // A coordinator that is being created or loaded answers with a retriable error.
    for (int tries_left = 20;; --tries_left) {
        auto answer = co_await try_(bootstrap_->call<FindCoordinatorResponse>(request));
        const FindCoordinatorResponse& response = answer.message;
        int16_t error = response.error_code;
        int32_t node_id = response.node_id;
        if (!response.coordinators.empty()) {
            error = response.coordinators[0].error_code;
            node_id = response.coordinators[0].node_id;
        }
        if (error == 0) co_return co_await to_node(node_id);
        if (!is_retriable(kafka_error(error)) || tries_left == 0) {
            co_return fail(error_of(error, fmt::format("find the coordinator of group {}", group)));
        }
        co_await try_(runtime::sleep_for(std::chrono::milliseconds(100)));
    }
}

Task<Result<std::vector<Client::Topic>>> Client::topics(std::vector<std::string> names) {
    MetadataRequest request;
    if (names.empty()) {
        request.topics.reset();  // null: all
    } else {
        for (const std::string& name : names)
            request.topics->push_back({.topic_id = {}, .name = name});
    }
    const MetadataResponse response = co_await try_(metadata(std::move(request)));
    std::vector<Topic> topics;
    for (const auto& from : response.topics) {
        const std::string name = from.name.value_or("");
        if (from.error_code != 0)
            co_return fail(error_of(from.error_code, fmt::format("topic {}", name)));
        Topic topic{name, from.topic_id, from.is_internal, {}};
        for (const auto& p : from.partitions) {
            topic.partitions.push_back(
                {p.partition_index, p.leader_id, p.leader_epoch,
                                        p.replica_nodes, p.isr_nodes, p.error_code});
        }
        std::ranges::sort(topic.partitions, {}, &Partition::index);
        topics.push_back(std::move(topic));
    }
    std::ranges::sort(topics, {}, &Topic::name);
    co_return topics;
}

Task<Result<Client::Topic>> Client::topic(std::string name) {
    std::vector<std::string> names;
    names.push_back(name);
    auto found = co_await try_(topics(std::move(names)));
    if (found.size() != 1)
        co_return fail(ErrorCode::kNotFound,
                       fmt::format("topic {}: not in the broker's answer", name));
    co_return std::move(found[0]);
}

}  // namespace weir::kafka
