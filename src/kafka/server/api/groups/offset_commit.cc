// OffsetCommit: answered when the offsets are on stable storage.
#include "kafka/protocol/offset_commit.h"

#include <map>

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using runtime::Task;

// On the coordinator's shard, in the step that commits, so that no deletion comes in between.
void refuse_unknown(Server& server, CommitInput& input) {
    for (CommitTopic& topic : input.topics) {
        const cluster::TopicImage* image = server.image().find(topic.name);
        for (CommitPartition& partition : topic.partitions) {
            if (partition.refused != KafkaError::kNone) continue;
            partition.refused = find_partition(server, image, partition.index).error;
        }
    }
}

OffsetCommitResponse describe(const OffsetCommitRequest& body, const CommitReply& reply) {
    OffsetCommitResponse response;
    for (size_t t = 0; t < body.topics.size(); ++t) {
        OffsetCommitResponse::Topic& topic = response.topics.emplace_back();
        topic.name = body.topics[t].name;
        topic.topic_id = body.topics[t].topic_id;
        for (size_t p = 0; p < body.topics[t].partitions.size(); ++p) {
            topic.partitions.push_back({body.topics[t].partitions[p].partition_index,
                                        code(reply.topics[t].partitions[p].error)});
        }
    }
    return response;
}

CommitReply refuse_all(const OffsetCommitRequest& body, KafkaError error) {
    CommitReply reply;
    for (const auto& topic : body.topics) {
        TopicErrors& errors = reply.topics.emplace_back();
        for (const auto& partition : topic.partitions)
            errors.partitions.push_back({partition.partition_index, error});
    }
    return reply;
}

}  // namespace

Task<Result<void>> handle_offset_commit(Request& request) {
    ByteReader in(request.body);
    const int16_t version = request.version();
    Server& server = request.server;
    const OffsetCommitRequest body =
        co_await runtime::try_(OffsetCommitRequest::decode(in, version));
    CommitInput input;
    input.group = body.group_id;
    input.generation = body.generation_id_or_member_epoch;
    input.member_id = body.member_id;
    input.instance_id = body.group_instance_id;
    input.knows_group_not_found = version >= 9;
    if (body.retention_time_ms >= 0)
        input.retention = std::chrono::milliseconds(
            std::min<int64_t>(body.retention_time_ms, INT64_MAX / 1'000'000));
    for (const auto& topic : body.topics) {
        CommitTopic& commit = input.topics.emplace_back();
        commit.name = topic.name;
        KafkaError refused = KafkaError::kNone;
        if (version >= 10) {
            const cluster::TopicImage* image = server.image().find(topic.topic_id);
            if (image != nullptr) commit.name = image->name;
            if (image == nullptr) refused = KafkaError::kUnknownTopicId;
        }
        for (const auto& partition : topic.partitions) {
            commit.partitions.push_back({.index = partition.partition_index,
                                         .offset = partition.committed_offset,
                                         .leader_epoch = partition.committed_leader_epoch,
                                         .metadata = partition.committed_metadata.value_or(""),
                                         .refused = refused});
        }
    }
    CommitReply reply;
    const auto place = place_of_group(server, body.group_id);
    if (!place) {
        reply = refuse_all(body, KafkaError::kNotCoordinator);
    } else {
        auto called = co_await call_group(
            request, body.group_id,
            [input = std::move(input), peer = &server.peer(place->owner)](
                GroupCoordinator& coordinator, RequestId id, Moment now) mutable {
                refuse_unknown(*peer, input);
                return coordinator.commit_offsets(id, std::move(input), now);
            });
        if (called) {
            reply = std::move(std::get<CommitReply>(called->body));
        } else if (called.error().code == ErrorCode::kNotFound) {
            reply = refuse_all(body, KafkaError::kNotCoordinator);
        } else {
            co_return fail(std::move(called).error());
        }
    }
    co_return describe(body, reply).encode(request.out, version);
}

}  // namespace weir::kafka
