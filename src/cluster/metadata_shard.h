// MetadataShard: one shard's copy of the metadata, with what is derived from it. The controller
// publishes every change to it, in order. Owned by the broker, one a shard, used on that shard
// alone.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "cluster/config_view.h"
#include "cluster/image.h"
#include "runtime/task.h"
#include "storage/log.h"

namespace weir::cluster {

struct NewLog {
    storage::LogId id;
    storage::LogConfig config;
};

// What changed, for those who hold more than the image: both lists are of this change alone.
struct MetadataChange {
    std::vector<MetadataRecord> records;
    std::vector<TopicImage> topics_removed;  // as they were
};

class MetadataShard {
  public:
    struct Hooks {
        // Makes those logs that this shard owns, before the topic exists; on an error the others
        // stay, and are removed by remove_logs.
        std::function<runtime::Task<Result<void>>(std::vector<NewLog>)> create_logs;
        std::function<runtime::Task<void>(std::vector<storage::LogId>)> remove_logs;
        // After the image took the change. Awaited: when it has returned on all shards, whoever
        // asked for the change is answered.
        std::function<runtime::Task<void>(MetadataChange)> changed;
    };

    // `given`: what the node was started with.
    MetadataShard(int32_t node_id, ConfigMap given);

    void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }
    const Hooks& hooks() const { return hooks_; }

    // Start-up: takes a whole image.
    void adopt(MetadataImage image);
    runtime::Task<void> apply(MetadataChange change);

    int32_t node_id() const { return node_id_; }
    const MetadataImage& image() const { return image_; }
    const ConfigMap& given() const { return given_; }
    ConfigView configs() const { return {image_, given_, node_id_}; }
    const BrokerSettings& broker() const { return broker_; }
    // Parsed once a topic and change. Valid until the next change.
    const TopicSettings& settings(const TopicImage& topic);

  private:
    const int32_t node_id_;
    const ConfigMap given_;
    MetadataImage image_;
    BrokerSettings broker_;
    std::map<Uuid, TopicSettings> topic_settings_;
    Hooks hooks_;
};

}  // namespace weir::cluster
