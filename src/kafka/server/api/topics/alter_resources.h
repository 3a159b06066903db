// What AlterConfigs and IncrementalAlterConfigs have in common: each resource is named once, all
// changes go to the controller together, and each resource has its own outcome.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/config_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {

// `read` fills a change from a resource of the request, whose strings it may move from. It gives a
// sentence for the client where the resource can't be what it is (INVALID_REQUEST), else nothing.
template <class Response, class RequestBody>
runtime::Task<Response> alter_resources(
    Request& request, RequestBody body,
    std::string (*read)(typename RequestBody::Resource& resource, cluster::ConfigChange& change)) {
    using runtime::Task;
    Response response;
    std::vector<cluster::ConfigChange> changes;
    std::vector<size_t> places;  // of each change's resource among the responses
    std::set<std::pair<int8_t, std::string>> named;
    for (auto& resource : body.resources) {
        auto& result = response.responses.emplace_back();
        result.error_message.reset();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name;
        cluster::ConfigChange change;
        change.resource = static_cast<cluster::ConfigResource>(resource.resource_type);
        change.resource_type = resource.resource_type;
        change.name = resource.resource_name;
        std::string problem;
        if (!named.emplace(resource.resource_type, resource.resource_name).second)
            problem = "Each resource must appear at most once.";
        else
            problem = read(resource, change);
        if (!problem.empty()) {
            result.error_code = code(KafkaError::kInvalidRequest);
            result.error_message = std::move(problem);
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

}  // namespace weir::kafka
