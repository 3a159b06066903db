// DescribeCluster: the cluster's id and its brokers.
#include "kafka/protocol/describe_cluster.h"

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr int8_t kBrokers = 1;
constexpr int8_t kControllers = 2;

Task<DescribeClusterResponse> answer(Request& request, DescribeClusterRequest body) {
    Server& server = request.server;
    DescribeClusterResponse response;
    response.endpoint_type = body.endpoint_type;
    if (body.endpoint_type != kBrokers) {
        // KIP-919: a broker's listener does not speak for controllers.
        response.error_code =
            code(body.endpoint_type == kControllers ? KafkaError::kMismatchedEndpointType
                                                    : KafkaError::kUnsupportedEndpointType);
        response.error_message = "The request was sent to an endpoint of brokers.";
        co_return response;
    }
    response.cluster_id = server.image().cluster_id().to_string();
    response.controller_id = server.controller_id();
    for (BrokerEndpoint& broker : all_brokers(server, body.include_fenced_brokers)) {
        const bool is_alive = server.is_alive(broker.id);
        response.brokers.push_back({.broker_id = broker.id,
                                    .host = std::move(broker.host),
                                    .port = broker.port,
                                    .rack = std::move(broker.rack),
                                    .is_fenced = !is_alive});
    }
    if (body.include_cluster_authorized_operations)
        response.cluster_authorized_operations = kClusterOperations;
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_cluster(Request& request) {
    return run_handler<DescribeClusterRequest, DescribeClusterResponse, answer>(request);
}

}  // namespace weir::kafka
