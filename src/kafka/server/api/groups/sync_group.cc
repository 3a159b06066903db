// SyncGroup: the leader hands in everyone's assignment, and everyone gets theirs.
#include "kafka/protocol/sync_group.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {

using runtime::Task;

Task<Result<void>> handle_sync_group(Request& request) {
    ByteReader in(request.body);
    const int16_t version = request.version();
    SyncGroupRequest body = co_await runtime::try_(SyncGroupRequest::decode(in, version));
    SyncInput input;
    input.group = body.group_id;
    input.generation = body.generation_id;
    input.member_id = std::move(body.member_id);
    input.instance_id = std::move(body.group_instance_id);
    input.protocol_type = std::move(body.protocol_type);
    input.protocol_name = std::move(body.protocol_name);
    for (auto& assignment : body.assignments) {
        input.assignments.push_back(
            {std::move(assignment.member_id), std::move(assignment.assignment)});
    }
    SyncReply reply = co_await runtime::try_(
        call_group_for<SyncReply>(request, body.group_id,
                                  [input = std::move(input)](GroupCoordinator& coordinator,
                                                             RequestId id, Moment now) mutable {
                                      return coordinator.sync(id, std::move(input), now);
                                  }));
    SyncGroupResponse response;
    response.error_code = code(reply.error);
    response.protocol_type = std::move(reply.protocol_type);
    response.protocol_name = std::move(reply.protocol_name);
    response.assignment = std::move(reply.assignment);
    co_return response.encode(request.out, version);
}

}  // namespace weir::kafka
