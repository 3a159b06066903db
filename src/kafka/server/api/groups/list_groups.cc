// ListGroups: the groups of all coordinators on this node.
#include "kafka/protocol/list_groups.h"

#include <algorithm>

#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<ListGroupsReply> list_here(Server& server, std::vector<std::string> states,
                                std::vector<std::string> types) {
    ListGroupsReply all;
    server.groups().for_each([&](GroupPartition& partition) {
        ListGroupsReply some = partition.machine().list_groups(states, types);
        if (some.error != KafkaError::kNone) all.error = some.error;
        std::ranges::move(some.groups, std::back_inserter(all.groups));
    });
    co_return all;
}

Task<ListGroupsResponse> answer(Request& request, ListGroupsRequest body) {
    ListGroupsResponse response;
    for (runtime::ShardId shard = 0; shard < runtime::Shard::current().count(); ++shard) {
        ListGroupsReply reply = co_await runtime::on(
            shard, [peer = &request.server.peer(shard), states = body.states_filter,
                    types = body.types_filter]() mutable {
                return list_here(*peer, std::move(states), std::move(types));
            });
        if (reply.error != KafkaError::kNone) response.error_code = code(reply.error);
        for (ListedGroup& group : reply.groups) {
            response.groups.push_back({std::move(group.group), std::move(group.protocol_type),
                                       std::move(group.state), std::move(group.type)});
        }
    }
    std::ranges::sort(response.groups, {}, &ListGroupsResponse::Group::group_id);
    co_return response;
}

}  // namespace

Task<Result<void>> handle_list_groups(Request& request) {
    return run_handler<ListGroupsRequest, ListGroupsResponse, answer>(request);
}

}  // namespace weir::kafka
