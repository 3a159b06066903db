// The APIs of the Kafka protocol: their keys, their names, and which versions this library can read
// and write. What a server advertises is decided by its handlers, and is at most this.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace weir::kafka {

enum class ApiKey : int16_t {
    kProduce = 0,
    kFetch = 1,
    kListOffsets = 2,
    kMetadata = 3,
    kLeaderAndIsr = 4,
    kStopReplica = 5,
    kUpdateMetadata = 6,
    kControlledShutdown = 7,
    kOffsetCommit = 8,
    kOffsetFetch = 9,
    kFindCoordinator = 10,
    kJoinGroup = 11,
    kHeartbeat = 12,
    kLeaveGroup = 13,
    kSyncGroup = 14,
    kDescribeGroups = 15,
    kListGroups = 16,
    kSaslHandshake = 17,
    kApiVersions = 18,
    kCreateTopics = 19,
    kDeleteTopics = 20,
    kDeleteRecords = 21,
    kInitProducerId = 22,
    kOffsetForLeaderEpoch = 23,
    kAddPartitionsToTxn = 24,
    kAddOffsetsToTxn = 25,
    kEndTxn = 26,
    kWriteTxnMarkers = 27,
    kTxnOffsetCommit = 28,
    kDescribeAcls = 29,
    kCreateAcls = 30,
    kDeleteAcls = 31,
    kDescribeConfigs = 32,
    kAlterConfigs = 33,
    kAlterReplicaLogDirs = 34,
    kDescribeLogDirs = 35,
    kSaslAuthenticate = 36,
    kCreatePartitions = 37,
    kCreateDelegationToken = 38,
    kRenewDelegationToken = 39,
    kExpireDelegationToken = 40,
    kDescribeDelegationToken = 41,
    kDeleteGroups = 42,
    kElectLeaders = 43,
    kIncrementalAlterConfigs = 44,
    kAlterPartitionReassignments = 45,
    kListPartitionReassignments = 46,
    kOffsetDelete = 47,
    kDescribeClientQuotas = 48,
    kAlterClientQuotas = 49,
    kDescribeUserScramCredentials = 50,
    kAlterUserScramCredentials = 51,
    kVote = 52,
    kBeginQuorumEpoch = 53,
    kEndQuorumEpoch = 54,
    kDescribeQuorum = 55,
    kAlterPartition = 56,
    kUpdateFeatures = 57,
    kEnvelope = 58,
    kFetchSnapshot = 59,
    kDescribeCluster = 60,
    kDescribeProducers = 61,
    kBrokerRegistration = 62,
    kBrokerHeartbeat = 63,
    kUnregisterBroker = 64,
    kDescribeTransactions = 65,
    kListTransactions = 66,
    kAllocateProducerIds = 67,
    kConsumerGroupHeartbeat = 68,
    kConsumerGroupDescribe = 69,
    kControllerRegistration = 70,
    kGetTelemetrySubscriptions = 71,
    kPushTelemetry = 72,
    kAssignReplicasToDirs = 73,
    kListConfigResources = 74,
    kDescribeTopicPartitions = 75,
    kShareGroupHeartbeat = 76,
    kShareGroupDescribe = 77,
    kShareFetch = 78,
    kShareAcknowledge = 79,
    kAddRaftVoter = 80,
    kRemoveRaftVoter = 81,
    kUpdateRaftVoter = 82,
    kInitializeShareGroupState = 83,
    kReadShareGroupState = 84,
    kWriteShareGroupState = 85,
    kDeleteShareGroupState = 86,
    kReadShareGroupStateSummary = 87,
    kStreamsGroupHeartbeat = 88,
    kStreamsGroupDescribe = 89,
    kDescribeShareGroupOffsets = 90,
    kAlterShareGroupOffsets = 91,
    kDeleteShareGroupOffsets = 92,
    kStreamsGroupTopologyDescriptionUpdate = 93,
    kUnregisterController = 94,
};

// An API that has a schema, with the versions that the schema covers.
struct ApiInfo {
    static constexpr int16_t kNeverFlexible = INT16_MAX;

    ApiKey key;
    std::string_view name;
    int16_t version_min;
    int16_t version_max;
    int16_t flexible_from;

    constexpr bool supports(int16_t version) const {
        return version_min <= version && version <= version_max;
    }
    // True for flexible versions above version_max too: how a header is read must be known before
    // the version is refused.
    constexpr bool is_flexible(int16_t version) const { return version >= flexible_from; }
    constexpr int16_t request_header_version(int16_t version) const {
        return is_flexible(version) ? 2 : 1;
    }
    // ApiVersions is answered under header 0 always: the client cannot know yet which header the
    // server speaks (KIP-511).
    constexpr int16_t response_header_version(int16_t version) const {
        return key != ApiKey::kApiVersions && is_flexible(version) ? 1 : 0;
    }
};

// All APIs that have a schema, by key.
std::span<const ApiInfo> all_apis();
// Null for a key without a schema. Takes the number from the wire, which may be anything.
const ApiInfo* find_api(int16_t key);
const ApiInfo& api_info(ApiKey key);  // the key must have a schema

}  // namespace weir::kafka
