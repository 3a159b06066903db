// Controller: the one place that changes metadata. It lives on shard 0, owns the metadata log's
// writing, and publishes what is durable to every shard. Others reach it by on(0, ...). A change is
// decided under lock() on image(), which has all that was decided before; commit() appends it,
// waits until it is on stable storage, and returns when every shard has it. On one node the log is
// its own; with Raft it will be the controller group's, and lock() the leader's. What survives a
// crash: every change that commit() returned ok for. A change that was interrupted is there or not,
// whole.
#pragma once

#include <functional>
#include <vector>

#include "base/result.h"
#include "cluster/image.h"
#include "cluster/metadata_shard.h"
#include "cluster/placement.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/log.h"

namespace weir::cluster {

class Controller {
  public:
    // `shards` by shard id; they and the log outlive the controller.
    Controller(std::vector<MetadataShard*> shards, storage::Log& log)
        : shards_(std::move(shards)), log_(log) {}

    // Replays the log, makes the cluster if the log is new, and hands every shard its image. Once.
    runtime::Task<Result<void>> open();
    // Lets go of the log. No change may be under way.
    void close();

    // Which nodes answer, of those in the image; without it, all do.
    void set_liveness(std::function<bool(int32_t)> is_alive) { is_alive_ = std::move(is_alive); }
    // The nodes that partitions can be on, with what they hold. In a cluster of one node that never
    // registered, that one.
    std::vector<PlacementNode> placement_nodes() const;

    const MetadataImage& image() const { return image_; }
    MetadataShard& local() { return *shards_[0]; }

    // One decision at a time. Nothing may wait for a client while it holds this.
    runtime::Task<Result<runtime::Units>> lock(runtime::WaitOptions options);

    // These under lock().
    runtime::Task<Result<void>> commit(std::vector<MetadataRecord> records);
    runtime::Task<Result<std::vector<storage::LogId>>> take_log_ids(size_t count);
    // On all shards that own some of them. On an error none is left.
    runtime::Task<Result<void>> create_logs(std::vector<NewLog> logs);

    // Takes the lock itself. The first of `count` producer ids that are the caller's alone.
    runtime::Task<Result<int64_t>> take_producer_ids(int64_t count);

  private:
    runtime::Task<void> publish(MetadataChange change);

    std::vector<MetadataShard*> shards_;
    storage::Log& log_;
    MetadataImage image_;  // with all that was appended, durable or not
    uint64_t next_log_id_ = 0;
    std::function<bool(int32_t)> is_alive_;
    runtime::Semaphore lock_{1};
};

}  // namespace weir::cluster
