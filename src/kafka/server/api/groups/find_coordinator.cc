// FindCoordinator: which node coordinates a group: the leader of the group's partition of
// __consumer_offsets.
#include "kafka/protocol/find_coordinator.h"

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr int8_t kGroup = 0;
constexpr int8_t kTransaction = 1;

// Nothing while its partition has no leader that is known here.
std::optional<BrokerEndpoint> coordinator_of(Server& server, std::string_view group) {
    const cluster::TopicImage* topic = server.image().find(kOffsetsTopic);
    const auto place = place_of_group(server, group);
    if (topic == nullptr || !place) return std::nullopt;
    const storage::LogId log = topic->partitions[static_cast<size_t>(place->partition)].log;
    const cluster::LeaderState* known = server.metadata().leaders().find(log);
    return known == nullptr ? std::nullopt : find_broker(server, known->leader);
}

Task<FindCoordinatorResponse> answer(Request& request, FindCoordinatorRequest body) {
    Server& server = request.server;
    KafkaError error = KafkaError::kNone;
    std::string message;
    if (body.key_type == kGroup) {
        error = co_await ensure_offsets_topic(request.server);
        if (error != KafkaError::kNone) error = KafkaError::kCoordinatorNotAvailable;
    } else if (body.key_type == kTransaction) {
        // Of the codes that FindCoordinator may have, the one that librdkafka, Java and kafkajs
        // take as final for a transactional id: with others librdkafka asks for ever.
        error = KafkaError::kTransactionalIdAuthorizationFailed;
        message = "This server does not serve transactions yet.";
    } else {
        error = KafkaError::kInvalidRequest;
        message = "This server has no coordinator of this type.";
    }
    const auto describe = [&](std::string key) {
        FindCoordinatorResponse::Coordinator coordinator;
        std::optional<BrokerEndpoint> found;
        if (error == KafkaError::kNone) found = coordinator_of(server, key);
        coordinator.key = std::move(key);
        coordinator.node_id = found ? found->id : -1;
        coordinator.host = found ? std::move(found->host) : "";
        coordinator.port = found ? found->port : -1;
        if (found) {
            coordinator.error_message = std::nullopt;
        } else {
            coordinator.error_code =
                code(error == KafkaError::kNone ? KafkaError::kCoordinatorNotAvailable : error);
            coordinator.error_message = message;
        }
        return coordinator;
    };
    FindCoordinatorResponse response;
    if (request.version() >= 4) {
        for (std::string& key : body.coordinator_keys)
            response.coordinators.push_back(describe(std::move(key)));
    } else {
        const FindCoordinatorResponse::Coordinator coordinator = describe(std::move(body.key));
        response.error_code = coordinator.error_code;
        response.error_message = coordinator.error_message;
        response.node_id = coordinator.node_id;
        response.host = coordinator.host;
        response.port = coordinator.port;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_find_coordinator(Request& request) {
    return run_handler<FindCoordinatorRequest, FindCoordinatorResponse, answer>(request);
}

}  // namespace weir::kafka
