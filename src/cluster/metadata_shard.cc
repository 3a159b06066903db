#include "cluster/metadata_shard.h"

#include "base/check.h"

namespace weir::cluster {

MetadataShard::MetadataShard(int32_t node_id, ConfigMap given)
    : node_id_(node_id), given_(std::move(given)) {
    broker_ = broker_settings(configs());
}

void MetadataShard::adopt(MetadataImage image) {
    image_ = std::move(image);
    topic_settings_.clear();
    broker_ = broker_settings(configs());
}

runtime::Task<void> MetadataShard::apply(MetadataChange change) {
    for (const MetadataRecord& record : change.records) {
        // The controller applied it to an equal image before it wrote it.
        CHECK(image_.apply(record).has_value());
        if (const auto* topic = std::get_if<TopicConfigChanged>(&record))
            topic_settings_.erase(topic->topic);
        if (const auto* deleted = std::get_if<TopicDeleted>(&record))
            topic_settings_.erase(deleted->id);
        if (std::holds_alternative<ResourceConfigChanged>(record)) {
            topic_settings_.clear();
            broker_ = broker_settings(configs());
        }
    }
    if (hooks_.changed) co_await hooks_.changed(std::move(change));
}

const TopicSettings& MetadataShard::settings(const TopicImage& topic) {
    const auto found = topic_settings_.find(topic.id);
    if (found != topic_settings_.end()) return found->second;
    return topic_settings_.emplace(topic.id, topic_settings(configs(), topic.configs))
        .first->second;
}

}  // namespace weir::cluster
