#include "cluster/image.h"

#include <algorithm>

namespace weir::cluster {
namespace {

std::unexpected<Error> does_not_follow(std::string message) {
    return fail(ErrorCode::kCorrupt, "metadata log: " + std::move(message));
}

void set_or_erase(ConfigMap& configs, const std::string& key,
                  const std::optional<std::string>& value) {
    if (value) {
        configs[key] = *value;
    } else {
        configs.erase(key);
    }
}

// Empty for a name that can't collide.
std::string fold(std::string_view name) {
    if (name.find_first_of("._") == std::string_view::npos) return {};
    std::string folded(name);
    std::ranges::replace(folded, '.', '_');
    return folded;
}

}  // namespace

Result<void> MetadataImage::apply(const MetadataRecord& record) {
    return std::visit([this](const auto& v) { return take(v); }, record);
}

const TopicImage* MetadataImage::find(std::string_view name) const {
    const auto found = topics_.find(name);
    return found == topics_.end() ? nullptr : &found->second;
}

const TopicImage* MetadataImage::find(const Uuid& id) const {
    const auto name = names_.find(id);
    return name == names_.end() ? nullptr : find(name->second);
}

const TopicImage* MetadataImage::find_collision(std::string_view name) const {
    const auto found = folded_names_.find(fold(name));
    return found == folded_names_.end() || found->second == name ? nullptr : find(found->second);
}

TopicImage* MetadataImage::find_mutable(const Uuid& id) {
    return const_cast<TopicImage*>(find(id));
}

const ConfigMap& MetadataImage::configs(ConfigResource resource, std::string_view name) const {
    static const ConfigMap none;
    const auto found = configs_.find({resource, std::string(name)});
    return found == configs_.end() ? none : found->second;
}

std::vector<std::string> MetadataImage::configured(ConfigResource resource) const {
    std::vector<std::string> names;
    for (const auto& [key, configs] : configs_) {
        if (key.first == resource) names.push_back(key.second);
    }
    return names;
}

Result<void> MetadataImage::take(const ClusterCreated& record) {
    if (!cluster_id_.is_zero()) return does_not_follow("the cluster was created twice");
    cluster_id_ = record.cluster_id;
    return {};
}

Result<void> MetadataImage::take(const LogIdsReserved& record) {
    if (record.end < log_ids_end_) return does_not_follow("log ids go back");
    log_ids_end_ = record.end;
    return {};
}

Result<void> MetadataImage::take(const ProducerIdsReserved& record) {
    if (record.end < producer_ids_end_) return does_not_follow("producer ids go back");
    producer_ids_end_ = record.end;
    return {};
}

Result<void> MetadataImage::take(const TopicCreated& record) {
    if (record.id.is_zero() || names_.contains(record.id) || topics_.contains(record.name)) {
        return does_not_follow("topic " + record.name + " was created twice");
    }
    names_.emplace(record.id, record.name);
    topics_.emplace(record.name, TopicImage{.name = record.name,
                                            .id = record.id,
                                            .partitions = record.partitions,
                                            .configs = record.configs});
    if (std::string folded = fold(record.name); !folded.empty())
        folded_names_.emplace(std::move(folded), record.name);
    partition_count_ += record.partitions.size();
    return {};
}

Result<void> MetadataImage::take(const TopicDeleted& record) {
    const auto name = names_.find(record.id);
    if (name == names_.end()) return does_not_follow("an unknown topic was deleted");
    const auto topic = topics_.find(name->second);
    partition_count_ -= topic->second.partitions.size();
    const auto folded = folded_names_.find(fold(topic->first));
    if (folded != folded_names_.end() && folded->second == topic->first)
        folded_names_.erase(folded);
    topics_.erase(topic);
    names_.erase(name);
    return {};
}

Result<void> MetadataImage::take(const PartitionsAdded& record) {
    TopicImage* topic = find_mutable(record.topic);
    if (topic == nullptr) return does_not_follow("an unknown topic got partitions");
    topic->partitions.insert(topic->partitions.end(), record.partitions.begin(),
                             record.partitions.end());
    partition_count_ += record.partitions.size();
    return {};
}

Result<void> MetadataImage::take(const TopicConfigChanged& record) {
    TopicImage* topic = find_mutable(record.topic);
    if (topic == nullptr) return does_not_follow("an unknown topic was configured");
    set_or_erase(topic->configs, record.key, record.value);
    return {};
}

Result<void> MetadataImage::take(const ResourceConfigChanged& record) {
    const auto key = std::make_pair(record.resource, record.name);
    set_or_erase(configs_[key], record.key, record.value);
    if (configs_[key].empty()) configs_.erase(key);
    return {};
}

std::vector<MetadataRecord> MetadataImage::to_records() const {
    std::vector<MetadataRecord> records;
    if (!cluster_id_.is_zero()) records.emplace_back(ClusterCreated{cluster_id_});
    records.emplace_back(LogIdsReserved{log_ids_end_});
    records.emplace_back(ProducerIdsReserved{producer_ids_end_});
    for (const auto& [name, topic] : topics_) {
        records.emplace_back(TopicCreated{name, topic.id, topic.partitions, topic.configs});
    }
    for (const auto& [key, configs] : configs_) {
        for (const auto& [name, value] : configs) {
            records.emplace_back(ResourceConfigChanged{key.first, key.second, name, value});
        }
    }
    return records;
}

}  // namespace weir::cluster
