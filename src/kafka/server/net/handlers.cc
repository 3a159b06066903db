#include <array>

#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using enum Overlap;

constexpr bool kAtController = true;
constexpr bool kOnce = true;

// By key. What transactions, security and the newer group protocols need is not served yet, so it
// is not in here. Produce is advertised from 0 as Kafka does (KAFKA-18659: librdkafka
// gives up compression otherwise), and served from 0.
constexpr Handler kHandlers[] = {
    {ApiKey::kProduce, 0, 13, kProduce, handle_produce},
    {ApiKey::kFetch, 4, 18, kFetch, handle_fetch},
    {ApiKey::kListOffsets, 0, 11, kFree, handle_list_offsets},
    {ApiKey::kMetadata, 0, 13, kFree, handle_metadata},
    {ApiKey::kOffsetCommit, 0, 10, kNone, handle_offset_commit},
    {ApiKey::kOffsetFetch, 0, 10, kNone, handle_offset_fetch},
    {ApiKey::kFindCoordinator, 0, 6, kFree, handle_find_coordinator},
    {ApiKey::kJoinGroup, 0, 9, kNone, handle_join_group},
    {ApiKey::kHeartbeat, 0, 4, kNone, handle_heartbeat},
    {ApiKey::kLeaveGroup, 0, 5, kNone, handle_leave_group},
    {ApiKey::kSyncGroup, 0, 5, kNone, handle_sync_group},
    {ApiKey::kDescribeGroups, 0, 6, kNone, handle_describe_groups},
    {ApiKey::kListGroups, 0, 5, kNone, handle_list_groups},
    {ApiKey::kApiVersions, 0, 5, kFree, handle_api_versions},
    {ApiKey::kCreateTopics, 0, 7, kNone, handle_create_topics, kAtController, kOnce,
     settle_create_topics},
    {ApiKey::kDeleteTopics, 0, 6, kNone, handle_delete_topics, kAtController, kOnce},
    {ApiKey::kDeleteRecords, 0, 2, kNone, handle_delete_records},
    {ApiKey::kInitProducerId, 0, 5, kNone, handle_init_producer_id},
    {ApiKey::kOffsetForLeaderEpoch, 0, 4, kFree, handle_offset_for_leader_epoch},
    {ApiKey::kDescribeAcls, 0, 3, kFree, handle_describe_acls},
    {ApiKey::kCreateAcls, 0, 3, kNone, handle_create_acls},
    {ApiKey::kDeleteAcls, 0, 3, kNone, handle_delete_acls},
    {ApiKey::kDescribeConfigs, 0, 4, kNone, handle_describe_configs},
    {ApiKey::kAlterConfigs, 0, 2, kNone, handle_alter_configs, kAtController},
    {ApiKey::kAlterReplicaLogDirs, 1, 2, kNone, handle_alter_replica_log_dirs},
    {ApiKey::kDescribeLogDirs, 0, 5, kNone, handle_describe_log_dirs},
    {ApiKey::kCreatePartitions, 0, 3, kNone, handle_create_partitions, kAtController, kOnce,
     settle_create_partitions},
    {ApiKey::kDeleteGroups, 0, 3, kNone, handle_delete_groups},
    {ApiKey::kElectLeaders, 0, 2, kNone, handle_elect_leaders, kAtController},
    {ApiKey::kIncrementalAlterConfigs, 0, 1, kNone, handle_incremental_alter_configs,
     kAtController},
    {ApiKey::kAlterPartitionReassignments, 0, 1, kNone, handle_alter_partition_reassignments,
     kAtController},
    {ApiKey::kListPartitionReassignments, 0, 0, kNone, handle_list_partition_reassignments,
     kAtController},
    {ApiKey::kOffsetDelete, 0, 0, kNone, handle_offset_delete},
    {ApiKey::kDescribeQuorum, 0, 2, kNone, handle_describe_quorum, kAtController},
    {ApiKey::kUpdateFeatures, 0, 2, kNone, handle_update_features, kAtController},
    {ApiKey::kDescribeCluster, 0, 2, kFree, handle_describe_cluster},
    {ApiKey::kDescribeProducers, 0, 0, kNone, handle_describe_producers},
    {ApiKey::kUnregisterBroker, 0, 0, kNone, handle_unregister_broker, kAtController},
    {ApiKey::kListConfigResources, 0, 1, kFree, handle_list_config_resources},
    {ApiKey::kDescribeTopicPartitions, 0, 0, kFree, handle_describe_topic_partitions},
};

}  // namespace

std::span<const Handler> handlers() { return kHandlers; }

const Handler* find_handler(int16_t key) {
    for (const Handler& handler : kHandlers) {
        if (static_cast<int16_t>(handler.key) == key) return &handler;
    }
    return nullptr;
}

}  // namespace weir::kafka
