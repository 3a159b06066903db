// JoinGroup: answered when the group has come to a new generation, which may take as long as the
// slowest member.
#include "kafka/protocol/join_group.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using runtime::Task;

}  // namespace

Task<Result<void>> handle_join_group(Request& request) {
    ByteReader in(request.body);
    const int16_t version = request.version();
    JoinGroupRequest body = co_await runtime::try_(JoinGroupRequest::decode(in, version));
    JoinInput input;
    input.group = body.group_id;
    input.member_id = std::move(body.member_id);
    input.instance_id = std::move(body.group_instance_id);
    input.client_id = request.client_id();
    input.client_host = "/" + request.client_host;
    input.session_timeout = std::chrono::milliseconds(body.session_timeout_ms);
    if (version >= 1)
        input.rebalance_timeout = std::chrono::milliseconds(body.rebalance_timeout_ms);
    input.protocol_type = std::move(body.protocol_type);
    for (auto& protocol : body.protocols)
        input.protocols.push_back({std::move(protocol.name), std::move(protocol.metadata)});
    input.reason = body.reason.value_or("");
    input.two_step_join = version >= 4;
    input.can_skip_assignment = version >= 9;
    JoinReply reply = co_await runtime::try_(
        call_group_for<JoinReply>(request, body.group_id,
                                  [input = std::move(input)](GroupCoordinator& coordinator,
                                                             RequestId id, Moment now) mutable {
                                      return coordinator.join(id, std::move(input), now);
                                  }));
    JoinGroupResponse response;
    response.error_code = code(reply.error);
    response.generation_id = reply.generation;
    response.protocol_type = std::move(reply.protocol_type);
    response.protocol_name = std::move(reply.protocol_name);
    if (version < 7 && !response.protocol_name) response.protocol_name = "";
    response.leader = std::move(reply.leader);
    response.skip_assignment = reply.skip_assignment;
    response.member_id = std::move(reply.member_id);
    for (auto& member : reply.members) {
        response.members.push_back({std::move(member.member_id), std::move(member.instance_id),
                                    std::move(member.metadata)});
    }
    co_return response.encode(request.out, version);
}

}  // namespace weir::kafka
