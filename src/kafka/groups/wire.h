// Between the codecs' messages and the coordinator's values: what a version of an API means, and
// what it can be told. Two things are left to the handlers, since they take the topics' table:
// names for topic ids (OffsetCommit and OffsetFetch from v10), and refusing topics that are not
// there or not allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kafka/groups/messages.h"
#include "kafka/protocol/delete_groups.h"
#include "kafka/protocol/describe_groups.h"
#include "kafka/protocol/heartbeat.h"
#include "kafka/protocol/join_group.h"
#include "kafka/protocol/leave_group.h"
#include "kafka/protocol/list_groups.h"
#include "kafka/protocol/offset_commit.h"
#include "kafka/protocol/offset_delete.h"
#include "kafka/protocol/offset_fetch.h"
#include "kafka/protocol/sync_group.h"

namespace weir::kafka {

JoinInput join_input(JoinGroupRequest request, int16_t version, std::string client_id,
                     std::string client_host);
SyncInput sync_input(SyncGroupRequest request);
HeartbeatInput heartbeat_input(HeartbeatRequest request);
LeaveInput leave_input(LeaveGroupRequest request, int16_t version);
CommitInput commit_input(OffsetCommitRequest request);
OffsetDeleteInput offset_delete_input(OffsetDeleteRequest request);

// One group's part of an OffsetFetch: up to v7 there is one, from v8 many, perhaps of several
// coordinators.
struct OffsetFetchInput {
    std::string group;
    std::optional<std::vector<TopicPartitions>> topics;
};
std::vector<OffsetFetchInput> offset_fetch_inputs(OffsetFetchRequest request, int16_t version);
struct GroupOffsets {
    std::string group;
    OffsetFetchReply reply;
};

JoinGroupResponse join_response(JoinReply reply, int16_t version);
SyncGroupResponse sync_response(SyncReply reply);
HeartbeatResponse heartbeat_response(HeartbeatReply reply);
LeaveGroupResponse leave_response(LeaveReply reply, int16_t version);
OffsetCommitResponse commit_response(CommitReply reply);
OffsetDeleteResponse offset_delete_response(OffsetDeleteReply reply);
// Replies in the order of offset_fetch_inputs().
OffsetFetchResponse offset_fetch_response(std::vector<GroupOffsets> groups, int16_t version);
DeleteGroupsResponse::Group delete_groups_result(std::string group, DeleteGroupReply reply);
ListGroupsResponse::Group list_groups_entry(ListedGroup group);
DescribeGroupsResponse::Group describe_groups_entry(std::string group, DescribeGroupReply reply,
                                                    int16_t version);

}  // namespace weir::kafka
