// LeaveGroup: members leave, by their id or, static ones, by their instance. Before version 3 a
// request names one member, and its error is the answer's.
#include "kafka/protocol/leave_group.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {

using runtime::Task;

Task<Result<void>> handle_leave_group(Request& request) {
    ByteReader in(request.body);
    const int16_t version = request.version();
    LeaveGroupRequest body = co_await runtime::try_(LeaveGroupRequest::decode(in, version));
    LeaveInput input;
    input.group = body.group_id;
    if (version < 3) {
        input.members.push_back(
            {.member_id = std::move(body.member_id), .instance_id = {}, .reason = {}});
    } else {
        for (auto& member : body.members) {
            input.members.push_back({std::move(member.member_id),
                                     std::move(member.group_instance_id),
                                     member.reason.value_or("")});
        }
    }
    LeaveReply reply = co_await runtime::try_(call_group_for<LeaveReply>(
        request, body.group_id,
        [input = std::move(input)](GroupCoordinator& coordinator, RequestId id, Moment now) {
            return coordinator.leave(id, input, now);
        }));
    LeaveGroupResponse response;
    response.error_code = code(reply.error);
    if (version < 3) {
        if (reply.error == KafkaError::kNone && !reply.members.empty())
            response.error_code = code(reply.members.front().error);
    } else {
        for (auto& member : reply.members) {
            response.members.push_back(
                {std::move(member.member_id), std::move(member.instance_id), code(member.error)});
        }
    }
    co_return response.encode(request.out, version);
}

}  // namespace weir::kafka
