#include "cluster/metadata_shard.h"

#include <algorithm>

namespace weir::cluster {

MetadataShard::MetadataShard(int32_t node_id, ConfigMap given)
    : node_id_(node_id), given_(std::move(given)) {
    broker_ = broker_settings(configs());
}

void MetadataShard::adopt(MetadataImage image, int64_t end) {
    image_ = std::move(image);
    end_ = end;
    topic_settings_.clear();
    broker_ = broker_settings(configs());
    end_moved_.notify_all();
}

int32_t MetadataShard::first_leader(const PartitionAssignment& partition) const {
    const auto answers = [this](int32_t node) {
        return node == node_id_ || status_.alive.contains(node);
    };
    const auto first = std::ranges::find_if(partition.replicas, answers);
    return first == partition.replicas.end() ? -1 : *first;
}

bool MetadataShard::learn_leader(LeaderState state) {
    const bool news = leaders_.learn(std::move(state));
    if (news) leaders_moved_.notify_all();
    return news;
}

void MetadataShard::expect_leaders(const std::vector<PartitionAssignment>& partitions) {
    for (const PartitionAssignment& partition : partitions) {
        const int32_t leader = first_leader(partition);
        if (leader < 0) continue;
        (void)leaders_.learn({.log = partition.log,
                              .leader = leader,
                              .epoch = 0,
                              .in_sync = partition.replicas,
                              .hearsay = true});
    }
}

Result<void> MetadataShard::apply(MetadataChange& change) {
    for (const MetadataRecord& record : change.records) {
        if (const auto* deleted = std::get_if<TopicDeleted>(&record)) {
            const TopicImage* topic = image_.find(deleted->id);
            // Filled in once, by the first shard.
            if (topic != nullptr &&
                std::ranges::find(change.topics_removed, deleted->id, &TopicImage::id) ==
                    change.topics_removed.end())
                change.topics_removed.push_back(*topic);
        }
        TRY(image_.apply(record));
        if (const auto* created = std::get_if<TopicCreated>(&record))
            expect_leaders(created->partitions);
        if (const auto* added = std::get_if<PartitionsAdded>(&record))
            expect_leaders(added->partitions);
        if (const auto* topic = std::get_if<TopicConfigChanged>(&record))
            topic_settings_.erase(topic->topic);
        if (const auto* deleted = std::get_if<TopicDeleted>(&record))
            topic_settings_.erase(deleted->id);
        if (std::holds_alternative<ResourceConfigChanged>(record)) {
            topic_settings_.clear();
            broker_ = broker_settings(configs());
        }
    }
    return {};
}

runtime::Task<void> MetadataShard::publish(MetadataChange change) {
    const int64_t end = change.end;
    if (hooks_.changed) co_await hooks_.changed(std::move(change));
    end_ = end;
    end_moved_.notify_all();
}

runtime::Task<Result<void>> MetadataShard::wait_end(int64_t end, runtime::WaitOptions options) {
    while (end_ < end) co_await runtime::try_(co_await end_moved_.wait(options));
    co_return Result<void>{};
}

runtime::Task<Result<void>> MetadataShard::wait_current(runtime::WaitOptions options) {
    if (!find_end_) co_return Result<void>{};
    const int64_t end = co_await runtime::try_(co_await find_end_());
    co_return co_await wait_end(end, options);
}

const TopicSettings& MetadataShard::settings(const TopicImage& topic) {
    const auto found = topic_settings_.find(topic.id);
    if (found != topic_settings_.end()) return found->second;
    return topic_settings_.emplace(topic.id, topic_settings(configs(), topic.configs))
        .first->second;
}

MetadataChange difference(const MetadataImage& before, const MetadataImage& after) {
    MetadataChange change;
    auto& records = change.records;
    for (const auto& [name, topic] : before.topics()) {
        if (after.find(topic.id) != nullptr) continue;
        change.topics_removed.push_back(topic);
        records.emplace_back(TopicDeleted{topic.id});
    }
    for (const auto& [name, topic] : after.topics()) {
        const TopicImage* old = before.find(topic.id);
        if (old == nullptr) {
            records.emplace_back(TopicCreated{name, topic.id, topic.partitions, topic.configs});
            continue;
        }
        const size_t known = old->partitions.size();
        if (known < topic.partitions.size()) {
            records.emplace_back(
                PartitionsAdded{topic.id,
                                {topic.partitions.begin() + static_cast<ptrdiff_t>(known),
                                 topic.partitions.end()}});
        }
        for (size_t i = 0; i < known; ++i) {
            const PartitionAssignment& now = topic.partitions[i];
            if (now == old->partitions[i]) continue;
            const auto index = static_cast<uint32_t>(i);
            records.emplace_back(
                PartitionReplicasChanged{topic.id, index, now.replicas, now.revision});
            if (!now.target.empty())
                records.emplace_back(
                    PartitionReassigned{topic.id, index, now.target, now.revision});
        }
        if (topic.configs == old->configs) continue;
        for (const auto& [key, value] : old->configs) {
            if (!topic.configs.contains(key))
                records.emplace_back(TopicConfigChanged{topic.id, key, std::nullopt});
        }
        for (const auto& [key, value] : topic.configs)
            records.emplace_back(TopicConfigChanged{topic.id, key, value});
    }
    for (const ConfigResource resource : {ConfigResource::kBroker, ConfigResource::kBrokerLogger,
                                          ConfigResource::kClientMetrics, ConfigResource::kGroup}) {
        std::vector<std::string> names = before.configured(resource);
        for (std::string& name : after.configured(resource)) names.push_back(std::move(name));
        for (const std::string& name : names) {
            const ConfigMap& now = after.configs(resource, name);
            if (now == before.configs(resource, name)) continue;
            for (const auto& [key, value] : before.configs(resource, name)) {
                if (!now.contains(key))
                    records.emplace_back(ResourceConfigChanged{resource, name, key, std::nullopt});
            }
            for (const auto& [key, value] : now)
                records.emplace_back(ResourceConfigChanged{resource, name, key, value});
        }
    }
    for (const auto& [id, node] : before.nodes()) {
        if (after.find_node(id) == nullptr) records.emplace_back(NodeRemoved{id});
    }
    for (const auto& [id, node] : after.nodes()) {
        const NodeImage* old = before.find_node(id);
        if (old == nullptr || !(old->info == node.info)) records.emplace_back(node.info);
        if (old == nullptr || old->state != node.state)
            records.emplace_back(NodeStateChanged{id, node.state});
    }
    return change;
}

}  // namespace weir::cluster
