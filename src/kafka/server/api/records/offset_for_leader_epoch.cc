// OffsetForLeaderEpoch (KIP-320): where an epoch ended, so that a client sees whether records that
// it has read are gone.
#include "kafka/protocol/offset_for_leader_epoch.h"

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

struct Question {
    storage::LogId log;
    int32_t epoch = -1;
    int32_t current_leader_epoch = -1;
};

struct Answer {
    KafkaError error = KafkaError::kNone;
    storage::Log::TermEnd end{-1, -1};
};

Task<std::vector<Answer>> find_here(Server& server, std::vector<Question> questions) {
    std::vector<Answer> answers;
    for (const Question& question : questions) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        Answer& answer = answers.emplace_back();
        const Partition* partition = server.partitions().find(question.log);
        if (partition == nullptr) {
            answer.error = KafkaError::kNotLeaderOrFollower;
            continue;
        }
        answer.error = partition->check_epoch(question.current_leader_epoch);
        if (answer.error == KafkaError::kNone && !partition->is_leader())
            answer.error = KafkaError::kNotLeaderOrFollower;
        if (answer.error == KafkaError::kNone) answer.end = partition->end_of_epoch(question.epoch);
    }
    co_return answers;
}

Task<OffsetForLeaderEpochResponse> answer(Request& request, OffsetForLeaderEpochRequest body) {
    Server& server = request.server;
    OffsetForLeaderEpochResponse response;
    response.topics.resize(body.topics.size());
    std::vector<std::pair<runtime::ShardId, Question>> questions;
    std::vector<OffsetForLeaderEpochResponse::Partition*> asked;
    for (size_t t = 0; t < body.topics.size(); ++t) {
        response.topics[t].topic = body.topics[t].topic;
        response.topics[t].partitions.resize(body.topics[t].partitions.size());
        const cluster::TopicImage* topic = server.image().find(body.topics[t].topic);
        for (size_t p = 0; p < body.topics[t].partitions.size(); ++p) {
            if (runtime::Shard::current().need_preempt()) {
                co_await runtime::yield();
                topic = server.image().find(body.topics[t].topic);
            }
            const OffsetForLeaderEpochRequest::Partition& wanted = body.topics[t].partitions[p];
            OffsetForLeaderEpochResponse::Partition& partition = response.topics[t].partitions[p];
            partition.partition = wanted.partition;
            const FoundPartition found = find_partition(server, topic, wanted.partition);
            partition.error_code = code(found.error);
            if (found.error != KafkaError::kNone) continue;
            questions.emplace_back(
                found.owner, Question{found.log, wanted.leader_epoch, wanted.current_leader_epoch});
            asked.push_back(&partition);
        }
    }
    const auto answers =
        co_await fan_out<Question, Answer, find_here>(server, std::move(questions));
    for (size_t i = 0; i < answers.size(); ++i) {
        asked[i]->error_code = code(answers[i].error);
        asked[i]->leader_epoch = answers[i].end.term;
        asked[i]->end_offset = answers[i].end.end_offset;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_offset_for_leader_epoch(Request& request) {
    return run_handler<OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, answer>(request);
}

}  // namespace weir::kafka
