// PartitionTable: the partitions that one shard owns, and the fetches that wait for data of theirs.
// Used on that shard alone. It follows the metadata: logs are made before a topic is visible, and
// go away after it was deleted; at start it is brought in line with both, metadata and disk.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/mailbox.h"
#include "kafka/server/partition.h"
#include "runtime/scope.h"
#include "storage/store.h"

namespace weir::kafka {

class PartitionTable {
  public:
    PartitionTable(storage::Store& store, cluster::MetadataShard& metadata, Mailbox& mailbox);
    ~PartitionTable();

    // Brings logs and partitions in line with the image: what has no log gets one, a log that no
    // topic names is removed.
    runtime::Task<Result<void>> open();
    runtime::Task<void> close();

    // The hooks of cluster::MetadataShard.
    runtime::Task<Result<void>> create_logs(std::vector<cluster::NewLog> logs);
    runtime::Task<void> remove_logs(std::vector<storage::LogId> ids);
    runtime::Task<void> follow(const cluster::MetadataChange& change);

    // nullptr if it is not here. A use that waits holds Partition::enter().
    Partition* find(storage::LogId id);
    size_t size() const { return partitions_.size(); }
    void for_each(const std::function<void(Partition&)>& visit);
    runtime::Task<void> expire_producers(WallTime now, int64_t age_ms);

    // The next news from any of these partitions, `bytes_needed` bytes in all, is posted to `to`,
    // once. An address has one watch at most; a second one replaces the first. False when there is
    // news already: the partition is gone, or its high watermark is no longer the one that the
    // caller saw.
    struct Seen {
        storage::LogId log;
        int64_t high_watermark;
    };
    bool watch(MailAddress to, int64_t bytes_needed, const std::vector<Seen>& partitions);
    void unwatch(MailAddress to) { watches_.erase(to); }
    size_t watch_count() const { return watches_.size(); }

  private:
    Result<void> add(const cluster::TopicImage& topic, int32_t index);
    bool owns(storage::LogId id) const;

    storage::Store& store_;
    cluster::MetadataShard& metadata_;
    Mailbox& mailbox_;
    std::map<storage::LogId, std::unique_ptr<Partition>> partitions_;
    std::map<MailAddress, FetchWatch> watches_;
    runtime::Scope scope_;  // of partitions that are being removed
};

}  // namespace weir::kafka
