// FindCoordinator: which node coordinates a group. There is one node.
#include "kafka/protocol/find_coordinator.h"
#include "kafka/server/handler.h"
#include "kafka/server/server.h"
#include "kafka/server/topics.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr int8_t kGroup = 0;
constexpr int8_t kTransaction = 1;

Task<FindCoordinatorResponse> answer(Request& request, FindCoordinatorRequest body) {
    const NodeInfo& node = request.server.node();
    KafkaError error = KafkaError::kNone;
    std::string message;
    if (body.key_type == kGroup) {
        error = co_await ensure_offsets_topic(request.server);
        if (error != KafkaError::kNone) error = KafkaError::kCoordinatorNotAvailable;
    } else {
        error = KafkaError::kInvalidRequest;
        message = body.key_type == kTransaction ? "This server does not serve transactions yet."
                                                : "This server has no coordinator of this type.";
    }
    const auto describe = [&](std::string key) {
        FindCoordinatorResponse::Coordinator coordinator;
        coordinator.key = std::move(key);
        coordinator.error_code = code(error);
        const bool ok = error == KafkaError::kNone;
        coordinator.error_message = ok ? std::nullopt : std::optional(message);
        coordinator.node_id = ok ? node.id : -1;
        coordinator.host = ok ? node.host : "";
        coordinator.port = ok ? node.port : -1;
        return coordinator;
    };
    FindCoordinatorResponse response;
    if (request.version() >= 4) {
        for (std::string& key : body.coordinator_keys)
            response.coordinators.push_back(describe(std::move(key)));
    } else {
        const FindCoordinatorResponse::Coordinator coordinator = describe({});
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
