#include "kafka/server/coordinators/group_shard.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/server.h"

namespace weir::kafka {

using runtime::Task;

namespace {

// One record of a group of group.max.size members with some 200 bytes of metadata and 100 of
// assignment each; larger ones get fewer members. The coordinator's records are not bound by the
// topic's max.message.bytes, and 2 MiB are encoded in a few milliseconds.
constexpr size_t kAppendBytesMax = 2 << 20;

}  // namespace

GroupShard::GroupShard(Server& server) : server_(server) {}

GroupShard::~GroupShard() = default;

void GroupShard::start() {
    started_ = true;
    leads_ = server_.partitions().lead_listeners().add(
        [this](Partition& partition) { on_leads(partition); });
    open_partitions();
}

// What it reads from such a partition is all that was committed.
bool GroupShard::can_load(const Partition& partition) const {
    return server_.bugs().load_coordinator_early ? partition.is_leader() : partition.leads();
}

void GroupShard::on_leads(Partition& partition) {
    if (!started_ || closed_ || partition.topic() != kOffsetsTopic) return;
    const bool is_open = partitions_.contains(partition.index());
    // The term may be a later one: what others wrote in between is not known here.
    if (is_open && (!can_load(partition) ||
                    partitions_.at(partition.index())->term() != partition.leader_epoch()))
        close_one(partition.index());
    if (can_load(partition) && !std::exchange(opening_, true))
        scope_.spawn(open_soon(), runtime::WorkClass::kProduce);
}

// Not at once: whoever tells of a new leader is in the middle of its work.
Task<void> GroupShard::open_soon() {
    opening_ = false;
    open_partitions();
    co_return;
}

void GroupShard::open_partitions() {
    const cluster::TopicImage* topic = server_.image().find(kOffsetsTopic);
    if (topic == nullptr || closed_ || !started_) return;
    const cluster::BrokerSettings& settings = server_.settings();
    using std::chrono::milliseconds;
    GroupPartition::Options options;
    options.config.initial_rebalance_delay =
        milliseconds(settings.group_initial_rebalance_delay_ms);
    options.config.session_timeout_min = milliseconds(settings.group_session_timeout_min_ms);
    options.config.session_timeout_max = milliseconds(settings.group_session_timeout_max_ms);
    options.config.group_size_max = static_cast<size_t>(settings.group_size_max);
    options.config.append_bytes_max = kAppendBytesMax;
    options.config.offsets_retention = std::chrono::minutes(settings.offsets_retention_minutes);
    options.config.offsets_retention_check_interval =
        milliseconds(settings.offsets_retention_check_ms);
    options.config.offset_metadata_bytes_max =
        static_cast<size_t>(settings.offset_metadata_bytes_max);
    options.rewrite_bytes = settings.offsets_rewrite_bytes;
    options.acknowledge_before_commit = server_.bugs().forget_commits;
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
        const auto index = static_cast<int32_t>(i);
        Partition* partition = server_.partitions().find(topic->partitions[i].log);
        if (partition == nullptr || !can_load(*partition) || partitions_.contains(index) ||
            closing_.contains(index))
            continue;
        auto use = partition->enter();
        if (!use) continue;
        auto driver = std::make_shared<GroupPartition>(*partition, std::move(*use),
                                                       server_.mailbox(), options);
        driver->start();
        partitions_.emplace(index, std::move(driver));
    }
}

void GroupShard::follow(const cluster::MetadataChange& change) {
    std::vector<std::string> removed;
    for (const cluster::TopicImage& topic : change.topics_removed) removed.push_back(topic.name);
    for (const std::string& name : removed) {
        if (name != kOffsetsTopic) continue;
        while (!partitions_.empty()) close_one(partitions_.begin()->first);
    }
    if (!removed.empty()) {
        for (auto& [index, partition] : partitions_) partition->on_topics_deleted(removed);
    }
    open_partitions();
}

void GroupShard::close_one(int32_t index) {
    const auto found = partitions_.find(index);
    std::shared_ptr<GroupPartition> partition = std::move(found->second);
    partitions_.erase(found);
    closing_.insert(index);
    scope_.spawn(close_and_open(std::move(partition)), runtime::WorkClass::kProduce);
}

Task<void> GroupShard::close_and_open(std::shared_ptr<GroupPartition> partition) {
    co_await partition->close();
    closing_.erase(partition->index());
    // It may lead again by now.
    open_partitions();
}

Task<void> GroupShard::close() {
    closed_ = true;
    leads_.remove();
    auto partitions = std::exchange(partitions_, {});
    for (auto& [index, partition] : partitions) co_await partition->close();
}

Task<void> GroupShard::stop() {
    if (!closed_) co_await close();
    co_await scope_.close();
}

std::shared_ptr<GroupPartition> GroupShard::find(int32_t partition) {
    const auto found = partitions_.find(partition);
    return found == partitions_.end() ? nullptr : found->second;
}

void GroupShard::for_each(const std::function<void(GroupPartition&)>& visit) {
    for (auto& [index, partition] : partitions_) visit(*partition);
}

size_t GroupShard::group_count() const {
    size_t count = 0;
    for (const auto& [index, partition] : partitions_)
        count += partition->coordinator().group_count();
    return count;
}

}  // namespace weir::kafka
