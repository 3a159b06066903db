// IncrementalAlterConfigs (KIP-339): sets, deletes, or appends to and subtracts from single
// options. One that can't be fails its resource alone.
#include "kafka/protocol/incremental_alter_configs.h"

#include <set>

#include "cluster/config_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<IncrementalAlterConfigsResponse> answer(Request& request,
                                             IncrementalAlterConfigsRequest body) {
    IncrementalAlterConfigsResponse response;
    std::vector<cluster::ConfigChange> changes;
    std::vector<size_t> places;
    std::set<std::pair<int8_t, std::string>> named;
    for (auto& resource : body.resources) {
        auto& result = response.responses.emplace_back();
        result.error_message.reset();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name;
        if (!named.emplace(resource.resource_type, resource.resource_name).second) {
            result.error_code = code(KafkaError::kInvalidRequest);
            result.error_message = "Each resource must appear at most once.";
            continue;
        }
        cluster::ConfigChange change;
        change.resource = static_cast<cluster::ConfigResource>(resource.resource_type);
        change.resource_type = resource.resource_type;
        change.name = resource.resource_name;
        bool known = true;
        for (auto& config : resource.configs) {
            if (config.config_operation < 0 || config.config_operation > 3) known = false;
            change.items.push_back({std::move(config.name),
                                    static_cast<cluster::ConfigOp>(config.config_operation),
                                    std::move(config.value)});
        }
        if (!known) {
            result.error_code = code(KafkaError::kInvalidRequest);
            result.error_message = "Unknown operation on a configuration option.";
            continue;
        }
        changes.push_back(std::move(change));
        places.push_back(response.responses.size() - 1);
    }
    const auto errors = co_await runtime::on(
        0,
        [server0 = &request.server.peer(0), changes = std::move(changes),
         validate_only = body.validate_only]() mutable -> Task<std::vector<cluster::AdminError>> {
            co_return co_await cluster::alter_configs(
                server0->controller(), std::move(changes), validate_only,
                {.deadline = admin_deadline(30'000), .stop = server0->background().stop_token()});
        });
    for (size_t i = 0; i < errors.size(); ++i) {
        auto& result = response.responses[places[i]];
        result.error_code = code(to_kafka(errors[i].fault));
        if (!errors[i].ok()) result.error_message = errors[i].message;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_incremental_alter_configs(Request& request) {
    return run_handler<IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, answer>(
        request);
}

}  // namespace weir::kafka
