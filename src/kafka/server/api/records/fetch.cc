// Fetch: for each partition the batches from an offset on, as they are stored (reading.h), of the
// partitions that the client's session has or the request names.
#include "kafka/protocol/fetch.h"

#include <algorithm>

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/reading.h"
#include "kafka/server/server.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

constexpr Duration kWaitMax = 5min;
// Since then a client may be sent to a follower (KIP-392), and knows what to do there.
constexpr int16_t kFollowersVersion = 11;
// Since then an answer can say where the leader is (KIP-951).
constexpr int16_t kEndpointsVersion = 16;

// One partition of the fetch.
struct Part : ReadPart {
    const FetchTarget* target = nullptr;
    int32_t nearest = -1;  // a replica in the client's rack, where the leader is in another
};

// KIP-392, where replica.selector.class asks for it: of the replicas in sync one in the client's
// rack, if this node leads the partition and is in another rack itself; -1: none.
int32_t find_nearest(Server& server, storage::LogId log, const std::string& rack) {
    if (!server.settings().reads_by_rack || rack.empty() || server.node().rack == rack) return -1;
    const cluster::LeaderState* known = server.metadata().leaders().find(log);
    if (known == nullptr || known->leader != server.node().id) return -1;
    for (const int32_t node : known->in_sync) {
        const cluster::NodeImage* image = server.image().find_node(node);
        if (image != nullptr && image->info.rack == rack) return node;
    }
    return -1;
}

// While the fetch waited, its topic may have been deleted: then nobody leads it.
void drop_unknown(Server& server, std::vector<Part>& parts, int16_t version) {
    const bool by_id = version >= 13;
    for (Part& part : parts) {
        if (part.outcome.error != KafkaError::kNotLeaderOrFollower) continue;
        const FetchKey& key = part.target->key;
        const cluster::TopicImage* topic =
            by_id ? server.image().find(key.topic_id) : server.image().find(key.topic);
        const FoundPartition found = find_partition(server, topic, key.partition, by_id);
        if (found.error != KafkaError::kNone) {
            part.outcome.error = found.error;
        } else if (found.log != part.log) {
            part.outcome.error = KafkaError::kUnknownTopicOrPartition;  // made again
        }
    }
}

std::vector<Part> find_parts(Server& server, const std::vector<FetchTarget>& targets,
                             int16_t version, const std::string& rack) {
    const bool by_id = version >= 13;
    std::vector<Part> parts;
    parts.reserve(targets.size());
    for (const FetchTarget& target : targets) {
        const cluster::TopicImage* topic = by_id ? server.image().find(target.key.topic_id)
                                                 : server.image().find(target.key.topic);
        const FoundPartition found = find_partition(server, topic, target.key.partition, by_id);
        Part& part = parts.emplace_back();
        part.target = &target;
        part.log = found.log;
        part.owner = found.owner;
        if (found.error == KafkaError::kNone) part.nearest = find_nearest(server, found.log, rack);
        part.range = {.offset = target.offset,
                      .current_leader_epoch = target.current_leader_epoch,
                      .last_fetched_epoch = target.last_fetched_epoch,
                      .bytes_max = static_cast<uint64_t>(std::max(0, target.bytes_max)),
                      .at_least_one = false,
                      .leader_only = version < kFollowersVersion,
                      .redirect_to_nearest = part.nearest >= 0};
        part.outcome.error = found.error;
    }
    return parts;
}

FetchResponse::Partition describe(Request& request, Part& part, int8_t isolation_level) {
    FetchOutcome& outcome = part.outcome;
    FetchResponse::Partition partition;
    partition.partition_index = part.target->key.partition;
    partition.error_code = code(outcome.error);
    const bool ok = outcome.error == KafkaError::kNone;
    partition.high_watermark = ok ? outcome.high_watermark : -1;
    // Without transactions every record below the high watermark is stable.
    partition.last_stable_offset = ok ? outcome.high_watermark : -1;
    partition.log_start_offset = ok ? outcome.log_start_offset : -1;
    if (isolation_level == 0) partition.aborted_transactions.reset();
    if (request.version() >= kEndpointsVersion && names_leader(outcome.error)) {
        const LeaderHint hint = leader_hint(request.server, part.log, outcome.hint);
        partition.current_leader = {hint.leader, hint.epoch};
    }
    if (outcome.redirect_to_nearest) partition.preferred_read_replica = part.nearest;
    if (outcome.diverging)
        partition.diverging_epoch = {outcome.diverging->term, outcome.diverging->end_offset};
    for (runtime::SharedBytes& bytes : outcome.parts) {
        partition.records.parts.push_back(bytes.bytes());
        request.keep.push_back(std::move(bytes));
    }
    outcome.parts.clear();
    return partition;
}

Task<FetchResponse> answer(Request& request, FetchRequest body) {
    Server& server = request.server;
    Shard& shard = Shard::current();
    FetchResponse response;
    if (body.replica_id >= 0 || body.replica_state.replica_id >= 0) {
        response.error_code =
            code(KafkaError::kInvalidRequest);  // no other node replicates from this one
        co_return response;
    }
    FetchSessions::Plan plan =
        server.fetch_sessions().begin(body, request.version(), shard.now(), shard.prng().next());
    response.session_id = plan.session_id;
    if (plan.error != KafkaError::kNone) {
        response.error_code = code(plan.error);
        response.session_id = 0;
        co_return response;
    }
    const auto bytes_max =
        static_cast<uint64_t>(std::clamp(body.max_bytes, 0, server.settings().fetch_bytes_max));
    const Instant deadline =
        shard.now() +
        std::min<Duration>(std::chrono::milliseconds(std::max(0, body.max_wait_ms)), kWaitMax);
    std::vector<Part> parts = find_parts(server, plan.targets, request.version(), body.rack_id);
    std::vector<ReadPart*> to_read;
    for (Part& part : parts) to_read.push_back(&part);
    ReadTotal total = co_await read_parts(server, std::move(to_read),
                                          {.bytes_min = body.min_bytes,
                                           .bytes_max = bytes_max,
                                           .deadline = deadline,
                                           .may_wait = body.max_wait_ms > 0,
                                           .hurry = request.hurry});
    request.units = std::move(total.units);
    drop_unknown(server, parts, request.version());

    for (Part& part : parts) {
        const FetchKey& key = part.target->key;
        const FetchSessions::Seen seen{.error = part.outcome.error,
                                       .high_watermark = part.outcome.high_watermark,
                                       .log_start_offset = part.outcome.log_start_offset,
                                       .has_data = part.outcome.size > 0 ||
                                                   part.outcome.diverging.has_value() ||
                                                   part.outcome.redirect_to_nearest};
        if (plan.session_id != 0) {
            const bool has_news = server.fetch_sessions().note(plan.session_id, key, seen);
            if (plan.incremental && !has_news) continue;
        }
        const bool same_topic = !response.responses.empty() &&
                                response.responses.back().topic == key.topic &&
                                response.responses.back().topic_id == key.topic_id;
        if (!same_topic) {
            FetchResponse::Topic& topic = response.responses.emplace_back();
            topic.topic = key.topic;
            topic.topic_id = key.topic_id;
        }
        response.responses.back().partitions.push_back(
            describe(request, part, body.isolation_level));
        if (request.version() >= kEndpointsVersion) {
            add_endpoint(server,
                         response.responses.back().partitions.back().current_leader.leader_id,
                         response.node_endpoints);
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_fetch(Request& request) {
    return run_handler<FetchRequest, FetchResponse, answer>(request);
}

}  // namespace weir::kafka
