#include "kafka/groups/wire.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace weir::kafka {
namespace {

using Milliseconds = std::chrono::milliseconds;

// A client may ask for any 64-bit number of milliseconds; more than this is as good as for ever.
constexpr Milliseconds kRetentionMax = std::chrono::years(100);

template <class Topics>
std::vector<TopicPartitions> partitions_of(Topics& topics) {
    std::vector<TopicPartitions> result;
    result.reserve(topics.size());
    for (auto& topic : topics)
        result.push_back({std::move(topic.name), std::move(topic.partition_indexes)});
    return result;
}

// v0 and v1 have no error for the whole, so each partition carries it; later an error comes without
// partitions.
std::vector<OffsetFetchResponse::Topic> fetched_topics(OffsetFetchReply& reply, int16_t version) {
    if (version >= 2 && reply.error != KafkaError::kNone) return {};
    std::vector<OffsetFetchResponse::Topic> topics;
    topics.reserve(reply.topics.size());
    for (auto& fetched : reply.topics) {
        OffsetFetchResponse::Topic& topic = topics.emplace_back();
        topic.name = std::move(fetched.name);
        topic.partitions.reserve(fetched.partitions.size());
        for (FetchedOffset& offset : fetched.partitions) {
            topic.partitions.push_back({.partition_index = offset.index,
                                        .committed_offset = offset.offset,
                                        .committed_leader_epoch = offset.leader_epoch,
                                        .metadata = std::move(offset.metadata),
                                        .error_code = code(reply.error)});
        }
    }
    return topics;
}

}  // namespace

// ---- Requests

JoinInput join_input(JoinGroupRequest request, int16_t version, std::string client_id,
                     std::string client_host) {
    JoinInput input;
    input.group = std::move(request.group_id);
    input.member_id = std::move(request.member_id);
    input.instance_id = std::move(request.group_instance_id);
    input.client_id = std::move(client_id);
    input.client_host = std::move(client_host);
    input.session_timeout = Milliseconds(request.session_timeout_ms);
    if (version >= 1) input.rebalance_timeout = Milliseconds(request.rebalance_timeout_ms);
    input.protocol_type = std::move(request.protocol_type);
    input.protocols.reserve(request.protocols.size());
    for (auto& protocol : request.protocols)
        input.protocols.push_back({std::move(protocol.name), std::move(protocol.metadata)});
    input.reason = std::move(request.reason).value_or("");
    input.two_step_join = version >= 4;
    input.can_skip_assignment = version >= 9;
    return input;
}

SyncInput sync_input(SyncGroupRequest request) {
    SyncInput input;
    input.group = std::move(request.group_id);
    input.generation = request.generation_id;
    input.member_id = std::move(request.member_id);
    input.instance_id = std::move(request.group_instance_id);
    input.protocol_type = std::move(request.protocol_type);
    input.protocol_name = std::move(request.protocol_name);
    input.assignments.reserve(request.assignments.size());
    for (auto& item : request.assignments)
        input.assignments.push_back({std::move(item.member_id), std::move(item.assignment)});
    return input;
}

HeartbeatInput heartbeat_input(HeartbeatRequest request) {
    return {std::move(request.group_id), request.generation_id, std::move(request.member_id),
            std::move(request.group_instance_id)};
}

LeaveInput leave_input(LeaveGroupRequest request, int16_t version) {
    LeaveInput input;
    input.group = std::move(request.group_id);
    if (version < 3) {
        input.members.push_back({std::move(request.member_id), std::nullopt, ""});
        return input;
    }
    input.members.reserve(request.members.size());
    for (auto& member : request.members) {
        input.members.push_back({std::move(member.member_id), std::move(member.group_instance_id),
                                 std::move(member.reason).value_or("")});
    }
    return input;
}

CommitInput commit_input(OffsetCommitRequest request) {
    CommitInput input;
    input.group = std::move(request.group_id);
    input.generation = request.generation_id_or_member_epoch;
    input.member_id = std::move(request.member_id);
    input.instance_id = std::move(request.group_instance_id);
    if (request.retention_time_ms >= 0) {
        input.retention =
            std::min<Milliseconds>(Milliseconds(request.retention_time_ms), kRetentionMax);
    }
    input.topics.reserve(request.topics.size());
    for (auto& topic : request.topics) {
        CommitTopic& into = input.topics.emplace_back();
        into.name = std::move(topic.name);
        into.partitions.reserve(topic.partitions.size());
        for (auto& partition : topic.partitions) {
            into.partitions.push_back(
                {.index = partition.partition_index,
                 .offset = partition.committed_offset,
                 .leader_epoch = partition.committed_leader_epoch,
                 .metadata = std::move(partition.committed_metadata).value_or("")});
        }
    }
    return input;
}

OffsetDeleteInput offset_delete_input(OffsetDeleteRequest request) {
    OffsetDeleteInput input;
    input.group = std::move(request.group_id);
    input.topics.reserve(request.topics.size());
    for (auto& topic : request.topics) {
        TopicPartitions& into = input.topics.emplace_back();
        into.name = std::move(topic.name);
        for (const auto& partition : topic.partitions)
            into.partitions.push_back(partition.partition_index);
    }
    return input;
}

std::vector<OffsetFetchInput> offset_fetch_inputs(OffsetFetchRequest request, int16_t version) {
    std::vector<OffsetFetchInput> inputs;
    if (version < 8) {
        OffsetFetchInput& input = inputs.emplace_back();
        input.group = std::move(request.group_id);
        if (request.topics) input.topics = partitions_of(*request.topics);
        return inputs;
    }
    inputs.reserve(request.groups.size());
    for (auto& group : request.groups) {
        OffsetFetchInput& input = inputs.emplace_back();
        input.group = std::move(group.group_id);
        if (group.topics) input.topics = partitions_of(*group.topics);
    }
    return inputs;
}

// ---- Responses

JoinGroupResponse join_response(JoinReply reply, int16_t version) {
    JoinGroupResponse response;
    response.error_code = code(reply.error);
    response.generation_id = reply.generation;
    response.protocol_type = std::move(reply.protocol_type);
    response.protocol_name = std::move(reply.protocol_name);
    if (version < 7 && !response.protocol_name) response.protocol_name = "";
    response.leader = std::move(reply.leader);
    response.skip_assignment = reply.skip_assignment;
    response.member_id = std::move(reply.member_id);
    response.members.reserve(reply.members.size());
    for (JoinReplyMember& member : reply.members) {
        response.members.push_back({std::move(member.member_id), std::move(member.instance_id),
                                    std::move(member.metadata)});
    }
    return response;
}

SyncGroupResponse sync_response(SyncReply reply) {
    SyncGroupResponse response;
    response.error_code = code(reply.error);
    response.protocol_type = std::move(reply.protocol_type);
    response.protocol_name = std::move(reply.protocol_name);
    response.assignment = std::move(reply.assignment);
    return response;
}

HeartbeatResponse heartbeat_response(HeartbeatReply reply) {
    HeartbeatResponse response;
    response.error_code = code(reply.error);
    return response;
}

LeaveGroupResponse leave_response(LeaveReply reply, int16_t version) {
    LeaveGroupResponse response;
    response.error_code = code(reply.error);
    if (version < 3) {
        // One member left, and its verdict is all that there is to say.
        if (reply.error == KafkaError::kNone) {
            CHECK(reply.members.size() == 1);
            response.error_code = code(reply.members.front().error);
        }
        return response;
    }
    response.members.reserve(reply.members.size());
    for (auto& member : reply.members) {
        response.members.push_back(
            {std::move(member.member_id), std::move(member.instance_id), code(member.error)});
    }
    return response;
}

OffsetCommitResponse commit_response(CommitReply reply) {
    OffsetCommitResponse response;
    response.topics.reserve(reply.topics.size());
    for (TopicErrors& errors : reply.topics) {
        auto& topic = response.topics.emplace_back();
        topic.name = std::move(errors.name);
        topic.partitions.reserve(errors.partitions.size());
        for (const PartitionError& partition : errors.partitions)
            topic.partitions.push_back({partition.index, code(partition.error)});
    }
    return response;
}

OffsetDeleteResponse offset_delete_response(OffsetDeleteReply reply) {
    OffsetDeleteResponse response;
    response.error_code = code(reply.error);
    response.topics.reserve(reply.topics.size());
    for (TopicErrors& errors : reply.topics) {
        auto& topic = response.topics.emplace_back();
        topic.name = std::move(errors.name);
        for (const PartitionError& partition : errors.partitions)
            topic.partitions.push_back({partition.index, code(partition.error)});
    }
    return response;
}

OffsetFetchResponse offset_fetch_response(std::vector<GroupOffsets> groups, int16_t version) {
    OffsetFetchResponse response;
    if (version < 8) {
        CHECK(groups.size() == 1);
        OffsetFetchReply& reply = groups.front().reply;
        response.error_code = code(reply.error);
        response.topics = fetched_topics(reply, version);
        return response;
    }
    response.groups.reserve(groups.size());
    for (auto& [group, reply] : groups) {
        response.groups.push_back(
            {std::move(group), fetched_topics(reply, version), code(reply.error)});
    }
    return response;
}

DeleteGroupsResponse::Group delete_groups_result(std::string group, DeleteGroupReply reply) {
    return {std::move(group), code(reply.error), std::nullopt};
}

ListGroupsResponse::Group list_groups_entry(ListedGroup group) {
    return {std::move(group.group), std::move(group.protocol_type), std::move(group.state),
            std::move(group.type)};
}

DescribeGroupsResponse::Group describe_groups_entry(std::string group, DescribeGroupReply reply,
                                                    int16_t version) {
    DescribeGroupsResponse::Group entry;
    if (reply.error == KafkaError::kGroupIdNotFound) {
        // KIP-1043: before v6, a group that is not there is a dead one, without an error.
        if (version < 6)
            reply.error = KafkaError::kNone;
        else
            entry.error_message = "no group has this id";
    }
    entry.error_code = code(reply.error);
    entry.group_id = std::move(group);
    entry.group_state = std::move(reply.state);
    entry.protocol_type = std::move(reply.protocol_type);
    entry.protocol_data = std::move(reply.protocol);
    entry.members.reserve(reply.members.size());
    for (DescribedMember& member : reply.members) {
        entry.members.push_back({std::move(member.member_id), std::move(member.instance_id),
                                 std::move(member.client_id), std::move(member.client_host),
                                 std::move(member.metadata), std::move(member.assignment)});
    }
    return entry;
}

}  // namespace weir::kafka
