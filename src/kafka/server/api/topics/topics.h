// What several handlers share: topics in requests by name or by id, administrative errors as
// Kafka's, and the creation of topics.
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

// Bits of the operations that a client may do, as answers list them; without access control, all
// that exist. The numbers are Kafka's AclOperation.
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

// The deadline of an administrative request: the client's, within reason.
Instant admin_deadline(int32_t timeout_ms);

// As admin_deadline(), for a request that came from a client.
Instant admin_end(const Request& request, int32_t timeout_ms);

// Waits until this node knows a leader of each partition of these new topics, so that the client
// can use them at once; at most until `end`, or five seconds. A partition without a leader by then,
// since its replicas' nodes are down for example, was created nevertheless and is shown without
// one.
runtime::Task<void> await_leaders(Server& server, std::vector<std::string> topics, Instant end,
                                  runtime::StopToken stop, runtime::StopToken hurry);
inline runtime::Task<void> await_leaders(Request& request, std::vector<std::string> topics,
                                         Instant end) {
    return await_leaders(request.server, std::move(topics), end, request.stop, request.hurry);
}

// Creates topics with the controller's defaults, on whatever node the controller is. The outcome
// has only the name and the id of a topic. Runs on any shard.
runtime::Task<std::vector<cluster::TopicOutcome>> create_topics_at_controller(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline);
// The same on the controller's node; the outcome has the whole topic.
runtime::Task<std::vector<cluster::TopicOutcome>> create_topics_here(
    Server& server, std::vector<cluster::NewTopic> topics, bool validate_only, Instant deadline);
// Creates __consumer_offsets if it does not exist. kNone if it exists afterwards.
runtime::Task<KafkaError> ensure_offsets_topic(Server& server);

}  // namespace weir::kafka
