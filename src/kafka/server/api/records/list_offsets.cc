// ListOffsets: the first and last offset, the offset of the largest timestamp, and the first record
// at or after a time.
#include "kafka/protocol/list_offsets.h"

#include <map>
#include <utility>

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

struct Question {
    storage::LogId log;
    int64_t timestamp_ms = 0;
    int32_t current_leader_epoch = -1;
};

Task<std::vector<OffsetOutcome>> find_here(Server& server, std::vector<Question> questions) {
    std::vector<OffsetOutcome> outcomes;
    for (const Question& question : questions) {
        Partition* partition = server.partitions().find(question.log);
        const auto use = partition != nullptr ? partition->enter() : std::nullopt;
        if (!use) {
            outcomes.push_back({.error = KafkaError::kNotLeaderOrFollower});
            continue;
        }
        outcomes.push_back(
            co_await partition->find_offset(question.timestamp_ms, question.current_leader_epoch));
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return outcomes;
}

// Which of the negative timestamps a version knows.
bool is_known(int64_t timestamp_ms, int16_t version) {
    switch (timestamp_ms) {
        case -1:
        case -2:
            return true;
        case -3:
            return version >= 7;
        case -4:
            return version >= 8;
        case -5:
            return version >= 9;
        case -6:
            return version >= 11;
        default:
            return timestamp_ms >= 0;
    }
}

Task<ListOffsetsResponse> answer(Request& request, ListOffsetsRequest body) {
    Server& server = request.server;
    ListOffsetsResponse response;
    // Kafka refuses what is named twice.
    std::map<std::pair<std::string_view, int32_t>, size_t> times;
    for (const ListOffsetsRequest::Topic& topic : body.topics) {
        for (const ListOffsetsRequest::Partition& partition : topic.partitions) {
            ++times[{topic.name, partition.partition_index}];
            if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        }
    }
    response.topics.resize(body.topics.size());
    std::vector<std::pair<runtime::ShardId, Question>> questions;
    std::vector<std::pair<ListOffsetsResponse::Partition*, int32_t>> asked;
    for (size_t t = 0; t < body.topics.size(); ++t) {
        response.topics[t].name = body.topics[t].name;
        response.topics[t].partitions.reserve(body.topics[t].partitions.size());
        const cluster::TopicImage* topic = server.image().find(body.topics[t].name);
        for (size_t p = 0; p < body.topics[t].partitions.size(); ++p) {
            if (runtime::Shard::current().need_preempt()) {
                co_await runtime::yield();
                topic = server.image().find(body.topics[t].name);
            }
            const ListOffsetsRequest::Partition& wanted = body.topics[t].partitions[p];
            const size_t named =
                std::exchange(times[{body.topics[t].name, wanted.partition_index}], 0);
            if (named == 0) continue;
            ListOffsetsResponse::Partition& partition =
                response.topics[t].partitions.emplace_back();
            partition.partition_index = wanted.partition_index;
            const FoundPartition found = find_partition(server, topic, wanted.partition_index);
            if (named > 1) {
                partition.error_code = code(KafkaError::kInvalidRequest);
            } else if (found.error != KafkaError::kNone) {
                partition.error_code = code(found.error);
            } else if (!is_known(wanted.timestamp, request.version())) {
                partition.error_code = code(KafkaError::kUnsupportedVersion);
            } else {
                questions.emplace_back(found.owner, Question{found.log, wanted.timestamp,
                                                             wanted.current_leader_epoch});
                asked.emplace_back(&partition, wanted.max_num_offsets);
            }
        }
    }
    const auto outcomes =
        co_await fan_out<Question, OffsetOutcome, find_here>(server, std::move(questions));
    for (size_t i = 0; i < outcomes.size(); ++i) {
        auto& [partition, offsets_max] = asked[i];
        const OffsetOutcome& outcome = outcomes[i];
        // A leader that does not know yet what is committed; older clients know another word for
        // it.
        const bool is_old_word =
            outcome.error == KafkaError::kOffsetNotAvailable && request.version() < 5;
        partition->error_code = code(is_old_word ? KafkaError::kLeaderNotAvailable : outcome.error);
        if (request.version() == 0) {
            if (outcome.offset >= 0 && offsets_max > 0)
                partition->old_style_offsets.push_back(outcome.offset);
            continue;
        }
        partition->offset = outcome.offset;
        partition->timestamp = outcome.timestamp_ms;
        partition->leader_epoch = outcome.leader_epoch;
    }
    std::erase_if(response.topics, [](const auto& topic) { return topic.partitions.empty(); });
    co_return response;
}

}  // namespace

Task<Result<void>> handle_list_offsets(Request& request) {
    return run_handler<ListOffsetsRequest, ListOffsetsResponse, answer>(request);
}

}  // namespace weir::kafka
