// What several handlers share: topics in requests by name or by id, errors of the administration as
// Kafka's, making topics that were asked for.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cluster/topic_admin.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/server/net/request.h"
#include "kafka/server/server.h"

namespace weir::kafka {

inline constexpr std::string_view kOffsetsTopic = "__consumer_offsets";

// Bits of the operations that a client may do, as answers list them; without access control that is
// all there are. The numbers are Kafka's AclOperation.
constexpr int32_t operations(std::initializer_list<int> bits) {
    int32_t set = 0;
    for (const int bit : bits) set |= 1 << bit;
    return set;
}
inline constexpr int32_t kTopicOperations = operations({3, 4, 5, 6, 7, 8, 10, 11});
inline constexpr int32_t kClusterOperations = operations({5, 7, 8, 9, 10, 11, 12});
inline constexpr int32_t kGroupOperations = operations({3, 6, 8, 10, 11});

KafkaError to_kafka(cluster::AdminFault fault);

// A partition as requests name it, found on this shard's image.
struct FoundPartition {
    KafkaError error = KafkaError::kNone;  // UNKNOWN_TOPIC_OR_PARTITION, or UNKNOWN_TOPIC_ID where
                                           // the id was asked for
    storage::LogId log;
    runtime::ShardId owner = 0;
};
FoundPartition find_partition(Server& server, const cluster::TopicImage* topic, int32_t index,
                              bool by_id = false);

// Deadline of an administrative request: what the client said, within reason.
Instant admin_deadline(int32_t timeout_ms);

// Of a request that came from a client.
Instant admin_end(const Request& request, int32_t timeout_ms);

// Until this node knows a leader of each partition of these topics, made a moment ago, so that a
// client that goes on at once finds it; at most until `end`, or five seconds. What has no leader by
// then, since its replicas' nodes are down for example, is made all the same, and shown without.
runtime::Task<void> await_leaders(Server& server, std::vector<std::string> topics, Instant end,
                                  runtime::StopToken stop, runtime::StopToken hurry);
inline runtime::Task<void> await_leaders(Request& request, std::vector<std::string> topics,
                                         Instant end) {
    return await_leaders(request.server, std::move(topics), end, request.stop, request.hurry);
}

// With the controller's defaults, wherever it is; of the topic as it is then the outcome has the
// name and the id. Runs on any shard.
runtime::Task<std::vector<cluster::TopicOutcome>> create_topics_at_controller(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline);
// The same on the node that is the controller; the outcome has the whole topic.
runtime::Task<std::vector<cluster::TopicOutcome>> create_topics_here(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline);
// __consumer_offsets, if it is not there. kNone when it is there afterwards.
runtime::Task<KafkaError> ensure_offsets_topic(Server& server);

}  // namespace weir::kafka
