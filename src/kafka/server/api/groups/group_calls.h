// Calls from a handler to the coordinator of a group, wherever it is: finds the partition of
// __consumer_offsets and its shard, passes the request there, and waits for the reply as long as
// the coordinator needs, or until the connection is gone.
#pragma once

#include <optional>
#include <string>

#include "kafka/groups/coordinator.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/net/request.h"
#include "kafka/server/server.h"

namespace weir::kafka {

struct GroupPlace {
    runtime::ShardId owner = 0;
    int32_t partition = 0;
};
// Nothing while __consumer_offsets does not exist.
std::optional<GroupPlace> place_of_group(Server& server, std::string_view group);

// Returns an error reply if this node does not coordinate the group; kCancelled when the connection
// is gone.
runtime::Task<Result<GroupReply>> call_group(Request& request, std::string group,
                                             GroupPartition::Call call);

// The reply, or this error in a reply of the same kind if the call never reached a coordinator.
template <class Reply>
runtime::Task<Result<Reply>> call_group_for(Request& request, std::string group,
                                            GroupPartition::Call call) {
    auto reply = co_await call_group(request, std::move(group), std::move(call));
    if (reply) co_return std::move(std::get<Reply>(reply->body));
    if (reply.error().code == ErrorCode::kNotFound) {
        Reply refused;
        refused.error = KafkaError::kNotCoordinator;
        co_return refused;
    }
    co_return fail(std::move(reply).error());
}

}  // namespace weir::kafka
