// AlterConfigs: replaces all that was set on a resource; what is not named goes back to its
// default. Old tools still send it.
#include "kafka/protocol/alter_configs.h"

#include "kafka/server/api/topics/alter_resources.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using runtime::Task;

std::string read_resource(AlterConfigsRequest::Resource& resource, cluster::ConfigChange& change) {
    change.replace_all = true;
    for (auto& config : resource.configs) {
        change.items.push_back(
            {std::move(config.name), cluster::ConfigOp::kSet, std::move(config.value)});
    }
    return {};
}

Task<AlterConfigsResponse> answer(Request& request, AlterConfigsRequest body) {
    return alter_resources<AlterConfigsResponse>(request, std::move(body), read_resource);
}

}  // namespace

Task<Result<void>> handle_alter_configs(Request& request) {
    return run_handler<AlterConfigsRequest, AlterConfigsResponse, answer>(request);
}

}  // namespace weir::kafka
