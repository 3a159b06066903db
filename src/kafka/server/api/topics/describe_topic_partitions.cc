// DescribeTopicPartitions (KIP-966): topics page by page, by name, with a cursor that says where
// the next page begins.
#include "kafka/protocol/describe_topic_partitions.h"

#include <algorithm>
#include <set>

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr int32_t kPartitionsMax = 2000;  // of an answer

Task<DescribeTopicPartitionsResponse> answer(Request& request,
                                             DescribeTopicPartitionsRequest body) {
    Server& server = request.server;
    DescribeTopicPartitionsResponse response;
    std::set<std::string> names;
    for (auto& topic : body.topics) names.insert(std::move(topic.name));
    const bool asks_for_all = names.empty();
    if (asks_for_all) {
        for (const auto& [name, topic] : server.image().topics()) names.insert(name);
    }
    int32_t room = std::clamp(body.response_partition_limit, 1, kPartitionsMax);
    for (const std::string& name : names) {
        int32_t first = 0;
        if (body.cursor) {
            if (name < body.cursor->topic_name) continue;
            if (name == body.cursor->topic_name) first = std::max(0, body.cursor->partition_index);
        }
        if (room == 0) {
            response.next_cursor = {name, 0};
            break;
        }
        const cluster::TopicImage* image = server.image().find(name);
        DescribeTopicPartitionsResponse::Topic& topic = response.topics.emplace_back();
        topic.name = name;
        if (image == nullptr) {
            const bool is_legal = cluster::check_topic_name(name).empty();
            topic.error_code = code(is_legal ? KafkaError::kUnknownTopicOrPartition
                                             : KafkaError::kInvalidTopicException);
            continue;
        }
        topic.topic_id = image->id;
        topic.is_internal = cluster::is_internal_topic(name);
        topic.topic_authorized_operations = kTopicOperations;
        const auto count = static_cast<int32_t>(image->partitions.size());
        for (int32_t i = first; i < count && room > 0; ++i, --room) {
            DescribeTopicPartitionsResponse::Partition& partition = topic.partitions.emplace_back();
            partition.partition_index = i;
            fill_leader(server, image->partitions[static_cast<size_t>(i)], partition);
            partition.eligible_leader_replicas.emplace();
            partition.last_known_elr.emplace();
        }
        const int32_t next = first + static_cast<int32_t>(topic.partitions.size());
        if (next < count) {
            response.next_cursor = {name, next};
            break;
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_topic_partitions(Request& request) {
    return run_handler<DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, answer>(
        request);
}

}  // namespace weir::kafka
