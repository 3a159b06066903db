#include "kafka/groups/wire.h"

#include <gtest/gtest.h>

#include "base/byte_reader.h"
#include "base/byte_writer.h"

namespace weir::kafka {
namespace {

// Every response goes through the codec of its version, since a field that a version can't hold is
// an encoder's error.
template <class Message>
Message through_codec(const Message& message, int16_t version) {
    ByteWriter out;
    const auto encoded = message.encode(out, version);
    EXPECT_TRUE(encoded.has_value()) << (encoded ? "" : encoded.error().message);
    const std::vector<uint8_t> bytes = out.flatten();
    ByteReader in(bytes);
    auto decoded = Message::decode(in, version);
    EXPECT_TRUE(decoded.has_value());
    return std::move(*decoded);
}

JoinGroupRequest join_request() {
    JoinGroupRequest request;
    request.group_id = "g";
    request.session_timeout_ms = 10'000;
    request.rebalance_timeout_ms = 60'000;
    request.member_id = "m";
    request.group_instance_id = "i";
    request.protocol_type = "consumer";
    request.protocols = {{"range", {1, 2}}, {"sticky", {}}};
    request.reason = "why";
    return request;
}

TEST(wire, a_join_carries_everything_over) {
    const JoinInput input = join_input(join_request(), 9, "client", "/host");
    EXPECT_EQ(input.group, "g");
    EXPECT_EQ(input.member_id, "m");
    EXPECT_EQ(input.instance_id, "i");
    EXPECT_EQ(input.client_id, "client");
    EXPECT_EQ(input.client_host, "/host");
    EXPECT_EQ(input.session_timeout, 10s);
    EXPECT_EQ(input.rebalance_timeout, 60s);
    EXPECT_EQ(input.protocol_type, "consumer");
    EXPECT_EQ(input.protocols, (std::vector<JoinProtocol>{{"range", {1, 2}}, {"sticky", {}}}));
    EXPECT_EQ(input.reason, "why");
}

TEST(wire, a_join_means_what_its_version_means) {
    EXPECT_FALSE(join_input(join_request(), 0, "", "").rebalance_timeout.has_value());
    EXPECT_TRUE(join_input(join_request(), 1, "", "").rebalance_timeout.has_value());
    EXPECT_FALSE(join_input(join_request(), 3, "", "").two_step_join);
    EXPECT_TRUE(join_input(join_request(), 4, "", "").two_step_join);
    EXPECT_FALSE(join_input(join_request(), 8, "", "").can_skip_assignment);
    EXPECT_TRUE(join_input(join_request(), 9, "", "").can_skip_assignment);
}

TEST(wire, a_refused_join_can_be_told_in_every_version) {
    for (int16_t version = JoinGroupResponse::kVersionMin;
         version <= JoinGroupResponse::kVersionMax; ++version) {
        JoinReply reply;
        reply.error = KafkaError::kMemberIdRequired;
        reply.member_id = "m";
        const auto response = through_codec(join_response(reply, version), version);
        EXPECT_EQ(response.error_code, 79);
        EXPECT_EQ(response.member_id, "m");
        EXPECT_EQ(response.generation_id, -1);
        EXPECT_EQ(response.protocol_name.has_value(), version < 7);
    }
}

TEST(wire, a_leaders_join_can_be_told_in_every_version) {
    for (int16_t version = JoinGroupResponse::kVersionMin;
         version <= JoinGroupResponse::kVersionMax; ++version) {
        JoinReply reply;
        reply.generation = 3;
        reply.protocol_type = "consumer";
        reply.protocol_name = "range";
        reply.leader = reply.member_id = "m";
        reply.skip_assignment = version >= 9;
        reply.members = {{"m", "i", {1}}, {"n", std::nullopt, {2}}};
        const auto response = through_codec(join_response(reply, version), version);
        EXPECT_EQ(response.protocol_name, "range");
        EXPECT_EQ(response.protocol_type.has_value(), version >= 7);
        EXPECT_EQ(response.skip_assignment, version >= 9);
        ASSERT_EQ(response.members.size(), 2u);
        EXPECT_EQ(response.members[0].group_instance_id.has_value(), version >= 5);
        EXPECT_EQ(response.members[1].metadata, std::vector<uint8_t>{2});
    }
}

TEST(wire, a_sync_goes_there_and_back_in_every_version) {
    for (int16_t version = SyncGroupRequest::kVersionMin; version <= SyncGroupRequest::kVersionMax;
         ++version) {
        SyncGroupRequest request;
        request.group_id = "g";
        request.generation_id = 4;
        request.member_id = "m";
        request.assignments = {{"m", {7}}};
        const SyncInput input = sync_input(through_codec(request, version));
        EXPECT_EQ(input.generation, 4);
        EXPECT_EQ(input.assignments.at(0).assignment, std::vector<uint8_t>{7});
        EXPECT_FALSE(input.protocol_type.has_value());
        EXPECT_EQ(
            through_codec(sync_response({KafkaError::kNone, "consumer", "range", {1}}), version)
                .assignment,
            std::vector<uint8_t>{1});
        EXPECT_EQ(
            through_codec(sync_response({KafkaError::kRebalanceInProgress, {}, {}, {}}), version)
                .error_code,
            27);
    }
}

TEST(wire, before_v3_one_member_leaves_and_its_error_is_the_requests) {
    LeaveGroupRequest request;
    request.group_id = "g";
    request.member_id = "m";
    const LeaveInput input = leave_input(request, 2);
    ASSERT_EQ(input.members.size(), 1u);
    EXPECT_EQ(input.members[0].member_id, "m");
    const LeaveReply unknown{KafkaError::kNone,
                             {{"m", std::nullopt, KafkaError::kUnknownMemberId}}};
    EXPECT_EQ(through_codec(leave_response(unknown, 2), 2).error_code, 25);
    EXPECT_EQ(leave_response({KafkaError::kNotCoordinator, {}}, 0).error_code, 16);

    request.members = {{"a", "i", "bye"}, {"b", std::nullopt, std::nullopt}};
    const LeaveInput many = leave_input(request, 5);
    ASSERT_EQ(many.members.size(), 2u);
    EXPECT_EQ(many.members[0].reason, "bye");
    EXPECT_EQ(many.members[1].reason, "");
    const auto response = through_codec(leave_response(unknown, 5), 5);
    EXPECT_EQ(response.error_code, 0);
    EXPECT_EQ(response.members.at(0).error_code, 25);
}

TEST(wire, a_commits_retention_counts_where_it_is_given) {
    OffsetCommitRequest request;
    request.group_id = "g";
    request.topics = {{"t", {}, {{0, 5, 3, -1, std::nullopt}, {1, 6, -1, -1, "meta"}}}};
    CommitInput input = commit_input(request);
    EXPECT_FALSE(input.retention.has_value());
    ASSERT_EQ(input.topics.at(0).partitions.size(), 2u);
    EXPECT_EQ(input.topics[0].partitions[0].offset, 5);
    EXPECT_EQ(input.topics[0].partitions[0].leader_epoch, 3);
    EXPECT_EQ(input.topics[0].partitions[0].metadata, "");
    EXPECT_EQ(input.topics[0].partitions[1].metadata, "meta");
    request.retention_time_ms = 1000;
    EXPECT_EQ(commit_input(request).retention, 1s);
    request.retention_time_ms = INT64_MAX;
    EXPECT_EQ(commit_input(request).retention, std::chrono::years(100));

    const auto response = through_codec(
        commit_response({{{"t", {{0, KafkaError::kNone}, {1, KafkaError::kIllegalGeneration}}}}}),
        8);
    EXPECT_EQ(response.topics.at(0).partitions.at(1).error_code, 22);
}

TEST(wire, offsets_are_fetched_of_one_group_and_from_v8_of_many) {
    OffsetFetchRequest request;
    request.group_id = "g";
    request.topics = {{{"t", {}, {0, 1}}}};
    request.groups = {{"h", {}, -1, std::nullopt}, {"i", {}, -1, {{{"u", {}, {2}}}}}};
    const auto one = offset_fetch_inputs(request, 7);
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0].group, "g");
    EXPECT_EQ(one[0].topics->at(0).partitions, (std::vector<int32_t>{0, 1}));
    const auto many = offset_fetch_inputs(request, 8);
    ASSERT_EQ(many.size(), 2u);
    EXPECT_FALSE(many[0].topics.has_value());
    EXPECT_EQ(many[1].topics->at(0).name, "u");

    GroupOffsets offsets{"g", {KafkaError::kNone, {{"t", {{0, 5, 3, "m"}, {1, -1, -1, ""}}}}}};
    for (int16_t version = 0; version <= 9; ++version) {
        const auto response = through_codec(offset_fetch_response({offsets}, version), version);
        const auto& topics = version < 8 ? response.topics : response.groups.at(0).topics;
        EXPECT_EQ(topics.at(0).partitions.at(0).committed_offset, 5);
        EXPECT_EQ(topics[0].partitions[0].committed_leader_epoch, version < 5 ? -1 : 3);
        EXPECT_EQ(topics[0].partitions[1].committed_offset, -1);
        EXPECT_EQ(topics[0].partitions[1].error_code, 0);
    }
    // An error of the whole is each partition's where the version has no other place for it.
    offsets.reply.error = KafkaError::kCoordinatorLoadInProgress;
    for (int16_t version = 0; version <= 9; ++version) {
        const auto response = through_codec(offset_fetch_response({offsets}, version), version);
        if (version < 2)
            EXPECT_EQ(response.topics.at(0).partitions.at(0).error_code, 14);
        else if (version < 8)
            EXPECT_EQ(response.error_code, 14);
        else
            EXPECT_EQ(response.groups.at(0).error_code, 14);
    }
}

TEST(wire, offset_deletion_goes_there_and_back) {
    OffsetDeleteRequest request;
    request.group_id = "g";
    request.topics = {{"t", {{3}, {4}}}};
    const OffsetDeleteInput input = offset_delete_input(through_codec(request, 0));
    EXPECT_EQ(input.topics.at(0).partitions, (std::vector<int32_t>{3, 4}));
    const auto response =
        through_codec(offset_delete_response(
                          {KafkaError::kNone, {{"t", {{3, KafkaError::kGroupSubscribedToTopic}}}}}),
                      0);
    EXPECT_EQ(response.topics.at(0).partitions.at(0).error_code, 86);
}

TEST(wire, a_group_that_is_not_there_is_dead_before_v6_and_not_found_after) {
    const DescribeGroupReply reply{KafkaError::kGroupIdNotFound, "Dead", "", "", {}};
    const auto old = describe_groups_entry("g", reply, 5);
    EXPECT_EQ(old.error_code, 0);
    EXPECT_EQ(old.group_state, "Dead");
    const auto now = describe_groups_entry("g", reply, 6);
    EXPECT_EQ(now.error_code, 69);
    EXPECT_TRUE(now.error_message.has_value());
}

}  // namespace
}  // namespace weir::kafka
