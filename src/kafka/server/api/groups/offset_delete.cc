// OffsetDelete (KIP-496): a group forgets its offsets of topics that none of its members is
// subscribed to.
#include "kafka/protocol/offset_delete.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {

using runtime::Task;

Task<Result<void>> handle_offset_delete(Request& request) {
    ByteReader in(request.body);
    OffsetDeleteRequest body =
        co_await runtime::try_(OffsetDeleteRequest::decode(in, request.version()));
    OffsetDeleteInput input;
    input.group = body.group_id;
    OffsetDeleteResponse response;
    for (auto& topic : body.topics) {
        if (request.server.image().find(topic.name) == nullptr) {
            OffsetDeleteResponse::Topic& unknown = response.topics.emplace_back();
            unknown.name = std::move(topic.name);
            for (const auto& partition : topic.partitions) {
                unknown.partitions.push_back(
                    {partition.partition_index, code(KafkaError::kUnknownTopicOrPartition)});
            }
            continue;
        }
        TopicPartitions& partitions = input.topics.emplace_back();
        partitions.name = std::move(topic.name);
        for (const auto& partition : topic.partitions)
            partitions.partitions.push_back(partition.partition_index);
    }
    OffsetDeleteReply reply = co_await runtime::try_(call_group_for<OffsetDeleteReply>(
        request, body.group_id,
        [input = std::move(input)](GroupCoordinator& coordinator, RequestId id, Moment now) {
            return coordinator.delete_offsets(id, input, now);
        }));
    response.error_code = code(reply.error);
    if (reply.error != KafkaError::kNone) response.topics.clear();
    for (auto& errors : reply.topics) {
        OffsetDeleteResponse::Topic& topic = response.topics.emplace_back();
        topic.name = std::move(errors.name);
        for (const PartitionError& partition : errors.partitions)
            topic.partitions.push_back({partition.index, code(partition.error)});
    }
    co_return response.encode(request.out, request.version());
}

}  // namespace weir::kafka
