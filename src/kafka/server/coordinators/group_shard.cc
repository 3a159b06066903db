#include "kafka/server/coordinators/group_shard.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/server.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

// One record of a group of group.max.size members with some 200 bytes of metadata and 100 of
// assignment each; larger ones get fewer members. The coordinator's records are not bound by the
// topic's max.message.bytes, and 2 MiB are encoded in a few milliseconds.
constexpr size_t kAppendBytesMax = 2 << 20;

}  // namespace

GroupShard::GroupShard(Server& server)
    : server_(server),
      shard_(server.partitions(), server.metadata(), std::string(kOffsetsTopic),
             server.bugs().load_coordinator_early,
             [this](Partition& partition, runtime::Gate::Holder use) {
                 return make(partition, std::move(use));
             }) {}

GroupShard::~GroupShard() = default;

std::shared_ptr<GroupPartition> GroupShard::make(Partition& partition, runtime::Gate::Holder use) {
    const cluster::BrokerSettings& settings = server_.settings();
    using std::chrono::milliseconds;
    GroupConfig config;
    config.initial_rebalance_delay = milliseconds(settings.group_initial_rebalance_delay_ms);
    config.session_timeout_min = milliseconds(settings.group_session_timeout_min_ms);
    config.session_timeout_max = milliseconds(settings.group_session_timeout_max_ms);
    config.group_size_max = static_cast<size_t>(settings.group_size_max);
    config.append_bytes_max = kAppendBytesMax;
    config.offsets_retention = std::chrono::minutes(settings.offsets_retention_minutes);
    config.offsets_retention_check_interval = milliseconds(settings.offsets_retention_check_ms);
    config.offset_metadata_bytes_max = static_cast<size_t>(settings.offset_metadata_bytes_max);
    return std::make_shared<GroupPartition>(
        partition, std::move(use), server_.mailbox(),
        GroupPartition::Options{
            .name = "groups",
            .rewrite_bytes = static_cast<uint64_t>(settings.offsets_rewrite_bytes),
            .acknowledge_before_commit = server_.bugs().forget_commits},
        config, runtime::Shard::current().prng());
}

void GroupShard::follow(const cluster::MetadataChange& change) {
    std::vector<std::string> removed;
    for (const cluster::TopicImage& topic : change.topics_removed) removed.push_back(topic.name);
    if (!removed.empty()) {
        shard_.for_each([&](GroupPartition& partition) {
            partition.post([&](GroupCoordinator& groups, Moment now) {
                return groups.on_topics_deleted(removed, now);
            });
        });
    }
    shard_.follow(change);
}

size_t GroupShard::group_count() const {
    size_t count = 0;
    shard_.for_each([&](GroupPartition& partition) { count += partition.machine().group_count(); });
    return count;
}

}  // namespace weir::kafka
