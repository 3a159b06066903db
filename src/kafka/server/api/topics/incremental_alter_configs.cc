// IncrementalAlterConfigs (KIP-339): sets, deletes, or appends to and subtracts from single
// options. One that can't be fails its resource alone.
#include "kafka/protocol/incremental_alter_configs.h"

#include "kafka/server/api/topics/alter_resources.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using runtime::Task;

std::string read_resource(IncrementalAlterConfigsRequest::Resource& resource,
                          cluster::ConfigChange& change) {
    for (auto& config : resource.configs) {
        if (config.config_operation < 0 || config.config_operation > 3)
            return "Unknown operation on a configuration option.";
        change.items.push_back({std::move(config.name),
                                static_cast<cluster::ConfigOp>(config.config_operation),
                                std::move(config.value)});
    }
    return {};
}

Task<IncrementalAlterConfigsResponse> answer(Request& request,
                                             IncrementalAlterConfigsRequest body) {
    return alter_resources<IncrementalAlterConfigsResponse>(request, std::move(body),
                                                            read_resource);
}

}  // namespace

Task<Result<void>> handle_incremental_alter_configs(Request& request) {
    return run_handler<IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, answer>(
        request);
}

}  // namespace weir::kafka
