// DeleteGroups: groups without members go, with their offsets.
#include "kafka/protocol/delete_groups.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {

using runtime::Task;

Task<Result<void>> handle_delete_groups(Request& request) {
    ByteReader in(request.body);
    DeleteGroupsRequest body =
        co_await runtime::try_(DeleteGroupsRequest::decode(in, request.version()));
    DeleteGroupsResponse response;
    for (std::string& group : body.groups_names) {
        const DeleteGroupReply reply = co_await runtime::try_(call_group_for<DeleteGroupReply>(
            request, group, [group](GroupCoordinator& coordinator, RequestId id, Moment now) {
                return coordinator.delete_group(id, group, now);
            }));
        DeleteGroupsResponse::Group& result = response.results.emplace_back();
        result.group_id = std::move(group);
        result.error_code = code(reply.error);
    }
    co_return response.encode(request.out, request.version());
}

}  // namespace weir::kafka
