// Produce: batches are checked here, on the connection's shard, where their bytes were received,
// and appended on the shards that own their partitions. With acks=all the answer goes out when all
// are committed, which is on stable storage of a majority of their replicas; with acks=1, when they
// are on this node's. With acks=0 there is no answer, and an error closes the connection.
#include "kafka/protocol/produce.h"

#include <algorithm>

#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/intake.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/producing.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

// Since then an answer can say who leads, and where that is (KIP-951).
constexpr int16_t kEndpointsVersion = 10;

void refuse(ProduceResponse::Partition& answer, KafkaError error, std::string_view message = {}) {
    answer.error_code = code(error);
    answer.base_offset = -1;
    answer.log_append_time_ms = -1;
    if (!message.empty()) answer.error_message = message;
}

void refuse(ProduceResponse::Partition& answer, const BatchRefusal& refusal) {
    refuse(answer, refusal.error, refusal.message);
    for (const RecordFault& fault : refusal.records)
        answer.record_errors.push_back({fault.index, std::string(to_string(fault.kind))});
}

void fill(Server& server, storage::LogId log, const AppendOutcome& outcome,
          ProduceResponse::Partition& answer) {
    answer.log_start_offset = outcome.log_start_offset;
    if (outcome.error != KafkaError::kNone) {
        refuse(answer, outcome.error, outcome.message);
        if (names_leader(outcome.error)) {
            const LeaderHint hint = leader_hint(server, log, outcome.hint);
            answer.current_leader = {hint.leader, hint.epoch};
        }
        return;
    }
    answer.base_offset = outcome.base_offset;
    answer.log_append_time_ms = outcome.log_append_time_ms;
}

void set_error_everywhere(ProduceResponse& response, KafkaError error, std::string_view message) {
    for (ProduceResponse::Topic& topic : response.responses) {
        for (ProduceResponse::Partition& partition : topic.partition_responses)
            refuse(partition, error, message);
    }
}

Task<ProduceResponse> answer(Request& request, ProduceRequest body) {
    Server& server = request.server;
    const bool by_id = request.version() >= 13;
    ProduceResponse response;
    response.responses.resize(body.topic_data.size());
    for (size_t t = 0; t < body.topic_data.size(); ++t) {
        response.responses[t].name = body.topic_data[t].name;
        response.responses[t].topic_id = body.topic_data[t].topic_id;
        response.responses[t].partition_responses.resize(body.topic_data[t].partition_data.size());
        for (size_t p = 0; p < body.topic_data[t].partition_data.size(); ++p) {
            response.responses[t].partition_responses[p].index =
                body.topic_data[t].partition_data[p].index;
        }
    }
    request.no_response = body.acks == 0;
    if (body.acks < -1 || body.acks > 1) {
        set_error_everywhere(response, KafkaError::kInvalidRequiredAcks,
                             "acks must be -1, 0 or 1.");
        co_return response;
    }
    if (body.transactional_id) {
        set_error_everywhere(response, KafkaError::kInvalidTxnState,
                             "This server does not serve transactions yet.");
        request.close_after = request.no_response;
        co_return response;
    }
    std::vector<AppendItem> items;
    // One for each item.
    std::vector<std::pair<storage::LogId, ProduceResponse::Partition*>> answers;
    for (size_t t = 0; t < body.topic_data.size(); ++t) {
        for (size_t p = 0; p < body.topic_data[t].partition_data.size(); ++p) {
            const ProduceRequest::Partition& data = body.topic_data[t].partition_data[p];
            ProduceResponse::Partition& partition = response.responses[t].partition_responses[p];
            // Looked up for each, since checking a batch lets others run.
            const cluster::TopicImage* topic =
                by_id ? server.image().find(body.topic_data[t].topic_id)
                      : server.image().find(body.topic_data[t].name);
            const FoundPartition found = find_partition(server, topic, data.index, by_id);
            if (found.error != KafkaError::kNone) {
                refuse(partition, found.error);
                continue;
            }
            // What the node keeps in there is its own to write: a record of a stranger's would be
            // replayed as a group's offset.
            if (cluster::is_internal_topic(topic->name)) {
                refuse(partition, KafkaError::kInvalidTopicException,
                       "Clients may not write to an internal topic.");
                continue;
            }
            const Bytes records = data.records.parts.empty() ? Bytes() : data.records.parts.front();
            const cluster::TopicSettings settings = server.metadata().settings(*topic);
            auto batch = co_await check_batch(
                server.unpacking(), request.frame, records, settings,
                {.old_formats = request.version() < 3, .zstd_allowed = request.version() >= 7},
                request.stop);
            if (!batch) {
                refuse(partition, batch.error());
                continue;
            }
            items.push_back(
                {.log = found.log,
                 .owner = found.owner,
                 .batch = std::move(*batch),
                 .options = {.log_append_time = settings.log_append_time,
                             .in_sync_min = body.acks == -1 ? settings.in_sync_min : 1}});
            answers.emplace_back(found.log, &partition);
        }
    }
    const Duration timeout = std::chrono::milliseconds(std::clamp(body.timeout_ms, 1'000, 300'000));
    const int16_t acks = body.acks;
    // Nothing that follows reads the frame: its batches belong to their partitions now.
    body = {};
    request.body = {};
    request.frame = {};
    if (co_await request.turn.wait(request.stop)) {
        const auto outcomes =
            co_await append_items(server, std::move(items), {.acks = acks, .timeout = timeout},
                                  *request.tickets, &request.turn);
        for (size_t i = 0; i < outcomes.size(); ++i)
            fill(server, answers[i].first, outcomes[i], *answers[i].second);
    } else {
        for (const auto& [log, partition] : answers)
            refuse(*partition, KafkaError::kRequestTimedOut);
    }
    for (const ProduceResponse::Topic& topic : response.responses) {
        for (const ProduceResponse::Partition& partition : topic.partition_responses) {
            if (partition.error_code == 0) continue;
            if (request.version() >= kEndpointsVersion)
                add_endpoint(server, partition.current_leader.leader_id, response.node_endpoints);
            ++server.metrics().produce_errors;
            if (request.no_response) request.close_after = true;
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_produce(Request& request) {
    return run_handler<ProduceRequest, ProduceResponse, answer>(request);
}

}  // namespace weir::kafka
