// DeleteRecords: moves the first offset of partitions up. What lies below is gone when the answer
// goes out.
#include "kafka/protocol/delete_records.h"

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

struct Question {
    storage::LogId log;
    int64_t before_offset = 0;
};

struct Answer {
    KafkaError error = KafkaError::kNone;
    int64_t low_watermark = -1;
};

Task<std::vector<Answer>> delete_here(Server& server, std::vector<Question> questions) {
    std::vector<Answer> answers;
    for (const Question& question : questions) {
        Answer answer;
        Partition* partition = server.partitions().find(question.log);
        const auto use = partition != nullptr ? partition->enter() : std::nullopt;
        if (use) {
            const auto low = co_await partition->delete_records(question.before_offset);
            answer.error = low ? KafkaError::kNone : low.error();
            answer.low_watermark = low.value_or(-1);
        } else {
            answer.error = KafkaError::kNotLeaderOrFollower;
        }
        answers.push_back(answer);
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return answers;
}

Task<DeleteRecordsResponse> answer(Request& request, DeleteRecordsRequest body) {
    Server& server = request.server;
    DeleteRecordsResponse response;
    response.topics.resize(body.topics.size());
    std::vector<std::pair<runtime::ShardId, Question>> questions;
    std::vector<DeleteRecordsResponse::Partition*> asked;
    for (size_t t = 0; t < body.topics.size(); ++t) {
        response.topics[t].name = body.topics[t].name;
        response.topics[t].partitions.resize(body.topics[t].partitions.size());
        const cluster::TopicImage* topic = server.image().find(body.topics[t].name);
        for (size_t p = 0; p < body.topics[t].partitions.size(); ++p) {
            if (runtime::Shard::current().need_preempt()) {
                co_await runtime::yield();
                topic = server.image().find(body.topics[t].name);
            }
            const DeleteRecordsRequest::Partition& wanted = body.topics[t].partitions[p];
            DeleteRecordsResponse::Partition& partition = response.topics[t].partitions[p];
            partition.partition_index = wanted.partition_index;
            partition.low_watermark = -1;
            const FoundPartition found = find_partition(server, topic, wanted.partition_index);
            KafkaError error = found.error;
            if (error == KafkaError::kNone && cluster::is_internal_topic(topic->name))
                error = KafkaError::kInvalidTopicException;
            // A compacted topic keeps the last record of each key: cutting it by offset would break
            // that promise.
            if (error == KafkaError::kNone && !server.metadata().settings(*topic).deletes)
                error = KafkaError::kPolicyViolation;
            partition.error_code = code(error);
            if (error != KafkaError::kNone) continue;
            questions.emplace_back(found.owner, Question{found.log, wanted.offset});
            asked.push_back(&partition);
        }
    }
    const auto answers =
        co_await fan_out<Question, Answer, delete_here>(server, std::move(questions));
    for (size_t i = 0; i < answers.size(); ++i) {
        asked[i]->error_code = code(answers[i].error);
        asked[i]->low_watermark = answers[i].low_watermark;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_delete_records(Request& request) {
    return run_handler<DeleteRecordsRequest, DeleteRecordsResponse, answer>(request);
}

}  // namespace weir::kafka
