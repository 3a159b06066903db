#include "cluster/image.h"

#include <algorithm>
#include <set>
#include <span>

#include "base/check.h"
#include "cluster/features.h"

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

bool are_replicas(const std::vector<int32_t>& nodes) {
    if (nodes.empty() || nodes.size() > kReplicasMax) return false;
    std::vector<int32_t> sorted = nodes;
    std::ranges::sort(sorted);
    return sorted.front() >= 0 && std::ranges::adjacent_find(sorted) == sorted.end();
}

bool holds(const std::vector<int32_t>& nodes, int32_t node) {
    return std::ranges::find(nodes, node) != nodes.end();
}

bool are_partitions(const std::vector<PartitionAssignment>& partitions) {
    return std::ranges::all_of(
        partitions, [](const PartitionAssignment& each) { return are_replicas(each.replicas); });
}

bool is_text(const std::string& text) { return !text.empty() && text.size() <= kNodeTextMax; }

bool are_texts(const ListenerEndpoints& listeners) {
    return std::ranges::all_of(listeners.all(), [](const ListenerEndpoint& each) {
        return is_text(each.name) && is_text(each.endpoint.host);
    });
}

bool supports(const NodeRegistered& node, std::string_view feature, int32_t level) {
    const auto found = node.features.find(feature);
    return found != node.features.end() && found->second.min <= level && level <= found->second.max;
}

bool is_registration(const NodeRegistered& node) {
    if (node.id < 0 || node.id == INT32_MAX || node.uuid.is_zero() || node.epoch == 0) return false;
    if (!is_text(node.rpc.host) || !are_texts(node.kafka) || node.shards == 0) return false;
    if (node.rack && !is_text(*node.rack)) return false;
    return node.features.size() <= kNodeFeaturesMax &&
           std::ranges::all_of(node.features, [](const auto& each) {
               return is_text(each.first) && each.second.min <= each.second.max;
           });
}

}  // namespace

Result<void> MetadataImage::apply(const MetadataRecord& record) {
    if (level_needed(record) > feature_level(kWeirVersion)) {
        return does_not_follow("a record of a level of " + std::string(kWeirVersion) +
                               " that was not finalized");
    }
    return std::visit([this](const auto& v) { return apply_one(v); }, record);
}

int32_t MetadataImage::feature_level(std::string_view feature) const {
    const auto found = features_.find(feature);
    return found == features_.end() ? 0 : found->second;
}

const NodeImage* MetadataImage::find_node(int32_t id) const {
    const auto found = nodes_.find(id);
    return found == nodes_.end() ? nullptr : &found->second;
}

const NodeImage* MetadataImage::find_node(const Uuid& uuid) const {
    const auto found = std::ranges::find_if(
        nodes_, [&](const auto& each) { return each.second.info.uuid == uuid; });
    return found == nodes_.end() ? nullptr : &found->second;
}

size_t MetadataImage::replica_count(int32_t node) const {
    const auto found = replica_counts_.find(node);
    return found == replica_counts_.end() ? 0 : found->second;
}

// Older controllers did not count what was abandoned, and removed such nodes.
bool MetadataImage::is_named(int32_t node) const {
    for (const auto& [name, topic] : topics_) {
        for (const PartitionAssignment& partition : topic.partitions) {
            if (holds(partition.replicas, node) || holds(partition.target, node)) return true;
        }
    }
    return false;
}

size_t MetadataImage::preferred_count(int32_t node) const {
    const auto found = preferred_counts_.find(node);
    return found == preferred_counts_.end() ? 0 : found->second;
}

void MetadataImage::count_replicas(const PartitionAssignment& partition, int difference) {
    const auto count = [&](std::map<int32_t, size_t>& counts, int32_t node) {
        size_t& count = counts[node];
        count += static_cast<size_t>(difference);
        if (count == 0) counts.erase(node);
    };
    for (const int32_t node : partition.replicas) count(replica_counts_, node);
    for (const int32_t node : partition.target) {
        if (!holds(partition.replicas, node)) count(replica_counts_, node);
    }
    for (const int32_t node : partition.abandoned) count(replica_counts_, node);
    count(preferred_counts_,
          partition.target.empty() ? partition.replicas.front() : partition.target.front());
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
    const std::string folded = fold(name);
    auto found = folded_names_.lower_bound({folded, {}});
    if (found != folded_names_.end() && found->second == name) ++found;
    return found == folded_names_.end() || found->first != folded ? nullptr : find(found->second);
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

Result<void> MetadataImage::apply_one(const ClusterCreated& record) {
    if (!cluster_id_.is_zero()) return does_not_follow("the cluster was created twice");
    cluster_id_ = record.cluster_id;
    return {};
}

Result<void> MetadataImage::apply_one(const LogIdsReserved& record) {
    if (record.end < log_ids_end_) return does_not_follow("log ids go back");
    log_ids_end_ = record.end;
    return {};
}

Result<void> MetadataImage::apply_one(const ProducerIdsReserved& record) {
    if (record.end < producer_ids_end_) return does_not_follow("producer ids go back");
    producer_ids_end_ = record.end;
    return {};
}

Result<void> MetadataImage::apply_one(const TopicCreated& record) {
    if (record.id.is_zero() || names_.contains(record.id) || topics_.contains(record.name)) {
        return does_not_follow("topic " + record.name + " was created twice");
    }
    if (!are_partitions(record.partitions))
        return does_not_follow("topic " + record.name + " has replicas that can't be");
    names_.emplace(record.id, record.name);
    topics_.emplace(record.name, TopicImage{.name = record.name,
                                            .id = record.id,
                                            .partitions = record.partitions,
                                            .configs = record.configs});
    if (std::string folded = fold(record.name); !folded.empty())
        folded_names_.emplace(std::move(folded), record.name);
    for (const PartitionAssignment& partition : record.partitions) count_replicas(partition, 1);
    partition_count_ += record.partitions.size();
    return {};
}

Result<void> MetadataImage::apply_one(const TopicDeleted& record) {
    const auto name = names_.find(record.id);
    if (name == names_.end()) return does_not_follow("an unknown topic was deleted");
    const auto topic = topics_.find(name->second);
    for (const PartitionAssignment& partition : topic->second.partitions)
        count_replicas(partition, -1);
    partition_count_ -= topic->second.partitions.size();
    folded_names_.erase({fold(topic->first), topic->first});
    topics_.erase(topic);
    names_.erase(name);
    return {};
}

Result<void> MetadataImage::apply_one(const PartitionsAdded& record) {
    TopicImage* topic = find_mutable(record.topic);
    if (topic == nullptr) return does_not_follow("an unknown topic got partitions");
    if (!are_partitions(record.partitions))
        return does_not_follow("topic " + topic->name + " got replicas that can't be");
    for (const PartitionAssignment& partition : record.partitions) count_replicas(partition, 1);
    topic->partitions.insert(topic->partitions.end(), record.partitions.begin(),
                             record.partitions.end());
    partition_count_ += record.partitions.size();
    return {};
}

Result<void> MetadataImage::apply_one(const TopicConfigChanged& record) {
    TopicImage* topic = find_mutable(record.topic);
    if (topic == nullptr) return does_not_follow("an unknown topic was configured");
    set_or_erase(topic->configs, record.key, record.value);
    return {};
}

Result<void> MetadataImage::apply_one(const ResourceConfigChanged& record) {
    const auto key = std::make_pair(record.resource, record.name);
    set_or_erase(configs_[key], record.key, record.value);
    if (configs_[key].empty()) configs_.erase(key);
    return {};
}

Result<void> MetadataImage::apply_one(const FeatureFinalized& record) {
    const auto known = supported_features().find(record.feature);
    if (known == supported_features().end() || record.level > known->second.max) {
        return fail(ErrorCode::kUnsupported,
                    "metadata log: the cluster is at level " + std::to_string(record.level) +
                        " of " + record.feature + ", which this version of Weir does not know");
    }
    if (record.level <= feature_level(record.feature))
        return does_not_follow(record.feature + " goes back");
    for (const auto& [id, node] : nodes_) {
        if (!supports(node.info, record.feature, record.level)) {
            return does_not_follow(record.feature + " was finalized beyond node " +
                                   std::to_string(id));
        }
    }
    features_[record.feature] = record.level;
    return {};
}

Result<void> MetadataImage::apply_one(const NodeIdsReserved& record) {
    if (record.end < node_ids_end_) return does_not_follow("node ids go back");
    node_ids_end_ = record.end;
    return {};
}

Result<void> MetadataImage::apply_one(const NodeRegistered& record) {
    const std::string name = "node " + std::to_string(record.id);
    if (!is_registration(record)) return does_not_follow(name + " is registered as none can be");
    for (const auto& [feature, level] : features_) {
        if (!supports(record, feature, level)) {
            return does_not_follow(name + " does not know level " + std::to_string(level) + " of " +
                                   feature);
        }
    }
    const NodeImage* known = find_node(record.id);
    const NodeImage* same = find_node(record.uuid);
    if (known != same) return does_not_follow(name + " is another one than before");
    if (known != nullptr && record.epoch <= known->info.epoch)
        return does_not_follow("the epoch of " + name + " goes back");
    if (known == nullptr && nodes_.size() == kNodesMax)
        return does_not_follow("there are too many nodes");
    nodes_[record.id].info = record;
    node_ids_end_ = std::max(node_ids_end_, record.id + 1);
    return {};
}

Result<void> MetadataImage::apply_one(const NodeRemoved& record) {
    if (replica_count(record.id) != 0 && is_named(record.id))
        return does_not_follow("a node with replicas was removed");
    if (nodes_.erase(record.id) == 0) return does_not_follow("an unknown node was removed");
    return {};
}

Result<void> MetadataImage::apply_one(const NodeStateChanged& record) {
    const auto node = nodes_.find(record.id);
    if (node == nodes_.end()) return does_not_follow("an unknown node changed its state");
    node->second.state = record.state;
    return {};
}

PartitionAssignment* MetadataImage::find_older(const Uuid& topic, uint32_t partition,
                                               uint32_t revision) {
    TopicImage* found = find_mutable(topic);
    if (found == nullptr || partition >= found->partitions.size()) return nullptr;
    PartitionAssignment& assignment = found->partitions[partition];
    return assignment.revision < revision ? &assignment : nullptr;
}

Result<void> MetadataImage::apply_one(const PartitionReassigned& record) {
    PartitionAssignment* partition = find_older(record.topic, record.partition, record.revision);
    if (partition == nullptr)
        return does_not_follow("an unknown partition, or an older one, was reassigned");
    const bool cancels = record.target.empty();
    if (cancels ? partition->target.empty() : !are_replicas(record.target))
        return does_not_follow("a partition was reassigned to what can't be");
    count_replicas(*partition, -1);
    std::set<int32_t> abandoned(partition->abandoned.begin(), partition->abandoned.end());
    abandoned.insert(partition->target.begin(), partition->target.end());
    for (const int32_t node : partition->replicas) abandoned.erase(node);
    for (const int32_t node : record.target) abandoned.erase(node);
    partition->abandoned.assign(abandoned.begin(), abandoned.end());
    partition->target = record.target;
    partition->revision = record.revision;
    partition->are_founders = partition->are_founders && record.are_founders;
    count_replicas(*partition, 1);
    return {};
}

Result<void> MetadataImage::apply_one(const PartitionReplicasChanged& record) {
    PartitionAssignment* partition = find_older(record.topic, record.partition, record.revision);
    if (partition == nullptr)
        return does_not_follow("an unknown partition, or an older one, changed its replicas");
    if (!are_replicas(record.replicas))
        return does_not_follow("a partition changed its replicas to what can't be");
    count_replicas(*partition, -1);
    partition->replicas = record.replicas;
    partition->target.clear();
    partition->abandoned.clear();
    partition->revision = record.revision;
    partition->are_founders = partition->are_founders && record.are_founders;
    count_replicas(*partition, 1);
    return {};
}

namespace {

// What TopicCreated does not hold.
void add_revisions(const TopicImage& topic, std::vector<MetadataRecord>& records) {
    for (uint32_t i = 0; i < topic.partitions.size(); ++i) {
        const PartitionAssignment& partition = topic.partitions[i];
        if (partition.revision == 0) continue;
        if (!partition.is_moving()) {
            records.emplace_back(PartitionReplicasChanged{
                topic.id, i, partition.replicas, partition.revision, partition.are_founders});
            continue;
        }
        // What was given up was in targets at revisions before this one, of kReplicasMax nodes at
        // most each: so there are as many revisions as this needs.
        const std::span<const int32_t> abandoned(partition.abandoned);
        auto left = static_cast<uint32_t>((abandoned.size() + kReplicasMax - 1) / kReplicasMax);
        CHECK(left < partition.revision);
        for (size_t at = 0; at < abandoned.size(); at += kReplicasMax, --left) {
            const auto some = abandoned.subspan(at, std::min(kReplicasMax, abandoned.size() - at));
            records.emplace_back(PartitionReassigned{topic.id,
                                                     i,
                                                     {some.begin(), some.end()},
                                                     partition.revision - left,
                                                     partition.are_founders});
        }
        records.emplace_back(PartitionReassigned{topic.id, i, partition.target, partition.revision,
                                                 partition.are_founders});
    }
}

}  // namespace

std::vector<MetadataRecord> MetadataImage::to_records() const {
    std::vector<MetadataRecord> records;
    if (!cluster_id_.is_zero()) records.emplace_back(ClusterCreated{cluster_id_});
    records.emplace_back(LogIdsReserved{log_ids_end_});
    records.emplace_back(ProducerIdsReserved{producer_ids_end_});
    for (const auto& [feature, level] : features_)
        records.emplace_back(FeatureFinalized{feature, level});
    if (node_ids_end_ > 0) records.emplace_back(NodeIdsReserved{node_ids_end_});
    for (const auto& [id, node] : nodes_) {
        records.emplace_back(node.info);
        if (node.state != NodeState::kActive)
            records.emplace_back(NodeStateChanged{id, node.state});
    }
    for (const auto& [name, topic] : topics_) {
        records.emplace_back(TopicCreated{name, topic.id, topic.partitions, topic.configs});
        // Records hold what their bytes hold.
        for (PartitionAssignment& partition : std::get<TopicCreated>(records.back()).partitions) {
            partition.target.clear();
            partition.abandoned.clear();
            partition.revision = 0;
            partition.are_founders = true;
        }
        add_revisions(topic, records);
    }
    for (const auto& [key, configs] : configs_) {
        for (const auto& [name, value] : configs) {
            records.emplace_back(ResourceConfigChanged{key.first, key.second, name, value});
        }
    }
    return records;
}

}  // namespace weir::cluster
