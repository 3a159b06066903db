// ListPartitionReassignments (KIP-455): the moves of replicas that are under way. Partitions that
// do not move, or are not there, are left out.
#include "kafka/protocol/list_partition_reassignments.h"

#include "cluster/node_admin.h"
#include "kafka/server/api/repeated.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;
using Response = ListPartitionReassignmentsResponse;

void add(const cluster::TopicImage& topic, int32_t index, Response::Topic& to) {
    if (index < 0 || static_cast<size_t>(index) >= topic.partitions.size()) return;
    const cluster::PartitionAssignment& partition = topic.partitions[static_cast<size_t>(index)];
    if (partition.target.empty()) return;
    cluster::ReplicasShown shown = cluster::shown(partition);
    to.partitions.push_back({.partition_index = index,
                             .replicas = std::move(shown.replicas),
                             .adding_replicas = std::move(shown.adding),
                             .removing_replicas = std::move(shown.removing)});
}

Task<Response> answer(Request& request, ListPartitionReassignmentsRequest body) {
    // At the controller: it has what was decided last.
    const cluster::MetadataImage& image = request.server.image();
    Response response;
    response.error_message.reset();
    const auto finish = [&](Response::Topic topic) {
        if (!topic.partitions.empty()) response.topics.push_back(std::move(topic));
    };
    if (!body.topics) {
        for (const auto& [name, topic] : image.topics()) {
            Response::Topic to{.name = name, .partitions = {}};
            for (size_t i = 0; i < topic.partitions.size(); ++i)
                add(topic, static_cast<int32_t>(i), to);
            finish(std::move(to));
        }
        co_return response;
    }
    using Wanted = ListPartitionReassignmentsRequest::Topic;
    drop_repeated_partitions(*body.topics, &Wanted::name, &Wanted::partition_indexes);
    for (const auto& wanted : *body.topics) {
        const cluster::TopicImage* topic = image.find(wanted.name);
        if (topic == nullptr) continue;
        Response::Topic to{.name = wanted.name, .partitions = {}};
        for (const int32_t index : wanted.partition_indexes) add(*topic, index, to);
        finish(std::move(to));
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_list_partition_reassignments(Request& request) {
    return run_handler<ListPartitionReassignmentsRequest, Response, answer>(request);
}

}  // namespace weir::kafka
