// AlterPartitionReassignments (KIP-455): where partitions shall be; null replicas cancel a move
// that is under way.
#include "kafka/protocol/alter_partition_reassignments.h"

#include "cluster/cluster_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<AlterPartitionReassignmentsResponse> answer(Request& request,
                                                 AlterPartitionReassignmentsRequest body) {
    AlterPartitionReassignmentsResponse response;
    response.allow_replication_factor_change = body.allow_replication_factor_change;
    response.error_message.reset();
    std::vector<cluster::Reassignment> wanted;
    for (auto& topic : body.topics) {
        for (auto& partition : topic.partitions)
            wanted.push_back(
                {topic.name, partition.partition_index, std::move(partition.replicas)});
    }
    const Duration timeout = admin_deadline(body.timeout_ms) - runtime::Shard::current().now();
    const auto errors =
        co_await runtime::on(0,
                             [server0 = &request.server.peer(0), wanted = std::move(wanted),
                              may_change_count = body.allow_replication_factor_change,
                              timeout]() mutable -> Task<std::vector<cluster::AdminError>> {
                                 co_return co_await cluster::reassign(
                                     server0->controller(), std::move(wanted), may_change_count,
                                     {.deadline = runtime::Shard::current().now() + timeout,
                                      .stop = server0->background().stop_token()});
                             });
    size_t next = 0;
    for (const auto& topic : body.topics) {
        auto& result = response.responses.emplace_back();
        result.name = topic.name;
        for (const auto& partition : topic.partitions) {
            const cluster::AdminError& error = errors[next++];
            auto& row = result.partitions.emplace_back();
            row.partition_index = partition.partition_index;
            row.error_code = code(to_kafka(error.fault));
            row.error_message.reset();
            if (!error.ok()) row.error_message = error.message;
            // Clients look for another controller by this one alone.
            if (error.fault == cluster::AdminFault::kNotController)
                response.error_code = row.error_code;
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_alter_partition_reassignments(Request& request) {
    return run_handler<AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
                       answer>(request);
}

}  // namespace weir::kafka
