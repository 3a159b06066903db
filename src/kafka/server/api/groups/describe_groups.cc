// DescribeGroups: state and members of groups.
#include "kafka/protocol/describe_groups.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/api/repeated.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/net/handler.h"
#include "runtime/remote.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<DescribeGroupReply> describe_at_coordinator(Server& server, std::string group) {
    DescribeGroupReply refused;
    refused.error = KafkaError::kNotCoordinator;
    const auto place = place_of_group(server, group);
    if (!place) co_return refused;
    co_return co_await runtime::on(
        place->owner,
        [peer = &server.peer(place->owner), partition = place->partition, group = std::move(group),
         refused]() -> Task<DescribeGroupReply> {
            const auto driver = peer->groups().find(partition);
            if (driver == nullptr) co_return refused;
            co_return driver->machine().describe_group(group);
        });
}

Task<DescribeGroupsResponse> answer(Request& request, DescribeGroupsRequest body) {
    DescribeGroupsResponse response;
    drop_repeated(body.groups, [](const std::string& id) { return id; });
    for (std::string& id : body.groups) {
        DescribeGroupReply reply = co_await describe_at_coordinator(request.server, id);
        DescribeGroupsResponse::Group& group = response.groups.emplace_back();
        // Before version 6 a group that there is not is a dead one, and no error (KIP-1043).
        if (reply.error == KafkaError::kGroupIdNotFound) {
            if (request.version() >= 6) group.error_message = "Group " + id + " not found.";
            if (request.version() < 6) reply.error = KafkaError::kNone;
        }
        group.error_code = code(reply.error);
        group.group_id = std::move(id);
        group.group_state = std::move(reply.state);
        group.protocol_type = std::move(reply.protocol_type);
        group.protocol_data = std::move(reply.protocol);
        if (body.include_authorized_operations && reply.error == KafkaError::kNone)
            group.authorized_operations = kGroupOperations;
        for (DescribedMember& member : reply.members) {
            group.members.push_back({.member_id = std::move(member.member_id),
                                     .group_instance_id = std::move(member.instance_id),
                                     .client_id = std::move(member.client_id),
                                     .client_host = std::move(member.client_host),
                                     .member_metadata = std::move(member.metadata),
                                     .member_assignment = std::move(member.assignment)});
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_groups(Request& request) {
    return run_handler<DescribeGroupsRequest, DescribeGroupsResponse, answer>(request);
}

}  // namespace weir::kafka
