// UnregisterBroker (KIP-631): forgets a node that will not come back.
#include "kafka/protocol/unregister_broker.h"

#include "cluster/cluster_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

// The request has none of its own; Kafka's clients wait for 30 s.
constexpr Duration kTimeout = 25s;

Task<UnregisterBrokerResponse> answer(Request& request, UnregisterBrokerRequest body) {
    const auto error = co_await runtime::on(
        0,
        [server0 = &request.server.peer(0), node = body.broker_id]() -> Task<cluster::AdminError> {
            co_return co_await cluster::unregister(
                server0->controller(), node,
                [server0](int32_t id) { return server0->is_alive(id); },
                {.deadline = runtime::Shard::current().now() + kTimeout,
                 .stop = server0->background().stop_token()});
        });
    UnregisterBrokerResponse response;
    response.error_code = code(to_kafka(error.fault));
    response.error_message.reset();
    if (!error.ok()) response.error_message = error.message;
    if (error.fault == cluster::AdminFault::kUnknownNode) {
        response.error_message =
            "Broker ID " + std::to_string(body.broker_id) + " is not currently registered.";
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_unregister_broker(Request& request) {
    return run_handler<UnregisterBrokerRequest, UnregisterBrokerResponse, answer>(request);
}

}  // namespace weir::kafka
