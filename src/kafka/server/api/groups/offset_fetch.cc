// OffsetFetch: the offsets that groups have committed. What was never committed is -1, not an
// error.
#include "kafka/protocol/offset_fetch.h"

#include "kafka/server/api/groups/group_calls.h"
#include "kafka/server/api/repeated.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/net/handler.h"
#include "runtime/remote.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<OffsetFetchReply> fetch_at_coordinator(Server& server, std::string group,
                                            std::optional<std::vector<TopicPartitions>> topics) {
    OffsetFetchReply refused;
    refused.error = KafkaError::kNotCoordinator;
    const auto place = place_of_group(server, group);
    if (!place) co_return refused;
    co_return co_await runtime::on(
        place->owner,
        [peer = &server.peer(place->owner), partition = place->partition, group = std::move(group),
         topics = std::move(topics), refused]() -> Task<OffsetFetchReply> {
            const auto driver = peer->groups().find(partition);
            if (driver == nullptr) co_return refused;
            co_return driver->machine().fetch_offsets(group, topics);
        });
}

std::vector<OffsetFetchResponse::Topic> describe(Server& server, const OffsetFetchReply& reply,
                                                 bool by_id) {
    std::vector<OffsetFetchResponse::Topic> topics;
    for (const OffsetFetchReply::Topic& from : reply.topics) {
        OffsetFetchResponse::Topic& topic = topics.emplace_back();
        topic.name = from.name;
        const cluster::TopicImage* image = by_id ? server.image().find(from.name) : nullptr;
        if (image != nullptr) topic.topic_id = image->id;
        if (by_id && image == nullptr) {
            topics.pop_back();  // deleted: there is no id to call it by
            continue;
        }
        for (const FetchedOffset& offset : from.partitions) {
            topic.partitions.push_back({.partition_index = offset.index,
                                        .committed_offset = offset.offset,
                                        .committed_leader_epoch = offset.leader_epoch,
                                        .metadata = offset.metadata,
                                        .error_code = 0});
        }
    }
    return topics;
}

// Before version 2 an error of the group has no place of its own, so each partition has it.
std::vector<OffsetFetchResponse::Topic> refuse_each(const OffsetFetchRequest& body,
                                                    KafkaError error) {
    std::vector<OffsetFetchResponse::Topic> topics;
    if (!body.topics) return topics;
    for (const OffsetFetchRequest::Topic& wanted : *body.topics) {
        OffsetFetchResponse::Topic& topic = topics.emplace_back();
        topic.name = wanted.name;
        for (const int32_t index : wanted.partition_indexes) {
            topic.partitions.push_back({.partition_index = index,
                                        .committed_offset = -1,
                                        .committed_leader_epoch = -1,
                                        .metadata = "",
                                        .error_code = code(error)});
        }
    }
    return topics;
}

struct Wanted {
    std::optional<std::vector<TopicPartitions>> topics;
    std::vector<OffsetFetchResponse::Topic> unknown;  // asked for by an id that there is not
};

Wanted wanted(Server& server, const std::optional<std::vector<OffsetFetchRequest::Topic>>& topics,
              bool by_id) {
    Wanted wanted;
    if (!topics) return wanted;
    wanted.topics.emplace();
    for (const OffsetFetchRequest::Topic& topic : *topics) {
        if (!by_id) {
            wanted.topics->push_back({topic.name, topic.partition_indexes});
        } else if (const cluster::TopicImage* image = server.image().find(topic.topic_id)) {
            wanted.topics->push_back({image->name, topic.partition_indexes});
        } else {
            OffsetFetchResponse::Topic& unknown = wanted.unknown.emplace_back();
            unknown.topic_id = topic.topic_id;
            for (const int32_t index : topic.partition_indexes) {
                unknown.partitions.push_back({.partition_index = index,
                                              .committed_offset = -1,
                                              .committed_leader_epoch = -1,
                                              .metadata = "",
                                              .error_code = code(KafkaError::kUnknownTopicId)});
            }
        }
    }
    drop_repeated_partitions(*wanted.topics, &TopicPartitions::name, &TopicPartitions::partitions);
    return wanted;
}

Task<OffsetFetchResponse> answer(Request& request, OffsetFetchRequest body) {
    Server& server = request.server;
    const int16_t version = request.version();
    OffsetFetchResponse response;
    if (version < 8) {
        const OffsetFetchReply reply = co_await fetch_at_coordinator(
            server, body.group_id, wanted(server, body.topics, false).topics);
        response.topics = describe(server, reply, false);
        if (reply.error == KafkaError::kNone) co_return response;
        if (version >= 2) {
            response.error_code = code(reply.error);
        } else {
            response.topics = refuse_each(body, reply.error);
        }
        co_return response;
    }
    const bool by_id = version >= 10;
    drop_repeated(body.groups,
                  [](const OffsetFetchRequest::Group& group) { return group.group_id; });
    for (OffsetFetchRequest::Group& group : body.groups) {
        Wanted ask = wanted(server, group.topics, by_id);
        const OffsetFetchReply reply =
            co_await fetch_at_coordinator(server, group.group_id, std::move(ask.topics));
        OffsetFetchResponse::Group& result = response.groups.emplace_back();
        result.group_id = std::move(group.group_id);
        result.error_code = code(reply.error);
        result.topics = describe(server, reply, by_id);
        for (auto& unknown : ask.unknown) result.topics.push_back(std::move(unknown));
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_offset_fetch(Request& request) {
    return run_handler<OffsetFetchRequest, OffsetFetchResponse, answer>(request);
}

}  // namespace weir::kafka
