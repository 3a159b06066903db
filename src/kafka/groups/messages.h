// The requests and replies of a group coordinator: plain values that own their bytes and do not
// depend on wire versions, so that they may cross shards and wait as long as a rebalance lasts. The
// server's handlers translate to and from the codecs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "kafka/coordination/machine/machine.h"
#include "kafka/protocol/kafka_error.h"

namespace weir::kafka {

// ---- Join (API 11)

struct JoinProtocol {
    std::string name;
    std::vector<uint8_t> metadata;
    bool operator==(const JoinProtocol&) const = default;
};

struct JoinInput {
    std::string group;
    std::string member_id;  // empty: a new member
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    Duration session_timeout{};
    std::optional<Duration> rebalance_timeout;  // absent (v0): the session timeout
    std::string protocol_type;
    std::vector<JoinProtocol> protocols;  // most wanted first
    std::string reason;                   // v8+, for the log alone
    bool two_step_join = false;        // v4+: a new dynamic member is first told its id (KIP-394)
    bool can_skip_assignment = false;  // v9+: understands skip_assignment (KIP-814)
};

struct JoinReplyMember {
    std::string member_id;
    std::optional<std::string> instance_id;
    std::vector<uint8_t> metadata;
};

struct JoinReply {
    KafkaError error = KafkaError::kNone;
    int32_t generation = -1;
    std::optional<std::string> protocol_type;
    std::optional<std::string> protocol_name;  // before v7 null is sent as ""
    std::string leader;
    bool skip_assignment = false;
    std::string member_id;
    std::vector<JoinReplyMember> members;  // empty but for the leader
};

// ---- Sync (API 14)

struct SyncAssignment {
    std::string member_id;
    std::vector<uint8_t> assignment;
};

struct SyncInput {
    std::string group;
    int32_t generation = -1;
    std::string member_id;
    std::optional<std::string> instance_id;
    std::optional<std::string> protocol_type;  // v5+
    std::optional<std::string> protocol_name;  // v5+
    std::vector<SyncAssignment> assignments;   // from the leader alone
};

struct SyncReply {
    KafkaError error = KafkaError::kNone;
    std::optional<std::string> protocol_type;
    std::optional<std::string> protocol_name;
    std::vector<uint8_t> assignment;
};

// ---- Heartbeat (API 12)

struct HeartbeatInput {
    std::string group;
    int32_t generation = -1;
    std::string member_id;
    std::optional<std::string> instance_id;
};

struct HeartbeatReply {
    KafkaError error = KafkaError::kNone;
};

// ---- Leave (API 13). v0 to v2 name one member and send its error at the top level: the handler
// moves it there.

struct LeavingMember {
    std::string member_id;  // may be empty where instance_id names the member
    std::optional<std::string> instance_id;
    std::string reason;
};

struct LeaveInput {
    std::string group;
    std::vector<LeavingMember> members;
};

struct LeaveReply {
    struct Member {
        std::string member_id;
        std::optional<std::string> instance_id;
        KafkaError error = KafkaError::kNone;
    };
    KafkaError error = KafkaError::kNone;  // of the whole request; members is then empty
    std::vector<Member> members;
};

// ---- Offsets (APIs 8, 9, 47)

struct CommitPartition {
    int32_t index = 0;
    int64_t offset = -1;
    int32_t leader_epoch = -1;
    std::string metadata;  // null on the wire is ""
    // The handler's verdict (unknown topic, not authorized): such a partition is not committed, and
    // is answered with it.
    KafkaError refused = KafkaError::kNone;
};

struct CommitTopic {
    std::string name;
    std::vector<CommitPartition> partitions;
};

struct CommitInput {
    std::string group;
    int32_t generation = -1;
    std::string member_id;
    std::optional<std::string> instance_id;
    std::optional<Duration> retention;   // v2 to v4, where it is not -1
    bool knows_group_not_found = false;  // from v9 on; before, such a group is another generation
    std::vector<CommitTopic> topics;
};

struct PartitionError {
    int32_t index = 0;
    KafkaError error = KafkaError::kNone;
};

struct TopicErrors {
    std::string name;
    std::vector<PartitionError> partitions;
};

// Topics and partitions in the order of the request.
struct CommitReply {
    std::vector<TopicErrors> topics;
};

struct TopicPartitions {
    std::string name;
    std::vector<int32_t> partitions;
};

struct OffsetDeleteInput {
    std::string group;
    std::vector<TopicPartitions> topics;
};

struct OffsetDeleteReply {
    KafkaError error = KafkaError::kNone;  // of the whole request; topics is then empty
    std::vector<TopicErrors> topics;
};

struct FetchedOffset {
    int32_t index = 0;
    int64_t offset = -1;
    int32_t leader_epoch = -1;
    std::string metadata;
};

struct OffsetFetchReply {
    struct Topic {
        std::string name;
        std::vector<FetchedOffset> partitions;
    };
    KafkaError error = KafkaError::kNone;
    std::vector<Topic> topics;
};

// ---- Groups (APIs 42, 16, 15)

struct DeleteGroupReply {
    KafkaError error = KafkaError::kNone;
};

struct ListedGroup {
    std::string group;
    std::string protocol_type;
    std::string state;
    std::string type;
};

struct ListGroupsReply {
    KafkaError error = KafkaError::kNone;
    std::vector<ListedGroup> groups;
};

struct DescribedMember {
    std::string member_id;
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    std::vector<uint8_t> metadata;
    std::vector<uint8_t> assignment;
};

struct DescribeGroupReply {
    KafkaError error =
        KafkaError::kNone;  // kGroupIdNotFound: with state "Dead"; before v6 it is sent as kNone
    std::string state;
    std::string protocol_type;
    std::string protocol;
    std::vector<DescribedMember> members;
};

// ---- What a driver sends back

struct GroupReply {
    RequestId request;
    std::variant<JoinReply, SyncReply, HeartbeatReply, LeaveReply, CommitReply, OffsetDeleteReply,
                 DeleteGroupReply>
        body;
};

}  // namespace weir::kafka
