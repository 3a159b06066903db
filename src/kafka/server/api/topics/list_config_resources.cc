// ListConfigResources (KIP-1142): the names that DescribeConfigs can be asked for. Version 0 lists
// client metrics subscriptions alone, as which it began (KIP-1000).
#include "kafka/protocol/list_config_resources.h"

#include <set>

#include "kafka/server/api/brokers.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using cluster::ConfigResource;
using runtime::Task;

std::set<ConfigResource> types_asked_for(const ListConfigResourcesRequest& body, int16_t version,
                                         bool& known) {
    if (version == 0) return {ConfigResource::kClientMetrics};
    const std::set<ConfigResource> all{ConfigResource::kTopic, ConfigResource::kBroker,
                                       ConfigResource::kBrokerLogger,
                                       ConfigResource::kClientMetrics, ConfigResource::kGroup};
    if (body.resource_types.empty()) return all;
    std::set<ConfigResource> asked;
    for (const int8_t type : body.resource_types) {
        if (!all.contains(static_cast<ConfigResource>(type))) known = false;
        asked.insert(static_cast<ConfigResource>(type));
    }
    return asked;
}

Task<ListConfigResourcesResponse> answer(Request& request, ListConfigResourcesRequest body) {
    Server& server = request.server;
    ListConfigResourcesResponse response;
    bool known = true;
    const auto types = types_asked_for(body, request.version(), known);
    if (!known) {
        response.error_code = code(KafkaError::kUnsupportedVersion);
        co_return response;
    }
    const auto add = [&](ConfigResource type, std::string name) {
        response.config_resources.push_back({std::move(name), static_cast<int8_t>(type)});
    };
    for (const ConfigResource type : types) {
        switch (type) {
            case ConfigResource::kTopic:
                for (const auto& [name, topic] : server.image().topics()) add(type, name);
                break;
            case ConfigResource::kBroker:
            case ConfigResource::kBrokerLogger:
                for (const BrokerEndpoint& broker : all_brokers(server))
                    add(type, std::to_string(broker.id));
                break;
            case ConfigResource::kClientMetrics:
            case ConfigResource::kGroup:
                for (std::string& name : server.image().configured(type))
                    add(type, std::move(name));
                break;
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_list_config_resources(Request& request) {
    return run_handler<ListConfigResourcesRequest, ListConfigResourcesResponse, answer>(request);
}

}  // namespace weir::kafka
