// Heartbeat: a member is alive, and learns whether its group rebalances.
#include "kafka/protocol/heartbeat.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {

using runtime::Task;

Task<Result<void>> handle_heartbeat(Request& request) {
    ByteReader in(request.body);
    HeartbeatRequest body = co_await runtime::try_(HeartbeatRequest::decode(in, request.version()));
    HeartbeatInput input{.group = body.group_id,
                         .generation = body.generation_id,
                         .member_id = std::move(body.member_id),
                         .instance_id = std::move(body.group_instance_id)};
    const HeartbeatReply reply = co_await runtime::try_(call_group_for<HeartbeatReply>(
        request, body.group_id,
        [input = std::move(input)](GroupCoordinator& coordinator, RequestId id, Moment now) {
            return coordinator.heartbeat(id, input, now);
        }));
    HeartbeatResponse response;
    response.error_code = code(reply.error);
    co_return response.encode(request.out, request.version());
}

}  // namespace weir::kafka
