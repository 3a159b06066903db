// MetadataShard: one shard's copy of the metadata, with what is derived from it. The controller
// publishes every change to it, in order. The broker owns one for each shard and uses it on that
// shard alone.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <vector>

#include "cluster/config_view.h"
#include "cluster/image.h"
#include "cluster/leader_table.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/log.h"

namespace weir::cluster {

// As many partitions as the largest cluster has; statements about further ones are dropped.
inline constexpr size_t kLeadersMax = 1'000'000;

struct NewLog {
    storage::LogId id;
    storage::LogConfig config;
};

// A change, for followers that hold more than the image: both lists are about this change alone.
struct MetadataChange {
    std::vector<MetadataRecord> records;
    std::vector<TopicImage> topics_removed;  // as they were
    int64_t end = 0;                         // of its entry in the metadata log
};

// What turns `before` into `after`, for followers of changes, when a snapshot replaced the entries
// between. The records describe everything that differs. They may differ from those that were
// written, and must not be applied.
MetadataChange difference(const MetadataImage& before, const MetadataImage& after);

class MetadataShard {
  public:
    struct Hooks {
        // Creates those of the logs that this shard owns, before the topic exists. After an error
        // the others stay until remove_logs removes them.
        std::function<runtime::Task<Result<void>>(std::vector<NewLog>)> create_logs;
        std::function<runtime::Task<void>(std::vector<storage::LogId>)> remove_logs;
        // Called and awaited after the image has the change. When it has returned on all shards,
        // the change is answered.
        std::function<runtime::Task<void>(MetadataChange)> changed;
    };

    // `given` is what the node was started with.
    MetadataShard(int32_t node_id, ConfigMap given);

    void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }
    const Hooks& hooks() const { return hooks_; }

    // Who leads each partition, as far as this shard knows; the broker feeds it.
    LeaderTable& leaders() { return leaders_; }
    const LeaderTable& leaders() const { return leaders_; }
    // The replica that campaigns at once when a partition is created: the first of the list that
    // answers, as far as this node knows; -1: none does. Until a leader is known, a new partition
    // is shown with this one: in Kafka, too, the record that creates a partition has its first
    // leader.
    int32_t first_leader(const PartitionAssignment& partition) const;
    // Returns whether it was news. Wakes the waiters of leaders_moved().
    bool learn_leader(LeaderState state);
    [[nodiscard]] runtime::WaitQueue::Awaiter leaders_moved(runtime::WaitOptions options) {
        return leaders_moved_.wait(options);
    }
    // A replica on this shard says who leads its partition now, and who is in sync. The broker
    // passes it on to the other shards and nodes. Returns at once.
    void announce(LeaderState state) {
        if (announce_) announce_(std::move(state));
    }
    void set_announce(std::function<void(LeaderState)> announce) {
        announce_ = std::move(announce);
    }
    // A partition's leader reports that its group's voters are exactly the target of that revision.
    // The broker sends it to the controller; it may be lost, and is repeated.
    struct ReplicasReport {
        Uuid topic;
        uint32_t partition = 0;
        uint32_t revision = 0;
    };
    void report(const ReplicasReport& report) {
        if (report_) report_(report);
    }
    void set_report(std::function<void(const ReplicasReport&)> report) {
        report_ = std::move(report);
    }

    // The committed end of the metadata at some moment of the call, by the controller. Without a
    // controller on another node it is end(). kUnavailable, kTimedOut.
    using FindEnd = std::function<runtime::Task<Result<int64_t>>()>;
    void set_find_end(FindEnd find_end) { find_end_ = std::move(find_end); }
    // Waits until image() has everything that was committed before the call.
    runtime::Task<Result<void>> wait_current(runtime::WaitOptions options);

    // Which nodes are there, as this node sees it; the broker sets it on every shard.
    struct Status {
        int32_t controller = -1;  // -1: none is known
        std::set<int32_t> alive;  // registered nodes that answer, this one among them
        bool operator==(const Status&) const = default;
    };
    const Status& status() const { return status_; }
    void set_status(Status status) {
        status_ = std::move(status);
        status_changed_.notify_all();
    }
    // Waits until the status changes.
    [[nodiscard]] runtime::WaitQueue::Awaiter status_changed(runtime::WaitOptions options) {
        return status_changed_.wait(options);
    }

    // Called by the controller with a whole image: at the start, or from a snapshot.
    void adopt(MetadataImage image, int64_t end);
    // Applies the next change to the image at once, and fills in what the records do not contain;
    // then the followers get it. After an error the image may no longer be used.
    Result<void> apply(MetadataChange& change);
    runtime::Task<void> publish(MetadataChange change);

    // The end of the metadata log's entries that image() has and its followers know.
    int64_t end() const { return end_; }
    runtime::Task<Result<void>> wait_end(int64_t end, runtime::WaitOptions options);

    int32_t node_id() const { return node_id_; }
    const MetadataImage& image() const { return image_; }
    const ConfigMap& given() const { return given_; }
    // What the node learns about itself only after its start, such as where it listens.
    void set_given(std::string_view name, std::string value) {
        given_[std::string(name)] = std::move(value);
    }
    ConfigView configs() const { return {image_, given_, node_id_}; }
    const BrokerSettings& broker() const { return broker_; }
    // Parsed once for each topic and change. Valid until the next change.
    const TopicSettings& settings(const TopicImage& topic);

  private:
    const int32_t node_id_;
    ConfigMap given_;
    MetadataImage image_;
    int64_t end_ = 0;
    runtime::WaitQueue end_moved_;
    BrokerSettings broker_;
    std::map<Uuid, TopicSettings> topic_settings_;
    void expect_leaders(const std::vector<PartitionAssignment>& partitions);

    LeaderTable leaders_{kLeadersMax};
    runtime::WaitQueue leaders_moved_;
    Status status_;
    runtime::WaitQueue status_changed_;
    std::function<void(LeaderState)> announce_;
    std::function<void(const ReplicasReport&)> report_;
    FindEnd find_end_;
    Hooks hooks_;
};

}  // namespace weir::cluster
